#!/usr/bin/env bash
# Fails if a crate that is built in has a license that is not on the list of deny.toml, comes from
# elsewhere than Cargo's default registry, or is banned there. The same as `cargo deny check licenses bans sources`, which
# it runs, too, where cargo-deny is installed (building that takes longer than everything else here).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v jq >/dev/null || { echo "jq is missing: run scripts/packages.sh demo" >&2; exit 1; }

# A list of strings in deny.toml: from `NAME = [` to `]`.
list() {
    sed -n "/^$1 = \[/,/^\]/p" deny.toml | sed -n 's/^ *\({ *\(name\|crate\) *= *\)\{0,1\}"\([^"]*\)".*/\3/p'
}
mapfile -t allowed < <(list allow)
mapfile -t banned < <(list deny)
[ ${#allowed[@]} -gt 0 ] && [ ${#banned[@]} -gt 0 ] || { echo "deny.toml has no lists \`allow\` and \`deny\`" >&2; exit 1; }

is_in() {
    local word=$1 other
    shift
    for other in "$@"; do [ "$word" != "$other" ] || return 0; done
    return 1
}

# Whether an SPDX expression can be met: every license becomes 1 or 0, and the shell computes the rest.
is_allowed() {
    local sum='' word
    # Before SPDX, `/` was written for OR.
    local text=${1//\// OR }
    text=${text//(/ ( } text=${text//)/ ) }
    local exception=
    for word in $text; do
        if [ -n "$exception" ]; then exception=; continue; fi
        case $word in
            OR) sum+=' || ' ;;
            AND) sum+=' && ' ;;
            # An exception only permits more.
            WITH) exception=1 ;;
            '(' | ')') sum+=" $word " ;;
            *) if is_in "$word" "${allowed[@]}"; then sum+=1; else sum+=0; fi ;;
        esac
    done
    [ -n "$sum" ] && [ "$((sum))" = 1 ]
}

bad=0 seen=0
while IFS=$'\t' read -r name version license source; do
    seen=$((seen + 1))
    if ! is_allowed "$license"; then
        echo "$name $version: license \`$license\` is not allowed by deny.toml" >&2
        bad=1
    fi
    if is_in "$name" "${banned[@]}"; then
        echo "$name $version is banned by deny.toml" >&2
        bad=1
    fi
    case $source in
        'registry+https://github.com/rust-lang/'* | path) ;;
        *) echo "$name $version comes from $source, not from Cargo's default registry" >&2; bad=1 ;;
    esac
done < <(cargo metadata --locked --format-version 1 --all-features |
    jq -r '. as $m | ($m.resolve.nodes | map(.id)) as $used
           | .packages[] | select(.id as $id | $used | index($id))
           | [.name, .version, (.license // ("file " + (.license_file // "none"))), (.source // "path")] | @tsv')
[ "$seen" -gt 1 ] || { echo "cargo metadata named no crates" >&2; exit 1; }
[ "$bad" = 0 ] || exit 1
echo "licenses: $seen crates, all allowed"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --all-features check licenses bans sources
fi
