"""Lists to keep: make one, add, take away, read it back, count, look something up."""

from . import noise, words
from .names import several
from .spin import capital, listing, render

_KINDS = {
    "shopping list": words.SHOPPING,
    "packing list": words.PACKING,
    "to-do list": words.ACTIVITIES,
    "wish list": words.THINGS,
    "menu": words.FOODS,
    "picnic list": words.SHOPPING,
}


_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _finish(rng, text):
    text = capital(text) if rng.random() < 0.8 else text
    return noise.sloppy(text, rng)


def _state(name, items):
    if not items:
        return f"Your {name} is empty now."
    return f"Your {name} has {listing(items)}."


def make(rng, memory, held=False):
    free = [name for name in _KINDS if name not in memory.lists]
    if not free:
        return read(rng, memory, held)
    name = rng.choice(free)
    items = several(rng, _KINDS[name], rng.randint(1, 5), held)
    memory.lists[name] = list(items)
    slots = {"n": name, "i": listing(items) if rng.random() < 0.6 else ", ".join(items)}
    user = render(
        "[[please |][keep|make|start|write] a {n}[ for me|]: {i}.|[please |]put {i} on my {n}.|here is my {n}: {i}."
        "|my {n}: {i}.|I need a {n} with {i}.|can you keep a {n} for me: {i}?]",
        rng,
        slots,
    )
    answer = render(
        "[[Done|All right|Of course|Certainly|Gladly]. {s}|{s}[| Tell me when you want to add something.| Shall I add"
        " anything else?]]",
        rng,
        {"s": _state(name, items)},
    )
    return [(_finish(rng, user), answer)]


def _called(rng, memory, name):
    """How the user calls the list: if it is the only one, often just "list"."""
    return "list" if len(memory.lists) == 1 and rng.random() < 0.5 else name


def add(rng, memory, held=False):
    if not memory.lists:
        return make(rng, memory, held)
    name, items = rng.choice(list(memory.lists.items()))
    if len(items) > 8:
        return remove(rng, memory, held)
    new = several(rng, _KINDS[name], rng.choice((1, 1, 2)), held, items)
    items += new
    user = render(
        (
            "[[please |]add {i} to [my|the] {n}.|put {i} on [my|the] {n}[, please|].|also {i} on my {n}.|{i} should be"
            " on my {n} too.|can you add {i} to my {n}?]"
            if len(memory.lists) > 1 or rng.random() < 0.7
            else "[[please |]add {i}[ too| as well| please|].|and {i}.|also {i}[, please|].]"
        ),
        rng,
        {"n": _called(rng, memory, name), "i": listing(new)},
    )
    answer = render(
        "[[Done|Added|All right|Okay]. {s}|[I have added {i}.|I added {i}.] {s}]",
        rng,
        {"s": _state(name, items), "i": listing(new)},
    )
    return [(_finish(rng, user), answer)]


def remove(rng, memory, held=False):
    full = [(name, items) for name, items in memory.lists.items() if items]
    if not full:
        return make(rng, memory, held)
    name, items = rng.choice(full)
    gone = rng.choice(items)
    items.remove(gone)
    user = render(
        (
            "[[please |]remove {i} from [my|the] {n}.|take {i} off [my|the] {n}.|I don't need {i} on my {n} any"
            " more.|cross out {i} on my {n}.|delete {i} from my {n}[, please|].]"
            if len(memory.lists) > 1 or rng.random() < 0.7
            else "[[please |]remove {i}[ again| please|].|take {i} off.|no {i}[, please|].|delete {i}.]"
        ),
        rng,
        {"n": _called(rng, memory, name), "i": gone},
    )
    answer = render(
        "[[Done|Removed|All right|Okay]. {s}|I have removed {i}. {s}]", rng, {"s": _state(name, items), "i": gone}
    )
    return [(_finish(rng, user), answer)]


def read(rng, memory, held=False):
    if not memory.lists or rng.random() < 0.06:
        name = rng.choice(list(_KINDS))
        if name not in memory.lists:
            user = render("[what is on my {n}?|read me my {n}.]", rng, {"n": name})
            return [(_finish(rng, user), f"You have no {name} yet. Tell me what to put on it.")]
    name, items = rng.choice(list(memory.lists.items()))
    kind = rng.random()
    if kind < 0.6:
        user = render(
            "[what is on my {n}?|what's on my {n}?|[read|tell|show] me my {n}[, please|].|what does my {n} say?|my {n},"
            " please.|what did I put on my {n}?|do you still have my {n}?]",
            rng,
            {"n": _called(rng, memory, name)},
        )
        return [(_finish(rng, user), _state(name, items))]
    if kind < 0.8:
        user = render(
            "[how many things are on my {n}?|how long is my {n}?|how many items does my {n} have?]",
            rng,
            {"n": _called(rng, memory, name)},
        )
        things = "thing" if len(items) == 1 else "things"
        answer = f"There {'is' if len(items) == 1 else 'are'} {_COUNTS[len(items)]} {things} on your {name}"
        return [(_finish(rng, user), answer + (f": {listing(items)}." if items else "."))]
    inside = items and rng.random() < 0.5
    item = rng.choice(items) if inside else several(rng, _KINDS[name], 1, held, items)[0]
    user = render(
        "[is {i} on my {n}?|did I put {i} on my {n}?|do I have {i} on my {n}?]",
        rng,
        {"n": _called(rng, memory, name), "i": item},
    )
    answer = f"Yes, {item} is on your {name}." if inside else f"No, {item} is not on your {name}."
    return [(_finish(rng, user), answer)]
