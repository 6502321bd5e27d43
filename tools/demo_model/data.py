"""Batches of token ids for training, a pure function of (seed, step), made by worker processes ahead of need."""

import multiprocessing
import os

import numpy as np

from text import dialogue
from tokenizer import ASSISTANT, BOS, END, ROLE, Encoder

USER_WEIGHT = 0.04  # what the user says is mostly chance; a little of it still teaches the language
LENGTHS = (512, 1024, 2048, 4096)
_EARLY, _LATE = (0.4, 0.35, 0.15, 0.1), (0.15, 0.15, 0.25, 0.45)
_encoder = None


def row(encoder, rng, length):
    """One dialogue cut at `length` + 1 ids: (ids, weight of each id as a target)."""
    ids, weights = [BOS], [0.0]
    stream = dialogue.turns(rng)
    while len(ids) <= length:
        texts, roles, size = [], [], 0
        while size < 1200 and size < 6 * (length - len(ids)) + 80:
            role, text = next(stream)
            roles.append(role)
            texts.append(text)
            size += len(text)
        for role, part in zip(roles, encoder.encode_batch(texts)):
            weight = 1.0 if ROLE[role] == ASSISTANT else USER_WEIGHT
            ids.append(ROLE[role])
            weights.append(0.0)
            ids.extend(part)
            weights.extend([weight] * len(part))
            ids.append(END)
            weights.append(weight)
    return ids[: length + 1], weights[: length + 1]


def batch(encoder, seed, step, steps, tokens):
    """ids int32 [rows, length + 1] and target weights f32 [rows, length + 1]; long rows are rarer at the start."""
    rng = dialogue.generator(seed, f"step {step}")
    late = min(1.0, 2.5 * step / steps)
    mix = [e + (l - e) * late for e, l in zip(_EARLY, _LATE)]
    length = rng.choices(LENGTHS, mix)[0]
    rows = [row(encoder, rng, length) for _ in range(max(1, tokens // length))]
    return np.array([r[0] for r in rows], np.int32), np.array([r[1] for r in rows], np.float32)


def _start(path):
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _encoder = Encoder(path)


def _job(args):
    return batch(_encoder, *args)


def batches(tokenizer_path, seed, first, steps, tokens, workers):
    """Yields batch(first), batch(first + 1), … in order, whatever the number of workers."""
    jobs = ((seed, step, steps, tokens) for step in range(first, steps))
    if workers == 0:
        _start(tokenizer_path)
        yield from map(_job, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _start, (tokenizer_path,)) as pool:
        yield from pool.imap(_job, jobs)


def corpus(seed, characters):
    """Text for the tokenizer: messages of many dialogues."""
    total, index = 0, 0
    while total < characters:
        rng = dialogue.generator(seed, f"corpus {index}")
        stream = dialogue.turns(rng)
        for _ in range(120):
            text = next(stream)[1]
            total += len(text)
            yield text
        index += 1
