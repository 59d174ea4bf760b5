# make run    the whole platform in one process, with three nodes
# make test   everything that must hold; installs the Debian packages it needs when they are missing
# make check  formatting and lints

CARGO ?= cargo
NODES ?= 3

.PHONY: run test check test-packages

run:
	$(CARGO) run --release -p standalone -- --nodes $(NODES)

test: test-packages check
	$(CARGO) test --workspace
	node --test web/tests/*.test.mjs

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

test-packages:
	scripts/test-packages.sh
