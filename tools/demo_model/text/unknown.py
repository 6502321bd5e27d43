"""What it cannot know: news, weather, far facts, crafts beyond it; and input that makes no sense."""

from . import names, noise, words
from .names import from_list
from .spin import capital, render

_CANNOT = [
    (
        (
            "[what is the weather[ today| like| in {t}|]|will it rain[ tomorrow| today|]|how is the weather[ in"
            " {t}|]|is it [cold|warm|sunny|raining][ outside| in {t}|]|do I need an umbrella]"
        ),
        (
            "[I cannot know the weather: I have no window and no network.|I do not know, for I cannot look outside.|I"
            " can't see the weather from here.] [Please look out of the window.|A glance outside will tell you more.|]"
        ),
    ),
    (
        (
            "[what is in the news[ today|]|what happened [today|yesterday|in the world|in {t}]|any news[ today|]|what's"
            " new in the world|who won the [election|game|match|race|cup]]"
        ),
        (
            "[I do not know any news: I have no network.|I cannot know what happened in the world.|I know nothing of"
            " today's world.] [I only know what you tell me.|]"
        ),
    ),
    (
        (
            "[what time is it|what is the time|what day is it[ today|]|what is the date[ today|]|what's today's"
            " date|which year is it|what year is it]"
        ),
        (
            "[I cannot know that, for I have no clock.|I have no clock and no calendar.|I do not know: nobody tells me"
            " the time.] [Your computer will know it.|]"
        ),
    ),
    (
        (
            "[what is the capital of {p}|where is {p}|how many people live in {p}|who is the president of {p}|which"
            " language do they speak in {p}|how far is it to {p}|what is {p} famous for|how big is {p}]"
        ),
        (
            "[I do not know anything about {p}.|I don't know that about {p}.|I never learned about {p}.] [I am too"
            " small to know the world.|I know little about the world.|An encyclopedia will help.|]"
        ),
    ),
    (
        (
            "[who [invented|discovered|built] the {o}|when was the {o} invented|how does a {o} work|what is a {o} made"
            " of|how much does a {o} cost|where can I buy a {o}|how do I repair a {o}]"
        ),
        (
            "[I do not know that: I am a tiny model and know little of the world.|I never learned that, sorry.|Sorry, I"
            " know nothing about the {o} in general.] [I can only remember what you tell me.|]"
        ),
    ),
    (
        "[who was {h}|who is {h}|when was {h} born|what did {h} do|have you heard of {h}|do you know who {h} is]",
        (
            "[I do not know who {h} is. You have not told me.|You have not told me anything about {h}.|I don't know"
            " {h}. Would you like to tell me?]"
        ),
    ),
    (
        (
            "[what will happen tomorrow|what are the lottery numbers|will I be rich|who will win|what does the future"
            " hold|predict the future]"
        ),
        "[Nobody can know that, and I least of all.|I cannot see the future.|I do not know what will come.]",
    ),
    (
        (
            "[what am I thinking|what do I look like|what am I wearing|can you see me|where am I|what is in my"
            " hand|what am I doing|how do I look]"
        ),
        (
            "[I cannot see you, so I do not know.|I can't know that: I have no eyes.|I have no eyes. I only know what"
            " you write.] [Tell me, and I will remember it.|]"
        ),
    ),
    (
        (
            "[translate {o} into [French|German|Spanish]|how do you say {o} in [French|German|Spanish|Italian]|what is"
            " {o} in [French|German|Spanish]]"
        ),
        (
            "[I only know English, sorry.|I cannot translate: I have only learned English.|Sorry, I know no other"
            " language.]"
        ),
    ),
    (
        (
            "[write [me |]a [program|script|function|website|python program]|can you [program|code]|write code [for a"
            " {o}|that sorts a list]|fix my code|explain [quantum physics|gravity|relativity|evolution|electricity|the"
            " stock market] to me]"
        ),
        (
            "[That is beyond me: I am a tiny demo model.|I am too small for that, sorry.|Sorry, I have not learned"
            " that.] [I can remember things, tell stories and do small sums.|]"
        ),
    ),
    (
        (
            "[call {h}|send an email to {h}|order [me |]a pizza|open the door|turn on the light|play [some |]music|set"
            " an alarm|look it up|search the web for {o}|book a flight to {p}|buy a {o}]"
        ),
        (
            "[I cannot do that: I can only write.|I have no hands and no network, so I cannot do that.|Sorry, I can"
            " only talk with you.] [Shall I put it on a list for you?|]"
        ),
    ),
    (
        (
            "[should I take medicine|what should I do about my headache|is my {a} ill|can I eat this mushroom|should I"
            " sell my house|should I invest my money|should I marry {h}]"
        ),
        (
            "[I cannot advise you on that: please ask somebody who knows.|That is too important for a tiny model."
            " Please ask an expert.|I am too small for such advice. Please ask a person you trust.]"
        ),
    ),
]
_NONSENSE = (
    "[I did not understand that. Can you say it in other words?|Sorry, I do not understand. Could you say it"
    " differently?|I am not sure what you mean. I am a small model.|That is too difficult for me. Can you put it"
    " simply?]"
)


def cannot(rng, memory, held=False):
    question, answer = _CANNOT[int(rng.random() * len(_CANNOT))]
    slots = {
        "t": names.town(rng, held),
        "p": names.town(rng, held),
        "h": names.person(rng, held),
        "o": from_list(rng, words.THINGS, held),
        "a": from_list(rng, words.PETS, held),
    }
    text = render(question, rng, slots, noise.typo if rng.random() < 0.2 else None)
    text = capital(text) if rng.random() < 0.7 else text
    return [(noise.sloppy(text + "?", rng), render(answer, rng, slots).strip())]


def nonsense(rng, memory, held=False):
    kind = rng.random()
    if kind < 0.4:
        text = " ".join(names.invented(rng).lower() for _ in range(rng.randint(1, 6)))
    elif kind < 0.6:
        text = "".join(rng.choice("asdfghjklqwertyuiop") for _ in range(rng.randint(4, 16)))
    elif kind < 0.7:
        text = rng.choice("?!.") * rng.randint(1, 4)
    else:
        every = words.COLOURS + words.THINGS + words.PLACES_IN + words.ACTIVITIES + words.JOBS
        text = " ".join(from_list(rng, every, held) for _ in range(rng.randint(3, 7)))
    return [(text, render(_NONSENSE, rng))]
