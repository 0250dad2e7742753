"""The jobs of one service in its own SQLite file: what is kept when nothing else is asked for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jobs.errors import LeaseLostError
from voxroute_orchestrator.jobs.store import KILLED, Attempt, Batch, Bells, Event, Why
from voxroute_orchestrator.jobs.stores.sqlite import Claimed, SqliteStore
from voxroute_serving.telemetry.logs import get_logger

T = TypeVar("T")

_log = get_logger(__name__)


class EmbeddedJobs:
    """JobStore: SQLite on threads, for the one process that has the data folder."""

    def __init__(self, store: SqliteStore) -> None:
        self.bells = Bells()
        self.waiting = asyncio.Event()
        self._store = store
        self._lock = asyncio.Lock()  # between claiming a job and knowing its attempt
        self._attempts: dict[str, _Attempt] = {}

    async def start(self) -> None:
        """As JobStore."""
        for job_id in await asyncio.to_thread(self._store.requeue_left, KILLED):
            _log.info("job goes on", job=job_id)
        self.waiting.set()

    async def close(self) -> None:
        """As JobStore."""
        self._store.close()

    async def find_submission(self, key: str, config: jobs_pb2.JobConfig) -> jobs_pb2.Job | None:
        """As JobStore."""
        return await asyncio.to_thread(self._store.find_submission, key, config)

    async def submit(
        self, job_id: str, key: str, config: jobs_pb2.JobConfig, tenant: str = ""
    ) -> tuple[jobs_pb2.Job, bool]:
        """As JobStore."""
        job, created = await asyncio.to_thread(self._store.submit, job_id, key, config, tenant)
        self.waiting.set()
        return job, created

    async def waiting_of(self, tenant: str) -> int:
        """As JobStore."""
        return await asyncio.to_thread(self._store.waiting_of, tenant)

    async def ended_before(self, time_s: float) -> list[str]:
        """As JobStore."""
        return await asyncio.to_thread(self._store.ended_before, time_s)

    async def get(self, job_id: str) -> jobs_pb2.Job:
        """As JobStore."""
        return await asyncio.to_thread(self._store.get, job_id)

    async def page(
        self, states: Sequence[int], size: int, before: int | None
    ) -> tuple[list[jobs_pb2.Job], int | None]:
        """As JobStore."""
        return await asyncio.to_thread(self._store.page, states, size, before)

    async def events(self, job_id: str, after: int) -> Batch:
        """As JobStore."""
        return await asyncio.to_thread(self._store.events, job_id, after)

    async def claim(self) -> Attempt | None:
        """As JobStore."""
        async with self._lock:
            claimed = await asyncio.to_thread(self._store.claim)
            if claimed is None:
                return None
            attempt = _Attempt(self._store, claimed, self.bells.ring, self._over)
            self._attempts[claimed.job_id] = attempt
        self.bells.ring(claimed.job_id)
        return attempt

    def _over(self, attempt: "_Attempt") -> None:
        if self._attempts.get(attempt.job_id) is attempt:
            del self._attempts[attempt.job_id]
        self.waiting.set()

    async def cancel(self, job_id: str) -> None:
        """As JobStore."""
        async with self._lock:
            if await asyncio.to_thread(self._store.cancel_queued, job_id):
                self.bells.ring(job_id)
                return
            attempt = self._attempts.get(job_id)
            if attempt is None:
                return
            attempt.stop("cancelled")
        await attempt.over.wait()

    async def resume(self, job_id: str, *, restart: bool) -> jobs_pb2.Job:
        """As JobStore."""
        job = await asyncio.to_thread(partial(self._store.resume, job_id, restart=restart))
        self.bells.ring(job_id)
        self.waiting.set()
        return job

    async def delete(self, job_id: str) -> None:
        """As JobStore."""
        await asyncio.to_thread(self._store.delete, job_id)


class _Attempt:
    """Attempt on a claim of the SQLite store."""

    def __init__(
        self,
        store: SqliteStore,
        claimed: Claimed,
        ring: Callable[[str], None],
        over: "Callable[[_Attempt], None]",
    ) -> None:
        self.job_id = claimed.job_id
        self.config = claimed.config
        self.epoch = claimed.epoch
        self.fresh = claimed.fresh
        self.stopped = asyncio.Event()
        self.why: Why = ""
        self.over = asyncio.Event()
        self._store = store
        self._claimed = claimed
        self._ring = ring
        self._tell_over = over

    def stop(self, why: Why) -> None:
        """Has the work stopped."""
        self.why = self.why or why
        self.stopped.set()

    open_journal = None  # it is a file among the job's
    open_workers = None

    async def append(self, events: Sequence[Event]) -> None:
        """As Attempt."""
        await self._write(asyncio.to_thread(self._store.append, self._claimed, events))
        self._ring(self.job_id)

    async def began_afresh(self) -> None:
        """As Attempt."""
        await self._write(asyncio.to_thread(self._store.began_afresh, self._claimed))

    async def end(
        self,
        state: "jobs_pb2.JobState",
        *,
        error: str = "",
        artifacts: Sequence[jobs_pb2.Artifact] = (),
    ) -> None:
        """As Attempt."""
        end = partial(self._store.end, self._claimed, state, error=error, artifacts=artifacts)
        await self._write(asyncio.to_thread(end))
        self._leave()

    async def give_back(self, why: str) -> None:
        """As Attempt."""
        await self._write(asyncio.to_thread(self._store.requeue, self._claimed, why))
        self._leave()

    async def _write(self, write: Awaitable[T]) -> T:
        try:
            return await write
        except LeaseLostError:
            self.stop("lost")
            self._leave()
            raise

    def _leave(self) -> None:
        self.over.set()
        self._tell_over(self)
        self._ring(self.job_id)
