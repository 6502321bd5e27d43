"""Writes a trained model as a Hugging Face directory and as GGUF (Q8_0 and F16)."""

import json
import os

import numpy as np

import gguf_file
import tokenizer as tk


def export(model, config, folder):
    """OUT/demo.gguf (Q8_0), OUT/demo-f16.gguf, OUT/hf/ (weights f32, as they will be read from the Q8_0 file)."""
    state = {name: p.detach().float().cpu().numpy() for name, p in model.state_dict().items()}
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        spec = json.load(file)
    for name, kind in (("demo.gguf", "q8_0"), ("demo-f16.gguf", "f16")):
        path = os.path.join(folder, name)
        gguf_file.write(path, state, config, spec, kind)
        print(f"{path}: {os.path.getsize(path)} bytes", flush=True)
    hugging_face(state, config, os.path.join(folder, "hf"), spec)


def rounded(name, array):
    """The values that a reader of the Q8_0 file sees."""
    if array.ndim < 2:
        return array
    return gguf_file.dequantize_q8_0(gguf_file.quantize_q8_0(array), array.shape)


def hugging_face(state, config, folder, spec):
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    tk.save(Tokenizer.from_str(json.dumps(spec)), folder)
    weights = {"model." + name: np.ascontiguousarray(rounded(name, array)) for name, array in state.items()}
    save_file(weights, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": config.width,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.eps,
        "rope_theta": config.rope_base,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": tk.BOS,
        "eos_token_id": tk.END,
        "torch_dtype": "float32",
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=2)
