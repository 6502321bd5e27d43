#!/usr/bin/env bash
# Installs what Driftwood needs to build, test and run, and is missing: Debian packages (Debian 12, Ubuntu 24.04), a
# Rust tool chain, and, with DRIFTWOOD_CUDA=ON or where NVIDIA's driver is, CUDA's compiler (from PyPI, into the cache).
# Says what it does before it does it. On a machine that has everything it changes nothing, needs no network and takes a
# moment.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/env.sh
. "$here/env.sh"

packages=(
    build-essential cmake ninja-build pkg-config python3 ccache                 # the build
    ca-certificates curl                                                        # rustup's installer
    clang-14 lld-14 wasi-libc                                                   # guests in C and C++
    libclang-rt-14-dev-wasm32 libc++-14-dev-wasm32 libc++abi-14-dev-wasm32
    rustc libstd-rust-dev-wasm32                                                # guests in Rust (deps/ needs a newer)
    clang-format-14 clang-tidy-14                                               # make lint
    libclang-rt-14-dev                                                          # make fuzz
    g++-aarch64-linux-gnu qemu-user googletest                                  # make test-arm
    libgtest-dev nlohmann-json3-dev libcli11-dev                                # libraries
)

say() { echo "setup: $*" >&2; }
die() {
    say "$*"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "not root, and there is no sudo: run as root: $*"
    fi
}

# The packages that dpkg does not know as installed.
missing_packages() {
    local installed package
    # shellcheck disable=SC2016  # dpkg-query's own variables
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
    for package in "${packages[@]}"; do
        grep -qxF "$package installed" <<<"$installed" || echo "$package"
    done
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -gt 0 ] || return 0
    say "installing with apt-get: ${missing[*]}"
    # Lists of a machine that was just made are empty or old.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2 ||
        die "apt-get update failed (its message is above): is there a network?"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >&2 ||
        die "apt-get could not install: ${missing[*]} (its message is above)"
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -eq 0 ] || die "still missing after apt-get: ${missing[*]}"
}

# Elsewhere than on Debian and Ubuntu: nothing is installed, but what is missing is named.
check_tools() {
    local tool lacking=()
    for tool in c++ cmake ninja python3 curl clang++-14 wasm-ld-14 clang-format-14 clang-tidy-14; do
        command -v "$tool" >/dev/null || lacking+=("$tool")
    done
    [ "${#lacking[@]}" -eq 0 ] || die "no apt-get here, and missing on PATH: ${lacking[*]}." \
        "Install them with your system's packages (on Debian they are: ${packages[*]})"
}

install_rust() {
    find_rust && return 0
    local rustup
    rustup=$(command -v rustup || true)
    [ -n "$rustup" ] || rustup=${CARGO_HOME:-$HOME/.cargo}/bin/rustup
    if [ -x "$rustup" ]; then
        say "installing Rust $rust_pinned beside what rustup has: rustup toolchain install $rust_pinned"
        "$rustup" toolchain install "$rust_pinned" --profile minimal --no-self-update >&2 ||
            die "rustup could not install Rust $rust_pinned (its message is above): is there a network?"
    else
        say "installing rustup and Rust $rust_pinned from https://sh.rustup.rs into ${CARGO_HOME:-$HOME/.cargo}"
        installer=$(mktemp)
        trap 'rm -f "$installer"' EXIT
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o "$installer" ||
            die "could not fetch https://sh.rustup.rs. Rust 1.$rust_min_minor or newer is needed:" \
                "install it in another way, so that rustc and cargo are on PATH, and run this again"
        export RUSTUP_INIT_SKIP_PATH_CHECK=yes # Debian's rustc, there for guests, is no reason to stop
        sh "$installer" -y --quiet --profile minimal --default-toolchain "$rust_pinned" --no-modify-path >&2 ||
            die "rustup's installer failed (its message is above)"
    fi
    find_rust || die "Rust was installed, but no rustc >= 1.$rust_min_minor is found on PATH or in" \
        "${CARGO_HOME:-$HOME/.cargo}/bin"
}

# CUDA's compiler and static runtime: 118 MB to fetch, 270 MB in the cache, where cmake/cuda.cmake looks too.
cuda_pinned='13.0.*'
cuda_root=${DRIFTWOOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/driftwood}/cuda-13.0

# Wanted with DRIFTWOOD_CUDA=ON or where NVIDIA's driver is, and not there yet.
lacks_cuda() {
    [ "${DRIFTWOOD_CUDA:-AUTO}" = ON ] || { [ -z "${DRIFTWOOD_CUDA:-}" ] && [ -e /proc/driver/nvidia/version ]; } ||
        return 1
    ! command -v nvcc >/dev/null && [ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] &&
        [ ! -x "$cuda_root/nvidia/cu13/bin/nvcc" ]
}

install_cuda() {
    lacks_cuda || return 0
    local part parts=()
    for part in cuda-nvcc cuda-runtime cuda-cccl cuda-crt nvvm; do parts+=("nvidia-$part==$cuda_pinned"); done
    say "fetching CUDA's compiler from PyPI into $cuda_root"
    rm -rf "$cuda_root.part"
    python3 -m pip -q --disable-pip-version-check install --no-deps --no-compile --root-user-action=ignore \
        --target "$cuda_root.part" "${parts[@]}" >&2 ||
        die "pip could not fetch ${parts[*]} (its message is above): is there a network?" \
            "DRIFTWOOD_CUDA=OFF does without"
    rm -rf "$cuda_root"
    mv "$cuda_root.part" "$cuda_root"
}

if lacks_cuda && ! python3 -m pip --version >/dev/null 2>&1; then packages+=(python3-pip); fi
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
    install_packages
else
    check_tools
fi
install_rust
install_cuda
