"""Bringing the terms of a glossary into the translation of a sentence, with any model.

No model here takes constraints, so a ladder of means works from outside, each step only for the
terms that are still missing:

1. The model has written the wanted words already.
2. Its own rendition of a term, which is what it makes of the term alone, stands in the translation
   as often as the term in the source, and the wanted words take its place.
3. The sentence is translated again with something in the term's place that comes through whole:
   a placeholder that the model was trained to copy, the wanted words themselves, or a common name.
   If it comes through as often as the term stands in the source, the wanted words take its place.
   If all else is as in the first translation, what stood there instead was the rendition (step 2).

What none of them brings stays as the model has it; the caller counts, and says so (docs/adr/0016).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from voxroute_serving.scripts import has_letters
from voxroute_translate.glossary import (
    Glossary,
    Matcher,
    Mention,
    Occurrence,
    WantedTexts,
    capitalized,
    fold,
    is_word_character,
    needed,
    normal,
    replaced,
)
from voxroute_translate.languages import Language
from voxroute_translate.quality import Doubt, Severity, doubt
from voxroute_translate.texts import at_once

_MAX_TERMS_ALONE = 4
"""Terms of one sentence tried one by one beside all at once; each costs up to four tries."""
_MAX_MORE_WORDS = 2
"""Words that a rendition may have more than its term ("mother in law"); beyond it, the model has
made a sentence of the term."""

# Names that speech and film have everywhere: one that takes a man's agreement, one a woman's.
_INDIC_NAMES = {
    "Deva": ("मोहन", "सीता"),
    "Beng": ("মোহন", "সীতা"),
    "Gujr": ("મોહન", "સીતા"),
    "Guru": ("ਮੋਹਨ", "ਸੀਤਾ"),
    "Orya": ("ମୋହନ", "ସୀତା"),
    "Taml": ("மோகன்", "சீதா"),
    "Telu": ("మోహన్", "సీత"),
    "Knda": ("ಮೋಹನ್", "ಸೀತಾ"),
    "Mlym": ("മോഹൻ", "സീത"),
}
_LATIN_NAMES = ("Martin", "Anna")
_ENGLISH_NAMES = ("Mohan", "Sita")
_ENGLISH_ARTICLE = re.compile(r"(?:the|a|an) ", re.IGNORECASE)

_SENTENCE_MARKS = frozenset(".,;:?!।…。！？，")  # noqa: RUF001 - Chinese
# The mark that ends a sentence, where a sentence is a term and nothing else goes to the model.
_DANDA_SCRIPTS = frozenset({"Deva", "Beng", "Guru", "Orya"})
_WIDE_MARKS = str.maketrans("。！？，", ".!?,")  # noqa: RUF001 - Chinese


class _Attempt(NamedTuple):
    """A sentence with other words in the places of some terms, and what each is to come out as."""

    sentence: str
    stand_ins: tuple[tuple[Mention, str], ...]
    only_contrast: bool = False
    """Whether its translation serves only to find out what the first one says."""


@dataclass(slots=True)
class Enforcement:
    """The terms of a call. What the model makes of terms alone is kept for the call."""

    glossary: Glossary
    source: Language
    target: Language
    placeholder: str
    """A text with {number} in it that the model copies; empty if it has none."""
    run: Callable[[str], Awaitable[str]]
    """The model's translation of a text."""
    _renditions: dict[str, str] = field(default_factory=dict[str, str])
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock])

    def whole(self, sentence: str) -> str:
        """The translation of a sentence that is nothing but terms and marks; empty for others."""
        text = normal(sentence)
        mentions = self.glossary.mentions(text)
        if not mentions or any(map(is_word_character, replaced(text, _all_places(mentions, "")))):
            return ""
        translation = _with_targets(text, mentions)
        if self.target.script not in _DANDA_SCRIPTS:
            translation = translation.replace("।", ".")
        elif self.target.script == "Deva" and translation.endswith("."):
            translation = f"{translation[:-1]}।"
        if self.target.script not in ("Hans", "Hant", "Jpan"):
            translation = translation.translate(_WIDE_MARKS)
        return translation

    def doubt(self, sentence: str, translation: str) -> Doubt:
        """As `quality.doubt`, of what is not settled by the glossary."""
        text, translation = normal(sentence), normal(translation)
        mentions = self.glossary.mentions(text)
        if not mentions or not translation:
            return doubt(text, translation, self.source, self.target)
        rest = replaced(text, _all_places(mentions, "0"))
        found = WantedTexts(needed(mentions)).find(translation)
        return doubt(
            rest,
            replaced(translation, ((place, "0") for _, place in found)),
            self.source,
            self.target,
        )

    async def apply(self, sentence: str, translation: str) -> str:
        """The translation with as many of the sentence's terms as can be brought into it."""
        text = normal(sentence)
        mentions = self.glossary.mentions(text)
        if not mentions or not translation:
            return translation
        first = normal(translation)
        if not self._missing(mentions, first):
            return translation
        renditions = await self._alone(self._missing(mentions, first))
        best = self._with_renditions(first, mentions, renditions)
        missing = self._missing(mentions, best)
        if missing:
            best = await self._again(text, first, best, mentions, renditions)
        if self._better(text, best, first, mentions):
            return best
        return translation

    async def _again(
        self,
        text: str,
        first: str,
        best: str,
        mentions: list[Mention],
        renditions: dict[Mention, str],
    ) -> str:
        """The best of `best` and the translations of the sentence with stand-ins."""
        attempts = await self._attempts(text, self._missing(mentions, best))
        translations = [
            normal(each) for each in await at_once(self.run, [one.sentence for one in attempts])
        ]
        renditions = renditions | self._contrasted(first, attempts, translations)
        candidates = [self._with_renditions(first, mentions, renditions)]
        for attempt, translation in zip(attempts, translations, strict=True):
            filled = None if attempt.only_contrast else _filled(attempt, translation)
            if filled is not None:
                candidates.append(self._with_renditions(filled, mentions, renditions))
        for candidate in candidates:
            if self._better(text, candidate, best, mentions):
                best = candidate
        return best

    def _better(self, text: str, one: str, other: str, mentions: list[Mention]) -> bool:
        """Whether one has more terms than the other without being more doubtful."""
        if len(self._missing(mentions, one)) >= len(self._missing(mentions, other)):
            return False
        severity = self.doubt(text, one).severity
        return severity is Severity.NONE or severity <= self.doubt(text, other).severity

    def _missing(self, mentions: list[Mention], translation: str) -> list[Mention]:
        """The terms that do not stand in the translation as often as they should."""
        wanted = needed(mentions)
        there = WantedTexts(wanted).count(translation)
        return [each for each in mentions if there[each.target] < wanted[each.target]]

    async def _alone(self, mentions: Iterable[Mention]) -> dict[Mention, str]:
        """What the model makes of each term alone; those of which it makes nothing are left out."""
        ordered = list(mentions)
        names = [self.glossary.terms[each.term].source for each in ordered]
        found = await at_once(self._rendition, [normal(name) for name in names])
        return {each: words for each, words in zip(ordered, found, strict=True) if words}

    async def _rendition(self, term: str) -> str:
        async with self._locks.setdefault(term, asyncio.Lock()):
            if term not in self._renditions:
                translation = normal(await self.run(term))
                problem = doubt(term, translation, self.source, self.target)
                words = "" if problem else self._bare(translation)
                self._renditions[term] = words if _is_rendition(words, term) else ""
            return self._renditions[term]

    def _bare(self, words: str) -> str:
        """The words without the marks around them and without an article in front."""
        start, end = 0, len(words)
        while start < end and not is_word_character(words[start]):
            start += 1
        while end > start and not is_word_character(words[end - 1]):
            end -= 1
        return self._without_article(words[start:end])

    def _without_article(self, words: str) -> str:
        return _ENGLISH_ARTICLE.sub("", words, count=1) if self._article(words) else words

    def _article(self, words: str) -> bool:
        return self.target.subtag == "en" and _ENGLISH_ARTICLE.match(words) is not None

    def _with_renditions(
        self, translation: str, mentions: list[Mention], renditions: dict[Mention, str]
    ) -> str:
        """The translation with the wanted words in the places of the model's own."""
        for mention in self._missing(mentions, translation):
            rendition = renditions.get(mention)
            if rendition:
                translation = _exchanged(translation, rendition, mention, mentions)
        return translation

    async def _attempts(self, text: str, missing: list[Mention]) -> list[_Attempt]:
        groups = [missing]
        if len(missing) > 1:
            groups += [[each] for each in missing[:_MAX_TERMS_ALONE]]
        names = await self._names(text)
        attempts: list[_Attempt] = []
        for group in groups:
            if self.placeholder:
                marks = [self.placeholder.format(number=n + 1) for n in range(len(group))]
                attempts.append(_attempt(text, group, marks, marks))
            targets = [each.target for each in group]
            if not any(self.glossary.terms[each.term].do_not_translate for each in group):
                attempts.append(_attempt(text, group, targets, targets))
            attempts += [
                _attempt(
                    text,
                    group,
                    [name for name, _ in chosen],
                    [rendition for _, rendition in chosen],
                    only_contrast=not all(map(self._is_name, group)),
                )
                for chosen in _rotations(names, len(group))
            ]
        return attempts

    async def _names(self, text: str) -> list[tuple[str, str]]:
        """Common names of the source language with the model's rendition, none in the text."""
        if self.source.subtag == "en":
            names = _ENGLISH_NAMES
        elif self.source.script == "Latn":
            names = _LATIN_NAMES
        else:
            names = _INDIC_NAMES.get(self.source.script, ())
        free = [name for name in names if fold(name) not in fold(text)]
        renditions = await at_once(self._rendition, free)
        return [(name, words) for name, words in zip(free, renditions, strict=True) if words]

    def _is_name(self, mention: Mention) -> bool:
        """Whether the term is written as a name in a script that tells names by capitals.

        Where neither script does, any term may be one.
        """
        texts = (self.glossary.terms[mention.term].source, mention.target)
        cased = [text for text in texts if text.lower() != text.upper()]
        return not cased or any(text != text.lower() for text in cased)

    def _contrasted(
        self, first: str, attempts: Sequence[_Attempt], translations: Sequence[str]
    ) -> dict[Mention, str]:
        """Renditions, as two translations tell them that differ in nothing else.

        "The key is here." beside "Mohan is here." says that the term is "key" in the first.
        """
        found: dict[Mention, str] = {}
        for attempt, translation in zip(attempts, translations, strict=True):
            if len(attempt.stand_ins) != 1:
                continue
            mention, stand_in = attempt.stand_ins[0]
            if len(mention.places) != 1 or mention in found:
                continue
            ours, theirs = _difference(first, translation)
            ours = self._without_article(ours)
            if fold(self._without_article(theirs)) == fold(stand_in) and _is_rendition(
                ours, self.glossary.terms[mention.term].source
            ):
                found[mention] = ours
        return found


