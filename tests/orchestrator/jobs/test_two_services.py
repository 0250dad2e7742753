"""Two job services as processes, on one nats-server and one folder."""

import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.orchestrator.daemon import (
    Daemon,
    Services,
    artifact,
    config,
    ended,
    job,
    messages,
    texts_of,
    wait,
)
from tests.orchestrator.jobs.nats_server import NatsServer
from tests.orchestrator.jobs.test_transcripts import got, put
from voxroute.jobs.v1 import jobs_pb2

SECONDS = 20
LEASE_S = 2.0
pytestmark = pytest.mark.slow  # a minute

FILM = config(upload_name="film.wav")


@dataclass
class Sharing(Daemon):
    """`voxroute serve --engine`, with a folder that is another one's, too."""

    shared: Path = Path()

    @property
    def data(self) -> Path:
        return self.shared


@pytest.fixture
def pair(tmp_path: Path, server: NatsServer, services: Services) -> Iterator[list[Sharing]]:
    """Both of them."""
    services.speech.delay_s = 0.0
    flags = (
        "--asr-endpoints", services.asr, "--translate-endpoints", services.translate,
        "--engine", server.url, "--engine-lease-s", str(LEASE_S),
    )  # fmt: skip
    daemons: list[Sharing] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            daemons.append(Sharing(tmp_path / name, flags, shared=tmp_path / "shared"))
            daemons[-1].start()
        yield daemons
    finally:
        for daemon in daemons:
            daemon.close()


def _watched(stub: Any, job_id: str) -> list[jobs_pb2.WatchJobResponse]:
    return list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id), timeout=60))


def test_a_job_is_submitted_here_and_watched_and_fetched_there(
    pair: list[Sharing], film: bytes
) -> None:
    """Whoever does it; the same key is the same job, and every event is told once."""
    here, there = (daemon.stub() for daemon in pair)
    job_id = here.SubmitJob(messages(FILM, film, key="k"), timeout=60).job.id
    again = there.SubmitJob(messages(FILM, film, key="k"), timeout=60)
    assert (again.job.id, again.created) == (job_id, False)
    told = _watched(there, job_id)
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    assert told[-1].state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert _watched(here, job_id) == told
    for stub in (here, there):
        assert texts_of(stub, job_id) == [f"word{k}" for k in range(SECONDS)]
        assert [one.id for one in stub.ListJobs(jobs_pb2.ListJobsRequest()).jobs] == [job_id]
    there.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id), timeout=60)
    with pytest.raises(grpc.RpcError) as error:
        job(here, job_id)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    for daemon in pair:
        assert daemon.end() == 0


def _runner(pair: list[Sharing], services: Services, job_id: str) -> tuple[Sharing, Sharing]:
    """The service that does the job, and the other one."""
    wait(lambda: services.speech.open_calls)
    logs = [(daemon.folder / "log").read_text() for daemon in pair]
    (number,) = [n for n, log in enumerate(logs) if "job begins" in log and job_id in log]
    return pair[number], pair[1 - number]


def test_of_two_who_change_a_transcript_at_once_one_is_told(
    pair: list[Sharing], film: bytes
) -> None:
    """Each through a service of their own: nobody's revision takes the place of another's."""
    stubs = [daemon.stub() for daemon in pair]
    job_id = stubs[0].SubmitJob(messages(FILM, film), timeout=60).job.id
    ended(stubs[0], job_id)
    _, segments = got(stubs[0], job_id)

    def change(stub: Any, base: int) -> grpc.StatusCode | int:
        try:
            return put(stub, job_id, base, segments)
        except grpc.RpcError as error:
            return error.code()

    with ThreadPoolExecutor() as pool:
        for base in range(1, 21):
            found = list(pool.map(change, stubs, [base] * 2))
            assert sorted(found, key=str) == [base + 1, grpc.StatusCode.FAILED_PRECONDITION]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_that_ends_hands_its_job_on(
    pair: list[Sharing], services: Services, film: bytes, end: int
) -> None:
    """At once where it stops, after its lease where it is killed; nothing is told twice.

    No window is decoded again but the one that the film's only lane was at.
    """
    services.speech.delay_s, services.speech.decoded = 0.3, 0
    job_id = pair[0].stub().SubmitJob(messages(FILM, film), timeout=60).job.id
    runner, other = _runner(pair, services, job_id)
    stub = other.stub()
    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(_watched, stub, job_id)
        wait(lambda: job(stub, job_id).last_sequence > 3)
        runner.end(end)
        told = watching.result(60)
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))
    done = ended(stub, job_id)
    assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, 2)
    assert SECONDS <= services.speech.decoded <= SECONDS + 1
    assert texts_of(stub, job_id) == [f"word{k}" for k in range(SECONDS)]


