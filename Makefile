# The one entry to everything. `make` lists what there is; each command installs what it needs first.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# Most tests wait for an Envoy most of the time.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
# The Envoy of all tests but those for the oldest.
NEWEST = $(or $(ENVOY),$(CURDIR)/.tools/envoy)
# Without the tests that run once for each Envoy, and those of which a part needs a browser.
TESTS := $(filter-out clients e2e,$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)))
# Those that start nothing.
PROOFS := config_schema docs fuzz_regressions layout model simulation
# The profile of the tests, so that the demo and the tests share what they compile.
NATIVE := --locked --profile test
SCRIPTS := .ci/run tools/build-module tools/fuzz tools/setup-clients tools/setup-dynamodb tools/setup-envoy \
    tools/setup-express tools/setup-nginx tools/setup-postgres tools/setup-redis tools/setup-wasm tools/lib.sh

.PHONY: help
help: ## List the commands
	@echo 'make COMMAND, where COMMAND is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ENVOY=/path/to/envoy runs another Envoy than the one that is fetched into .tools/, and'
	@echo 'REDIS_SERVER=/path/to/redis-server another Redis or Valkey than the one that Debian has;'
	@echo 'POSTGRES_BIN=/path/to/bin another PostgreSQL, with initdb beside it.'

.PHONY: demo
demo: build envoy $(filter dynamodb postgres redis,$(STORE)) ## Show with real requests what Idemgate does (STORE=redis, postgres or dynamodb: two Envoys on one of these; KEEP=1 leaves it running)
	@[ -x "$${CARGO_TARGET_DIR:-target}"/debug/examples/orders ] || echo 'building the orders service (half a minute the first time)'
	@cargo build --quiet $(NATIVE) --example orders
	@demo/run $(if $(STORE),--store $(STORE)) $(if $(filter-out 0,$(KEEP)),--keep)

.PHONY: build
build: ## Build dist/idemgate.wasm and its checksum
	@tools/build-module
	@echo "dist/idemgate.wasm: $$(wc -c <dist/idemgate.wasm) bytes, SHA-256 $$(cut -d' ' -f1 dist/idemgate.wasm.sha256)"

.PHONY: check
check: lint ## The quick half of the tests, for while you work: unit, property, ABI host, pages
	cargo test --locked --lib --test abi --test config_schema --test docs
	cargo test --locked --doc

.PHONY: test
test: ## Run every test: unit, property, ABI host, end to end on the real Envoys (oldest and newest supported) and stores
	@# The module is linked on one core; the others build the tests meanwhile.
	@$(MAKE) -j2 native-tests module-and-servers
	@$(MAKE) test-native
	@$(MAKE) e2e-newest $(if $(ENVOY),,e2e-oldest)

# The parts of `make test`, for machines that share the work.

.PHONY: test-native
test-native: crash-test envoy redis postgres moto sdks
	@# What computes and what waits for processes, side by side.
	@ENVOY="$(NEWEST)" $(MAKE) -j2 --output-sync proofs processes

# The processes have the shipped timeouts, so what runs beside them leaves them the cores.
.PHONY: proofs
proofs:
	nice cargo test --locked --lib $(PROOFS:%=--test %)
	nice cargo test --locked --doc

.PHONY: processes
processes:
	cargo test --locked $(patsubst %,--test %,$(filter-out $(PROOFS),$(TESTS)))
	cargo test --locked --test clients -- --skip browser::
	REDIS_SERVER="$(CURDIR)/.tools/valkey/valkey-server" cargo test --locked --test redis_store

.PHONY: e2e-newest
e2e-newest: crash-test envoy redis postgres dynamodb
	$(call end-to-end,$(NEWEST))

.PHONY: e2e-oldest
e2e-oldest: crash-test redis postgres dynamodb
	@tools/setup-envoy oldest
	$(call end-to-end,$(CURDIR)/.tools/envoy-oldest)

# Bursts and crowds have the machine for themselves: a busy one alone can break the store's default timeout or their patience.
define end-to-end
	ENVOY="$(1)" cargo test --locked --test e2e -- --skip bursts:: --skip crowds::
	ENVOY="$(1)" cargo test --locked --test e2e -- bursts:: crowds:: --test-threads 1
endef

