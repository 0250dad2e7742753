"""Samples that stand around another level than zero, brought back to it.

A recorder without a capacitor, or one of unsigned samples that were taken for signed ones, adds a
constant to all of them. Nobody hears it, but Silero takes half of full scale for no speech.
"""

from voxroute_serving.audio.media import SAMPLE_RATE
from voxroute_serving.audio.remarks import Remark

_FULL_SCALE = 32768.0
_LEAST = 0.05 * _FULL_SCALE  # the mean of half a second; speech's is a fifth of that at most
_STEP_SAMPLES = SAMPLE_RATE // 2
_KNOWN_SAMPLES = SAMPLE_RATE // 10  # so many tell it at the start
_LOOKED_AT = 61  # every so many samples: a look costs microseconds, and no numpy
_TOLD_S = 1.0  # s; a knock at the microphone is shorter


class Offset:
    """Takes a constant offset off interleaved 16 kHz s16le, for each channel.

    Sound without one passes untouched. An offset of `_LEAST` or more is followed from half second
    to half second, in ramps, so that nothing clicks.
    """

    def __init__(self) -> None:
        self._n_samples = 0  # with an offset
        self._furthest = 0.0
        self.begin(1)

    def begin(self, n_channels: int) -> None:
        """What comes next is another sound, of so many channels."""
        self._n_channels = n_channels
        self._began = False
        self._follows = False
        self._levels = [0.0] * n_channels

    def removed(self, data: bytes) -> bytes:
        """The same samples around zero."""
        began, self._began = self._began, True
        if not self._follows and not self._may_be_off(data):
            self._levels = [0.0] * self._n_channels
            return data
        import numpy as np  # noqa: PLC0415 - a fifth of a second, which most recordings do without

        samples = np.frombuffer(data, "<i2").reshape(-1, self._n_channels).astype(np.float32)
        for begin in range(0, len(samples), _STEP_SAMPLES):
            step = samples[begin : begin + _STEP_SAMPLES]
            mean, before = step.mean(axis=0), np.array(self._levels, np.float32)
            if not began and not begin and len(step) >= _KNOWN_SAMPLES:
                before = mean
            levels = before + min(1.0, len(step) / _STEP_SAMPLES) * (mean - before)
            furthest = float(np.abs(levels).max())
            if furthest >= _LEAST:
                self._follows = True
                self._n_samples += len(step)
                self._furthest = max(self._furthest, furthest)
            self._levels = levels.tolist()
            if self._follows:
                ramp = np.linspace(0, 1, len(step), dtype=np.float32)[:, np.newaxis]
                step -= before + ramp * (levels - before)
        if not self._follows:
            return data
        return np.rint(samples).clip(-_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()

    def remarks(self) -> list[Remark]:
        """What a person should know."""
        if self._n_samples < _TOLD_S * SAMPLE_RATE:
            return []
        return [
            Remark(
                "OFFSET_REMOVED",
                f"the samples stand around {100 * self._furthest / _FULL_SCALE:.0f} % of full scale"
                f" instead of zero for {self._n_samples / SAMPLE_RATE:.0f} s, a fault of the"
                " recorder; it is taken off",
            )
        ]

    def _may_be_off(self, data: bytes) -> bool:
        samples, n = memoryview(data).cast("h"), self._n_channels
        looked_at = (samples[channel :: n * _LOOKED_AT] for channel in range(n))
        return any(abs(sum(some)) > _LEAST / 2 * len(some) for some in looked_at)
