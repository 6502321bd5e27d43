#!/usr/bin/env python3
"""The speed table of the CPU engine in one run: everything that has a goal, turn by turn, medians and ratios.

    bench/speed_table.py [--rounds 3] [--quants q8_0,q4_0,q4_k] [--json OUT]      about ten minutes on two cores

Decode at a depth of 1,024 and prefill of 512 tokens beside llama.cpp (built by peers/compare.py, which has its own
page of options); prefill of 4,096 tokens beside 512; decode at 8,192 tokens of context beside what its bytes cost; a
step of 8 conversations beside one; decode beside a busy loop. Models have the shapes of Llama 3.2 1B and random
weights. A round runs everything once, so that what else the machine does meets all alike; read the table from an
otherwise idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
import busy_core  # noqa: E402
import compare  # noqa: E402

LIKE = "llama-3.2-1b"
DECODE, PREFILL = ("tg", 32, 1024), ("pp", 512, 0)
LONG_PREFILL, DEEP_DECODE = ("pp", 4096, 0), ("tg", 16, 8192)
SESSIONS = 8


def name(test):
    return f"{test[0]}{test[1]}" + (f" @ d{test[2]}" if test[2] else "")


class Samples:
    """What was measured, by key, one value a round; `json` lines of driftwood bench or tokens per second."""

    def __init__(self):
        self.values = {}

    def add(self, key, value):
        self.values.setdefault(key, []).append(value)

    def median(self, key, field=None):
        values = self.values[key]
        return statistics.median(value if field is None else value[field] for value in values)


class Table:
    def __init__(self):
        self.rows = []
        print("| what | quant | result | ratio | goal | met |\n| ---- | ----- | ------ | ----: | ---: | --- |")

    def row(self, what, quant, result, ratio, goal, at_least, bandwidth_share=None):
        met = ratio >= goal if at_least else ratio <= goal
        bound = f"{'≥' if at_least else '≤'} {goal}"
        if bandwidth_share is not None:  # nobody reads faster than memory is
            met = met or bandwidth_share >= 0.9
            bound += " or 90 %"
        print(f"| {what} | {quant} | {result} | {ratio:.2f} | {bound} | {'yes' if met else 'no'} |", flush=True)
        self.rows.append({"what": what, "quant": quant, "result": result, "ratio": ratio, "goal": bound, "met": met})


def run_bench(arguments, model, test, sessions="1"):
    """All lines of one `driftwood bench`."""
    command = [arguments.driftwood, "bench", "-m", model, "-t", arguments.threads, "-r", 1, "-o", "json", "--sessions",
               sessions, *compare.flags_of(test)]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(part) for part in command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure_quant(arguments, llama, model, quant, samples):
    for test in (DECODE, PREFILL):
        theirs = [llama, "-m", model, "-t", arguments.threads, "-r", 1, "-o", "json", *compare.flags_of(test)]
        samples.add((quant, test, "llama.cpp"), compare.measure(theirs)["avg_ts"])
        if test == PREFILL:
            samples.add((quant, test), run_bench(arguments, model, test)[0])
            continue
        one, many = run_bench(arguments, model, test, f"1-{SESSIONS}*{SESSIONS}")
        samples.add((quant, test), one)
        samples.add((quant, test, "sessions"), many)


def measure_first_quant(arguments, llama, model, quant, samples):
    samples.add((quant, LONG_PREFILL), run_bench(arguments, model, LONG_PREFILL)[0])
    for test in (DECODE, DEEP_DECODE):  # one after the other: a neighbour may change what memory gives
        samples.add((quant, test, "deep"), run_bench(arguments, model, test)[0])
    flags = ["-m", model, "-p", 0, "-n", 32, "-t", arguments.threads, "-r", 1, "-o", "json"]
    for program, command in (("driftwood", [arguments.driftwood, "bench", *flags]), ("llama.cpp", [llama, *flags])):
        for busy in (0, 1):
            samples.add((program, "busy", busy), busy_core.tokens_per_second(command, busy))


def report_quant(table, quant, samples, prefill_goal):
    for test, goal in ((DECODE, 1.3), (PREFILL, prefill_goal)):
        ours, theirs = samples.median((quant, test), "avg_ts"), samples.median((quant, test, "llama.cpp"))
        share = samples.median((quant, test), "bandwidth_share")
        result = f"{ours:.1f} tokens/s, llama.cpp {theirs:.1f}"
        result += f", {100 * share:.0f} % of the bandwidth" if test == DECODE else ""
        table.row(f"{name(test)} beside llama.cpp", quant, result, ours / theirs, goal, True,
                  share if test == DECODE else None)
    one = 1000 / samples.median((quant, DECODE), "avg_ts")
    many = 1000 * SESSIONS / samples.median((quant, DECODE, "sessions"), "avg_ts")
    result = f"{many:.1f} ms, one {one:.1f} ms"
    table.row(f"a step of {SESSIONS} sessions at {DECODE[2]}, in steps of one", quant, result, many / one, 2.0, False)


def report_first_quant(arguments, table, quant, samples):
    short, long = samples.median((quant, PREFILL), "avg_ts"), samples.median((quant, LONG_PREFILL), "avg_ts")
    result = f"{long:.1f} and {short:.1f} tokens/s"
    table.row(f"{name(LONG_PREFILL)} beside {name(PREFILL)}", quant, result, long / short, 0.6, True)
    # Bytes per token follow from what the program says it read in a second.
    near, deep = (tuple(samples.median((quant, test, "deep"), field) for field in ("bytes_per_s", "avg_ts"))
                  for test in (DECODE, DEEP_DECODE))
    result = f"{1000 / deep[1]:.1f} and {1000 / near[1]:.1f} ms, {deep[0] / 1e9:.1f} and {near[0] / 1e9:.1f} GB/s"
    table.row(f"{name(DEEP_DECODE)} beside what its bytes cost at {DECODE[2]}", quant, result, near[0] / deep[0], 1.3,
              False)
    extra_bytes, extra_s = deep[0] / deep[1] - near[0] / near[1], 1 / deep[1] - 1 / near[1]
    peak = samples.median((quant, DEEP_DECODE, "deep"), "peak_bytes_per_s")
    result = f"{extra_bytes / 1e6:.0f} MB in {extra_s * 1e3:.1f} ms, a plain read {peak / 1e9:.1f} GB/s"
    ratio = extra_s * peak / extra_bytes if extra_s > 0 else float("nan")  # nan: memory became faster in between
    table.row("the keys and values between, beside a plain read", quant, result, ratio, 1.3, False)
    share = arguments.threads / (arguments.threads + 1)
    for program in ("driftwood", "llama.cpp"):
        alone, beside = (samples.median((program, "busy", busy)) for busy in (0, 1))
        result = f"{program}: {beside:.1f} tokens/s, alone {alone:.1f}"
        table.row("decode beside a busy loop, of its fair share", quant, result, beside / alone / share, 0.9, True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driftwood", type=Path, default=compare.ROOT / "build/release/driftwood", help="the program")
    parser.add_argument("--quants", default="q8_0,q4_0,q4_k", help="what is measured once is, with the first of them")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    llama = compare.build_llama(compare.cache_directory() / "peers", arguments.threads) / "llama-bench"
    quants = arguments.quants.split(",")
    models = {quant: compare.make_model(arguments.driftwood, LIKE, quant) for quant in quants}
    head = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "processor": compare.processor(),
            "threads": arguments.threads, "rounds": arguments.rounds, "load_before": os.getloadavg()[0],
            "peer": f"llama.cpp of {compare.PACKAGE} {compare.VERSION}"}
    print(" · ".join(f"{key} {value}" for key, value in head.items()) + "\n", flush=True)
    samples = Samples()
    for _ in range(arguments.rounds):
        for quant in quants:
            measure_quant(arguments, llama, models[quant], quant, samples)
        measure_first_quant(arguments, llama, models[quants[0]], quants[0], samples)
    table = Table()
    amx = samples.values[quants[0], PREFILL][0]["isa"] == "amx"
    for quant in quants:
        report_quant(table, quant, samples, 4.5 if amx else 2.2)
    report_first_quant(arguments, table, quants[0], samples)
    if arguments.json:
        kept = {" ".join(str(part) for part in key): values for key, values in samples.values.items()}
        arguments.json.write_text(json.dumps({**head, "rows": table.rows, "samples": kept}, indent=2) + "\n")


if __name__ == "__main__":
    main()
