#!/usr/bin/env python3
"""A prompt's prefill beside llama.cpp, turn by turn, on machines that only static programs reach.

    bench/peers/prefill.py --parts prefill_parts --llama-bench llama-bench --model MODEL.gguf [--type q4_0]
                           [--cpus 2,3] [--rounds 3] [--engine amx]

`prefill_parts` needs nothing but itself (bench/README.md) and brings random weights in the shapes of Llama 3.2 1B; the
model for llama.cpp has the same shapes and type (`driftwood synth --like llama-3.2-1b`). Both are bound to the same
processors. What prefill_parts says of the last round, part by part, follows the table.

Where a processor is one of two threads of a core, what the other thread does is part of every number, and changes from
second to second: hence turns, and a ratio for each.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(part) for part in command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def found(pattern, text):
    match = re.search(pattern, text)
    if not match:
        sys.exit(f"want {pattern} in\n{text[-2000:]}")
    return float(match.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="build/release/prefill_parts")
    parser.add_argument("--llama-bench", default="llama-bench")
    parser.add_argument("--model", required=True)
    parser.add_argument("--type", default="q4_0")
    parser.add_argument("--engine", default="amx")
    parser.add_argument("--cpus", default=",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:2]))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    threads = len(arguments.cpus.split(","))
    bound = ["taskset", "-c", arguments.cpus]
    ratios = []
    print(f"| {arguments.type}, pp512, {threads} threads | llama.cpp tokens/s | {arguments.engine} tokens/s | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for index in range(arguments.rounds):
        llama = run([*bound, arguments.llama_bench, "-m", arguments.model, "-p", 512, "-n", 0, "-t", threads, "-r", 1,
                     "--no-warmup"])
        parts = run([*bound, arguments.parts, arguments.engine, arguments.type, threads])
        theirs = found(r"pp512 \| +([0-9.]+)", llama)
        ours = found(r"([0-9.]+) tokens/s", parts)
        ratios.append(ours / theirs)
        print(f"| round {index + 1} | {theirs:.1f} | {ours:.1f} | {ours / theirs:.2f} |", flush=True)
    print(f"| median | | | {statistics.median(ratios):.2f} |\n")
    print(parts, end="")


if __name__ == "__main__":
    main()
