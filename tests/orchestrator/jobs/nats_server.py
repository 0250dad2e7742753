"""A real nats-server for a test, on a free port of loopback, with a folder of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.nats_server import SERVER
from tests.e2e.processes import free_port

VARIABLE = "VOXROUTE_NATS_SERVER"


def nats_server() -> Path:
    """The program; skips where there is none."""
    named = os.environ.get(VARIABLE, "")
    found = Path(named) if named else SERVER
    if not found.is_file():
        pytest.skip(f"there is no nats-server at {found}; `make nats-server` fetches one")
    return found


@dataclass
class NatsServer:
    """One of them; may be killed and started again, with what it has kept."""

    folder: Path
    config: str = ""
    """More lines of its configuration."""
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns once it answers."""
        config = self.folder / "nats.conf"
        store = f'store_dir: "{self.folder}", sync_interval: always'
        config.write_text(f"jetstream {{ {store} }}\n{self.config}\n", encoding="utf-8")
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(nats_server()), "-c", str(config), "-a", "127.0.0.1", "-p", str(self.port),
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        until = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, (self.folder / "nats.log").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    if connection.recv(4) == b"INFO":
                        return
            except OSError:
                assert time.monotonic() < until, (self.folder / "nats.log").read_text()
                time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends the signal; returns once it is gone."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)

    def close(self) -> None:
        """Ends it whatever happened, and removes what it has kept."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        shutil.rmtree(self.folder / "jetstream", ignore_errors=True)


@contextlib.contextmanager
def running(folder: Path, config: str = "") -> Generator[NatsServer]:
    """A server without streams; skips where there is no program."""
    nats_server()
    server = NatsServer(folder, config)
    try:
        server.start()
        yield server
    finally:
        server.close()
