# The one entry to everything. `make` lists what there is; each command installs what it needs first.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# The profile of the tests, so that the demo and the tests share what they compile.
NATIVE := --locked --profile test
SCRIPTS := .ci/run tools/build-module tools/fuzz tools/setup-envoy tools/setup-express \
    tools/setup-nginx tools/setup-redis tools/setup-wasm tools/lib.sh

.PHONY: help
help: ## List the commands
	@echo 'make COMMAND, where COMMAND is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ENVOY=/path/to/envoy runs another Envoy than the one that is fetched into .tools/, and'
	@echo 'REDIS_SERVER=/path/to/redis-server another Redis or Valkey than the one that Debian has.'

.PHONY: demo
demo: build envoy $(if $(filter redis,$(STORE)),redis) ## Show with real requests what Idemgate does (STORE=redis: two Envoys on one Redis; KEEP=1 leaves it running)
	@[ -x "$${CARGO_TARGET_DIR:-target}"/debug/examples/orders ] || echo 'building the orders service (half a minute the first time)'
	@cargo build --quiet $(NATIVE) --example orders
	@demo/run $(if $(STORE),--store $(STORE)) $(if $(filter-out 0,$(KEEP)),--keep)

.PHONY: build
build: ## Build dist/idemgate.wasm and its checksum
	@tools/build-module
	@echo "dist/idemgate.wasm: $$(wc -c <dist/idemgate.wasm) bytes, SHA-256 $$(cut -d' ' -f1 dist/idemgate.wasm.sha256)"

.PHONY: test
test: ## Run every test: unit, property, ABI host, end to end on the real Envoys (oldest and newest supported) and Redis
	@# The module is linked on one core; the others build the tests meanwhile.
	@$(MAKE) -j2 native-tests module-and-servers
	@# Most tests wait for an Envoy most of the time. Bursts have the machine for themselves: they hold the store to its
	@# default timeout, which a busy machine alone can break.
	@export RUST_TEST_THREADS="$${RUST_TEST_THREADS:-$$((2 * $$(getconf _NPROCESSORS_ONLN)))}"; \
	end_to_end() { \
	    (set -x; ENVOY="$$1" cargo test --locked "$${@:2}" -- --skip bursts::); \
	    (set -x; ENVOY="$$1" cargo test --locked --test e2e bursts:: -- --test-threads 1); \
	}; \
	end_to_end "$${ENVOY:-$$PWD/.tools/envoy}"; \
	[ -n "$${ENVOY:-}" ] || end_to_end "$$PWD/.tools/envoy-oldest" --test e2e

.PHONY: native-tests
native-tests: lint
	cargo test --locked --no-run --quiet

.PHONY: module-and-servers
module-and-servers:
	@$(MAKE) crash-test
	@$(MAKE) envoy
	@tools/setup-envoy oldest
	@$(MAKE) redis

.PHONY: soak
soak: ## Go through new simulated worlds for SOAK_SECONDS (ten minutes); prints the seed to begin with, or the one that fails
	SOAK_SECONDS="$${SOAK_SECONDS:-600}" cargo test --locked --test simulation every_promise -- --nocapture

.PHONY: chaos
chaos: crash-test envoy redis ## Break real Envoys and Redis by new plans for CHAOS_SECONDS (ten minutes); CHAOS_SEED=n plays one plan again
	ENVOY="$${ENVOY:-$$PWD/.tools/envoy}" CHAOS_SECONDS="$${CHAOS_SECONDS:-600}" \
	    cargo test --locked --test chaos whatever_fails -- --nocapture

# What stands between backquotes in the last cells of its tables, in every mode and store; "*" is every test of a file.
ATTACKS = $$(awk -F ' [|] ' '/^[|]/ { print $$3 }' SECURITY.md | grep -o '`[^`]*`' | tr -d '`*' | sed 's/.*::\(.\)/\1/' | sort -u)

.PHONY: attack
attack: crash-test envoy redis ## Try every attack that SECURITY.md names
	ENVOY="$${ENVOY:-$$PWD/.tools/envoy}" cargo test --locked -- $(ATTACKS)

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
lint: ## Check the formatting, clippy's rules and the shell scripts
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features --quiet -- -D warnings
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
tools: envoy redis ## Install what the other commands need: the wasm target, Envoy and Redis
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
	@tools/setup-redis

.PHONY: clean
clean: ## Remove everything that was built; .tools/ stays
	rm -rf dist target
