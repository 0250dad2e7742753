"""Several clients of one job service, each with a token of its own."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status
from typer.testing import CliRunner

from tests.orchestrator import recordings
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    config,
    messages,
    wait,
)
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.cli.app import app

FILM = config(upload_name="film.wav")
CLIENTS = ("dubbing", "archive")


@dataclass
class Shop:
    """A service with tokens."""

    folder: Path
    daemon: Daemon
    film: Path

    def metadata(self, client: str) -> tuple[tuple[str, str], ...]:
        """What a client says who it is."""
        return (("authorization", f"Bearer {client * 4}"),)

    def submit(self, stub: Any, client: str, key: str = "") -> str:
        """The id of another job of a client."""
        sent = messages(FILM, self.film.read_bytes(), key=key)
        return stub.SubmitJob(sent, timeout=60, metadata=self.metadata(client)).job.id

    def jobs(self, stub: Any) -> list[jobs_pb2.Job]:
        """All of them, the newest first."""
        asked = jobs_pb2.ListJobsRequest()
        return list(stub.ListJobs(asked, timeout=60, metadata=self.metadata(CLIENTS[0])).jobs)

    def begun(self, stub: Any) -> list[str]:
        """The ids of the jobs in the order in which they have begun, once all have ended."""
        wait(lambda: all(one.HasField("end_time") for one in self.jobs(stub)))
        return [
            one.id
            for one in sorted(self.jobs(stub), key=lambda one: one.start_time.ToNanoseconds())
        ]


@pytest.fixture
def shop(tmp_path: Path, services: Services, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """It does one job at a time, slowly; takes more flags as its parameter."""
    services.speech.delay_s = 0.2
    tokens = tmp_path / "tokens"
    tokens.write_text("".join(f"{client}:{client * 4}\n" for client in CLIENTS))
    tokens.chmod(0o600)
    flags = (
        "--asr-endpoints", services.asr, "--translate-endpoints", services.translate,
        "--client-tokens", str(tokens), *getattr(request, "param", ()),
    )  # fmt: skip
    daemon = Daemon(tmp_path, flags)
    film = recordings.write(tmp_path / "film.wav", recordings.steps(3))
    try:
        daemon.start()
        yield Shop(tmp_path, daemon, film)
    finally:
        daemon.close()


def test_jobs_belong_to_the_client_whose_token_they_came_with(shop: Shop) -> None:
    """One that has submitted many does not hold up one with a single job."""
    stub = shop.daemon.stub()
    many = [shop.submit(stub, "dubbing") for _ in range(3)]
    one = shop.submit(stub, "archive")
    assert shop.begun(stub) == [many[0], one, many[1], many[2]]


def test_a_job_of_high_priority_goes_before_the_clients_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --priority asks for it, and the job tells."""
    stub = shop.daemon.stub()
    usual = [shop.submit(stub, "dubbing") for _ in range(3)]
    token = shop.folder / "mine"
    token.write_text("dubbing" * 4)
    token.chmod(0o600)
    monkeypatch.setenv("VOXROUTE_TOKEN_FILE", str(token))
    said = CliRunner().invoke(
        app,
        ["jobs", "submit", str(shop.film), "-s", "hi", "--priority", "high", "--server",
         shop.daemon.target],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    high = said.output.split()[-1]
    assert shop.begun(stub) == [usual[0], high, usual[1], usual[2]]
    (told,) = [job.config.priority for job in shop.jobs(stub) if job.id == high]
    assert told == jobs_pb2.JOB_PRIORITY_HIGH


@pytest.mark.parametrize("shop", [("--max-queued-per-client", "2")], indirect=True)
def test_a_client_that_has_enough_jobs_waiting_is_told_to_come_back(shop: Shop) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo; nothing of it is kept, and other clients may go on."""
    stub = shop.daemon.stub()
    jobs = [shop.submit(stub, "dubbing", key="k0")]
    wait(lambda: shop.jobs(stub)[0].state == jobs_pb2.JOB_STATE_RUNNING)
    jobs += [shop.submit(stub, "dubbing", key=f"k{number}") for number in (1, 2)]
    with pytest.raises(grpc.RpcError) as refused:
        shop.submit(stub, "dubbing", key="k3")
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 jobs of dubbing wait" in error.details()
    status: Any = rpc_status.from_call(error)
    assert "RetryInfo" in " ".join(detail.type_url for detail in status.details)
    assert shop.submit(stub, "dubbing", key="k2") == jobs[2]
    jobs.append(shop.submit(stub, "archive"))
    assert sorted(shop.begun(stub)) == sorted(jobs)
    assert {path.name for path in (shop.daemon.data / "jobs").iterdir()} == set(jobs)
    assert not list((shop.daemon.data / "uploads").iterdir())
    shop.submit(stub, "dubbing", key="k3")


def test_of_submissions_at_once_no_more_are_kept_than_may_wait(
    tmp_path: Path, services: Services
) -> None:
    """Without tokens all clients are one."""
    services.speech.delay_s = 0.3
    endpoints = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
    daemon = Daemon(tmp_path, (*endpoints, "--max-queued-per-client", "3"))
    film = recordings.write(tmp_path / "film.wav", recordings.steps(10)).read_bytes()
    try:
        daemon.start()
        stub = daemon.stub()
        stub.SubmitJob(messages(FILM, film), timeout=60)
        wait(lambda: services.speech.open_calls)

        def submit(_: int) -> grpc.StatusCode:
            call = stub.SubmitJob.future(messages(FILM, film), timeout=60)
            return call.code()

        with ThreadPoolExecutor(12) as threads:
            codes = list(threads.map(submit, range(12)))
        assert codes.count(grpc.StatusCode.OK) == 3
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 9
    finally:
        daemon.close()


@pytest.mark.parametrize("shop", [("--keep-days", "0.00002")], indirect=True)
def test_jobs_that_have_ended_long_ago_are_deleted_with_their_files(shop: Shop) -> None:
    """As a start finds them: here after two seconds. What waits or runs stays."""
    stub = shop.daemon.stub()
    old = shop.submit(stub, "dubbing")
    shop.begun(stub)
    time.sleep(2.5)
    assert [job.id for job in shop.jobs(stub)] == [old]  # it is looked for once an hour
    assert shop.daemon.end() == 0
    shop.daemon.start()
    wait(lambda: not shop.jobs(stub))
    wait(lambda: not list((shop.daemon.data / "jobs").iterdir()))  # after it is forgotten
