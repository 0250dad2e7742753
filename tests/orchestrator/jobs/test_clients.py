"""Several clients of one job service, each with a token of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.orchestrator import recordings
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    config,
    messages,
    stand_in_services,
    wait,
)
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.cli.app import app

FILM = config(upload_name="film.wav")
CLIENTS = ("dubbing", "archive")


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """The stand-ins that all jobs here use."""
    with stand_in_services() as running:
        yield running


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
