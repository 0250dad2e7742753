"""What a recording can have opened, and how long it can keep anybody waiting: nothing, not long."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import (
    Sandbox,
    sandbox,  # noqa: F401  # pyright: ignore[reportUnusedImport] - a fixture
)
from tests.orchestrator.daemon import Daemon, Services, artifact, config, ended, job, messages, wait
from tests.serving import traps
from tests.serving.traps import laid
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator import reading
from voxroute_orchestrator.errors import MediaError, MediaNotFoundError, MediaStalledError
from voxroute_orchestrator.media import PcmReader, Source, probe
from voxroute_orchestrator.pipeline.batch import find
from voxroute_orchestrator.subtitles.mux import mux
from voxroute_serving.audio.media import MediaFile, Watch

__all__ = ["laid"]

SOON_S = 5.0
# on its path a process finds this: its reads of media stand still inside the system, like those of
# a file whose network has gone; the first one of the STUCK_AT-th file that is opened, and all after
STUCK = """
import ctypes, os
from voxroute_serving.audio import media

opened = 0
begin, read = media.MediaFile.__init__, media.MediaFile.read

def counted(self, *arguments, **named):
    global opened
    begin(self, *arguments, **named)
    opened += 1
    self.number = opened

def stuck(self, n=-1):
    if self.number < int(os.environ["STUCK_AT"]):
        return read(self, n)
    open(os.environ["STUCK_MARK"], "w").close()
    while True:
        ctypes.CDLL(None).pause()

media.MediaFile.__init__, media.MediaFile.read = counted, stuck
"""


def _outside(laid: traps.Traps) -> tuple[Path, ...]:
    """The secrets that are not in the traps' own folder."""
    return tuple(path for path in laid.secrets if path.parent != laid.folder)


def _read(path: Source) -> int:
    """Bytes of sound."""
    reader = PcmReader(probe(path))
    try:
        return sum(map(len, iter(reader.read, b"")))
    finally:
        reader.close()


@pytest.mark.parametrize("use", ["probe", "mux"])
def test_no_recording_opens_another_file(laid: traps.Traps, tmp_path: Path, use: str) -> None:
    """A path or an upload that refers to others is refused, or read without them."""

    def used(name: str) -> None:
        source = Source(laid.folder / name)
        if use == "mux":
            mux(source, tmp_path / "copy.mkv", [])
        else:
            _read(source)

    assert not traps.wrongly_used(laid, used, MediaError)
    assert not laid.connected()


def test_a_folder_of_hls_opens_nothing_outside_of_itself(laid: traps.Traps) -> None:
    """Whoever lets a playlist open its folder lets it open no more than that."""
    link = laid.folder / "link.ts"
    link.symlink_to(laid.secrets[2])
    (laid.folder / "link.m3u8").write_bytes(traps.playlist("link.ts"))
    wrong: dict[str, list[str]] = {}
    with traps.Witness(_outside(laid)) as witness:
        for path in laid.folder.glob("*.m3u8"):
            try:
                _read(Source(path, hls_folder=True))
            except MediaError:
                pass
            else:
                if not path.name.startswith("beside-"):
                    wrong[path.name] = ["accepted"]
            wrong |= {path.name: opened} if (opened := witness.opened()) else {}
    link.unlink()
    (laid.folder / "link.m3u8").unlink()
    assert not wrong
    assert not laid.connected()


@pytest.fixture
def hls(tmp_path: Path) -> Path:
    """A folder of HLS: two segments of two seconds, a playlist of them and one of that."""
    (tmp_path / "low").mkdir()
    for name in ("a", "b"):
        samples = recordings.speech_like(2.0)
        path = tmp_path / "low" / f"{name}.ts"
        recordings.write(path, samples, codec="mp2", start_s=2.0 * (name == "b"))
    (tmp_path / "low" / "list.m3u8").write_bytes(traps.playlist("a.ts", "b.ts"))
    (tmp_path / "index.m3u8").write_bytes(traps.master("low/list.m3u8"))
    return tmp_path / "index.m3u8"


