#!/usr/bin/env bash
# What a machine can see of the style: the rules of the house, clang-format, clang-tidy. Changes nothing.
# Needs a configured build/release (its compile_commands.json); results of clang-tidy are cached (scripts/tidy.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "lint: rules of the house"
python3 tests/house_test.py

echo "lint: clang-format"
git ls-files -z -- '*.h' '*.cc' '*.c' | xargs -0 -r clang-format-14 --dry-run -Werror ||
    { echo "lint: 'make format' mends the lines above" >&2; exit 1; }

python3 scripts/tidy.py build/release
