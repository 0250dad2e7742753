"""What the job service asks of whatever keeps its jobs, their events and the queue.

    QUEUED -- claim --> RUNNING -- end --> SUCCEEDED | FAILED | CANCELLED
       ^                   |                                |
       +-- give_back ------+        +------- resume --------+

What every store promises; `tests/orchestrator/jobs/test_store_contract.py` asks it of each:

- A call that returns is on the disk as a whole; one that raises has changed nothing, but for
  OutcomeUnknownError. Whoever then asks for the same again, a submission by its key, doubles
  nothing.
- The events of a job are numbered from 1 without a gap, and no number is given twice: what a
  watcher has seen never stands for another event.
- A job is done by one attempt at a time. One that another has followed can write nothing more.
- Clients take turns: the next job is that of a client with the fewest jobs running, and among those
  of the one whose last job began the longest ago. Of a client's own jobs those of the highest
  priority are claimed first, in the order in which they were queued: one that is given back keeps
  its place, one that is resumed goes to the end.
- What was asked for with `restart` is remembered until an attempt has begun with it.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jobs.errors import InvalidJobError, JobStateError
from voxroute_orchestrator.pipeline.journal import OpenJournal
from voxroute_orchestrator.pipeline.workers import OpenWorkers
from voxroute_serving.errors import InvalidInputError

QUEUED = jobs_pb2.JOB_STATE_QUEUED
RUNNING = jobs_pb2.JOB_STATE_RUNNING
SUCCEEDED = jobs_pb2.JOB_STATE_SUCCEEDED
FAILED = jobs_pb2.JOB_STATE_FAILED
CANCELLED = jobs_pb2.JOB_STATE_CANCELLED
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})

KILLED = "the service was killed while the job ran; the job goes on"
"""What the watchers of such a job are told."""

EventKind = Literal["state", "stage", "message", "warning"]
Why = Literal["", "cancelled", "lost"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; `body` has neither number nor time yet."""

    kind: EventKind
    body: jobs_pb2.WatchJobResponse
    time_ns: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of a job, and whether none will follow them."""

    events: list[jobs_pb2.WatchJobResponse]
    ended: bool


def state_event(state: "jobs_pb2.JobState") -> Event:
    """The event of another state, now."""
    return Event("state", jobs_pb2.WatchJobResponse(state=state), time.time_ns())


def message_event(text: str) -> Event:
    """The event of something told, now."""
    return Event("message", jobs_pb2.WatchJobResponse(message=text), time.time_ns())


def as_text(message: Message) -> str:
    """The same text for equal messages, so that configs can be compared by it."""
    return json.dumps(json.loads(MessageToJson(message)), sort_keys=True, ensure_ascii=False)


def rank(config: jobs_pb2.JobConfig) -> int:
    """The priority as a number: the higher one goes first."""
    return {jobs_pb2.JOB_PRIORITY_HIGH: 1, jobs_pb2.JOB_PRIORITY_LOW: -1}.get(config.priority, 0)


def key_taken(job_id: str) -> InvalidInputError:
    """The error where an idempotency key is that of a job with another config."""
    return InvalidJobError.of_field(
        "config.idempotency_key",
        f"it was used for job {job_id} with another config; take a new key for a new job",
    )


def check_resumable(job_id: str, state: int, *, restart: bool) -> None:
    """Raises JobStateError where a job in this state cannot be resumed."""
    if state not in ENDED:
        raise JobStateError(f"job {job_id} has not ended; watch it, or cancel it first")
    if state == SUCCEEDED and not restart:
        raise JobStateError(
            f"job {job_id} has succeeded, nothing is left to do; set `restart` to do it again"
        )


def check_deletable(job_id: str, state: int) -> None:
    """Raises JobStateError where a job in this state cannot be deleted."""
    if state not in ENDED:
        raise JobStateError(f"job {job_id} has not ended; cancel it first")


class Bells:
    """Wakes those who watch a job when it has new events. Lives on one event loop."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def ring(self, job_id: str) -> None:
        """Wakes the watchers of a job."""
        for bell in self._waiting.get(job_id, ()):
            bell.set()

    def ring_all(self) -> None:
        """Wakes everybody."""
        for job_id in list(self._waiting):
            self.ring(job_id)

    def listen(self, job_id: str) -> asyncio.Event:
        """A bell of one's own for a job, until `leave`."""
        bell = asyncio.Event()
        self._waiting[job_id].add(bell)
        return bell

    def leave(self, job_id: str, bell: asyncio.Event) -> None:
        """Gives the bell back."""
        self._waiting[job_id].discard(bell)
        if not self._waiting[job_id]:
            del self._waiting[job_id]


