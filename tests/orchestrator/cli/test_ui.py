"""`voxroute ui`: what it starts, and that all of it ends with it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from tests.orchestrator.daemon import wait


@contextmanager
def _started(folder: Path, *flags: str) -> Generator["tuple[subprocess.Popen[str], str]"]:
    """The command, and where it says that the page is."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "voxroute_orchestrator", "ui", "--no-browser", "--offline",
         "--data-dir", str(folder / "data"), *flags],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder,
        env=clean | {"HOME": str(folder), "VOXROUTE_LOCAL_IDLE_S": "0"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            if found is not None:
                yield process, found[0]
                return
        raise AssertionError(said)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_the_page_and_ends_what_it_has_started(number: int, tmp_path: Path) -> None:
    """A job service and the gateway, on this host alone."""
    with _started(tmp_path, "--port", "0") as (process, url):
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) == 2
        for one in started:
            listening = [c for c in one.net_connections() if c.status == psutil.CONN_LISTEN]
            assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {"127.0.0.1"}
        assert "voxroute" in httpx.get(url).text
        assert httpx.get(f"{url}api/jobs").json()["jobs"] == []
        by_another_name = httpx.get(f"{url}api/jobs", headers={"Host": "evil.example"})
        assert by_another_name.status_code == 403
        process.send_signal(number)
        assert process.wait(60) == 0
        wait(lambda: not any(one.is_running() for one in started), 10)


def test_nothing_stays_where_it_is_killed(tmp_path: Path) -> None:
    """Its processes end with it."""
    with _started(tmp_path, "--port", "0") as (process, _):
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        wait(lambda: not any(one.is_running() for one in started), 30)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """One that was asked for; where none is named, another one is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(AssertionError, match="another process") as failed,
            _started(tmp_path, "--port", str(port)),
        ):
            pass
    assert "the gateway did not start" in str(failed.value)
