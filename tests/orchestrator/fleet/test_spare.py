"""The process that imports a service's libraries while the command finds out what it needs."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.orchestrator.fleet.test_warm_services import (
    SPEECH,
    Place,
    _lives,
    _serves,
    _until_gone,
    place,
)
from voxroute_orchestrator.errors import LocalServiceError
from voxroute_orchestrator.fleet import spare
from voxroute_orchestrator.fleet import warm as warm_services

__all__ = ["place"]  # the fixture of the services that stay


@pytest.fixture
def film(tmp_path: Path) -> str:
    """A file, which is all that `begin` asks of a recording."""
    path = tmp_path / "film.wav"
    path.touch()
    return str(path)


@pytest.fixture(autouse=True)
def none_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command has the variables that its services have; no process waits after a test."""
    for name in ("PYTHONPATH", "STAND_IN_DIR"):
        monkeypatch.setenv(name, place.environment[name])
    yield
    spare.dismiss()


def _begun(place: Place, film: str) -> "subprocess.Popen[bytes]":
    """The process that waits, with the variables that the services of the place will have."""
    place.environment = dict(os.environ)  # pytest has one that tells the phase of the test
    spare.begin(["run", film])
    [process] = _waiting()
    return process


def _waiting() -> "list[subprocess.Popen[bytes]]":
    return [one.process for one in spare._spares]


# --- when there is one


def test_a_command_that_is_likely_to_start_a_service_has_one(film: str) -> None:
    """Wherever its flags stand."""
    for arguments in (["run", film], ["--local-idle-s", "0", "transcribe", "-s", "en", film]):
        spare.begin(arguments)
        [process] = _waiting()
        assert process.poll() is None
        spare.dismiss()
        assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize(
    "more", [["--asr-endpoint", "x:1"], ["--asr-endpoint=x:1"], ["--help"], ["--backend", "mlx"]]
)
def test_one_that_has_its_service_or_needs_none_has_not(film: str, more: list[str]) -> None:
    """A process that imports is a second of a processor."""
    spare.begin(["run", film, *more])
    assert not _waiting()


def test_nor_has_one_without_a_recording_or_with_other_settings(
    film: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A path that is not there, services in a variable, a settings file that may name some."""
    spare.begin(["run", str(tmp_path / "none.wav")])
    spare.begin(["translate", film])
    monkeypatch.setenv("VOXROUTE_ASR_ENDPOINTS", "x:1")
    spare.begin(["run", film])
    monkeypatch.delenv("VOXROUTE_ASR_ENDPOINTS")
    (tmp_path / "voxroute.yaml").touch()
    monkeypatch.chdir(tmp_path)
    spare.begin(["run", film])
    assert not _waiting()


# --- what becomes of it


async def test_it_becomes_the_service_and_the_next_command_finds_that(
    place: Place, film: str
) -> None:
    """The same process, in its place, with its variables and its log; a warm one needs no other."""
    process = _begun(place, film)
    async with place.services(VOXROUTE_OFFLINE="true") as [service]:
        assert await _serves(service)
        assert place.pids() == [process.pid]
        [running] = warm_services.running()
        assert running.record.pid == process.pid
        assert running.record.mark in psutil.Process(process.pid).cmdline()
        assert running.record.log.startswith(str(place.folder))
    spare.begin(["run", film])
    assert not _waiting()
    async with place.services(VOXROUTE_OFFLINE="true") as [service]:
        assert await _serves(service)
    assert place.pids() == [process.pid]
    assert warm_services.stop(running, force=False)
    await _until_gone(process.pid)
    assert place.told == []


async def test_it_ends_with_a_command_that_keeps_no_service(place: Place, film: str) -> None:
    """As one that is started late does."""
    process = _begun(place, film)
    async with place.services(idle_s=0) as [service]:
        assert await _serves(service)
        assert place.pids() == [process.pid]
    await _until_gone(process.pid)


@pytest.mark.parametrize("why", ["it has died", "a library's variable is another"])
async def test_a_service_is_started_without_one_that_will_not_do(
    place: Place, film: str, why: str
) -> None:
    """What libraries read when they are imported must be what they are to read."""
    process = _begun(place, film)
    if why == "it has died":
        process.kill()
        process.wait()
    else:
        place.environment["OMP_NUM_THREADS"] = "1"
    async with place.services() as [service]:
        assert await _serves(service)
        assert process.pid not in place.pids()
        assert len(place.pids()) == 1
    assert not _waiting()
    assert not psutil.pid_exists(process.pid)


async def test_one_that_began_before_an_upgrade_is_not_used(
    place: Place, film: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest tells of files that it may have imported before they changed."""
    process = _begun(place, film)
    stamps = warm_services._stamp_of_code(SPEECH.module)
    stamps[0][2] = time.time_ns()
    monkeypatch.setattr(warm_services, "_stamp_of_code", lambda _: stamps)
    async with place.services():
        assert process.pid not in place.pids()
        assert len(place.pids()) == 1


async def test_one_that_fails_says_why(
    place: Place, film: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has written is in the command's sentence, as of one that was started late."""
    monkeypatch.setenv("STAND_IN_TOO_SMALL", "cpu")
    process = _begun(place, film)
    with pytest.raises(LocalServiceError, match=r"ended while it was starting(.|\n)*memory"):
        async with place.services(SPEECH, STAND_IN_TOO_SMALL="cpu"):
            pass
    assert not psutil.pid_exists(process.pid)
    assert not _waiting()


async def test_it_ends_with_a_command_that_is_killed(film: str) -> None:
    """By whatever signal: its end of the pipe closes."""
    code = (
        "import sys, time\n"
        "from voxroute_orchestrator.fleet import spare\n"
        f"spare.begin(['run', {film!r}])\n"
        "print(spare._spares[0].process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert command.stdout is not None
    pid = int(await command.stdout.readline())
    assert _lives(pid)
    command.kill()
    await command.wait()
    await _until_gone(pid)


def test_nothing_that_is_imported_ahead_reads_what_a_command_sets() -> None:
    """huggingface_hub reads HF_HUB_OFFLINE once, where first used; OpenTelemetry's SDK likewise."""
    code = "import voxroute_asr_whisperx.ahead, sys; print(*sys.modules, sep='\\n')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    imported = set(done.stdout.splitlines())
    assert {"faster_whisper", "ctranslate2", "voxroute_serving.asr.service"} <= imported
    assert not imported & {
        "huggingface_hub.constants", "opentelemetry.propagate", "opentelemetry.sdk", "scipy",
        "torch", "transformers", "whisperx",
    }  # fmt: skip
