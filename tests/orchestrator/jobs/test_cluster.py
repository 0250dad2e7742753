"""Services on a cluster of three nats-servers: copies, and servers that go."""

import asyncio
import contextlib
import math
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.orchestrator.jobs.engines import claimed, events, say, texts, two_services
from tests.orchestrator.jobs.nats_server import Cluster, running
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.link import ConflictError, Link, LinkError
from voxroute_orchestrator.jetstream.setup import JOBS, SPANS
from voxroute_orchestrator.jobs.errors import LeaseLostError, StoreBusyError, StoreError
from voxroute_orchestrator.jobs.store import RUNNING, SUCCEEDED, Attempt
from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs
from voxroute_orchestrator.jobs.stores.leases import Lease

FILM = jobs_pb2.JobConfig(upload_name="film.wav")


@pytest.fixture
async def services(servers: Cluster) -> AsyncIterator[list[JetStreamJobs]]:
    """Two services."""
    async with two_services(servers) as started:
        yield started


async def _tried(call: Any) -> Any:
    """What a client gets that tries again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except StoreBusyError:
                await asyncio.sleep(0.1)


async def _said_again(attempt: Attempt, count: int) -> None:
    for number in range(count):
        await say(attempt, f"{number}")
        await asyncio.sleep(0.02)


async def _are_whole(service: JetStreamJobs, job_id: str, count: int) -> None:
    """Whether each event of a job is there once, in its place."""
    told = await events(service, job_id)
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert await texts(service, job_id) == [
        "QUEUED", "RUNNING", *(f"{n}" for n in range(count)), "SUCCEEDED"
    ]  # fmt: skip


async def test_jobs_go_on_when_the_leader_of_their_stream_stops(
    servers: Cluster, services: list[JetStreamJobs]
) -> None:
    """SIGTERM, as for an update: another one leads, and whoever writes sees nothing of it."""
    here, there = services
    await here.submit("a", "k", FILM)
    attempt = await claimed(there, "a")
    leader = servers.leader(JOBS)
    saying = asyncio.ensure_future(_said_again(attempt, 40))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(leader.end)
    await saying
    assert (await _tried(lambda: here.submit("b", "k", FILM)))[0].id == "a"
    await attempt.end(SUCCEEDED)
    await _are_whole(here, "a", 40)


@pytest.mark.slow
async def test_an_attempt_writes_on_when_the_leader_is_killed(
    servers: Cluster, services: list[JetStreamJobs]
) -> None:
    """With -9, a few seconds without a leader: its writes wait; a client is told to try again."""
    here, there = services
    for job_id in ("a", "b"):
        await here.submit(job_id, "", FILM)
    attempts = [await claimed(there, "a"), await claimed(here, "b")]
    saying = [asyncio.ensure_future(_said_again(attempt, 40)) for attempt in attempts]
    await asyncio.sleep(0.2)
    leader = servers.leader(JOBS)
    await asyncio.to_thread(leader.end, signal.SIGKILL)
    await asyncio.gather(*saying)
    for attempt in attempts:
        await attempt.end(SUCCEEDED)
    for job_id in ("a", "b"):
        await _are_whole(here, job_id, 40)
        await _are_whole(there, job_id, 40)
    leader.start()
    await _tried(lambda: there.submit("c", "", FILM))
    assert (await _tried(here.claim)).job_id == "c"


@pytest.mark.slow
async def test_a_submission_over_an_election_makes_one_job(
    servers: Cluster, services: list[JetStreamJobs]
) -> None:
    """Twelve clients with one key at both services while the leader is killed."""
    await asyncio.to_thread(servers.leader(JOBS).end, signal.SIGKILL)

    async def submit(number: int) -> tuple[jobs_pb2.Job, bool]:
        service = services[number % 2]
        return await _tried(lambda: service.submit(f"job{number}", "k", FILM))

    told = await asyncio.gather(*(submit(number) for number in range(12)))
    assert len({job.id for job, _ in told}) == 1
    for service in services:
        assert [job.id for job in (await service.page([], 50, None))[0]] == [told[0][0].id]
    attempts = [await _tried(services[number % 2].claim) for number in range(4)]
    assert [attempt.job_id for attempt in attempts if attempt] == [told[0][0].id]


@pytest.mark.slow
async def test_everything_outlives_all_servers(
    servers: Cluster, services: list[JetStreamJobs]
) -> None:
    """Killed with -9 at once and started again, while an attempt writes."""
    here, there = services
    await here.submit("a", "", FILM)
    attempt = await claimed(there, "a")
    saying = asyncio.ensure_future(_said_again(attempt, 40))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(servers.end, signal.SIGKILL)
    await asyncio.to_thread(servers.start)
    await saying
    await _tried(lambda: attempt.end(SUCCEEDED))
    await _are_whole(here, "a", 40)
    assert (await here.get("a")).attempts == 1


@pytest.mark.slow
async def test_what_the_leader_has_is_read_although_another_server_hangs(
    servers: Cluster, services: list[JetStreamJobs]
) -> None:
    """A watcher from the first event on, while one server in three answers nothing."""
    here, _ = services
    await here.submit("a", "", FILM)
    attempt = await claimed(here, "a")
    await _said_again(attempt, 20)
    leader = servers.leader(JOBS)
    hanging = next(one for one in servers.members if one is not leader)
    link = await Link.open(Access([leader.url]))
    assert hanging.process is not None
    hanging.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(12):  # readers are anywhere
            found = [one async for one in link.read(JOBS, "vr.job.a")]
            assert len(found) == 22
    finally:
        hanging.process.send_signal(signal.SIGCONT)
        await link.close()


@pytest.mark.slow
async def test_streams_with_fewer_copies_get_more_and_never_fewer(servers: Cluster) -> None:
    """What was begun with one is kept by three after a start; a service that asks for one too."""
    first = JetStreamJobs(lambda: Link.open(Access(servers.servers)), lease_s=1.0)
    await first.start()
    await first.submit("a", "", FILM)
    for replicas, kept in ((3, 3), (1, 3)):
        service = JetStreamJobs(
            lambda: Link.open(Access(servers.servers)), lease_s=1.0, replicas=replicas
        )
        await service.start()
        for stream in (JOBS, SPANS):
            info = await service.link.call(f"STREAM.INFO.{stream}")
            assert info["config"]["num_replicas"] == kept
        attempt = await claimed(service, "a")
        assert (await first.get("a")).state == RUNNING
        await attempt.give_back("the service stops")
        await service.close()
    await first.close()


@pytest.mark.slow
async def test_one_server_is_not_taken_for_a_cluster(tmp_path: Path) -> None:
    """The sentence says what to start, and which flag asks for less."""
    with running(tmp_path) as server:
        service = JetStreamJobs(lambda: Link.open(Access(server.servers)), replicas=3)
        with pytest.raises(StoreError, match=r"3 copies .* start 3 servers .* --engine-replicas"):
            await service.start()
        await service.close()


# --- what an operator sees


@dataclass
class Measured:
    """A service whose metrics are read."""

    store: JetStreamJobs
    registry: CollectorRegistry

    def seen(self, name: str, **labels: str) -> float:
        """A metric as it is now."""
        value = self.registry.get_sample_value(f"voxroute_engine_{name}", labels)
        assert value is not None, name
        return value

    async def look(self, until: Callable[[], bool]) -> None:
        """Returns once the servers were asked and the condition holds."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(LinkError):
                    await self.store._measure()
                    if until():
                        return
                await asyncio.sleep(0.2)


