"""A real server of S3 for tests, SeaweedFS, on free ports: the files of jobs in a bucket."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts.s3_server import BUCKET, PORTS, SECRET, SERVER, command, serves
from tests.e2e.processes import free_port


def variables(user: str = "writer", secret: str = SECRET) -> dict[str, str]:
    """Who a service is there, in the environment."""
    return {
        "AWS_ACCESS_KEY_ID": user,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",  # nobody asks AWS's own machines
    }


@dataclass
class S3Server:
    """It; may be killed and started again, with what it has kept."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    def url(self, prefix: str, bucket: str = BUCKET) -> str:
        """As a service is told it."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}"

    def start(self) -> None:
        """Returns once it has the bucket."""
        with (self.folder / "s3.log").open("ab") as log:
            self.process = subprocess.Popen(
                command(self.folder, self.ports), stdout=log, stderr=log, cwd=self.folder
            )
        until = time.monotonic() + 60
        while not serves(self.ports):
            log = (self.folder / "s3.log").read_text()
            assert self.process.poll() is None, log
            assert time.monotonic() < until, log
            time.sleep(0.05)

    def end(self, number: int = signal.SIGKILL) -> None:
        """Sends the signal; returns once it is gone."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(60)

    def close(self) -> None:
        """Ends it whatever happened, and removes what it has kept."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.end()
        shutil.rmtree(self.folder / "data", ignore_errors=True)


@contextlib.contextmanager
def s3_running(folder: Path) -> Generator[S3Server]:
    """A server with an empty bucket; skips where there is no program."""
    if not SERVER.is_file():
        pytest.skip(f"there is no server of S3 at {SERVER}; `make s3-server` fetches one")
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


def without_aws(monkeypatch: pytest.MonkeyPatch, home: Path, **named: str) -> None:
    """Has this process know nothing of AWS but what is named."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name, value in named.items():
        monkeypatch.setenv(name, value)
