"""Three services restarted one after the other while a job service works with all of them."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e import processes
from tests.e2e.members import Member
from tests.orchestrator import recordings as media
from tests.orchestrator.daemon import Daemon, artifact, config, ended, messages, wait
from tests.serving import fake_service, recordings
from voxroute.jobs.v1 import jobs_pb2

BATCH_S = 0.3  # of the speech services' imaginary device
AT_ONCE = 3
JOB_S = 600  # of recording in a job: spans for all lanes of both speech services
FILM = config(upload_name="film.wav")

pytestmark = [
    pytest.mark.slow,  # real services, each started twice
    pytest.mark.timeout(900),
]


@dataclass
class Fleet:
    """Two speech services, one for translation, and the job service that uses them."""

    members: list[Member]
    daemon: Daemon


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Sentences with pauses between them, each with a pitch of its own."""
    parts: list[Any] = []
    for seed in range(JOB_S // 6):
        parts += [recordings.speech(4.5, seed), recordings.silence(1.5)]
    samples = (np.concatenate(parts) * 32767).astype(np.int16)
    return media.write(tmp_path_factory.mktemp("film") / "film.wav", samples).read_bytes()


@pytest.fixture(params=["20", "0.5"], ids=["drained", "cut"])
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A fleet that serves; a drain that is long enough, and one that cuts every open call."""
    drain = ("--drain-s", request.param)
    members = [
        Member(
            fake_service.__name__,
            f"127.0.0.1:{processes.free_port()}",
            tmp_path / f"speech{number}.log",
            drain,
            environment={"FAKE_BATCH_S": str(BATCH_S)},
        )
        for number in range(2)
    ]
    translation = ("--models", str(processes.TRANSLATE_MODEL), "--device", "cpu", *drain)
    members.append(
        Member(
            "voxroute_translate",
            f"127.0.0.1:{processes.free_port()}",
            tmp_path / "translation.log",
            translation,
        )
    )
    speech = ",".join(member.address for member in members[:2])
    flags = ("--asr-endpoints", speech, "--translate-endpoints", members[2].address)
    daemon = Daemon(tmp_path, (*flags, "--max-jobs", str(AT_ONCE)))
    try:
        for member in members:
            member.begin()
        for member in members:
            member.ready()
        daemon.start()
        yield Fleet(members, daemon)
    finally:
        daemon.close()
        for member in members:
            member.close()


def _results(stub: Any, job_id: str) -> tuple[bytes, bytes, Any, Any]:
    """The subtitles, and of the transcript what no circumstance may change."""
    transcript = json.loads(artifact(stub, job_id, "film.transcript.json"))
    assert transcript["complete"]
    return (
        artifact(stub, job_id, "film.hi.srt"),
        artifact(stub, job_id, "film.en.srt"),
        transcript["segments"],
        transcript["translations"]["en"]["items"],
    )


def _one_job(stub: Any, film: bytes) -> jobs_pb2.Job:
    submitted = stub.SubmitJob(messages(FILM, film), timeout=60).job
    return ended(stub, submitted.id)


def test_a_rolling_restart_under_load_fails_no_job(fleet: Fleet, film: bytes) -> None:
    """Each service exits with 0 and comes back; every job succeeds with the undisturbed result."""
    stub = fleet.daemon.stub()
    undisturbed = _one_job(stub, film)
    assert undisturbed.state == jobs_pb2.JOB_STATE_SUCCEEDED, undisturbed.error
    expected = _results(stub, undisturbed.id)
    over = threading.Event()

    def job_after_job() -> list[jobs_pb2.Job]:
        done: list[jobs_pb2.Job] = []
        while not over.is_set():
            done.append(_one_job(stub, film))
        return done

    with ThreadPoolExecutor(AT_ONCE) as threads:
        loads = [threads.submit(job_after_job) for _ in range(AT_ONCE)]
        try:
            for member in fleet.members:
                wait(lambda member=member: member.open_calls() > 0)
                assert member.end() == 0, member.log.read_text()
                member.begin()
                member.ready()
        finally:
            over.set()
        jobs = [job for load in loads for job in load.result()]
    assert len(jobs) >= AT_ONCE
    failed = [job.error for job in jobs if job.state != jobs_pb2.JOB_STATE_SUCCEEDED]
    assert failed == []
    for job in jobs:
        assert _results(stub, job.id) == expected
