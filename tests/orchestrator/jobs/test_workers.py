"""`voxroute worker` as processes, beside services of speech that only they reach."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import forking
from tests.e2e.processes import free_port
from tests.orchestrator.daemon import (
    Services,
    artifact,
    config,
    ended,
    job,
    messages,
    stand_in_services,
    texts_of,
    wait,
)
from tests.orchestrator.jobs.nats_server import Cluster, NatsServer
from tests.orchestrator.jobs.test_two_services import Sharing
from tests.orchestrator.stand_in import Break
from tests.serving.collector import collecting
from voxroute.jobs.v1 import jobs_pb2

SECONDS = 200
pytestmark = pytest.mark.slow  # a minute

FILM = config(upload_name="film.wav")


@dataclass
class WorkerProcess:
    """`voxroute worker` with a service of its own."""

    folder: Path
    server: NatsServer | Cluster
    services: Services
    name: str
    flags: tuple[str, ...] = ()
    translates: bool = False
    beside: str = ""
    """The address of a translation service in place of those."""
    address: str = ""
    process: forking.Process | None = None

    def start(self) -> None:
        """Returns at once."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
        environment |= {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        beside = ("--asr-endpoint", self.services.asr)
        if self.translates or self.beside:
            beside = ("--translate-endpoint", self.beside or self.services.translate)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = forking.start(
                "voxroute_orchestrator", "worker",
                "--engine", ",".join(self.server.servers), *beside,
                "--name", self.name, "--metrics-listen", "127.0.0.1:0", *self.flags,
                environment=environment, folder=self.folder, stderr=log,
            )  # fmt: skip

    def metrics(self) -> dict[str, float]:
        """What it tells of itself, by name and labels."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.address = self.address or json.loads(self.process.stdout.readline())["metrics"]
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        found = (line.removeprefix("voxroute_worker_").rsplit(" ", 1) for line in lines
                 if line.startswith("voxroute_worker_"))  # fmt: skip
        return {name: float(value) for name, value in found}

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@dataclass
class Fleet:
    """A job service that has workers, and some of them."""

    folder: Path
    server: NatsServer | Cluster
    stack: ExitStack
    direct: Services
    files: str = "folder"
    """Where those of the jobs are."""
    daemons: list[Sharing] = field(default_factory=list[Sharing])

    def daemon(self, name: str = "one", *flags: str, translates: bool = True) -> Sharing:
        """A service of the fleet, started; with a translation service that is called, or none."""
        (self.folder / name).mkdir()
        all_flags = (
            *(("--translate-endpoints", self.direct.translate) if translates else ()), "--workers",
            "--engine", ",".join(self.server.servers), "--engine-lease-s", "2",
            "--engine-files", self.files, *flags,
        )  # fmt: skip
        data = self.folder / ("shared" if self.files == "folder" else f"{name}/data")
        self.daemons.append(Sharing(self.folder / name, all_flags, shared=data))
        self.stack.callback(self.daemons[-1].close)
        self.daemons[-1].start()
        return self.daemons[-1]

    def worker(
        self,
        name: str,
        delay_s: float = 0.0,
        *flags: str,
        translates: bool = False,
        beside: str = "",
    ) -> WorkerProcess:
        """A worker, started, with a service that takes so long for a window or a text."""
        services = self.stack.enter_context(stand_in_services())
        services.speech.delay_s = services.translation.delay_s = delay_s
        worker = WorkerProcess(self.folder, self.server, services, name, flags, translates, beside)
        worker.start()

        def close() -> None:
            assert worker.process is not None
            if worker.process.poll() is None:
                worker.end(signal.SIGKILL)

        self.stack.callback(close)
        return worker


@pytest.fixture
def fleet(tmp_path: Path, server: NatsServer) -> Iterator[Fleet]:
    """Neither has started."""
    with ExitStack() as stack:
        yield Fleet(tmp_path, server, stack, stack.enter_context(stand_in_services()))


def _endpoints(stub: Any, job_id: str) -> list[str]:
    report = json.loads(artifact(stub, job_id, "film.run.json"))
    return sorted(report["recognition"]["endpoints"])


def _submitted(stub: Any, film: bytes) -> str:
    return stub.SubmitJob(messages(FILM, film), timeout=60).job.id


def test_a_worker_alone_does_a_job(fleet: Fleet, film: bytes, words: list[str]) -> None:
    """The service that has the job starts none of its own, and calls none."""
    stub = fleet.daemon().stub()
    job_id = _submitted(stub, film)
    worker = fleet.worker("alone")
    assert texts_of(stub, job_id) == words
    assert _endpoints(stub, job_id) == ["alone"]
    assert worker.services.speech.decoded == len(words)
    assert worker.end() == 0


async def test_a_job_is_one_trace_through_its_workers(
    fleet: Fleet, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below it the calls that workers fetch, and below each of those the call that one makes."""

    def work() -> None:
        stub = fleet.daemon("one", "--tracing").stub()
        worker = fleet.worker("alone", 0.0, "--tracing")
        done = ended(stub, _submitted(stub, film))
        assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
        assert worker.end() == fleet.daemons[0].end() == 0

    async with collecting() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        await asyncio.to_thread(work)
    [whole] = collector.named("job", "voxroute-jobs")
    method = "voxroute.asr.v1.AsrService/Transcribe"
    fetched = collector.named(method, "voxroute-jobs")
    assert len(fetched) > 1
    assert {one.parent_id for one in fetched} == {whole.span_id}
    made = collector.named(method, "voxroute-worker")
    assert sorted(one.span_id for one in fetched) == sorted(one.parent_id for one in made)
    for one in (*fetched, *made):
        assert (one.trace_id, one.kind) == (whole.trace_id, "client")
        assert one.attributes["rpc.response.status_code"] == "OK"


def test_what_workers_do_not_do_is_told(fleet: Fleet, film: bytes, words: list[str]) -> None:
    """Aligning and telling speakers apart; the text is there without."""
    stub = fleet.daemon().stub()
    fleet.worker("alone")
    asked = config(upload_name="film.wav", align=True, speakers=True)
    job_id = stub.SubmitJob(messages(asked, film), timeout=60).job.id
    assert texts_of(stub, job_id) == words
    told = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id), timeout=60)
    warnings = " ".join(event.warning.message for event in told)
    assert "tells speakers apart" in warnings
    assert "has an aligner" in warnings


