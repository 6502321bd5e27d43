"""Our byte-level BPE vocabulary: trained on our text, cut into words by GPT-2's rule, digits never merged."""

import json
import os

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
BOS, END, USER, ASSISTANT, SYSTEM = range(5)
ROLE = {"user": USER, "assistant": ASSISTANT, "system": SYSTEM}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train(texts, vocab_size):
    """Learns merges over single digits and words, then returns the tokenizer with GPT-2's plain rule.

    Digits stand alone during training, so no merge holds one and any number is spelt digit by digit.
    """
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[0-9]"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    return _plain(json.loads(tok.to_str()))


def _plain(spec):
    spec["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spec["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return Tokenizer.from_str(json.dumps(spec))


class Encoder:
    """Text to ids and back; text never yields a special token."""

    def __init__(self, spec):
        """`spec` is a parsed tokenizer.json, or the path of one."""
        if isinstance(spec, str):
            with open(spec, encoding="utf-8") as file:
                spec = json.load(file)
        self._bpe = Tokenizer.from_str(json.dumps(dict(spec, added_tokens=[])))
        self._bpe.decoder = decoders.ByteLevel()

    def encode(self, text):
        return self._bpe.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts):
        return [e.ids for e in self._bpe.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids):
        return self._bpe.decode([i for i in ids if i >= len(SPECIAL)])

    def prompt(self, messages, open_answer=True):
        """[(role, text), ...] -> ids, as the chat template writes them."""
        ids = [BOS]
        for role, text in messages:
            ids += [ROLE[role], *self.encode(text), END]
        return ids + [ASSISTANT] if open_answer else ids


def save(tok, folder):
    """tokenizer.json and tokenizer_config.json as transformers reads them."""
    os.makedirs(folder, exist_ok=True)
    tok.save(os.path.join(folder, "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[END],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
