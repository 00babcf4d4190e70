#!/usr/bin/env bash
# Runs each fuzz target (or those named) for FUZZ_SECONDS. A target that fails leaves what it failed on in
# fuzz/artifacts/: make a regression test of it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh build
seconds=${FUZZ_SECONDS:-30}
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing; install it:  cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# The sanitizers are unstable options of the compiler; a stable one takes them, too, if told so.
export RUSTC_BOOTSTRAP=1
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
failed=()
for target in "${targets[@]}"; do
    printf '\n== %s, %s s\n' "$target" "$seconds" >&2
    mkdir -p "fuzz/corpus/$target"
    seeds=()
    case $target in
        topology) seeds=(topologies) ;;
        honeyd) seeds=(src/topology/import/honeyd) ;;
        nmap_xml) seeds=(src/topology/import/nmap) ;;
        *) [ ! -d "fuzz/seeds/$target" ] || seeds=("fuzz/seeds/$target") ;;
    esac
    # Warnings and one line in a while are enough.
    cargo fuzz run "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -len_control=0 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 || failed+=("$target")
done
[ ${#failed[@]} = 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