@pytest.fixture
async def measured(servers: Cluster) -> AsyncIterator[Measured]:
    """One without jobs."""
    registry = CollectorRegistry()
    store = JetStreamJobs(
        lambda: Link.open(Access(servers.servers)),
        lease_s=1.0,
        replicas=3,
        registry=registry,
    )
    await store.start()
    yield Measured(store, registry)
    await store.close()


@pytest.mark.slow
async def test_an_operator_sees_what_waits_what_was_lost_and_what_room_there_is(
    measured: Measured,
) -> None:
    """The oldest job, refused writes, a job that was taken, limits."""
    store, seen, look = measured.store, measured.seen, measured.look
    for job_id in ("a", "b"):
        await store.submit(job_id, "", FILM)
    attempt = await claimed(store, "a")
    assert isinstance(attempt, Lease)
    await look(lambda: seen("oldest_seconds") >= 1)
    assert seen("up") == 1
    await store.cancel("b")

    assert seen("bytes", of=JOBS) > 500
    assert seen("limit_bytes", of=JOBS) == math.inf
    info = await store.link.call(f"STREAM.INFO.{JOBS}")
    await store.link.call(f"STREAM.UPDATE.{JOBS}", info["config"] | {"max_bytes": 10_000_000})
    await look(lambda: seen("limit_bytes", of=JOBS) == 10_000_000)

    with pytest.raises(ConflictError):
        await store.link.append(JOBS, "vr.job.a", b"", 0)
    assert attempt._unanswer is not None
    await attempt._unanswer()
    store._leases.clear()  # so that it is missed here as elsewhere
    assert (await claimed(store, "a")).epoch == 2
    with pytest.raises(LeaseLostError):
        await say(attempt, "late")
    await look(lambda: seen("conflicts_total") >= 1)
    assert (seen("leases_lost_total"), seen("taken_over_total")) == (1, 1)


@pytest.mark.slow
async def test_an_operator_sees_servers_that_are_away(servers: Cluster, measured: Measured) -> None:
    """One, which the others do without; all; and that the service has found them again."""
    seen, look = measured.seen, measured.look
    await look(lambda: seen("replicas_missing", stream=JOBS) == 0)
    leader = servers.leader(JOBS)
    await asyncio.to_thread(leader.end, signal.SIGKILL)
    await look(lambda: seen("replicas_missing", stream=JOBS) == 1)
    await asyncio.to_thread(leader.start)
    await look(lambda: seen("replicas_missing", stream=JOBS) == 0)
    assert (seen("up"), seen("replicas_behind", stream=JOBS)) == (1, 0)
    await asyncio.to_thread(servers.end)
    with pytest.raises(LinkError):
        await measured.store._measure()
    assert seen("up") == 0
    for one in servers.members:
        one.launch()  # whether each calls itself healthy is not what a service waits for
    # the client tells of a connection a little after it has it
    await look(lambda: seen("up") == 1 and seen("reconnects_total") >= 1)
