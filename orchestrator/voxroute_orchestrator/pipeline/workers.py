"""Workers that come for work by themselves, beside services that are called.

Each time that one asks it is given one piece, the next that waits: a span of the recording, or a
turn at the texts of a translation. So it never holds what it has not begun; a piece that it does
not finish goes back, with what it has done of it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import ServiceUnavailableError, VoxrouteError
from voxroute_orchestrator.transcript import Note

NO_WORKER = "NO_WORKER"
_TRIES = 3  # by workers, without anything new, after which a piece is given up
_OFFER_AGAIN_S = 5.0  # an offer may be lost
_NO_WORKER_S = 60.0

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)


class LeftError(CallFailedError):
    """A worker leaves as it was told to: nothing is wrong with its piece."""

    def __init__(self, worker: str) -> None:
        super().__init__(ServiceUnavailableError(f"{worker} has left"), retryable=True)


class Asking(Protocol[C_co]):
    """A worker that asks for a piece and waits for the answer."""

    @property
    def service(self) -> C_co:
        """The worker, as a service that takes one call."""
        ...

    def refuse(self) -> None:
        """Tells that nothing is to be done."""
        ...


class Crew(Protocol[C_co]):
    """The workers that may do one kind of work."""

    @property
    def model(self) -> str:
        """The model that they have; "" for any."""
        ...

    async def offer(self, n_pieces: int) -> None:
        """Lets them know that so many pieces wait. What cannot be told is told later."""
        ...

    async def next(self) -> Asking[C_co]:
        """The next one that asks."""
        ...

    def close(self) -> None:
        """Sends away who asks from now on."""
        ...


class Workers(Protocol):
    """Those that may work on a job."""

    @property
    def recognisers(self) -> Crew[AsrClient]:
        """Those that recognise its speech."""
        ...

    def translators(self, source: str, target: str) -> Crew[TranslateClient]:
        """Those that translate from one language to another."""
        ...

    async def close(self) -> None:
        """Takes back what was offered, and sends away who asks from now on."""
        ...


OpenWorkers = Callable[[str, str], Workers]
"""The workers that have a speech model and a model for translations; "" for any."""


class Part(Protocol):
    """A piece that is being done."""

    index: int

    @property
    def done(self) -> float:
        """How much is done; more where there is something new."""
        ...

    @property
    def cannot(self) -> str:
        """That it cannot be done, as the beginning of a sentence."""
        ...


class Work(Protocol):
    """What there is to do, in pieces."""

    @property
    def finished(self) -> bool:
        """Whether all of it is complete."""
        ...

    @property
    def n_waiting(self) -> int:
        """How many pieces could be begun."""
        ...

    def take_now(self) -> Any:
        """The next that waits, a Part; None for none."""
        ...

    async def change(self, timeout_s: float) -> None:
        """Returns once something has changed, or the time is up."""
        ...


@dataclass(slots=True, eq=False)
class HandingOut(Generic[C]):
    """Gives the pieces of some work to workers that ask."""

    crew: Crew[C]
    work: Work
    do: Callable[[C, Any], Awaitable[None]]
    """Has a service do a Part. Raises CallFailedError, VoxrouteError."""
    tell: Callable[[Note], Awaitable[None]]
    nobody: str
    """That no worker comes, as the beginning of a sentence."""
    alone: Callable[[], bool]
    """Whether nobody else does the work, so that it stands still without workers."""
    _lanes: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"], init=False)
    _failures: dict[int, tuple[int, float]] = field(
        default_factory=dict[int, tuple[int, float]], init=False
    )
    """By the index of a piece: how many in turn, and when the last was."""
    _failed: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), init=False
    )

    async def run(self) -> None:
        """Returns when all is done. Raises VoxrouteError for a piece that no worker can do."""
        tasks = [asyncio.create_task(self._offer()), asyncio.create_task(self._give())]
        try:
            await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._failed, *tasks):
                if ended.done():
                    ended.result()
        finally:
            self.crew.close()
            tasks += self._lanes
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _offer(self) -> None:
        """Returns when nothing is left to be offered."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _NO_WORKER_S
        told = False
        while not self.work.finished:
            if self.work.n_waiting:
                await self.crew.offer(self.work.n_waiting)
            if self._lanes or not self.work.n_waiting or not self.alone():
                until = loop.time() + _NO_WORKER_S
            elif not told and loop.time() > until:
                told = True
                model = f" with the model {self.crew.model}" if self.crew.model else ""
                message = f"{self.nobody}{model}; it waits for one"
                await self.tell(Note(source="orchestrator", code=NO_WORKER, message=message))
            await self.work.change(_OFFER_AGAIN_S)

    async def _give(self) -> None:
        while True:
            asking = await self.crew.next()
            part = self.work.take_now()
            if part is None:
                asking.refuse()
                continue
            lane = asyncio.create_task(self._lane(asking.service, part))
            self._lanes.add(lane)
            lane.add_done_callback(self._ended)
            await asyncio.sleep(0)  # it has begun before the next piece is taken

    async def _lane(self, service: C, part: Part) -> None:
        before, began_at = part.done, time.monotonic()
        try:
            await self.do(service, part)
        except LeftError:
            pass
        except CallFailedError as failure:
            self._gave_up(part, failure.error, began_at, new=part.done > before)
        else:
            if part.done > before:
                self._failures.pop(part.index, None)

    def _ended(self, lane: "asyncio.Task[None]") -> None:
        self._lanes.discard(lane)
        if not lane.cancelled() and (error := lane.exception()) is not None:
            self._fail(error)  # not the worker's: the journal's, say

    def _gave_up(self, part: Part, error: VoxrouteError, began_at: float, *, new: bool) -> None:
        tries, last_at = self._failures.get(part.index, (0, 0.0))
        if not new and began_at < last_at:
            return  # with the one before: a service that dies ends all that it was at
        tries = 1 if new else tries + 1
        self._failures[part.index] = tries, time.monotonic()
        if tries >= _TRIES:
            self._fail(
                type(error)(
                    f"{part.cannot}: {_TRIES} times in turn a worker gave it up, the last time"
                    f" because {error}"
                )
            )

    def _fail(self, error: BaseException) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            self._failed.set_exception(error)
