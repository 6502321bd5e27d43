"""Telling, asking, correcting: the turns that need the memory of the dialogue. Each returns [(user, assistant), ...]."""

from . import facts, noise
from .spin import capital, listing, render, second_person


def _message(rng, text, mark="."):
    """A user's message from its core: a lead-in, a capital or none, a mark or none."""
    if rng.random() < 0.8:
        text = capital(text)
    return noise.sloppy(text + mark, rng)


def _typos(rng):
    return noise.typo if rng.random() < 0.25 else None


_BEFORE = (
    "[||||[Hi|Hello|Hey], |By the way, |Oh, and |You know, |Listen: |Well, |Also, |Please remember: |Remember that"
    " |Please note: |So, |I want to tell you that |Fun fact: |Keep in mind that |For later: ]"
)
_ACK = (
    "[{Y}. [I will remember that.|I'll remember.|I will keep that in mind.|Thank you for telling me.|Noted.|Good to"
    " know.|]|[Noted|Got it|Thank you|Good to know|I see|All right|Understood|How nice|Lovely]: {y}.[| I will remember"
    " that.| I'll keep it in mind.]|[Okay|All right|Good], {y}. [What else would you like to tell me?|Is there anything"
    " else?|Tell me more if you like.|]|I will remember that {y}.|Thank you, I will keep in mind that {y}.]"
)
_ACK_NAME = (
    "[[Hello|Hi], {v}! [Nice to meet you.|It is good to meet you.|I am pleased to meet you.] [How are you today?|What"
    " would you like to talk about?|How can I help you?|]|Nice to meet you, {v}! [I am a tiny demo model.|I will"
    " remember your name.|What shall we talk about?|]|Hello, {v}. [I will remember your name.|Welcome!|It is a"
    " pleasure.]|Welcome, {v}! I will remember that your name is {v}.]"
)
_ANSWER = (
    "[{Y}.|{Y}.|You told me that {y}.|[Yes|Of course|Sure|Certainly]: {y}.|I remember: {y}.|You said that {y}.|{Y}, as"
    " you told me.]"
)
_UNKNOWN = (
    "[You have not told me {q}.|You have not told me {q} yet.|I do not know {q}. You have not told me[ yet|].|I don't"
    " know {q}, because you have not told me.|I cannot know {q}: you have not told me.|So far you have not told me"
    " {q}.][| Would you like to tell me?| If you tell me, I will remember it.]"
)
_ASK = (
    "[{a}?|{a}?|{a}?|[Do you remember|Do you know|Do you still know|Can you recall|Can you tell me|Could you remind me]"
    " {i}?|[Tell me|Remind me|Please tell me] {i}.|I forgot {i}. [Can you help?|Do you know it?|]|[Quick question|One"
    " question|A test|Now]: {a}?|And {a}?|So {a}?|[Hmm|Well|Okay], {a}?|{a} [again|please]?]"
)
_TOPIC = (
    "[What did I tell you about {t}?|What do you know about {t}?|What have I said about {t}?|Do you remember what I"
    " told you about {t}?|Tell me what you know about {t}.]"
)


def _acknowledge(rng, fact):
    if fact.key == ("user", "name") and rng.random() < 0.8:
        return render(_ACK_NAME, rng, {"v": fact.value}).strip()
    yours = fact.yours(rng)
    return render(_ACK, rng, {"y": yours, "Y": capital(yours)}).strip()


def _fresh(rng, memory, held):
    """A fact whose key is not taken yet (or any, if luck fails)."""
    for _ in range(8):
        fact = facts.any_fact(rng, held)
        if fact.key not in memory.facts:
            return fact
    return fact


def tell(rng, memory, held=False, fact=None):
    fact = fact or _fresh(rng, memory, held)
    before = render(_BEFORE, rng)
    user = _message(rng, before + fact.told(rng, _typos(rng)))
    memory.learn(fact)
    return [(user, _acknowledge(rng, fact))]


