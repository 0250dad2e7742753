"""Where requests wait for services that are full or away, for as long as their clients stay."""

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field

from voxroute_gateway.errors import RequestError
from voxroute_gateway.metrics import GatewayMetrics
from voxroute_orchestrator.client.failures import CallFailedError

_LONGEST_PAUSE_S = 30.0  # between tries; advice that is longer is not waited for in one piece
_AWAY_PAUSE_S = 1.0


@dataclass(slots=True)
class WaitingRoom:
    """How many wait, and how long."""

    metrics: GatewayMetrics
    max_waiting: int
    patience_s: float
    """How long services may be away, rather than full."""
    _waiting: int = 0

    def enter(self, failure: CallFailedError, *, anyway: bool) -> None:
        """One more waits. Raises RequestError where the room is full, unless it may `anyway`."""
        if self._waiting >= self.max_waiting and not anyway:
            raise RequestError(
                429, "the services are full; try again later", "queue_full", None,
                failure.retry_after_s,
            ) from failure  # fmt: skip
        self._waiting += 1
        self.metrics.waiting.inc()

    def leave(self) -> None:
        """One fewer waits."""
        self._waiting -= 1
        self.metrics.waiting.dec()


@dataclass(slots=True, eq=False)
class Visit:
    """One request, which keeps its place in the line until a service has taken it."""

    line: "Line"
    called: asyncio.Event = field(default_factory=asyncio.Event)
    _served: bool = False
    _taken: bool = False
    """Whether a service has it now."""
    _away_s: float = 0.0

    def served(self) -> None:
        """Tells that a service has taken the request, and works on it."""
        self._served, self._taken, self._away_s = True, True, 0.0
        self.leave()

    def ended(self) -> None:
        """Tells that a call for it has ended, so that a place is free where it had one."""
        if self._taken:
            self._taken = False
            self.line.freed()

    def leave(self) -> None:
        """Gives the place in the line back."""
        if self in self.line.waiting:
            self.line.waiting.remove(self)
            self.line.room.leave()

    async def wait(self, failure: CallFailedError) -> None:
        """Returns when to try again after a failure.

        That is when the service says; those behind the first in the line, so many times later; and
        the first also when one of this gateway's calls has ended. Raises RequestError where the
        room is full, and CallFailedError where waiting is of no use.
        """
        if not failure.retryable:
            raise failure
        full = failure.retry_after_s is not None
        if not full and self._away_s + _AWAY_PAUSE_S > self.line.room.patience_s:
            raise failure
        if self not in self.line.waiting:
            # what has been worked on is not thrown away for want of a place to wait
            self.line.room.enter(failure, anyway=self._served)
            self.line.waiting.append(self)
        if not full:
            await asyncio.sleep(_AWAY_PAUSE_S)
            self._away_s += _AWAY_PAUSE_S
            return
        self._away_s = 0.0
        place = 1 + self.line.waiting.index(self)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min((failure.retry_after_s or 0) * place, _LONGEST_PAUSE_S)):
                await self.called.wait()
        self.called.clear()


@dataclass(slots=True)
class Line:
    """Those who wait for services of one kind, in the order in which they came."""

    room: WaitingRoom
    waiting: list[Visit] = field(default_factory=list[Visit])

    @contextlib.contextmanager
    def visit(self) -> Generator[Visit]:
        """One request's way through the room; it has left at the end of the block."""
        visit = Visit(self)
        try:
            yield visit
        finally:
            visit.leave()

    def freed(self) -> None:
        """Tells that a place is free: who has waited longest tries at once."""
        for visit in self.waiting:
            if not visit.called.is_set():
                visit.called.set()
                return
