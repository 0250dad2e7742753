"""What a job tells, kept as events of the job store. The Reporter of the job service's jobs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from voxroute.common.v1 import common_pb2
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.jobs.store import Event, EventKind, message_event
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

PROGRESS_EVERY_S = 1.0
"""At most one event of progress a second for each stage: a film makes thousands, not millions."""
WARNING_CODE = "JOB_WARNING"  # a reporter's warnings have no code of their own
_AT_ONCE = 200  # events, some 100 kB: a server that keeps them takes a megabyte
_AGAIN_S = 2.0  # between tries to write to a full disk
_LAST_TRY_S = 15.0  # a cluster that keeps the jobs is away for 8 s when it loses its leader

Append = Callable[[Sequence[Event]], Awaitable[None]]
"""Keeps events and wakes the watchers. Raises ServingError."""

_log = get_logger(__name__)


@dataclass(slots=True)
class _Stage:
    total_s: float | None
    done_s: float = 0.0
    told_at: float = 0.0
    finished: bool = False

    def message(self, name: str) -> jobs_pb2.JobStage:
        """As the contract has it."""
        stage = jobs_pb2.JobStage(
            name=name, done=convert.duration(self.done_s), finished=self.finished
        )
        if self.total_s is not None:
            stage.total.CopyFrom(convert.duration(self.total_s))
        return stage


class EventLog:
    """A reporter that never waits: events are written behind its back, in order, many at once.

    For the thread of the event loop. Where the store cannot be written, events wait and are tried
    again; `close` gives up on what cannot be written then.
    """

    def __init__(
        self,
        append: Append,
        now: Callable[[], float] = time.monotonic,
        without_paths: Callable[[str], str] = str,
    ) -> None:
        self._append = append
        self._now = now
        self._without_paths = without_paths
        self._stages: dict[str, _Stage] = {}
        self._waiting: list[Event] = []
        self._more = asyncio.Event()
        self._closed = False
        self._writer = asyncio.ensure_future(self._write())

    def stage(self, name: str, total_s: float | None) -> None:
        """Begins a stage, or tells more of one that has begun."""
        stage = self._stages.get(name)
        if stage is not None and total_s in {None, stage.total_s}:
            return
        stage = self._stages.setdefault(name, _Stage(total_s))
        stage.total_s = total_s
        self._put_stage(name, stage)

    def advance(self, name: str, done_s: float) -> None:
        """Tells how far a stage is, if its last event is old enough."""
        stage = self._stages.setdefault(name, _Stage(None))
        stage.done_s = max(stage.done_s, done_s)
        if self._now() - stage.told_at >= PROGRESS_EVERY_S:
            self._put_stage(name, stage)

    def finish(self, name: str) -> None:
        """Ends a stage."""
        stage = self._stages.setdefault(name, _Stage(None))
        if stage.total_s is not None:
            stage.done_s = max(stage.done_s, stage.total_s)
        stage.finished = True
        self._put_stage(name, stage)

    def say(self, text: str) -> None:
        """Tells something."""
        self._put(message_event(self._without_paths(text)))

    def warn(self, text: str) -> None:
        """Tells something that a person should look at."""
        warning = common_pb2.Warning(code=WARNING_CODE, message=self._without_paths(text))
        self._put(_event("warning", jobs_pb2.WatchJobResponse(warning=warning)))

    def _put_stage(self, name: str, stage: _Stage) -> None:
        stage.told_at = self._now()
        self._put(_event("stage", jobs_pb2.WatchJobResponse(stage=stage.message(name))))

    def _put(self, event: Event) -> None:
        self._waiting.append(event)
        self._more.set()

    async def _write(self) -> None:
        """Writes until the log is closed and nothing waits."""
        while self._waiting or not self._closed:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
                continue
            events, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            try:
                await self._append(events)
            except ServingError as error:
                _log.warning("events cannot be kept; they are tried again", error=str(error))
                self._waiting = events + self._waiting
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Returns once everything is written, or cannot be for a while."""
        self._closed = True
        self._more.set()
        try:
            await asyncio.wait_for(self._writer, _LAST_TRY_S)
        except TimeoutError:
            _log.error("events are lost", events=len(self._waiting))


def _event(kind: EventKind, body: jobs_pb2.WatchJobResponse) -> Event:
    return Event(kind, body, time.time_ns())