def test_workers_share_a_film_with_a_service_that_is_called(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """Each does a part; the text is that of one."""
    fleet.direct.speech.delay_s = 0.05
    workers = [fleet.worker(f"worker{n}", 0.05) for n in range(2)]
    time.sleep(3)  # they look for work
    stub = fleet.daemon("one", "--asr-endpoints", fleet.direct.asr).stub()
    job_id = _submitted(stub, film)
    assert texts_of(stub, job_id) == words
    shares = [one.speech.decoded for one in (fleet.direct, *(w.services for w in workers))]
    assert sum(shares) == len(words)
    assert min(shares[0], shares[1] + shares[2]) > 0, shares


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_ends_costs_at_most_the_windows_under_way(
    fleet: Fleet, film: bytes, words: list[str], number: int
) -> None:
    """One in each lane where it was killed; where it was told to end, it finishes that one."""
    stub = fleet.daemon().stub()
    job_id = _submitted(stub, film)
    first = fleet.worker("first", 0.2)
    wait(lambda: first.services.speech.decoded > 10)
    lanes = first.services.speech.open_calls
    assert first.end(number) == (0 if number == signal.SIGTERM else -number)
    second = fleet.worker("second")
    assert texts_of(stub, job_id) == words
    again = first.services.speech.decoded + second.services.speech.decoded - len(words)
    assert again <= lanes
    if number == signal.SIGTERM:
        assert not first.services.speech.open_calls


def test_a_job_whose_service_is_killed_goes_on_with_the_same_workers(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """They stop by themselves, and are given the rest by the service that has the job then."""
    one = fleet.daemon()
    two = fleet.daemon("two")
    job_id = _submitted(one.stub(), film)
    worker = fleet.worker("worker", 0.2)
    speech = worker.services.speech
    wait(lambda: speech.decoded > 10)
    (runner,) = [d for d in (one, two) if "job begins" in (d.folder / "log").read_text()]
    other = two if runner is one else one
    lanes = speech.open_calls
    runner.end(signal.SIGKILL)
    wait(lambda: not speech.open_calls)
    assert texts_of(other.stub(), job_id) == words
    assert job(other.stub(), job_id).attempts == 2
    wasted = speech.decoded - len(words)
    assert wasted <= lanes * (1 + 1.2 / 0.2), wasted  # a second without anybody who answers


def test_workers_leave_a_service_that_hangs(fleet: Fleet, film: bytes, words: list[str]) -> None:
    """Stopped for longer than its lease; what it hands out when it wakes up changes nothing."""
    one = fleet.daemon()
    two = fleet.daemon("two")
    job_id = _submitted(one.stub(), film)
    worker = fleet.worker("worker", 0.1)
    wait(lambda: worker.services.speech.decoded > 10)
    (runner,) = [d for d in (one, two) if "job begins" in (d.folder / "log").read_text()]
    other = two if runner is one else one
    assert runner.process is not None
    runner.process.send_signal(signal.SIGSTOP)
    wait(lambda: job(other.stub(), job_id).attempts == 2)
    time.sleep(3)
    runner.process.send_signal(signal.SIGCONT)
    assert texts_of(other.stub(), job_id) == words
    assert texts_of(runner.stub(), job_id) == words
    assert job(other.stub(), job_id).attempts == 2


def test_a_span_that_no_worker_can_do_fails_the_job(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """After three tries without a new window, with where it is and why."""
    stub = fleet.daemon().stub()
    worker = fleet.worker("worker")
    worker.services.speech.breaks = [Break(5, message="the engine is gone")] + [
        Break(0, message="the engine is gone") for _ in range(20)
    ]
    job_id = _submitted(stub, film)
    done = ended(stub, job_id)
    assert done.state == jobs_pb2.JOB_STATE_FAILED
    assert re.search(r"cannot be transcribed at \d:\d\d \(of \d:\d\d to \d:\d\d\)", done.error)
    assert "3 times in turn a worker gave it up" in done.error
    assert "the engine is gone" in done.error
    worker.services.speech.breaks = []
    stub.ResumeJob(jobs_pb2.ResumeJobRequest(job_id=job_id), timeout=60)
    assert texts_of(stub, job_id) == words


def test_a_job_that_names_a_model_is_for_workers_that_have_it(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """Under the name that their services tell; another one's waits for its own."""
    stub = fleet.daemon("one", "--max-jobs", "2").stub()
    other = config(upload_name="film.wav", asr_model="other")
    waiting = stub.SubmitJob(messages(other, film), timeout=60).job.id
    worker = fleet.worker("worker")
    named = config(upload_name="film.wav", asr_model="steps")
    job_id = stub.SubmitJob(messages(named, film), timeout=60).job.id
    assert texts_of(stub, job_id) == words
    assert {one.model for one in worker.services.speech.configs} == {"steps"}
    assert job(stub, waiting).state == jobs_pb2.JOB_STATE_RUNNING
    stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=waiting), timeout=60)
    assert job(stub, waiting).state == jobs_pb2.JOB_STATE_CANCELLED


def test_the_language_is_settled_before_workers_share_a_film(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """The first span tells it, and every other call names it."""
    workers = [fleet.worker(f"worker{n}") for n in range(2)]
    stub = fleet.daemon().stub()
    unknown = jobs_pb2.JobConfig(upload_name="film.wav")
    job_id = stub.SubmitJob(messages(unknown, film), timeout=60).job.id
    assert texts_of(stub, job_id) == words
    calls = [one for worker in workers for one in worker.services.speech.configs]
    assert len(calls) > 2
    assert [one.audio.start_offset.seconds for one in calls if not one.language] == [0]


def test_a_server_that_is_killed_costs_at_most_the_windows_under_way(
    fleet: Fleet, server: NatsServer, film: bytes, words: list[str]
) -> None:
    """Worker and service wait for it, with what is finished, and go on."""
    stub = fleet.daemon().stub()
    job_id = _submitted(stub, film)
    worker = fleet.worker("worker", 0.1)
    wait(lambda: worker.services.speech.decoded > 10)
    lanes = worker.services.speech.open_calls
    server.end(signal.SIGKILL)
    time.sleep(3)
    server.start()
    assert texts_of(stub, job_id) == words
    assert 0 <= worker.services.speech.decoded - len(words) <= lanes


def test_metrics_tell_what_a_worker_does(
    fleet: Fleet, server: NatsServer, film: bytes, words: list[str]
) -> None:
    """Connected or not, spans by how they ended, and the seconds that were decoded."""
    stub = fleet.daemon().stub()
    job_id = _submitted(stub, film)
    worker = fleet.worker("worker", 0.05)
    wait(lambda: worker.services.speech.decoded > 10)
    told = worker.metrics()
    assert (told["connected"], told["service_up"]) == (1, 1)
    assert told["spans_in_flight"] == worker.services.speech.open_calls == told["lanes"]
    assert texts_of(stub, job_id) == words
    wait(lambda: worker.metrics()["spans_in_flight"] == 0)
    told = worker.metrics()
    assert told["decoded_seconds_total"] == SECONDS
    assert told['spans_total{outcome="done"}'] > 1
    assert told['spans_total{outcome="failed"}'] == 0
    worker.services.speech.breaks = [Break(5, message="the engine is gone")]
    assert texts_of(stub, _submitted(stub, film)) == words
    assert worker.metrics()['spans_total{outcome="failed"}'] == 1
    server.end()
    wait(lambda: worker.metrics()["connected"] == 0)
    server.start()
    wait(lambda: worker.metrics()["connected"] == 1)


def test_an_idle_worker_asks_its_service_seldom_and_notices_at_once_that_it_goes(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """The service tells by its health; what it can do is asked when it comes, and once a minute."""
    stub = fleet.daemon().stub()
    with stand_in_services() as services:
        worker = WorkerProcess(fleet.folder, fleet.server, services, "worker")
        worker.start()
        fleet.stack.callback(lambda: worker.end(signal.SIGKILL))
        wait(lambda: worker.metrics()["service_up"])
        time.sleep(5)
        assert services.speech.asked == 1
        stopping = time.monotonic()
    wait(lambda: not worker.metrics()["service_up"])
    assert time.monotonic() - stopping < 3
    job_id = _submitted(stub, film)
    time.sleep(2)
    with stand_in_services(asr_address=services.asr) as again:
        assert texts_of(stub, job_id) == words
        assert again.speech.decoded == len(words)
        assert worker.end() == 0


def _translations(stub: Any, job_id: str) -> list[dict[str, Any]]:
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    return transcript["translations"]["en"]["items"]


def test_workers_alone_recognise_and_translate_a_film(fleet: Fleet, film: bytes) -> None:
    """One beside each service; the one that translates is killed, and the next does the rest."""
    called = fleet.daemon("called", "--asr-endpoints", fleet.direct.asr)
    job_id = _submitted(called.stub(), film)
    ended(called.stub(), job_id)
    expected = _translations(called.stub(), job_id)
    called.end()
    speech = fleet.worker("speech")
    first = fleet.worker("first", 0.1, translates=True)
    stub = fleet.daemon(translates=False).stub()
    job_id = _submitted(stub, film)
    wait(lambda: len(first.services.translation.seen) > 20)
    shown = json.loads(_shown("--engine", fleet.server.servers[0], "--json").stdout)
    [there] = [one for one in shown["workers"] if one["translates"]]
    assert (there["name"], there["pairs"], there["models"]) == (
        "first",
        ["hi-en", "hi-ta"],
        ["steps"],
    )
    assert {(one["job"], one["pair"]) for one in there["doing"]} == {(job_id, "hi-en")}
    lines = _shown("--engine", fleet.server.servers[0]).stdout
    assert f"{job_id} hi-en, " in lines
    assert "hi-en hi-ta" in lines
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = fleet.worker("second", translates=True)
    assert len(texts_of(stub, job_id)) == len(expected)
    assert _translations(stub, job_id) == expected
    lanes = 2
    again = [*first.services.translation.seen, *second.services.translation.seen]
    assert 0 <= len(again) - len(expected) <= lanes
    assert speech.services.speech.decoded == len(expected)
    assert second.end() == speech.end() == 0


def _shown(*flags: str) -> subprocess.CompletedProcess[str]:
    """What `voxroute fleet` says."""
    command = [sys.executable, "-m", "voxroute_orchestrator", "fleet", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_fleet_is_shown_with_what_each_does(fleet: Fleet, film: bytes, words: list[str]) -> None:
    """Servers, services, workers and what waits; who has gone is not there."""
    empty = _shown("--engine", fleet.server.servers[0], "--json")
    assert empty.returncode == 0, empty.stderr
    assert json.loads(empty.stdout)["job_services"] == []
    stub = fleet.daemon().stub()
    job_id = _submitted(stub, film)
    waiting = _submitted(stub, film)
    worker = fleet.worker("near", 0.2)
    wait(lambda: worker.services.speech.decoded > 2)
    time.sleep(6)  # the services measure every five seconds
    shown = json.loads(_shown("--engine", fleet.server.servers[0], "--json").stdout)
    (server,) = shown["servers"]
    assert server["reachable"]
    assert server["leads"] == ["VR_JOBS", "VR_JOURNAL", "VR_SPANS"]
    (service,) = shown["job_services"]
    assert service["doing"] == [{"job": job_id, "attempt": 1}]
    (there,) = shown["workers"]
    assert (there["name"], there["models"], there["lanes"]) == ("near", ["steps"], 2)
    assert {one["job"] for one in there["doing"]} == {job_id}
    assert shown["jobs"] == {"queued": 1, "running": 1}
    assert shown["oldest_s"] > 1
    assert shown["leases"]["held"] == 1
    lines = _shown("--engine", fleet.server.servers[0]).stdout
    assert f"{job_id} (attempt 1)" in lines
    assert "jobs: 1 queued, 1 running" in lines
    stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=waiting), timeout=60)
    worker.services.speech.delay_s = 0.0
    assert texts_of(stub, job_id) == words
    worker.end()
    assert json.loads(_shown("--engine", fleet.server.servers[0], "--json").stdout)["workers"] == []


def test_a_fleet_whose_server_is_away_is_told_in_a_sentence(fleet: Fleet) -> None:
    """With the exit code of a service that is unavailable, also where another one answers."""
    gone = f"nats://127.0.0.1:{free_port()}"
    shown = _shown("--engine", gone)
    assert shown.returncode == 4
    assert shown.stderr.count("\n") == 1
    assert f"no NATS server answers at {gone}" in shown.stderr
    half = _shown("--engine", f"{fleet.server.servers[0]},{gone}")
    assert half.returncode == 4
    assert f"not reachable: {gone}" in half.stderr
    assert "not reachable" in half.stdout
