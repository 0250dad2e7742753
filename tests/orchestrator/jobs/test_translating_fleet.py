"""`voxroute worker --translate-endpoint` as processes, and whatever goes wrong around them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import ROOT, free_port
from tests.orchestrator.daemon import (
    artifact,
    config,
    job,
    messages,
    stand_in_services,
    texts_of,
    wait,
)
from tests.orchestrator.jobs.nats_server import NatsServer
from tests.orchestrator.jobs.test_two_services import _Watcher
from tests.orchestrator.jobs.test_workers import Fleet
from voxroute.jobs.v1 import jobs_pb2

SECONDS = 200
pytestmark = pytest.mark.slow  # half a minute

FILM = config(upload_name="film.wav")
LANES = 2
NOBODY_S = 2.5  # after which a worker leaves a turn that nobody waits for


@pytest.fixture(params=["folder", "server"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path, server: NatsServer) -> Iterator[Fleet]:
    """Nobody has started; the files are in a folder or on the server."""
    with ExitStack() as stack:
        direct = stack.enter_context(stand_in_services())
        yield Fleet(tmp_path, server, stack, direct, files=request.param)


def _translated(stub: Any, job_id: str, words: list[str]) -> None:
    """Asserts that each text of the film is translated, once."""
    assert texts_of(stub, job_id) == words
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    texts = [item["text"] for item in transcript["translations"]["en"]["items"]]
    assert texts == ["" if word == "word5" else f"en:{word}" for word in words]


def _called(fleet: Fleet, name: str) -> None:
    """A job service whose speech service is called, while workers translate."""
    fleet.daemon(name, "--asr-endpoints", fleet.direct.asr, translates=False)


def test_services_that_are_killed_amid_a_turn_lose_no_text(
    fleet: Fleet, film: bytes, words: list[str]
) -> None:
    """Three times another one goes on with what was kept; who watches is told each event once.

    What is translated again is what the worker was at, until it has noticed.
    """
    kills = 3
    for name in ("one", "two"):
        _called(fleet, name)
    delay_s = 0.1
    worker = fleet.worker("worker", delay_s, translates=True)
    seen = worker.services.translation.seen
    job_id = fleet.daemons[0].stub().SubmitJob(messages(FILM, film), timeout=60).job.id
    watcher = _Watcher(fleet.daemons, job_id)
    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watcher.watch)
        for attempt in range(1, kills + 1):
            known = len(seen)
            wait(lambda known=known: len(seen) > known + 20)
            (runner,) = [d for d in fleet.daemons if _begun(d.folder, attempt)]
            runner.end(signal.SIGKILL)
            runner.start()
        watching.result(120)
    for daemon in fleet.daemons:
        _translated(daemon.stub(), job_id, words)
    done = job(fleet.daemons[0].stub(), job_id)
    assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, kills + 1)
    assert [one.sequence for one in watcher.told] == list(range(1, done.last_sequence + 1))
    again = len(seen) - len(words)
    assert 0 <= again <= kills * LANES * (NOBODY_S / delay_s), again
    assert worker.end() == 0


def _begun(folder: Path, attempt: int) -> bool:
    """Whether the service in a folder has begun an attempt."""
    log = (folder / "log").read_text()
    return any(
        '"event": "job begins"' in line and f'"attempt": {attempt},' in line
        for line in log.splitlines()
    )


@dataclass
class Beside:
    """A translation service as a process, at one address."""

    folder: Path
    target: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, delay_s: float = 0.0) -> None:
        """Returns at once; it takes so long for each text."""
        code = "from tests.orchestrator.stand_in import main; main('translate')"
        own = {"STAND_IN_DIR": str(self.folder), "STAND_IN_DELAY_S": str(delay_s)}
        command = [sys.executable, "-c", code, "--listen", self.target]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own)

    def kill(self) -> None:
        """Returns once it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("lanes", [2, 6])
def test_a_translation_service_that_dies_and_comes_back_is_waited_for(
    fleet: Fleet, film: bytes, words: list[str], lanes: int
) -> None:
    """However many turns it had and had not begun: that is no reason to give the language up."""
    _called(fleet, "one")
    service = Beside(fleet.folder)
    fleet.stack.callback(service.kill)
    worker = fleet.worker("worker", 0.0, "--lanes", str(lanes), beside=service.target)
    stub = fleet.daemons[0].stub()
    job_id = stub.SubmitJob(messages(FILM, film), timeout=60).job.id
    for delay_s in (5.0, 5.0, 0.05, 0.05):
        before = worker.metrics()["translated_texts_total"]
        service.start(delay_s)
        if delay_s < 1:
            wait(lambda before=before: worker.metrics()["translated_texts_total"] > before)
        else:
            wait(lambda: worker.metrics()["spans_in_flight"] >= min(lanes, 4))
        service.kill()
        time.sleep(2)
    service.start()
    _translated(stub, job_id, words)
    assert worker.end() == 0
