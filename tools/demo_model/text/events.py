"""Facts about what the user does, and about other people (who may be known by name or as "my sister")."""

from . import names, words
from .memory import Fact
from .names import from_list
from .spin import article


def _fact(key, value, slots, clause, tell, ask, indirect, topic, other, reverse=""):
    slots = dict(slots, v=value)
    return Fact(key, value, slots, clause, tell, ask, indirect, topic, other, "", 0, reverse)


def _list(pool, held):
    return lambda r: from_list(r, pool, held)


def person_fact(rng, held=False, who=None):
    """One attribute of a person; `who` is a name, "my sister", or None for somebody new."""
    who = who or names.person(rng, held)
    kind = rng.choice(
        ("home", "job", "likes", "plays", "age", "pet", "from", "eyes", "afraid", "drinks", "car", "birthday", "speaks")
    )
    key, s = ("person", who, kind), {"n": who}
    if kind == "home":
        make = lambda r: names.town(r, held)
        return _fact(
            key,
            make(rng),
            s,
            "{n} lives in {v}",
            "{n} [lives|has a house|has a flat|now lives] in {v}",
            "[where does {n} live|which town does {n} live in|where is {n}'s home]",
            "where {n} lives",
            "{n}",
            make,
            "who lives in {v}",
        )
    if kind == "job":
        value = from_list(rng, words.JOBS, held)
        a = article(value)
        return _fact(
            key,
            value,
            s,
            f"{{n}} works as {a} {{v}}",
            f"{{n}} [works as|is] {a} {{v}}",
            "[what is {n}'s job|what does {n} do for a living|what does {n} work as]",
            "what {n} does for a living",
            "{n}",
            None,
            f"who [is|works as] {a} {{v}}",
        )
    if kind == "likes":
        make = _list(words.FOODS, held)
        return _fact(
            key,
            make(rng),
            s,
            "{n} likes {v}",
            "{n} [likes|loves|likes to eat] {v}",
            "[what does {n} like|what does {n} like to eat]",
            "what {n} likes",
            "{n}",
            make,
            "who likes {v}",
        )
    if kind == "drinks":
        make = _list(words.DRINKS, held)
        return _fact(
            key,
            make(rng),
            s,
            "{n} drinks {v}",
            "{n} [drinks|always drinks|only drinks] {v}",
            "what does {n} drink",
            "what {n} drinks",
            "{n}",
            make,
            "who drinks {v}",
        )
    if kind == "plays":
        make = _list(words.CATEGORIES["instrument"], held)
        return _fact(
            key,
            make(rng),
            s,
            "{n} plays the {v}",
            "{n} plays the {v}",
            "[what does {n} play|which instrument does {n} play]",
            "which instrument {n} plays",
            "{n}",
            make,
            "who plays the {v}",
        )
    if kind == "age":
        make = lambda r: str(r.randint(2, 99))
        return _fact(
            key,
            make(rng),
            s,
            "{n} is {v} years old",
            "{n} [is {v} years old|is {v}|just turned {v}]",
            "[how old is {n}|what is {n}'s age]",
            "how old {n} is",
            "{n}",
            make,
        )
    if kind == "pet":
        value = from_list(rng, words.PETS, held)
        a = article(value)
        return _fact(
            key,
            value,
            s,
            f"{{n}} has {a} {{v}}",
            f"{{n}} [has|keeps|owns] {a} {{v}}",
            "[what pet does {n} have|which animal does {n} have]",
            "which pet {n} has",
            "{n}",
            None,
            f"who has {a} {{v}}",
        )
    if kind == "from":
        make = lambda r: names.town(r, held)
        return _fact(
            key,
            make(rng),
            s,
            "{n} comes from {v}",
            "{n} [comes from|is from|grew up in] {v}",
            "[where does {n} come from|where is {n} from]",
            "where {n} comes from",
            "{n}",
            make,
            "who comes from {v}",
        )
    if kind == "eyes":
        make = lambda r: r.choice(("blue", "green", "brown", "grey", "dark", "hazel"))
        return _fact(
            key,
            make(rng),
            s,
            "{n} has {v} eyes",
            "{n} has {v} eyes",
            "[what colour are {n}'s eyes|which colour are {n}'s eyes]",
            "the colour of {n}'s eyes",
            "{n}",
            make,
        )
    if kind == "afraid":
        from . import facts

        value = facts.plural(from_list(rng, words.PETS, held))
        return _fact(
            key,
            value,
            s,
            "{n} is afraid of {v}",
            "{n} [is afraid of|fears] {v}",
            "what is {n} afraid of",
            "what {n} is afraid of",
            "{n}",
            None,
            "who is afraid of {v}",
        )
    if kind == "car":
        make = _list(words.COLOURS, held)
        value = make(rng)
        return _fact(
            key,
            value,
            s,
            "{n}'s car is {v}",
            "{n}'s [car|new car] is {v}",
            "[what colour is {n}'s car|which colour does {n}'s car have]",
            "the colour of {n}'s car",
            "{n}",
            make,
        )
    if kind == "birthday":
        make = lambda r: r.choice(words.MONTHS)
        return _fact(
            key,
            make(rng),
            s,
            "{n}'s birthday is in {v}",
            "{n}'s birthday is in {v}",
            "[when is {n}'s birthday|in which month is {n}'s birthday]",
            "when {n}'s birthday is",
            "{n}",
            make,
        )
    make = lambda r: r.choice(
        "French German Spanish Italian Dutch Greek Polish Danish Japanese Korean Turkish Arabic".split()
    )
    return _fact(
        key,
        make(rng),
        s,
        "{n} speaks {v}",
        "{n} [speaks|is learning to speak|only speaks] {v}".replace("is learning to speak", "speaks"),
        "which language does {n} speak",
        "which language {n} speaks",
        "{n}",
        make,
        "who speaks {v}",
    )


