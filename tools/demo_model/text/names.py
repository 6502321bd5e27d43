"""Names: some familiar, most of them assembled from syllables, so that a name is copied and not known.

`held_out` keeps one tenth of every pool away from training; evaluation draws from that tenth only.
"""

import zlib

_START = (
    "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sh st t th tr v w y z bl cl cr fr gl sk sl sn sp sv tw vl zh"
    .split()
    + [""] * 3
)
_VOWEL = "a e i o u a e i o u a e i o ai au ea ee ei ia ie io oa oo ou ua ui y".split()
_MIDDLE = (
    "b bb ck d dd f g gg k l ll ld lm ln m mm mb n nn nd ng nk p pp r rr rd rk rl rm rn rt s ss st sk t tt th v x z zz"
    .split()
)
_END = (
    "n r l s t k m d x th sh nd st ck ra la na ta ka da ro lo no to ko do ri li ni ti ki vi en el er is us on as a o"
    " i e y".split()
    + [""] * 6
)
_TOWN = (
    "ton burg ford ville mouth dale by stad haven field wick ham bridge gate holm moor ness fell stead porto".split()
)

FIRST_NAMES = (
    "Ada Adam Agnes Alan Alba Alex Alice Alma Amara Amir Amy Ana Anders Andrea Anna Anton Arthur Asha Astrid Aurora Ava"
    " Axel Bea Ben Bella Bianca Boris Bruno Carla Carlos Cara Cecil Chen Chloe Clara Claude Conrad Cora Cyrus Daisy"
    " Dana Daniel Dario David Delia Diego Dina Dora Dylan Edda Edgar Edith Eli Elena Elias Ella Elsa Emil Emma Enzo"
    " Eric Erika Esther Eva Ezra Faye Felix Fiona Flora Frank Freya Frida Gabriel Gemma George Gina Greta Gus Hana"
    " Hannah Harry Hassan Hazel Hector Heidi Helen Henry Hugo Ian Ida Igor Ines Ingrid Iris Isaac Isla Ivan Ivy Jack"
    " Jacob Jamal James Jane Jasmin Jasper Jenny Jonas Joan Joel Jon Josef Judith Julia Juno Kai Kara Karim Kate Keiko"
    " Kenji Kira Kofi Lara Lars Laura Layla Lea Leila Lena Leo Leon Lia Liam Lily Lin Lina Linus Lisa Livia Lola Lotte"
    " Louis Luca Lucia Lucy Luis Luna Maja Malik Mara Marco Maria Mark Marta Mary Mateo Matt Maya Mei Mia Mila Milo"
    " Mina Mira Miriam Mona Nadia Naomi Nate Nell Nico Nils Nina Noah Nora Odin Olga Olive Oliver Omar Oscar Otto Pablo"
    " Paul Paula Pedro Petra Philip Pia Priya Quinn Rafael Raj Ravi Rita Robin Rosa Rose Ruby Ruth Sam Samira Sana Sara"
    " Sasha Selma Simon Sofia Sonja Stella Sven Tara Tariq Tess Theo Thomas Tilda Tim Tina Tobias Tom Uma Una Vera"
    " Victor Viola Walter Wanda Wendy Will Xenia Yara Yasmin Yuki Yusuf Zara Zoe"
).split()
PET_NAMES = (
    "Biscuit Pepper Shadow Luna Milo Coco Rusty Ginger Smokey Patch Whiskers Pickle Waffle Mochi Noodle Bean Button"
    " Cinnamon Clover Cookie Domino Dusty Ember Fern Fig Flash Fluffy Ghost Hazel Honey Jelly Juniper Kiwi Lucky Maple"
    " Marble Mango Misty Muffin Nugget Nutmeg Olive Oreo Otter Peanut Pebble Pip Pixel Poppy Pudding Rocket Rex Scout"
    " Socks Spot Sunny Tiger Toffee Truffle Twig Velvet Willow Ziggy Sparky Rascal Bandit Buddy Duke Max Bella Daisy"
    " Rocky Toby Storm Echo Comet Nova Atlas"
).split()
TOWNS = (
    "Lisbon Porto Oslo Bergen Vienna Graz Prague Krakow Berlin Hamburg Paris Lyon Nantes Madrid Seville Rome Milan"
    " Turin Athens Dublin Cork Leeds York Bath Cardiff London Bristol Glasgow Boston Denver Austin Chicago Seattle"
    " Toronto Quito Lima Bogota Santiago Cairo Tunis Rabat Accra Lagos Nairobi Delhi Mumbai Pune Kyoto Osaka Tokyo"
    " Seoul Hanoi Perth Sydney Auckland Zurich Geneva Basel Bern Ghent Antwerp Utrecht Malmo Aarhus Turku Riga Vilnius"
    " Tallinn Warsaw Sofia Zagreb Split Tartu Bremen Kiel"
).split()


