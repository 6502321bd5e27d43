"""Small stories the assistant tells, small stories the user tells, and questions about both."""

from . import names, noise, words
from .names import from_list, several
from .spin import article, capital, render

_FEELING = "small|curious|shy|brave|lazy|clever|lonely|kind|proud|old|young|hungry|tired|quiet|merry|careful".split("|")
_WHERE = (
    "in a deep forest|in a small village|in a white lighthouse|in an old mill|in a quiet valley|on a boat on the"
    " river|in a house by the sea|in a little town|on a green island|in a garden behind a wall|in a cave near the"
    " sea|in a castle on a hill|in the attic of a school|in a barn at the edge of a wood|in a narrow street|in a tree"
    " by the lake|at a station without trains|in a tower full of clocks"
).split("|")
_TROUBLE = (
    ("lost {his} {t}", "looked for it everywhere", "found it {p}"),
    ("could not find {his} {t}", "asked everybody in the place", "found it {p}"),
    ("dropped {his} {t} into the water", "called for help", "got it back"),
    ("broke {his} {t}", "tried to mend it all day", "made it whole again"),
    ("wanted a {t} more than anything", "worked for a whole summer", "got it at last"),
    ("forgot the way home", "walked for a night and a day", "saw a light and was home"),
    ("was afraid of the dark", "sat awake every night", "learned to love the stars"),
    ("had nobody to play with", "waited at the window", "had a friend for life"),
    ("heard a strange noise at night", "crept out with a candle", "found that it was only the wind"),
    ("found a letter without a name", "went from door to door with it", "gave it to the right person"),
    ("wanted to see the sea", "packed a bag and set out", "stood on the beach"),
    ("had to cross the wide river", "built a raft from driftwood", "reached the other side"),
)
_SPOTS = (
    "under a stone|in an old boot|behind the oven|on top of the tower|in a bird's nest|under the bridge|in the baker's"
    " shop|beside the well|in a hollow tree|at the bottom of a basket|in the snow|between two books"
).split("|")
_HELP = (
    "{h} came by and helped|{h} heard of it and came to help|{h} had an idea|an old friend, {h}, gave good advice|{h}"
    " said: do not give up".split("|")
)
_END = (
    "From that day on they were friends.|In the evening they shared some {f}.|They danced until the moon went down.|And"
    " they all slept well that night.|Then they sat by the fire and ate {f}.|It was the best day of the year.|And if"
    " you listen at night, you can hear them laugh.|The next morning the sun shone on everything.|After that, nobody"
    " was sad for a long time.|Since then {n} has never been alone."
).split("|")
_ASK_STORY = (
    "[[please |]tell me a [story|short story|little story|tale][{ab}|]|[can|could] you tell me a [story|bedtime"
    " story][{ab}|]|a story[{ab}|][, please|]|I [want|would like] to hear a story[{ab}|]|do you know a [good |nice"
    " |]story[{ab}|]|make up a story[{ab}|]|another story[{ab}|][, please|]|story[{ab}| please|]]"
)


class Story:
    """What was told, for the questions after it."""

    def __init__(self, hero, kind, helper, place, trouble):
        self.hero, self.kind, self.helper, self.place, self.trouble = hero, kind, helper, place, trouble


def tell_story(rng, memory, held=False, plain=False):
    known = [f for f in memory.known() if f.key[0] == "named" or f.key == ("user", "name")]
    pick = 1.0 if plain else rng.random()
    own = about = ""
    # Of itself the assistant names its heroes with familiar names; names that it is given may be any.
    given = 0.75 <= pick < 0.88
    hero = names.person(rng, held) if given else from_list(rng, names.FIRST_NAMES, held, real=True)
    kind = from_list(rng, words.ANIMALS, held, real=pick >= 0.45)
    if known and pick < 0.2:
        fact = rng.choice(known)
        hero = fact.value
        kind = "traveller" if fact.key == ("user", "name") else fact.key[1]
        about = " about " + ("me" if fact.key == ("user", "name") else "my " + kind)
        own = "your"
    elif pick < 0.45:
        about = f" about {article(kind)} {kind}"
    elif pick < 0.6:
        kind = from_list(rng, words.JOBS, held)
        about = f" about {article(kind)} {kind}"
    elif pick < 0.75:
        kind = from_list(rng, words.NAMED_THINGS + words.PETS, held)
        about = f" about {article(kind)} {kind}" if rng.random() < 0.7 else f" about the {kind}"
    elif pick < 0.88:
        about = f" about {article(kind)} {kind} [called|named] {hero}"
    trouble, effort, end = rng.choice(_TROUBLE)
    thing, place, spot = from_list(rng, words.THINGS, held, real=True), rng.choice(_WHERE), rng.choice(_SPOTS)
    helper_kind = from_list(rng, words.ANIMALS + words.JOBS, held, real=True)
    friend = from_list(rng, names.FIRST_NAMES, held, real=True)
    helper = (
        f"{article(helper_kind)} {helper_kind} called {friend}"
        if friend != hero and rng.random() < 0.3
        else f"{article(helper_kind)} {helper_kind}"
    )
    feeling = rng.choice(_FEELING)
    slots = {
        "n": hero,
        "k": kind,
        "t": thing,
        "p": spot,
        "h": helper,
        "f": from_list(rng, words.FOODS, held, real=True),
        "w": place,
        "g": feeling,
        "a": article(feeling),
        "his": rng.choice(("his", "her", "its")),
    }
    if own and kind == "traveller":
        opening = "[Once upon a time|Once|Long ago] there was {a} {g} traveller called {n}, who lived {w}. "
    elif own:
        opening = "[Once upon a time|Once] your {k} {n} lived {w}. "
    else:
        opening = "[Once upon a time|Once|Long ago|Many years ago] there was {a} {g} {k} called {n}, who lived {w}. "
    middle = (
        f"One [day|morning|evening|night], {{n}} {trouble}. [{{n}} {effort}, but [it did not help|nothing came of it|it"
        f" was in vain].|So {{n}} {effort}.] "
    )
    middle += f"Then {rng.choice(_HELP)}, and [soon|in the end|at last] {{n}} {end}. "
    text = render(opening + middle + rng.choice(_END), rng, slots)
    user = render(render_about(_ASK_STORY, about), rng, None, noise.typo if rng.random() < 0.15 else None)
    memory.story = Story(hero, kind, helper, place, trouble.format(**slots))
    user = capital(user) if rng.random() < 0.8 else user
    turns = [(noise.sloppy(user + rng.choice((".", "?", "")), rng), text)]
    while rng.random() < 0.45:
        turns += about_story(rng, memory, held)
    return turns


