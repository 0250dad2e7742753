"""The engines that keep jobs, for tests that ask the same of each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol

from tests.orchestrator.jobs.nats_server import Cluster, NatsServer
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.jetstream.setup import JOBS, JOURNAL, SPANS
from voxroute_orchestrator.jobs.store import Attempt, JobStore, message_event
from voxroute_orchestrator.jobs.stores.embedded import EmbeddedJobs
from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs
from voxroute_orchestrator.jobs.stores.sqlite import SqliteStore


class Engine(Protocol):
    """Jobs that outlive the store through which they are reached."""

    store: JobStore

    async def open(self) -> None:
        """A service starts."""
        ...

    async def kill(self) -> None:
        """It is gone, without a word to anybody."""
        ...


class Sqlite:
    """Jobs in one SQLite file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sqlite: SqliteStore
        self.store: JobStore

    async def open(self) -> None:
        """A service starts."""
        self.sqlite = SqliteStore(self._folder)
        self.store = EmbeddedJobs(self.sqlite)
        await self.store.start()

    async def kill(self) -> None:
        """It is gone; SQLite's own lock goes with the process."""
        self.sqlite.close()


class Nats:
    """Jobs on nats-servers; services that go without a word are missed after a second."""

    def __init__(self, server: NatsServer | Cluster) -> None:
        self.server = server
        self.store: JobStore

    async def open(self) -> None:
        """A service starts."""
        self.store = self.service()
        await self.store.start()

    def service(self) -> JetStreamJobs:
        """Another service, which has not started."""
        return JetStreamJobs(
            lambda: Link.open(Access(self.server.servers)),
            lease_s=1.0,
            replicas=len(self.server.servers),
        )

    async def forget(self) -> None:
        """Removes all that the servers have kept."""
        link = await Link.open(Access(self.server.servers))
        for stream in (JOBS, JOURNAL, SPANS):
            await link.call(f"STREAM.DELETE.{stream}")
        await link.close()

    async def kill(self) -> None:
        """It is gone; its jobs are still its own for a while."""
        await self.store.close()


@contextlib.asynccontextmanager
async def two_services(server: NatsServer | Cluster) -> AsyncGenerator[list[JetStreamJobs]]:
    """Two services with one engine, started."""
    engine = Nats(server)
    started = [engine.service() for _ in range(2)]
    for service in started:
        await service.start()
    yield started
    for service in started:
        await service.close()


async def claimed(store: JobStore, job_id: str = "") -> Attempt:
    """The next attempt, which is at that job; waits until there is one."""
    async with asyncio.timeout(30):
        while True:
            store.waiting.clear()
            attempt = await store.claim()
            if attempt is not None:
                break
            await store.waiting.wait()
    assert attempt.job_id == (job_id or attempt.job_id)
    return attempt


async def texts(store: JobStore, job_id: str, after: int = 0) -> list[str]:
    """What a watcher is told behind a number: messages, and states by their names."""
    return [
        event.message
        or jobs_pb2.JobState.Name(event.state).removeprefix("JOB_STATE_")
        or event.stage.name
        for event in await events(store, job_id, after)
    ]


async def events(
    store: JobStore, job_id: str, after: int = 0
) -> Sequence[jobs_pb2.WatchJobResponse]:
    """All events behind a number, as often as one has to ask."""
    found: list[jobs_pb2.WatchJobResponse] = []
    while True:
        batch = await store.events(job_id, found[-1].sequence if found else after)
        found += batch.events
        if not batch.events or batch.ended:
            return found


async def say(attempt: Attempt, *texts: str) -> None:
    """Messages of an attempt, kept together."""
    await attempt.append([message_event(text) for text in texts])