def own_event(rng, held=False):
    """Something the user did, does or will do."""
    kind = rng.choice(
        (
            "meal",
            "reading",
            "dream",
            "allergy",
            "lost",
            "saw",
            "trip",
            "bought",
            "when",
            "with",
            "learn",
            "film",
            "ride",
        )
    )
    if kind == "meal":
        meal, make = rng.choice(("breakfast", "lunch", "dinner", "supper")), _list(words.FOODS, held)
        return _fact(
            ("meal", meal),
            make(rng),
            {"n": meal},
            "I had {v} for {n}",
            "[I had {v} for {n}|for {n} I had {v}|I ate {v} for {n}]",
            "[what did I have for {n}|what did I eat for {n}|what was my {n}]",
            "what I had for {n}",
            "{n}",
            make,
        )
    if kind == "reading":
        make = (
            lambda r: "The "
            + r.choice((from_list(r, words.COLOURS, held).title(), names.person(r, held)))
            + " "
            + from_list(r, words.THINGS + words.PLACES, held).title()
        )
        return _fact(
            ("reading",),
            make(rng),
            {},
            "I am reading {v}",
            "[I am reading {v}|I'm reading a book called {v}|the book I am reading is {v}]",
            "[what am I reading|which book am I reading|what is my book called]",
            "which book I am reading",
            "my book",
            make,
        )
    if kind == "dream":
        value = from_list(rng, words.ANIMALS, held)
        a = article(value)
        return _fact(
            ("dream",),
            value,
            {},
            f"I dreamt of {a} {{v}}",
            f"[last night I dreamt of {a} {{v}}|I had a dream about {a} {{v}}]",
            "[what did I dream of|what was my dream about|what did I dream about]",
            "what I dreamt of",
            "my dream",
            None,
        )
    if kind == "allergy":
        make = _list(words.FOODS, held)
        return _fact(
            ("allergy",),
            make(rng),
            {},
            "I am allergic to {v}",
            "[I am allergic to {v}|I'm allergic to {v}|I cannot eat {v}]",
            "[what am I allergic to|what can I not eat|which food am I allergic to]",
            "what I am allergic to",
            "my allergy",
            make,
        )
    if kind == "lost":
        make = _list(words.THINGS, held)
        return _fact(
            ("lost",),
            make(rng),
            {},
            "I lost my {v}",
            "[I lost my {v}|I can't find my {v}|I have lost my {v} somewhere]",
            "[what did I lose|what have I lost|what am I looking for]",
            "what I lost",
            "my loss",
            make,
        )
    if kind == "saw":
        place, value = from_list(rng, words.PLACES, held), from_list(rng, words.ANIMALS, held)
        a = article(value)
        return _fact(
            ("saw", place),
            value,
            {"n": place},
            f"I saw {a} {{v}} at the {{n}}",
            f"[I saw {a} {{v}} at the {{n}}|there was {a} {{v}} at the {{n}}]",
            "[what did I see at the {n}|which animal did I see at the {n}|which animal was at the {n}]",
            "what I saw at the {n}",
            "the {n}",
            None,
        )
    if kind == "trip":
        month, make = rng.choice(words.MONTHS), lambda r: names.town(r, held)
        return _fact(
            ("trip", month),
            make(rng),
            {"n": month},
            "in {n} I am going to {v}",
            "[in {n} I am going to {v}|I will travel to {v} in {n}|I'm going to {v} in {n}|I have a trip to {v} in"
            " {n}]",
            "[where am I going in {n}|where will I travel in {n}|what is my trip in {n}]",
            "where I am going in {n}",
            "{n}",
            make,
        )
    if kind == "bought":
        thing, make = from_list(rng, words.THINGS, held), _list(words.PLACES, held)
        return _fact(
            ("bought", thing),
            make(rng),
            {"n": thing, "a": article(thing)},
            "I bought the {n} at the {v}",
            "[I bought {a} {n} at the {v}|at the {v} I bought {a} {n}|I got the {n} at the {v}]",
            "[where did I buy the {n}|where did I get the {n}|where does my {n} come from]",
            "where I bought the {n}",
            "the {n}",
            make,
        )
    if kind == "when":
        what = rng.choice(
            "meeting,concert,party,match,lesson,dinner,appointment,interview,film,lecture,wedding,exam".split(",")
        )
        make = lambda r: (
            f"{r.randint(1, 12)} o'clock"
            if r.random() < 0.6
            else f"half past {r.choice('one two three four five six seven eight nine ten'.split())}"
        )
        return _fact(
            ("when", what),
            make(rng),
            {"n": what},
            "the {n} is at {v}",
            "[the {n} is at {v}|the {n} starts at {v}|my {n} is at {v}]",
            "[when is the {n}|at what time is the {n}|when does the {n} start|when is my {n}]",
            "when the {n} is",
            "the {n}",
            make,
        )
    if kind == "with":
        place, make = from_list(rng, words.PLACES, held), lambda r: names.person(r, held)
        return _fact(
            ("with", place),
            make(rng),
            {"n": place},
            "I went to the {n} with {v}",
            "[I went to the {n} with {v}|{v} and I went to the {n}|{v} came with me to the {n}|yesterday I went to the"
            " {n} with {v}]",
            "[who went to the {n} with me|who came with me to the {n}|with whom did I go to the {n}|who did I go to the"
            " {n} with]",
            "who went to the {n} with me",
            "the {n}",
            make,
        )
    if kind == "learn":
        make = _list(words.CATEGORIES["subject"] + words.CATEGORIES["hobby"], held)
        return _fact(
            ("learn",),
            make(rng),
            {},
            "I am learning {v}",
            "[I am learning {v}|I'm learning {v}|I study {v}|I have started to learn {v}]",
            "[what am I learning|what do I study]",
            "what I am learning",
            "my studies",
            make,
        )
    if kind == "ride":
        make = lambda r: r.choice(
            ("by bus", "by train", "by bicycle", "on foot", "by car", "by boat", "by tram", "on horseback", "by taxi")
        )
        return _fact(
            ("ride",),
            make(rng),
            {},
            "I go to work {v}",
            "[I go to work {v}|I get to work {v}|every day I go to work {v}]",
            "how do I [go|get] to work",
            "how I get to work",
            "my way to work",
            make,
        )
    make = lambda r: "The " + from_list(r, words.JOBS + words.ANIMALS, held).title() + " of " + names.town(r, held)
    return _fact(
        ("film",),
        make(rng),
        {},
        "I watched {v}",
        "[I watched {v}|yesterday I watched {v}|I watched a film called {v}|last night I saw the film {v}]",
        "[which film did I watch|what did I watch|what was the film called]",
        "which film I watched",
        "the film",
        make,
    )
