#!/usr/bin/env python3
"""The Rust SDK says what include/driftwood/guest.h says: calls (name, parameters in order, result), error numbers, log
levels, other numbers, and the fields of structs. What only the header has is the SDK's choice; nothing may differ.

    sdk/rust/tests/abi_test.py               compares, prints what differs, exits 1 if anything does
    sdk/rust/tests/abi_test.py --self-test   changes the header in memory, and expects each change to be found
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TYPES = {"int32_t": "i32", "uint32_t": "u32", "int64_t": "i64", "uint64_t": "u64", "float": "f32", "char": "u8",
         "void": "u8", "driftwood_generate_options": "GenerateOptions", "driftwood_model_info": "ModelInfo",
         "driftwood_gemm": "Gemm", "driftwood_rows": "Rows"}
STRUCTS = {c: rust for c, rust in TYPES.items() if c.startswith("driftwood_")}


def rust_type(c):
    """The Rust spelling of `const void* out`, with its name."""
    kind, name = re.fullmatch(r"(.*?)(\w+)", c.strip()).groups()
    base = TYPES.get(re.sub(r"\bconst\b|[*\s]", "", kind), kind)
    if "*" not in kind:
        return f"{name}: {base}"
    return f"{name}: *{'const' if 'const' in kind else 'mut'} {base}"


def of_header(text):
    """Everything comparable in the header, as {key: value}."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = {}
    for name, result, parameters in re.findall(r"DRIFTWOOD_IMPORT\((\w+)\)\s*(\w+)\s+\w+\((.*?)\);", text, re.S):
        listed = [] if parameters.strip() == "void" else parameters.split(",")
        found[f"call {name}"] = f"({', '.join(map(rust_type, listed))}) -> {TYPES[result]}"
    for name, number in re.findall(r"DRIFTWOOD_(E\w+) = (\d+)", text):
        found[f"errno {name}"] = number
    for name, number in re.findall(r"DRIFTWOOD_LOG_(\w+) = (\d+)", text):
        found[f"level {name}"] = number
    for name, number in re.findall(r"DRIFTWOOD_((?!E|LOG_)\w+) = (\d+)", text):
        found[f"number {name}"] = number
    for struct, body in re.findall(r"typedef struct (\w+) \{(.*?)\}", text, re.S):
        fields = [f"{name.strip()}: {TYPES[kind]}" for kind, names in re.findall(r"(\w+)\s+([\w,\s]+);", body)
                  for name in names.split(",")]
        found[f"struct {STRUCTS[struct]}"] = ", ".join(fields)
    return found


def of_rust(sources):
    found = {}
    for name, parameters, result in re.findall(r"pub fn (\w+)\((.*?)\) -> (\w+);", sources["abi.rs"], re.S):
        found[f"call {name}"] = f"({' '.join(parameters.split()).rstrip(',')}) -> {result}"
    for name, number in re.findall(r"\b(E\w+) = (\d+);", sources["error.rs"]):
        found[f"errno {name}"] = number
    for name, number in re.findall(r"^    (\w+) = (\d+),", sources["mailbox.rs"], re.M):
        found[f"level {name.upper()}"] = number
    for name, number in re.findall(r"pub const (\w+): u32 = (\d+);", sources["abi.rs"]):
        found[f"number {name}"] = number
    for source in ("abi.rs", "session.rs"):
        structs = r"#\[repr\(C\)\]\s+#\[.*?\]\s+pub struct (\w+) \{(.*?)\n\}"
        for struct, body in re.findall(structs, sources[source], re.S):
            found[f"struct {struct}"] = ", ".join(re.findall(r"pub (\w+: \w+),", body))
    return found


def differences(header, rust):
    wanted = of_header(header)
    problems = [f"{key}: the header has {wanted.get(key, 'no such thing')}, the SDK {value}"
                for key, value in rust.items() if not same(key, wanted.get(key), value)]
    return problems


def same(key, wanted, value):
    # The header's struct may have grown; passed with its size, an older beginning of it is right.
    return wanted == value or (key.startswith("struct") and (wanted or "").startswith(value + ", "))


def self_test(header, rust):
    changes = [("DRIFTWOOD_EBUSY = 16", "DRIFTWOOD_EBUSY = 17"), ("DRIFTWOOD_LOG_WARN = 2", "DRIFTWOOD_LOG_WARN = 4"),
               ("uint32_t top_k", "uint64_t top_k"), ("int64_t stream, void* out", "void* out, int64_t stream"),
               ("DRIFTWOOD_IMPORT(prefill)", "DRIFTWOOD_IMPORT(compute)"), ("void* out, uint32_t length", "void* out"),
               ("DRIFTWOOD_BF16 = 2", "DRIFTWOOD_BF16 = 3"), ("uint32_t lda, ldb, ldc;", "uint32_t ldb, lda, ldc;")]
    missed = [old for old, new in changes if old not in header or not differences(header.replace(old, new), rust)]
    return [f"not found when changed: {old}" for old in missed]


def main():
    header = (ROOT / "include/driftwood/guest.h").read_text()
    rust = of_rust({path.name: path.read_text() for path in (ROOT / "sdk/rust/src").glob("*.rs")})
    kinds = {key.split()[0] for key in rust}
    problems = self_test(header, rust) if "--self-test" in sys.argv[1:] else differences(header, rust)
    if kinds != {"call", "errno", "level", "number", "struct"}:
        problems.append(f"the SDK's sources are not written as this test reads them: found only {sorted(kinds)}")
    print("\n".join(problems) or f"{len(rust)} things compared")
    return 1 if problems else 0


sys.exit(main())
