"""Workers that come for spans by themselves, beside services that are called.

Each time that one asks it is given one span, the next that waits on the board, so it never holds
what it has not begun; a span that it does not finish goes back, with the windows that it has done.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.retry import Retry
from voxroute_orchestrator.errors import ServiceUnavailableError, VoxrouteError
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.transcript import Note

NO_WORKER = "NO_WORKER"
_TRIES = 3  # by workers, without a new window, after which a span is given up
_OFFER_AGAIN_S = 5.0  # an offer may be lost
_NO_WORKER_S = 60.0


class LeftError(CallFailedError):
    """A worker leaves as it was told to: nothing is wrong with its span."""

    def __init__(self, worker: str) -> None:
        super().__init__(ServiceUnavailableError(f"{worker} has left"), retryable=True)


class Asking(Protocol):
    """A worker that asks for a span and waits for the answer."""

    @property
    def speech(self) -> AsrClient:
        """The worker, as a service that takes one call."""
        ...

    def refuse(self) -> None:
        """Tells that nothing is to be done."""
        ...


class Workers(Protocol):
    """Those that may work on a recording."""

    async def offer(self, n_spans: int) -> None:
        """Lets them know that so many spans wait. What cannot be told is told later."""
        ...

    async def next(self) -> Asking:
        """The next one that asks."""
        ...

    async def close(self) -> None:
        """Sends away who asks from now on."""
        ...


OpenWorkers = Callable[[str], Workers]
"""The workers that have a model; "" for any."""


class Part(Protocol):
    """A span that is being done; times are media time, in seconds."""

    index: int
    start_s: float
    end_s: float
    done_s: float


class Spans(Protocol):
    """The spans of a recording, and what is done with them."""

    @property
    def finished(self) -> bool:
        """Whether all of them are complete."""
        ...

    @property
    def n_waiting(self) -> int:
        """How many could be begun."""
        ...

    def take_now(self) -> Any:
        """The next that waits, a Part; None for none."""
        ...

    def add_room(self, n_spans: int) -> None:
        """Lets so many more be in memory, or fewer."""
        ...

    async def change(self, timeout_s: float) -> None:
        """Returns once something has changed, or the time is up."""
        ...


Transcribe = Callable[[AsrClient, Any, Retry], Awaitable[None]]
"""Has a service transcribe a Part. Raises CallFailedError, VoxrouteError."""


@dataclass(slots=True, eq=False)
class HandingOut:
    """Gives the spans of one recording to workers that ask."""

    workers: Workers
    spans: Spans
    transcribe: Transcribe
    tell: Callable[[Note], Awaitable[None]]
    alone: bool
    """Whether nobody else does the work, so that it stands still without workers."""
    _lanes: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"], init=False)
    _failures: dict[int, int] = field(default_factory=dict[int, int], init=False)
    _failed: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), init=False
    )

    async def run(self) -> None:
        """Returns when all is done. Raises VoxrouteError for a span that no worker can do."""
        tasks = [asyncio.create_task(self._offer()), asyncio.create_task(self._give())]
        try:
            await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._failed, *tasks):
                if ended.done():
                    ended.result()
        finally:
            tasks += self._lanes
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _offer(self) -> None:
        """Returns when nothing is left to be offered."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _NO_WORKER_S
        told = not self.alone
        while not self.spans.finished:
            if self.spans.n_waiting:
                await self.workers.offer(self.spans.n_waiting)
            if self._lanes:
                until = loop.time() + _NO_WORKER_S
            elif not told and loop.time() > until:
                told = True
                message = "no worker takes a part of the recording; it waits for one"
                await self.tell(Note(source="orchestrator", code=NO_WORKER, message=message))
            await self.spans.change(_OFFER_AGAIN_S)

    async def _give(self) -> None:
        while True:
            asking = await self.workers.next()
            part = self.spans.take_now()
            if part is None:
                asking.refuse()
                continue
            lane = asyncio.create_task(self._lane(asking.speech, part))
            self._lanes.add(lane)
            lane.add_done_callback(self._ended)
            await asyncio.sleep(0)  # it has begun before the next span is taken

    async def _lane(self, speech: AsrClient, part: Part) -> None:
        before_s = part.done_s
        self.spans.add_room(1)
        try:
            await self.transcribe(speech, part, Retry(speech.endpoint, speech.policy))
        except LeftError:
            pass
        except CallFailedError as failure:
            self._gave_up(part, failure.error, new=part.done_s > before_s)
        finally:
            self.spans.add_room(-1)

    def _ended(self, lane: "asyncio.Task[None]") -> None:
        self._lanes.discard(lane)
        if not lane.cancelled() and (error := lane.exception()) is not None:
            self._fail(error)  # not the worker's: the journal's, say

    def _gave_up(self, part: Part, error: VoxrouteError, *, new: bool) -> None:
        tries = self._failures[part.index] = 1 if new else self._failures.get(part.index, 0) + 1
        if tries >= _TRIES:
            where = f"{clock(part.done_s)} (of {clock(part.start_s)} to {clock(part.end_s)})"
            self._fail(
                type(error)(
                    f"the recording cannot be transcribed at {where}: {_TRIES} times in turn a"
                    f" worker gave it up, the last time because {error}"
                )
            )

    def _fail(self, error: BaseException) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            self._failed.set_exception(error)
