# pyright: basic
"""Where the words of a text are heard, from the decoder's attention to the audio.

The method of openai-whisper, for all windows of a batch at once and on their device.
"""

import torch
from torch import Tensor

from voxroute_serving.asr.whisper.decoding import MEDIAN_EXCHANGES, MEDIAN_FILTER_WIDTH

_WINDOWS_AT_ONCE = 16  # the medians of 64 windows with long texts would take 8 GB


def onsets(attention: Tensor, first: int, n_tokens: Tensor, n_audible: Tensor) -> Tensor:
    """The position of audio at which each token begins: (windows, tokens - first).

    `attention` is (windows, heads, tokens, positions), of each token all together 1. Of a window
    the first `n_tokens` and the positions before `n_audible` count, both (windows,); the tokens
    before `first`, and the last, are looked at and left out. What stands behind the others of a
    window means nothing.
    """
    counts = torch.arange(attention.shape[2], device=attention.device) < n_tokens[:, None]
    parts: list[Tensor] = []
    for begin in range(0, len(attention), _WINDOWS_AT_ONCE):
        rows = slice(begin, begin + _WINDOWS_AT_ONCE)
        weights = _standardized(attention[rows], counts[rows], n_tokens[rows])
        parts.append(-_median(weights, n_audible[rows]).mean(1)[:, first:])
    return _entered(torch.cat(parts).double(), n_tokens - first - 1, n_audible)


def _standardized(attention: Tensor, counts: Tensor, n_tokens: Tensor) -> Tensor:
    """Over the tokens that count, mean 0 and variance 1."""
    counts, n = counts[:, None, :, None], n_tokens[:, None, None, None]
    mean = (attention * counts).sum(2, keepdim=True) / n
    apart = (attention - mean) * counts
    variance = apart.square().sum(2, keepdim=True) / n
    return apart / (variance + 1e-10).sqrt()


def _median(x: Tensor, n_audible: Tensor) -> Tensor:
    """The median of MEDIAN_FILTER_WIDTH neighbours, mirrored at the ends of what is audible."""
    half, n = MEDIAN_FILTER_WIDTH // 2, x.shape[-1]
    ends = n_audible[:, None]
    places = torch.arange(-half, n + half, device=x.device).abs()
    places = torch.where(places >= ends, 2 * (ends - 1) - places, places).clamp(0, n - 1)
    wide = x.gather(-1, places[:, None, None].expand(*x.shape[:-1], -1))
    around = [wide[..., shift : shift + n] for shift in range(MEDIAN_FILTER_WIDTH)]
    for low, high in MEDIAN_EXCHANGES:
        one, two = around[low], around[high]
        around[low], around[high] = torch.minimum(one, two), torch.maximum(one, two)
    # openai-whisper's rule: what is shorter than half of the filter stays as it is
    return torch.where(ends[:, None, None] > half, around[half], x)


def _entered(costs: Tensor, n_rows: Tensor, n_columns: Tensor) -> Tensor:
    """The column at which the cheapest path from the first to the last cell enters each row.

    Dynamic time warping over costs (windows, rows, columns), of which each window has its own
    number. Each step goes to the next row, the next column, or both. Along a row the cheapest way
    to a column is the cheapest entry before it, and running sums and minima find that for all
    columns at once.
    """
    n, rows, columns = costs.shape
    numbers = torch.arange(columns, device=costs.device)
    above = costs.new_full((n, columns + 1), torch.inf)
    above[:, 0] = 0.0
    entered = torch.empty((rows, n, columns), dtype=torch.int64, device=costs.device)
    is_diagonal = torch.empty((rows, n, columns), dtype=torch.bool, device=costs.device)
    along = costs.cumsum(2)
    before = along - costs
    for row in range(rows):
        is_diagonal[row] = above[:, :-1] < above[:, 1:]
        entry = torch.minimum(above[:, :-1], above[:, 1:]) - before[:, row]
        cheapest = entry.cummin(1).values
        entered[row] = torch.where(entry <= cheapest, numbers, 0).cummax(1).values
        above[:, 0] = torch.inf
        above[:, 1:] = cheapest + along[:, row]
    found = torch.zeros((rows, n), dtype=torch.int64, device=costs.device)
    column = n_columns - 1
    for row in range(rows - 1, -1, -1):
        counts = row < n_rows
        here = entered[row].gather(1, column[:, None])[:, 0]
        found[row] = here
        step = is_diagonal[row].gather(1, here[:, None])[:, 0].long()
        column = torch.where(counts, here - step, column)
    return found.T
