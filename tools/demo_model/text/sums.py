"""Counting, small sums, comparing, days and months in order."""

from . import names, noise, words
from .names import from_list, several
from .spin import article, capital, listing, render

_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def _say(rng, text, mark="?"):
    text = capital(text) if rng.random() < 0.7 else text
    return noise.sloppy(text + mark, rng)


def sums(rng, memory, held=False):
    kind = rng.random()
    top = rng.choice((10, 20, 20, 50, 100))
    a, b = rng.randint(0, top), rng.randint(0, top)
    if kind < 0.5:
        sign, spoken, result = "+", "plus", a + b
    elif kind < 0.8:
        a, b = max(a, b), min(a, b)
        sign, spoken, result = "-", "minus", a - b
    else:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        sign, spoken, result = rng.choice("*x"), "times", a * b
    form = rng.random()
    if a <= 12 and b <= 12 and form < 0.15:
        left = f"{_WORDS[a]} {spoken} {_WORDS[b]}"
    elif form < 0.55:
        left = f"{a} {spoken} {b}"
    else:
        left = f"{a} {sign} {b}" if rng.random() < 0.7 else f"{a}{sign}{b}"
    user = render(
        "[what is {s}|how much is {s}|what's {s}|{s}|calculate {s}|can you add up {s}|how many is {s}]",
        rng,
        {"s": left},
    )
    answer = render(
        "[{a} {w} {b} is {r}.|That is {r}.|{a} {w} {b} makes {r}.|It is {r}.]",
        rng,
        {"a": a, "b": b, "w": spoken, "r": result},
    )
    return [(_say(rng, user), answer)]


def apples(rng, memory, held=False):
    """A sum in a sentence."""
    who, thing = names.person(rng, held), rng.choice(
        ("apples", "books", "coins", "stones", "kites", "marbles", "cards", "eggs", "shells")
    )
    a, b = rng.randint(1, 20), rng.randint(1, 12)
    if rng.random() < 0.5:
        text = render(
            "{p} has {a} {t} and [gets|finds|buys] {b} more. How many {t} does {p} have",
            rng,
            {"p": who, "a": a, "b": b, "t": thing},
        )
        return [(_say(rng, text), f"{who} has {a + b} {thing}, because {a} plus {b} is {a + b}.")]
    a = a + b
    text = render(
        "{p} has {a} {t} and [loses|gives away|sells] {b}. How many {t} are left",
        rng,
        {"p": who, "a": a, "b": b, "t": thing},
    )
    return [(_say(rng, text), f"{who} has {a - b} {thing} left, because {a} minus {b} is {a - b}.")]


def _number(rng, n):
    return _WORDS[n] if n < len(_WORDS) and rng.random() < 0.4 else str(n)


def count(rng, memory, held=False):
    start = rng.choice((1, 1, 1, rng.randint(2, 40)))
    end = start + rng.randint(2, 11) if rng.random() < 0.8 else start + rng.randint(12, 30)
    slots = {"a": _number(rng, start), "b": _number(rng, end)}
    mark = rng.choice(".?.")
    if rng.random() < 0.15:
        far = rng.choice(("a hundred", "100", "200", "500", "a thousand", "1000", "a million", str(rng.randint(90, 999))))
        user = render("[please |][can you |]count [from 1 |from one |]to {b}", rng, {"b": far})
        shown = ", ".join(str(n) for n in range(1, rng.choice((5, 10)) + 1))
        return [(_say(rng, user, mark), f"That is too far for me, but I can begin: {shown}.")]
    if rng.random() < 0.25:
        user = render("[please |][can you |]count [down|backwards] from {b} to {a}", rng, slots)
        return [(_say(rng, user, mark), ", ".join(str(n) for n in range(end, start - 1, -1)) + ".")]
    if start == 1:
        user = render("[please |][can you |could you |][count|count up] [from 1 |from one |]to {b}[| for me]", rng, slots)
    else:
        user = render("[please |][can you |]count from {a} to {b}", rng, slots)
    return [(_say(rng, user, mark), ", ".join(str(n) for n in range(start, end + 1)) + ".")]


def compare(rng, memory, held=False):
    a, b = rng.sample(range(1, 100), 2)
    big = rng.random() < 0.5
    user = render(
        "[which is {w}, {a} or {b}|what number is {w}, {a} or {b}|is {a} or {b} {w}]",
        rng,
        {"a": a, "b": b, "w": rng.choice(("bigger", "larger", "greater") if big else ("smaller", "less"))},
    )
    first, second = (max(a, b), min(a, b)) if big else (min(a, b), max(a, b))
    return [(_say(rng, user), f"{first} is {'bigger' if big else 'smaller'} than {second}.")]


