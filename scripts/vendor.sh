#!/usr/bin/env bash
# Crates that are changed here: vendor/NAME is the published crate NAME with vendor/NAME.patch.
#
#   scripts/vendor.sh            makes vendor/NAME anew from both
#   scripts/vendor.sh --check    fails if vendor/NAME is anything else
#   scripts/vendor.sh --patch    makes vendor/NAME.patch anew from what differs in vendor/NAME/src
#
# Cargo gets the crate, once: afterwards no network is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

# Name, version, and the SHA-256 of its archive, which Cargo's index has, too.
crates='russh 0.65.1 94be3d86c71b9ed220a675c405e35c7a02565a009bf8da2e9cc13a700320a5c5'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The archive of a crate in Cargo's cache.
archive() {
    local file
    for file in "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"$1-$2.crate"; do
        if [ -f "$file" ] && echo "$3  $file" | sha256sum --check --status; then
            echo "$file"
            return
        fi
    done
    return 1
}

# The crate as it is published: its source, and of its manifest what a dependency needs.
published() {
    local name=$1 version=$2 to=$3 file
    if ! file=$(archive "$@"); then
        # Of a crate that is asked about Cargo gets the archive. Not here, where the name means the changed one.
        (cd "$work" && cargo info --quiet --registry crates-io "$name@$version" >/dev/null) || true
        if ! file=$(archive "$@"); then
            echo "Cargo got no $name $version with this digest (is there a network?)" >&2
            [ "$mode" != --check ] || { echo "SKIPPED: vendor/$name is not held against what is published" >&2; exit 0; }
            exit 1
        fi
    fi
    to=$work/published/$name
    mkdir -p "$to"
    tar -xzf "$file" -C "$to" --strip-components=1 "$name-$version/src" "$name-$version/Cargo.toml"
    awk '/^\[/ { own = !/^\[\[(example|test|bench)\]\]/ && !/dev-dependencies/ } own || NR == 1 { print }' \
        "$to/Cargo.toml" >"$work/manifest"
    mv "$work/manifest" "$to/Cargo.toml"
    # The archive has no text of its license.
    cp LICENSE-APACHE "$to/LICENSE"
}

mode=${1:-}
case $mode in
    '' | --check | --patch) ;;
    *) sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
while read -r name version digest; do
    published "$name" "$version" "$digest"
    if [ "$mode" = --patch ]; then
        (cd "$work/published" && mkdir -p "$work/diff" && rm -rf "$work/diff/a" && cp -r "$name" "$work/diff/a")
        rm -rf "$work/diff/b" && cp -r "vendor/$name" "$work/diff/b"
        # 1: they differ.
        (cd "$work/diff" && diff -ruN a/src b/src) | sed 's/^\(---\|+++\) \([^\t]*\)\t.*/\1 \2/; /^diff -ruN/d' >"$work/patch" || true
        # What is said about it before the first file stays.
        { sed '/^--- a\//,$d' "vendor/$name.patch" 2>/dev/null || true; cat "$work/patch"; } >"$work/whole"
        mv "$work/whole" "vendor/$name.patch"
        continue
    fi
    (cd "$work/published/$name" && git apply) <"vendor/$name.patch"
    if [ "$mode" = --check ]; then
        diff -r "$work/published/$name" "vendor/$name" >&2 || {
            echo "vendor/$name is not $name $version with vendor/$name.patch: run scripts/vendor.sh, or scripts/vendor.sh --patch" >&2
            exit 1
        }
        echo "vendor/$name: $name $version with vendor/$name.patch"
    else
        rm -rf "vendor/$name"
        mv "$work/published/$name" "vendor/$name"
    fi
done <<<"$crates"
