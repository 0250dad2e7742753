"""Local services that stay for the next command: found, shared, replaced, ended; their folder."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import ROOT, STAND_INS, Sandbox, sandbox
from voxroute_orchestrator.cli.app import app
from voxroute_orchestrator.client.connection import CallPolicy, connect, is_serving
from voxroute_orchestrator.errors import LocalServiceError
from voxroute_orchestrator.fleet import child
from voxroute_orchestrator.fleet import warm as warm_services
from voxroute_orchestrator.fleet.local_process import LocalService, LocalSpec
from voxroute_orchestrator.fleet.services import local_services
from voxroute_orchestrator.reporter import said_waits
from voxroute_orchestrator.settings import load
from voxroute_orchestrator.subtitles import formats as subtitles

__all__ = ["sandbox"]  # the fixture of the command's own tests

SPEECH = LocalSpec("speech service", "voxroute_asr_whisperx", ("--device", "cpu"), "steps")
TRANSLATION = LocalSpec("translation service", "voxroute_translate", (), "steps")


class Place:
    """Where services of a test stay, and what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.told: list[str] = []
        self.said: list[str] = []
        self.environment = os.environ | {
            "PYTHONPATH": f"{STAND_INS}:{ROOT}",
            "STAND_IN_DIR": str(self.marks),
        }

    def services(
        self, *specs: LocalSpec, idle_s: float = 60.0, **more: str
    ) -> "contextlib.AbstractAsyncContextManager[list[LocalService]]":
        """The services, as a command gets them."""
        return local_services(
            specs or (SPEECH,),
            environment=self.environment | more,
            startup_timeout_s=60.0,
            idle_s=idle_s,
            tell=self.told.append,
            waits=said_waits(self.said.append),
        )

    def pids(self) -> list[int]:
        """All services that were ever started, the oldest first."""
        marks = sorted(self.marks.glob("*.pid"), key=lambda path: path.stat().st_mtime_ns)
        return [int(path.name.split(".")[1]) for path in marks]

    def files(self) -> list[str]:
        """What is in the folder of warm services."""
        return sorted(path.suffix for path in (self.folder / "voxroute").iterdir())


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A runtime folder with a short path; what stays there is ended."""
    with tempfile.TemporaryDirectory(prefix="vxw") as name:
        folder = Path(name)
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        # services of a person who works on this host are looked for there too
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        yield Place(folder)
        for service in warm_services.running():
            warm_services.stop(service, force=True)


async def _serves(service: LocalService) -> bool:
    async with connect(service.endpoint(), CallPolicy()) as channel:
        return await is_serving(channel)


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def _until_gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while _lives(pid):
            warm_services.running()  # reaps what this process has started
            await asyncio.sleep(0.05)


# --- one command after another


async def test_the_next_command_finds_the_service_and_it_ends_when_nobody_uses_it(
    place: Place,
) -> None:
    """One process for two uses, idle in between; gone with its files once it was idle for long."""
    async with place.services(idle_s=1.5):
        [used] = warm_services.running()
        assert used.in_use
    [idle] = warm_services.running()
    assert not idle.in_use
    assert idle.record.model == "steps"
    assert idle.memory_bytes > 1_000_000
    async with place.services(idle_s=1.5) as [service]:
        assert await _serves(service)
        await asyncio.sleep(2.5)  # used for longer than it may be idle
        assert place.pids() == [idle.record.pid]
        assert _lives(idle.record.pid)
    await _until_gone(idle.record.pid)
    assert warm_services.running() == []
    assert place.files() == []
    assert place.told == []


async def test_two_that_begin_at_once_share_one(place: Place) -> None:
    """Whoever comes second waits for the first one's start."""
    async with contextlib.AsyncExitStack() as stack:
        both = await asyncio.gather(
            *(stack.enter_async_context(place.services()) for _ in range(2))
        )
        assert [await _serves(service) for [service] in both] == [True, True]
    assert len(place.pids()) == 1
    assert "another command starts the local speech service" in place.said


async def test_without_idle_time_the_service_ends_with_the_command(place: Place) -> None:
    """0 is a service of the command's own, also where a warm one is there."""
    async with place.services():
        pass
    async with place.services(idle_s=0.0) as [service]:
        assert service.process is not None
        own = service.process.pid
        assert len(set(place.pids())) == 2
    assert not _lives(own)
    assert len(warm_services.running()) == 1


