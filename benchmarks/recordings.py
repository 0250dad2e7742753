"""Recordings of people with what is said in them, and how a text is compared with that.

A set is a recording beside a text of its name, en-read.flac and en-read.json: the language is what
stands before the first hyphen, and the JSON is a list of [start_s, end_s, text]. `make real-models`
brings short ones; the variable VOXROUTE_SPEECH names a folder with more.
"""

import json
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer

ROOT = Path(__file__).parents[1]
REAL_MODELS = ROOT / "models" / "real"
WHISPER_BASE = REAL_MODELS / "whisper-base"
FOLDER_VARIABLE = "VOXROUTE_SPEECH"
HOW_TO_GET = "run `make real-models`"
MEDIA = (".flac", ".wav", ".mka")
PHRASE_WORDS = 4
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is said from start_s to end_s of the recording; a cut of the recording, with its edges.

    The voice begins a little after the start.
    """

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """A recording, its language (BCP-47) and what is said."""

    name: str
    language: str
    path: Path
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(sentence.text.strip() for sentence in self.sentences)


def speech_sets(*languages: str) -> list[SpeechSet]:
    """The sets that are here, of these languages or of all, by name; none unless fetched."""
    folders = [REAL_MODELS / "speech"]
    if more := os.environ.get(FOLDER_VARIABLE):
        folders.append(Path(more))
    found = {path.stem: path for folder in folders for path in sorted(folder.glob("*.json"))}
    sets = [read_set(found[name]) for name in sorted(found)]
    return [one for one in sets if not languages or one.language in languages]


def read_set(reference: Path) -> SpeechSet:
    """The set of a JSON file. Raises ValueError where no recording is beside it."""
    media = [path for suffix in MEDIA if (path := reference.with_suffix(suffix)).is_file()]
    if not media:
        raise ValueError(f"beside {reference} is no recording ({', '.join(MEDIA)})")
    rows: list[tuple[float, float, str]] = json.loads(reference.read_text(encoding="utf-8"))
    return SpeechSet(
        name=reference.stem,
        language=reference.stem.partition("-")[0],
        path=media[0],
        sentences=tuple(Sentence(*row) for row in rows),
    )


_NUMERALS = """\
one two three four five six seven eight nine ten
एक दो तीन चार पांच छह सात आठ नौ दस
uno dos tres cuatro cinco seis siete ocho nueve diez
un deux trois quatre cinq six sept huit neuf dix
uno due tre quattro cinque sei sette otto nove dieci
um dois três quatro cinco seis sete oito nove dez
jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć
一 二 三 四 五 六 七 八 九 十"""
_DIGITS = {
    word: str(number)
    for line in _NUMERALS.splitlines()
    for number, word in enumerate(line.split(), start=1)
}
"""Whisper writes the one or the other, and both are right."""


def normalised(text: str) -> str:
    """Lower-case words without punctuation or symbols, one space between them.

    What Whisper's own basic normaliser does, except that marks stay: they are the vowels of Indian
    scripts. Numbers from one to ten become digits. Characters of scripts without spaces count as
    words, and digits beside them, which makes the word error rate of Chinese and Japanese one of
    characters.
    """
    kept: list[str] = []
    spaceless = any(map(_is_spaceless, text))
    for character in unicodedata.normalize("NFKC", text).lower():
        kind = unicodedata.category(character)
        if kind == "Nd":
            digit = str(unicodedata.decimal(character))
            kept.append(f" {digit} " if spaceless else digit)
        elif _is_spaceless(character):
            kept.append(f" {character} ")
        elif character in _APOSTROPHES:  # don't is one word, however it is written
            continue
        else:
            kept.append(" " if kind[0] in "PSZC" else character)
    words = [_DIGITS.get(word, word) for word in "".join(kept).split()]
    return " ".join(" ".join(word) if spaceless and word.isdecimal() else word for word in words)


def _is_spaceless(character: str) -> bool:
    return unicodedata.name(character, "").startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA"))


def word_error_rate(references: str | Sequence[str], texts: str | Sequence[str]) -> float:
    """Wrong, missing and added words for each word of the references, both normalised."""
    one = isinstance(references, str)
    expected = [references] if one else list(references)
    got = [texts] if isinstance(texts, str) else list(texts)
    return float(
        jiwer.wer([normalised(text) for text in expected], [normalised(text) for text in got])
    )


def lost_and_doubled(reference: str, text: str) -> tuple[int, int]:
    """Words of the reference that a text skips, and those that it says again, both normalised.

    A model mishears words one by one; a stream that loses what was said loses it in a row. So only
    rows of PHRASE_WORDS and more count as lost, and only added words that repeat those beside them
    as said again. Digits count one by one, as a model may write any number of them together.
    """
    apart = [re.sub(r"(?<=\d)(?=\d)", " ", normalised(one)) for one in (reference, text)]
    found = jiwer.process_words(*apart)
    said = found.hypotheses[0]
    lost = doubled = 0
    for chunk in found.alignments[0]:
        if chunk.type == "delete":
            n = chunk.ref_end_idx - chunk.ref_start_idx
            lost += n if n >= PHRASE_WORDS else 0
        elif chunk.type == "insert":
            begin, end = chunk.hyp_start_idx, chunk.hyp_end_idx
            added, n = said[begin:end], end - begin
            if added in (said[max(0, begin - n) : begin], said[end : end + n]):
                doubled += n
    return lost, doubled
