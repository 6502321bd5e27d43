"""What people do to their own messages: small letters, missing marks, slips of the finger."""

_KEYS = {
    "a": "s",
    "b": "v",
    "c": "x",
    "d": "f",
    "e": "r",
    "f": "g",
    "g": "h",
    "h": "j",
    "i": "o",
    "k": "l",
    "l": "k",
    "m": "n",
    "n": "m",
    "o": "p",
    "p": "o",
    "r": "t",
    "s": "a",
    "t": "y",
    "u": "i",
    "v": "b",
    "w": "e",
    "y": "u",
}


def typo(text, rng):
    """Damages about one word in twelve of a literal piece of a template."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if len(word) < 4 or not word.isalpha() or rng.random() > 0.08:
            continue
        at = rng.randrange(1, len(word) - 1)
        kind = rng.random()
        if kind < 0.35:
            words[i] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        elif kind < 0.65:
            words[i] = word[:at] + word[at + 1 :]
        elif kind < 0.85:
            words[i] = word[:at] + word[at] + word[at:]
        else:
            words[i] = word[:at] + _KEYS.get(word[at], word[at]) + word[at + 1 :]
    return " ".join(words)


def sloppy(text, rng):
    """Habits over a whole message whose facts hold no capitals: small letters, no final mark, none after all."""
    if rng.random() < 0.6:
        text = text.rstrip(".!?")
    return text