@pytest.mark.parametrize(
    ("number", "gone"),
    [(signal.SIGKILL, True), (signal.SIGSTOP, False), (signal.SIGUSR1, False)],
    ids=["crashed", "hangs", "says that it does not serve"],
)
async def test_a_service_that_does_not_serve_is_replaced(
    number: signal.Signals, *, gone: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that died, hangs, or answers that it does not serve: ended, and a new one started."""
    monkeypatch.setattr(warm_services, "_ANSWER_S", 1.0)
    monkeypatch.setattr(warm_services, "_HUNG_STOP_S", 0.5)
    async with place.services():
        pass
    [first] = place.pids()
    os.kill(first, number)
    if gone:
        await _until_gone(first)
    async with place.services() as [service]:
        assert await _serves(service)
        assert not _lives(first)
    assert len(place.pids()) == 2
    assert gone or "does not serve; it is started anew" in place.told[0]


async def test_a_service_that_dies_in_use_is_started_again_once_for_all(place: Place) -> None:
    """Every user's calls have it started again; the second finds the new one."""
    async with place.services() as [one], place.services() as [other]:
        os.kill(place.pids()[0], signal.SIGKILL)
        await _until_gone(place.pids()[0])
        await asyncio.gather(one.recover(), other.recover())
        assert await _serves(one)
        assert await _serves(other)
        await one.recover()  # nothing to do
    assert len(place.pids()) == 2
    assert "died" in place.told[0]
    assert str(place.folder / "state") in place.told[0]  # where the log is


async def test_a_start_that_fails_leaves_nothing(place: Place) -> None:
    """Its log is named, its files are gone; older lines of the log are not taken for its own."""
    async with place.services():
        pass
    warm_services.stop(warm_services.running()[0], force=False)
    with pytest.raises(LocalServiceError, match="big-one is gated") as raised:
        async with place.services(STAND_IN_REFUSES="asr"):
            pass
    assert str(place.folder / "state") in str(raised.value)
    warm_services.running()
    assert place.files() == []


async def test_a_start_that_is_interrupted_leaves_nothing(place: Place) -> None:
    """Cancelled before it serves, the service is gone, and the next command can start one."""
    entering = asyncio.ensure_future(place.services().__aenter__())
    while not place.said:  # noqa: ASYNC110 - what is said sets no event
        await asyncio.sleep(0.01)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert [pid for pid in place.pids() if _lives(pid)] == []
    async with place.services() as [service]:
        assert await _serves(service)


async def test_one_of_a_kind_is_idle_at_a_time(place: Place) -> None:
    """Another model ends the idle service of the last one; not one in use, not another kind."""
    large = dataclasses.replace(SPEECH, arguments=("--device", "cpu", "--model", "large-v3"))
    small = dataclasses.replace(SPEECH, arguments=("--device", "cpu", "--model", "tiny"))
    async with place.services(SPEECH, TRANSLATION), place.services(large):
        assert sum(map(_lives, place.pids())) == 3
    async with place.services(small):
        modules = sorted(service.record.module for service in warm_services.running())
        assert modules == [SPEECH.module, TRANSLATION.module]


# --- which service is meant


def _digest(environment: dict[str, str], *arguments: str) -> str:
    spec = dataclasses.replace(SPEECH, arguments=arguments)
    return warm_services.digest(spec, environment)[0]


def test_whatever_changes_the_service_makes_it_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags, variables, files of the model and of the code, a relative path's folder; no more."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    environment = {"HOME": "/home/a", "TERM": "vt100", "VOXROUTE_OFFLINE": "true"}
    flags = ("--model", str(model))
    known = {_digest(environment, *flags)}
    assert _digest(environment | {"TERM": "dumb", "PWD": "/", "SSH_TTY": "x"}, *flags) in known
    of_the_command = {"VOXROUTE_RETRY_S": "5", "VOXROUTE_LOCAL_IDLE_S": "9"}
    assert _digest(environment | of_the_command, *flags) in known
    for variables in ({"VOXROUTE_CPU_THREADS": "1"}, {"HF_TOKEN": "a"}, {"OMP_NUM_THREADS": "1"}):
        known.add(_digest(environment | variables, *flags))
    known.add(_digest(environment, *flags, "--max-batch", "2"))
    (model / "config.json").write_text("{ }")
    known.add(_digest(environment, *flags))
    monkeypatch.setattr(warm_services, "__version__", "0.9")
    known.add(_digest(environment, *flags))
    assert len(known) == 7
    monkeypatch.chdir(tmp_path)
    relative = environment | {"PYTHONPATH": "model"}
    assert warm_services.digest(SPEECH, relative)[1] == tmp_path
    assert warm_services.digest(SPEECH, environment)[1] is None


async def test_an_edited_installation_never_meets_an_old_service(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the service's code that changes makes the next command start a new one."""
    shutil.copytree(STAND_INS / SPEECH.module, tmp_path / SPEECH.module)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, SPEECH.module, raising=False)  # the real one, of other tests
    place.environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    async with place.services():
        pass
    with (tmp_path / SPEECH.module / "__main__.py").open("a") as code:
        code.write("\n")
    async with place.services():
        assert len(place.pids()) == 2
    assert not _lives(place.pids()[0])


# --- the folder


def test_only_a_folder_of_this_user_alone_is_used(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No link, no folder that others can enter or replace; the next place is taken, and told."""
    monkeypatch.setattr(tempfile, "tempdir", str(place.folder / "tmp"))
    (place.folder / "tmp").mkdir(0o700)
    fallback = place.folder / "tmp" / f"voxroute-{os.getuid()}"
    wanted = place.folder / "voxroute"

    def chosen() -> Path | None:
        place.told.clear()
        return warm_services.folder(place.told.append)

    assert chosen() == wanted
    assert wanted.stat().st_mode & 0o777 == 0o700
    wanted.chmod(0o750)
    assert (chosen(), len(place.told)) == (fallback, 1)
    wanted.rmdir()
    wanted.symlink_to(place.folder / "tmp")
    assert (chosen(), len(place.told)) == (fallback, 1)
    wanted.unlink()
    wanted.write_text("")
    assert (chosen(), len(place.told)) == (fallback, 1)
    wanted.unlink()
    place.folder.chmod(0o777)
    assert (chosen(), len(place.told)) == (fallback, 1)
    place.folder.chmod(0o700)
    if os.getuid() == 0:
        wanted.mkdir(0o700)
        os.chown(wanted, 65534, 65534)
        assert (chosen(), len(place.told)) == (fallback, 1)


# --- the process


def _child(place: Place, code: str, idle_s: str = "60") -> "tuple[subprocess.Popen[bytes], Path]":
    """A module of that code, run as a service that may stay; and its log."""
    (place.folder / "served.py").write_text(code)
    record, log = place.folder / "record.json", place.folder / "log"
    record.write_text("")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "voxroute_orchestrator.fleet.child", str(os.getpid())),
                *(str(record), idle_s, str(log), "served"),
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": str(place.folder)},
            start_new_session=True,
        )
    return process, log


def test_a_service_that_is_half_started_ends_with_its_command(place: Place) -> None:
    """The pipe ends before the command has let the service go."""
    process, _ = _child(place, "import time; time.sleep(60)")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == -signal.SIGKILL


def test_the_log_of_a_service_that_stays_is_bounded(place: Place) -> None:
    """Its older half is cut off, its end is kept, and it goes on."""
    code = "import time\nfor k in range(60_000):\n    print('line of a service', k, flush=True)\n"
    process, log = _child(place, code + "time.sleep(60)")
    assert process.stdin is not None
    process.stdin.write(b"k")
    process.stdin.close()
    until = time.monotonic() + 30
    while not log.read_bytes().endswith(b" 59999\n") or log.stat().st_size > child.MAX_LOG_BYTES:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert log.read_bytes().startswith(b"line of a service ")
    (place.folder / "record.json").unlink()  # nobody can find it: it ends
    assert process.wait(30) == -signal.SIGTERM


# --- the command


def _until_transcribing(command: "subprocess.Popen[str]") -> None:
    assert command.stderr is not None
    line = command.stderr.readline()
    while line and line != "transcribing\n":
        line = command.stderr.readline()
    assert line, "the command has ended"


def _said(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_commands_share_services_that_outlive_them(sandbox: Sandbox, place: Place) -> None:
    """The one that started them is killed, and the other goes on with the services that it uses.

    `services` shows them, `services stop` ends them and leaves nothing.
    """
    warm = {
        "VOXROUTE_LOCAL_IDLE_S": "100",
        "XDG_RUNTIME_DIR": str(place.folder),
        "STAND_IN_DELAY_S": "0.1",
    }
    long = recordings.write(sandbox.folder / "long.wav", recordings.steps(300))
    arguments = ["-s", "hi", "-t", "en", "-o", str(sandbox.out)]
    one = sandbox.start("run", str(long), *arguments, **warm)
    _until_transcribing(one)
    two = sandbox.start("run", str(sandbox.media), *arguments, **warm)
    _until_transcribing(two)
    assert _said("services").count("in use") == 2
    assert _said("services", "stop").count("is used by a running command and stays") == 2
    one.send_signal(signal.SIGKILL)
    one.communicate(timeout=60)
    _, err = two.communicate(timeout=60)
    assert two.returncode == 0, err
    cues = subtitles.read(sandbox.out / "film.hi.srt")
    assert [cue.text for cue in cues] == [f"word{k}" for k in range(20)]
    assert len(sandbox.living()) == len(sandbox.pids()) == 2
    shown = _said("services")
    assert shown.count("idle for") == 2
    assert all(str(pid) in shown for pid in sandbox.pids())
    assert _said("services", "stop").count("ended the ") == 2
    assert not sandbox.living()
    assert place.files() == []


async def test_a_flag_of_zero_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """--local-idle-s 0 is not a flag that was left out."""
    monkeypatch.setenv("VOXROUTE_LOCAL_IDLE_S", "7")
    assert load().local_idle_s == 7
    assert load(local_idle_s=None).local_idle_s == 7
    assert load(local_idle_s=0.0).local_idle_s == 0
    monkeypatch.delenv("VOXROUTE_LOCAL_IDLE_S")
    assert load().local_idle_s == 300


async def test_files_that_cannot_be_made_are_told_with_the_way_out(place: Place) -> None:
    """A full disk or a lost folder is a sentence that says what to do."""
    digest = warm_services.digest(SPEECH, place.environment)[0]
    (place.folder / "voxroute" / f"{digest}.lock").mkdir(parents=True)
    (place.folder / "voxroute").chmod(0o700)
    with pytest.raises(LocalServiceError, match="--local-idle-s 0"):
        async with place.services():
            pass
    assert place.pids() == []
