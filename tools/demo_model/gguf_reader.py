"""Reads back what gguf_file.py writes: metadata, tokenizer and weights of our own model file."""

import json
import struct

import numpy as np

import gguf_file as g
from model import Config

_PLAIN = {g.U32: "<I", g.I32: "<i", g.F32: "<f", g.BOOL: "<?"}


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return values[0] if len(values) == 1 else values

    def string(self):
        size = self.take("<Q")
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value(self, kind):
        if kind == g.STRING:
            return self.string()
        if kind == g.ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(_PLAIN[kind])


def _halves(weights, heads):
    """The inverse of interleave_heads."""
    rows, cols = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def _our_name(name):
    if name.startswith("blk."):
        _, n, part, _ = name.split(".")
        return f"layers.{n}.{_NAMES[part]}.weight"
    return {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}[name]


def read(path):
    """(config, state of f32 arrays in our names, tokenizer.json as a dict, metadata)."""
    with open(path, "rb") as file:
        data = file.read()
    r = _Reader(data)
    magic, version, tensor_count, pair_count = r.take("<4sIQQ")
    if magic != b"GGUF" or version != 3:
        raise ValueError(f"[gguf_reader] {path}: not a GGUF v3 file")
    meta = {}
    for _ in range(pair_count):
        key = r.string()
        meta[key] = r.value(r.take("<I"))
    entries = []
    for _ in range(tensor_count):
        name, dims = r.string(), r.take("<I")
        shape = [r.take("<Q") for _ in range(dims)][::-1]
        entries.append((name, shape, r.take("<I"), r.take("<Q")))
    base = -(-r.at // g.ALIGNMENT) * g.ALIGNMENT
    config = Config(
        vocab_size=meta["llama.vocab_size"], width=meta["llama.embedding_length"], layers=meta["llama.block_count"],
        heads=meta["llama.attention.head_count"], kv_heads=meta["llama.attention.head_count_kv"],
        ffn=meta["llama.feed_forward_length"], context=meta["llama.context_length"],
        rope_base=meta["llama.rope.freq_base"], eps=meta["llama.attention.layer_norm_rms_epsilon"],
    )  # fmt: skip
    state = {}
    for name, shape, kind, offset in entries:
        count, at = int(np.prod(shape)), base + offset
        if kind == g.GGML_Q8_0:
            array = g.dequantize_q8_0(data[at : at + count // 32 * 34], shape)
        else:
            form = "<f4" if kind == g.GGML_F32 else "<f2"
            array = np.frombuffer(data, form, count, at).astype(np.float32).reshape(shape)
        if ".attn_q." in name or ".attn_k." in name:
            array = _halves(array, config.heads if ".attn_q." in name else config.kv_heads)
        state[_our_name(name)] = array
    return config, state, _tokenizer(meta), meta


def _tokenizer(meta):
    """tokenizer.json, from the vocabulary and merges in the file."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    added = [
        {
            "id": i,
            "content": t,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, t in enumerate(tokens)
        if types[i] == g.CONTROL
    ]
    model = {
        "type": "BPE",
        "vocab": {t: i for i, t in enumerate(tokens)},
        "merges": [m.split(" ") for m in meta["tokenizer.ggml.merges"]],
    }
    model |= {"dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}  # fmt: skip
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}  # fmt: skip


def write_tokenizer(spec, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(spec, file, ensure_ascii=False)
