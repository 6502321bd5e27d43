"""Checks an exported GGUF file against transformers: its own GGUF reader, its own Llama, its own chat template.

    python3 check_export.py OUT [--dialogues N]

Along held-out dialogues the greedy token of both must agree wherever the first two logits are more than 0.1 apart,
and at 99 % of all positions.
"""

import argparse
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model import Config, Decoder, rope_tables
from text import dialogue
from tokenizer import Encoder


def load_ours(folder):
    """Our decoder with the values of the Q8_0 file, read from OUT/hf."""
    from safetensors.torch import load_file

    import json

    with open(os.path.join(folder, "hf", "config.json"), encoding="utf-8") as file:
        c = json.load(file)
    config = Config(
        vocab_size=c["vocab_size"], width=c["hidden_size"], layers=c["num_hidden_layers"],
        heads=c["num_attention_heads"], kv_heads=c["num_key_value_heads"], ffn=c["intermediate_size"],
        context=c["max_position_embeddings"], rope_base=c["rope_theta"], eps=c["rms_norm_eps"],
    )  # fmt: skip
    model = Decoder(config)
    weights = load_file(os.path.join(folder, "hf", "model.safetensors"))
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    return model.eval(), config


def dialogues(count, held=True, messages=24):
    for index in range(count):
        stream = dialogue.turns(dialogue.generator(99, f"check {index}"), held)
        yield [next(stream) for _ in range(messages + index % 5)]


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--dialogues", type=int, default=20)
    a = p.parse_args()
    encoder = Encoder(os.path.join(a.out, "tokenizer.json"))
    ours, config = load_ours(a.out)
    theirs = AutoModelForCausalLM.from_pretrained(a.out, gguf_file="demo.gguf", dtype=torch.float32).eval()
    their_tokenizer = AutoTokenizer.from_pretrained(os.path.join(a.out, "hf"))
    cos, sin = rope_tables(config, config.context, "cpu")
    positions = same = clear_wrong = 0
    worst = 0.0
    for messages in dialogues(a.dialogues):
        ids = encoder.prompt(messages, open_answer=False)
        chat = [{"role": role, "content": text} for role, text in messages]
        rendered = their_tokenizer.apply_chat_template(chat, tokenize=False)
        assert their_tokenizer.encode(rendered, add_special_tokens=False) == ids, "tokens of the chat template differ"
        batch = torch.tensor([ids])
        x = ours.logits(ours.hidden(batch, cos[: len(ids)], sin[: len(ids)]))[0]
        y = theirs(batch).logits[0]
        top = y.topk(2, dim=-1).values
        equal = x.argmax(-1) == y.argmax(-1)
        positions += len(ids)
        same += int(equal.sum())
        clear_wrong += int((~equal & (top[:, 0] - top[:, 1] > 0.1)).sum())
        worst = max(worst, float((x - y).abs().max()))
    print(f"{positions} positions: {100 * same / positions:.2f} % the same greedy token, "
          f"{clear_wrong} clear differences, "
          f"largest logit difference {worst:.2e}")  # fmt: skip
    if clear_wrong or same < 0.99 * positions:
        raise SystemExit("[check_export] the exports disagree")


if __name__ == "__main__":
    main()
