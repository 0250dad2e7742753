# pyright: basic
"""Log-mel features of windows, as openai/whisper defines them, in less time.

faster-whisper's FeatureExtractor gives the same numbers to 3e-6 and is where the filters come from.
It takes 16 to 30 ms for a window, which is half of all that a processor does beside a GPU; scipy's
transform and filters without their zeros take 5. Importing scipy takes half a second, so where the
windows themselves take a second each, numpy does the same in 14.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_whisper.feature_extractor import FeatureExtractor

from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, Samples
from voxroute_serving.device.host import usable_processors

_MAX_THREADS = 4
_FLOOR = 1e-10  # of a mel's power, before its logarithm
_RANGE = 8.0  # decades below the loudest; what is lower counts as silence

Features = npt.NDArray[np.float32]


class LogMel:
    """Makes features with the filters and sizes of a model's own extractor.

    `quick` is for where something quicker than this processor waits for them.
    """

    def __init__(self, extractor: FeatureExtractor, *, quick: bool) -> None:
        self._n_fft = int(extractor.n_fft)
        self._hop = int(extractor.hop_length)
        self._window = np.hanning(self._n_fft + 1)[:-1].astype(np.float32)
        # beside a GPU a batch takes as long as some steps of its decoding
        self._threads = ThreadPoolExecutor(min(_MAX_THREADS, usable_processors()), "features")
        filters = extractor.mel_filters.astype(np.float32)
        self._transform, self._mels = _quick(filters) if quick else (np.fft.rfft, _bands(filters))

    def __call__(self, windows: Sequence[Samples], n_samples: int = N_WINDOW_SAMPLES) -> Features:
        """Shape (windows, mels, n_samples / 160); each window is filled up with silence."""
        made = self._threads.map(lambda window: self._features(window, n_samples), windows)
        return np.stack(list(made))

    def _features(self, window: Samples, n_samples: int) -> Features:
        # behind the last frame with a sample of the window they are all alike
        n_heard = min(n_samples, (len(window) // self._hop + 2) * self._hop + self._n_fft)
        filled = np.pad(window, (0, n_heard - len(window)))
        padded = np.pad(filled, self._n_fft // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, self._n_fft)[:: self._hop]
        spectrum: Any = self._transform(frames[:-1] * self._window)
        mels = self._mels((spectrum.real**2 + spectrum.imag**2).T)
        log = np.log10(np.maximum(mels, _FLOOR))
        silent = ((0, 0), (0, n_samples // self._hop - log.shape[1]))
        log = np.pad(log, silent, constant_values=np.log10(_FLOOR))
        return ((np.maximum(log, log.max() - _RANGE) + 4.0) / 4.0).astype(np.float32)


def _quick(filters: Features) -> tuple[Callable[[Features], Any], Callable[[Features], Features]]:
    """The transform of the rows of frames, and what turns power (bins, frames) into mels."""
    import scipy.fft  # noqa: PLC0415 - half a second
    import scipy.sparse  # noqa: PLC0415 - likewise

    sparse: Any = scipy.sparse.csr_array(filters)
    return scipy.fft.rfft, lambda power: sparse @ power


def _bands(filters: Features) -> Callable[[Features], Features]:
    """As the second of `_quick`, to the last bit, without OpenBLAS, whose threads spin.

    A filter is a few neighbouring bins, which are summed up in their order: the first of all
    filters, then the second ones, where a filter has so many. Those of high mels have the most.
    """
    first = (filters > 0).argmax(axis=1)
    width = np.count_nonzero(filters, axis=1)
    steps: list[tuple[int, npt.NDArray[np.intp], Features]] = []
    for step in range(width.max()):
        mel = int((width > step).argmax())
        bins = np.minimum(first[mel:] + step, filters.shape[1] - 1)
        weights = np.take_along_axis(filters[mel:], bins[:, np.newaxis], axis=1)
        steps.append((mel, bins, weights))

    def mels(power: Features) -> Features:
        total = np.zeros((len(filters), power.shape[1]), power.dtype)
        for mel, bins, weights in steps:
            total[mel:] += power[bins] * weights
        return total

    return mels
