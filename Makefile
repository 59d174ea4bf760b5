# make run             the whole platform in one process, with three nodes
# make cluster         the platform as separate processes on etcd, MariaDB and Redis of its own; NODES=5 for more nodes
# make cluster-status  what of it runs
# make cluster-stop    ends it
# make drill           breaks a platform of separate processes every ten seconds, under 10,000 sessions, and tells what was
#                      lost unseen: SECONDS=600 SEED=7 SESSIONS=10000; SCENARIO=kill-node TIMES=5 for one only, SCENARIO=list
#                      tells all; TIMED=yes fails when something takes longer than promised; DIRECT=yes does without
#                      proxies
# make bench           what a delivery costs beside the least that a program can do; writes docs/benchmarks.md: ROUNDS=3
#                      EACH=3 (seconds); a part of it is only printed: SET=idle,users or ONLY="room of 1,000"; SET=list
#                      tells all
# make bench-growth    how that changes with members, rooms and nodes; writes docs/growth.md: the same settings
# make counts          instructions of the inner pieces of a push, counted by valgrind
# make route-memory    bytes that a push-manager keeps for each user and each room: ROUTES=1000000
# make test            everything that must hold
# make check           formatting and lints
#
# bench, cluster, counts, drill and test install the Debian packages they need when they are missing.

CARGO ?= cargo
NODES ?= 3
SECONDS ?= 600
SESSIONS ?= 10000
TIMES ?= 1
ROUNDS ?= 3
EACH ?= 3
ROUTES ?= 1000000

.PHONY: run cluster cluster-status cluster-stop drill bench bench-growth bench-programs counts route-memory test check test-packages

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

# Fifteen thousand sessions are a file each.
bench: bench-programs
	ulimit -n $$(ulimit -Hn); $${CARGO_TARGET_DIR:-target}/release/bench $(bench_arguments)

bench-growth: bench-programs
	ulimit -n $$(ulimit -Hn); $${CARGO_TARGET_DIR:-target}/release/bench --growth $(bench_arguments)

bench-programs:
	scripts/packages.sh bench
	$(CARGO) build --release -p standalone -p controller-manager -p push-manager -p connect-node -p load-generator --bins

bench_arguments = $(if $(filter list,$(SET)),--list,--rounds $(ROUNDS) --seconds $(EACH) \
	$(if $(SET),--set $(SET)) $(if $(ONLY),--only "$(ONLY)"))

counts:
	@scripts/counts.sh

# Users and rooms alone, then with what the lane of their node remembers of them.
route-memory:
	@for what in users rooms known-users known-rooms; do \
		$(CARGO) bench -q -p push-manager --bench pieces -- memory $$what $(ROUTES) || exit 1; \
	done

test: test-packages check
	$(CARGO) test --workspace
	node --test web/tests/*.test.mjs

# The second time as the programs are shipped: tests add features.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --workspace --bins -- -D warnings

test-packages:
	scripts/packages.sh tests
