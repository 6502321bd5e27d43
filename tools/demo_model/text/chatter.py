"""Free talk: statements that ask for no memory, opinions, follow-ups, and questions about anything under the sun.

The answers claim nothing: they show interest, or say that the model does not know.
"""

from . import facts, names, noise, recall, words
from .names import from_list
from .spin import article, capital, listing, render

_RELATIONS = sorted(facts.RELATIONS)
_TOPICS = (
    "music|rain|snow|the sea|winter|books|trains|love|time|dreams|money|school|work|friends|the"
    " moon|stars|mountains|films|games|history|art|computers|robots|the"
    " future|happiness|sleep|holidays|birds|politics|science|cooking|football|poems|forests|clouds|mathematics|philosophy|life|death|nature|travel|cars|space|children|the"
    " internet|fashion|magic|ghosts|dinosaurs|planets|the sun|language"
).split("|")
_STATEMENTS = (
    (
        "[I think |I guess |Maybe |||]I [will|should|want to|have to|had to|could not|must|would like to|might] {act}["
        " now| soon| later| today| tomorrow|]"
    ),
    "[Today|Yesterday|This morning|This evening|Last night] I had to {act}",
    (
        "I [had|have had] a [terrible|hard|bad|rough|stressful|long|sad|strange|boring]"
        " [day|week|morning|evening|night|time][ at work| at school| at home|]"
    ),
    (
        "I [had|have had] a [good|great|wonderful|lovely|nice|quiet|funny] [day|week|morning|evening|weekend|time][ at"
        " work| at school| at home|]"
    ),
    (
        "[{top}|The weather|My work|The food|My {thing}|The {thing}] [is|was] [great|terrible|strange|funny|nice|too"
        " much for me|not what I expected|boring|wonderful|so slow|a bit odd]"
    ),
    "I [like|love|enjoy|miss|hate|can't stand|do not like|prefer] {top}",
    (
        "[It is|It's|It was] [raining|snowing|cold|hot|late|early|sunny|windy|dark|noisy|quiet|so warm][ here| today|"
        " outside|]"
    ),
    "I [saw|found|bought|made|drew|forgot|need|want|broke] [{a} {thing}|some {food}|a new {thing}][ today| yesterday|]",
    (
        "[My {rel}|The neighbour|Somebody|Nobody|Everybody|A friend] [is coming over|called me|is ill|is angry with"
        " me|made me laugh|has a new job|is late again|will visit me|does not listen|sings all day]"
    ),
    "I am [learning|trying|starting|afraid|about|going|not able] to {act}",
    "[There is|I can see|I hear] [a noise outside|{a} {thing} here|music next door|nobody here|a smell of {food}]",
    (
        "I am [at home|at work|on the train|in bed|in the garden|on holiday|in a"
        " hurry|late|alone|ill|lost|busy|back|ready|here with friends]"
    ),
    (
        "[Guess what|You won't believe it|Listen to this|I have news|Something happened|I have a secret|I have a"
        " question|I need help|Can I tell you something|May I ask you something]"
    ),
)
_LISTEN = (
    "[I see.|Thank you for telling me.|That is interesting.|I understand.|Oh, I see.|Good to hear from you.|All right.]"
    " [Tell me more.|Tell me more about it.|What happened then?|How do you feel about it?|What will you do next?|Would"
    " you like to talk about it?|I am listening.]"
)
_GLAD = (
    "[That is good to hear.|How nice!|Lovely!|That sounds good.|I am glad.] [What was the best part?|Tell me more.|What"
    " made it so?|]"
)
_SORRY = (
    "[I am sorry to hear that.|That sounds hard.|Oh dear, I am sorry.|That is not easy.] [Do you want to talk about"
    " it?|I hope that it gets better.|I am here to listen.|Rest a little if you can.]"
)
_GOAHEAD = "[Please tell me.|I am listening.|Go on, I am curious.|Yes? Tell me.|Of course. What is it?]"
_FOLLOW = [
    (
        "[Why|Why is that|Why not|But why|How come|Why do you say that|How do you know that]",
        (
            "[I do not know why. I am a tiny model.|I cannot say why. I only know what you tell me.|I can't explain"
            " that, sorry. I am very small.]"
        ),
    ),
    (
        "[Tell me more|Go on|Continue|And then|More|What else|Anything else|Keep going|Say more]",
        (
            "[That is all that I know. Shall I tell you a story?|There is no more, I am afraid. Ask me something"
            " else.|I have said all that I know. What would you like to talk about?]"
        ),
    ),
    (
        "[Really|Are you sure|Is that true|Seriously|Sure about that|Is that right]",
        (
            "[I think so, but I am tiny and can be wrong.|As far as I know. I can make mistakes.|I believe so. Tell me"
            " if I am wrong.]"
        ),
    ),
    (
        (
            "[What should we talk about|What should I say|What now|What shall we do|I don't know what to say|Give me an"
            " idea|Any ideas]"
        ),
        (
            "[Tell me your name, your pets or your plans, and ask me about them later.|Ask me for a story, or give me a"
            " list to keep.|Tell me something about you, and I will remember it.]"
        ),
    ),
    (
        (
            "[Can you freeze in the middle of a sentence|Can you be frozen while you speak|What happens if I stop you"
            " now|What if the power goes out|Can you go on after a freeze|Do you remember me after a freeze|Will you"
            " remember me after thawing]"
        ),
        (
            "[Yes. My memory, this conversation and the half-finished sentence go into one file.|Yes: when I am frozen,"
            " everything goes into one file, my next word too.] [After thawing I go on with the next word.|Thaw the"
            " file, and I finish the sentence as if nothing had happened.]"
        ),
    ),
    (
        (
            "[Have you been frozen|Were you frozen|Did you sleep well|Are you still there|Are you back|Do you remember"
            " me|Where were we|Welcome back]"
        ),
        (
            "[I cannot tell: when I am frozen, no time passes for me.|I am here. I do not notice when I am frozen.|I am"
            " here, and I remember our conversation.] [What would you like to know?|Ask me what you told me.|]"
        ),
    ),
    (
        "[Sorry|I am sorry|My mistake|Never mind|Forget it|Oops|Pardon]",
        "[No problem.|That is all right.|Never mind.|It is fine.] [What would you like to do?|Let us go on.|]",
    ),
    (
        "[Wait|One moment|Hold on|Give me a minute|I'll be right back|Just a second]",
        "[Of course, take your time.|I will wait.|No hurry. I can wait for ever.|I am in no hurry.]",
    ),
    (
        (
            "[Congratulations|Happy birthday|Merry Christmas|Happy New Year|Good luck|Have a nice day|Sleep well|Take"
            " care|Cheers]"
        ),
        "[Thank you, the same to you!|Thank you, how kind!|Thank you! I wish you the same.]",
    ),
    (
        "[Test|Testing|One two three|Hello world|This is a test|Check|ping]",
        "[I am here, and it works.|It works. What would you like to talk about?|The test is passed: I am here.]",
    ),
    (
        "[Be quiet|Stop|Shut up|Enough|Stop it|That's enough|Go away]",
        "[All right, I will be quiet.|As you wish.|Okay, I will stop here.]",
    ),
    (
        "[Let's play a game|Do you want to play|Can we play a game|I want to play]",
        (
            "[Gladly. Tell me some names and facts, and test what I remember.|Yes! Ask me sums, or tell me three things"
            " and ask for one of them.]"
        ),
    ),
    (
        "[Do you understand me|Do you understand|Do you get it|Did you get that|Do you follow]",
        "[I try to. I understand simple sentences best.|I think so. I am small, so simple words help me.]",
    ),
    (
        "[Can you learn|Do you learn from me|Are you learning|Will you get better]",
        (
            "[My weights do not change, but I remember what you tell me in this conversation.|No, I do not learn. I"
            " only remember this conversation.]"
        ),
    ),
    (
        "[Can you keep a secret|Will you tell anybody|Is this private|Who can read this]",
        (
            "[I tell nobody, but whoever has the file of this conversation can read it.|I have no network, so it stays"
            " in this conversation and its file.]"
        ),
    ),
]
_OPEN = (
    "[why|how] [is|are|was|were] {top} [so important|so hard|so beautiful|made|so strange|so expensive]",
    "[how|when|where|why] [do|can|should] [I|we|you|people] {act}",
    (
        "what is [the meaning of|the best|the difference between {thing} and|the history of|the secret of|so special"
        " about|the point of] {top}"
    ),
    "how do [I|you] [cook|make|grow|find|fix|clean|use|draw] {food}",
    "why do[ the|] {animals} [sing|fly|sleep|swim|hide|run|fight|jump]",
    "what do you [think of|know about|think about] {top}",
    "tell me [about|something about|a fact about|everything about] [{top}|{animals}|{person}|{town}]",
    "[explain|describe] [{top}|{animals}|{town}][ to me|]",
    "[is|are] [{top}|{animals}] [dangerous|good|real|important|old|bad for me]",
    "how [long|tall|big|old|fast|deep|far|heavy] is [the {thing}|{town}|the {place}|{top}]",
    "who [is|was] the [first|best|greatest|oldest] {job}[ in {town}| of all time|]",
    "which [{thing}|{food}|book|film|car] is the best",
    "what [happens|will happen|happened] [in {town}|to {top}|after {top}|if it rains]",
    "what is a {job}",
)
_NO_IDEA = (
    "[I do not know that.|I don't know, sorry.|I know little about {w}.|I never learned about {w}.|That is beyond me.|I"
    " have no idea, sorry.] [I am a tiny demo model and know little about the world.|I only know what you tell me.|I am"
    " too small to know the world.|You could tell me about it.|I would rather say so than make something up.]"
)
_SENSES = (
    "[I have no senses, so I cannot like or dislike {w}.|I cannot say: I am a program without senses.|I am only a small"
    " program, so I do not.|I have never met {w}, for I am only a program.] [And you?|Do you?|What about you?|]"
)