def _attempt(
    text: str,
    group: Sequence[Mention],
    words: Sequence[str],
    expected: Sequence[str],
    *,
    only_contrast: bool = False,
) -> _Attempt:
    places = [
        (place, put) for mention, put in zip(group, words, strict=True) for place in mention.places
    ]
    stand_ins = tuple(zip(group, expected, strict=True))
    return _Attempt(replaced(text, places), stand_ins, only_contrast)


def _rotations(names: Sequence[tuple[str, str]], count: int) -> list[list[tuple[str, str]]]:
    """Each way to give that many terms different names in turn; none if there are too few."""
    if count > len(names):
        return []
    return [[*names[first:], *names[:first]][:count] for first in range(len(names))]


def _all_places(mentions: Iterable[Mention], words: str) -> list[tuple[Occurrence, str]]:
    return [(place, words) for mention in mentions for place in mention.places]


def _with_targets(text: str, mentions: Iterable[Mention]) -> str:
    return replaced(
        text, ((place, mention.target) for mention in mentions for place in mention.places)
    )


def _filled(attempt: _Attempt, translation: str) -> str | None:
    """The translation with the wanted words for the stand-ins; None if one did not come through.

    Each has to stand there exactly as often as in the sentence.
    """
    wanted = [stand_in for _, stand_in in attempt.stand_ins]
    found = WantedTexts(wanted).find(translation)
    replacements: list[tuple[Occurrence, str]] = []
    for text in dict.fromkeys(wanted):
        there = [place for each, place in found if each == text]
        places = [
            (mention.target, place)
            for mention, stand_in in attempt.stand_ins
            if stand_in == text
            for place in mention.places
        ]
        if len(there) != len(places):
            return None
        replacements += [
            (place, _fitting(target, translation, place))
            for (target, _), place in zip(places, there, strict=True)
        ]
    return replaced(translation, replacements)


