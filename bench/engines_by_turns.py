#!/usr/bin/env python3
"""A conversation that changes engines by its image, against the same one that stays: every tensor compared.

    bench/engines_by_turns.py [--engines avx512,cuda] [--model FILE] [--activations 8]

Two actors hear the same messages. One is frozen after each and thawed by the next engine in turn, the other always by
the first. After each message all tensors of the two images are compared, but for `actor.state`, which holds the clock,
and the hashes, which cover it. Exit code 0 only if nothing else differs and every thaw went on from the image's KV.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MESSAGES = [
    "Hello! My name is Ada and my cat is called Biscuit.",
    "My brother Tom lives in Oslo.",
    "Tell me a story about my cat.",
    "What is my cat called, and where does Tom live?",
]
WITH_CLOCK = ("actor.state", "image.hashes")


def tensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    return {
        name: bytes(body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__" and name not in WITH_CLOCK and not name.startswith("__pad")
    }


def talk(arguments, engine, message, before, after):
    """One message in a process of its own; returns what was answered. Raises when KV had to be computed again."""
    start = ["run", arguments.model] if before is None else ["thaw", before, "--model", arguments.model]
    command = [arguments.driftwood, *start, "--isa", engine, "--say", message, "--freeze", after]
    if arguments.activations:
        command += ["--activations", str(arguments.activations)]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{engine}: {done.stderr.strip()}")
    if before is not None and " 0 to prefill again" not in done.stderr:
        sys.exit(f"{engine}: did not go on from the image's KV: {done.stderr.strip()}")
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driftwood", type=Path, default=ROOT / "build/release/driftwood", help="the program")
    parser.add_argument("--engines", default="avx512,cuda", help="in turn; the first is also the one that stays")
    parser.add_argument("--model", default="demo", help="GGUF file, or demo")
    parser.add_argument("--activations", type=int, choices=(8, 16), help="bits (default: as the model file asks)")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",")
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        wandering = staying = None
        for turn, message in enumerate(MESSAGES):
            engine = engines[turn % len(engines)]
            next_wandering, next_staying = Path(folder, f"w{turn}.actor"), Path(folder, f"s{turn}.actor")
            answer = talk(arguments, engine, message, wandering, next_wandering)
            talk(arguments, engines[0], message, staying, next_staying)
            wandering, staying = next_wandering, next_staying
            ours, theirs = tensors(wandering), tensors(staying)
            print(f"{engine}: {answer}")
            for name in sorted(ours.keys() | theirs.keys()):
                same = ours.get(name) == theirs.get(name)
                differing += not same
                print(f"    {name:<24} {len(ours.get(name, b'')):>9} bytes  {'same' if same else 'DIFFERENT'}")
    print(f"tensors that differ: {differing}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
