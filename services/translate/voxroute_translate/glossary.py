"""Settled terms, and where they stand in a text.

A term stands where its words stand whole: no letter, vowel sign or digit touches its ends. Scripts
that put no blanks between words (Chinese, Japanese, Thai, ...) have no such ends, so there a term
stands wherever its characters do. Inflected forms are other words and are not found.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from voxroute_serving.errors import InvalidInputError

MAX_TERMS = 1000
MAX_TERM_CHARACTERS = 200

# Joiners after a Brahmic letter choose its shape, not the word; keyboards differ in setting them.
_SHAPING = re.compile("(?<=[\u0900-\u0dff])[\u200c\u200d]+")
_JOINERS = "\u200c\u200d"  # in other scripts they are a part of the word
_WITHOUT_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_APOSTROPHES = "'’"  # noqa: RUF001 - as texts have them


@dataclass(frozen=True, slots=True)
class Term:
    """A term and how it is to be translated; both texts as the client wrote them."""

    source: str
    target: str = ""
    case_sensitive: bool = False
    do_not_translate: bool = False
    """Whether the term stays as it stands in the source; then it has no target."""


class Occurrence(NamedTuple):
    """A place of a text, in characters, where the entry of that number stands."""

    entry: int
    start: int
    end: int


def normal(text: str) -> str:
    """The text in the form that places refer to: NFC, each run of blanks one blank."""
    return re.sub(r"\s+", " ", _SHAPING.sub("", unicodedata.normalize("NFC", text))).strip()


@functools.lru_cache(maxsize=8192)
def is_word_character(character: str) -> bool:
    """Whether it is a part of a word: a letter, a vowel sign or other mark, a digit, a joiner."""
    return unicodedata.category(character)[0] in "LMN" or character in _JOINERS


@functools.lru_cache(maxsize=8192)
def _needs_blanks(character: str) -> bool:
    return not unicodedata.name(character, "").startswith(_WITHOUT_BLANKS)


@functools.lru_cache(maxsize=8192)
def _folded_character(character: str) -> str:
    folded = character.casefold()
    return folded if len(folded) == 1 else character


def fold(text: str) -> str:
    """The text in one case, each character still in its place."""
    return "".join(map(_folded_character, text))


def _touches(inner: str, outer: str) -> bool:
    """Whether the end of a match goes on into the neighbouring character."""
    return (
        is_word_character(inner)
        and is_word_character(outer)
        and _needs_blanks(inner)
        and _needs_blanks(outer)
    )


def _begins(text: str) -> bytearray:
    """For each place 1 where a term may begin. Looking only there keeps long runs cheap."""
    return bytearray(
        not start or not _touches(text[start], text[start - 1]) for start in range(len(text))
    )


def _may_end(text: str, end: int) -> bool:
    """Whether a term may end before this place."""
    if end < len(text) and _touches(text[end - 1], text[end]):
        return False
    # "don" is no word of "don't"; a possessive's is one: "Ram's"
    after = text[end : end + 3]
    if len(after) > 1 and after[0] in _APOSTROPHES and is_word_character(after[1]):
        return after[1] in "sS" and not (len(after) > 2 and is_word_character(after[2]))  # noqa: PLR2004 - the apostrophe, the s, the end
    return True


class Matcher:
    """Finds entries in texts: (entry, case-sensitive), the longest first."""

    def __init__(self, entries: Iterable[tuple[str, bool]]) -> None:
        normalized = [(normal(text), sensitive) for text, sensitive in entries]
        # Of two that differ in their rule alone, the one that asks for more goes first.
        self._entries = sorted(
            (
                (text if sensitive else fold(text), sensitive, number)
                for number, (text, sensitive) in enumerate(normalized)
                if text
            ),
            key=lambda entry: (-len(entry[0]), not entry[1], entry[2]),
        )

    def find(self, text: str) -> list[Occurrence]:
        """Where entries stand in a text in `normal` form, in order of place; none overlap."""
        folded = fold(text)
        taken, begins = bytearray(len(text)), _begins(text)
        found: list[Occurrence] = []
        for wanted, sensitive, number in self._entries:
            within = text if sensitive else folded
            start = within.find(wanted)
            while start >= 0:
                end = following = start + len(wanted)
                if taken[start]:
                    following = taken.find(0, start)
                elif not begins[start]:
                    following = begins.find(1, start)
                elif taken.find(1, start, end) < 0 and _may_end(text, end):
                    taken[start:end] = b"\1" * len(wanted)
                    found.append(Occurrence(number, start, end))
                else:
                    following = start + 1
                start = within.find(wanted, following) if following >= 0 else -1
        return sorted(found, key=lambda occurrence: occurrence.start)


class WantedTexts:
    """Texts that are to stand in a translation: exactly, or with a capital in front.

    Where one is a part of another, the longer one's places do not count for the shorter.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = list(dict.fromkeys(texts))
        forms: dict[str, int] = {}
        for number, text in enumerate(self._texts):
            forms.setdefault(text, number)
            forms.setdefault(capitalized(text), number)
        self._numbers = list(forms.values())
        self._matcher = Matcher((form, True) for form in forms)

    def find(self, text: str) -> list[tuple[str, Occurrence]]:
        """Each place in a text in `normal` form, with the wanted text that stands there."""
        return [
            (self._texts[self._numbers[occurrence.entry]], occurrence)
            for occurrence in self._matcher.find(text)
        ]

    def count(self, text: str) -> Counter[str]:
        """How often each stands in the text."""
        return Counter(wanted for wanted, _ in self.find(normal(text)))


