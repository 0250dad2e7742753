"""How often the text of all live streams is renewed, and how many streams there is room for.

Load shows as a longer interval, never as a growing lag: a stream has one piece of work at most, and
that takes the newest samples when its batch begins.
"""

import contextlib
import math
import time
from collections.abc import Generator

from voxroute_serving.device.batcher import BatchRecord
from voxroute_serving.device.places import all_taken
from voxroute_serving.errors import QueueFullError

_ROOM = 1.25  # times what an update takes, so that a late one finds the device free
_BEAMS = 1.6  # times what an update takes with beams on two cores; on a GPU it is hardly more
_LONGEST_S = 3.0  # an interval beyond which nobody calls it live
_WEIGHT = 0.1  # of the last batch in the moving times
_FORGOTTEN_S = 10.0  # after which what updates took tells nothing of now
_RETRY_S = 5.0


class BusyTime:
    """What batches take of a device: of several that run side by side each second counts once."""

    def __init__(self) -> None:
        self._until = -math.inf

    def ended_s(self, inference_s: float) -> float:
        """Of a batch that has ended now, after so many seconds, those that are its own."""
        now = time.monotonic()
        own_s = now - max(now - inference_s, self._until)
        self._until = now
        return own_s


class Pace:
    """The live streams of one device. Lives on the event loop, but for `observe`."""

    def __init__(self, max_streams: int) -> None:
        self.max_streams = max_streams
        self.streams = 0
        self.window_s: float | None = None
        """Seconds of the device for one window, by the last batches; None before the first."""
        self._update_s = 0.0  # from asking for one to its text: the wait, and the batch
        self._busy = BusyTime()
        self._measured_at = -math.inf
        self._has_beams = True

    def observe(self, record: BatchRecord) -> None:
        """Takes the time of a batch of live windows that has ended now."""
        now = time.monotonic()
        time_s = self._busy.ended_s(record.inference_s)
        weight = _WEIGHT if self._is_known(now) else 1.0
        self._measured_at = now
        self._update_s += weight * (record.queue_s + record.inference_s - self._update_s)
        before = self.window_s or 0.0
        self.window_s = before + weight * (time_s / record.size - before)

    def interval_s(self, wanted_s: float) -> float:
        """How often one stream renews its text, seconds."""
        return max(wanted_s, self._needed_s())

    def has_beams(self, wanted_s: float) -> bool:
        """Whether a stream that renews its text so often, in seconds, looks for the likeliest one.

        Not where the device then could not renew it so often: before an interval grows, updates
        take the likeliest word each time.
        """
        needed_s = self._needed_s()
        if needed_s > wanted_s:
            self._has_beams = False
        elif needed_s * _BEAMS <= wanted_s:
            self._has_beams = True
        return self._has_beams

    @contextlib.contextmanager
    def stream(self) -> Generator[None]:
        """A place for the length of the block. Raises QueueFullError where there is none."""
        if self.streams >= self.max_streams:
            raise QueueFullError(
                f"{all_taken(self.max_streams, 'for live streams')}; retry later or use another"
                " endpoint",
                retry_after_s=_RETRY_S,
            )
        needed_s = self._needed_s() * (self.streams + 1) / max(1, self.streams)
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

    def _is_known(self, now: float) -> bool:
        return now - self._measured_at < _FORGOTTEN_S

    def _needed_s(self) -> float:
        """The shortest interval that the device keeps up with, seconds."""
        return _ROOM * self._update_s if self._is_known(time.monotonic()) else 0.0
