"""From the tokens or words of one window to segments with times. Pure; no ML library.

A segment is what a person reads as one subtitle or sentence. Its times come from the best source
that the window has: the model's timestamp tokens, else its cross-attention (a time for each
word), else the distribution of the text over the stretches with sound.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from voxroute_serving.engine import SAMPLE_RATE, Samples

TIME_PRECISION_S = 0.02  # s; one timestamp token, one position of Whisper's encoder
MAX_SEGMENT_S = 12.0  # s; longer ones are split: readers lose a cue that stays longer
PAUSE_S = 0.7  # s; a silence between words that separates two segments
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


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text; times in seconds from the start of the window."""

    start_s: float
    end_s: float
    text: str


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
    return any(match.end() == len(stripped) for match in _SENTENCE_END.finditer(stripped))


def from_timestamps(
    tokens: Sequence[int],
    *,
    timestamp_begin: int,
    decode: Callable[[list[int]], str],
    duration_s: float,
    is_cut_off: bool = False,
) -> list[Piece] | None:
    """The segments that a window's timestamp tokens mark; None where they mark none.

    `timestamp_begin` is the id of <|0.00|>; `decode` turns text tokens into text. Text after the
    last timestamp is kept, up to the end of the window, unless the tokens are cut off at the
    limit: then it is left to whoever decodes the rest. None also where text carries no closing
    timestamp at all, as from a model that was not trained to write them.
    """
    pieces: list[Piece] = []
    start_s, text_tokens, closed = 0.0, list[int](), False
    for token in tokens:
        if token < timestamp_begin:
            text_tokens.append(token)
            continue
        time_s = (token - timestamp_begin) * TIME_PRECISION_S
        if text_tokens:
            pieces.append(Piece(start_s, time_s, decode(text_tokens)))
            closed, text_tokens = True, []
        start_s = time_s
    if text_tokens and decode(text_tokens).strip():
        if not closed:
            return None
        if not is_cut_off:
            pieces.append(Piece(start_s, duration_s, decode(text_tokens)))
    return [piece for piece in pieces if piece.text.strip()]


def from_words(words: Sequence[Piece]) -> list[Piece]:
    """Segments of words: cut where a sentence ends or a pause separates two words.

    A stretch that is longer than MAX_SEGMENT_S without either is cut at its longest pause, again
    until none is longer. The texts of the words carry their own blanks.
    """
    segments: list[Piece] = []
    begin = 0
    for index, word in enumerate(words):
        last = index == len(words) - 1
        if last or ends_sentence(word.text) or words[index + 1].start_s - word.end_s >= PAUSE_S:
            segments.extend(_cut_at_pauses(words[begin : index + 1]))
            begin = index + 1
    return segments


def refine(
    pieces: Sequence[Piece], words: Sequence[Piece], sound: npt.NDArray[np.bool_]
) -> list[Piece]:
    """The pieces, those longer than MAX_SEGMENT_S replaced by shorter ones of the same text.

    `words` are the words of all pieces in the order of the text. A piece whose text is not that
    of whole words, or that has none, is divided in proportion to its sound instead.
    """
    refined: list[Piece] = []
    starts = [0, *accumulate(len(word.text) for word in words)]
    begin = 0
    for piece in pieces:
        end = begin + len(piece.text)
        inside = [
            Piece(
                min(max(word.start_s, piece.start_s), piece.end_s),
                min(max(word.end_s, piece.start_s), piece.end_s),
                word.text,
            )
            for start, word in zip(starts, words, strict=False)
            if begin <= start < end
        ]
        begin = end
        if piece.end_s - piece.start_s <= MAX_SEGMENT_S:
            refined.append(piece)
        elif "".join(word.text for word in inside) == piece.text:
            refined.extend(from_words(inside))
        else:
            refined.extend(_divided(piece, sound))
    return refined


def _divided(piece: Piece, sound: npt.NDArray[np.bool_]) -> list[Piece]:
    """The piece cut into its sentences, each with its share of the sound in it."""
    first, last = int(piece.start_s / TIME_PRECISION_S), int(piece.end_s / TIME_PRECISION_S)
    heard = sound[first:last]
    if not heard.any():
        return [piece]
    return [
        Piece(piece.start_s + part.start_s, piece.start_s + part.end_s, part.text)
        for part in proportional(piece.text, heard, piece.end_s - piece.start_s)
    ]


def _cut_at_pauses(words: Sequence[Piece]) -> list[Piece]:
    whole = Piece(words[0].start_s, words[-1].end_s, "".join(word.text for word in words))
    if whole.end_s - whole.start_s <= MAX_SEGMENT_S or len(words) == 1:
        return [whole]
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


def within_sound(piece: Piece, sound: npt.NDArray[np.bool_]) -> Piece:
    """The piece without the silence at its ends, where there is sound in it."""
    first = int(piece.start_s / TIME_PRECISION_S)
    frames = np.flatnonzero(sound[first : max(first + 1, round(piece.end_s / TIME_PRECISION_S))])
    if len(frames) == 0:
        return piece
    start_s = max(piece.start_s, (first + int(frames[0])) * TIME_PRECISION_S)
    end_s = min(piece.end_s, (first + int(frames[-1]) + 1) * TIME_PRECISION_S)
    return Piece(start_s, end_s, piece.text)


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
