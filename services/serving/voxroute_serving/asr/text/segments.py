"""From the words of one window to segments with times. Pure; no ML library.

A segment is what a person reads as one subtitle or sentence. Its times are those of its words in
the model's cross-attention; where that gives none, its share of the stretches with sound.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from voxroute_serving.asr.engine import Word
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

TIME_PRECISION_S = 0.02  # s; one timestamp token, one position of Whisper's encoder
MAX_SEGMENT_S = 12.0  # s; longer ones are split: readers lose a cue that stays longer
PAUSE_S = 0.7  # s; a silence between words that separates two segments
MIN_SILENCE_S = 0.3  # s; a shorter one is part of a word: the closure of a plosive, a dragged vowel
MAX_MEDIAN_WORD_S = 0.7  # s; a longer median comes from pauses, not from slow speech
MIN_REST_S = 0.2  # s; less sound holds no word and only invites invented text
ONSET_S = 0.2  # s; kept in front of a sound: consonants begin softly
N_FRAME_SAMPLES = int(TIME_PRECISION_S * SAMPLE_RATE)  # 320 samples in a frame
SILENCE_BELOW_PEAK_DB = 40.0  # dB; a frame this far below the loudest one has no speech

# The end of a sentence with the quotes that close it. A full stop inside a number or after a
# single letter ("3.14", "U.S.") ends none.
_SENTENCE_END = re.compile(
    r"(?:[?!…।॥۔؟]+|(?<![\s.][^\W\d_])\.+)[\"'”’)\]]*(?=\s|$)"  # noqa: RUF001 - quotes as printed
    r"|[。？！]+[」』”]*"  # noqa: RUF001 - full-width marks
)
# "Mr.", "Dr.", "Sra.": before a pause it is a short sentence all the same
_MAY_BE_TITLE = re.compile(r"[^\W\d_]{1,4}\.")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; times in seconds from the start of the window."""

    start_s: float
    end_s: float
    text: str
    confidence: float | None = None
    """How likely its tokens are on the whole, 0 to 1; None where nobody knows."""

    @property
    def word(self) -> Word:
        """The same as a word of a segment, its blank included."""
        return Word(self.text, self.start_s, self.end_s, self.confidence)


def sentences(text: str) -> list[str]:
    """The sentences of a text; joined with what stood between them they are the text again."""
    found: list[str] = []
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        found.append(text[begin : match.end()])
        begin = match.end()
    found.append(text[begin:])
    return [sentence for sentence in found if sentence.strip()]


def ends_sentence(text: str) -> bool:
    """Whether a text ends with the end of a sentence."""
    stripped = text.rstrip()
    if not stripped or stripped[-1].isalnum():  # most words, and quicker
        return False
    return any(match.end() == len(stripped) for match in _SENTENCE_END.finditer(stripped))


def with_words(
    words: Sequence[Piece], text: str, sound: npt.NDArray[np.bool_], duration_s: float
) -> list[tuple[Piece, list[Piece]]]:
    """The segments of a window's text, tidy, each with its words; without any where none are known.

    Those that `grouped` makes of the words, or else shares of the sound; see `proportional`.
    """
    groups = grouped(words, sound)
    pieces = [joined(group) for group in groups] or proportional(text, sound, duration_s)
    return list(zip(tidy(pieces, duration_s), groups or [[] for _ in pieces], strict=True))


def joined(words: Sequence[Piece]) -> Piece:
    """One segment of all the words."""
    return Piece(words[0].start_s, words[-1].end_s, "".join(word.text for word in words))


def grouped(words: Sequence[Piece], sound: npt.NDArray[np.bool_]) -> list[list[Piece]]:
    """The words by segment, without the silence that the attention gives them.

    The texts of the words carry their own blanks; `sound` is of the window.
    """
    return by_segment(_spoken(words, sound))


def by_segment(words: Sequence[Piece]) -> list[list[Piece]]:
    """The words by segment: cut where a sentence ends or a pause separates two words.

    A stretch that is longer than MAX_SEGMENT_S without either is cut at its longest pause, again
    until none is longer.
    """
    groups: list[list[Piece]] = []
    begin = 0
    for index, word in enumerate(words):
        pause_s = words[index + 1].start_s - word.end_s if index + 1 < len(words) else math.inf
        if pause_s >= PAUSE_S or (
            ends_sentence(word.text)
            and not (pause_s < MIN_SILENCE_S and _MAY_BE_TITLE.fullmatch(word.text.strip()))
        ):
            groups.extend(_cut_at_pauses(list(words[begin : index + 1])))
            begin = index + 1
    return groups


