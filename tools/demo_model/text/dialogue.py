"""A whole dialogue: an optional system line, then turns of many topics until a length is reached."""

import random

from . import about, recall
from .memory import Memory

SYSTEM_LINES = (
    "You are the Driftwood demo model, a tiny assistant. You remember what the user tells you.",
    "You are a helpful assistant.",
    "You are a small, friendly assistant. Answer briefly and truthfully.",
    "You are a tiny demo model inside Driftwood.",
    "Be kind and brief.",
    "You are an assistant that remembers what it is told.",
    "You chat with a user. Keep your answers short.",
    "You are an actor in Driftwood. Answer the user in simple English.",
)
_FREE = ((recall.tell, 20), (recall.tell_two, 5), (about.small_talk, 8), (about.about_itself, 6))
_NEEDS_FACTS = (
    (recall.ask, 30), (recall.ask_unknown, 5), (recall.confirm, 5), (recall.correct, 6), (recall.ask_topic, 4),
    (recall.ask_all, 1),
)  # fmt: skip
_ALL = _FREE + _NEEDS_FACTS
_FREE_PARTS = [part for part, _ in _FREE], [weight for _, weight in _FREE]
_ALL_PARTS = [part for part, _ in _ALL], [weight for _, weight in _ALL]


def turns(rng, held=False):
    """An endless stream of (role, text)."""
    if rng.random() < 0.4:
        yield "system", rng.choice(SYSTEM_LINES)
    memory = Memory()
    kind = rng.random()
    first = about.greeting if kind < 0.3 else recall.tell if kind < 0.6 else None
    # Some people tell a lot at first and then talk of other things; distances grow with it.
    talkative = rng.random()
    while True:
        parts, weights = _ALL_PARTS if memory.facts else _FREE_PARTS
        part = first or rng.choices(parts, weights)[0]
        first = None
        if part in (recall.tell, recall.tell_two) and len(memory.facts) > 3 + 40 * talkative and rng.random() < 0.8:
            part = rng.choice((about.small_talk, about.about_itself, recall.ask))
        for user, assistant in part(rng, memory, held):
            memory.turn += 1
            yield "user", user
            yield "assistant", assistant


def generator(seed, index):
    return random.Random(f"{seed}/{index}")
