"""How often the text of all live streams is renewed, and how many streams there is room for.

Load shows as a longer interval, never as a growing lag: a stream has one piece of work at most, and
that takes the newest samples when its batch begins.
"""

import contextlib
import time
from collections.abc import Generator

from voxroute_serving.device.batcher import BatchRecord
from voxroute_serving.errors import QueueFullError

_ROOM = 1.25  # of the device's time for live windows, so that a late one finds the device free
_LONGEST_S = 3.0  # an interval beyond which nobody calls it live
_WEIGHT = 0.05  # of the last batch in what is known of batches
_RETRY_S = 5.0


class _BatchTimes:
    """What a batch takes by its size: a part for the batch and one for each window, by regression.

    As long as all were of one size, more windows are taken to cost nothing: only larger batches
    can tell otherwise, and they come if text is renewed as often as somebody wants it.
    """

    def __init__(self) -> None:
        self._size = self._time_s = self._variance = self._covariance = 0.0
        self._is_empty = True

    def add(self, size: int, time_s: float) -> None:
        """Takes the time of a batch."""
        weight, self._is_empty = (1.0, False) if self._is_empty else (_WEIGHT, False)
        off_size, off_time = size - self._size, time_s - self._time_s
        self._size += weight * off_size
        self._time_s += weight * off_time
        if weight < 1:
            self._variance += weight * (off_size**2 * (1 - weight) - self._variance)
            self._covariance += weight * (off_size * off_time * (1 - weight) - self._covariance)

    def of(self, size: int) -> float | None:
        """Seconds; None before the first batch."""
        if self._is_empty:
            return None
        each_s = max(0.0, self._covariance / self._variance) if self._variance else 0.0
        return max(0.0, self._time_s + each_s * (size - self._size))


class Pace:
    """The live streams of one device. Lives on the event loop, but for `observe`."""

    def __init__(self, max_streams: int, most_windows: int) -> None:
        """`most_windows` are those of one batch."""
        self.max_streams = max_streams
        self.most_windows = most_windows
        self.streams = 0
        self.window_s: float | None = None
        """Seconds of the device for one window, by the last batches; None before the first."""
        self._times = _BatchTimes()
        self._speaking = 0
        self._busy_until = 0.0

    def observe(self, record: BatchRecord) -> None:
        """Takes the time of a batch of live windows that has ended now.

        Of two that ran side by side the time counts once.
        """
        now = time.monotonic()
        time_s = now - max(now - record.inference_s, self._busy_until)
        self._busy_until = now
        self._times.add(record.size, time_s)
        measured = time_s / record.size
        before = self.window_s
        self.window_s = measured if before is None else before + _WEIGHT * (measured - before)

    def interval_s(self, wanted_s: float) -> float:
        """How often one stream renews its text, seconds."""
        return max(wanted_s, self._needed_s(self._speaking))

    @contextlib.contextmanager
    def stream(self) -> Generator[None]:
        """A place for the length of the block. Raises QueueFullError where there is none."""
        if self.streams >= self.max_streams:
            raise QueueFullError(
                f"all {self.max_streams} places for live streams are taken; retry later or use"
                " another endpoint",
                retry_after_s=_RETRY_S,
            )
        needed_s = self._needed_s(self.streams + 1)
        if self.streams and needed_s > _LONGEST_S:
            raise QueueFullError(
                f"the device is busy with {self.streams} live streams and could renew the text of"
                f" one more every {needed_s:.1f} s only; retry later or use another endpoint",
                retry_after_s=_RETRY_S,
            )
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    @contextlib.contextmanager
    def speaking(self) -> Generator[None]:
        """Counts a stream in which somebody speaks, for the length of the block."""
        self._speaking += 1
        try:
            yield
        finally:
            self._speaking -= 1

    def _needed_s(self, n_streams: int) -> float:
        """Seconds in which so many windows are decoded, in batches as large as they come."""
        size = max(1, min(n_streams, self.most_windows))
        return _ROOM * n_streams / size * (self._times.of(size) or 0.0)