def whole_words(words: Sequence[Piece]) -> Sequence[Piece]:
    """The words of a text that was cut off, up to its last sentence or without its last word.

    The last word may be half of one, and what time the attention gives it reaches to the end.
    """
    for index in range(len(words) - 2, len(words) // 2, -1):
        if ends_sentence(words[index].text):
            return words[: index + 1]
    return words[:-1]


def _spoken(words: Sequence[Piece], sound: npt.NDArray[np.bool_]) -> list[Piece]:
    """The words without the silence that the attention gives them.

    It goes from one word to the next somewhere in the pause between them, or dwells on a word
    through what the model has left out. A word that opens a sentence is thus trusted for its end,
    any other for its start, as in openai/whisper's add_word_timestamps.
    """
    lengths = [word.end_s - word.start_s for word in words if word.end_s > word.start_s]
    longest_s = 2 * min(MAX_MEDIAN_WORD_S, float(np.median(lengths))) if lengths else 0.0
    spoken: list[Piece] = []
    opens = True
    for word in words:
        parts = _sounding_parts(word, sound)
        start_s, end_s = parts[-1 if opens else 0]
        if end_s - start_s > longest_s:
            if opens:
                start_s = end_s - longest_s
            elif ends_sentence(word.text) or end_s - start_s > MAX_SEGMENT_S:
                end_s = start_s + longest_s
        spoken.append(replace(word, start_s=start_s, end_s=end_s))
        opens = ends_sentence(word.text)
    return spoken


def _sounding_parts(word: Piece, sound: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """The stretches of a word with sound, those together that MIN_SILENCE_S does not part."""
    first = _frame(word.start_s)
    frames = first + np.flatnonzero(sound[first : max(first + 1, _frame(word.end_s))])
    if len(frames) == 0:
        return [(word.start_s, word.end_s)]
    breaks = np.flatnonzero(np.diff(frames) > MIN_SILENCE_S / TIME_PRECISION_S)
    return [
        (
            max(word.start_s, int(run[0]) * TIME_PRECISION_S),
            min(max(word.end_s, word.start_s), (int(run[-1]) + 1) * TIME_PRECISION_S),
        )
        for run in np.split(frames, breaks + 1)
    ]


def _frame(time_s: float) -> int:
    return round(time_s / TIME_PRECISION_S)


def _cut_at_pauses(words: list[Piece]) -> list[list[Piece]]:
    if words[-1].end_s - words[0].start_s <= MAX_SEGMENT_S or len(words) == 1:
        return [words]
    # of equal pauses, the one nearest the middle
    middle = len(words) / 2
    cut = max(
        range(1, len(words)),
        key=lambda i: (round(words[i].start_s - words[i - 1].end_s, 3), -abs(i - middle)),
    )
    return _cut_at_pauses(words[:cut]) + _cut_at_pauses(words[cut:])


def next_sound_s(samples: Samples, from_s: float) -> float | None:
    """Where the sound after a time begins, with ONSET_S in front; None where no word fits."""
    frames = np.flatnonzero(sounding(samples)[round(from_s / TIME_PRECISION_S) :])
    if len(frames) * TIME_PRECISION_S < MIN_REST_S:
        return None
    return from_s + max(0.0, int(frames[0]) * TIME_PRECISION_S - ONSET_S)


def sounding(samples: Samples) -> npt.NDArray[np.bool_]:
    """For each frame of TIME_PRECISION_S whether it is loud enough to be speech."""
    n_frames = max(1, -(-len(samples) // N_FRAME_SAMPLES))
    padded = np.zeros(n_frames * N_FRAME_SAMPLES, dtype=np.float32)
    padded[: len(samples)] = samples
    power = np.square(padded.reshape(n_frames, N_FRAME_SAMPLES)).mean(axis=1)
    loudest = float(power.max())
    if loudest == 0.0:
        return np.ones(n_frames, dtype=np.bool_)
    return power >= loudest * 10 ** (-SILENCE_BELOW_PEAK_DB / 10)


def proportional(text: str, sound: npt.NDArray[np.bool_], duration_s: float) -> list[Piece]:
    """The sentences of a text, each with a share of the sound that its length has of the text.

    Where a sentence's share is longer than MAX_SEGMENT_S it is cut between words.
    """
    frames = np.flatnonzero(sound)
    total_s = len(frames) * TIME_PRECISION_S
    n_characters = sum(len(sentence) for sentence in sentences(text))
    parts = [
        part
        for sentence in sentences(text)
        for part in _cut_in(sentence, total_s * len(sentence) / n_characters)
    ]
    pieces: list[Piece] = []
    done = 0
    for part in parts:
        first = frames[min(len(frames) - 1, len(frames) * done // n_characters)]
        done += len(part)
        last = frames[max(0, min(len(frames), -(-len(frames) * done // n_characters)) - 1)]
        end_s = min(duration_s, (float(last) + 1) * TIME_PRECISION_S)
        pieces.append(Piece(float(first) * TIME_PRECISION_S, end_s, part))
    return pieces


def _cut_in(sentence: str, length_s: float) -> list[str]:
    """The sentence in as many parts of whole words as MAX_SEGMENT_S asks for."""
    n_parts = max(1, -(-int(length_s * 1000) // int(MAX_SEGMENT_S * 1000)))
    words = re.findall(r"\s*\S+\s*$|\s*\S+", sentence)
    n_parts = min(n_parts, len(words))
    bounds = [len(words) * part // n_parts for part in range(n_parts + 1)]
    return ["".join(words[a:b]) for a, b in pairwise(bounds)]


def tidy(pieces: Sequence[Piece], duration_s: float) -> list[Piece]:
    """The pieces within the window, without overlap, each with a length above zero.

    Their order is that of the text, and stays.
    """
    done: list[Piece] = []
    floor_s = 0.0
    for piece in pieces:
        latest_s = max(0.0, duration_s - TIME_PRECISION_S)
        start_s = min(max(piece.start_s, floor_s), latest_s)
        end_s = max(min(piece.end_s, duration_s), start_s + min(TIME_PRECISION_S, duration_s))
        done.append(Piece(start_s, end_s, piece.text.strip()))
        floor_s = end_s
    return done
