#!/usr/bin/env python3
"""Driftwood beside llama.cpp: the same GGUF file, the same threads, the same depth, turn by turn in one run.

    bench/peers/compare.py                       everything: builds what is missing, then measures (some minutes)
    bench/peers/compare.py --build-only          llama.cpp alone, into ~/.cache/driftwood/peers
    bench/peers/compare.py --quants q8_0 --tests pp512,tg64,pp4096,tg32@8192 --rounds 5 --json out.json

llama.cpp comes from the source package llama-cpp-python on PyPI (the hash is checked), built in release for this very
processor. Models are random weights from `driftwood synth`: speed does not depend on what a model has learned.

A test is what both programs call it (pp512, tg64), with @DEPTH for tokens that are there before. Each round runs every
test on one program, then on the other; the table shows medians over the rounds, and their ratio. What else runs on the
machine slows both, but never alike: read ratios from an otherwise idle machine.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
ROOT = Path(__file__).resolve().parents[2]
CMAKE_FLAGS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_OPENSSL=OFF",
]
TOOLS = ["llama-bench", "llama-quantize"]


def cache_directory():
    own = os.environ.get("DRIFTWOOD_CACHE")
    return Path(own or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftwood")


def run(command, **options):
    print("+ " + " ".join(str(part) for part in command), file=sys.stderr)
    return subprocess.run([str(part) for part in command], check=True, **options)


def build_llama(peers, jobs):
    """The folder with llama.cpp's programs; downloads and builds them when they are not there."""
    programs = peers / "build" / "bin"
    if all((programs / tool).exists() for tool in TOOLS):
        return programs
    peers.mkdir(parents=True, exist_ok=True)
    archive = peers / f"llama_cpp_python-{VERSION}.tar.gz"
    if not archive.exists():
        run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "-d", peers,
             f"{PACKAGE}=={VERSION}"], stdout=sys.stderr)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{archive}: want sha256 {SHA256}, got {found}; remove the file and try again")
    source = peers / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"
    if not (source / "CMakeLists.txt").exists():
        with tarfile.open(archive) as packed:
            packed.extractall(peers)
    run(["cmake", "-S", source, "-B", peers / "build", *CMAKE_FLAGS], stdout=sys.stderr)
    run(["cmake", "--build", peers / "build", "-j", jobs, "--target", *TOOLS], stdout=sys.stderr)
    return programs


def make_model(driftwood, like, quant):
    path = cache_directory() / "models" / f"synth-{like}-{quant}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run([driftwood, "synth", path, "--like", like, "--quant", quant], stdout=sys.stderr)
    return path


def parse_test(text):
    """pp512@1024 -> ("pp", 512, 1024)"""
    name, _, depth = text.partition("@")
    if name[:2] not in ("pp", "tg") or not name[2:].isdigit() or not (depth or "0").isdigit():
        sys.exit(f"--tests: '{text}': want ppN, tgN, ppN@DEPTH or tgN@DEPTH")
    return name[:2], int(name[2:]), int(depth or 0)


def flags_of(test):
    kind, count, depth = test
    return ["-p", count if kind == "pp" else 0, "-n", count if kind == "tg" else 0, "-d", depth]


def measure(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(p) for p in command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)[0]


def compare(arguments, programs):
    rows = []
    tests = [parse_test(text) for text in arguments.tests.split(",")]
    for quant in arguments.quants.split(","):
        model = make_model(arguments.driftwood, arguments.like, quant)
        samples = {test: {"llama.cpp": [], "driftwood": []} for test in tests}
        notes = {}
        for _ in range(arguments.rounds):
            for test in tests:
                common = ["-m", model, "-t", arguments.threads, "-r", 1, "-o", "json", *flags_of(test)]
                samples[test]["llama.cpp"].append(measure([programs / "llama-bench", *common])["avg_ts"])
                ours = measure([arguments.driftwood, "bench", *common])
                samples[test]["driftwood"].append(ours["avg_ts"])
                notes.setdefault(test, []).append(ours)
        for test in tests:
            theirs, ours = (statistics.median(samples[test][who]) for who in ("llama.cpp", "driftwood"))
            rows.append({
                "quant": quant,
                "test": f"{test[0]}{test[1]}" + (f" @ d{test[2]}" if test[2] else ""),
                "llama_cpp_ts": theirs,
                "driftwood_ts": ours,
                "ratio": ours / theirs,
                "bandwidth_share": statistics.median(n["bandwidth_share"] for n in notes[test]),
                "multiply_adds_share": statistics.median(n["multiply_adds_share"] for n in notes[test]),
                "peak_bytes_per_s": statistics.median(n["peak_bytes_per_s"] for n in notes[test]),
                "samples": samples[test],
            })
            print_row(rows[-1])
    return rows


def print_row(row):
    samples = " ".join(f"{ours / theirs:.2f}" for ours, theirs in
                       zip(row["samples"]["driftwood"], row["samples"]["llama.cpp"]))
    print(f"| {row['quant']:6} | {row['test']:15} | {row['llama_cpp_ts']:13.2f} | {row['driftwood_ts']:13.2f} "
          f"| {row['ratio']:5.2f} | {100 * row['bandwidth_share']:11.0f} | {100 * row['multiply_adds_share']:11.0f} "
          f"| {samples} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driftwood", type=Path, default=ROOT / "build/release/driftwood", help="the program")
    parser.add_argument("--like", default="llama-3.2-1b", help="shapes, as `driftwood synth` knows them")
    parser.add_argument("--quants", default="q8_0,q4_0,q4_k")
    parser.add_argument("--tests", default="pp512,tg64,tg64@1024", help="add pp4096,tg32@8192 where there is time")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-j", "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="of the build")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    parser.add_argument("--build-only", action="store_true")
    arguments = parser.parse_args()
    programs = build_llama(cache_directory() / "peers", arguments.jobs)
    if arguments.build_only:
        return
    if not arguments.driftwood.exists():
        sys.exit(f"{arguments.driftwood}: not there; run `make build` first, or name the program with --driftwood")
    head = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor(),
        "threads": arguments.threads,
        "like": arguments.like,
        "peer": f"llama.cpp of {PACKAGE} {VERSION}",
        "load_before": os.getloadavg()[0],
    }
    print(" · ".join(f"{key} {value}" for key, value in head.items()) + "\n")
    print("| quant  | test            | llama.cpp t/s | driftwood t/s | ratio | % bandwidth | % int8 peak | ratios |")
    print("| ------ | --------------- | ------------: | ------------: | ----: | ----------: | ----------: | ------ |")
    rows = compare(arguments, programs)
    if arguments.json:
        arguments.json.write_text(json.dumps({**head, "rows": rows}, indent=2) + "\n")


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
