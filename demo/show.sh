# How the demo speaks: colors on a terminal only. Sourced by run.sh.
# shellcheck shell=bash
bold='' dim='' green='' red='' cyan='' plain='' over='' terminal=0
[ ! -t 1 ] || terminal=1
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' cyan=$'\e[36m' plain=$'\e[0m'
    # An event takes the place of the moving number.
    over=$'\r\e[K'
fi
passed=0 broken=0

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '    %s\n' "$*"; }
row() { printf '    %-32s %s\n' "$1" "$2"; }

# expect WHAT COMMAND...: says whether the command succeeds, and counts.
expect() {
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        printf '  %sok%s  %s\n' "$green" "$plain" "$what"
    else
        broken=$((broken + 1))
        printf '  %sNO%s  %s\n' "$red" "$plain" "$what"
    fi
}

# Microseconds, and what to make of them.
now() { echo "${EPOCHREALTIME/./}"; }
seconds() { awk -v us="$1" 'BEGIN {printf "%.1f", us / 1e6}'; }
millis() { awk -v us="$1" 'BEGIN {printf "%.1f", us / 1e3}'; }
thousands() { awk -v n="$1" 'BEGIN {for (s = n ""; length(s) > 3; ) {t = "," substr(s, length(s) - 2) t; s = substr(s, 1, length(s) - 3)} print s t}'; }

# Counts lines: a moving number on a terminal, now and then a line elsewhere.
show_progress() {
    awk -v total="$1" -v what="$2" -v tty="$terminal" '
        function show(end) {printf "%s    %d of %d %s%s", tty ? "\r" : "", NR, total, what, end; fflush()}
        NR % (tty ? 512 : 8192) == 0 && NR < total {show(tty ? "" : "\n")}
        END {show("\n")}'
}

# Events as they happen: what arrives, made readable.
show_events() {
    jq -n --unbuffered -r --arg dim "$dim" --arg bright "$cyan" --arg plain "$plain" --arg over "$over" -f demo/events.jq
}

# What stands on somebody's screen, and of what is told of a session the parts whose first words those are.
show_screen() { sed -u -E "s/\r//g; s/\x1b\[[0-9;]*[a-zA-Z]//g; s/^/    ${dim}|${plain} /"; }
show_parts() { awk -v RS= -v parts="^($1)" '$0 ~ parts {print $0 "\n"}' | cut -c "1-${COLUMNS:-116}" | sed "s/^/    /"; }

# How many records of one event the log has; how many sessions began; how many records were lost. Uses $state.
count() { cat "$state"/events/events*.ndjson 2>/dev/null | grep -c "\"event\":\"$1\"" || true; }
count_sessions() { hw status --json 2>/dev/null | jq '.summary.sessions_started' || echo 0; }
count_lost() { jq -n '[inputs | select(.event == "gap") | .count // 1] | add // 0' "$state"/events/events*.ndjson; }
