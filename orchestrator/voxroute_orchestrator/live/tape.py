"""The sound of a source between its coming and its being told: what a break does not lose.

Times are seconds on the source's own timeline.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE

BYTES_PER_S = SAMPLE_RATE * SAMPLE_BYTES
KEPT_S = 60.0
"""How much is kept, 2 MB, of a source that does not wait; what comes then replaces the oldest."""
_KEPT_WAITING_S = 300.0  # of one that waits: a service hears far ahead of what it has told
AHEAD_S = 10.0
"""How far a source that waits is read ahead."""
_TELL_EVERY_S = 10.0
_PIECE_BYTES = BYTES_PER_S // 5  # of one message


class Source(Protocol):
    """Where sound comes from."""

    title: str
    """What files of its text are called."""
    waits: bool
    """Whether it can be read later; the sound of the others is lost where it is not taken."""
    start_s: float
    """The time of its first sample; settled once that has come."""

    async def open(self) -> None:
        """Begins, as far as that can fail. Raises VoxrouteError."""
        ...

    def pieces(self) -> AsyncGenerator[bytes]:
        """16 kHz mono s16le, as it comes. Raises VoxrouteError."""
        ...

    def stop(self) -> None:
        """Ends it: no piece follows."""
        ...


class Tape:
    """What a source has said and nobody has told yet."""

    def __init__(self, source: Source, missed: Callable[[float, float], None]) -> None:
        """`missed` is told of sound that could not be sent: from when, and how long, seconds."""
        self.failure: Exception | None = None
        """Why the source has ended, where it has failed."""
        self._source = source
        self._missed = missed
        self._kept = bytearray()
        self._begin = 0  # of what is kept, bytes from the first sample
        self._at = 0  # what is read next
        self._settled = 0
        self._lost = self._lost_from = 0
        self._told_at = -math.inf
        self._ended = False
        self._changed = asyncio.Event()

    async def record(self) -> None:
        """Keeps what comes, to the end of the source."""
        try:
            async with contextlib.aclosing(self._source.pieces()) as pieces:
                async for piece in pieces:
                    await self._put(piece)
        except Exception as error:  # noqa: BLE001 - who reads raises it once all is told
            self.failure = error
        finally:
            self._ended = True
            self._tell()

    async def begun(self) -> bool:
        """Returns once there is sound, true, or the source has ended without any."""
        while not (self._end or self._ended):
            await self._changed.wait()
        return bool(self._end)

    async def read(self) -> bytes:
        """The next piece; b"" after the last. What was lost is silence, so that times stay."""
        while self._at >= self._end and not self._ended:
            await self._changed.wait()
        lost = min(self._begin - self._at, BYTES_PER_S)
        if lost > 0:
            self._lose(self._at, lost)
            self._at += lost
            return bytes(lost)
        self._tell_lost(at_once=self._ended)
        begin = self._at - self._begin
        piece = bytes(self._kept[begin : begin + _PIECE_BYTES])
        self._at += len(piece)
        self._tell()
        return piece

    def settle(self, time_s: float) -> None:
        """Tells that all is told up to this time."""
        at = round((time_s - self._source.start_s) * SAMPLE_RATE) * SAMPLE_BYTES
        self._settled = min(max(self._settled, at), self._at)

    def go_back(self) -> float:
        """Lets the next piece be the first that is not told, for another call; its time."""
        self._at = max(self._settled, self._begin)
        if self._at > self._settled:
            self._lose(self._settled, self._at - self._settled)
            self._settled = self._at
        self._tell_lost()
        return self._time_s(self._at)

    def give_up(self) -> None:
        """Tells what is lost as nobody will read it."""
        self.go_back()
        if self._end > self._at:
            self._lose(self._at, self._end - self._at)
        self._tell_lost(at_once=True)

    def _lose(self, at: int, n_bytes: int) -> None:
        if not self._lost:
            self._lost_from = at
        self._lost += n_bytes

    def _tell_lost(self, *, at_once: bool = False) -> None:
        """Tells what was lost, now and then: a service that is too slow loses something always."""
        now = time.monotonic()
        if self._lost and (at_once or now >= self._told_at + _TELL_EVERY_S):
            self._missed(self._time_s(self._lost_from), self._lost / BYTES_PER_S)
            self._lost, self._told_at = 0, now

    @property
    def waiting_s(self) -> float:
        """How much has come and is not sent."""
        return (self._end - self._at) / BYTES_PER_S

    @property
    def _end(self) -> int:
        return self._begin + len(self._kept)

    def _time_s(self, at: int) -> float:
        return self._source.start_s + at / BYTES_PER_S

    async def _put(self, piece: bytes) -> None:
        while self._source.waits and self.waiting_s >= AHEAD_S:
            await self._changed.wait()
        self._kept += piece
        kept_s = _KEPT_WAITING_S if self._source.waits else KEPT_S
        too_much = len(self._kept) - int(kept_s * BYTES_PER_S)
        if too_much > 0:
            too_much += too_much % SAMPLE_BYTES
            del self._kept[:too_much]
            self._begin += too_much
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