.PHONY: native-tests
native-tests: lint
	cargo test --locked --no-run --quiet

.PHONY: module-and-servers
module-and-servers:
	@$(MAKE) crash-test
	@$(MAKE) envoy
	@tools/setup-envoy oldest
	@$(MAKE) redis
	@$(MAKE) postgres
	@$(MAKE) moto
	@$(MAKE) sdks

.PHONY: soak
soak: ## Go through new simulated worlds for SOAK_SECONDS (ten minutes); prints the seed to begin with, or the one that fails
	SOAK_SECONDS="$${SOAK_SECONDS:-600}" cargo test --locked --test simulation every_promise -- --nocapture

.PHONY: chaos
chaos: crash-test envoy redis postgres dynamodb ## Break real Envoys and stores by new plans for CHAOS_SECONDS (ten minutes; CHAOS_STORE=PostgreSQL: all on that store); CHAOS_SEED=n plays one plan again
	ENVOY="$(NEWEST)" CHAOS_SECONDS="$${CHAOS_SECONDS:-600}" \
	    cargo test --locked --test chaos whatever_fails_every_promise -- --nocapture

.PHONY: failures
failures: crash-test envoy redis postgres dynamodb ## Play failovers, clock steps, changes under load and more by name, and print what each costs (FAILURES='Redis Cluster' for some)
	ENVOY="$(NEWEST)" FAILURES="$${FAILURES:-}" cargo test --locked --test chaos whatever_fails_by_name -- --nocapture

# What stands between backquotes in the last cells of its tables, in every mode and store; "*" is every test of a file.
ATTACKS = $$(awk -F ' [|] ' '/^[|]/ { print $$3 }' SECURITY.md | grep -o '`[^`]*`' | tr -d '`*' | sed 's/.*::\(.\)/\1/' | sort -u)

.PHONY: attack
attack: crash-test envoy redis postgres moto ## Try every attack that SECURITY.md names
	ENVOY="$(NEWEST)" cargo test --locked -- $(ATTACKS)

.PHONY: clients
clients: build envoy ## Play the SDKs of real APIs and a browser against it
	@tools/setup-clients browser
	ENVOY="$(NEWEST)" cargo test --locked --test clients

.PHONY: compose-test
compose-test: ## Build the images, bring docker-compose.yml up, play the demo in it, take it down (needs Docker)
	@tools/compose-test

.PHONY: fuzz
fuzz: ## Look for bytes that break a decoder, FUZZ_SECONDS (60) each; FUZZ_TARGETS='json key' for some of them
	@tools/fuzz $(FUZZ_TARGETS)

.PHONY: bench
bench: ## Measure what a request costs, beside plain Envoy and the alternatives (BENCH='--help' for what to choose)
	@bench/run $(BENCH)

.PHONY: lint
lint: ## Check the formatting, clippy's rules, the fuzzers' lock file and the shell scripts
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features --quiet -- -D warnings
	@# The fuzzers are a workspace of their own, whose lock file has the filter's packages as well.
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	@if command -v shellcheck >/dev/null; then \
	    echo shellcheck $(SCRIPTS); shellcheck -x $(SCRIPTS); \
	else \
	    echo 'lint: shellcheck is not installed, so the shell scripts were not checked'; \
	fi

.PHONY: fmt
fmt: ## Format the code
	cargo fmt

.PHONY: docs
docs: ## Build the API documentation into target/doc
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

.PHONY: tools
tools: envoy redis postgres moto sdks ## Install what the other commands need: the wasm target, Envoy, Redis, PostgreSQL, dynalite, moto and the SDKs of the tests
	@tools/setup-wasm >/dev/null

# The build of the module that tests can make panic.
.PHONY: crash-test
crash-test: build
	@tools/build-module --crash-test

.PHONY: envoy
envoy:
	@tools/setup-envoy

.PHONY: redis
redis:
	@tools/setup-redis valkey

.PHONY: postgres
postgres:
	@tools/setup-postgres

.PHONY: dynamodb
dynamodb:
	@tools/setup-dynamodb

# dynalite as well.
.PHONY: moto
moto:
	@tools/setup-dynamodb moto

.PHONY: sdks
sdks:
	@tools/setup-clients

.PHONY: clean
clean: ## Remove everything that was built; .tools/ stays
	rm -rf dist target
