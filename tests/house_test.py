#!/usr/bin/env python3
"""The rules of the house that a machine can see (ARCHITECTURE.md, CONTRIBUTING.md): which folder may include which,
where vendor headers may appear, line width, file length, a README per folder, that somebody looks at what CUDA's calls
return, that the tests which the threat model names exist, and a few words and habits.

    tests/house_test.py [ROOT]      checks the tree, prints what breaks a rule, exits 1 if anything does
    tests/house_test.py --self-test plants one violation of each rule in a temporary tree and expects each to be found
"""

import fnmatch
import re
import subprocess
import sys
import tempfile
from pathlib import Path

# The folders of src/ from bottom to top, and what each may include beside itself. What those may include is allowed
# too; nothing else is. ARCHITECTURE.md shows the same table, and this test compares the two.
ARROWS = {
    "base": [],
    "memory": ["base"],
    "file": ["memory"],
    "wasm": ["file", "memory"],
    "compute": ["memory"],
    "model": ["compute", "file"],
    "session": ["model", "compute", "memory", "file"],
    "actor": ["wasm", "session", "compute", "file"],
    "store": ["file"],
    "node": ["actor", "store"],
    "cluster": ["node", "store"],
    "http": ["node", "cluster"],
    "cli": ["node", "cluster"],
}

# Vendor headers, and the only files that may include them (* matches any number of folders too).
VENDORS = [
    (r"wasmtime\.h|wasm\.h|wasi\.h|wasmtime/.*", ["src/wasm/*", "deps/*"]),
    (r"driftwood_deps\.h", ["src/wasm/*", "src/file/*", "src/model/*", "src/session/*", "deps/*"]),
    (r".*intrin\.h|arm_(neon|sve|sme)\.h",
     ["src/compute/cpu/*", "src/base/fp_environment.h", "src/compute/*_test.cc", "src/compute/*_bench.cc"]),
    (r"cuda.*|cublas.*|nv.*\.h", ["src/compute/cuda/*", "bench/*"]),
    (r"Metal/.*|Foundation/.*|QuartzCore/.*", ["src/compute/metal/*"]),
    (r"nlohmann/.*", ["*.cc", "src/cli/*"]),
    (r"CLI/.*", ["src/cli/*"]),
    (r"spdlog/.*|fmt/.*", ["*.cc"]),
    (r"boost/.*", ["src/http/*", "src/node/*"]),
    (r"sqlite3.*\.h", ["src/store/*"]),
    (r"gtest/.*|gmock/.*", ["*_test.cc", "*test*.h"]),
]

