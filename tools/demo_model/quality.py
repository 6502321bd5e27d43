"""What the numerics contract costs: perplexity of the demo model in float64, with each of its choices alone, and
through `driftwood`.

    python3 quality.py [demo.gguf] [--program build/release/driftwood] [--dialogues N] [--json FILE]

The decoder below is the obvious one in float64 (numpy). A choice rounds one thing as docs/numerics.md says and leaves
everything else exact. Perplexity is taken along held-out dialogues, over the positions at which the assistant speaks.
"""

import argparse
import json
import os
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import load_file

import gguf_reader
from check_export import dialogues
from tokenizer import ASSISTANT, END, Encoder

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = 2.0**-60


def in_groups(x, size, quantise):
    """quantise(values, largest magnitudes) over groups of the last axis; groups of tiny numbers become 0."""
    groups = x.reshape(*x.shape[:-1], -1, size) if x.shape[-1] % size == 0 else x[..., None, :]
    most = np.abs(groups).max(-1, keepdims=True)
    safe = np.where(most < TINY, 1.0, most)
    return np.where(most < TINY, 0.0, quantise(groups, safe)).reshape(x.shape)


def a32p(x):
    def quantise(v, most):
        scale = 2.0 ** (np.floor(np.log2(most)) - 6)
        return np.clip(np.rint(v / scale), -127, 127) * scale

    return in_groups(x, 32, quantise)


def a256(x):
    """Super-blocks of 256; a short last one by itself."""
    whole = x.shape[-1] // 256 * 256
    parts = [in_groups(part, 256, lambda v, most: np.rint(v * (127 / most)) * (most / 127))
             for part in (x[..., :whole], x[..., whole:]) if part.shape[-1]]  # fmt: skip
    return np.concatenate(parts, -1)


def a16(x):
    def quantise(v, most):
        scale = 2.0 ** (np.floor(np.log2(most)) - 14)
        scale = np.where(np.rint(most / scale) > 32639, 2 * scale, scale)
        return np.rint(v / scale) * scale

    whole = x.shape[-1] // 256 * 256
    return np.concatenate([in_groups(p, 256, quantise) for p in (x[..., :whole], x[..., whole:]) if p.shape[-1]], -1)


def rows(limit):
    """Rule 7's rows: one scale for each head and position."""
    return lambda x: in_groups(x, x.shape[-1], lambda v, most: np.rint(v * (limit / most)) * (most / limit))


def f16(x):
    return x.astype(np.float16).astype(np.float64)