def capitalized(text: str) -> str:
    """The text with a capital in front, its rest as it is."""
    return text[:1].upper() + text[1:]


class Use(NamedTuple):
    """A term, by its place in the glossary, that stands in a text; whether it was applied."""

    term: int
    applied: bool


@dataclass(frozen=True, slots=True)
class Mention:
    """A term in one text: its places, and what is to stand in the translation as often."""

    term: int
    target: str
    places: tuple[Occurrence, ...]


class Glossary:
    """The terms of a call."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        self._matcher = Matcher((term.source, term.case_sensitive) for term in terms)

    @classmethod
    def checked(cls, terms: Sequence[Term], field: str) -> Self:
        """The glossary of a request's field. Raises InvalidInputError that names the entry."""
        if len(terms) > MAX_TERMS:
            raise InvalidInputError.of_field(
                field, f"has {len(terms)} terms; send at most {MAX_TERMS}"
            )
        seen: dict[tuple[str, bool], int] = {}
        for number, term in enumerate(terms):
            _check(term, f"{field}[{number}]")
            source = normal(term.source)
            key = (source if term.case_sensitive else fold(source), term.case_sensitive)
            earlier = seen.setdefault(key, number)
            if earlier != number:
                raise InvalidInputError.of_field(
                    f"{field}[{number}].source",
                    f"is the term of {field}[{earlier}] too; send each once",
                )
        return cls(terms)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def mentions(self, text: str) -> list[Mention]:
        """The terms that stand in a text in `normal` form, in the order of the glossary.

        A term that is not to be translated is one mention for each way in which it is written.
        """
        places: dict[tuple[int, str], list[Occurrence]] = {}
        for occurrence in self._matcher.find(text):
            term = self.terms[occurrence.entry]
            target = (
                text[occurrence.start : occurrence.end]
                if term.do_not_translate
                else normal(term.target)
            )
            places.setdefault((occurrence.entry, target), []).append(occurrence)
        return [
            Mention(term, target, tuple(found)) for (term, target), found in sorted(places.items())
        ]

    def uses(self, source: str, translation: str) -> list[Use]:
        """What became of each term of the source, in the order of the glossary.

        Applied is what stands in the translation as often as in the source, counting together
        terms that are wanted in the same words.
        """
        mentions = self.mentions(normal(source))
        wanted = needed(mentions)
        there = WantedTexts(wanted).count(translation)
        applied: dict[int, bool] = {}
        for mention in mentions:
            enough = there[mention.target] >= wanted[mention.target]
            applied[mention.term] = applied.get(mention.term, True) and enough
        return [Use(term, was_applied) for term, was_applied in applied.items()]


def needed(mentions: Iterable[Mention]) -> Counter[str]:
    """How often each text is to stand in the translation."""
    wanted: Counter[str] = Counter()
    for mention in mentions:
        wanted[mention.target] += len(mention.places)
    return wanted


def replaced(text: str, replacements: Iterable[tuple[Occurrence, str]]) -> str:
    """The text with other words in some places."""
    for place, words in sorted(replacements, key=lambda each: -each[0].start):
        text = text[: place.start] + words + text[place.end :]
    return text


def _check(term: Term, field: str) -> None:
    for name, text in (("source", term.source), ("target", term.target)):
        if len(text) > MAX_TERM_CHARACTERS:
            raise InvalidInputError.of_field(
                f"{field}.{name}",
                f"has {len(text)} characters; send at most {MAX_TERM_CHARACTERS}",
            )
    if not any(map(is_word_character, term.source)):
        raise InvalidInputError.of_field(f"{field}.source", "has no word in it; send a term")
    if term.do_not_translate and term.target:
        raise InvalidInputError.of_field(
            f"{field}.target", "is set beside do_not_translate; leave one of them out"
        )
    if not term.do_not_translate and not any(map(is_word_character, term.target)):
        raise InvalidInputError.of_field(
            f"{field}.target",
            "has no word in it; send the translation of the term, or set do_not_translate",
        )
