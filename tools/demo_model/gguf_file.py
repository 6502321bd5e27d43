"""Writes our model as GGUF v3: metadata and tensor names as llama.cpp's converter gives them to Llama models."""

import struct

import numpy as np

import tokenizer as tk

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # metadata value types
GGML_F32, GGML_F16, GGML_Q8_0 = 0, 1, 8  # tensor types
NORMAL, CONTROL = 1, 3  # token types
FILE_TYPE = {"f16": 1, "q8_0": 7}


def quantize_q8_0(weights):
    """f32 [rows, cols] -> bytes: per 32 values an f16 scale d = max|x| / 127 and 32 int8, rounded half away from 0."""
    x = np.ascontiguousarray(weights, dtype=np.float32).reshape(-1, 32)
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(d > 0, np.float32(1) / d, np.float32(0))
    scaled = x * inverse
    # trunc(|y| + 0.5) would round 0.49999997 up; floor and fraction decide exactly as roundf does.
    size = np.abs(scaled)
    low = np.floor(size)
    q = np.copysign(np.where(size - low >= 0.5, low + 1, low), scaled).astype(np.int8)
    block = np.empty(len(x), dtype=[("d", "<f2"), ("q", "i1", 32)])
    block["d"], block["q"] = d[:, 0].astype(np.float16), q
    return block.tobytes()


def dequantize_q8_0(data, shape):
    block = np.frombuffer(data, dtype=[("d", "<f2"), ("q", "i1", 32)])
    return (block["d"].astype(np.float32)[:, None] * block["q"].astype(np.float32)).reshape(shape)


def interleave_heads(weights, heads):
    """Rows of Q or K from rotate-half order to GGUF's order of adjacent pairs."""
    rows, cols = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def tensors(state, config):
    """(name, array, is_matrix) in file order; `state` maps our parameter names to f32 arrays."""
    yield "token_embd.weight", state["embed_tokens.weight"], True
    for n in range(config.layers):
        ours = f"layers.{n}."
        yield f"blk.{n}.attn_norm.weight", state[ours + "input_layernorm.weight"], False
        yield f"blk.{n}.attn_q.weight", interleave_heads(state[ours + "self_attn.q_proj.weight"], config.heads), True
        yield f"blk.{n}.attn_k.weight", interleave_heads(state[ours + "self_attn.k_proj.weight"], config.kv_heads), True
        yield f"blk.{n}.attn_v.weight", state[ours + "self_attn.v_proj.weight"], True
        yield f"blk.{n}.attn_output.weight", state[ours + "self_attn.o_proj.weight"], True
        yield f"blk.{n}.ffn_norm.weight", state[ours + "post_attention_layernorm.weight"], False
        yield f"blk.{n}.ffn_gate.weight", state[ours + "mlp.gate_proj.weight"], True
        yield f"blk.{n}.ffn_up.weight", state[ours + "mlp.up_proj.weight"], True
        yield f"blk.{n}.ffn_down.weight", state[ours + "mlp.down_proj.weight"], True
    yield "output_norm.weight", state["norm.weight"], False


def metadata(config, spec, file_type):
    """(key, type, value) in file order. `spec` is the parsed tokenizer.json."""
    vocab = spec["model"]["vocab"]
    tokens = [token for token, _ in sorted(vocab.items(), key=lambda item: item[1])]
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    types = [CONTROL if i < len(tk.SPECIAL) else NORMAL for i in range(len(tokens))]
    return [
        ("general.architecture", STRING, "llama"),
        ("general.type", STRING, "model"),
        ("general.name", STRING, "Driftwood demo"),
        ("general.description", STRING, "A tiny chat model trained on synthetic dialogues made by tools/demo_model"),
        ("general.license", STRING, "apache-2.0"),
        ("general.languages", (ARRAY, STRING), ["en"]),
        ("general.file_type", U32, FILE_TYPE[file_type]),
        ("general.quantization_version", U32, 2),
        ("driftwood.activation_bits", U32, 16),  # so small a model can afford them
        ("llama.block_count", U32, config.layers),
        ("llama.context_length", U32, config.context),
        ("llama.embedding_length", U32, config.width),
        ("llama.feed_forward_length", U32, config.ffn),
        ("llama.attention.head_count", U32, config.heads),
        ("llama.attention.head_count_kv", U32, config.kv_heads),
        ("llama.attention.key_length", U32, config.head_dim),
        ("llama.attention.value_length", U32, config.head_dim),
        ("llama.attention.layer_norm_rms_epsilon", F32, config.eps),
        ("llama.rope.freq_base", F32, config.rope_base),
        ("llama.rope.dimension_count", U32, config.head_dim),
        ("llama.vocab_size", U32, config.vocab_size),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", (ARRAY, STRING), tokens),
        ("tokenizer.ggml.token_type", (ARRAY, I32), types),
        ("tokenizer.ggml.merges", (ARRAY, STRING), merges),
        ("tokenizer.ggml.bos_token_id", U32, tk.BOS),
        ("tokenizer.ggml.eos_token_id", U32, tk.END),
        ("tokenizer.ggml.eot_token_id", U32, tk.END),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, tk.CHAT_TEMPLATE),
    ]


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    if isinstance(kind, tuple):
        return struct.pack("<IQ", kind[1], len(value)) + b"".join(_value(kind[1], v) for v in value)
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def write(path, state, config, spec, matrix_type="q8_0"):
    """Writes the file; matrices as Q8_0 or F16, norms as F32."""
    entries, blobs, offset = [], [], 0
    for name, array, is_matrix in tensors(state, config):
        if not is_matrix:
            kind, data = GGML_F32, np.ascontiguousarray(array, dtype="<f4").tobytes()
        elif matrix_type == "q8_0":
            kind, data = GGML_Q8_0, quantize_q8_0(array)
        else:
            kind, data = GGML_F16, np.ascontiguousarray(array, dtype="<f2").tobytes()
        shape = array.shape[::-1]
        entries.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        data += bytes(-len(data) % ALIGNMENT)
        blobs.append(data)
        offset += len(data)
    pairs = metadata(config, spec, matrix_type)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(entries), len(pairs))
    for key, kind, value in pairs:
        head += _string(key) + struct.pack("<I", ARRAY if isinstance(kind, tuple) else kind) + _value(kind, value)
    head += b"".join(entries)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for blob in blobs:
            file.write(blob)
