"""Whether a translation may be doubted, judged from the two texts alone."""

import re
import unicodedata
from enum import IntEnum
from typing import NamedTuple

from voxroute_serving.scripts import has_letters, script_share, share_letters
from voxroute_translate.glossary import is_word_character
from voxroute_translate.languages import Language

MAX_LENGTH_RATIO = 4.0
"""Characters of one text for one of the other, beyond which something was invented or lost.
Between alphabets sentences differ by less than 2; Chinese against English reaches 4."""
_IDEOGRAPHIC_RATIO = 10.0
_RATIO_SLACK = 20  # characters; short sentences vary more
MIN_TARGET_SHARE = 0.5
"""Letters of the target's script, below which the text is of another language. Names and
abbreviations may stay in the source's."""
_LOOP = re.compile(r"(.{2,60}?)\1{4,}|(.)\2{9,}", re.DOTALL)
_MAX_UNTOUCHED_WORDS = 3  # "Taxi!", "Star Wars" are the same in many languages
_MIN_COPIED_CHARACTERS = 3
_MAX_BORROWED_WORDS = 1  # "email" stands in Hindi as it is; two such words were left behind


class Severity(IntEnum):
    """How much is wrong with a translation; the greater, the worse."""

    NONE = 0
    ODD_LENGTH = 1
    PARTLY_COPIED = 2
    REPETITION = 3
    WRONG_SCRIPT = 4
    COPIED = 5
    EMPTY = 6


class Doubt(NamedTuple):
    """Why a translation may be doubted, as a sentence, and how much."""

    severity: Severity = Severity.NONE
    reason: str = ""

    def __bool__(self) -> bool:
        return self.severity is not Severity.NONE


NO_DOUBT = Doubt()


def doubt(source_text: str, text: str, source: Language, target: Language) -> Doubt:
    """Why the translation of one sentence may be doubted: the worst that is found."""
    if not text.strip():
        return Doubt(Severity.EMPTY, "the model gave no text")
    if _same(source_text, text) and _should_differ(source_text, source, target):
        return Doubt(Severity.COPIED, "the model gave the source text back")
    if has_letters(text) and script_share(text, target.script) < MIN_TARGET_SHARE:
        return Doubt(Severity.WRONG_SCRIPT, f"the translation is not in the script of {target.tag}")
    if _loops(text) and not _loops(source_text):
        return Doubt(Severity.REPETITION, "the translation repeats itself")
    copied = _copied_words(source_text, text, source, target)
    if copied:
        return Doubt(
            Severity.PARTLY_COPIED,
            f"words of the source stand untranslated in it: {' '.join(copied[:5])}",
        )
    return _odd_length(source_text, text, source, target)


def _same(source_text: str, text: str) -> bool:
    return _bare(source_text) == _bare(text)


def _bare(text: str) -> str:
    """Letters and digits only, in one case."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def _should_differ(text: str, source: Language, target: Language) -> bool:
    if not share_letters(source.script, target.script):
        return script_share(text, target.script) < 1
    return len(text.split()) > _MAX_UNTOUCHED_WORDS


def _loops(text: str) -> bool:
    """Whether a part of at least two characters comes five times in a row, or a word often."""
    if _LOOP.search(text):
        return True
    words = text.casefold().split()
    return len(words) >= 12 and len(set(words)) <= len(words) / 5  # noqa: PLR2004 - five times each


def _copied_words(source_text: str, text: str, source: Language, target: Language) -> list[str]:
    """Words of the source that stand in a translation into another script.

    Every script borrows Latin names and abbreviations, which have capitals or digits in them; only
    words without any tell of a text that was left as it was.
    """
    if share_letters(source.script, target.script):
        return []
    ours = set(_words(source_text))
    copied = [
        word
        for word in _words(text)
        if word in ours and has_letters(word) and script_share(word, target.script) == 0
    ]
    if source.script == "Latn":
        copied = [
            word
            for word in copied
            if len(word) >= _MIN_COPIED_CHARACTERS and word.isalpha() and word.islower()
        ]
        return copied if len(copied) > _MAX_BORROWED_WORDS else []
    return copied


def _words(text: str) -> list[str]:
    return "".join(c if is_word_character(c) else " " for c in text).split()


def _odd_length(source_text: str, text: str, source: Language, target: Language) -> Doubt:
    ideographic = {source.script, target.script} & {"Hans", "Hant", "Jpan", "Kore"}
    limit = _IDEOGRAPHIC_RATIO if ideographic else MAX_LENGTH_RATIO
    if len(text) > limit * len(source_text) + _RATIO_SLACK:
        return Doubt(Severity.ODD_LENGTH, "the translation is much longer than the source")
    if len(source_text) > limit * len(text) + _RATIO_SLACK:
        return Doubt(Severity.ODD_LENGTH, "the translation is much shorter than the source")
    return NO_DOUBT
