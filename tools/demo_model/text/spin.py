"""A tiny template language: "[Hi|Hello|], I am {name}[.|!]" picks one of the alternatives and fills in the slots.

Alternatives may nest and may be empty. `render` takes the generator of randomness, so a seed gives one text.
"""

import re
from functools import lru_cache


@lru_cache(maxsize=None)
def parse(template):
    """Template text -> tuple of nodes: str (literal), ('slot', name) or ('choice', (nodes, ...))."""
    nodes, end = _sequence(template, 0, nested=False)
    if end != len(template):
        raise ValueError(f"[spin] unbalanced ']' at {end} in {template!r}")
    return nodes


def _sequence(text, at, nested):
    nodes, literal = [], []

    def flush():
        if literal:
            nodes.append("".join(literal))
            literal.clear()

    while at < len(text):
        char = text[at]
        if char == "[":
            flush()
            options = []
            at += 1
            while True:
                option, at = _sequence(text, at, nested=True)
                options.append(option)
                if at >= len(text):
                    raise ValueError(f"[spin] unclosed '[' in {text!r}")
                at += 1
                if text[at - 1] == "]":
                    break
            nodes.append(("choice", tuple(options)))
        elif nested and char in "|]":
            break
        elif char == "]":
            break
        elif char == "{":
            flush()
            close = text.index("}", at)
            nodes.append(("slot", text[at + 1 : close]))
            at = close + 1
        else:
            literal.append(char)
            at += 1
    flush()
    return tuple(nodes), at


def render(template, rng, slots=None, noise=None):
    """One random text of the template. `noise(text, rng)` is applied to literal text only, never to slot values."""
    out = []
    _emit(parse(template), rng, slots, noise, out)
    return "".join(out)


def _emit(nodes, rng, slots, noise, out):
    for node in nodes:
        if isinstance(node, str):
            out.append(noise(node, rng) if noise else node)
        elif node[0] == "slot":
            out.append(str(slots[node[1]]))
        else:
            options = node[1]
            _emit(options[int(rng.random() * len(options))], rng, slots, noise, out)


def capital(text):
    """First letter upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


_SWAP = {
    "I am": "you are",
    "I was": "you were",
    "was I": "were you",
    "I'm": "you are",
    "I've": "you have",
    "I": "you",
    "am": "are",
    "my": "your",
    "me": "you",
    "mine": "yours",
    "myself": "yourself",
    "our": "your",
    "we": "you",
}
_SWAP_WORDS = re.compile(r"\b(I am|I was|was I|I'm|I've|I|am|my|me|mine|myself|our|we)\b(?![^{]*})")


@lru_cache(maxsize=65536)
def second_person(text):
    """ "my dog is called {v}" -> "your dog is called {v}"; slots and all other words stay."""
    return _SWAP_WORDS.sub(lambda match: _SWAP[match.group(1)], text)


def listing(items, last="and"):
    """["a", "b", "c"] -> "a, b and c"."""
    if len(items) == 1:
        return items[0]
    return ", ".join(items[:-1]) + f" {last} " + items[-1]


def article(word):
    """ "a" or "an"."""
    return "an" if word[:1].lower() in "aeiou" else "a"