def _exchanged(
    translation: str, rendition: str, mention: Mention, mentions: Sequence[Mention]
) -> str:
    """The translation with the wanted words for the rendition, if that stands there as often.

    A wanted text that stands there already is left alone, and so is what only looks like it: a
    name is told from a word by its capital where the wanted text has one.
    """
    settled = WantedTexts(needed(mentions)).find(translation)
    required = len(mention.places) - sum(text == mention.target for text, _ in settled)
    is_name = mention.target != mention.target.lower()
    for sensitive in (True, False) if not is_name else (True,):
        places = [
            place
            for place in Matcher([(rendition, sensitive)]).find(translation)
            if not any(place.start < other.end and other.start < place.end for _, other in settled)
        ]
        if len(places) == required:
            return replaced(
                translation,
                [(place, _fitting(mention.target, translation, place)) for place in places],
            )
    return translation


def _fitting(words: str, translation: str, place: Occurrence) -> str:
    """The words, with a capital where they come to begin a sentence that begins with one."""
    begins = not any(map(is_word_character, translation[: place.start]))
    return capitalized(words) if begins and translation[place.start].isupper() else words


def _difference(one: str, other: str) -> tuple[str, str]:
    """What stands in each between the words that both begin with and those that both end with.

    Both empty where nothing but that is in them.
    """
    ours, theirs = _tokens(one), _tokens(other)
    limit = min(len(ours), len(theirs))
    begin = 0
    while begin < limit and fold(ours[begin]) == fold(theirs[begin]):
        begin += 1
    end = 0
    while end < limit - begin and fold(ours[-1 - end]) == fold(theirs[-1 - end]):
        end += 1
    shared = [*ours[:begin], *ours[len(ours) - end :]]
    if not any(map(has_letters, shared)):
        return "", ""
    return (
        " ".join(ours[begin : len(ours) - end]),
        " ".join(theirs[begin : len(theirs) - end]),
    )


def _tokens(text: str) -> list[str]:
    """Words, and each mark between them."""
    spaced = "".join(c if is_word_character(c) or c == " " else f" {c} " for c in text)
    return spaced.split()


def _is_rendition(words: str, term: str) -> bool:
    """Whether it can be the translation of a term, and is no sentence."""
    tokens, term_tokens = _tokens(words), _tokens(term)
    marks = [token for token in tokens if token in _SENTENCE_MARKS and token not in term_tokens]
    return has_letters(words) and not marks and len(tokens) <= len(term_tokens) + _MAX_MORE_WORDS
