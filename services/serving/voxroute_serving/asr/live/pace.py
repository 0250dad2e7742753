"""How often the text of all live streams is renewed, and how many streams there is room for.

Load shows as a longer interval, never as a growing lag: a stream has one piece of work at most, and
that takes the newest samples when its batch begins.
"""

import contextlib
from collections.abc import Generator

from voxroute_serving.device.batcher import BatchRecord
from voxroute_serving.errors import QueueFullError

_ROOM = 1.25  # of the device's time for live windows, so that a late one finds the device free
_LONGEST_S = 3.0  # an interval beyond which nobody calls it live
_WEIGHT = 0.2  # of the last batch in the moving time of a window
_RETRY_S = 5.0


class Pace:
    """The live streams of one device. Lives on the event loop, but for `observe`."""

    def __init__(self, max_streams: int) -> None:
        self.max_streams = max_streams
        self.streams = 0
        self.window_s: float | None = None
        """Seconds of the device for one window, by the last batches; None before the first."""
        self._speaking = 0

    def observe(self, record: BatchRecord) -> None:
        """Takes the time of a batch of live windows."""
        measured = record.inference_s / record.size
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
        if self.streams and self._needed_s(self.streams + 1) > _LONGEST_S:
            raise QueueFullError(
                f"the device is busy with {self.streams} live streams and could renew the text of"
                f" one more every {self._needed_s(self.streams + 1):.1f} s only; retry later or"
                " use another endpoint",
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
        return _ROOM * n_streams * (self.window_s or 0.0)
