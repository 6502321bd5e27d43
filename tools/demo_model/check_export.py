"""Checks an exported GGUF file against transformers: its own GGUF reader, its own Llama, its own chat template.

    python3 check_export.py [demo.gguf] [--dialogues N]

Along held-out dialogues the greedy token of both must agree wherever the first two logits are more than 0.1 apart,
and at 99 % of all positions.
"""

import argparse
import os
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import export
import gguf_reader
from model import Decoder, rope_tables
from text import dialogue
from tokenizer import Encoder


def load_ours(path):
    """Our decoder with the values of a GGUF file, its configuration and its tokenizer."""
    config, state, spec, _ = gguf_reader.read(path)
    model = Decoder(config)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    return model.eval(), config, Encoder(spec)


def dialogues(count, held=True, messages=24):
    for index in range(count):
        stream = dialogue.turns(dialogue.generator(99, f"check {index}"), held)
        yield [next(stream) for _ in range(messages + index % 5)]


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gguf", nargs="?", default=os.path.join(os.path.dirname(__file__), "demo.gguf"))
    p.add_argument("--dialogues", type=int, default=20)
    a = p.parse_args()
    ours, config, encoder = load_ours(a.gguf)
    folder, name = os.path.split(os.path.abspath(a.gguf))
    theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    with tempfile.TemporaryDirectory() as hf:
        export.from_gguf(a.gguf, hf)
        their_tokenizer = AutoTokenizer.from_pretrained(hf)
        same_weights = AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32).state_dict()
    for key, value in theirs.state_dict().items():
        assert torch.equal(value, same_weights[key]), f"{key}: the Hugging Face directory differs from the GGUF file"
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
