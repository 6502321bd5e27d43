#!/usr/bin/env bash
# Builds deps/ (every Rust library that Driftwood uses, in one static archive) into a cache outside the checkout and
# prints the folder that holds lib/libdriftwood_deps.a and include/ as its last line on stdout.
#
#   ${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}/deps/
#     <key>/lib, <key>/include   one finished build; <key> covers everything that can change it
#     cargo-<key>/               the crate's copy and cargo's target folder; <key> covers lock file and tool chain,
#                                so that an edit of the shim rebuilds the shim and not its 200 dependencies
#
# A second call with nothing changed only computes the key: it needs no network and takes no lock.
# Two calls at once are safe: the second waits for the first and then finds its result.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}/deps
min_minor=95

die() {
    echo "deps/build.sh: $*" >&2
    exit 1
}

need_rust() {
    local how="run scripts/setup.sh, or install rustup from https://rustup.rs and then: rustup toolchain install stable"
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        die "cargo and rustc >= 1.$min_minor are needed and were not found on PATH; $how"
    local version minor
    version=$(rustc --version | awk '{print $2}')
    minor=$(echo "$version" | cut -d. -f2)
    [ "${version%%.*}" -gt 1 ] || [ "$minor" -ge "$min_minor" ] ||
        die "rustc >= 1.$min_minor is needed, $(command -v rustc) is $version; $how"
    command -v cmake >/dev/null || die "cmake is needed to install Wasmtime's headers; run scripts/setup.sh"
}

sha() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }

# Contents only, in a fixed order: neither times nor the checkout's path reach the key.
key_of() {
    (
        cd "$here"
        rustc -Vv
        for f in "$@"; do
            echo "== $f"
            cat "$f"
        done
    ) | sha
}

sources() { (cd "$here" && find src include -type f | LC_ALL=C sort); }

# Copies what differs, so that an unchanged file keeps its time and cargo its fingerprint.
sync_crate() {
    local crate=$1 f
    mkdir -p "$crate/src" "$crate/include"
    for f in Cargo.toml Cargo.lock build.rs $(sources); do
        mkdir -p "$crate/$(dirname "$f")"
        cmp -s "$here/$f" "$crate/$f" || cp "$here/$f" "$crate/$f"
    done
    (cd "$crate" && find src include -type f) | while read -r f; do
        [ -e "$here/$f" ] || rm -f "$crate/$f"
    done
}

build() {
    local work=$1 prefix=$2
    local crate=$work/crate
    sync_crate "$crate"
    local home=${CARGO_HOME:-$HOME/.cargo}
    # Panic messages carry source paths; they should not carry the builder's home.
    local flags="--remap-path-prefix=$home/registry/src=crates --remap-path-prefix=$cache=deps"
    (cd "$crate" && RUSTFLAGS="$flags" CARGO_TARGET_DIR="$work/target" cargo build --release --locked) >&2 ||
        die "cargo build failed; the first build needs the network (crates.io)"
    local headers
    headers=$(find "$work/target/release/build" -name wasmtime_include.txt -path '*driftwood_deps-*' -print0 |
        xargs -0 ls -t | head -n 1)
    [ -n "$headers" ] || die "build.rs left no wasmtime_include.txt under $work/target"
    local staging=$prefix.tmp.$$
    rm -rf "$staging"
    mkdir -p "$staging/lib" "$staging/include"
    cp "$work/target/release/libdriftwood_deps.a" "$staging/lib/"
    cp -R "$(cat "$headers")/." "$staging/include/"
    cp "$crate"/include/*.h "$staging/include/"
    mv "$staging" "$prefix"
}

need_rust
# shellcheck disable=SC2046  # our own file names hold no spaces
prefix=$cache/$(key_of build.sh Cargo.toml Cargo.lock build.rs $(sources))
work=$cache/cargo-$(key_of Cargo.lock)
if [ ! -e "$prefix/lib/libdriftwood_deps.a" ]; then
    mkdir -p "$work"
    exec 9>"$work/lock"
    flock 9
    [ -e "$prefix/lib/libdriftwood_deps.a" ] || build "$work" "$prefix"
fi
echo "$prefix"
