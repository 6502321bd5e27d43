"""Recall, ends and loops of a trained model, measured in PyTorch on held-out names and facts.

python3 evaluate_torch.py [demo.gguf] [--each N] [--json FILE]
"""

import argparse
import json
import os
import random

import torch

import probes
from check_export import load_ours
from model import rope_tables
from tokenizer import END

MOST_TOKENS = 160


class Cache:
    """Keys and values of a batch of prompts of unequal length; row i is filled up to length[i]."""

    def __init__(self, config, rows, capacity, device, dtype):
        shape = (rows, config.kv_heads, capacity, config.head_dim)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.layer, self.length = 0, torch.zeros(rows, dtype=torch.long, device=device)

    def extend(self, _, k, v):
        """Writes [rows, heads, tokens, dim] at each row's own end; returns all keys, values and the mask."""
        n, tokens = self.layer % len(self.keys), k.shape[2]
        self.layer += 1
        at = self.length[:, None] + torch.arange(tokens, device=k.device)
        index = at[:, None, :, None].expand(-1, k.shape[1], -1, k.shape[3])
        self.keys[n].scatter_(2, index, k.to(self.keys[n].dtype))
        self.values[n].scatter_(2, index, v.to(self.values[n].dtype))
        seen = torch.arange(self.keys[n].shape[2], device=k.device)
        mask = seen[None, None, None, :] <= at[:, None, :, None]
        return self.keys[n].to(k.dtype), self.values[n].to(v.dtype), mask


@torch.no_grad()
def answer(model, config, prompts, device, dtype):
    """Greedy answers to prompts (lists of ids), each without its end token; and whether it ended."""
    rows, longest = len(prompts), max(len(p) for p in prompts)
    cos, sin = (t.to(dtype) for t in rope_tables(config, longest + MOST_TOKENS, device))
    cache = Cache(config, rows, longest + MOST_TOKENS, device, dtype)
    ids = torch.full((rows, longest), END, device=device)
    for i, prompt in enumerate(prompts):
        ids[i, : len(prompt)] = torch.tensor(prompt, device=device)
    length = torch.tensor([len(p) for p in prompts], device=device)
    hidden = model.hidden(ids, cos[:longest], sin[:longest], cache)
    token = model.logits(hidden[torch.arange(rows, device=device), length - 1]).argmax(-1)
    cache.length = length.clone()
    done = token == END
    out = [token]
    for _ in range(MOST_TOKENS - 1):
        if bool(done.all()):
            break
        c, s = cos[cache.length][:, None, None, :], sin[cache.length][:, None, None, :]
        hidden = model.hidden(token[:, None], c, s, cache)
        cache.length = cache.length + 1
        token = model.logits(hidden[:, 0]).argmax(-1)
        token = torch.where(done, END, token)
        done |= token == END
        out.append(token)
    table = torch.stack(out, 1).tolist()
    return [row[: row.index(END)] if END in row else row for row in table], done.tolist()


def loops(ids):
    """True if some run of eight tokens occurs twice."""
    grams = [tuple(ids[i : i + 8]) for i in range(len(ids) - 7)]
    return len(grams) != len(set(grams))


def score(found, table):
    """Adds one probe's result to the table of counts."""
    probe, text, ended, looped = found
    key = f"{probe.kind} {probe.distance}" if probe.kind in ("recall", "corrected") else probe.kind
    right = probe.want.lower() in text.lower() and not (probe.avoid and probe.avoid.lower() in text.lower())
    row = table.setdefault(key, {"right": 0, "count": 0})
    row["right"] += right
    row["count"] += 1
    total = table.setdefault("all", {"ended": 0, "looped": 0, "count": 0})
    total["ended"] += ended
    total["looped"] += looped
    total["count"] += 1
    return right


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gguf", nargs="?", default=os.path.join(os.path.dirname(__file__), "demo.gguf"))
    p.add_argument("--each", type=int, default=100)
    p.add_argument("--rows", type=int, default=64, help="prompts answered together")
    p.add_argument("--show", type=int, default=12, help="wrong answers to print")
    p.add_argument("--json")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = p.parse_args()
    model, config, encoder = load_ours(a.gguf)
    dtype = torch.float32
    model = model.to(a.device, dtype)
    todo = sorted(probes.probes(encoder, a.each), key=lambda probe: sum(len(text) for _, text in probe.messages))
    table, wrong = {}, []
    for at in range(0, len(todo), a.rows):
        some = todo[at : at + a.rows]
        prompts = [encoder.prompt(probe.messages) for probe in some]
        kept = [i for i, prompt in enumerate(prompts) if len(prompt) + MOST_TOKENS <= config.context]
        answers, ended = answer(model, config, [prompts[i] for i in kept], a.device, dtype)
        for i, ids, end in zip(kept, answers, ended):
            text = encoder.decode(ids)
            if not score((some[i], text, end, loops(ids)), table):
                wrong.append((some[i], text))
    for key in sorted(table):
        row = table[key]
        shares = (f"{name} {100 * value / row['count']:.1f} %" for name, value in row.items() if name != "count")
        print(key, " ".join(shares), f"of {row['count']}")
    random.Random(1).shuffle(wrong)
    for probe, text in wrong[: a.show]:
        print(f"WRONG [{probe.kind} {probe.distance}] {probe.messages[-1][1]} -> {text} (want {probe.want!r})")
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump(table, file, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
