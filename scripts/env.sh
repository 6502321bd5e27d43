# Sourced by the Makefile and scripts/setup.sh: puts a Rust tool chain that is new enough on PATH, where there is one.
# Looks at PATH first, then where rustup installs; a rustup whose default is too old is asked for the pinned tool chain.
# Never downloads: find_rust fails (1) when nothing fits, and scripts/setup.sh takes it from there.

rust_min_minor=95
rust_pinned=1.95.0

# rust_fits RUSTC: does it run, is it 1.95 or newer, and does cargo lie beside it or on PATH?
rust_fits() {
    rust_version=$(RUSTUP_AUTO_INSTALL=0 "$1" --version 2>/dev/null | awk '{print $2}')
    case $rust_version in
        1.*) rust_minor=${rust_version#1.} && [ "${rust_minor%%.*}" -ge "$rust_min_minor" ] ;;
        [2-9]*) true ;;
        *) false ;;
    esac && { [ -x "$(dirname "$1")/cargo" ] || command -v cargo >/dev/null; }
}

find_rust() {
    rust_home=${CARGO_HOME:-$HOME/.cargo}/bin
    rust_on_path=$(command -v rustc || true)
    for rust_candidate in "$rust_on_path" "$rust_home/rustc"; do
        [ -n "$rust_candidate" ] && [ -x "$rust_candidate" ] || continue
        if rust_fits "$rust_candidate"; then
            :
        elif RUSTUP_TOOLCHAIN=$rust_pinned rust_fits "$rust_candidate"; then
            export RUSTUP_TOOLCHAIN=$rust_pinned
        else
            continue
        fi
        [ "$rust_candidate" = "$rust_on_path" ] || export PATH="$rust_home:$PATH"
        return 0
    done
    return 1
}

find_rust || true
