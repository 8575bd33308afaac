#!/usr/bin/env bash
# What `make lint`, `make unit` and `make test` run, cheapest first. Each step asks for what it needs itself. If one
# step of the tests fails, the others still run.
#
# All steps use one profile and one set of features (those of the tests), so that everything is compiled only
# twice: once to check, once to run.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
  if [[ -t 1 ]]; then printf '\n\e[1m== %s\e[0m\n' "$1"; else printf '\n== %s (%s)\n' "$1" "$(elapsed)"; fi
}

elapsed() {
  printf '%d min %02d s' $((SECONDS / 60)) $((SECONDS % 60))
}

die() {
  echo "$1" >&2
  exit 1
}

# Where cargo puts what it builds.
target() {
  cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

lint() {
  cargo fmt --version &>/dev/null || die "rustfmt is missing: rustup component add rustfmt"
  cargo clippy --version &>/dev/null || die "clippy is missing: rustup component add clippy"
  step formatting
  cargo fmt --all --check
  step clippy
  cargo clippy --workspace --all-targets --locked -- -D warnings
  # The tests that `--all-targets` leaves out, as `cargo test` does.
  cargo clippy --workspace "${apart[@]}" --test nodes --test skew --locked -- -D warnings
  step documentation
  # There are no examples in Rust; asking for them makes cargo choose the features of the tests.
  RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --examples --no-deps --document-private-items --locked
  step "dependencies: licenses, bans, sources, advisories"
  dependencies
}

dependencies() {
  if ! command -v cargo-deny >/dev/null; then
    echo "not checked: cargo-deny is missing (cargo install --locked cargo-deny; .ci/run does it by itself)"
    return
  fi
  cargo deny --all-features check --hide-inclusion-graph bans licenses sources
  if timeout 60 cargo deny fetch db &>/dev/null; then
    cargo deny --offline --all-features check advisories
  else
    echo "advisories: not checked, their database cannot be reached from here"
  fi
}

# The tests that need nothing but Rust: no control plane, no browser, no package.
unit=(--lib --bins --test agent --test cli --test docs --test enter --test layers --test literals --test planner)
# Those that need more than a control plane: `cargo test` leaves them out (Cargo.toml), a step runs each.
apart=(--test console --test image --test vm)

# The tests of vm/ that also run on the next Debian release: what touches records, interfaces, logins and multipath. Those
# that show the most for each minute; `make test-hosts` runs all of them.
next_release=(chap::a23_chap connect:: multipath:: names:: neighbours::)

# Runs some of the tests; their output also goes to the log.
run() {
  cargo test --no-fail-fast --locked "$@" 2>&1 | tee --append "$log" || status=1
}

all_tests() {
  status=0
  log=$(mktemp)
  step "compiling the tests"
  cargo test --workspace --no-run --locked
  cargo test --workspace "${apart[@]}" --no-run --locked
  step "binaries of the control plane"
  if "$(target)/debug/control-plane" fetch; then
    step tests
    # Without it the tests of the alerts say that they are left out.
    tests/packages.sh install alerts || status=1
    # Generated files and examples/ are checked by tests too.
    run --workspace
    step "the console in a browser"
    if tests/packages.sh install browser; then run --workspace --test console; else status=1; fi
  else
    step "the tests that need no control plane"
    run "${unit[@]}"
    status=1
  fi
  step "the container image"
  if tests/packages.sh install image; then run --workspace --test image; else status=1; fi
  step "tests on a real host, in a virtual machine"
  if [[ ${MULTIBOND_SKIP_VM:-} == 1 ]]; then
    echo "left out: MULTIBOND_SKIP_VM=1"
  elif tests/packages.sh install host && "$(target)/debug/test-host" fetch; then
    run --workspace --test vm
    step "some of them on the next Debian release"
    if MULTIBOND_TEST_HOST=trixie "$(target)/debug/test-host" fetch; then
      MULTIBOND_TEST_HOST=trixie run --workspace --test vm -- "${next_release[@]}"
    else
      status=1
    fi
  else
    echo "MULTIBOND_SKIP_VM=1 leaves these tests out"
    status=1
  fi
  step result
  awk '/^test result: / { passed += $4; failed += $6; ignored += $8 }
       END { printf "%d tests passed, %d failed, %d ignored", passed, failed, ignored }' "$log"
  printf ', all in %s\n' "$(elapsed)"
  rm -f "$log"
  return "$status"
}

case "${1:-}" in
  lint) lint ;;
  # Twice the usual number of threads: some tests wait for the time-outs that they test.
  unit) PROPTEST_CASES=${PROPTEST_CASES:-32} RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))} cargo test --locked "${unit[@]}" ;;
  all)
    lint
    all_tests
    ;;
  target) target ;;
  *) die "usage: tests/check.sh lint|unit|all|target" ;;
esac
