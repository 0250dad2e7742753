"""Whatever fails while two services do jobs on three nats-servers: nothing is lost or doubled.

Each row lets one thing fail. Then every job has ended once, its events are there without a gap, for
who has watched all the time as for who asks afterwards, and its text is that of an undisturbed run.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e import networks
from tests.orchestrator.daemon import (
    Services,
    artifact,
    config,
    job,
    messages,
    stand_in_services,
    texts_of,
    wait,
)
from tests.orchestrator.jobs.nats_server import Cluster, NatsServer, cluster
from tests.orchestrator.jobs.test_two_services import Sharing, _watched, _Watcher
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.jetstream.setup import FILES, JOBS

SECONDS = 20  # of the film, a window each
WINDOW_S = 0.6
LEASE_S = 2.0
CUT_S = 12.0
NET = "10.77.9"
HOSTS = {"s0": f"{NET}.1", "s1": f"{NET}.2", "s2": f"{NET}.3", "one": f"{NET}.4", "two": f"{NET}.5"}
FILM = config(upload_name="film.wav")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # half a minute each


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The stand-ins, on sockets: a network that is cut leaves them reachable."""
    folder = tmp_path_factory.mktemp("s")
    asr, translate = f"unix:{folder}/asr", f"unix:{folder}/translate"
    with stand_in_services(asr, translate) as running:
        yield Services(running.speech, running.translation, asr, translate)


@dataclass
class Fleet:
    """Two job services on three servers."""

    servers: Cluster
    pair: list[Sharing]
    services: Services
    film: bytes

    def submit(self, key: str, through: int = 0, during: Callable[[], object] | None = None) -> str:
        """The job of a submission, tried again as a client does; `during` is done half way."""
        until = time.monotonic() + 60
        while True:
            stub = self.pair[through].stub()
            sent = list(messages(FILM, self.film, key=key))
            try:
                return stub.SubmitJob(_disturbed(sent, during), timeout=60).job.id
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                    raise
            during = None
            time.sleep(0.1)

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Four jobs; both services do one when the block begins, and all end well behind it."""
        self.services.speech.delay_s = WINDOW_S
        jobs = [self.submit(f"k{number}", number % 2) for number in range(4)]
        watchers = [_Watcher(self.pair, job_id) for job_id in jobs]
        with ThreadPoolExecutor() as threads:
            watching = [threads.submit(watcher.watch) for watcher in watchers]
            wait(lambda: self.services.speech.open_calls == 2)
            yield
            self.services.speech.delay_s = 0.0
            for one in watching:
                one.result(120)
        stubs = [daemon.stub() for daemon in self.pair]
        for job_id, watcher in zip(jobs, watchers, strict=True):
            told = [event.sequence for event in watcher.told]
            assert told == list(range(1, len(told) + 1))
            ends = [event for event in watcher.told if event.state in ENDS]
            assert [event.state for event in ends] == [jobs_pb2.JOB_STATE_SUCCEEDED]
            assert ends[-1] is watcher.told[-1]
            for stub in stubs:
                wait(lambda stub=stub, job_id=job_id: _answers(stub, job_id))
                assert _watched(stub, job_id) == watcher.told
                assert texts_of(stub, job_id) == [f"word{k}" for k in range(SECONDS)]
        for stub in stubs:
            listed = stub.ListJobs(jobs_pb2.ListJobsRequest(), timeout=30).jobs
            assert sorted(one.id for one in listed) == sorted(jobs)


def _disturbed(sent: list[Any], during: Callable[[], object] | None) -> Iterator[Any]:
    for number, message in enumerate(sent):
        if during is not None and number == len(sent) // 2:
            during()
        yield message


ENDS = {jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED}


def _answers(stub: Any, job_id: str) -> bool:
    """Whether a service tells what it knows of a job."""
    try:
        job(stub, job_id)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.NOT_FOUND
    return True


@contextlib.contextmanager
def _fleet(
    folder: Path,
    servers: Cluster,
    services: Services,
    film: bytes,
    *,
    network: Any = None,
    files: str = "folder",
) -> Generator[Fleet]:
    flags = (
        "--asr-endpoints", services.asr, "--translate-endpoints", services.translate,
        "--engine", ",".join(servers.servers), "--engine-lease-s", str(LEASE_S),
        "--engine-files", files,
    )  # fmt: skip
    pair: list[Sharing] = []
    try:
        for name in ("one", "two"):
            own = folder / name
            own.mkdir()
            data = own / "data" if files == "server" else folder / "shared"
            pair.append(Sharing(own, flags, target=f"unix:{own}/socket", shared=data))
            pair[-1].before = network.inside(name) if network else ()
            pair[-1].start()
        yield Fleet(servers, pair, services, film)
    finally:
        for daemon in pair:
            daemon.close()


@pytest.fixture
def fleet(
    request: pytest.FixtureRequest, tmp_path: Path, services: Services, film: bytes
) -> Iterator[Fleet]:
    """On one host, with the files in a folder where a test says nothing else."""
    services.speech.delay_s = 0.0
    files: str = getattr(request, "param", "folder")
    with (
        cluster(tmp_path) as servers,
        _fleet(tmp_path, servers, services, film, files=files) as fleet,
    ):
        yield fleet


@pytest.fixture
def network() -> Iterator[networks.Network]:
    """A host for each."""
    with networks.network(HOSTS) as network:
        yield network


@pytest.fixture
def apart(
    tmp_path: Path, network: networks.Network, services: Services, film: bytes
) -> Iterator[Fleet]:
    """Each on a host of its own."""
    services.speech.delay_s = 0.0
    names = ("s0", "s1", "s2")
    hosts, befores = [HOSTS[name] for name in names], [network.inside(name) for name in names]
    with (
        cluster(tmp_path, hosts=hosts, befores=befores) as servers,
        _fleet(tmp_path, servers, services, film, network=network) as fleet,
    ):
        yield fleet


# --- servers


def _not_leading(servers: Cluster) -> NatsServer:
    leader = servers.leader(JOBS)
    return next(one for one in servers.members if one is not leader)


def _one_killed(servers: Cluster) -> None:
    one = _not_leading(servers)
    one.end(signal.SIGKILL)
    time.sleep(3)
    one.start()


def _leader_killed(servers: Cluster) -> None:
    leader = servers.leader(JOBS)
    leader.end(signal.SIGKILL)
    time.sleep(10)
    leader.start()


def _leader_stopped(servers: Cluster) -> None:
    leader = servers.leader(JOBS)
    leader.end()
    time.sleep(3)
    leader.start()


def _all_updated(servers: Cluster) -> None:
    for one in servers.members:
        one.end()
        one.start()
        one.wait(lambda one=one: one.told("/healthz") is not None)


def _all_killed(servers: Cluster) -> None:
    servers.end(signal.SIGKILL)
    servers.start()


@pytest.mark.parametrize(
    ("fleet", "fail"),
    [
        ("folder", _one_killed),
        ("folder", _leader_killed),
        ("server", _leader_killed),
        ("folder", _leader_stopped),
        ("folder", _all_updated),
        ("server", _all_updated),
        ("folder", _all_killed),
        ("server", _all_killed),
    ],
    indirect=["fleet"],
)
def test_jobs_outlive_servers(fleet: Fleet, fail: Callable[[Cluster], None]) -> None:
    """Killed with -9, stopped as for an update, one by one or all at once."""
    with fleet.watched():
        fail(fleet.servers)
    assert fleet.pair[0].end() == 0


def test_jobs_outlive_a_leader_that_is_cut_off(apart: Fleet, network: networks.Network) -> None:
    """For twelve seconds: the others go on without it, and it follows them when it is back."""
    with apart.watched():
        leader = apart.servers.members.index(apart.servers.leader(JOBS))
        network.cut(f"s{leader}")
        time.sleep(CUT_S)
        assert apart.submit("k0", 1)  # there already, and told so
        network.heal(f"s{leader}")


# --- services


def test_the_job_of_a_service_that_is_cut_off_goes_on_elsewhere(
    apart: Fleet, network: networks.Network
) -> None:
    """It answers UNAVAILABLE; back again it finds the job another's, and serves as before."""
    with apart.watched():
        network.cut("one")
        wait(lambda: not _answers(apart.pair[0].stub(), "none"))
        time.sleep(CUT_S)
        network.heal("one")
    wait(lambda: "job is done elsewhere" in (apart.pair[0].folder / "log").read_text())


