"""What tests of jobs share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.daemon import Daemon, config, messages, stand_in_services, texts_of
from tests.orchestrator.jobs.nats_server import Cluster, NatsServer, cluster, running


@pytest.fixture(scope="module")
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording of the module's SECONDS, which tell their number."""
    path = tmp_path_factory.mktemp("film") / "film.wav"
    return recordings.write(path, recordings.steps(request.module.SECONDS)).read_bytes()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, film: bytes) -> list[str]:
    """What one service that is called hears in it, a word in each window."""
    with stand_in_services() as services:
        flags = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
        daemon = Daemon(tmp_path_factory.mktemp("direct"), flags)
        try:
            daemon.start()
            stub = daemon.stub()
            sent = messages(config(upload_name="film.wav"), film)
            return texts_of(stub, stub.SubmitJob(sent, timeout=60).job.id)
        finally:
            daemon.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server without streams."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Cluster]:
    """Three without streams, that keep the same."""
    with cluster(tmp_path) as servers:
        yield servers


@pytest.fixture
def no_umask() -> Iterator[None]:
    """The umask that opens everything to everybody; processes inherit it."""
    before = os.umask(0)
    yield
    os.umask(before)
