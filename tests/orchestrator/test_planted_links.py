"""Links and names that others have put in the way: nothing but what was meant is touched."""

import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.orchestrator.daemon import Daemon, config, ended, messages, stand_in_services, wait
from tests.orchestrator.subtitles.test_mux import FILM, TRACKS, shown
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.errors import OutputError
from voxroute_orchestrator.files import claimed
from voxroute_orchestrator.jobs.errors import InvalidJobError
from voxroute_orchestrator.jobs.service import checked
from voxroute_orchestrator.subtitles.mux import mux
from voxroute_serving.audio.media import MediaFile, MediaRefusedError

PRECIOUS = "what somebody has written"


@pytest.mark.parametrize(
    "put", [Path.symlink_to, Path.hardlink_to, shutil.copy], ids=lambda put: put.__name__
)
def test_a_lock_is_never_another_file(tmp_path: Path, put: Callable[[Path, Path], object]) -> None:
    """In a folder that others write to, the lock's name may be there already."""
    precious, folder = tmp_path / "notes.txt", tmp_path / "out"
    precious.write_text(PRECIOUS)
    folder.mkdir()
    lock = folder / ".film.voxroute-lock"
    put(precious, lock) if put is shutil.copy else put(lock, precious)
    with pytest.raises(OutputError, match="is no lock of voxroute"), claimed(folder, "film"):
        pass
    assert precious.read_text() == lock.read_text() == PRECIOUS


def test_a_lock_is_no_pipe(tmp_path: Path) -> None:
    """It would hold up whoever opens it."""
    os.mkfifo(tmp_path / ".film.voxroute-lock")
    with pytest.raises(OutputError, match="is no lock of voxroute"), claimed(tmp_path, "film"):
        pass


@pytest.mark.parametrize("folder", ["S01: E02", "file:", "http:", "pipe:", "tcp:127.0.0.1:9"])
def test_no_name_of_a_folder_is_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """FFmpeg takes what stands before the first colon for one, unless the path is absolute."""
    monkeypatch.chdir(tmp_path)
    target = Path(folder, "copy.mp4")
    target.parent.mkdir()
    mux(FILM, target, TRACKS)
    assert len(shown(target.absolute(), 0)) == len(TRACKS[0].cues)


def test_a_resolved_path_is_opened_through_no_link(tmp_path: Path) -> None:
    """Neither as the file nor as a folder on the way; the same path without one is."""
    root = tmp_path.resolve()
    for name in ("true", "other"):
        (root / name).mkdir()
        (root / name / "a.wav").write_text(name)
    file = MediaFile(root / "true" / "a.wav", links=False)
    assert file.read() == b"true"
    file.close()
    (root / "folder").symlink_to(root / "other")
    (root / "true" / "b.wav").symlink_to(root / "other" / "a.wav")
    before = len(list(Path("/dev/fd").iterdir()))
    for path in (root / "folder" / "a.wav", root / "true" / "b.wav"):
        with pytest.raises(MediaRefusedError, match="become a link"):
            MediaFile(path, links=False)
        MediaFile(path).close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_recording_that_becomes_a_link_while_its_job_runs_is_not_copied(tmp_path: Path) -> None:
    """A folder below a media root leads elsewhere after it was looked at: the copy is refused."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "shared").mkdir(parents=True)
    outside.mkdir()
    shutil.copy(FILM, outside / "a.wav")
    with wave.open(str(root / "shared" / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(b"\1\2" * 16_000 * 20)
    with stand_in_services() as services:
        services.speech.delay_s = 0.2
        flags = ("--asr-endpoint", services.asr, "--translate-endpoint", services.translate)
        daemon = Daemon(tmp_path, (*flags, "--media-root", str(root)))
        try:
            daemon.start()
            stub = daemon.stub()
            submitted = stub.SubmitJob(
                messages(config(media_path="shared/a.wav", mux=True)), timeout=60
            )
            wait(lambda: services.speech.open_calls > 0)
            (root / "shared").rename(root / "was")
            (root / "shared").symlink_to(outside)
            services.speech.delay_s = 0
            done = ended(stub, submitted.job.id)
        finally:
            daemon.close()
    assert done.state == jobs_pb2.JOB_STATE_FAILED
    assert "become a link" in done.error
    assert not [file.name for file in done.artifacts if "subtitled" in file.name]


AS_ANOTHER = """
import os, sys
from pathlib import Path
from voxroute_orchestrator.files import claimed
if not os.geteuid():
    os.setgroups([])
    os.setuid(65534)
with claimed(Path(), "film"):
    print("has it")
"""


def test_the_lock_that_another_users_killed_run_has_left_blocks_nobody(tmp_path: Path) -> None:
    """It can be read, and that is enough to lock it."""
    lock = tmp_path / ".film.voxroute-lock"
    lock.write_text("123")
    lock.chmod(0o444)
    if not os.geteuid():
        os.chown(tmp_path, 65_534, 65_534)
    run = [sys.executable, "-c", AS_ANOTHER]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "has it\n", done.stderr
    assert not lock.exists()


def test_a_folder_where_the_service_was_started_is_no_model_for_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients name models, and no folder of the host, a relative one neither."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model").mkdir(parents=True)
    for field in ("asr_model", "translate_model"):
        for name in ("owner", "owner/model", "tiny\0", "tiny\n"):
            job = config(upload_name="film.mp4", **{field: name})
            with pytest.raises(InvalidJobError, match=f"{field}: name a model"):
                checked(jobs_pb2.SubmitJobConfig(job=job))
        job = config(upload_name="film.mp4", **{field: "owner/another"})
        assert getattr(checked(jobs_pb2.SubmitJobConfig(job=job)), field) == "owner/another"