MAX_WIDTH = 120
MAX_LINES = 500
REASON = re.compile(r"(//|#) Long because: \S+")
REASON_WITHIN = 30
WIDE_KINDS = {".cc", ".h", ".c", ".cu", ".py", ".sh", ".cmake", ".rs"}
CODE_KINDS = WIDE_KINDS | {".js", ".S"}
PROSE = ("tools/demo_model/text/",)  # training text in the shape of code: its lines are as long as its sentences
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TEST_NAME = re.compile(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", re.M)
FUZZ_NAME = re.compile(r"^\s*driftwood_fuzz\((\w+)", re.M)
NAMED_TEST = re.compile(r"`([A-Z]\w*\.\w+|fuzz\.\w+)`")
# A call of CUDA's whose result is dropped, but for those that end something and the one that only clears an error.
CUDA_DROPPED = re.compile(r"^\s*(?:for \(.*\) |if \(.*\) )?(?:::)?(cuda[A-Z]\w*)\(.*\);")
CUDA_MAY_DROP = re.compile(r"cuda(GetLastError|Free\w*|HostUnregister|\w+Destroy)$")
TABLE_ROW = re.compile(r"^\|\s*((?:`\w+/`(?:,\s*)?)+)\s*\|.*\|([^|]*)\|\s*$")


def allowed_folders(folder):
    """The folder, its arrows and theirs."""
    found, left = set(), [folder]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left.extend(ARROWS[name])
    return found


def tracked_files(root):
    """Paths relative to root: what git tracks or would track; in a tree without git, every file."""
    git = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    if git.returncode == 0:
        names = git.stdout.splitlines()
    else:
        names = [str(p.relative_to(root)) for p in Path(root).rglob("*") if p.is_file()]
    return sorted(name for name in names if (Path(root) / name).is_file())


def check_arrows(path, number, header, problems):
    """An include between folders of src/ follows the table."""
    parts = path.split("/")
    if parts[0] != "src" or len(parts) < 3 or "/" not in header:
        return
    folder, target = parts[1], header.split("/")[0]
    if target in ARROWS and folder in ARROWS and target not in allowed_folders(folder):
        allowed = ", ".join(name for name in ARROWS if name in allowed_folders(folder) - {folder}) or "nothing"
        problems.append(f'{path}:{number}: {folder}/ may not include "{header}": it may include {allowed}')


def check_includes(root, path, lines, problems):
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        if header.startswith(".."):
            problems.append(f'{path}:{number}: "{header}": include paths start at src/ or include/')
        check_arrows(path, number, header, problems)
        if quote == '"' and (Path(root) / "src" / header).is_file():
            continue
        for pattern, rooms in VENDORS:
            if re.fullmatch(pattern, header) and not any(fnmatch.fnmatchcase(path, room) for room in rooms):
                problems.append(f"{path}:{number}: <{header}> may be included only in {', '.join(rooms)}")


def check_text(path, lines, problems):
    suffix = Path(path).suffix
    for number, line in enumerate(lines, 1):
        if suffix in WIDE_KINDS and len(line) > MAX_WIDTH and not path.startswith(PROSE):
            problems.append(f"{path}:{number}: {len(line)} columns, at most {MAX_WIDTH}")
        if UNFINISHED.search(line):
            problems.append(f"{path}:{number}: a mark of unfinished work: finish it, or leave the mark out")
    if len(lines) > MAX_LINES and not any(REASON.search(line) for line in lines[:REASON_WITHIN]):
        problems.append(f"{path}: {len(lines)} lines; over {MAX_LINES} wants '// Long because: ...' near its top")


def check_cuda_calls(path, lines, problems):
    if not path.startswith("src/compute/cuda/"):
        return
    for number, line in enumerate(lines, 1):
        match = CUDA_DROPPED.match(line)
        goes_on = number > 1 and re.search(r"[=(,&|?]$|\breturn$", lines[number - 2])  # a part of the line before
        whole = line.count("(") == line.count(")") and not goes_on
        if match and whole and not CUDA_MAY_DROP.match(match.group(1)):
            problems.append(f"{path}:{number}: nobody looks at what {match.group(1)} returns")


def check_header_guard(path, lines, problems):
    # C headers that guests share (include/, deps/include/) keep #ifndef guards: not every C compiler has #pragma once.
    if path.endswith(".h") and path.startswith("src/") and "#pragma once" not in lines:
        problems.append(f"{path}: no '#pragma once'")


def check_folders(root, files, problems):
    folders = sorted({path.split("/")[1] for path in files if path.startswith("src/") and path.count("/") >= 2})
    for folder in folders:
        if folder not in ARROWS:
            problems.append(f"src/{folder}/: not in the table of folders (ARCHITECTURE.md and tests/house_test.py)")
        if not (Path(root) / "src" / folder / "README.md").is_file():
            problems.append(f"src/{folder}/: no README.md")


def architecture_table(text):
    """folder -> what its row of ARCHITECTURE.md's table says that it may include."""
    table = {}
    for line in text.splitlines():
        match = TABLE_ROW.match(line)
        if match and match.group(1).strip() != "`src/`":  # the table's head
            for folder in re.findall(r"`(\w+)/`", match.group(1)):
                table[folder] = re.findall(r"\w+", match.group(2).replace("`", ""))
    return table


def check_architecture(root, problems):
    page = Path(root) / "ARCHITECTURE.md"
    table = architecture_table(page.read_text(encoding="utf-8")) if page.is_file() else {}
    if list(table) != list(ARROWS):
        problems.append(f"ARCHITECTURE.md: its table names {list(table)}, tests/house_test.py {list(ARROWS)}")
    for folder in set(table) & set(ARROWS):
        if table[folder] != ARROWS[folder]:
            problems.append(f"ARCHITECTURE.md: {folder}/ may include {table[folder]} there, "
                            f"{ARROWS[folder]} in tests/house_test.py")


def check_threat_model(root, files, problems):
    """Every test that docs/threat-model.md names, as `Suite.test` or `fuzz.target`, exists."""
    page = Path(root) / "docs/threat-model.md"
    if not page.is_file():
        return
    known = set()
    for path in files:
        text = (Path(root) / path).read_text(encoding="utf-8") if path.endswith(("_test.cc", "CMakeLists.txt")) else ""
        known.update(f"{suite}.{name}" for suite, name in TEST_NAME.findall(text))
        known.update(f"fuzz.{name}" for name in FUZZ_NAME.findall(text))
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        for name in NAMED_TEST.findall(line):
            if name not in known:
                problems.append(f"docs/threat-model.md:{number}: there is no test {name}")


def check(root):
    """All broken rules of the tree, as lines to print."""
    problems = []
    files = tracked_files(root)
    for path in files:
        if Path(path).suffix not in CODE_KINDS and Path(path).name not in ("CMakeLists.txt", "Makefile"):
            continue
        lines = (Path(root) / path).read_text(encoding="utf-8").splitlines()
        check_text(path, lines, problems)
        check_includes(root, path, lines, problems)
        check_cuda_calls(path, lines, problems)
        check_header_guard(path, lines, problems)
        if path.endswith("_test.cc") and not re.search(r"\b(EXPECT|ASSERT)_[A-Z]", "\n".join(lines)):
            problems.append(f"{path}: a test that asserts nothing")
    check_folders(root, files, problems)
    check_architecture(root, problems)
    check_threat_model(root, files, problems)
    return problems


# ---- The test of the test: a small good house, and for each rule a change that breaks it.


def good_house():
    rows = "\n".join(f"| `{folder}/` | holds | {', '.join(arrows)} |" for folder, arrows in ARROWS.items())
    house = {"ARCHITECTURE.md": "| `src/` | holds | may include |\n|---|---|---|\n" + rows + "\n"}
    for folder in ("base", "memory", "wasm", "model", "compute", "session", "cli"):
        house[f"src/{folder}/README.md"] = "# A folder\n"
        house[f"src/{folder}/a.h"] = "#pragma once\n"
    house["src/wasm/a.cc"] = '#include <wasmtime.h>\n#include "base/a.h"\n#include "wasm/a.h"\n'
    house["src/memory/a_test.cc"] = '#include "base/a.h"\nTEST(A, b) { EXPECT_EQ(1, 1); }\n'
    house["src/memory/CMakeLists.txt"] = "driftwood_fuzz(bytes bytes_fuzz.cc)\n"
    house["docs/threat-model.md"] = "| safe | `A.b`, `fuzz.bytes` |\n"
    house["src/compute/cuda/a.cu"] = ("void f() {\n    cudaStreamDestroy(s);\n    cudaGetLastError();\n"
                                      "    DW_TRY(check(\n        cudaMalloc(&p, 1)));\n"
                                      "    const cudaError_t made =\n        cudaMalloc(&p, 1);\n}\n")
    house["src/model/a.cc"] = "#include <nlohmann/json.hpp>\n"
    house["src/base/long.cc"] = "// Long because: a table.\n" + "int x;\n" * MAX_LINES
    house["tools/demo_model/text/long.py"] = "#" * (MAX_WIDTH + 1) + "\n"
    house["src/base/wide.cc"] = "// " + "\u00e9" * (MAX_WIDTH - 3) + "\n"
    return house


def bad_changes(house):
    """(what must be said, path, text of that file or None to remove it)"""
    page = house["ARCHITECTURE.md"]
    return [
        ('base/ may not include "memory/a.h"', "src/base/b.cc", '#include "memory/a.h"\n'),
        ('wasm/ may not include "session/a.h"', "src/wasm/b.h", '#pragma once\n#include "session/a.h"\n'),
        ('compute/ may not include "model/a.h"', "src/compute/cpu/b.cc", '  #  include "model/a.h"\n'),
        ('session/ may not include "wasm/a.h"', "src/session/b.cc", "#include <wasm/a.h>\n"),
        ("include paths start at src/", "src/cli/b.cc", '#include "../base/a.h"\n'),
        ("<wasmtime.h> may be included only", "src/session/b.cc", "#include <wasmtime.h>\n"),
        ("<driftwood_deps.h> may be included only", "src/cli/b.cc", '#include "driftwood_deps.h"\n'),
        ("<immintrin.h> may be included only", "src/compute/reference/b.cc", "#include <immintrin.h>\n"),
        ("<nlohmann/json.hpp> may be included only", "src/model/b.h", "#pragma once\n#include <nlohmann/json.hpp>\n"),
        ("<gtest/gtest.h> may be included only", "src/base/b.cc", "#include <gtest/gtest.h>\n"),
        ("<CLI/CLI.hpp> may be included only", "src/session/b.cc", "#include <CLI/CLI.hpp>\n"),
        ("121 columns", "src/base/b.py", "#" * (MAX_WIDTH + 1) + "\n"),
        ("501 lines", "src/base/b.cc", "int x;\n" * (MAX_LINES + 1)),
        ("no '#pragma once'", "src/base/b.h", "int x;\n"),
        ("asserts nothing", "src/base/b_test.cc", "TEST(A, b) { f(); }\n"),
        ("unfinished work", "src/base/b.cc", "// TO" + "DO: later\n"),
        ("nobody looks at what cudaMemcpyAsync returns", "src/compute/cuda/b.cu", "    cudaMemcpyAsync(a, b, f(c));\n"),
        ("nobody looks at what cudaGetDevice returns", "src/compute/cuda/b.h",
         "#pragma once\n    if (x) cudaGetDevice(&d);  // odd\n"),
        ("src/base/: no README.md", "src/base/README.md", None),
        ("src/attic/: not in the table", "src/attic/README.md", "# attic\n"),
        ("there is no test A.c", "docs/threat-model.md", "| safe | `A.b`, `A.c` |\n"),
        ("there is no test fuzz.all", "docs/threat-model.md", "| safe | `fuzz.all` |\n"),
        ("its table names", "ARCHITECTURE.md", "nothing\n"),
        ("ARCHITECTURE.md: file/ may include", "ARCHITECTURE.md", page.replace("| memory |", "| base |", 1)),
    ]


def problems_of(house):
    with tempfile.TemporaryDirectory() as root:
        for path, text in house.items():
            (Path(root) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / path).write_text(text, encoding="utf-8")
        return check(root)


def self_test():
    failures = []
    house = good_house()
    if problems_of(house):
        failures.append(f"a good house is found bad: {problems_of(house)}")
    for said, path, text in bad_changes(house):
        changed = {name: body for name, body in house.items() if name != path}
        if text is not None:
            changed[path] = text
        found = problems_of(changed)
        if len(found) != 1 or said not in found[0]:
            failures.append(f"{path} with {text!r:.80}: expected one problem that says {said!r}, found {found}")
    return failures


def main(arguments):
    if arguments == ["--self-test"]:
        problems = self_test()
    else:
        problems = check(arguments[0] if arguments else str(Path(__file__).resolve().parent.parent))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