def tell_two(rng, memory, held=False):
    first, second = _fresh(rng, memory, held), _fresh(rng, memory, held)
    if first.key == second.key:
        return tell(rng, memory, held, first)
    join = rng.choice((" and ", ". ", ", and ", ". Also, ", ", "))
    end = second.told(rng, _typos(rng))
    text = first.told(rng, _typos(rng)) + join + (capital(end) if join == ". " else end)
    memory.learn(first)
    memory.learn(second)
    y, z = first.yours(rng), second.yours(rng)
    if first.key == ("user", "name"):
        answer = render(
            "[Hello|Hi|Nice to meet you|Welcome], {v}! [{Z}.|I will remember that {z}.|So {z}. I will remember that.]",
            rng,
            {"v": first.value, "z": z, "Z": capital(z)},
        )
    else:
        answer = render(
            "[[Noted|Got it|Thank you|Understood|I see]: {y}, and {z}.|{Y}, and {z}. [I will remember both.|Noted.|I'll"
            " remember that.]|I will remember that {y} and that {z}.]",
            rng,
            {"y": y, "Y": capital(y), "z": z},
        )
    return [(_message(rng, render(_BEFORE, rng) + text), answer)]


def tell_three(rng, memory, held=False):
    """Hi, I'm Ada, I have a cat called Pip and I live in Porto."""
    told = []
    while len(told) < 3:
        fact = rng.choice(
            (facts.user_name, facts.pet, facts.home, facts.job, facts.age, facts.relation, facts.thing_name)
        )(rng, held)
        if fact.key not in [other.key for other in told]:
            told.append(fact)
    told.sort(key=lambda fact: fact.key != ("user", "name"))
    parts = [fact.told(rng, _typos(rng)) for fact in told]
    user = render("[Hi|Hello|Hey|Hi there|Hello there|][. |, |! ]", rng).lstrip(".,! ") + rng.choice(
        (listing(parts), ", ".join(parts))
    )
    for fact in told:
        memory.learn(fact)
    rest = [fact.yours(rng) for fact in told]
    if told[0].key == ("user", "name"):
        start = render("[Hello|Hi|Nice to meet you|Welcome], {v}! ", rng, told[0].slots)
        rest = rest[1:]
    else:
        start = ""
    end = render(
        "[I will remember {t}.|{Y}. I will remember that.|So {y}.]",
        rng,
        {"t": listing(["that " + y for y in rest]), "Y": capital(listing(rest)), "y": listing(rest)},
    )
    return [(_message(rng, user), start + end)]


def tell_relation(rng, memory, held=False):
    """My brother Tom lives in Oslo: who he is, and something about him."""
    relation = facts.relation(rng, held)
    fact = facts.events.person_fact(rng, held, relation.value)
    if relation.key in memory.facts or fact.key in memory.facts:
        return tell(rng, memory, held)
    memory.learn(relation)
    memory.learn(fact)
    who = relation.slots["n"]
    user = render(fact.tell, rng, dict(fact.slots, n=f"my {who} {relation.value}"), _typos(rng))
    yours = render(fact.clause, rng, dict(fact.slots, n=f"your {who} {relation.value}"))
    return [(_message(rng, render(_BEFORE, rng) + user), render(_ACK, rng, {"y": yours, "Y": capital(yours)}).strip())]


def recall_text(rng, fact):
    yours = fact.yours(rng)
    return render(_ANSWER, rng, {"y": yours, "Y": capital(yours)})


def _question(rng, fact):
    typos = _typos(rng)
    text = render(_ASK, rng, {"a": fact.asked(rng, typos), "i": fact.asked_indirect(rng, typos)}).strip()
    return _message(rng, text.rstrip("?."), "?" if text.endswith("?") else ".")


def _pick(rng, memory):
    """A known fact: often any, sometimes the newest or one of the oldest."""
    known = memory.known()
    kind = rng.random()
    if kind < 0.15:
        return max(known, key=lambda fact: fact.told_at)
    if kind < 0.4:
        return known[int(rng.random() * min(3, len(known)))]
    return rng.choice(known)


