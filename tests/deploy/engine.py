"""A container engine of the tests' own, and compose on it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import ROOT

BASE_IMAGE = "voxroute-base:test"
CA = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Engine:
    """A docker client and the address of the engine that it talks to."""

    client: str
    host: str

    def __call__(self, *arguments: str, timeout_s: float = 300) -> str:
        """What the client says; fails with it where it fails."""
        return self.run([self.client, *arguments], timeout_s=timeout_s)

    def run(
        self, command: list[str], *, timeout_s: float = 300, more: Mapping[str, str] | None = None
    ) -> str:
        """What a command that talks to the engine says; fails with it where it fails."""
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env={**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1", **(more or {})},
        )
        assert done.returncode == 0, f"{' '.join(command[:3])}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def build(self, service: str, tag: str) -> None:
        """Builds the image of a service on the tests' own base."""
        secret = ["--secret", f"id=ca,src={CA}"] if CA.exists() else []
        self(
            *("build", "--network", "host", *secret),
            *("--build-arg", f"BASE_IMAGE={BASE_IMAGE}", "--build-arg", f"SERVICE={service}"),
            *("-f", str(ROOT / "deploy/docker/Dockerfile"), "-t", tag, str(ROOT)),
            timeout_s=1800,
        )


def docker_client() -> str | None:
    """A docker client that can build with BuildKit."""
    for folder in os.get_exec_path():
        path = shutil.which("docker", path=folder)
        if path is None:
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        buildx = subprocess.run([path, "buildx", "version"], capture_output=True, check=False)
        if " 20." in version.stdout or not buildx.returncode:
            return path
    return None


def compose_command() -> list[str] | None:
    """Compose: docker's plugin, or the older program of its own."""
    client = shutil.which("docker")
    if client is not None:
        plugin = [client, "compose"]
        if not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
            return plugin
    program = shutil.which("docker-compose")
    return None if program is None else [program]


def wait(condition: Callable[[], object], within_s: float, what: Callable[[], str]) -> None:
    """Returns once the condition holds; fails with what `what` says."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(1)
