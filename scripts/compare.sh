#!/usr/bin/env bash
# Holds honeyweave against other switches and against Linux itself; see scripts/compare. Arguments go there
# (--help says which). The packages of the others are installed if need be.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh compare
cargo build --release --bin honeyweave --example bare_forwarder --example bare_responder
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
exec "${as_root[@]}" python3 -B scripts/compare "$@"