def ask(rng, memory, held=False, fact=None):
    fact = fact or _pick(rng, memory)
    asked = facts.who_am_i(fact) if fact.key == ("user", "name") and rng.random() < 0.15 else fact
    return [(_question(rng, asked), recall_text(rng, fact))]


def ask_topic(rng, memory, held=False):
    """What did I tell you about Lena / my dog / Friday: every fact on that topic, in the order told."""
    fact = _pick(rng, memory)
    topic = fact.topic.format(**fact.slots)
    same = [f for f in memory.known() if f.topic.format(**f.slots) == topic][:3]
    parts = [f.yours(rng) for f in same]
    start = "You told me " if rng.random() < 0.8 else "You said "
    user = render(_TOPIC, rng, {"t": topic})
    return [(_message(rng, user[:-1], user[-1]), start + listing(["that " + p for p in parts]) + ".")]


def ask_all(rng, memory, held=False):
    """What do you know about me: the first facts told, with their present values."""
    user = render(
        "[What do you know about me?|What have I told you so far?|Tell me what you know about me.|Sum up what I told"
        " you.|What did I tell you about me?|What do you remember[ about me|]?]",
        rng,
    )
    known = memory.known()
    parts = ["that " + f.yours(rng) for f in known[:4]]
    answer = "You told me " + listing(parts) + "."
    if len(known) > 4:
        answer += " There is more: ask me about any of it."
    return [(_message(rng, user[:-1], user[-1]), answer)]


def ask_reverse(rng, memory, held=False):
    """Who lives in Porto? Asked only where one person fits."""
    known = memory.known()
    facts_by_claim = {}
    for fact in known:
        if fact.reverse:
            facts_by_claim.setdefault((fact.key[-1], fact.value), []).append(fact)
    single = [found[0] for found in facts_by_claim.values() if len(found) == 1]
    if not single:
        return ask(rng, memory, held)
    fact = rng.choice(single)
    user = render(fact.reverse, rng, fact.slots)
    return [(_message(rng, user, "?"), capital(fact.yours(rng)) + ".")]


def ask_two_steps(rng, memory, held=False):
    """My sister is called Lena; Lena lives in Porto; where does my sister live?"""
    names_of = {f.value: f.key[1] for f in memory.known() if f.key[0] == "named"}
    chains = [f for f in memory.known() if f.key[0] == "person" and f.key[1] in names_of]
    if not chains:
        return tell_more(rng, memory, held)
    fact = rng.choice(chains)
    who = names_of[fact.key[1]]
    slots = dict(fact.slots, n="my " + who)
    user = render(fact.ask, rng, slots)
    answer = render(fact.clause, rng, dict(fact.slots, n=f"your {who} {fact.key[1]}"))
    return [(_message(rng, user, "?"), capital(answer) + ".")]


def tell_more(rng, memory, held=False):
    """Another fact about somebody who was named before."""
    people = [f.value for f in memory.known() if f.key[0] in ("met", "with")]
    people += [f.key[1] for f in memory.known() if f.key[0] == "gift"]
    people += [f.value for f in memory.known() if f.key[0] == "named" and f.key[1] in facts.RELATIONS]
    people += [f.key[1] for f in memory.known() if f.key[0] == "person"]
    if not people:
        return tell(rng, memory, held, facts.relation(rng, held))
    fact = facts.events.person_fact(rng, held, rng.choice(people))
    if fact.key in memory.facts:
        return ask(rng, memory, held, memory.facts[fact.key])
    return tell(rng, memory, held, fact)


_SHORT = "[{v}|it's {v}|{v}, I think|it is {v}|that's {v}|the answer is {v}|{v} of course]"


def ask_unknown(rng, memory, held=False):
    """Something never told; sometimes the user then tells it in one word."""
    fact = _fresh(rng, memory, held)
    if fact.key in memory.facts:
        return ask(rng, memory, held, memory.facts[fact.key])
    answer = render(_UNKNOWN, rng, {"q": fact.your_indirect(rng)}).strip()
    turns = [(_question(rng, fact), answer)]
    if rng.random() < 0.4:
        memory.learn(fact)
        short = render("[Yes, |Yes: |Sure: |||]" + _SHORT, rng, fact.slots)
        turns.append((_message(rng, short), _acknowledge(rng, fact)))
    return turns


