"""Writes a trained model as a Hugging Face directory and as GGUF (Q8_0 and F16).

python3 export.py demo.gguf FOLDER     # the Hugging Face directory of a model file of ours
"""

import json
import os
import sys

import numpy as np

import gguf_file
import gguf_reader
import tokenizer as tk


def export(model, config, folder):
    """OUT/demo.gguf (Q8_0), OUT/demo-f16.gguf, OUT/hf/ (weights f32, those of the Q8_0 file)."""
    state = {name: p.detach().float().cpu().numpy() for name, p in model.state_dict().items()}
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
        spec = json.load(file)
    for name, kind in (("demo.gguf", "q8_0"), ("demo-f16.gguf", "f16")):
        path = os.path.join(folder, name)
        gguf_file.write(path, state, config, spec, kind)
        print(f"{path}: {os.path.getsize(path)} bytes", flush=True)
    from_gguf(os.path.join(folder, "demo.gguf"), os.path.join(folder, "hf"))


def hugging_face(state, config, folder, spec):
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer

    tk.save(Tokenizer.from_str(json.dumps(spec)), folder)
    weights = {"model." + name: np.ascontiguousarray(array) for name, array in state.items()}
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


def from_gguf(path, folder):
    config, state, spec, _ = gguf_reader.read(path)
    hugging_face(state, config, folder, spec)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    from_gguf(sys.argv[1], sys.argv[2])