def test_of_submissions_with_one_key_through_both_services_one_makes_the_job(fleet: Fleet) -> None:
    """Twelve at once, while the leader is killed: all are told the same job, which runs once."""
    with ThreadPoolExecutor(13) as threads:
        told = [threads.submit(fleet.submit, "key", number % 2) for number in range(12)]
        fleet.servers.leader(JOBS).end(signal.SIGKILL)
        (job_id,) = {one.result(120) for one in told}
    _Watcher(fleet.pair, job_id).watch()
    stub = fleet.pair[1].stub()
    wait(lambda: _answers(stub, job_id))
    done = job(stub, job_id)
    assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, 1)
    assert [one.id for one in stub.ListJobs(jobs_pb2.ListJobsRequest()).jobs] == [job_id]
    assert artifact(stub, job_id, "film.transcript.json")


@pytest.mark.parametrize(
    ("fleet", "stream"),
    [("folder", JOBS), ("server", JOBS), ("server", FILES)],
    indirect=["fleet"],
)
def test_a_recording_is_submitted_although_the_leader_is_killed_meanwhile(
    fleet: Fleet, stream: str
) -> None:
    """Half of it is there; its job is made once, and has the text of the whole."""
    leader = fleet.servers.leader(stream)
    job_id = fleet.submit("key", 0, during=lambda: leader.end(signal.SIGKILL))
    _Watcher(fleet.pair, job_id).watch()
    for number, daemon in enumerate(fleet.pair):
        assert fleet.submit("key", number) == job_id
        stub = daemon.stub()
        assert texts_of(stub, job_id) == [f"word{k}" for k in range(SECONDS)]
        assert [one.id for one in stub.ListJobs(jobs_pb2.ListJobsRequest()).jobs] == [job_id]
        assert job(stub, job_id).attempts == 1
        assert not list((daemon.shared / "uploads").iterdir())


# --- room


def test_a_full_stream_keeps_jobs_waiting_until_there_is_room(fleet: Fleet) -> None:
    """A submission is refused with RESOURCE_EXHAUSTED; what runs goes on when there is room."""

    async def limit(spare: int | None) -> None:
        link = await Link.open(Access(fleet.servers.servers))
        info = await link.call(f"STREAM.INFO.{JOBS}")
        limit = info["state"]["bytes"] + spare if spare is not None else -1
        await link.call(f"STREAM.UPDATE.{JOBS}", info["config"] | {"max_bytes": limit})
        await link.close()

    with fleet.watched():
        asyncio.run(limit(100))
        with pytest.raises(grpc.RpcError) as error:
            fleet.pair[0].stub().SubmitJob(messages(FILM, fleet.film, key="new"), timeout=60)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        time.sleep(3)
        asyncio.run(limit(None))
