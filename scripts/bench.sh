#!/usr/bin/env bash
# Runs the benches and holds what criterion measured against the stored baseline.
#
#   scripts/bench.sh [--save] [ARGUMENT...]     arguments are passed on to cargo bench
#
# --save makes what was measured the baseline (benches/baseline.json): on a quiet machine, and when the change is meant.
# Other machines are faster or slower by a constant; it is the figure that differs from the rest that tells.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh test
save=
[ "${1:-}" != --save ] || { save=1; shift; }
baseline=benches/baseline.json
target=${CARGO_TARGET_DIR:-target}

# Only what this run measures is compared.
begin=$(mktemp)
trap 'rm -f "$begin"' EXIT
${CARGO:-cargo} bench "$@"

measured=$(find "$target/criterion" -path '*/new/estimates.json' -newer "$begin" -print0 2>/dev/null | sort -z |
    while IFS= read -r -d '' file; do
        jq -n --slurpfile about "${file%estimates.json}benchmark.json" --slurpfile estimates "$file" --arg file "$file" '
            # Each iteration of a bench moves as many elements as it says.
            ($about[0].throughput.Elements // 1) as $elements
            | {($about[0].full_id): ($estimates[0].median.point_estimate / $elements * 10 | round / 10)}'
    done | jq -s add)
if [ "$measured" = null ]; then
    echo "nothing was measured by criterion"
    exit 0
fi
if [ -n "$save" ]; then
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    jq -n --arg date "$(date -u +%F)" --arg machine "$(nproc) x $cpu, Linux $(uname -r | cut -d- -f1)" \
        --argjson ns "$measured" '{$date, $machine, $ns}' >"$baseline"
fi
echo
jq -r --argjson now "$measured" '
    . as $base
    | ["median, ns a frame", "baseline", "now", "change"],
      ($now | to_entries[] | .key as $name | $base.ns[$name] as $old
          | [$name, ($old // "-" | tostring), (.value | tostring),
             (if $old then ((.value / $old - 1) * 1000 | round / 10 | tostring) + " %" else "new" end)])
    | @tsv' "$baseline" | awk -F'\t' '{printf "%-42s %10s %10s %10s\n", $1, $2, $3, $4}'
jq -r '"baseline of \(.date): \(.machine)"' "$baseline"
