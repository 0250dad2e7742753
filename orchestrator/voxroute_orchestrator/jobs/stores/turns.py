"""Whose turn it is among the jobs of all clients, as one service of a fleet knows them."""

from collections import Counter
from dataclasses import dataclass

from voxroute_orchestrator.jobs.store import QUEUED, RUNNING
from voxroute_orchestrator.jobs.stores.entries import Entry


@dataclass(frozen=True, slots=True)
class _Waiting:
    tenant: str
    priority: int
    place: int


class Turns:
    """The rule of JobStore.claim, on what is said of jobs. `SqliteStore.claim` has it in SQL."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, _Waiting] = {}  # where they would wait
        self._began: dict[str, int] = {}  # by tenant: the latest beginning of a job, as its message
        self._left: set[str] = set()

    def note(self, job_id: str, entry: Entry, sequence: int) -> None:
        """Hears what a job is since a message with that number in the stream."""
        again = job_id in self._running
        self.forget(job_id)
        place = _Waiting(entry.tenant, entry.priority, entry.place)
        if entry.job.state == QUEUED:
            self._waiting[job_id] = place
        elif entry.job.state == RUNNING:
            self._running[job_id] = place
        if entry.job.attempts and not again:
            self._began[entry.tenant] = max(self._began.get(entry.tenant, 0), sequence)

    def forget(self, job_id: str) -> None:
        """Hears that there is no such job."""
        for known in (self._waiting, self._running):
            known.pop(job_id, None)
        self._left.discard(job_id)

    def leave(self, job_id: str) -> None:
        """Hears that nobody does a job that runs: it is to be claimed before any other."""
        self._left.add(job_id)

    def has(self, job_id: str) -> bool:
        """Whether the job may be claimed."""
        return job_id in self._waiting or job_id in self._left

    def next(self) -> str | None:
        """The job whose turn it is; None where none waits."""
        if self._left:
            return min(self._left)
        running = Counter(job.tenant for job in self._running.values())
        oldest: dict[str, int] = {}
        for job in self._waiting.values():
            oldest[job.tenant] = min(job.place, oldest.get(job.tenant, job.place))
        turns = [(running[one], self._began.get(one, 0), oldest[one], one) for one in oldest]
        if not turns:
            return None
        *_, tenant = min(turns)
        own = (
            (-job.priority, job.place, job_id)
            for job_id, job in self._waiting.items()
            if job.tenant == tenant
        )
        return min(own)[2]

    def waiting_of(self, tenant: str) -> int:
        """How many jobs of a client wait."""
        return sum(job.tenant == tenant for job in self._waiting.values())