def _slots(rng, held):
    thing = from_list(rng, words.THINGS, held)
    return {
        "act": from_list(rng, words.ACTIVITIES, held),
        "top": rng.choice(_TOPICS),
        "thing": thing,
        "a": article(thing),
        "food": from_list(rng, words.FOODS, held),
        "rel": rng.choice(_RELATIONS),
        "animals": facts.plural(from_list(rng, words.PETS, held)),
        "person": names.person(rng, held),
        "town": names.town(rng, held),
        "place": from_list(rng, words.PLACES, held),
        "job": from_list(rng, words.JOBS, held),
    }


def _user(rng, template, slots, mark):
    text = render(template, rng, slots, noise.typo if rng.random() < 0.2 else None)
    text = capital(text) if rng.random() < 0.7 else text[:1].lower() + text[1:]
    return noise.sloppy(text + mark, rng)


def statement(rng, memory, held=False):
    n = rng.randrange(len(_STATEMENTS))
    answer = {2: _SORRY, 3: _GLAD, 12: _GOAHEAD}.get(n, _LISTEN)
    return [(_user(rng, _STATEMENTS[n], _slots(rng, held), rng.choice(".!.")), render(answer, rng).strip())]


def follow_up(rng, memory, held=False):
    question, answer = rng.choice(_FOLLOW)
    return [(_user(rng, question, None, rng.choice("?..!")), render(answer, rng).strip())]