def bf16(x):
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def exp_contract(x):
    """Rule 6's EXP: its polynomial and its argument reduction."""
    x = np.minimum(x, 88.0)
    n = np.rint(x * 1.44269504)
    r = x + n * -0.693145751953125 + n * -1.42860682030941723e-6
    p = np.full_like(r, 1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + c
    return np.where(x > -87, (p * r * r + r + 1) * 2.0**n, 0.0)


def exp2_contract(x):
    """Rule 7's EXP2Q and its floor."""
    x = np.maximum(x, -64.0)
    n = np.rint(x)
    p = np.full_like(x, 9.58285066e-3)
    for c in (5.59064282e-2, 2.40240987e-1, 6.93124193e-1, 1.0):
        p = p * (x - n) + c
    return p * 2.0**n


def exact(x):
    return x


class Choices:
    """What is rounded; nothing unless said."""

    def __init__(self, activations=exact, qk=exact, v=exact, exp=np.exp, exp2=np.exp2, weights=False):
        self.activations, self.qk, self.v, self.exp, self.exp2, self.weights = activations, qk, v, exp, exp2, weights


CHOICES = {
    "float64": Choices(),
    "activations A32P (8 bits)": Choices(activations=a32p),
    "activations A256 (8 bits, as Q4_K has)": Choices(activations=a256),
    "activations A16 (16 bits)": Choices(activations=a16),
    "queries, keys and values as integers": Choices(qk=rows(32767), v=rows(4095)),
    "attention weights as integers": Choices(weights=True),
    "EXP and EXP2Q": Choices(exp=exp_contract, exp2=exp2_contract),
    "all of them, 8 bits": Choices(a32p, rows(32767), rows(4095), exp_contract, exp2_contract, True),
    "all of them, 16 bits": Choices(a16, rows(32767), rows(4095), exp_contract, exp2_contract, True),
    "for comparison: activations in bf16": Choices(activations=bf16),
    "for comparison: queries, keys and values in f16": Choices(qk=f16, v=f16),
    "for comparison: queries, keys and values in bf16": Choices(qk=bf16, v=bf16),
}


def norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def turn(x, cos, sin):
    low, high = np.split(x, 2, -1)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


def attend(q, k, v, choices):
    """One head: [tokens, head size] each. Chunks of 64 keys, as far as integer weights want them."""
    tokens, size = q.shape
    scores = q @ k.T * (np.log2(np.e) / np.sqrt(size))
    scores[np.triu_indices(tokens, 1)] = -np.inf
    top = np.ceil(scores.max(-1, keepdims=True))
    if not choices.weights:
        p = np.where(np.isneginf(scores), 0.0, choices.exp2(np.where(np.isneginf(scores), 0.0, scores - top)))
        return p @ v / p.sum(-1, keepdims=True)
    scale = np.abs(v).max(-1) / 4095  # of each value's row
    integers = np.divide(v, scale[:, None], out=np.zeros_like(v), where=scale[:, None] > 0)
    out, total = np.zeros_like(q), np.zeros((tokens, 1))
    for begin in range(0, tokens, 64):
        s = scores[:, begin : begin + 64]
        seen = ~np.isneginf(s)
        m = np.ceil(np.where(seen, s, -1e9).max(-1, keepdims=True))
        p = np.where(seen, choices.exp2(np.where(seen, s - m, 0.0)), 0.0)
        w = p * scale[begin : begin + 64]
        most = w.max(-1, keepdims=True)
        unit = 2.0 ** (np.floor(np.log2(np.where(most > 0, most, 1.0))) - 12)
        be = np.where(seen.any(-1, keepdims=True), 2.0 ** np.maximum(m - top, -1000.0), 0.0)
        out += np.rint(w / unit) @ integers[begin : begin + 64] * unit * be
        total += np.rint(p * 2.0**20).sum(-1, keepdims=True) * 2.0**-20 * be
    return out / total


def logits(state, config, ids, choices):
    a = choices.activations
    half = config.head_dim // 2
    angles = np.arange(len(ids))[:, None] * config.rope_base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles), np.sin(angles)
    h = state["embed_tokens.weight"][ids]
    group = config.heads // config.kv_heads
    for n in range(config.layers):
        w = {key[len(f"layers.{n}.") :]: value for key, value in state.items() if key.startswith(f"layers.{n}.")}
        x = a(norm(h, w["input_layernorm.weight"], config.eps))
        q, k, v = (x @ w[f"self_attn.{name}_proj.weight"].T for name in "qkv")
        heads = []
        for head in range(config.heads):
            at, kv = head * config.head_dim, head // group * config.head_dim
            heads.append(attend(choices.qk(turn(q[:, at : at + config.head_dim], cos, sin)),
                                choices.qk(turn(k[:, kv : kv + config.head_dim], cos, sin)),
                                choices.v(v[:, kv : kv + config.head_dim]), choices))  # fmt: skip
        h = h + a(np.concatenate(heads, -1)) @ w["self_attn.o_proj.weight"].T
        x = a(norm(h, w["post_attention_layernorm.weight"], config.eps))
        gate, up = x @ w["mlp.gate_proj.weight"].T, x @ w["mlp.up_proj.weight"].T
        h = h + a(gate / (1 + choices.exp(-gate)) * up) @ w["mlp.down_proj.weight"].T
    return a(norm(h, state["norm.weight"], config.eps)) @ state["embed_tokens.weight"].T


def through_driftwood(program, model, ids, bits):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "logits.safetensors")
        command = [program, "logits", model, "--tokens", ",".join(map(str, ids)), "--out", out, "--activations", bits]
        subprocess.run(command, check=True, capture_output=True)
        return load_file(out)["logits"].astype(np.float64)


def losses(x, ids):
    """Negative log-likelihood of each next token where the assistant speaks."""
    x = x[:-1] - x[:-1].max(-1, keepdims=True)
    nll = np.log(np.exp(x).sum(-1)) - x[np.arange(len(ids) - 1), ids[1:]]
    speaking, inside = [], False
    for token in ids[:-1]:
        inside = token == ASSISTANT or (inside and token != END)
        speaking.append(inside)
    return nll[np.array(speaking)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gguf", nargs="?", default=os.path.join(HERE, "demo.gguf"))
    p.add_argument("--program", default=os.path.join(HERE, "../../build/release/driftwood"))
    p.add_argument("--dialogues", type=int, default=10)
    p.add_argument("--json", help="write the figures to this file")
    a = p.parse_args()
    config, state, spec, _ = gguf_reader.read(a.gguf)
    state = {name: array.astype(np.float64) for name, array in state.items()}
    texts = [np.array(Encoder(spec).prompt(m, open_answer=False)) for m in dialogues(a.dialogues)]
    computed = {name: (lambda ids, c=choices: logits(state, config, ids, c)) for name, choices in CHOICES.items()}
    for bits in ("8", "16"):
        computed[f"driftwood, {bits} bits"] = lambda ids, b=bits: through_driftwood(a.program, a.gguf, ids, b)
    table, exact_perplexity = {}, None
    for name, compute in computed.items():
        nll = np.concatenate([losses(compute(ids), ids) for ids in texts])
        perplexity = float(np.exp(nll.mean()))
        exact_perplexity = exact_perplexity or perplexity
        worse = 100 * (perplexity / exact_perplexity - 1)
        table[name] = {"perplexity": perplexity, "percent_worse": worse}
        print(f"{name:50} {perplexity:.6f}  {worse:+.4f} %  ({len(nll)} positions)", flush=True)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
