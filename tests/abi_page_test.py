#!/usr/bin/env python3
"""docs/abi.md says what include/driftwood/guest.h says, and the reverse: calls with their types, structs with sizes,
fields and offsets, errors, values and limits. (That the runtime imports what the page lists is a test of src/wasm.)

    tests/abi_page_test.py               compares, prints what differs, exits 1 if anything does
    tests/abi_page_test.py --self-test   changes header and page in memory, and expects each change to be found
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BYTES = {"u32": 4, "f32": 4, "u64": 8}
FIELD_TYPES = {"uint32_t": "u32", "uint64_t": "u64", "float": "f32"}


def wasm_type(parameter):
    """The Wasm type of a C parameter, with its name: pointers are i32."""
    kind, name = re.fullmatch(r"(.*?)(\w+)", parameter.strip(), re.S).groups()
    return name + ": " + ("i64" if "int64_t" in kind and "*" not in kind else "i32")


def of_header(text):
    """{"call sleep": "(ns: i64) -> i64", "field driftwood_gemm.a": "0 u32", "number DRIFTWOOD_F16": "1", …}"""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = {}
    for name, result, parameters in re.findall(r"DRIFTWOOD_IMPORT\((\w+)\)\s*(\w+)\s+\w+\((.*?)\);", text, re.S):
        listed = [] if parameters.strip() == "void" else parameters.split(",")
        found[f"call {name}"] = f"({', '.join(map(wasm_type, listed))}) -> {'i64' if result == 'int64_t' else 'i32'}"
    for struct, body in re.findall(r"typedef struct (\w+) \{(.*?)\}", text, re.S):
        at = 0
        for kind, names in re.findall(r"(\w+)\s+([\w,\s]+);", body):
            for name in names.split(","):
                at = -(-at // BYTES[FIELD_TYPES[kind]]) * BYTES[FIELD_TYPES[kind]]
                found[f"field {struct}.{name.strip()}"] = f"{at} {FIELD_TYPES[kind]}"
                at += BYTES[FIELD_TYPES[kind]]
        found[f"struct {struct}"] = str(-(-at // 8) * 8)
    for name, number in re.findall(r"(DRIFTWOOD_\w+)\s*=\s*(\d+)", text):
        found[f"number {name}"] = number
    for name, number in re.findall(r"#define (DRIFTWOOD_\w+) (\d+)\s*$", text, re.M):
        found[f"number {name}"] = number
    return found


def of_page(text):
    """The same from the tables of the page, up to the chapter about WASI."""
    found = {}
    struct = ""
    for line in text.split("## WASI preview 1")[0].splitlines():
        if named := re.match(r"`(driftwood_\w+)`, (\d+) bytes", line):
            struct = named.group(1)
            found[f"struct {struct}"] = named.group(2)
        elif row := re.match(r"\| `(\w+)` \| `(\(.*?\) -> \w+)` \| (?:yes|no) \|", line):
            found[f"call {row.group(1)}"] = row.group(2)
        elif row := re.match(r"\| (\d+) \| `(\w+)` \| (\w+) \|", line):
            found[f"field {struct}.{row.group(2)}"] = f"{row.group(1)} {row.group(3)}"
        elif row := re.match(r"\| `(DRIFTWOOD_\w+)` \| (\d+) \|", line):
            found[f"number {row.group(1)}"] = row.group(2)
    return found


def differences(header, page):
    said, written = of_header(header), of_page(page)
    nothing = "no such thing"
    return [f"{key}: the header has {said.get(key, nothing)}, the page {written.get(key, nothing)}"
            for key in sorted(said.keys() | written.keys()) if said.get(key) != written.get(key)]


def self_test(header, page):
    in_header = [("DRIFTWOOD_EBUSY = 16", "DRIFTWOOD_EBUSY = 17"), ("uint32_t top_k;", "uint64_t top_k;"),
                 ("DRIFTWOOD_BF16 = 2,", "DRIFTWOOD_BF16 = 2, DRIFTWOOD_F8 = 3,"),
                 ("#define DRIFTWOOD_MAX_SESSIONS 64", "#define DRIFTWOOD_MAX_SESSIONS 65"),
                 ("DRIFTWOOD_IMPORT(prefill)", "DRIFTWOOD_IMPORT(compute)"),
                 ("driftwood_sleep(int64_t ns)", "driftwood_sleep(int32_t ns)"),
                 ("uint32_t lda, ldb, ldc; ", "uint32_t ldb, lda, ldc; "), ("uint32_t context;", "")]
    in_page = [("| `DRIFTWOOD_EBUSY` | 16 |", "| `DRIFTWOOD_EBUSY` | 61 |"), ("| 8 | `top_k` |", "| 12 | `top_k` |"),
               ("`driftwood_gemm`, 56 bytes", "`driftwood_gemm`, 52 bytes"), ("| `sleep` |", "| `sleep_for` |"),
               ("| `DRIFTWOOD_F16` | 1 | IEEE binary16 |\n", ""), ("(session: i64) -> i32", "(session: i32) -> i32"),
               ("| `DRIFTWOOD_MAX_LOG_BYTES` | 65536 |", "| `DRIFTWOOD_MAX_LOG_BYTES` | 65535 |")]
    missed = [f"header: {old}" for old, new in in_header
              if old not in header or not differences(header.replace(old, new, 1), page)]
    missed += [f"page: {old}" for old, new in in_page
               if old not in page or not differences(header, page.replace(old, new, 1))]
    return [f"not found when changed: {what}" for what in missed]


def main():
    header = (ROOT / "include/driftwood/guest.h").read_text()
    page = (ROOT / "docs/abi.md").read_text()
    problems = differences(header, page)
    if "--self-test" in sys.argv[1:]:
        problems = self_test(header, page)
    counts = {kind: sum(key.startswith(kind) for key in of_header(header)) for kind in ("call", "field", "number")}
    if min(counts.values()) < 15:
        problems.append(f"the header is not written as this test reads it: found only {counts}")
    print("\n".join(problems) or ", ".join(f"{count} {kind}s" for kind, count in counts.items()) + " agree")
    return 1 if problems else 0


sys.exit(main())
