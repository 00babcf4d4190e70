#!/usr/bin/env bash
# Formatting, clippy with warnings denied (with every feature and with none), documentation, licenses, changed crates.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh demo

step() {
    printf '\n== %s\n' "$*" >&2
    "$@"
}
step cargo fmt --check
step cargo clippy --all-targets -- -D warnings
step cargo clippy --no-default-features -- -D warnings
RUSTDOCFLAGS='-D warnings' step cargo doc --no-deps
step scripts/licenses.sh
step scripts/vendor.sh --check
