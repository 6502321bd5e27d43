"""Checks `driftwood` against transformers on the same file: greedy tokens along held-out dialogues.

    python3 check_driftwood.py [demo.gguf] [--program build/release/driftwood] [--dialogues N] [--activations 8|16]

Driftwood quantises activations and keys as its numerics contract says and transformers calculates in float32, so logits
differ a little. Without --activations it does what the model file asks for. Wanted: the same greedy token at 99 % of
all positions, and wherever the first two logits of transformers are more than 0.1 apart. Counted apart: the positions
at which the assistant speaks, which are the ones the model was trained for; what a user says next is anyone's guess,
and its margins are small.
"""

import argparse
import os
import subprocess
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import gguf_reader
from check_export import dialogues
from tokenizer import ASSISTANT, END, Encoder

HERE = os.path.dirname(os.path.abspath(__file__))


def driftwood_logits(program, model, ids, options):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits.safetensors")
        tokens = ",".join(map(str, ids))
        command = [program, "logits", model, "--tokens", tokens, "--out", out, *options]
        subprocess.run(command, check=True, capture_output=True)
        return load_file(out)["logits"]


def speaking(ids):
    """True where the next token is the assistant's: from its mark up to the last token before its end."""
    out, inside = [], False
    for token in ids:
        inside = token == ASSISTANT or (inside and token != END)
        out.append(inside)
    return torch.tensor(out)


class Count:
    """Positions, those with the same greedy token, and the margins at the others."""

    def __init__(self):
        self.positions, self.same, self.margins = 0, 0, []

    def add(self, equal, margin):
        self.positions += len(equal)
        self.same += int(equal.sum())
        self.margins += margin[~equal].tolist()

    def clear(self):
        return sum(margin > 0.1 for margin in self.margins)

    def __str__(self):
        return (f"the same greedy token at {self.same} of {self.positions} positions "
                f"({100 * self.same / self.positions:.2f} %), {self.clear()} differences with a margin over 0.1, "
                f"largest margin of a difference {max(self.margins, default=0):.3f}")  # fmt: skip


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gguf", nargs="?", default=os.path.join(HERE, "demo.gguf"))
    p.add_argument("--program", default=os.path.join(HERE, "../../build/release/driftwood"))
    p.add_argument("--dialogues", type=int, default=5)
    p.add_argument("--activations", choices=["8", "16"], help="bits, instead of what the file asks for")
    a = p.parse_args()
    options = ["--activations", a.activations] if a.activations else []
    config, _, spec, _ = gguf_reader.read(a.gguf)
    encoder = Encoder(spec)
    folder, name = os.path.split(os.path.abspath(a.gguf))
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    everywhere, answers = Count(), Count()
    worst, squares = 0.0, 0.0
    for messages in dialogues(a.dialogues):
        ids = encoder.prompt(messages, open_answer=False)
        y = theirs(torch.tensor([ids])).logits[0]
        x = driftwood_logits(a.program, a.gguf, ids, options)
        assert x.shape == y.shape == (len(ids), config.vocab_size), f"shapes {tuple(x.shape)} and {tuple(y.shape)}"
        top = y.topk(2, dim=-1).values
        equal, margin, said = x.argmax(-1) == y.argmax(-1), top[:, 0] - top[:, 1], speaking(ids)
        everywhere.add(equal, margin)
        answers.add(equal[said], margin[said])
        worst = max(worst, float((x - y).abs().max()))
        squares += float((x - y).square().mean()) * len(ids)
    print(f"everywhere: {everywhere}")
    print(f"answers:    {answers}")
    print(f"logits differ by {(squares / everywhere.positions) ** 0.5:.3f} rms, {worst:.3f} at most")
    if everywhere.clear() or everywhere.same < 0.99 * everywhere.positions:
        raise SystemExit("[check_driftwood] driftwood and transformers disagree more than wanted")


if __name__ == "__main__":
    main()
