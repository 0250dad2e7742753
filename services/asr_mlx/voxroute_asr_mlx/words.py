# pyright: basic
"""The time of each word from the decoder's cross-attention: the method of openai-whisper.

The steps are those of mlx_whisper.timing, with three differences: the audio features of the
decoding are used again (mlx-whisper encodes the window a second time), the path through the
attention is found with numpy (numba would be compiled in the middle of the first request), and the
words end up in order and inside their segments.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx_whisper.timing import WordTiming, median_filter, merge_punctuations
from mlx_whisper.tokenizer import Tokenizer
from mlx_whisper.whisper import Whisper

from voxroute_asr_mlx.segments import TOKEN_S, TokenSegment, within
from voxroute_serving.engine import Word

MEDIAN_FILTER_WIDTH = 7  # positions of 20 ms
MAX_MEDIAN_WORD_S = 0.7  # s; a longer median comes from pauses, not from slow speech
SENTENCE_ENDS = ".。!！?？।॥"  # noqa: RUF001 - full-width marks
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、।॥"  # noqa: RUF001 - full-width marks


@dataclass(slots=True)
class TimedSegment:
    """A segment with its words; times in seconds from the start of the window."""

    start_s: float
    end_s: float
    words: tuple[Word, ...]


def align(
    model: Whisper,
    tokenizer: Tokenizer,
    features: mx.array,
    tokens: Sequence[int],
    n_positions: int,
) -> list[WordTiming]:
    """The words of the text tokens with their times in seconds from the start of the features.

    `features` (1, 1500, n_audio_state) are those of the audio, which fills `n_positions` of them.
    Empty where there is nothing to align.
    """
    words, word_tokens = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    if len(word_tokens) <= 1 or n_positions < 1:
        return []
    n_sot = len(tokenizer.sot_sequence)
    context = [*tokenizer.sot_sequence, tokenizer.no_timestamps, *tokens, tokenizer.eot]
    context = context[: model.dims.n_text_ctx]
    n_text = len(context) - n_sot - 2
    logits, _, cross_qk = model.decoder(mx.array([context]), features)

    probabilities = mx.softmax(
        logits[0, n_sot : n_sot + n_text, : tokenizer.eot].astype(mx.float32), axis=-1
    )
    chosen = mx.array(list(tokens[:n_text]))[:, None]
    token_probabilities = np.array(mx.take_along_axis(probabilities, chosen, axis=1)[:, 0])

    heads: Any = model.alignment_heads.tolist()
    weights = mx.stack([cross_qk[layer][0, head] for layer, head in heads])
    weights = mx.softmax(weights[:, :, :n_positions].astype(mx.float32), axis=-1, precise=True)
    mean = mx.mean(weights, axis=-2, keepdims=True)
    deviation = mx.sqrt(mx.var(weights, axis=-2, keepdims=True)) + 1e-10
    filtered = median_filter(np.array((weights - mean) / deviation), MEDIAN_FILTER_WIDTH)
    matrix = filtered.mean(axis=0)[n_sot:-1]  # one row for each text token and the one before

    token_indices, time_indices = warp(-matrix)
    jumps = np.diff(token_indices, prepend=-1).astype(bool)
    jump_s = time_indices[jumps] * TOKEN_S
    # boundaries[i] is where word i begins; a text cut at the end of the context repeats its end
    boundaries = np.cumsum([0, *(len(part) for part in word_tokens[:-1])])
    boundaries = np.minimum(boundaries, len(jump_s) - 1)
    return [
        WordTiming(
            word,
            list(part),
            float(jump_s[begin]),
            float(jump_s[end]),
            float(np.mean(token_probabilities[begin:end])) if end > begin else 0.0,
        )
        for word, part, begin, end in zip(
            words[:-1], word_tokens[:-1], boundaries[:-1], boundaries[1:], strict=True
        )
    ]


def warp(costs: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The cheapest path from the first to the last cell of a matrix, as its rows and its columns.

    Dynamic time warping: each step goes to the next row, the next column, or both. The matrix is
    filled diagonal by diagonal, so that numpy computes a whole diagonal at once.
    """
    n_rows, n_columns = costs.shape
    total = np.full((n_rows + 1, n_columns + 1), np.inf, np.float32)
    total[0, 0] = 0.0
    for diagonal in range(2, n_rows + n_columns + 1):
        rows = np.arange(max(1, diagonal - n_columns), min(n_rows, diagonal - 1) + 1)
        columns = diagonal - rows
        best = np.minimum(total[rows - 1, columns - 1], total[rows - 1, columns])
        best = np.minimum(best, total[rows, columns - 1])
        total[rows, columns] = costs[rows - 1, columns - 1] + best
    row, column = n_rows, n_columns
    path: list[tuple[int, int]] = []
    while row > 0 and column > 0:
        path.append((row - 1, column - 1))
        both, down, along = (
            total[row - 1, column - 1],
            total[row - 1, column],
            total[row, column - 1],
        )
        # mlx-whisper goes along where two are equal
        if both < down and both < along:
            row, column = row - 1, column - 1
        elif down < both and down < along:
            row -= 1
        else:
            column -= 1
    found = np.array(path[::-1])
    return found[:, 0], found[:, 1]


