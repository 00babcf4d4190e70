#!/usr/bin/env bash
# Asks whether a stopwatch tells emulated hosts, containers and a real machine apart; see scripts/timing. Arguments go
# there (--help says which).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh compare
cargo build --release --bin honeyweave
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
exec "${as_root[@]}" python3 -B scripts/timing "$@"
