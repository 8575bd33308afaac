# Shortcuts for people; `make` alone lists them. Cargo does the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo unit test lint image long simulate-faults simulate-mistakes soak test-hosts test-skew nodes gitops bench book crds readme cargo

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: cargo ## A small data center on this machine: a real control plane, simulated hosts; until Ctrl-C
	@cargo build --workspace --bins
	@"$$(tests/check.sh target)/debug/demo"

unit: cargo ## The tests that need nothing but Rust: planner, reconcile, agent, command line; seconds
	@tests/check.sh unit

test: cargo ## Everything: what `make lint` checks, then all tests; installs and prepares what is missing
	@tests/check.sh all

lint: cargo ## Formatting, clippy, documentation, dependencies; no tests
	@tests/check.sh lint

image: cargo ## The container image as an OCI archive, and its list of packages (SBOM), in target/image
	@tests/packages.sh install image
	@image/build

long: cargo ## Many rounds of the random tests of which `make test` runs a few: foreign texts, edits, kills at random moments
	MULTIBOND_ROUNDS=$${MULTIBOND_ROUNDS:-50} cargo test --locked --lib any_
	MULTIBOND_ROUNDS=$${MULTIBOND_ROUNDS:-50} cargo test --locked --test faults kills:: -- --nocapture
	MULTIBOND_ROUNDS=$${MULTIBOND_ROUNDS:-50} cargo test --locked --test vm restarts:: -- --nocapture

simulate-faults: cargo ## The simulated cluster, with one seed after another until Ctrl-C; prints those that fail (docs/dev/simulation.md)
	@for ((first = $${SIMULATION_FIRST:-1}; ; first += 100)); do \
	  SIMULATION_FIRST=$$first SIMULATION_SEEDS=100 cargo test --quiet --locked --test simulation a58_ -- --nocapture || true; done

simulate-mistakes: cargo ## Whether the simulated cluster finds ten planted mistakes; compiles the product with each
	cargo test --locked --test simulation a59_ -- --include-ignored --nocapture

soak: cargo ## Ten minutes of random faults on a real host, in a virtual machine (tests/vm/README.md)
	MULTIBOND_SOAK_SECONDS=$${MULTIBOND_SOAK_SECONDS:-600} cargo test --locked --test vm soak:: -- --ignored --nocapture

test-hosts: cargo ## All tests on a real host once more, with the next Debian release in the virtual machine
	MULTIBOND_TEST_HOST=trixie cargo test --locked --test vm -- --nocapture

test-skew: cargo ## Upgrade, rollback and every mixture with the first version; builds it from the history, which takes minutes
	cargo test --locked --test skew -- --nocapture --test-threads=1

gitops: cargo ## The chart and a data center under Flux; the first run builds Flux's controller, which takes minutes
	cargo test --locked --test gitops -- --ignored

nodes: cargo ## The chart on two real nodes, in virtual machines (tests/nodes/README.md)
	cargo test --workspace --locked --test nodes -- --nocapture --test-threads=1

bench: cargo ## The benchmarks
	cargo bench --bench planner
	cargo bench --bench control_plane -- 100 500 1000 5000
	cargo bench --bench host

book: cargo ## The documentation as a book with search, in target/book/html; the first run builds mdBook, which takes minutes
	@docs/book/build

crds: cargo ## Generate crds/ and the chart's copy from src/api
	cargo run --quiet -- crds --out-dir crds
	cargo run --quiet -- crds --out-dir charts/multibond/files/crds

readme: cargo ## Generate the table of values in the chart's README from values.yaml
	BLESS=1 cargo test --quiet --test chart the_readme

# The control plane's binaries are downloaded or built with Go; the program that does it says what is missing.
cargo:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.89 or newer (https://rustup.rs)" >&2; exit 1; }
	@cargo --version >/dev/null || { echo "rust-toolchain.toml names the Rust that this project uses; RUSTUP_TOOLCHAIN=stable uses yours" >&2; exit 1; }
	@tests/packages.sh install build