def render_about(template, about):
    return template.replace("[{ab}|]", about).replace("{ab}", about)


def about_story(rng, memory, held=False):
    """A question about the story told last."""
    story = memory.story
    if story is None:
        user = rng.choice(("What was your story about?", "Who was in your story?", "How did the story end?"))
        turns = [(user, "I have not told you a story yet. Shall I tell you one?")]
        if rng.random() < 0.6:
            yes = rng.choice(("Yes", "Yes, please", "Please do", "Sure", "Okay", "Yes please", "Go ahead"))
            turns.append((noise.sloppy(yes + rng.choice(".!"), rng), tell_story(rng, memory, held, plain=True)[0][1]))
        return turns
    choices = [
        (
            "[who was the story about|who was in [the|your] story|what was the story about|what was your story about]",
            f"The story was about {story.hero}, {article(story.kind)} {story.kind}.",
        ),
        ("[where did {n} live|where did the story [happen|take place]]", f"{story.hero} lived {story.place}."),
        ("[who helped {n}|who helped in the story|who came to help]", f"It was {story.helper}."),
        (
            "[what happened to {n}|what was {n}'s [trouble|problem]|what went wrong in the story]",
            f"{story.hero} {story.trouble}.",
        ),
        (
            "[what was the {k} called|what was the name of the {k}|what was the {k}'s name]",
            f"The {story.kind} was called {story.hero}.",
        ),
    ]
    question, answer = rng.choice(choices)
    user = render(question, rng, {"n": story.hero, "k": story.kind}) + "?"
    return [(noise.sloppy(capital(user) if rng.random() < 0.8 else user, rng), answer)]


def listen(rng, memory, held=False):
    """The user tells of two or three people and their things, who give, swap and lose; then asks."""
    people = []
    while len(people) < 3:
        name = names.person(rng, held)
        if name not in people:
            people.append(name)
    things = several(rng, words.THINGS, 3, held)
    count = rng.choice((2, 3))
    has = {person: [thing] for person, thing in zip(people[:count], things)}
    lines = [f"{p} has {article(t[0])} {t[0]}." for p, t in has.items()]
    for _ in range(rng.choice((0, 1, 1, 2))):
        owners = [p for p in has if has[p]]
        giver = rng.choice(owners)
        taker = rng.choice([p for p in has if p != giver])
        thing = rng.choice(has[giver])
        has[giver].remove(thing)
        has[taker].append(thing)
        lines.append(
            rng.choice(
                (
                    f"{giver} gives the {thing} to {taker}.",
                    f"{taker} takes the {thing} from {giver}.",
                    f"{giver} gives {taker} the {thing}.",
                )
            )
        )
    story = rng.choice(("", "Listen: ", "A story: ", "Here is a story. ")) + " ".join(lines)
    holder = {thing: p for p in has for thing in has[p]}
    thing = rng.choice(list(holder))
    who = holder[thing]

    def question():
        if rng.random() < 0.7:
            return (
                rng.choice((f"Who has the {thing}?", f"Who has the {thing} now?", f"Where is the {thing}?")),
                f"{who} has the {thing}.",
            )
        return f"What does {who} have?", f"{who} has " + " and ".join("the " + t for t in has[who]) + "."

    ask, answer = question()
    if rng.random() < 0.6:
        return [(f"{story} {ask}", answer)]
    return [
        (
            story,
            rng.choice(
                ("I see.", "All right, I am listening.", "Noted. What would you like to know?", "I will remember that.")
            ),
        ),
        (ask, answer),
    ]
