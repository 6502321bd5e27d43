"""The memory of one dialogue: what the user told, in order, and how each fact is worded.

A fact is told, asked for, corrected and recalled with the phrases of its kind. All phrases are in the user's first
person; what the assistant says is the same phrase in the second person.
"""

from dataclasses import dataclass, field

from .spin import render, second_person


@dataclass
class Fact:
    key: tuple  # what it is about; a new value for the same key replaces the old one
    value: str  # what an answer must contain
    slots: dict
    clause: str  # "my dog is called {v}"
    tell: str  # spin template, first person, no final mark
    ask: str  # spin template: "what is my dog called"
    indirect: str  # "what my dog is called"
    topic: str  # "my dog"
    other: object = None  # rng -> another value of the same pool, for corrections and wrong guesses
    pronoun: str = ""  # "her name is {v}", if a pronoun can name it
    told_at: int = 0
    reverse: str = ""  # "who lives in {v}"

    def _render(self, template, rng, noise=None):
        return render(template, rng, self.slots, noise)

    def told(self, rng, noise=None):
        return self._render(self.tell, rng, noise)

    def asked(self, rng, noise=None):
        return self._render(self.ask, rng, noise)

    def mine(self, rng):
        return self._render(self.clause, rng)

    def yours(self, rng):
        return second_person_slots(self.clause, rng, self.slots)

    def asked_indirect(self, rng, noise=None):
        return self._render(self.indirect, rng, noise)

    def your_indirect(self, rng):
        return second_person_slots(self.indirect, rng, self.slots)

    def your_topic(self, rng):
        return second_person_slots(self.topic, rng, self.slots)

    def with_value(self, value):
        slots = dict(self.slots)
        slots["v"] = value
        return Fact(
            self.key,
            value,
            slots,
            self.clause,
            self.tell,
            self.ask,
            self.indirect,
            self.topic,
            self.other,
            self.pronoun,
            self.told_at,
            self.reverse,
        )


def second_person_slots(template, rng, slots):
    """Swaps the person in the template's own words, and in a value that speaks of the user ("in my bag")."""
    if " my " in slots["v"]:
        slots = dict(slots, v=second_person(slots["v"]))
    return render(second_person(template), rng, slots)


@dataclass
class Memory:
    facts: dict = field(default_factory=dict)
    lists: dict = field(default_factory=dict)
    story: object = None
    turn: int = 0

    def learn(self, fact):
        fact.told_at = self.turn
        self.facts[fact.key] = fact

    def known(self):
        return list(self.facts.values())
