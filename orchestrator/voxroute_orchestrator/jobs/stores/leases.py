"""One attempt at a job of a fleet, for as long as nobody else has claimed the job."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.journal import JetStreamJournal, remove
from voxroute_orchestrator.jetstream.link import (
    AwayError,
    ConflictError,
    FullError,
    Link,
    LinkError,
)
from voxroute_orchestrator.jetstream.setup import JOBS
from voxroute_orchestrator.jetstream.workers import JobWorkers
from voxroute_orchestrator.jobs.errors import (
    DiskFullError,
    LeaseLostError,
    OutcomeUnknownError,
    StoreBusyError,
    StoreError,
)
from voxroute_orchestrator.jobs.store import (
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Event,
    Why,
    message_event,
    state_event,
)
from voxroute_orchestrator.jobs.stores.entries import Entry
from voxroute_orchestrator.pipeline.journal import Journal
from voxroute_orchestrator.pipeline.workers import Workers
from voxroute_serving.errors import ServingError

_PATIENCE_S = 20.0  # a cluster that has lost its leader has another one after 5 to 8 s


class Jobs(Protocol):
    """What an attempt asks of the store that has claimed it."""

    def signed(self, entry: Entry) -> Entry:
        """The entry as it is written, once."""
        ...

    def note(self, entry: Entry, sequence: int) -> None:
        """Hears of what was kept."""
        ...

    def over(self, lease: "Lease") -> None:
        """Hears that the attempt is over."""
        ...


@dataclass(frozen=True, slots=True)
class _Unsure:
    """A write that nobody has answered, and that may have been kept."""

    what: str
    events: Sequence[Event]
    entry: Entry
    data: bytes
    follows: int


class Lease:
    """Attempt: each entry follows the one before it, so one that was followed is refused."""

    def __init__(
        self,
        jobs: Jobs,
        link: Link,
        claim: tuple[Entry, int],
        config: jobs_pb2.JobConfig,
    ) -> None:
        """`claim` is the entry that makes the job this attempt's, and its number in the stream."""
        entry, sequence = claim
        self.job_id = entry.job.id
        self.config = config
        self.epoch = entry.job.attempts
        self.fresh = entry.fresh
        self.stopped = asyncio.Event()
        self.why: Why = ""
        self._jobs = jobs
        self._link = link
        self._entry = entry
        self._sequence = sequence
        self._lock = asyncio.Lock()
        self._unsure: _Unsure | None = None
        self._over = False
        self._unanswer: Callable[[], Awaitable[None]] | None = None
        self._leaving: asyncio.Future[None] | None = None

    async def begin(self, subject: str) -> None:
        """Answers from now on whoever asks whether the job is being done. Raises LinkError."""
        self._unanswer = await self._link.answer(subject)

    async def open_journal(self) -> Journal:
        """As Attempt: the one on the server."""
        generation = self._entry.generation
        return await JetStreamJournal.open(self._link, self.job_id, generation, self.epoch)

    def hear(self, entry: Entry) -> None:
        """Hears what the job is now."""
        if entry.job.attempts > self.epoch:
            self._lose()
        elif entry.cancel and not self._over:
            self._stop("cancelled")

    def _stop(self, why: Why) -> None:
        self.why = self.why or why
        self.stopped.set()

    def open_workers(self, speech_model: str, translation_model: str) -> Workers:
        """As Attempt."""
        return JobWorkers(self._link, self.job_id, speech_model, translation_model)

    async def append(self, events: Sequence[Event]) -> None:
        """As Attempt."""
        await self._write("events", events, lambda last, new: last.followed(new))

    async def began_afresh(self) -> None:
        """As Attempt."""
        await self._write("afresh", (), lambda last, _: last.followed((), fresh=False))

    async def end(
        self,
        state: "jobs_pb2.JobState",
        *,
        error: str = "",
        artifacts: Sequence[jobs_pb2.Artifact] = (),
    ) -> None:
        """As Attempt."""

        def change(last: Entry, events: Sequence[Event]) -> Entry:
            job = jobs_pb2.Job()
            job.CopyFrom(last.job)
            job.error = error
            job.ClearField("artifacts")
            job.artifacts.extend(artifacts)
            return last.followed(events, job)

        await self._write("end", [state_event(state)], change)
        self._leave()
        if state == SUCCEEDED:  # what goes on after another end needs it
            with contextlib.suppress(LinkError):  # it goes with the job, then
                await remove(self._link, self.job_id, self._entry.generation)

    async def give_back(self, why: str) -> None:
        """As Attempt."""
        events = [message_event(why), state_event(QUEUED)]
        await self._write("back", events, lambda last, new: last.followed(new))
        self._leave()

    async def _write(
        self,
        what: str,
        events: Sequence[Event],
        change: Callable[[Entry, Sequence[Event]], Entry],
    ) -> None:
        # whoever gives up in the middle has to leave behind what is known about the outcome
        await asyncio.shield(asyncio.ensure_future(self._written(what, events, change)))

    async def _written(
        self,
        what: str,
        events: Sequence[Event],
        change: Callable[[Entry, Sequence[Event]], Entry],
    ) -> None:
        async with self._lock:
            with serving_errors():
                done = await self._settled()
                if done is not None and done.what == what == "events":
                    events = _behind(events, done.events)
                    if not events:
                        return
                elif done is not None and done.what == what:
                    return
                while True:
                    if self._over:
                        raise self._lose()
                    entry = self._jobs.signed(change(self._entry, events))
                    data, follows = entry.dump(), self._sequence
                    try:
                        sequence = await self._link.append(
                            JOBS, self._subject, data, follows, _PATIENCE_S
                        )
                    except ConflictError:
                        await self._rebase()
                    except AwayError as error:
                        if error.unsure:
                            self._unsure = _Unsure(what, events, entry, data, follows)
                        raise
                    else:
                        self._take(entry, sequence)
                        return

    @property
    def _subject(self) -> str:
        return f"vr.job.{self.job_id}"

    async def _settled(self) -> _Unsure | None:
        """The write before, if nobody had answered it and it was kept. Raises LinkError."""
        unsure = self._unsure
        if unsure is None:
            return None
        found = await self._link.next(JOBS, self._subject, unsure.follows + 1)
        self._unsure = None
        if found is None or found.data != unsure.data:
            return None
        self._take(unsure.entry, found.sequence)
        return unsure

    async def _rebase(self) -> None:
        """Goes on from what another has written. Raises LeaseLostError, LinkError."""
        message = await self._link.last(JOBS, self._subject)
        entry = Entry.load(message.data, message.sequence) if message is not None else None
        if (
            message is None
            or entry is None
            or entry.deleted
            or entry.job.state != RUNNING
            or entry.job.attempts != self.epoch
        ):
            raise self._lose()
        self._take(entry, message.sequence)

    def _take(self, entry: Entry, sequence: int) -> None:
        self._entry, self._sequence = entry, sequence
        self._jobs.note(entry, sequence)

    def _lose(self) -> LeaseLostError:
        self._stop("lost")
        self._leave()
        return LeaseLostError.of(self.job_id, self.epoch)

    def _leave(self) -> None:
        if self._over:
            return
        self._over = True
        self._jobs.over(self)
        if self._unanswer is not None:
            self._leaving = asyncio.ensure_future(self._fall_silent(self._unanswer))

    @staticmethod
    async def _fall_silent(unanswer: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(Exception):  # the connection has gone, and the answers with it
            await unanswer()


def _behind(events: Sequence[Event], kept: Sequence[Event]) -> Sequence[Event]:
    """The events without those that were kept, which whoever tries again has put first."""
    same = len(events) >= len(kept) and all(
        one is other for one, other in zip(events, kept, strict=False)
    )
    return events[len(kept) :] if same else events


@contextlib.contextmanager
def serving_errors() -> Generator[None]:
    """Turns what the link raises into errors that say what to do."""
    try:
        yield
    except LinkError as error:
        raise _of_link(error) from error


def _of_link(error: LinkError) -> ServingError:
    """What a client is told; the server's own sentence is for the log."""
    if isinstance(error, AwayError):
        kind = OutcomeUnknownError if error.unsure else StoreBusyError
        return kind("the server that keeps the jobs does not answer; try again", retry_after_s=2.0)
    if isinstance(error, FullError):
        return DiskFullError("the server that keeps the jobs is full; retry when space was freed")
    return StoreError("the server that keeps the jobs refuses; the service's log says why")