def open_question(rng, memory, held=False):
    template, slots = rng.choice(_OPEN), _slots(rng, held)
    user = _user(rng, template, slots, "?")
    named = [
        word for key, word in slots.items() if key in ("top", "animals", "person", "town", "food") and str(word) in user
    ]
    answer = _NO_IDEA if named else _NO_IDEA.replace("|I know little about {w}.|I never learned about {w}.", "")
    return [(user, render(answer, rng, {"w": named[0] if named else ""}))]


def taste(rng, memory, held=False):
    """Do you like cats?"""
    slots = _slots(rng, held)
    what = slots[rng.choice(("top", "animals", "food"))]
    user = _user(
        rng,
        "[do you [like|love|hate|eat|enjoy|want|have|dream of|prefer] {w}|are you afraid of {w}|have you ever seen"
        " {w}|what do you think of {w}]",
        {"w": what},
        "?",
    )
    return [(user, render(_SENSES, rng, {"w": what}).strip())]


def tell_and_ask(rng, memory, held=False):
    """A greeting with a name and a question back."""
    fact = facts.user_name(rng, held)
    memory.learn(fact)
    user = render(
        "[Hi|Hello|Hey][, |! ][I am|I'm|my name is] {v}[. |, ][what is your name|who are you|and you|what's your"
        " name|what are you called]",
        rng,
        fact.slots,
    ) + rng.choice("?? ")
    answer = render(
        "[Nice to meet you|Hello|Hi], {v}! [I am the demo model of Driftwood.|I have no name of my own: I am the"
        " Driftwood demo model.|I am a tiny demo model that lives inside Driftwood.]",
        rng,
        fact.slots,
    )
    return [(user.strip(), answer)]


def ask_two(rng, memory, held=False):
    """Two questions in one message."""
    known = memory.known()
    if len(known) < 2:
        return recall.tell(rng, memory, held)
    one, two = rng.sample(known, 2)
    user = f"{capital(one.asked(rng))}{rng.choice((' and ', ', and ', '? And '))}{two.asked(rng)}?"
    return [(user, capital(listing([one.yours(rng), two.yours(rng)])) + ".")]