def held_out(value):
    """True for the tenth of all values that training never sees."""
    return zlib.crc32(str(value).lower().encode()) % 10 == 3


def _allowed(value, held):
    return held_out(value) == held


def invented(rng):
    """A name nobody has: one to three syllables."""
    name = rng.choice(_START) + rng.choice(_VOWEL)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        name += rng.choice(_MIDDLE) + rng.choice(_VOWEL)
    name += rng.choice(_END)
    return name.capitalize() if len(name) > 2 else name.capitalize() + rng.choice("nrlstkmd") + rng.choice("aeio")


def scrambled(rng):
    """Letters without sense, so that single letters are copied as well."""
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8))).capitalize()


def _draw(rng, held, make):
    while True:
        value = make()
        if _allowed(value, held):
            return value


def person(rng, held=False):
    def make():
        kind = rng.random()
        if kind < 0.35:
            return rng.choice(FIRST_NAMES)
        if kind < 0.93:
            return invented(rng)
        return scrambled(rng)

    return _draw(rng, held, make)


def pet(rng, held=False):
    def make():
        kind = rng.random()
        if kind < 0.3:
            return rng.choice(PET_NAMES)
        if kind < 0.4:
            return rng.choice(FIRST_NAMES)
        if kind < 0.5:
            return rng.choice(("Captain ", "Lady ", "Sir ", "Miss ", "Little ", "Old ", "Doctor ")) + invented(rng)
        return invented(rng) if kind < 0.95 else scrambled(rng)

    return _draw(rng, held, make)


def town(rng, held=False):
    def make():
        kind = rng.random()
        if kind < 0.4:
            return rng.choice(TOWNS)
        if kind < 0.75:
            return invented(rng) + rng.choice(_TOWN)
        return invented(rng)

    return _draw(rng, held, make)


def code_word(rng, held=False):
    def make():
        kind = rng.random()
        if kind < 0.3:
            return invented(rng).lower()
        if kind < 0.5:
            return invented(rng).lower() + "-" + str(rng.randint(2, 99))
        if kind < 0.7:
            return invented(rng).lower() + " " + invented(rng).lower()
        return (
            scrambled(rng).lower()
            if kind < 0.85
            else "".join(rng.choice("0123456789") for _ in range(rng.randint(3, 6)))
        )

    return _draw(rng, held, make)


def number(rng, held=False):
    return _draw(rng, held, lambda: str(rng.randint(1, 9999) if rng.random() < 0.5 else rng.randint(1, 99)))


_VERBS = (
    "paint|buy|fix|clean|visit|sell|find|draw|feed|wash|mend|build|bake|cook|read|learn about|talk to|look for|carry"
    .split("|")
)
_BESIDE = "in|on|under|behind|beside|next to|near|inside|above|between the books and".split("|")


def unheard(rng, words):
    """A word that belongs to no list, worded like the entries of `words`, so that any noun is copied, not guessed."""
    word = invented(rng).lower()
    if words[0].split(" ")[0] in ("in", "on", "under"):
        return f"{rng.choice(_BESIDE)} the {word}"
    if len(words) > 40 and " " in words[0] and words[0].split(" ")[0] in ("swim", "paint", "bake"):
        return f"{rng.choice(_VERBS)} the {word}"
    return word if rng.random() < 0.8 else f"{word} {rng.choice(words)}"


def from_list(rng, words, held=False, real=False):
    """A word of a list, of its training part or of its held-out part (of the whole list if no word is held out).

    In training three of ten words of an open list are ones that nobody has heard, unless a `real` one is needed.
    """
    if not held and not real and len(words) > 19 and rng.random() < 0.3:
        return _draw(rng, held, lambda: unheard(rng, words))
    for _ in range(200):
        value = rng.choice(words)
        if _allowed(value, held):
            return value
    return rng.choice(words)


def several(rng, words, count, held=False, old=(), real=False):
    """Different words of a list, none of `old`; falls back on any word when the held-out part is too small."""
    items = []
    for attempt in range(1000):
        item = from_list(rng, words, held, real) if attempt < 60 else rng.choice(words)
        if item not in old and item not in items:
            items.append(item)
        if len(items) == count:
            break
    return items
