"""Facts about the user: names, pets, things, places, plans, code words. Each function draws one fresh Fact."""

from . import events, names, words
from .memory import Fact
from .names import from_list


def user_name(rng, held=False):
    value = names.person(rng, held)
    if rng.random() < 0.12:
        value = value + " " + names._draw(rng, held, lambda: names.invented(rng))
    return Fact(
        ("user", "name"),
        value,
        {"v": value},
        "my name is {v}",
        "[my name is|I am|I'm|my name's|people call me|please call me|you can call me|everyone calls me|it's me,] {v}",
        "[what is|what's|tell me|do you know|do you remember|can you tell me|say] my name",
        "what my name is",
        "my name",
        lambda r: names.person(r, held),
        "my name is {v}",
    )


def who_am_i(fact):
    """The same fact, asked the other way round."""
    return Fact(
        fact.key, fact.value, fact.slots, fact.clause, fact.tell, "who am I", "who I am", fact.topic, fact.other
    )


def named(rng, noun, pool, pronoun, held):
    value = pool(rng, held)
    return Fact(
        ("named", noun),
        value,
        {"v": value, "n": noun},
        "my {n} is called {v}",
        "[my {n} is called {v}|my {n}'s name is {v}|the name of my {n} is {v}|I have a {n} [called|named] {v}"
        "|I've got a {n} [called|named] {v}|my {n} is named {v}|I call my {n} {v}|{v} is [my {n}|the name of my {n}]"
        "|my {n} {v} [is here too|says hello|is with me today]]",
        "[what is my {n} called|what's my {n}'s name|what is the name of my {n}|what is my {n}'s name|how is my {n}"
        " called|what did I [call|name] my {n}|which name does my {n} have|what name did I give my {n}]",
        "[what my {n} is called|the name of my {n}|my {n}'s name]",
        "my {n}",
        lambda r: pool(r, held),
        pronoun,
    )


def pet(rng, held=False):
    pronoun = rng.choice(("his", "her", "its")) + " name is {v}"
    return named(rng, from_list(rng, words.PETS, held), names.pet, pronoun, held)


def thing_name(rng, held=False):
    return named(rng, from_list(rng, words.NAMED_THINGS, held), names.pet, "its name is {v}", held)


def relation(rng, held=False):
    group, who = rng.choice(
        ((words.RELATIONS_F, "her"), (words.RELATIONS_M, "his"), (words.RELATIONS_X, rng.choice(("her", "his"))))
    )
    return named(rng, from_list(rng, group, held), names.person, who + " name is {v}", held)


def favourite(rng, held=False):
    kind = rng.choice(list(words.CATEGORIES))
    pool = words.CATEGORIES[kind]
    value = from_list(rng, pool, held)
    return Fact(
        ("favourite", kind),
        value,
        {"v": value, "n": kind},
        "my favourite {n} is {v}",
        "[my favourite {n} is {v}|the {n} I [like|love] [best|most] is {v}|{v} is my favourite {n}"
        "|of [all|every] {n} I like {v} best|my favorite {n} is {v}]",
        "[what is my favourite {n}|which {n} do I like best|what's my favourite {n}|what {n} do I [love|like] most"
        "|what is my favorite {n}]",
        "[what my favourite {n} is|which {n} I like best|my favourite {n}]",
        "my favourite {n}",
        lambda r: from_list(r, pool, held),
    )


def home(rng, held=False):
    value = names.town(rng, held)
    return Fact(
        ("user", "home"),
        value,
        {"v": value},
        "I live in {v}",
        "[I live in {v}|my home is in {v}|I have a [flat|house|small flat] in {v}|I live in a [place|town|village]"
        " called {v}|these days I live in {v}|I moved to {v}|home for me is {v}]",
        "[where do I live|which [town|city|place] do I live in|where is my home|what town do I live in]",
        "[where I live|which town I live in]",
        "my home",
        lambda r: names.town(r, held),
    )


def birthplace(rng, held=False):
    value = names.town(rng, held)
    return Fact(
        ("user", "birthplace"),
        value,
        {"v": value},
        "I was born in {v}",
        "[I was born in {v}|I grew up in {v}|I come from {v}|I am from {v}|I'm from {v}]",
        "[where was I born|where do I come from|where did I grow up|where am I from]",
        "[where I was born|where I come from]",
        "my birthplace",
        lambda r: names.town(r, held),
    )