def interview(rng, memory, held=False):
    """The assistant asks, the user answers in a word."""
    fact = rng.choice(
        (facts.user_name, facts.user_name, facts.favourite, facts.home, facts.birthplace, facts.age, facts.own_pet)
    )(rng, held)
    if fact.key in memory.facts:
        return ask(rng, memory, held, memory.facts[fact.key])
    question = (
        capital(second_person(render(fact.ask.replace("|tell me|", "|").replace("|say]", "]"), rng, fact.slots))) + "?"
    )
    if fact.key == ("user", "name"):
        question = "What is your name?"
        user = render("[Hi|Hello|Hey|Let's talk|Good morning|Let us get to know each other|Hi, how are you][.|!|]", rng)
        answer = (
            render("[Hello!|Hi!|Hello there!|Good to see you!|Hello! I am the Driftwood demo model.] ", rng) + question
        )
    else:
        user = render(
            "[Ask me something|Ask me a question|Do you want to know something about me|What would you like to"
            " know|Your turn to ask][.|?|!]",
            rng,
        )
        answer = render("[Gladly.|With pleasure.|All right.|Yes, please.] ", rng) + question
    memory.learn(fact)
    short = render(
        (
            _SHORT
            if fact.key != ("user", "name")
            else "[{v}|I'm {v}|I am {v}|it's {v}|my name is {v}|{v}, and yours|{v}. Nice to meet you]"
        ),
        rng,
        fact.slots,
    )
    return [(user, answer), (_message(rng, short), _acknowledge(rng, fact))]


def confirm(rng, memory, held=False):
    """Is my dog called Rex? Yes, or no and the right value."""
    fact = _pick(rng, memory)
    right = fact.other is None or rng.random() < 0.5
    guess = fact.value if right else fact.other(rng)
    right = guess == fact.value
    claim = fact.with_value(guess).mine(rng)
    user = render(
        "[Is it true that {c}?|Is it right that {c}?|{C}, right?|{C}, isn't that so?|Did I say that {c}?|Am I right"
        " that {c}?]",
        rng,
        {"c": claim, "C": capital(claim)},
    )
    start = ("Yes", "Yes, that is right") if right else ("No", "No, that is not what you told me")
    return [
        (
            _message(rng, user[:-1], "?"),
            rng.choice(start) + (", " if rng.random() < 0.3 else ": ") + fact.yours(rng) + ".",
        )
    ]


_FIX = (
    "[Actually, |No, |Sorry, |Wait, |I made a mistake: |Correction: |Oh, I was wrong: |No, no, |That was wrong. |I"
    " meant: |Things have changed: |That has changed: now ]"
)
_FIXED = (
    "[Thank you for the correction|Oh, thank you|Sorry about that|I see|Understood|All right|Got it|Corrected|My"
    " mistake][: {y}.|. {Y}.|. Now I know that {y}.|. I will remember that {y}.]"
)


def correct(rng, memory, held=False, fact=None):
    """A new value for a known key; the old one must not come back."""
    chosen = fact or _pick(rng, memory)
    if chosen.other is None:
        return ask(rng, memory, held, chosen)
    new = chosen.with_value(chosen.other(rng))
    if new.value == chosen.value:
        return ask(rng, memory, held, chosen)
    turns = []
    just_said = memory.turn - chosen.told_at <= 1 or rng.random() < 0.3
    if just_said and memory.turn - chosen.told_at > 1:
        turns += ask(rng, memory, held, chosen)
    said = new.told(rng, _typos(rng))
    if just_said and new.pronoun and rng.random() < 0.6:
        said = render(new.pronoun, rng, new.slots)
    user = render(_FIX, rng) + said + (f", not {chosen.value}" if rng.random() < 0.35 else "")
    memory.learn(new)
    yours = new.yours(rng)
    turns.append((_message(rng, user), render(_FIXED, rng, {"y": yours, "Y": capital(yours)})))
    return turns