def assign(
    segments: Sequence[TokenSegment],
    timings: Sequence[WordTiming],
    *,
    offset_s: float,
    earliest_s: float,
    duration_s: float,
    spaced: bool,
) -> list[TimedSegment]:
    """The segments with their words, the ends moved to where the words begin and end.

    `timings` are the words of all segments in order, in seconds from `offset_s`; nothing begins
    before `earliest_s`. In a language that is `spaced` a word is what stands between blanks. Words
    that last much longer than most are cut, as mlx_whisper.timing does it: the attention runs on
    through a pause.
    """
    durations = [timing.end - timing.start for timing in timings if timing.end > timing.start]
    median_s = min(MAX_MEDIAN_WORD_S, float(np.median(durations))) if durations else 0.0
    longest_s = 2 * median_s
    timings = list(timings)
    if durations:
        _cut_at_sentence_ends(timings, longest_s)
    merge_punctuations(timings, PREPENDED, APPENDED)

    timed: list[TimedSegment] = []
    position = 0
    last_end_s = earliest_s
    for segment in segments:
        words: list[WordTiming] = []
        n_tokens = 0
        while position < len(timings) and n_tokens < len(segment.tokens):
            timing = timings[position]
            if timing.word:
                timing.start += offset_s
                timing.end += offset_s
                words.append(timing)
            n_tokens += len(timing.tokens)
            position += 1
        start_s, end_s = segment.start_s, segment.end_s
        if words:
            _cut_after_pause(words, last_end_s, median_s)
            start_s, end_s = _agreed_bounds(words, start_s, end_s, median_s)
        start_s, end_s = within(start_s, end_s, earliest_s=last_end_s, duration_s=duration_s)
        timed.append(TimedSegment(start_s, end_s, _ordered(words, start_s, end_s, spaced=spaced)))
        last_end_s = end_s
    return timed


def _cut_at_sentence_ends(timings: list[WordTiming], longest_s: float) -> None:
    for before, timing in itertools.pairwise(timings):
        if timing.end - timing.start <= longest_s:
            continue
        if timing.word in SENTENCE_ENDS:
            timing.end = timing.start + longest_s
        elif before.word in SENTENCE_ENDS:
            timing.start = timing.end - longest_s


def _cut_after_pause(words: list[WordTiming], last_end_s: float, median_s: float) -> None:
    """Shortens the first two words after a pause where they take it in."""
    longest_s = 2 * median_s
    first = words[0]
    second = words[1] if len(words) > 1 else None
    too_long = first.end - first.start > longest_s or (
        second is not None and second.end - first.start > 2 * longest_s
    )
    if first.end - last_end_s <= 4 * median_s or not too_long:
        return
    if second is not None and second.end - second.start > longest_s:
        first.end = second.start = max((second.start + second.end) / 2, second.end - longest_s)
    first.start = max(last_end_s, first.end - longest_s)


def _agreed_bounds(
    words: list[WordTiming], start_s: float, end_s: float, median_s: float
) -> tuple[float, float]:
    """The segment's ends: those of its words, except where a word runs far over the timestamp."""
    first, last = words[0], words[-1]
    if first.start < start_s - 0.5 and start_s < first.end:
        first.start = max(0.0, min(first.end - median_s, start_s))
    else:
        start_s = first.start
    if last.end > end_s + 0.5 and end_s > last.start:
        last.end = max(last.start + median_s, end_s)
    else:
        end_s = last.end
    return start_s, end_s


def _ordered(
    words: Sequence[WordTiming], start_s: float, end_s: float, *, spaced: bool
) -> tuple[Word, ...]:
    """The words inside the segment, each beginning where the one before has ended or later."""
    ordered: list[Word] = []
    open_word = False  # whether what comes next without a blank belongs to the last word
    for word in words:
        text = word.word.strip()
        floor_s = ordered[-1].end_s if ordered else start_s
        begins_s = min(max(word.start, floor_s), end_s)
        ends_s = min(max(word.end, begins_s), end_s)
        confidence = min(1.0, max(0.0, word.probability))
        if text and spaced and open_word and not word.word[0].isspace():
            last = ordered.pop()
            confidence = min(confidence, last.confidence or 0.0)
            ordered.append(Word(last.text + text, last.start_s, ends_s, confidence))
        elif text:
            ordered.append(Word(text, begins_s, ends_s, confidence))
        open_word = bool(ordered) and not word.word[-1:].isspace()
    return tuple(ordered)
