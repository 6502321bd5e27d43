#!/usr/bin/env bash
# Writes deps/THIRD_PARTY.md: every crate of Cargo.lock with its version and licence as its own manifest states them,
# and what else is linked. `notices.sh --check` fails if the committed file differs. Needs cargo, python3 and, the first
# time, the network (manifests come from crates.io).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

write() {
    cat <<'EOF'
# Third-party software

Written by `deps/notices.sh`; change it there.

## Linked from the system

| library | licence | where |
|---|---|---|
| nlohmann-json | MIT | program |
| CLI11 | BSD-3-Clause | program |
| GoogleTest | BSD-3-Clause | tests only |
| wasi-libc | Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT; parts: musl MIT, cloudlibc BSD-2-Clause | guests |
| libc++, libc++abi, compiler-rt | Apache-2.0 WITH LLVM-exception | guests |

## Rust crates in libdriftwood_deps.a

All crates that `Cargo.lock` pins; some serve other platforms or only the build. Where a licence offers a choice, any of
its alternatives may be taken.

| crate | version | licence |
|---|---|---|
EOF
    cargo metadata --format-version 1 --locked | python3 -c '
import json, sys
rows = []
for package in json.load(sys.stdin)["packages"]:
    if package["source"] is None:
        continue
    licence = package["license"] or "see " + (package["license_file"] or "its repository")
    link = "https://crates.io/crates/{name}/{version}".format(**package)
    rows.append((package["name"], package["version"], licence.replace("/", " OR "), link))
for name, version, licence, link in sorted(rows):
    print(f"| [{name}]({link}) | {version} | {licence} |")
'
}

if [ "${1:-}" = --check ]; then
    write | diff -u THIRD_PARTY.md - || { echo "THIRD_PARTY.md is out of date: run deps/notices.sh" >&2; exit 1; }
else
    write > THIRD_PARTY.md.tmp && mv THIRD_PARTY.md.tmp THIRD_PARTY.md
fi
