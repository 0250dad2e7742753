"""Real nats-servers for a test, on free ports, each with a folder of its own: one, or a cluster."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scripts.nats_server import NEWEST, SERVER
from tests.e2e.processes import free_port

VARIABLE = "VOXROUTE_NATS_SERVER"


def nats_server() -> Path:
    """The program; skips where there is none."""
    named = os.environ.get(VARIABLE, "")
    found = Path(named) if named else SERVER
    if not found.is_file():
        pytest.skip(f"there is no nats-server at {found}; `make nats-server` fetches one")
    return found


def newest_server() -> Path:
    """The newest program; skips where there is none."""
    if not NEWEST.is_file():
        pytest.skip(f"there is no nats-server at {NEWEST}; `make nats-server` fetches one")
    return NEWEST


@dataclass
class NatsServer:
    """One of them; may be killed and started again, with what it has kept."""

    folder: Path
    config: str = ""
    """More lines of its configuration."""
    host: str = "127.0.0.1"
    program: Path = field(default_factory=nats_server)
    port: int = field(default_factory=free_port)
    monitor: int = field(default_factory=free_port)
    scheme: str = "nats"
    before: Sequence[str] = ()
    """The command that starts it elsewhere, as in a network of its own."""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def servers(self) -> list[str]:
        """Where all that belong together are."""
        return [self.url]

    def start(self) -> None:
        """Returns once it answers."""
        self.launch()
        self.wait(self._listens)

    def launch(self) -> None:
        """Starts the process."""
        config = self.folder / "nats.conf"
        store = f'store_dir: "{self.folder}", sync_interval: always'
        config.write_text(f"jetstream {{ {store} }}\n{self.config}\n", encoding="utf-8")
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.before, str(self.program), "-c", str(config), "-a", self.host,
                    "-p", str(self.port), "-m", str(self.monitor),
                ],
                stdout=log, stderr=log,
            )  # fmt: skip

    def wait(self, condition: Callable[[], bool]) -> None:
        """Returns once the condition holds; fails with its log where it ends before."""
        until = time.monotonic() + 30
        while not condition():
            log = (self.folder / "nats.log").read_text()
            assert self.process is not None, log
            assert self.process.poll() is None, log
            assert time.monotonic() < until, log
            time.sleep(0.02)

    def _listens(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as connection:
                return connection.recv(4) == b"INFO"
        except OSError:
            return False

    def told(self, path: str) -> Any:
        """What its monitoring port says; None where it does not."""
        url = f"http://{self.host}:{self.monitor}{path}"
        code = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=2).read().decode())"
        command = [*self.before, sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

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
def running(folder: Path, config: str = "", program: Path | None = None) -> Generator[NatsServer]:
    """A server without streams, by default the usual one; skips where there is no program."""
    server = NatsServer(folder, config, program=program or nats_server())
    try:
        server.start()
        yield server
    finally:
        server.close()


@dataclass
class Cluster:
    """Three servers that keep the same."""

    members: list[NatsServer]

    @property
    def servers(self) -> list[str]:
        """Where they are."""
        return [one.url for one in self.members]

    def start(self) -> None:
        """Returns once they have found each other, and have a leader."""
        for one in self.members:
            one.launch()
        for one in self.members:
            one.wait(lambda one=one: one.told("/healthz") is not None)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends the signal to all; returns once they are gone."""
        for one in self.members:
            assert one.process is not None
            one.process.send_signal(number)
        for one in self.members:
            assert one.process is not None
            one.process.wait(30)

    def are_all(self) -> bool:
        """Whether each knows of all: of a first start at once 2.10.27 may count two for good."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            metas = [(one.told("/jsz") or {}).get("meta_cluster", {}) for one in self.members]
            if any(meta.get("cluster_size") == len(metas) for meta in metas):
                return True
        return False

    def leader(self, stream: str) -> NatsServer:
        """The one that takes what is written to a stream."""
        until = time.monotonic() + 30
        while True:
            for one in self.members:
                told = one.told("/jsz?accounts=true&streams=true") or {}
                for account in told.get("account_details", ()):
                    for detail in account.get("stream_detail", ()):
                        name = detail.get("cluster", {}).get("leader")
                        if detail["name"] == stream and name:
                            return self.members[int(name.removeprefix("s"))]
            assert time.monotonic() < until, f"nobody leads {stream}"
            time.sleep(0.1)

    def close(self) -> None:
        """Ends them whatever happened."""
        for one in self.members:
            one.close()


@contextlib.contextmanager
def cluster(
    folder: Path,
    config: str = "",
    hosts: Sequence[str] = ("127.0.0.1",) * 3,
    befores: Sequence[Sequence[str]] = ((),) * 3,
    program: Path | None = None,
) -> Generator[Cluster]:
    """Three servers without streams, on those hosts; skips where there is no program."""
    program = program or nats_server()
    ports = [free_port() for _ in hosts]
    routes = ", ".join(f"nats://{host}:{port}" for host, port in zip(hosts, ports, strict=True))
    members: list[NatsServer] = []
    for number, (host, port) in enumerate(zip(hosts, ports, strict=True)):
        own = folder / f"server{number}"
        own.mkdir()
        lines = (
            f"server_name: s{number}\n"
            f"cluster {{ name: voxroute, listen: {host}:{port}, routes: [{routes}] }}\n{config}"
        )
        members.append(NatsServer(own, lines, host=host, program=program, before=befores[number]))
    servers = Cluster(members)
    try:
        servers.start()
        while not servers.are_all():
            servers.close()
            servers.start()
        yield servers
    finally:
        servers.close()