class Attempt(Protocol):
    """A job that is being done here, from its claim to its end.

    Every write raises LeaseLostError, and changes nothing, once the attempt is over: it has ended
    or given the job back, or another attempt has followed. Beside that, as JobStore.
    """

    job_id: str
    config: jobs_pb2.JobConfig
    epoch: int
    """How often the job was claimed, this time included."""
    fresh: bool
    """Whether what is finished is to be thrown away first."""
    stopped: asyncio.Event
    """Set once the work is to stop."""
    why: Why
    """For what: somebody has cancelled the job, or it is another attempt's."""

    @property
    def open_journal(self) -> OpenJournal | None:
        """Opens the journal that the store keeps; None where it is a file among the job's."""
        ...

    @property
    def open_workers(self) -> OpenWorkers | None:
        """Has workers come for parts of the job; None where none can."""
        ...

    async def append(self, events: Sequence[Event]) -> None:
        """Numbers and keeps the events, all or none, and wakes the watchers."""
        ...

    async def began_afresh(self) -> None:
        """Notes that what was finished is thrown away, so that it is not done twice."""
        ...

    async def end(
        self,
        state: "jobs_pb2.JobState",
        *,
        error: str = "",
        artifacts: Sequence[jobs_pb2.Artifact] = (),
    ) -> None:
        """Ends the job, with the files that it leaves."""
        ...

    async def give_back(self, why: str) -> None:
        """Queues the job again, at its own place; `why` is told to the watchers."""
        ...


class JobStore(Protocol):
    """The jobs. Lives on one event loop.

    Every method raises DiskFullError, StoreBusyError or StoreError where the store does not do as
    it should.
    """

    bells: Bells
    """Those of the watchers: rung when a job may have new events."""
    waiting: asyncio.Event
    """Set when a job may wait for somebody to claim it; who looks clears it first."""

    async def start(self) -> None:
        """Queues again what a killed service has left running here."""
        ...

    async def close(self) -> None:
        """Returns once the store may be opened by another process."""
        ...

    async def find_submission(self, key: str, config: jobs_pb2.JobConfig) -> jobs_pb2.Job | None:
        """The job of an idempotency key; None for none.

        Raises InvalidJobError where the key was used with another config.
        """
        ...

    async def submit(
        self, job_id: str, key: str, config: jobs_pb2.JobConfig, tenant: str = ""
    ) -> tuple[jobs_pb2.Job, bool]:
        """The queued job and True, or the job that has the key already and False.

        `tenant` is the client whose job it is; "" where it has no name. Raises InvalidJobError
        where the key was used with another config.
        """
        ...

    async def waiting_of(self, tenant: str) -> int:
        """How many jobs of a client wait."""
        ...

    async def ended_before(self, time_s: float) -> list[str]:
        """The ids of the jobs that have ended before a time, seconds since 1970."""
        ...

    async def get(self, job_id: str) -> jobs_pb2.Job:
        """The job. Raises JobNotFoundError."""
        ...

    async def page(
        self, states: Sequence[int], size: int, before: int | None
    ) -> tuple[list[jobs_pb2.Job], int | None]:
        """At most `size` jobs in any of the states, the newest first, older than number `before`.

        Fewer where they are large; in all states where none is named. Also the number to go on
        with; None on the last page.
        """
        ...

    async def events(self, job_id: str, after: int) -> Batch:
        """The next events after a sequence number, some hundreds at most.

        Raises JobNotFoundError.
        """
        ...

    async def claim(self) -> Attempt | None:
        """The job whose turn it is, RUNNING from now on; None where none waits."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Returns once the job runs no more. Raises JobNotFoundError."""
        ...

    async def resume(self, job_id: str, *, restart: bool) -> jobs_pb2.Job:
        """The job, at the end of the queue. Raises JobNotFoundError, JobStateError."""
        ...

    async def delete(self, job_id: str) -> None:
        """Forgets a job that has ended. Raises JobNotFoundError, JobStateError."""
        ...


class Store(Protocol):
    """The jobs for whoever works on a thread."""

    def get(self, job_id: str) -> jobs_pb2.Job:
        """As JobStore.get. Blocking."""
        ...


class OnThreads:
    """Store on a JobStore of the event loop that runs."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()

    def get(self, job_id: str) -> jobs_pb2.Job:
        """As JobStore.get. Blocking, and not for the loop's own thread."""
        return asyncio.run_coroutine_threadsafe(self._store.get(job_id), self._loop).result()
