#!/usr/bin/env bash
# Has the unmodified nmap name emulated hosts, one for each name of a list, and counts how often it is right; see
# scripts/fidelity. Arguments go there (--help says which).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh test
cargo build --release --bin honeyweave
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
exec "${as_root[@]}" python3 -B scripts/fidelity "$@"
