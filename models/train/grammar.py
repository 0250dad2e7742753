"""Parallel Hindi-English sentences of everyday film dialogue, from templates over `lexicon`.

Each sentence has exactly one translation: third-person pronouns (वह, he, she) never stand alone, speakers and
listeners take masculine agreement, and every Hindi form maps to one English form. `check_bijection` proves it on
a sample. The split is a hash of the English sentence, so it is the same on every machine.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from models.train import lexicon

HELD_OUT_SHARE = 20  # one sentence in 20 is held out (fixed lines never are)

_MATRA = "ािीुूृेैोौ"
_HI_INVARIANT = {"ज़िंदा"}


class Pair(NamedTuple):
    """One sentence in both languages."""

    hi: str
    en: str


def nfc(text: str) -> str:
    """`text` in Unicode normal form C, the only form that the models see."""
    return unicodedata.normalize("NFC", text)


def _rows(table: str) -> list[list[str]]:
    return [[nfc(field) for field in line.split("|")] for line in table.strip().splitlines()]


# ---------------------------------------------------------------- nouns and adjectives


def adjective_hi(adjective: str, gender: str, direct_singular: bool) -> str:
    """`adjective` in agreement: -आ becomes -ई (feminine) or -ए (masculine plural or oblique)."""
    if adjective in _HI_INVARIANT:
        return adjective
    words: list[str] = []
    for base in adjective.split():
        word = base
        if word in ("नया", "हुआ"):
            stem = word[:-2] if word == "नया" else "हु"
            word = (
                stem + ("ई" if gender == "f" else "ए")
                if not (gender == "m" and direct_singular)
                else word
            )
        elif word.endswith("ा"):
            word = word[:-1] + ("ी" if gender == "f" else "ा" if direct_singular else "े")
        words.append(word)
    return " ".join(words)


def _inflects(noun: str, gender: str) -> bool:
    return gender == "m" and noun.endswith("ा")


def oblique_hi(noun: str, gender: str, invariant: bool = False) -> str:
    """`noun` before a postposition, singular."""
    return noun[:-1] + "े" if _inflects(noun, gender) and not invariant else noun


def plural_hi(noun: str, gender: str) -> str:
    """`noun` in the direct plural."""
    if gender == "m":
        return oblique_hi(noun, gender)
    if noun.endswith("िया"):
        return noun + "ँ"
    if noun.endswith("ी"):
        return noun[:-1] + "ियाँ"
    if noun.endswith("ा"):
        return noun + "एँ"
    return noun + "ें"


_EN_PLURAL = {"knife": "knives", "scarf": "scarves", "tomato": "tomatoes", "mango": "mangoes"}


def plural_en(noun: str) -> str:
    """`noun` in the English plural."""
    if noun in _EN_PLURAL:
        return _EN_PLURAL[noun]
    if re.search(r"(s|x|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


def article(words: str) -> str:
    """`words` behind "a" or "an"."""
    vowel = (words[0] in "aeiou" and not words.startswith("uni")) or words.startswith("honest")
    return f"{'an' if vowel else 'a'} {words}"


class Noun(NamedTuple):
    """A thing, place or animal."""

    hi: str
    gender: str
    en: str
    classes: str


NOUNS = [Noun(*row) for row in _rows(lexicon.NOUNS)]
MASS = [Noun(*row) for row in _rows(lexicon.MASS)]
PLACES = [Noun(*row) for row in _rows(lexicon.PLACES)]
ANIMALS = [Noun(hi, gender, en, "") for hi, gender, en in _rows(lexicon.ANIMALS)]
KIN = [Noun(*row) for row in _rows(lexicon.KIN)]
PEOPLE = [Noun(*row) for row in _rows(lexicon.PEOPLE)]
NAMES = [Noun(hi, gender, en, "s") for hi, gender, en in _rows(lexicon.NAMES)]
CITIES = [(hi, en) for hi, en in _rows(lexicon.CITIES)]


# ---------------------------------------------------------------- subjects


@dataclass(frozen=True)
class Person:
    """Someone who acts or is acted on; `number` is 1 for "I", 3 for singular, 0 for plural agreement."""

    nominative: str
    oblique: str
    gender: str
    number: int
    en: str
    en_object: str
    en_be: str  # am, is, are
    own_en: str  # my, your, our, his, her

    @property
    def ergative(self) -> str:
        return f"{self.oblique}ने" if self.nominative in ("मैं", "आप", "हम") else f"{self.oblique} ने"

    @property
    def dative(self) -> str:
        special = {"मैं": "मुझे", "आप": "आपको", "हम": "हमें"}
        return special.get(self.nominative) or f"{self.oblique} को"

    def with_postposition(self, postposition: str) -> str:
        """The person before को, से, पर, का, की or के."""
        if postposition == "को":
            return self.dative
        if postposition in ("का", "की", "के"):
            genitive = {"मैं": "मेर", "हम": "हमार"}.get(self.nominative)
            if genitive:
                return genitive + {"का": "ा", "की": "ी", "के": "े"}[postposition]
            if self.nominative == "आप":
                return "आप" + postposition
        elif self.nominative in ("मैं", "आप", "हम"):
            base = {"मैं": "मुझ", "आप": "आप", "हम": "हम"}[self.nominative]
            return base + postposition if postposition == "से" else f"{base} {postposition}"
        return f"{self.oblique} {postposition}"


I = Person("मैं", "मैं", "m", 1, "I", "me", "am", "my")  # noqa: E741 - the English word
YOU = Person("आप", "आप", "m", 0, "you", "you", "are", "your")
WE = Person("हम", "हम", "m", 0, "we", "us", "are", "our")

POSSESSORS = {"my": "मेरा", "your": "आपका", "our": "हमारा"}


def _third(hi: str, oblique: str, gender: str, plural: bool, en: str) -> Person:
    return Person(
        hi, oblique, gender, 0 if plural else 3, en, en, "is", "her" if gender == "f" else "his"
    )


def relative(rng: random.Random, possessor: str) -> Person:
    """A member of the family of `possessor` ("my", "your", "our")."""
    noun = rng.choice(KIN)
    honorific = "h" in noun.classes
    determiner = POSSESSORS[possessor]
    direct = adjective_hi(determiner, noun.gender, not honorific)
    oblique = adjective_hi(determiner, noun.gender, False)
    return _third(
        f"{direct} {noun.hi}",
        f"{oblique} {oblique_hi(noun.hi, noun.gender, 'i' in noun.classes)}",
        noun.gender,
        honorific,
        f"{possessor} {noun.en}",
    )


def third_person(rng: random.Random) -> Person:
    """A named, related or otherwise definite person."""
    kind = rng.random()
    if kind < 0.45:
        name = rng.choice(NAMES)
        return _third(name.hi, name.hi, name.gender, False, name.en)
    if kind < 0.72:
        return relative(rng, rng.choice(["my", "my", "your", "our"]))
    noun = rng.choice(PEOPLE)
    return _third(
        noun.hi,
        oblique_hi(noun.hi, noun.gender, "i" in noun.classes),
        noun.gender,
        False,
        f"the {noun.en}",
    )


def subject(rng: random.Random) -> Person:
    """Anyone who can act."""
    kind = rng.random()
    if kind < 0.22:
        return I
    if kind < 0.36:
        return YOU
    if kind < 0.46:
        return WE
    return third_person(rng)


# ---------------------------------------------------------------- noun phrases


class Phrase(NamedTuple):
    """A noun phrase; `number` 3 singular, 0 plural."""

    hi: str
    oblique: str
    gender: str
    number: int
    en: str


ADJ_THING = [(hi, en) for hi, en in _rows(lexicon.ADJ_THING)]
ADJ_PLACE = [(hi, en) for hi, en in _rows(lexicon.ADJ_PLACE)]
ADJ_FOOD = [(hi, en) for hi, en in _rows(lexicon.ADJ_FOOD)]
ADJ_PERSON = [(hi, en) for hi, en in _rows(lexicon.ADJ_PERSON)]


def thing_phrase(
    rng: random.Random, noun: Noun, owner: Person | None, plain: bool = False
) -> Phrase:
    """`noun` with a determiner, and sometimes with an adjective or a number."""
    if noun in MASS:
        return Phrase(noun.hi, noun.hi, noun.gender, 3, noun.en)
    kind = rng.random()
    adjective = rng.choice(ADJ_THING) if not plain and rng.random() < 0.25 else None
    en_noun = f"{adjective[1]} {noun.en}" if adjective else noun.en

    def inflected(direct: bool) -> str:
        head = noun.hi if direct else oblique_hi(noun.hi, noun.gender)
        return f"{adjective_hi(adjective[0], noun.gender, direct)} {head}" if adjective else head

    if kind < 0.12 and not plain:
        count = rng.randrange(2, 21) if rng.random() < 0.7 else rng.randrange(21, 100)
        head = plural_hi(noun.hi, noun.gender)
        words = lexicon.NUMBERS_HI[count]
        return Phrase(
            f"{words} {head}",
            "",
            noun.gender,
            0,
            f"{lexicon.number_en(count)} {plural_en(noun.en)}",
        )
    if kind < 0.50:
        return Phrase(inflected(True), inflected(False), noun.gender, 3, f"the {en_noun}")
    if kind < 0.62:
        return Phrase(
            f"यह {inflected(True)}", f"इस {inflected(False)}", noun.gender, 3, f"this {en_noun}"
        )
    if kind < 0.70:
        return Phrase(
            f"वह {inflected(True)}", f"उस {inflected(False)}", noun.gender, 3, f"that {en_noun}"
        )
    if kind < 0.82 and not plain:
        return Phrase(
            f"एक {inflected(True)}", f"एक {inflected(False)}", noun.gender, 3, article(en_noun)
        )
    if owner is not None and rng.random() < 0.6:
        determiner, en = "अपना", owner.own_en
    else:
        en = rng.choice([p for p in POSSESSORS if owner is None or p != owner.own_en])
        determiner = POSSESSORS[en]
    return Phrase(
        f"{adjective_hi(determiner, noun.gender, True)} {inflected(True)}",
        f"{adjective_hi(determiner, noun.gender, False)} {inflected(False)}",
        noun.gender,
        3,
        f"{en} {en_noun}",
    )


def place_phrase(rng: random.Random, relation: str) -> tuple[str, str]:
    """A place after "to", "from" or "in", in both languages."""
    kind = rng.random()
    if kind < 0.12:
        return {"to": ("घर", "home"), "from": ("घर से", "from home"), "in": ("घर में", "at home")}[
            relation
        ]
    if kind < 0.35:
        hi, en = rng.choice(CITIES)
        return {
            "to": (hi, f"to {en}"),
            "from": (f"{hi} से", f"from {en}"),
            "in": (f"{hi} में", f"in {en}"),
        }[relation]
    noun = rng.choice(PLACES)
    there = "पर" if noun.classes == "n" else "में"
    preposition = "on" if noun.classes == "n" else "in"
    head, en = oblique_hi(noun.hi, noun.gender), noun.en
    if rng.random() < 0.15:
        adjective = rng.choice(ADJ_PLACE)
        head, en = (
            f"{adjective_hi(adjective[0], noun.gender, False)} {head}",
            f"{adjective[1]} {en}",
        )
    if rng.random() < 0.15:
        head, en = f"इस {head}", f"this {en}"
    else:
        en = f"the {en}"
    if relation == "to":
        return (f"{head} पर" if there == "पर" else head), f"to {en}"
    if relation == "from":
        return f"{head} से", f"from {en}"
    return f"{head} {there}", f"{preposition} {en}"


# ---------------------------------------------------------------- verbs


@dataclass(frozen=True)
class Verb:
    """A verb with its complement; `agreement` is what a perfective with ने agrees with, None for the subject."""

    before: str  # Hindi object or place
    nominal: str  # noun or adjective part of a conjunct verb
    stem: str
    base: str
    third: str
    past: str
    participle: str
    ing: str
    after: str  # English particle, object or place
    agreement: tuple[str, int] | None


def _verb(
    nominal: str, stem: str, forms: str, before: str, after: str, agreement: tuple[str, int] | None
) -> Verb:
    parts = forms.split(",")
    tail = " ".join(p for p in [*parts[5:], after] if p)
    return Verb(before, "" if nominal == "-" else nominal, stem, *parts[:5], tail, agreement)


VERBS_THING = _rows(lexicon.VERBS_THING)
VERBS_PERSON = _rows(lexicon.VERBS_PERSON)
VERBS_ALONE = _rows(lexicon.VERBS_ALONE)
VERBS_PLACE = _rows(lexicon.VERBS_PLACE)
LANGUAGES = _rows(lexicon.LANGUAGES)


def thing_verb(rng: random.Random, actor: Person) -> Verb:
    """A transitive verb with its object."""
    nominal, stem, forms, classes = rng.choice(VERBS_THING)
    noun = rng.choice([n for n in NOUNS + MASS * 2 if set(n.classes) & set(classes)])
    phrase = thing_phrase(rng, noun, actor)
    return _verb(nominal, stem, forms, phrase.hi, phrase.en, (phrase.gender, phrase.number))


def person_verb(rng: random.Random, actor: Person) -> Verb:
    """A verb with a person (sometimes an animal) as its object."""
    postposition, nominal, stem, forms, agreement = rng.choice(VERBS_PERSON)
    kind = rng.random()
    if kind < 0.35:
        target = rng.choice(
            [
                p
                for p in (I, YOU, WE)
                if p != actor and not ((actor == I and p == WE) or (actor == WE and p == I))
            ]
        )
    elif kind < 0.5 and stem != "मिल" and nominal not in ("शादी", "फ़ोन", "बात"):
        animal = rng.choice(ANIMALS)
        target = _third(
            animal.hi,
            oblique_hi(animal.hi, animal.gender),
            animal.gender,
            False,
            f"the {animal.en}",
        )
    else:
        target = third_person(rng)
        while target.en == actor.en or target.en.split()[0] == actor.own_en:
            target = third_person(rng)
    fixed = None if agreement == "-" else (agreement, 3)
    return _verb(
        nominal, stem, forms, target.with_postposition(postposition), target.en_object, fixed
    )


def plain_verb(rng: random.Random, wanted: str = "") -> Verb:
    """A verb without a complement, of the class `wanted`."""
    nominal, stem, forms, agreement, _ = rng.choice([v for v in VERBS_ALONE if wanted in v[4]])
    return _verb(nominal, stem, forms, "", "", None if agreement == "-" else (agreement, 3))


def place_verb(rng: random.Random) -> Verb:
    """A verb with a place."""
    relation, nominal, stem, forms, agreement = rng.choice(VERBS_PLACE)
    hi, en = place_phrase(rng, relation)
    return _verb(nominal, stem, forms, hi, en, None if agreement == "-" else (agreement, 3))


def language_verb(rng: random.Random) -> Verb:
    """Speaking or learning a language."""
    hi, gender, en = rng.choice(LANGUAGES)
    forms = rng.choice(
        [
            ("बोल", "speak,speaks,spoke,spoken,speaking"),
            ("सीख", "learn,learns,learned,learned,learning"),
        ]
    )
    return _verb("-", forms[0], forms[1], hi, en, (gender, 3))


def any_verb(rng: random.Random, actor: Person) -> Verb:
    """A verb phrase for `actor`."""
    kind = rng.random()
    if kind < 0.42:
        return thing_verb(rng, actor)
    if kind < 0.64:
        return person_verb(rng, actor)
    if kind < 0.76:
        return plain_verb(rng)
    if kind < 0.95:
        return place_verb(rng)
    return language_verb(rng)


_PERFECTIVE = {
    "कर": ("किया", "की", "किए", "कीं"),
    "पी": ("पिया", "पी", "पिए", "पीं"),
    "जा": ("गया", "गई", "गए", "गईं"),
    "छू": ("छुआ", "छुई", "छुए", "छुईं"),
}
_FUTURE = {"पी": "पि", "छू": "छु"}
_IMPERATIVE = {"कर": "कीजिए", "पी": "पीजिए", "छू": "छुइए"}


def _open(stem: str) -> bool:
    return stem[-1] in _MATRA or stem == "आ"


def perfective(stem: str, gender: str, number: int) -> str:
    """किया, की, किए, कीं and their like."""
    if stem in _PERFECTIVE:
        forms = _PERFECTIVE[stem]
    elif _open(stem):
        forms = (stem + "या", stem + "ई", stem + "ए", stem + "ईं")
    else:
        forms = (stem + "ा", stem + "ी", stem + "े", stem + "ीं")
    index = (2 if number == 0 else 0) + (1 if gender == "f" else 0)
    return forms[index]


def future(stem: str, gender: str, number: int) -> str:
    """करूँगा, करेगा, करेंगे and their like."""
    tail = "गी" if gender == "f" else "गे" if number == 0 else "गा"
    if _open(stem):
        return _FUTURE.get(stem, stem) + {1: "ऊँ", 3: "ए", 0: "एँ"}[number] + tail
    return stem + {1: "ूँ", 3: "े", 0: "ें"}[number] + tail


def imperative(stem: str) -> str:
    """The polite imperative."""
    return _IMPERATIVE.get(stem) or stem + ("इए" if _open(stem) else "िए")


def _ending(gender: str, number: int) -> str:
    return "ी" if gender == "f" else "े" if number == 0 else "ा"


def _is(number: int) -> str:
    return {1: "हूँ", 3: "है", 0: "हैं"}[number]


def _was(gender: str, number: int) -> str:
    if gender == "f":
        return "थी" if number else "थीं"
    return "था" if number else "थे"


TENSES = [
    "habit",
    "progressive",
    "past",
    "future",
    "was",
    "perfect",
    "want",
    "can",
    "should",
    "must",
    "used",
]


def hindi_group(verb: Verb, actor: Person, tense: str, negative: bool) -> tuple[str, str]:
    """The subject in its case, and the verb group with its negation."""
    g, n, stem = actor.gender, actor.number, verb.stem
    end = _ending(g, n)
    case = actor.nominative
    if tense == "habit":
        group = f"{stem}त{end} {_is(n)}"
    elif tense == "progressive":
        group = f"{stem} रह{end} {_is(n)}"
    elif tense == "past":
        if verb.agreement:
            case = actor.ergative
            group = perfective(stem, *verb.agreement)
        else:
            group = perfective(stem, g, n)
    elif tense == "future":
        group = future(stem, g, n)
    elif tense == "was":
        group = f"{stem} रह{end} {_was(g, n)}"
    elif tense == "perfect":
        group = f"{stem} चुक{end} {_is(n)}"
    elif tense == "want":
        group = f"{stem}ना चाहत{end} {_is(n)}"
    elif tense == "can":
        group = f"{stem} सकत{end} {_is(n)}"
    elif tense == "used":
        group = f"{stem}त{end} {_was(g, n)}"
    else:
        case = actor.dative
        target = verb.agreement or ("m", 3)
        end = _ending(*target)
        group = f"{stem}न{end} " + ("चाहिए" if tense == "should" else f"होग{end}")
    if negative:
        group = f"नहीं {group}"
    return case, f"{verb.nominal} {group}".strip()


def english_clause(verb: Verb, actor: Person, tense: str, negative: bool, inverted: bool) -> str:
    """Subject, auxiliary, verb and complement; `inverted` as in a question."""
    who, singular = actor.en, actor.en_be == "is"
    maybe_not = ["not"] if negative else []
    if tense in ("habit", "past", "want"):
        simple = {
            "habit": (verb.base, verb.third),
            "past": (verb.past, verb.past),
            "want": ("want", "wants"),
        }[tense]
        to = {"want": [f"to {verb.base}"]}.get(tense, [])
        base = "want" if tense == "want" else verb.base
        auxiliary = "did" if tense == "past" else "does" if singular else "do"
        if inverted:
            words = [auxiliary, who, *maybe_not, base, *to]
        elif negative:
            words = [who, auxiliary, "not", base, *to]
        else:
            words = [who, simple[1 if singular else 0], *to]
    else:
        be_past = "was" if actor.en_be in ("am", "is") else "were"
        auxiliary, rest = {
            "progressive": (actor.en_be, [verb.ing]),
            "was": (be_past, [verb.ing]),
            "future": ("will", [verb.base]),
            "perfect": ("has" if singular else "have", ["already", verb.participle]),
            "can": ("can", [verb.base]),
            "should": ("should", [verb.base]),
            "must": ("must", [verb.base]),
            "used": ("used", ["to", verb.base]),
        }[tense]
        if inverted:
            words = [auxiliary, who, *maybe_not, *rest]
        elif negative and tense == "can":
            words = [who, "cannot", *rest]
        else:
            words = [who, auxiliary, *maybe_not, *rest]
    return " ".join([*words, verb.after]).strip()


# ---------------------------------------------------------------- clauses

TIMES = {
    "past": [(hi, en) for hi, en in _rows(lexicon.TIMES_PAST)],
    "future": [(hi, en) for hi, en in _rows(lexicon.TIMES_FUTURE)],
    "habit": [(hi, en) for hi, en in _rows(lexicon.TIMES_HABIT)],
}
DAYS = [(hi, en) for hi, en in _rows(lexicon.DAYS)]
MONTHS = [(hi, en) for hi, en in _rows(lexicon.MONTHS)]


def clock_phrase(rng: random.Random) -> tuple[str, str]:
    """A time of day in full hours."""
    part, en, hours = rng.choice(
        [
            ("सुबह", "in the morning", range(4, 12)),
            ("दोपहर", "in the afternoon", range(1, 4)),
            ("शाम", "in the evening", range(5, 8)),
            ("रात", "at night", range(8, 12)),
        ]
    )
    hour = rng.choice(list(hours))
    return f"{part} {lexicon.NUMBERS_HI[hour]} बजे", f"at {lexicon.number_en(hour)} {en}"


def time_phrase(rng: random.Random, tense: str) -> tuple[str, str]:
    """A time adverbial that fits `tense`, or two empty strings."""
    table = {
        "past": "past",
        "was": "past",
        "future": "future",
        "must": "future",
        "habit": "habit",
        "used": "habit",
    }
    table |= {"want": "future", "can": "future", "should": "future"}
    if tense not in table or rng.random() > 0.33:
        return "", ""
    kind = rng.random()
    if kind < 0.2 and tense != "used":
        hi, en = rng.choice(DAYS)
        return f"{hi} को", f"on {en}"
    if kind < 0.3:
        hi, en = rng.choice(MONTHS)
        return f"{hi} में", f"in {en}"
    if kind < 0.5:
        return clock_phrase(rng)
    return rng.choice(TIMES[table[tense]])


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)


def clause(
    rng: random.Random,
    actor: Person | None = None,
    tense: str | None = None,
    negative: bool | None = None,
) -> Pair:
    """A declarative clause without capital and full stop."""
    actor = actor or subject(rng)
    tense = tense or rng.choice(TENSES)
    if negative is None:
        negative = rng.random() < 0.18
    negative = negative and tense not in ("perfect", "used", "must")
    verb = any_verb(rng, actor)
    if tense == "habit" and verb.base == verb.past and not negative:
        tense = "past"  # "I read" is the past; the present would be spelled the same
    case, group = hindi_group(verb, actor, tense, negative)
    often = ("", "")
    if tense == "habit" and not negative and rng.random() < 0.2:
        often = rng.choice([("हमेशा", "always"), ("अक्सर", "often"), ("कभी कभी", "sometimes")])
    when = time_phrase(rng, tense) if not often[0] else ("", "")
    en = english_clause(verb, actor, tense, negative, False)
    if often[1]:
        en = f"{actor.en} {often[1]}{en[len(actor.en) :]}"
    if when[0] and rng.random() < 0.3:
        return Pair(_join(when[0], case, verb.before, group), f"{when[1]} {en}")
    return Pair(_join(case, often[0] or when[0], verb.before, group), _join(en, when[1]))


def finish(hi: str, en: str, end: str = ".") -> Pair:
    """A whole sentence: capital letter, and the final mark of each language."""
    return Pair(hi + ("।" if end == "." else end), en[0].upper() + en[1:] + end)


def statement(rng: random.Random) -> Pair:
    return finish(*clause(rng))


def yes_no_question(rng: random.Random) -> Pair:
    actor = subject(rng)
    if actor == I:
        actor = YOU
    tense = rng.choice([t for t in TENSES if t != "used"])
    verb = any_verb(rng, actor)
    case, group = hindi_group(verb, actor, tense, False)
    when = time_phrase(rng, tense)
    en = english_clause(verb, actor, tense, False, True)
    return finish(_join("क्या", case, when[0], verb.before, group), _join(en, when[1]), "?")


def wh_question(rng: random.Random) -> Pair:
    actor = subject(rng)
    kind = rng.choice(["why", "why", "when", "how", "who", "who", "what", "where", "which"])
    tense = rng.choice(
        ["habit", "progressive", "past", "future", "was", "want", "can", "should", "must"]
    )
    if kind == "who":
        who = Person("कौन", "किस", "m", 3, "who", "who", "is", "his")
        tense = rng.choice(["habit", "progressive", "past", "future", "was", "want", "can"])
        verb = any_verb(rng, YOU)
        while "अपन" in verb.before:
            verb = any_verb(rng, YOU)
        case, group = hindi_group(verb, who, tense, False)
        case = "किसने" if case == "किस ने" else case
        when = time_phrase(rng, tense)
        en = english_clause(verb, who, tense, False, False)
        return finish(_join(case, when[0], verb.before, group), _join(en, when[1]), "?")
    if kind == "what":
        nominal, stem, forms, _ = rng.choice(
            [v for v in VERBS_THING if v[0] == "-" and v[1] != "चला"]
        )
        verb = _verb(nominal, stem, forms, "क्या", "", ("m", 3))
        case, group = hindi_group(verb, actor, tense, False)
        return finish(
            _join(case, "क्या", group),
            f"what {english_clause(verb, actor, tense, False, True)}",
            "?",
        )
    if kind == "where":
        tense = rng.choice(["habit", "progressive", "future", "was", "want"])
        _, nominal, stem, forms, agreement = rng.choice(
            [v for v in VERBS_PLACE if v[0] == "in" or v[2] == "जा"]
        )
        verb = _verb(nominal, stem, forms, "कहाँ", "", None if agreement == "-" else (agreement, 3))
        case, group = hindi_group(verb, actor, tense, False)
        return finish(
            _join(case, "कहाँ", group),
            f"where {english_clause(verb, actor, tense, False, True)}",
            "?",
        )
    if kind == "which":
        nominal, stem, forms, classes = rng.choice(VERBS_THING)
        noun = rng.choice([n for n in NOUNS if set(n.classes) & set(classes)] or NOUNS)
        verb = _verb(nominal, stem, forms, "", "", (noun.gender, 3))
        case, group = hindi_group(verb, actor, tense, False)
        hi = _join(case, adjective_hi("कौनसा", noun.gender, True), noun.hi, group)
        return finish(hi, f"which {noun.en} {english_clause(verb, actor, tense, False, True)}", "?")
    if kind == "when":
        tense = rng.choice(["future", "past", "want", "must"])
    if kind == "how":
        tense = rng.choice(["future", "past", "can"])
    word = {"why": "क्यों", "when": "कब", "how": "कैसे"}[kind]
    verb = any_verb(rng, actor)
    case, group = hindi_group(verb, actor, tense, False)
    en = english_clause(verb, actor, tense, False, True)
    group = group.removeprefix(verb.nominal)
    return finish(_join(case, verb.before, verb.nominal, word, group.strip()), f"{kind} {en}", "?")


def _command_verb(rng: random.Random) -> Verb:
    kind = rng.random()
    if kind < 0.5:
        return thing_verb(rng, YOU)
    if kind < 0.7:
        verb = person_verb(rng, YOU)
        while verb.stem in ("डर", "डरा"):
            verb = person_verb(rng, YOU)
        return verb
    return plain_verb(rng, "i") if kind < 0.82 else place_verb(rng)


def command(rng: random.Random) -> Pair:
    verb = _command_verb(rng)
    kind = rng.random()
    if kind < 0.3:
        hi = _join(verb.before, verb.nominal, "मत", imperative(verb.stem))
        return finish(hi, _join("do not", verb.base, verb.after))
    manner = rng.choice(
        [("जल्दी", "quickly"), ("धीरे धीरे", "slowly"), ("ध्यान से", "carefully"), ("चुपचाप", "quietly")]
    )
    if kind < 0.42:
        hi = _join(manner[0], verb.before, verb.nominal, imperative(verb.stem))
        return finish(hi, _join(verb.base, verb.after, manner[1]))
    if kind < 0.62:
        hi = _join("कृपया", verb.before, verb.nominal, imperative(verb.stem))
        return finish(hi, _join("please", verb.base, verb.after))
    if kind < 0.72:
        hi = _join("मुझे", verb.before, verb.nominal, verb.stem + "ने दीजिए")
        if "अपन" in verb.before or "मेर" in verb.before or "मुझ" in verb.before:
            return command(rng)
        return finish(hi, _join("let me", verb.base, verb.after))
    if kind < 0.82:
        words = _join(verb.before, verb.nominal)
        if re.search(r"अपन|हम|मेर|मुझ", words):
            return command(rng)
        stem = future(verb.stem, "m", 0)[:-2]
        return finish(_join("आइए", words, stem), _join("let us", verb.base, verb.after))
    return finish(
        _join(verb.before, verb.nominal, imperative(verb.stem)), _join(verb.base, verb.after)
    )


def thing_description(rng: random.Random) -> Pair:
    """यह किताब बहुत पुरानी है।"""
    if rng.random() < 0.2:
        noun = rng.choice([n for n in MASS if set(n.classes) & set("de")])
        adjective = rng.choice(ADJ_FOOD)
        phrase = Phrase(noun.hi, noun.hi, noun.gender, 3, f"the {noun.en}")
    elif rng.random() < 0.3:
        noun = rng.choice(PLACES)
        adjective = rng.choice(ADJ_PLACE)
        phrase = rng.choice(
            [
                Phrase(noun.hi, "", noun.gender, 3, f"the {noun.en}"),
                Phrase(f"यह {noun.hi}", "", noun.gender, 3, f"this {noun.en}"),
            ]
        )
    else:
        phrase = thing_phrase(rng, rng.choice(NOUNS), None, plain=True)
        adjective = rng.choice(ADJ_THING)
    return _be(rng, phrase.hi, phrase.gender, 3, phrase.en, "is", adjective)


def _be(
    rng: random.Random,
    hi: str,
    gender: str,
    number: int,
    en: str,
    be: str,
    adjective: tuple[str, str],
) -> Pair:
    very = (
        ("बहुत", "very")
        if rng.random() < 0.3 and adjective[1] not in ("alive", "ready", "alone", "broken", "free")
        else ("", "")
    )
    described = adjective_hi(adjective[0], gender, number != 0)
    is_hi = _is(number)
    kind = rng.random()
    if kind < 0.18:
        return finish(
            _join("क्या", hi, very[0], described, is_hi), _join(be, en, very[1], adjective[1]), "?"
        )
    if kind < 0.34:
        be_past = "were" if be == "are" else "was"
        return finish(
            _join(hi, very[0], described, _was(gender, number)),
            _join(en, be_past, very[1], adjective[1]),
        )
    if kind < 0.5:
        return finish(_join(hi, described, "नहीं", is_hi), _join(en, be, "not", adjective[1]))
    return finish(_join(hi, very[0], described, is_hi), _join(en, be, very[1], adjective[1]))


def person_description(rng: random.Random) -> Pair:
    """मेरी बहन बहुत ख़ुश है।"""
    who = subject(rng)
    return _be(
        rng, who.nominative, who.gender, who.number, who.en, who.en_be, rng.choice(ADJ_PERSON)
    )


def job(rng: random.Random) -> Pair:
    """राम डॉक्टर है।"""
    who = subject(rng)
    while who in (WE, YOU) or who.en.startswith("the "):
        who = subject(rng)
    hi, en = rng.choice(_rows(lexicon.JOBS))
    if rng.random() < 0.3:
        wish = "want to become" if who == I else "wants to become"
        return finish(
            f"{who.nominative} {hi} बनना चाहत{_ending(who.gender, who.number)} {_is(who.number)}",
            f"{who.en} {wish} {article(en)}",
        )
    return finish(f"{who.nominative} {hi} {_is(who.number)}", f"{who.en} {who.en_be} {article(en)}")


SURFACES = [
    n
    for n in NOUNS
    if n.en in ("table", "chair", "ladder", "cupboard", "box", "bag", "basket", "bucket")
]


def _surface(rng: random.Random) -> tuple[str, str]:
    noun = rng.choice(SURFACES)
    head = oblique_hi(noun.hi, noun.gender)
    if noun.en in ("table", "chair", "ladder") or (noun.en == "box" and rng.random() < 0.5):
        return f"{head} पर", f"on the {noun.en}"
    if noun.en in ("table", "chair") and rng.random() < 0.3:
        return f"{head} के नीचे", f"under the {noun.en}"
    return f"{head} में", f"in the {noun.en}"


def location(rng: random.Random) -> Pair:
    """चाबी मेज़ पर है।"""
    kind = rng.random()
    if kind < 0.4:
        noun = rng.choice([n for n in NOUNS if "t" in n.classes and n not in SURFACES])
        phrase = thing_phrase(rng, noun, None, plain=True)
        hi, en = _surface(rng)
        if rng.random() < 0.25:
            return finish(f"क्या {phrase.hi} {hi} है", f"is {phrase.en} {en}", "?")
        return finish(f"{phrase.hi} {hi} है", f"{phrase.en} is {en}")
    if kind < 0.6:
        if rng.random() < 0.5:
            phrase = thing_phrase(rng, rng.choice(NOUNS), None, plain=True)
            return finish(f"{phrase.hi} कहाँ है", f"where is {phrase.en}", "?")
        who = third_person(rng)
        return finish(f"{who.nominative} कहाँ {_is(who.number)}", f"where is {who.en}", "?")
    if kind < 0.75:
        who = subject(rng)
        hi, en = place_phrase(rng, "in")
        if rng.random() < 0.4:
            be = "were" if who.en_be == "are" else "was"
            return finish(
                f"{who.nominative} {hi} {_was(who.gender, who.number)}", f"{who.en} {be} {en}"
            )
        return finish(f"{who.nominative} {hi} {_is(who.number)}", f"{who.en} {who.en_be} {en}")
    hi, en = _surface(rng) if rng.random() < 0.5 else place_phrase(rng, "in")
    noun = (
        rng.choice([n for n in NOUNS if "t" in n.classes and n not in SURFACES])
        if "the" in en and rng.random() < 0.7
        else rng.choice(ANIMALS)
    )
    if rng.random() < 0.5:
        count = rng.randrange(2, 31)
        return finish(
            f"{hi} {lexicon.NUMBERS_HI[count]} {plural_hi(noun.hi, noun.gender)} हैं",
            f"there are {lexicon.number_en(count)} {plural_en(noun.en)} {en}",
        )
    return finish(f"{hi} एक {noun.hi} है", f"there is {article(noun.en)} {en}")


def possession(rng: random.Random) -> Pair:
    """मेरे पास एक गाड़ी है।, मुझे चाय चाहिए।, मुझे संगीत पसंद है।"""
    who = subject(rng)
    singular = who.en_be == "is"
    kind = rng.random()
    noun = rng.choice([n for n in NOUNS if set(n.classes) & set("tv")])
    count = rng.randrange(2, 100)
    if rng.random() < 0.4:
        hi, en, number = (
            f"{lexicon.NUMBERS_HI[count]} {plural_hi(noun.hi, noun.gender)}",
            f"{lexicon.number_en(count)} {plural_en(noun.en)}",
            0,
        )
    else:
        adjective = rng.choice(ADJ_THING) if rng.random() < 0.35 else None
        hi = (
            f"एक {adjective_hi(adjective[0], noun.gender, True)} {noun.hi}"
            if adjective
            else f"एक {noun.hi}"
        )
        en, number = article(f"{adjective[1]} {noun.en}" if adjective else noun.en), 3
    if kind < 0.4:
        have = "has" if singular else "have"
        return finish(
            f"{who.with_postposition('के')} पास {hi} {_is(number)}", f"{who.en} {have} {en}"
        )
    if kind < 0.75:
        if rng.random() < 0.3:
            mass = rng.choice(MASS)
            hi, en = mass.hi, mass.en
        if rng.random() < 0.25:
            return finish(
                f"क्या {who.dative} {hi} चाहिए",
                f"{'does' if singular else 'do'} {who.en} need {en}",
                "?",
            )
        return finish(
            f"{who.dative} {hi} चाहिए", f"{who.en} {'needs' if singular else 'need'} {en}"
        )
    if rng.random() < 0.5:
        hi, en = rng.choice(_rows(lexicon.LIKES))
    else:
        mass = rng.choice([m for m in MASS if set(m.classes) & set("de")])
        hi, en = mass.hi, mass.en
    kind = rng.random()
    if kind < 0.25:
        return finish(
            f"क्या {who.dative} {hi} पसंद है",
            f"{'does' if singular else 'do'} {who.en} like {en}",
            "?",
        )
    if kind < 0.5:
        return finish(
            f"{who.dative} {hi} पसंद नहीं है", f"{who.en} {'does' if singular else 'do'} not like {en}"
        )
    return finish(f"{who.dative} {hi} पसंद है", f"{who.en} {'likes' if singular else 'like'} {en}")


def big_number(rng: random.Random) -> tuple[str, str]:
    """A number from ten to some lakhs, in words."""
    kind = rng.random()
    if kind < 0.4:
        n = rng.randrange(10, 100)
        return lexicon.NUMBERS_HI[n], lexicon.number_en(n)
    n = rng.randrange(1, 10)
    hi, en = f"{lexicon.NUMBERS_HI[n]} सौ", f"{lexicon.number_en(n)} hundred"
    if kind < 0.7:
        if rng.random() < 0.5:
            m = rng.randrange(1, 100)
            return f"{hi} {lexicon.NUMBERS_HI[m]}", f"{en} {lexicon.number_en(m)}"
        return hi, en
    n = rng.randrange(1, 100)
    thousand = f"{lexicon.NUMBERS_HI[n]} हज़ार", f"{lexicon.number_en(n)} thousand"
    if kind < 0.85:
        return thousand
    return f"{thousand[0]} {hi}", f"{thousand[1]} {en}"


def numbers(rng: random.Random) -> Pair:
    """Prices, ages, times and room numbers."""
    kind = rng.random()
    if kind < 0.3:
        noun = rng.choice([n for n in NOUNS if set(n.classes) & set("tv")])
        hi, en = big_number(rng)
        this = rng.choice([("यह", "this"), ("वह", "that")])
        of = {"m": "का", "f": "की"}[noun.gender]
        return finish(
            f"{this[0]} {noun.hi} {hi} रुपये {of} है", f"{this[1]} {noun.en} costs {en} rupees"
        )
    if kind < 0.5:
        who = subject(rng)
        n = rng.randrange(2, 100)
        of = "की" if who.gender == "f" else "के" if who.number == 0 else "का"
        return finish(
            f"{who.nominative} {lexicon.NUMBERS_HI[n]} साल {of} {_is(who.number)}",
            f"{who.en} {who.en_be} {lexicon.number_en(n)} years old",
        )
    if kind < 0.62:
        n = rng.randrange(1, 100)
        return finish(
            f"कमरा नंबर {lexicon.NUMBERS_HI[n]} कहाँ है",
            f"where is room number {lexicon.number_en(n)}",
            "?",
        )
    if kind < 0.72:
        hi, en = clock_phrase(rng)
        part = rng.choice([("रेलगाड़ी", "train"), ("बस", "bus")])
        return finish(f"{part[0]} {hi} आएगी", f"the {part[1]} will come {en}")
    if kind < 0.82:
        n = rng.randrange(2, 60)
        unit = rng.choice(
            [
                ("मिनट", "minutes"),
                ("दिन", "days"),
                ("साल", "years"),
                ("महीने", "months"),
                ("हफ़्ते", "weeks"),
            ]
        )
        word = rng.choice([("रुकिए", "stop"), ("इंतज़ार कीजिए", "wait"), ("आराम कीजिए", "rest")])
        return finish(
            f"{lexicon.NUMBERS_HI[n]} {unit[0]} {word[0]}",
            f"{word[1]} for {lexicon.number_en(n)} {unit[1]}",
        )
    if kind < 0.92:
        who = subject(rng)
        hi, en = big_number(rng)
        have = "has" if who.en_be == "is" else "have"
        return finish(
            f"{who.with_postposition('के')} पास {hi} रुपये हैं", f"{who.en} {have} {en} rupees"
        )
    hi, en = rng.choice(CITIES)
    distance = big_number(rng)
    return finish(
        f"{hi} यहाँ से {distance[0]} किलोमीटर दूर है",
        f"{en} is {distance[1]} kilometers away from this place",
    )


def named(rng: random.Random) -> Pair:
    """मेरे भाई का नाम राम है।"""
    noun = rng.choice(KIN)
    owner = rng.choice(list(POSSESSORS))
    name = rng.choice([n for n in NAMES if n.gender == noun.gender])
    determiner = adjective_hi(POSSESSORS[owner], noun.gender, False)
    head = oblique_hi(noun.hi, noun.gender, "i" in noun.classes)
    return finish(
        f"{determiner} {head} का नाम {name.hi} है", f"the name of {owner} {noun.en} is {name.en}"
    )


def reported(rng: random.Random) -> Pair:
    """मुझे लगता है कि ..."""
    kind = rng.random()
    inner = clause(rng, tense="future" if kind > 0.8 else None)
    if kind < 0.3:
        head = ("मुझे लगता है कि", "I think that")
    elif kind < 0.55:
        head = ("मुझे पता है कि", "I know that")
    elif kind < 0.7:
        head = ("मुझे यक़ीन है कि", "I am sure that")
    elif kind < 0.8:
        who = third_person(rng)
        head = (f"{who.ergative} कहा कि", f"{who.en} said that")
    else:
        head = ("मुझे उम्मीद है कि", "I hope that")
    return finish(f"{head[0]} {inner.hi}", f"{head[1]} {inner.en}")


def compound(rng: random.Random) -> Pair:
    """Two short clauses."""
    kind = rng.random()
    if kind < 0.3:
        first = subject(rng)
        verb = plain_verb(rng) if rng.random() < 0.5 else place_verb(rng)
        case, group = hindi_group(verb, first, "future", False)
        english = english_clause(verb, first, "habit", False, False)
        second = clause(rng, tense="future")
        return finish(
            f"अगर {_join(case, verb.before, group)} तो {second.hi}", f"if {english}, {second.en}"
        )
    word = rng.choice([("लेकिन", "but"), ("और", "and"), ("क्योंकि", "because")])
    first = clause(rng, tense=rng.choice(["past", "progressive", "future", "want"]))
    second = clause(rng, tense=rng.choice(["past", "progressive", "future", "can"]))
    if len(first.en.split()) + len(second.en.split()) > 13:
        return compound(rng)
    return finish(f"{first.hi} {word[0]} {second.hi}", f"{first.en} {word[1]} {second.en}")


FIXED = [Pair(hi, en) for hi, en in _rows(lexicon.FIXED)]
_PREFIXES = [
    ("सुनिए", "listen"),
    ("देखिए", "look"),
    ("हाँ", "yes"),
    ("नहीं", "no"),
    ("अच्छा", "okay"),
    ("माफ़ कीजिए", "sorry"),
]


def _addressed(rng: random.Random, pair: Pair) -> Pair:
    """`pair` behind a name or a short interjection and a comma."""
    if rng.random() < 0.6:
        name = rng.choice(NAMES)
        hi, en = name.hi, name.en
    else:
        hi, en = rng.choice(_PREFIXES)
    first = pair.en.split()[0]
    keep = first.rstrip(",.?") in _PROPER or first == "I"
    rest = pair.en if keep else pair.en[0].lower() + pair.en[1:]
    return Pair(f"{hi}, {pair.hi}", f"{en[0].upper() + en[1:]}, {rest}")


_PROPER = (
    {n.en for n in NAMES}
    | {en for _, en in CITIES}
    | {en for _, en in DAYS + MONTHS}
    | {en for _, _, en in LANGUAGES}
)

TEMPLATES: list[tuple[Callable[[random.Random], Pair], float]] = [
    (statement, 30),
    (yes_no_question, 11),
    (wh_question, 11),
    (command, 11),
    (thing_description, 6),
    (person_description, 6),
    (job, 2),
    (location, 6),
    (possession, 7),
    (numbers, 7),
    (named, 1),
    (reported, 4),
    (compound, 3),
]


def sentence(rng: random.Random, fixed_share: float = 0.03) -> Pair:
    """One random sentence pair in normal form."""
    if rng.random() < fixed_share:
        return rng.choice(FIXED)
    template = rng.choices([t for t, _ in TEMPLATES], [w for _, w in TEMPLATES])[0]
    pair = template(rng)
    if (
        template is not compound
        and template is not reported
        and len(pair.en.split()) < 10
        and rng.random() < 0.08
    ):
        pair = _addressed(rng, pair)
    return Pair(nfc(pair.hi), nfc(pair.en))


_FIXED_EN = {p.en for p in FIXED}


def is_held_out(pair: Pair) -> bool:
    """Whether no model may train on `pair`."""
    if pair.en in _FIXED_EN:
        return False
    return int.from_bytes(hashlib.sha1(pair.en.encode()).digest()[:4], "big") % HELD_OUT_SHARE == 0


def sentences(seed: int, held_out: bool, fixed_share: float = 0.03) -> Iterator[Pair]:
    """An endless stream of sentences of one side of the split (the held-out side has no fixed lines)."""
    rng = random.Random(seed)
    while True:
        pair = sentence(rng, 0.0 if held_out else fixed_share)
        if is_held_out(pair) == held_out:
            yield pair


def held_out_sample(count: int, seed: int = 20) -> list[Pair]:
    """`count` different held-out sentences, the same on every machine."""
    found: dict[str, Pair] = {}
    for pair in sentences(seed, held_out=True):
        found.setdefault(pair.en, pair)
        if len(found) == count:
            return list(found.values())
    raise AssertionError("unreachable")


_PUNCTUATION = str.maketrans("", "", "।.,?")


def plain(text: str) -> str:
    """`text` without punctuation and in lower case: what word error rates compare."""
    return " ".join(text.translate(_PUNCTUATION).lower().split())


def check_bijection(count: int, seed: int = 1) -> dict[str, int]:
    """Raise AssertionError if a sentence of a sample has two translations; the sizes of the sample otherwise."""
    rng = random.Random(seed)
    to_en: dict[str, str] = {}
    to_hi: dict[str, str] = {}
    words: dict[str, Counter[str]] = {"hi": Counter(), "en": Counter()}
    for _ in range(count):
        pair = sentence(rng)
        for table, key, value in ((to_en, pair.hi, pair.en), (to_hi, pair.en, pair.hi)):
            if table.setdefault(key, value) != value:
                raise AssertionError(f"two translations of {key!r}: {table[key]!r} and {value!r}")
        words["hi"].update(plain(pair.hi).split())
        words["en"].update(plain(pair.en).split())
    return {"sentences": len(to_en), "words_hi": len(words["hi"]), "words_en": len(words["en"])}


if __name__ == "__main__":
    print(check_bijection(300_000))
    sampler = random.Random(7)
    for _ in range(60):
        print(*sentence(sampler), sep="\t")
