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
            probes.count_end(end, probes.loops(ids), table)
            if not probes.score(some[i], text, table):
                wrong.append((some[i], text))
    print(probes.report(table))
    random.Random(1).shuffle(wrong)
    for probe, text in wrong[: a.show]:
        print(f"WRONG {probes.complaint(probe, text)}")
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump(table, file, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
