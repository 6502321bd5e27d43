"""Held-out test conversations: something is told, other talk fills a distance, then it is asked for."""

from dataclasses import dataclass

from text import dialogue, events, facts, lists, recall, stories, sums, unknown, about
from text.memory import Memory
from text.spin import second_person

DISTANCES = (0, 100, 500, 1500, 3000)
_FILLERS = (
    (about.small_talk, 4), (about.about_itself, 3), (stories.tell_story, 3), (stories.listen, 2), (lists.make, 1),
    (lists.add, 2), (lists.read, 2), (sums.sums, 2), (sums.general, 1), (sums.repeat, 1), (unknown.cannot, 3),
    (recall.tell, 6), (recall.ask, 6),
)  # fmt: skip
_PARTS, _WEIGHTS = zip(*_FILLERS)


@dataclass
class Probe:
    kind: str  # "recall", "corrected", "unknown", "free"
    distance: int  # tokens between the telling and the question
    messages: list  # [(role, text), ...], the last one is the user's question
    want: str  # must be in the answer ("" if nothing is)
    avoid: str = ""  # must not be in the answer


def _filler(encoder, rng, memory, key, tokens):
    """Other talk of about `tokens` tokens that leaves the fact `key` alone."""
    messages, size = [], 0
    while size < tokens:
        part = rng.choices(_PARTS, _WEIGHTS)[0]
        if part is recall.ask and not memory.facts:
            continue
        if part is recall.tell and len(memory.facts) > 25:
            part = about.small_talk
        kept = memory.facts.get(key)
        for user, assistant in part(rng, memory, True):
            memory.turn += 1
            pair = [("user", user), ("assistant", assistant)]
            size += sum(len(encoder.encode(text)) + 2 for _, text in pair)
            messages += pair
        if kept is not None and memory.facts.get(key) is not kept:
            memory.facts[key] = kept
            messages = messages[:-2]
    return messages


def _names_only(rng):
    """A fact with a held-out name or word of its own."""
    kinds = (facts.user_name, facts.pet, facts.thing_name, facts.relation, facts.home, facts.secret, facts.place_of,
             facts.plan, facts.meeting, facts.colour_of, events.person_fact, events.own_event)  # fmt: skip
    return rng.choice(kinds)(rng, True)


def recall_probe(encoder, rng, distance, corrected=False):
    memory = Memory()
    fact = _names_only(rng)
    while corrected and fact.other is None:
        fact = _names_only(rng)
    messages = _filler(encoder, rng, memory, None, 60) if rng.random() < 0.5 else []
    memory.facts.pop(fact.key, None)
    old = ""
    for user, assistant in recall.tell(rng, memory, True, fact):
        messages += [("user", user), ("assistant", assistant)]
    if corrected:
        old = fact.value
        if rng.random() < 0.5:
            messages += _filler(encoder, rng, memory, fact.key, 100)
        memory.turn += 3
        new = fact
        while new.value == old:
            new = fact.with_value(fact.other(rng))
        user = rng.choice(("Actually, ", "No, ", "Sorry, ", "I made a mistake: ")) + new.told(rng) + "."
        messages += [("user", user), ("assistant", "Understood: " + new.yours(rng) + ".")]
        memory.learn(new)
        fact = new
    messages += _filler(encoder, rng, memory, fact.key, distance)
    messages.append(("user", recall.ask(rng, memory, True, fact)[0][0]))
    want = second_person(fact.value) if " my " in fact.value else fact.value
    return Probe("corrected" if corrected else "recall", distance, messages, want, old if old not in want else "")


def unknown_probe(encoder, rng):
    memory = Memory()
    messages = _filler(encoder, rng, memory, None, rng.choice((0, 60, 300)))
    fact = _names_only(rng)
    while fact.key in memory.facts:
        fact = _names_only(rng)
    turns = [next(iter(recall.ask_unknown(rng, memory, True)))]
    messages.append(("user", turns[0][0]))
    return Probe("unknown", 0, messages, "not told me" if "told me" in turns[0][1] else "")


def free_probe(rng):
    """Any question of a held-out dialogue; looked at only for its end and for loops."""
    stream = dialogue.turns(rng, True)
    messages = [next(stream) for _ in range(rng.randint(1, 16))]
    while messages[-1][0] != "user":
        messages.append(next(stream))
    return Probe("free", 0, messages, "")


def loops(ids):
    """True if some run of eight tokens occurs twice."""
    grams = [tuple(ids[i : i + 8]) for i in range(len(ids) - 7)]
    return len(grams) != len(set(grams))


def score(probe, text, table):
    """Adds one answer to the table of counts; true if it is right."""
    key = f"{probe.kind} {probe.distance}" if probe.kind in ("recall", "corrected") else probe.kind
    right = probe.want.lower() in text.lower() and not (probe.avoid and probe.avoid.lower() in text.lower())
    row = table.setdefault(key, {"right": 0, "count": 0})
    row["right"] += right
    row["count"] += 1
    return right


def count_end(ended, looped, table):
    total = table.setdefault("all", {"ended": 0, "looped": 0, "count": 0})
    total["ended"] += ended
    total["looped"] += looped
    total["count"] += 1


def report(table):
    """A line per kind."""
    lines = []
    for key in sorted(table, key=lambda key: [int(part) if part.isdigit() else part for part in key.split()]):
        row = table[key]
        shares = (f"{name} {100 * value / row['count']:.1f} %" for name, value in row.items() if name != "count")
        lines.append(f"{key} {' '.join(shares)} of {row['count']}")
    return "\n".join(lines)


def said(probe):
    return [text for role, text in probe.messages if role == "user"]


def complaint(probe, text):
    return f"[{probe.kind} {probe.distance}] {probe.messages[-1][1]} -> {text} (want {probe.want!r})"


def probes(encoder, each, seed=7):
    """`each` probes of every kind and distance."""
    out = []
    for distance in DISTANCES:
        for n in range(each):
            rng = dialogue.generator(seed, f"recall {distance} {n}")
            out.append(recall_probe(encoder, rng, distance))
            out.append(recall_probe(encoder, rng, distance, corrected=True))
    for n in range(each):
        rng = dialogue.generator(seed, f"other {n}")
        out.append(unknown_probe(encoder, rng))
        out.append(free_probe(rng))
    return out
