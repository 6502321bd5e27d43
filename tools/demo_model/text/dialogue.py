"""A whole dialogue: an optional system line, then turns of many topics until a length is reached."""

import random

from . import about, chatter, lists, recall, stories, sums, unknown
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
_FREE = (
    (recall.tell, 20),
    (recall.tell_two, 5),
    (recall.tell_three, 3),
    (recall.tell_relation, 5),
    (recall.interview, 4),
    (about.small_talk, 9),
    (about.about_itself, 7),
    (stories.tell_story, 6),
    (stories.listen, 5),
    (stories.about_story, 1),
    (lists.make, 4),
    (lists.add, 4),
    (lists.remove, 2),
    (lists.read, 6),
    (sums.sums, 5),
    (sums.apples, 2),
    (sums.count, 2),
    (sums.compare, 1),
    (sums.order, 2),
    (sums.general, 3),
    (sums.repeat, 4),
    (unknown.cannot, 6),
    (unknown.nonsense, 2),
    (chatter.statement, 9),
    (chatter.follow_up, 5),
    (chatter.open_question, 6),
    (chatter.taste, 3),
    (chatter.tell_and_ask, 1),
)
_NEEDS_FACTS = (
    (recall.ask, 32),
    (recall.ask_unknown, 7),
    (recall.confirm, 6),
    (recall.correct, 7),
    (recall.ask_topic, 4),
    (recall.ask_all, 2),
    (recall.ask_reverse, 3),
    (recall.ask_two_steps, 3),
    (recall.tell_more, 4),
    (chatter.ask_two, 3),
)
_TELLS = (recall.tell, recall.tell_two, recall.tell_three, recall.tell_relation, recall.interview, recall.tell_more)
_INSTEAD = (
    about.small_talk,
    chatter.statement,
    chatter.open_question,
    about.about_itself,
    recall.ask,
    recall.ask,
    stories.tell_story,
    lists.read,
    sums.sums,
    unknown.cannot,
    recall.ask_unknown,
)
_ALL = _FREE + _NEEDS_FACTS
_FREE_PARTS = [part for part, _ in _FREE], [weight for _, weight in _FREE]
_ALL_PARTS = [part for part, _ in _ALL], [weight for _, weight in _ALL]


def turns(rng, held=False):
    """An endless stream of (role, text)."""
    if rng.random() < 0.4:
        yield "system", rng.choice(SYSTEM_LINES)
    memory = Memory()
    kind = rng.random()
    first = (
        about.greeting
        if kind < 0.25
        else (
            recall.tell
            if kind < 0.45
            else (
                recall.tell_three
                if kind < 0.5
                else recall.interview if kind < 0.58 else chatter.tell_and_ask if kind < 0.64 else None
            )
        )
    )
    # Some people tell a lot at first and then talk of other things; distances grow with it.
    talkative = rng.random()
    while True:
        parts, weights = _ALL_PARTS if memory.facts else _FREE_PARTS
        part = first or rng.choices(parts, weights)[0]
        first = None
        if part in _TELLS and len(memory.facts) > 2 + 40 * talkative * talkative and rng.random() < 0.85:
            part = rng.choice(_INSTEAD)
            if not memory.facts and part in (recall.ask, recall.ask_unknown):
                part = recall.tell
        for user, assistant in part(rng, memory, held):
            memory.turn += 1
            yield "user", user
            yield "assistant", assistant


def generator(seed, index):
    return random.Random(f"{seed}/{index}")
