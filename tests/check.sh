#!/usr/bin/env bash
# What `make lint` and `make test` run, cheapest first; the first step that fails ends it.
#
# All steps use one profile and one set of features (those of the tests), so that nothing is compiled more often than it
# must be: once to check, once to run.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
  if [[ -t 1 ]]; then printf '\n\e[1m== %s\e[0m\n' "$1"; else printf '\n== %s\n' "$1"; fi
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
  cargo clippy --workspace --test vm --test nodes --test image --locked -- -D warnings
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

tests() {
  command -v chromedriver >/dev/null ||
    die "chromedriver is missing, the console is tested in a browser: apt install chromium chromium-driver"
  for tool in buildah:buildah musl-gcc:musl-tools; do
    command -v "${tool%:*}" >/dev/null || die "${tool%:*} is missing, the image is made with it: apt install ${tool#*:}"
  done
  unshare --map-root-user true || die "unshare --map-root-user does not work here, the image's programs are run in it"
  step "compiling the tests"
  cargo test --workspace --no-run --locked
  cargo test --workspace --test vm --test image --no-run --locked
  step "binaries of the control plane"
  "$(target)/debug/control-plane" fetch
  step tests
  local log status=0
  log=$(mktemp)
  # Generated files and examples/ are checked by tests too.
  cargo test --workspace --no-fail-fast --locked 2>&1 | tee "$log" || status=$?
  step "the container image"
  cargo test --workspace --test image --no-fail-fast --locked 2>&1 | tee --append "$log" || status=$?
  step "tests on a real host, in a virtual machine"
  if [[ ${MULTIBOND_SKIP_VM:-} == 1 ]]; then
    echo "left out: MULTIBOND_SKIP_VM=1"
  elif "$(target)/debug/test-host" fetch; then
    cargo test --workspace --test vm --no-fail-fast --locked 2>&1 | tee --append "$log" || status=$?
  else
    echo "MULTIBOND_SKIP_VM=1 leaves these tests out"
    status=1
  fi
  step result
  awk '/^test result: / { passed += $4; failed += $6; ignored += $8 }
       END { printf "%d tests passed, %d failed, %d ignored", passed, failed, ignored }' "$log"
  printf ', all in %d min %02d s\n' $((SECONDS / 60)) $((SECONDS % 60))
  rm -f "$log"
  return "$status"
}

case "${1:-}" in
  lint) lint ;;
  all)
    lint
    tests
    ;;
  target) target ;;
  *) die "usage: tests/check.sh lint|all|target" ;;
esac
