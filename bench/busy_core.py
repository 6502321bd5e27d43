#!/usr/bin/env python3
"""What a core costs that another process takes: decode alone and beside busy loops, turn by turn in one run.

    bench/busy_core.py [--busy 1] [--rounds 5] [--model FILE] [--json OUT]

With as many threads as cores and B busy loops, the scheduler leaves threads / (threads + B) of the cores to the
decoder: that is its fair share, and 1.00 in the last column means that it got what that share is worth. A runtime whose
threads spin until the slowest of them arrives falls far below. llama.cpp is shown too when bench/peers/compare.py has
built it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
import compare  # noqa: E402

BUSY = [sys.executable, "-c", "while True: pass"]


def tokens_per_second(command, busy):
    loops = [subprocess.Popen(BUSY) for _ in range(busy)]
    try:
        return compare.measure(command)["avg_ts"]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driftwood", type=Path, default=compare.ROOT / "build/release/driftwood", help="the program")
    parser.add_argument("--model", type=Path, help="GGUF file (default: a random one of Llama-3.2-1B's shapes)")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-n", "--n-gen", type=int, default=32)
    parser.add_argument("--busy", type=int, default=1, help="busy loops")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    model = arguments.model or compare.make_model(arguments.driftwood, "llama-3.2-1b", "q8_0")
    flags = ["-m", model, "-p", 0, "-n", arguments.n_gen, "-t", arguments.threads, "-r", 1, "-o", "json"]
    programs = {"driftwood": [arguments.driftwood, "bench", *flags]}
    llama = compare.cache_directory() / "peers/build/bin/llama-bench"
    if llama.exists():
        programs["llama.cpp"] = [llama, *flags]
    samples = {(name, busy): [] for name in programs for busy in (0, arguments.busy)}
    for _ in range(arguments.rounds):
        for name, busy in samples:
            samples[name, busy].append(tokens_per_second(programs[name], busy))
    share = arguments.threads / (arguments.threads + arguments.busy)
    loops = f"{arguments.busy} busy loop(s)"
    print(f"{compare.processor()}, {arguments.threads} threads, {loops}; decode, tokens/s, medians\n")
    print("| program   |  alone | beside | of it | of its fair share |")
    print("| --------- | -----: | -----: | ----: | ----------------: |")
    rows = []
    for name in programs:
        alone, beside = (statistics.median(samples[name, busy]) for busy in (0, arguments.busy))
        rows.append({"program": name, "alone_ts": alone, "beside_ts": beside, "of_fair_share": beside / alone / share})
        print(f"| {name:9} | {alone:6.2f} | {beside:6.2f} | {beside / alone:5.2f} | {beside / alone / share:17.2f} |")
    if arguments.json:
        found = {"threads": arguments.threads, "busy": arguments.busy, "rows": rows}
        arguments.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