def order(rng, memory, held=False):
    """Days of the week, months, seasons, letters."""
    kind, ring = rng.choice(
        (
            ("day", words.DAYS),
            ("month", words.MONTHS),
            ("season", words.CATEGORIES["season"]),
            ("letter", list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
        )
    )
    at = rng.randrange(1, len(ring) - 1) if kind == "letter" else rng.randrange(len(ring))
    after = rng.random() < 0.6
    value = ring[(at + (1 if after else -1)) % len(ring)]
    way = "after" if after else "before"
    user = render("[what|which {k}] comes {w} {x}", rng, {"k": kind, "w": way, "x": ring[at]})
    return [(_say(rng, user), f"{value} comes {way} {ring[at]}.".replace(value, capital(value), 1))]


_OPPOSITES = """big small,hot cold,day night,up down,left right,old young,fast slow,happy sad,long short,full empty,light dark,open closed,wet dry,
early late,hard soft,loud quiet,near far,high low,rich poor,thick thin,clean dirty,strong weak,good bad,sweet sour,heavy light,first last"""
_PAIRS = [pair.split() for pair in _OPPOSITES.replace("\n", "").split(",")]
_SOUNDS = dict(
    pair.split(" ", 1)
    for pair in (
        "dog woof,cat meow,cow moo,sheep baa,duck quack,pig oink,horse neigh,frog croak,bee buzz,owl hoot,lion"
        " roar,mouse squeak,rooster cock-a-doodle-doo,snake hiss,crow caw,donkey hee-haw"
    ).split(",")
)
_NAMES_OF = {
    "animals": words.ANIMALS,
    "fruits": words.FRUITS,
    "colours": words.COLOURS,
    "drinks": words.DRINKS,
    "jobs": words.JOBS,
    "flowers": words.CATEGORIES["flower"],
    "sports": words.CATEGORIES["sport"],
    "instruments": words.CATEGORIES["instrument"],
}


def general(rng, memory, held=False):
    """The little that it knows: opposites, sounds, examples of a kind."""
    kind = rng.random()
    if kind < 0.35:
        a, b = rng.choice(_PAIRS)
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        user = render(
            "[what is the opposite of {a}|what's the opposite of {a}|tell me the opposite of {a}]", rng, {"a": a}
        )
        return [(_say(rng, user), f"The opposite of {a} is {b}.")]
    if kind < 0.6:
        animal, sound = rng.choice(list(_SOUNDS.items()))
        user = render(
            "[what does {x} {a} say|what sound does {x} {a} make|which sound does {x} {a} make]",
            rng,
            {"a": animal, "x": article(animal)},
        )
        return [(_say(rng, user), f"{capital(article(animal))} {animal} says {sound}.")]
    what, pool = rng.choice(list(_NAMES_OF.items()))
    n = rng.randint(2, 5)
    items = several(rng, pool, n, real=True)
    user = render("[name|tell me|give me|can you name|list] {n} {w}", rng, {"n": rng.choice((n, _WORDS[n])), "w": what})
    return [(_say(rng, user, "."), capital(listing(items)) + ".")]


def repeat(rng, memory, held=False):
    """Say what I say: copying, of sense and nonsense."""
    kind = rng.random()
    if kind < 0.4:
        text = " ".join(
            from_list(rng, rng.choice((words.COLOURS, words.FOODS, words.THINGS, words.ANIMALS, words.JOBS)), held)
            for _ in range(rng.randint(2, 6))
        )
    elif kind < 0.7:
        text = " ".join(
            rng.choice((names.person, names.town, names.code_word, names.pet))(rng, held)
            for _ in range(rng.randint(1, 5))
        )
    else:
        text = (
            f"the {from_list(rng, words.ANIMALS, held)}"
            f" {rng.choice(('likes', 'carries', 'finds', 'paints', 'sees', 'hides'))} the"
            f" {from_list(rng, words.COLOURS, held)} {from_list(rng, words.THINGS, held)}"
        )
    quote = rng.choice(('"', "'", ""))
    user = render(
        "[[please |]repeat[ after me|]: {q}{t}{q}|say {q}{t}{q}|[please |]say after me: {q}{t}{q}|write {q}{t}{q}]",
        rng,
        {"q": quote, "t": text},
    )
    return [(user, text)]
