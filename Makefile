# make run             the whole platform in one process, with three nodes
# make cluster         the platform as separate processes on etcd, MariaDB and Redis of its own; NODES=5 for more nodes
# make cluster-status  what of it runs
# make cluster-stop    ends it
# make drill           breaks a platform of separate processes every ten seconds, under 10,000 sessions, and tells what was
#                      lost unseen: SECONDS=600 SEED=7 SESSIONS=10000; SCENARIO=kill-node TIMES=5 for one only, SCENARIO=list
#                      tells all; TIMED=yes fails when something takes longer than promised; DIRECT=yes does without
#                      proxies
# make bench           what a delivery costs beside the least that a program can do; writes docs/benchmarks.md: ROUNDS=3
# make test            everything that must hold
# make check           formatting and lints
#
# cluster, drill and test install the Debian packages they need when they are missing.

CARGO ?= cargo
NODES ?= 3
SECONDS ?= 600
SESSIONS ?= 10000
TIMES ?= 1
ROUNDS ?= 3

.PHONY: run cluster cluster-status cluster-stop drill bench test check test-packages

# One build for both: the command line that is printed is there.
run:
	$(CARGO) build --release -p standalone -p biz-client
	$${CARGO_TARGET_DIR:-target}/release/standalone --nodes $(NODES)

cluster:
	scripts/packages.sh servers
	$(CARGO) build --release -p controller-manager -p push-manager -p connect-node -p biz-client
	NODES=$(NODES) scripts/cluster.sh start

cluster-status:
	@scripts/cluster.sh status

cluster-stop:
	@scripts/cluster.sh stop

# Two files for each session, one here and one on its node.
drill:
	scripts/packages.sh servers
	$(CARGO) build --release -p controller-manager -p push-manager -p connect-node -p roomcast-testkit --bins
	ulimit -n $$(ulimit -Hn); $${CARGO_TARGET_DIR:-target}/release/drill $(drill_arguments)

drill_arguments = $(if $(filter list,$(SCENARIO)),--list,--seconds $(SECONDS) --sessions $(SESSIONS) \
	$(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario $(SCENARIO) --times $(TIMES)) $(if $(TIMED),--timed) $(if $(DIRECT),--direct))

# Ten thousand sessions are a file each.
bench:
	$(CARGO) build --release -p standalone -p load-generator --bins
	ulimit -n $$(ulimit -Hn); $${CARGO_TARGET_DIR:-target}/release/bench --rounds $(ROUNDS)

test: test-packages check
	$(CARGO) test --workspace
	node --test web/tests/*.test.mjs

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

test-packages:
	scripts/packages.sh tests