def test_a_service_that_was_taken_for_dead_tells_nothing_more(
    pair: list[Sharing], services: Services, film: bytes
) -> None:
    """Stopped for longer than its lease, it finds the job another's when it wakes up.

    That one has not waited for it, and decodes no window again but the one that each lane was at.
    """
    services.speech.delay_s = 0.3
    services.speech.configs.clear()
    job_id = pair[0].stub().SubmitJob(messages(FILM, film), timeout=60).job.id
    runner, other = _runner(pair, services, job_id)
    assert runner.process is not None
    stub = other.stub()
    time.sleep(1.5)
    runner.process.send_signal(signal.SIGSTOP)
    done = ended(stub, job_id)
    results = artifact(stub, job_id, "film.transcript.json")
    runner.process.send_signal(signal.SIGCONT)
    wait(lambda: "job is done elsewhere" in (runner.folder / "log").read_text())
    assert artifact(stub, job_id, "film.transcript.json") == results
    began = [config.resume_from.ToMilliseconds() / 1000 for config in services.speech.configs]
    assert len(began) == 2
    assert began[1] >= 3  # seconds, each a window, of which a service does three in one
    told = _watched(stub, job_id)
    assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, 2), done.error
    assert [event.sequence for event in told] == list(range(1, done.last_sequence + 1))
    assert _watched(runner.stub(), job_id) == told
    assert texts_of(runner.stub(), job_id) == [f"word{k}" for k in range(SECONDS)]


class _Watcher:
    """A client that watches one job through whichever service answers."""

    def __init__(self, pair: list[Sharing], job_id: str) -> None:
        self._stubs = [daemon.stub() for daemon in pair]
        self._job_id = job_id
        self.told: list[jobs_pb2.WatchJobResponse] = []

    def watch(self) -> None:
        """Returns with the end of the job."""
        for stub in itertools.cycle(self._stubs):
            last = self.told[-1].sequence if self.told else 0
            request = jobs_pb2.WatchJobRequest(job_id=self._job_id, after_sequence=last)
            try:
                for event in stub.WatchJob(request, timeout=300):
                    self.told.append(event)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                time.sleep(0.1)  # until somebody is there again
            else:
                return


@pytest.mark.timeout(600)
def test_a_job_outlives_kills_at_random_moments(
    pair: list[Sharing], server: NatsServer, services: Services, film: bytes
) -> None:
    """Of either service and of the server, up to ten: every word is there, and told once."""
    services.speech.delay_s = 1.0
    job_id = pair[0].stub().SubmitJob(messages(FILM, film), timeout=60).job.id
    watcher = _Watcher(pair, job_id)
    chance = random.Random(1)  # noqa: S311 - the same moments each time, as far as that goes
    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watcher.watch)
        for _ in range(10):
            one: Sharing | NatsServer = chance.choice([*pair, server])
            wait(lambda: services.speech.open_calls or watching.done(), 120)
            if watching.done():  # a machine that starts services slowly
                break
            time.sleep(chance.uniform(0, 1.5))  # a window takes one
            one.end(signal.SIGKILL)
            one.start()
        services.speech.delay_s = 0.0
        watching.result(120)
    assert texts_of(pair[0].stub(), job_id) == [f"word{k}" for k in range(SECONDS)]
    done = job(pair[1].stub(), job_id)
    assert done.attempts > 1
    assert [event.sequence for event in watcher.told] == list(range(1, done.last_sequence + 1))
    assert watcher.told[-1].state == jobs_pb2.JOB_STATE_SUCCEEDED


def test_services_on_different_folders_are_told_apart(
    pair: list[Sharing], server: NatsServer, services: Services, tmp_path: Path
) -> None:
    """The second would look for recordings where they are not: it does not start."""
    del pair
    (tmp_path / "three").mkdir()
    flags = ("--asr-endpoints", services.asr, "--engine", server.url)
    stranger = Sharing(tmp_path / "three", flags, shared=tmp_path / "elsewhere")
    with pytest.raises(grpc.RpcError):
        stranger.start()
    assert stranger.ended() == 1
    assert "another data folder" in (tmp_path / "three" / "log").read_text()
    stranger.close()


@pytest.mark.parametrize(
    ("module", "files", "extra"), [("nats", "folder", "fleet"), ("obstore", "s3://bucket", "s3")]
)
def test_without_its_library_an_engine_is_refused_with_what_to_install(
    tmp_path: Path, module: str, files: str, extra: str
) -> None:
    """As a wrong flag is: in one sentence, and with nothing changed."""
    code = (
        "import importlib.util as util\nfind = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {module!r} else find(name, *rest)\n"
        "from voxroute_orchestrator.jobs.service import serve\n"
        "serve(['--listen', '127.0.0.1:0', '--metrics-listen', '', '--engine', 'nats://127.0.0.1:1',"
        f" '--engine-files', {files!r}, '--data-dir', {str(tmp_path / 'data')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'voxroute-orchestrator[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_without_an_engine_nothing_of_it_is_imported() -> None:
    """Neither nats-py nor what is built on it, nor the client of a bucket."""
    code = (
        "import sys, voxroute_orchestrator.jobs.service, voxroute_orchestrator.cli.serve\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('nats', 'obstore')"
        " or 'jetstream' in n])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
