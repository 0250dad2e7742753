"""Speech that tells its words to an engine without a model, for tests and benchmarks.

The words are numbers in the lowest bits of 16-bit samples, where nobody hears them. The sound may
be anything that a voice activity takes for speech, and what was written down can be held against
what was said, word by word, to 20 ms. Samples that are resampled or mixed lose them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voxroute_serving.asr.engine import WindowSegment, Word
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

MARK_SAMPLES = SAMPLE_RATE // 50  # 20 ms a mark
_SYNC = (1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1)
_N_NUMBER, _N_LENGTH, _N_CHECK = 20, 8, 8  # bits: which word, its marks, the sum of both
_N_BITS = len(_SYNC) + _N_NUMBER + _N_LENGTH + _N_CHECK
_SENTENCE = 8  # words
_WHOLE = 0.7  # of a word's marks, below which it is not understood


@dataclass(frozen=True, slots=True)
class SaidWord:
    """A word of marked speech: its number, from 1, and its time in seconds."""

    number: int
    start_s: float
    end_s: float

    @property
    def text(self) -> str:
        """As the engine writes it; every eighth ends a sentence."""
        return text_of(self.number)


def text_of(number: int) -> str:
    """The text of a word."""
    return f"word{number}{'' if number % _SENTENCE else '.'}"


def marked(sound: Samples, words: Sequence[SaidWord]) -> npt.NDArray[np.int16]:
    """The samples of a sound with words in them, s16le; what is no word holds no marks."""
    samples = np.clip(np.rint(sound * 32767), -32768, 32767).astype("<i2") & ~1
    for word in words:
        begin = round(word.start_s * SAMPLE_RATE)
        n_marks = max(1, round((word.end_s - word.start_s) * SAMPLE_RATE) // MARK_SAMPLES)
        bits = np.array(_bits(word.number, n_marks), "<i2")
        for mark in range(n_marks):
            at = begin + mark * MARK_SAMPLES
            samples[at : at + _N_BITS] |= bits[: len(samples[at : at + _N_BITS])]
    return samples


def heard(window: Samples) -> tuple[WindowSegment, ...]:
    """The words in a window, as one segment for each sentence; for `FakeEngine.segments`.

    Of a word at the edge of the window too little is heard to tell it: it is another one.
    """
    found: dict[int, list[int]] = {}
    lengths: dict[int, int] = {}
    for at, number, length in _marks(window):
        found.setdefault(number, []).append(at)
        lengths[number] = length
    segments: list[WindowSegment] = []
    words: list[Word] = []
    for number in sorted(found, key=lambda one: found[one][0]):
        marks = found[number]
        is_whole = len(marks) >= _WHOLE * lengths[number]
        text = f" {text_of(number)}" if is_whole else f" part{number}x{len(marks)}"
        start_s, end_s = marks[0] / SAMPLE_RATE, (marks[-1] + MARK_SAMPLES) / SAMPLE_RATE
        words.append(Word(text, start_s, end_s, 1.0))
        if text.endswith("."):
            segments.append(_segment(words))
            words = []
    return (*segments, _segment(words)) if words else tuple(segments)


def _segment(words: Sequence[Word]) -> WindowSegment:
    text = "".join(word.text for word in words)
    return WindowSegment(
        words[0].start_s,
        words[-1].end_s,
        text,
        avg_log_prob=-0.1,
        no_speech_prob=0.01,
        compression_ratio=1.0,
        temperature=0.0,
        attended=tuple(words),
    )


def _bits(number: int, length: int) -> list[int]:
    check = (number + length) % (1 << _N_CHECK)
    fields = ((number, _N_NUMBER), (length, _N_LENGTH), (check, _N_CHECK))
    return [*_SYNC, *(value >> i & 1 for value, n in fields for i in range(n))]


def _marks(window: Samples) -> list[tuple[int, int, int]]:
    """(place, number, length) of each mark."""
    bits = np.rint(window * 32768).astype(np.int32) & 1
    n = len(bits) - _N_BITS + 1
    if n <= 0:
        return []
    fits = np.ones(n, np.bool_)
    for i, bit in enumerate(_SYNC):
        fits &= bits[i : i + n] == bit
    marks: list[tuple[int, int, int]] = []
    for at in np.flatnonzero(fits).tolist():
        rest = bits[at + len(_SYNC) : at + _N_BITS]
        number, rest = _number(rest[:_N_NUMBER]), rest[_N_NUMBER:]
        length, check = _number(rest[:_N_LENGTH]), _number(rest[_N_LENGTH:])
        if check == (number + length) % (1 << _N_CHECK) and number:
            marks.append((at, number, length))
    return marks


def _number(bits: npt.NDArray[np.int32]) -> int:
    return int(bits @ (1 << np.arange(len(bits))))
