#!/usr/bin/env bash
# Every test there is: of the library, the programs, the documentation and the examples, those that
# need root and network namespaces included. Ends by saying what failed and how many were skipped; with
# CI=true a single one is a failure. Arguments go to `cargo test`.
#
# Tests with real parts wait for other programs on a machine that may be busy. One or two that fail
# are run once more, alone; who succeeds then is called flaky, with all that it said the first time. More
# than two are a failure at once, and so is one that fails twice. Tests that measure time have names that end in
# `_by_itself`, and run when all others are through.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh test

# The tests that make namespaces need root; compiling does not.
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "the tests make network namespaces and need root: run  sudo -v  first, or  sudo -E make test" >&2
        exit 1
    fi
    host=$(rustc -vV | sed -n 's/^host: //p')
    runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$host")_RUNNER
    export "$runner=sudo -E"
fi

log=$(mktemp)
running=
flaky=0
trap '[ -z "$running" ] || kill "$running" 2>/dev/null; rm -f "$log" "$log.now"' EXIT
trap 'exit 130' INT TERM
step() {
    local code=0
    printf '\n== %s\n' "$*" >&2
    # Into a file and not into a pipe, for whose end a process that a test left behind would keep us waiting.
    : >"$log.now"
    # In the background a shell has the interrupt ignored, and so would have whatever a test interrupts.
    env --default-signal=INT,QUIT "$@" >"$log.now" 2>&1 &
    running=$!
    # What a test says while it succeeds is long, and only skips are of interest.
    tail -n +1 -f --pid="$running" "$log.now" |
        grep -av --line-buffered -e '^test .* \.\.\. ok$' -e '^$' -e '^successes:$' -e '^    [a-z_0-9:]*$' || true
    wait "$running" || code=$?
    running=
    cat "$log.now" >>"$log"
    return "$code"
}

# What tests that failed said, without the backtraces of those that panic on purpose.
failures() {
    awk '
        # A test that was run twice said something each time, and the first time is of more interest.
        /^---- .* stdout ----$/ { name = $2; quiet = 0; if (name in said) said[name] = said[name] "... and once more:\n"; next }
        /^(successes|failures|test result)/ { name = "" }
        /^stack backtrace:$/ { quiet = 1 }
        name && !quiet { said[name] = said[name] $0 "\n" }
        /^test .* \.\.\. FAILED$/ { failed[$2] = 1 }
        END { for (name in failed) { printf "\nFAILED: %s\n%s", name, substr(said[name], 1, 8000) } }
    ' "$log"
}

failed=0
good=1
if [ $# = 0 ]; then
    step cargo test --lib --bins --test layering --no-fail-fast -- --show-output || good=0
    # These wait for other programs most of their time: two processors are idle for 72 % of it with two at once.
    step cargo test --test it --no-fail-fast -- --show-output --skip _by_itself --test-threads=$((2 * $(nproc))) || good=0
    step cargo test --test it --no-fail-fast -- --show-output --test-threads=1 _by_itself || good=0
else
    step cargo test --lib --bins --tests --no-fail-fast "$@" -- --show-output || good=0
fi
if [ "$good" = 0 ]; then
    mapfile -t names < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
    if [ ${#names[@]} = 0 ] || [ ${#names[@]} -gt 2 ]; then
        failed=1
    elif step cargo test --lib --bins --tests --no-fail-fast -- --show-output --exact "${names[@]}" --test-threads=1; then
        flaky=${#names[@]}
    else
        failed=1
    fi
fi
if [ $# = 0 ]; then
    step cargo test --doc || failed=1
    step python3 -B scripts/compare/test_figures.py || failed=1
    # Examples send real frames through the fabric and exit 1 on any mismatch.
    step cargo build --examples || failed=1
    for example in examples/*.rs examples/*/main.rs; do
        [ -e "$example" ] || continue
        name=${example#examples/} name=${name%/main.rs} name=${name%.rs}
        step cargo run -q --example "$name" || failed=1
    done
fi

passed=$(sed -n 's/^test result: .* \([0-9][0-9]*\) passed.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
broken=$(sed -n 's/^test result: .* \([0-9][0-9]*\) failed.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
[ "$failed" = 1 ] || broken=$((broken - flaky))
ignored=$(sed -n 's/^test result: .* \([0-9][0-9]*\) ignored.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
skipped=$(grep -ac '^SKIPPED: ' "$log" || true)
failures
echo
[ "$flaky" = 0 ] || printf 'FLAKY, failed once and succeeded alone: %s\n' "${names[@]}"
[ "$skipped" = 0 ] || grep -a '^SKIPPED: ' "$log" | sort | uniq -c
echo "tests: $passed passed, $broken failed, $ignored ignored, $skipped skipped"
if [ "${CI:-}" = true ] && [ $((skipped + ignored)) != 0 ]; then
    echo "a skipped or ignored test is a failure here" >&2
    failed=1
fi
[ "$failed" = 0 ] || { echo "FAILED" >&2; exit 1; }