def job(rng, held=False):
    value = from_list(rng, words.JOBS, held)
    article = "an" if value[0] in "aeiou" else "a"
    return Fact(
        ("user", "job"),
        value,
        {"v": value, "a": article},
        "I work as a {v}" if article == "a" else "I work as an {v}",
        "[I work as {a} {v}|I am {a} {v}|I'm {a} {v}|my job is {v}|I earn my living as {a} {v}|by trade I am {a} {v}]",
        "[what is my job|what do I do for [work|a living]|what's my job|what do I work as|what is my work]",
        "[what my job is|what I do for a living]",
        "my job",
        None,
    )


def age(rng, held=False):
    value = str(rng.randint(6, 99))
    return Fact(
        ("user", "age"),
        value,
        {"v": value},
        "I am {v} years old",
        "[I am {v} years old|I'm {v} years old|I just turned {v}|I am {v}|my age is {v}]",
        "[how old am I|what is my age|what's my age]",
        "[how old I am|my age]",
        "my age",
        lambda r: str(r.randint(6, 99)),
    )


def birthday(rng, held=False):
    value = f"{rng.randint(1, 28)} {rng.choice(words.MONTHS)}"
    return Fact(
        ("user", "birthday"),
        value,
        {"v": value},
        "my birthday is on {v}",
        "[my birthday is on {v}|my birthday is {v}|I was born on {v}|I have my birthday on {v}]",
        "[when is my birthday|when was I born|what day is my birthday|when's my birthday]",
        "[when my birthday is|the date of my birthday]",
        "my birthday",
        lambda r: f"{r.randint(1, 28)} {r.choice(words.MONTHS)}",
    )


def place_of(rng, held=False):
    thing, value = from_list(rng, words.THINGS, held), from_list(rng, words.PLACES_IN, held)
    return Fact(
        ("place", thing),
        value,
        {"v": value, "n": thing},
        "my {n} is {v}",
        "[I put [the|my] {n} {v}|my {n} is {v}|the {n} is {v}|I left [the|my] {n} {v}|I keep my {n} {v}|I hid the {n}"
        " {v}|you can find my {n} {v}]",
        "[where is [my|the] {n}|where did I [put|leave|keep] [my|the] {n}|where's my {n}|where can I find my {n}"
        "|where do I keep my {n}]",
        "[where my {n} is|where I put my {n}|where the {n} is]",
        "my {n}",
        lambda r: from_list(r, words.PLACES_IN, held),
    )


def colour_of(rng, held=False):
    thing, value = from_list(rng, words.THINGS + words.NAMED_THINGS, held), from_list(rng, words.COLOURS, held)
    return Fact(
        ("colour", thing),
        value,
        {"v": value, "n": thing},
        "my {n} is {v}",
        "[my {n} is {v}|the colour of my {n} is {v}|I have a {v} {n}|I painted my {n} {v}|I bought a {v} {n}|my new {n}"
        " is {v}]",
        "[what colour is my {n}|which colour does my {n} have|what is the colour of my {n}|what color is my {n}]",
        "[what colour my {n} is|the colour of my {n}]",
        "my {n}",
        lambda r: from_list(r, words.COLOURS, held),
    )


def plan(rng, held=False):
    day, value = rng.choice(words.DAYS), from_list(rng, words.ACTIVITIES, held)
    if rng.random() < 0.25:
        day = "the weekend"
    return Fact(
        ("plan", day),
        value,
        {"v": value, "n": day},
        "on {n} I want to {v}",
        "[on {n} I want to {v}|I want to {v} on {n}|my plan for {n} is to {v}|on {n} I am going to {v}|I will {v} on"
        " {n}|on {n} I have to {v}|I'm planning to {v} on {n}]",
        "[what do I want to do on {n}|what are my plans for {n}|what is my plan for {n}|what am I going to do on {n}"
        "|what will I do on {n}|what did I plan for {n}]",
        "[what I want to do on {n}|my plan for {n}]",
        "{n}",
        lambda r: from_list(r, words.ACTIVITIES, held),
    )


def secret(rng, held=False):
    noun = rng.choice(
        "code word,password,secret word,magic word,pass phrase,secret code,door code,safe word,wifi password".split(",")
    )
    value = names.code_word(rng, held)
    return Fact(
        ("secret", noun),
        value,
        {"v": value, "n": noun},
        "the {n} is {v}",
        "[the {n} is {v}|our {n} is {v}|my {n} is {v}|{v} is the {n}|the {n} for today is {v}|we use {v} as the {n}]",
        "[what is the {n}|what's the {n}|what was the {n}|which {n} did I tell you|what is my {n}]",
        "[what the {n} is|the {n}]",
        "the {n}",
        lambda r: names.code_word(r, held),
    )


