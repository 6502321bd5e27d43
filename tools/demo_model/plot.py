"""Draws the loss curve of curve.json: python3 plot.py [curve.json] [curve.png]."""

import json
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "curve.json")
    target = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "curve.png")
    with open(source, encoding="utf-8") as file:
        pieces = json.load(file)
    if isinstance(pieces, list):
        pieces = {"training": pieces}
    figure, axes = plt.subplots(figsize=(6, 3), dpi=90)
    for name, points in pieces.items():
        axes.plot([step for step, _ in points], [loss for _, loss in points], label=name, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("step of 131,072 tokens")
    axes.set_ylabel("loss on answers (nats per token)")
    axes.grid(True, which="both", linewidth=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main()
