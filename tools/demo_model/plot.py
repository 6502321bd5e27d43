"""Draws how training went and what it led to: the loss on answers, and how often the model recalls at which distance.

    python3 plot.py [curve.json] [evaluation.json] [curve.png]
"""

import json
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULTS = ["curve.json", "evaluation_driftwood.json", "curve.png"]


def draw_loss(axes, pieces):
    for name, points in pieces.items():
        axes.plot([step for step, _ in points], [loss for _, loss in points], label=name, linewidth=1)
    axes.set_yscale("log")
    axes.set_xlabel("step of 131,072 tokens")
    axes.set_ylabel("loss on answers (nats per token)")
    axes.legend()


def draw_recall(axes, table):
    for kind in ["recall", "corrected"]:
        rows = {int(name.split()[1]): counts for name, counts in table.items() if name.startswith(f"{kind} ")}
        right = [100 * counts["right"] / counts["count"] for _, counts in sorted(rows.items())]
        axes.plot(range(len(rows)), right, marker="o", label=kind, linewidth=1)
        axes.set_xticks(range(len(rows)), [f"{distance:,}" for distance in sorted(rows)])
    axes.set_ylim(0, 102)
    axes.set_xlabel("tokens of other talk in between")
    axes.set_ylabel("right answers (%)")
    axes.legend(loc="lower left")


def main():
    names = sys.argv[1:] + [os.path.join(HERE, name) for name in DEFAULTS[len(sys.argv) - 1 :]]
    curve, evaluation, target = names
    with open(curve, encoding="utf-8") as file:
        pieces = json.load(file)
    with open(evaluation, encoding="utf-8") as file:
        table = json.load(file)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), dpi=90)
    draw_loss(left, pieces if isinstance(pieces, dict) else {"training": pieces})
    draw_recall(right, table)
    for axes in [left, right]:
        axes.grid(True, which="both", linewidth=0.3)
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main()