def own_number(rng, held=False):
    noun = rng.choice(
        "locker,house,room,bus,table,seat,phone,ticket,flat,lucky,player,platform,order,parking space,gate".split(",")
    )
    value = names.number(rng, held)
    return Fact(
        ("number", noun),
        value,
        {"v": value, "n": noun},
        "my {n} number is {v}",
        "[my {n} number is {v}|the number of my {n} is {v}|I have {n} number {v}|{v} is my {n} number]",
        "[what is my {n} number|what's my {n} number|which {n} number do I have|what was my {n} number]",
        "[what my {n} number is|my {n} number]",
        "my {n} number",
        lambda r: names.number(r, held),
    )


def meeting(rng, held=False):
    who, where = names.person(rng, held), from_list(rng, words.PLACES, held)
    when = rng.choice(("yesterday", "last week", "this morning", "on " + rng.choice(words.DAYS), "today", "last night"))
    return Fact(
        ("met", where),
        who,
        {"v": who, "n": where, "t": when},
        "I met {v} at the {n}",
        "[{t} I met {v} at the {n}|I met {v} at the {n} {t}|I ran into {v} at the {n} {t}|{t} I saw {v} at the {n}]",
        "[who did I meet at the {n}|whom did I meet at the {n}|who did I see at the {n}|who was at the {n}]",
        "who I met at the {n}",
        "the {n}",
        lambda r: names.person(r, held),
    )


def gift(rng, held=False):
    who, thing = names.person(rng, held), from_list(rng, words.THINGS, held)
    article = "an" if thing[0] in "aeiou" else "a"
    return Fact(
        ("gift", who),
        thing,
        {"v": thing, "n": who, "a": article},
        "I want to give {n} " + article + " {v}",
        "[I want to give {n} {a} {v}|I will give {n} {a} {v} [for the birthday|]|I bought {a} {v} for {n}"
        "|I have {a} {v} as a present for {n}]",
        "[what do I want to give {n}|what is my present for {n}|what will I give {n}|what did I [buy|get] for {n}]",
        "[what I want to give {n}|my present for {n}]",
        "{n}",
        None,
    )


def plural(animal):
    special = {
        "mouse": "mice",
        "goldfish": "goldfish",
        "goose": "geese",
        "sheep": "sheep",
        "deer": "deer",
        "fox": "foxes",
        "wolf": "wolves",
    }
    if animal in special:
        return special[animal]
    return animal[:-1] + "ies" if animal.endswith(("ry", "py", "ny", "ly")) else animal + "s"


def likes(rng, held=False):
    """One of many things liked; asked for by yes or no."""
    value = from_list(rng, words.FOODS, held) if rng.random() < 0.6 else plural(from_list(rng, words.ANIMALS, held))
    return Fact(
        ("likes", value),
        value,
        {"v": value},
        "I like {v}",
        "[I like {v}|I love {v}|I really like {v}|I am fond of {v}]",
        "do I like {v}",
        "if I like {v}",
        "{v}",
        None,
    )


def how_many(rng, held=False):
    noun = rng.choice(
        "brothers,sisters,children,cousins,books,plants,cats,dogs,hens,bicycles,rooms,friends,pencils,hats,clocks,stamps,boats,keys"
        .split(",")
    )
    value = rng.choice((str(rng.randint(2, 40)), "two", "three", "four", "five", "six", "seven"))
    return Fact(
        ("how many", noun),
        value,
        {"v": value, "n": noun},
        "I have {v} {n}",
        "[I have {v} {n}|I own {v} {n}|I've got {v} {n}|there are {v} {n} in my life]",
        "[how many {n} do I have|how many {n} have I got]",
        "how many {n} I have",
        "my {n}",
        lambda r: r.choice((str(r.randint(2, 40)), "two", "three", "four", "five", "six")),
    )


def own_pet(rng, held=False):
    """Asked for without a kind: "what is my pet called"."""
    return named(rng, "pet", names.pet, "its name is {v}", held)


RELATIONS = frozenset(words.RELATIONS_F + words.RELATIONS_M + words.RELATIONS_X)
KINDS = (
    (user_name, 9),
    (pet, 9),
    (thing_name, 6),
    (relation, 10),
    (favourite, 9),
    (home, 5),
    (birthplace, 3),
    (job, 4),
    (age, 3),
    (birthday, 2),
    (place_of, 6),
    (colour_of, 4),
    (plan, 6),
    (secret, 6),
    (own_number, 4),
    (meeting, 5),
    (gift, 3),
    (events.person_fact, 16),
    (events.own_event, 16),
    (likes, 4),
    (how_many, 4),
)
_FUNCTIONS = [kind for kind, _ in KINDS]
_WEIGHTS = [weight for _, weight in KINDS]


def any_fact(rng, held=False):
    return rng.choices(_FUNCTIONS, _WEIGHTS)[0](rng, held)