def test_a_folder_of_hls_is_read_where_that_is_asked_for(hls: Path) -> None:
    """All its segments, through a playlist of playlists; without the flag the message names it."""
    for path in (hls, hls.parent / "low" / "list.m3u8"):
        assert _read(Source(path, hls_folder=True)) / 32_000 == pytest.approx(4.0, abs=0.2)
        with pytest.raises(MediaError, match="--hls-folder"):
            probe(path)


def test_a_live_playlist_is_refused(hls: Path) -> None:
    """One without an end says so at once, and one that hides it when it is read again."""
    path = hls.parent / "low" / "list.m3u8"
    path.write_bytes(traps.playlist("a.ts", "b.ts", end=False).replace(b":2\n", b":1000\n", 1))
    for playlist in (path, hls):
        with pytest.raises(MediaError, match="live playlist"):
            probe(Source(playlist, hls_folder=True))
    path.write_bytes(path.read_bytes() + b"#EXT-X-STREAM-INF:BANDWIDTH=1\n")
    with pytest.raises(MediaError):
        _read(Source(path, hls_folder=True))


def test_the_command_takes_the_flag(sandbox: Sandbox, hls: Path) -> None:  # noqa: F811
    """`--hls-folder` turns a playlist into subtitles, and into a copy with them."""
    arguments = ["run", str(hls), "-s", "hi", "-t", "en", "-o", str(sandbox.out), "--mux"]
    done = sandbox.run(*arguments, "--hls-folder")
    assert done.returncode == 0, done.stderr
    assert (sandbox.out / "index.transcript.json").exists()
    assert (sandbox.out / "index.subtitled.mka").exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_command_makes_no_system_call_for_what_a_recording_refers_to(
    sandbox: Sandbox,  # noqa: F811
    laid: traps.Traps,
) -> None:
    """`voxroute run` of all traps by their paths, by its calls and by who opened the secrets."""
    paths = [str(laid.folder / name) for name in laid.names if not name.startswith("dref-")]
    log = sandbox.folder / "calls"
    command = [sys.executable, "-m", "voxroute_orchestrator", "run", *paths, "-t", "en", "-s", "hi"]
    with traps.Witness(laid.secrets) as witness:
        done = subprocess.run(
            ["strace", "-f", "-o", log, "-e", "trace=open,openat,connect", *command],
            env=sandbox.environment,
            cwd=sandbox.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 3, done.stderr
        assert witness.opened() == []
    calls = log.read_text()
    assert paths[0] in calls
    assert not [path for path in map(str, laid.secrets) if path in calls]
    assert "sin_port" not in calls
    assert not laid.connected()


def test_a_folder_is_searched_without_opening_what_its_files_refer_to(
    laid: traps.Traps,
) -> None:
    """Of a folder those files are taken that have audio of their own, or look so and fail."""
    with traps.Witness(_outside(laid)) as witness:
        found = {recording.path.name for recording in find([str(laid.folder)])}
        assert witness.opened() == []
    only_look_so = {"playlist-called.mp4", "playlist-called.wav", "linked.mkv"}
    assert found == {*(f"secret.{kind}" for kind in traps.KINDS), *_references(), *only_look_so}


def _references() -> set[str]:
    return {"dref-url.mp4", "dref-url-beside.mov", "dref-alias.mov"}


# --- the job service


def _daemon(folder: Path, services: Services, *flags: str) -> Daemon:
    folder.mkdir(exist_ok=True)
    endpoints = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
    return Daemon(folder, (*endpoints, *flags))


@pytest.fixture(scope="module")
def daemon(laid: traps.Traps, services: Services) -> Iterator[Daemon]:
    """A job service whose media root is the folder of the traps; takes 30 s of audio."""
    running = _daemon(
        laid.folder.parent, services, "--media-root", str(laid.folder), "--max-audio-s", "30"
    )
    try:
        running.start()
        yield running
    finally:
        running.close()


def _submitted(stub: Any, data: bytes = b"", **fields: Any) -> str:
    return stub.SubmitJob(messages(config(**fields), data), timeout=60).job.id


def _told(stub: Any, job_id: str) -> str:
    """All that a client reads of a job."""
    events = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id), timeout=60)
    read = [str(job(stub, job_id)), *map(str, events)]
    names = [one.name for one in job(stub, job_id).artifacts]
    read += [artifact(stub, job_id, name).decode() for name in names if name.endswith("json")]
    return "\n".join(read)


