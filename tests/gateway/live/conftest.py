"""A speech service that tells how many live streams it has, and a gateway before it."""

import contextlib
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway


@dataclass(frozen=True)
class LiveService:
    """A running service."""

    service: processes.Service
    metrics: str

    @property
    def target(self) -> str:
        """Where it listens."""
        return self.service.target

    def streams(self) -> int:
        """Live streams that are open."""
        text = httpx.get(self.metrics).text
        [line] = [one for one in text.splitlines() if one.startswith("voxroute_asr_live_streams ")]
        return int(float(line.rpartition(" ")[2]))

    def wait_until(self, n_streams: int, within_s: float = 10.0) -> None:
        """Returns once it has so many. Raises AssertionError where it does not come to that."""
        until = time.monotonic() + within_s
        while (there := self.streams()) != n_streams:
            assert time.monotonic() < until, f"{there} streams instead of {n_streams}"
            time.sleep(0.05)


@contextlib.contextmanager
def live_service() -> Generator[LiveService]:
    """A service with the bundled model."""
    address = f"127.0.0.1:{processes.free_port()}"
    with processes.asr_service("--metrics-listen", address) as running:
        yield LiveService(running, f"http://{address}/metrics")


@pytest.fixture(scope="session")
def asr() -> Iterator[LiveService]:
    """One for all tests here."""
    with live_service() as running:
        yield running


@pytest.fixture(scope="session")
def live(asr: LiveService) -> Iterator[Gateway]:
    """A gateway in front of it."""
    with gateway("--asr-endpoint", asr.target) as running:
        yield running
