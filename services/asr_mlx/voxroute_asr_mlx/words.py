# pyright: basic
"""The time of each word from the decoder's cross-attention: the method of openai-whisper.

mlx_whisper.timing runs the decoder a second time for it, over one window at a time; here the
attention is what the decoding itself has left. The median is taken on the device, and the path
through the attention is found by numpy, row by row (numba would be compiled in the middle of the
first request).
"""

from collections.abc import Sequence
from itertools import pairwise

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx_whisper.timing import WordTiming, merge_punctuations
from mlx_whisper.tokenizer import Tokenizer

from voxroute_serving.asr.engine import Word
from voxroute_serving.asr.text.segments import TIME_PRECISION_S, Piece
from voxroute_serving.asr.whisper.decoding import (
    APPENDED,
    MEDIAN_EXCHANGES,
    MEDIAN_FILTER_WIDTH,
    PREPENDED,
)

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # as in mlx_whisper.tokenizer


def matrix(attention: mx.array, n_before: int, n_positions: int) -> mx.array:
    """How much each token is what is said at each position; (tokens, positions), any scale.

    `attention` is (tokens, alignment heads, 1500), before the softmax. The audio fills
    `n_positions`, 1 at least; the first `n_before` tokens are looked at and left out.
    """
    weights = attention[:, :, :n_positions].astype(mx.float32)
    weights = mx.softmax(weights, axis=-1, precise=True)
    deviation = mx.sqrt(mx.var(weights, axis=0, keepdims=True)) + 1e-10
    weights = (weights - mx.mean(weights, axis=0, keepdims=True)) / deviation
    return _median(weights).mean(axis=1)[n_before:]


def _median(x: mx.array) -> mx.array:
    """The median of MEDIAN_FILTER_WIDTH neighbours along the last axis, mirrored at its ends."""
    half, n = MEDIAN_FILTER_WIDTH // 2, x.shape[-1]
    if n <= half:  # openai-whisper's rule
        return x
    mirrored = [*range(half, 0, -1), *range(n), *range(n - 2, n - 2 - half, -1)]
    padded = mx.take(x, mx.array(mirrored), axis=-1)
    around = [padded[..., shift : shift + n] for shift in range(MEDIAN_FILTER_WIDTH)]
    for low, high in MEDIAN_EXCHANGES:
        one, two = around[low], around[high]
        around[low], around[high] = mx.minimum(one, two), mx.maximum(one, two)
    return around[half]


def onsets(costs: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The column at which the cheapest path from the first to the last cell enters each row.

    Dynamic time warping: each step goes to the next row, the next column, or both. Along a row the
    cheapest way to a column is the cheapest entry before it, and running sums and minima find that
    for all columns at once.
    """
    n_rows, n_columns = costs.shape
    columns = np.arange(n_columns)
    above = np.full(n_columns + 1, np.inf)  # costs of the row before, from the column before on
    above[0] = 0.0
    entered = np.empty((n_rows, n_columns), np.int64)
    is_diagonal = np.empty((n_rows, n_columns), np.bool_)
    for row in range(n_rows):
        is_diagonal[row] = above[:-1] < above[1:]
        along = np.cumsum(costs[row], dtype=np.float64)
        entry = np.minimum(above[:-1], above[1:]) - (along - costs[row])
        cheapest = np.minimum.accumulate(entry)
        entered[row] = np.maximum.accumulate(np.where(entry <= cheapest, columns, 0))
        above[0], above[1:] = np.inf, cheapest + along
    found = np.empty(n_rows, np.int64)
    column = n_columns - 1
    for row in range(n_rows - 1, -1, -1):
        found[row] = entered[row, column]
        column = found[row] - is_diagonal[row, found[row]]
    return found


def timed(
    tokens: Sequence[int],
    log_probs: Sequence[float],
    begins: npt.NDArray[np.int64],
    tokenizer: Tokenizer,
) -> list[Piece]:
    """The words of a text, each with its blank and its marks.

    `begins` are the positions at which the tokens, and the end of the text, begin; the last ones
    may be missing. The marks around a word have no part in its time: the decoder attends to a full
    stop all through the pause after it.
    """
    words, parts = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    bounds = np.minimum(np.cumsum([0, *map(len, parts[:-1])]), len(begins) - 1)
    begin_s = begins * TIME_PRECISION_S
    probabilities = np.exp(np.asarray(log_probs, np.float64))
    timings = [
        WordTiming(
            word,
            list(part),
            float(begin_s[first]),
            float(begin_s[last]),
            float(probabilities[first:last].mean()) if last > first else 0.0,
        )
        for word, part, (first, last) in zip(words, parts, pairwise(bounds), strict=False)
    ]
    merge_punctuations(timings, PREPENDED, APPENDED)
    timings = [timing for timing in timings if timing.word]
    if tokenizer.language not in UNSPACED:
        timings = _between_blanks(timings)
    return [Piece(one.start, one.end, one.word, min(1.0, one.probability)) for one in timings]


def _between_blanks(timings: Sequence[WordTiming]) -> list[WordTiming]:
    """What stands between blanks as one word, as sure as its least sure part."""
    whole: list[WordTiming] = []
    for timing in timings:
        if not whole or timing.word[0].isspace() or whole[-1].word[-1].isspace():
            whole.append(timing)
        else:
            last = whole[-1]
            last.word += timing.word
            last.end = timing.end
            last.probability = min(last.probability, timing.probability)
    return whole


def within(words: Sequence[Piece], start_s: float, end_s: float) -> tuple[Word, ...]:
    """The words inside a stretch, each beginning where the one before has ended or later."""
    ordered: list[Word] = []
    floor_s = start_s
    for word in words:
        begins_s = min(max(word.start_s, floor_s), end_s)
        floor_s = min(max(word.end_s, begins_s), end_s)
        if text := word.text.strip():
            ordered.append(Word(text, begins_s, floor_s, word.confidence))
    return tuple(ordered)