@pytest.mark.parametrize("by", ["upload_name", "media_path"])
def test_no_job_reads_what_its_recording_refers_to(
    daemon: Daemon, laid: traps.Traps, by: str
) -> None:
    """Uploads and files below a media root; what a client is told has no path of the host."""
    stub = daemon.stub()
    jobs: dict[str, str] = {}
    contents = {name: (laid.folder / name).read_bytes() for name in laid.names}
    with traps.Witness(laid.secrets) as witness:
        for name, data in contents.items():
            upload = data if by == "upload_name" else b""
            jobs[name] = _submitted(stub, upload, mux=True, **{by: name})
        states = {name: ended(stub, job_id).state for name, job_id in jobs.items()}
        assert witness.opened() == []
    assert not laid.connected()
    succeeded = {n for n, state in states.items() if state == jobs_pb2.JOB_STATE_SUCCEEDED}
    assert succeeded == _references() - {"dref-alias.mov"}  # FFmpeg leaves out such a track
    for name, job_id in jobs.items():
        told = _told(stub, job_id)
        assert str(laid.folder.parent) not in told, told
        if name not in succeeded:
            assert name in job(stub, job_id).error


def test_a_recording_that_is_too_long_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    """By what it says of itself, and by what it turns out to hold; a part of it may be taken."""
    stub = daemon.stub()
    path = recordings.write(tmp_path / "long.wav", recordings.steps(40))
    data = path.read_bytes()
    slow = bytearray(data)
    slow[24:28] = (1).to_bytes(4, "little")
    silent = recordings.write(
        tmp_path / "gap.mkv", recordings.steps(4), gap=(2.0, 3000.0)
    ).read_bytes()
    for name, content, reason in (
        ("long.wav", data, "--max-audio-s"),
        ("slow.wav", bytes(slow), "8000 to 384000"),
        ("gap.mkv", silent, "--max-audio-s"),
    ):
        failed = ended(stub, _submitted(stub, content, upload_name=name))
        assert failed.state == jobs_pb2.JOB_STATE_FAILED
        assert reason in failed.error
    part = config(upload_name="long.wav")
    part.end.FromSeconds(20)
    job_id = stub.SubmitJob(messages(part, data), timeout=60).job.id
    assert ended(stub, job_id).state == jobs_pb2.JOB_STATE_SUCCEEDED


# --- reads that do not end


def _within(limit_s: float, act: Callable[[], Any]) -> Any:
    started = time.monotonic()
    outcome = act()
    assert time.monotonic() - started < limit_s
    return outcome


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Reads of media that block until the test is over."""
    reached, over = threading.Event(), threading.Event()

    def read(_: MediaFile, n: int = -1) -> bytes:
        del n
        reached.set()
        over.wait()
        return b""

    monkeypatch.setattr(MediaFile, "read", read)
    yield reached
    over.set()


async def test_a_cancel_does_not_wait_for_a_read_that_stands_still(
    tmp_path: Path, stuck: threading.Event
) -> None:
    """Neither does closing the reader."""
    media = probe_of(tmp_path)
    reader = PcmReader(media)
    task = asyncio.ensure_future(reading.reading(reader.watch, reader.read))
    await asyncio.to_thread(stuck.wait, 30)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reader.close()
    assert time.monotonic() - started < SOON_S


def probe_of(folder: Path) -> Any:
    """The media of a recording, as if it had been probed before its disk stood still."""
    path = recordings.write(folder / "film.wav", recordings.steps(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MediaFile, "read", _REAL_READ)
        return probe(path)


_REAL_READ = MediaFile.read


@pytest.mark.usefixtures("stuck")
def test_a_read_that_stands_still_ends_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that a disk may take, which is cut short here."""
    monkeypatch.setattr(reading, "STALL_S", 0.3)
    path = recordings.write(tmp_path / "film.wav", recordings.steps(4))
    with pytest.raises(
        MediaStalledError, match=r"film.wav could not be read any further for 0.3 s"
    ):
        probe(path)


def test_a_file_of_endless_zeros_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file is no progress, however much of it is read."""
    path = recordings.write(tmp_path / "film.mkv", recordings.steps(4))
    with path.open("r+b") as file:
        file.truncate(1 << 42)
    reader = PcmReader(probe(path))
    monkeypatch.setattr(reading, "STALL_S", 1.0)
    with pytest.raises(MediaError):
        reading.read(reader.watch, lambda: list(iter(reader.read, b"")))


def test_what_moves_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on standing still, not on the whole."""
    monkeypatch.setattr(reading, "STALL_S", 0.5)
    watch = Watch()

    def slow() -> str:
        for _ in range(10):
            time.sleep(0.1)
            watch.moved()
        return "done"

    assert reading.read(watch, slow) == "done"


def test_a_pipe_is_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it takes the place of a file after that was looked at."""
    path = tmp_path / "film.wav"
    os.mkfifo(path)
    with pytest.raises(MediaNotFoundError, match="no regular file"):
        probe(path)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(MediaError, match="no regular file"):
        _within(SOON_S, lambda: probe(path))


def _stuck_environment(folder: Path, at: int) -> dict[str, str]:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(STUCK)
    return {"STUCK_AT": str(at), "STUCK_MARK": str(folder / "stuck"), "STUCK": str(folder / "site")}


@pytest.mark.parametrize(
    ("number", "code", "at"),
    [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 1)],
    ids=["reading it", "looking at it"],
)
def test_a_signal_ends_the_command_whatever_stands_still(
    sandbox: Sandbox,  # noqa: F811
    number: int,
    code: int,
    at: int,
) -> None:
    """Within seconds, and the services that it has started are gone too."""
    more = _stuck_environment(sandbox.folder, at)
    more["PYTHONPATH"] = f"{more.pop('STUCK')}:{sandbox.environment['PYTHONPATH']}"
    process = sandbox.start(*sandbox.job(), **more)
    wait((sandbox.folder / "stuck").exists)
    process.send_signal(number)
    assert _within(SOON_S, lambda: process.wait(60)) == code
    process.communicate()
    assert sandbox.living() == []


def test_ctrl_c_ends_the_search_of_a_folder(sandbox: Sandbox) -> None:  # noqa: F811
    """Where one of its files stands still."""
    more = _stuck_environment(sandbox.folder, 1)
    more["PYTHONPATH"] = f"{more.pop('STUCK')}:{sandbox.environment['PYTHONPATH']}"
    process = sandbox.start("run", str(sandbox.folder), "-s", "hi", "-t", "en", **more)
    wait((sandbox.folder / "stuck").exists)
    process.send_signal(signal.SIGINT)
    assert _within(SOON_S, lambda: process.wait(60)) == 130
    process.communicate()


@pytest.mark.parametrize("at", [6, 8], ids=["reading it", "copying it"])
def test_a_job_that_stands_still_is_cancelled_and_the_service_stops(
    tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """CancelJob answers, and SIGTERM ends the process, within seconds.

    The second job stands still where the first looks at its file.
    """
    for name, value in _stuck_environment(tmp_path, at).items():
        monkeypatch.setenv("PYTHONPATH" if name == "STUCK" else name, value)
    data = recordings.write(tmp_path / "film.wav", recordings.steps(4)).read_bytes()
    daemon = _daemon(tmp_path, services)
    try:
        daemon.start()
        stub = daemon.stub()
        first = _submitted(stub, data, upload_name="film.wav", mux=True)
        wait((tmp_path / "stuck").exists)
        request = jobs_pb2.CancelJobRequest(job_id=first)
        cancelled = _within(SOON_S, lambda: stub.CancelJob(request, timeout=60)).job
        assert cancelled.state == jobs_pb2.JOB_STATE_CANCELLED
        assert ("copying film.wav" in _told(stub, first)) == (at == 8)
        second = _submitted(stub, data, upload_name="film.wav")
        wait(lambda: job(stub, second).state == jobs_pb2.JOB_STATE_RUNNING)
        time.sleep(0.5)
        assert _within(SOON_S, daemon.end) == 0
    finally:
        daemon.close()
