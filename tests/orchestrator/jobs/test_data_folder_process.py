"""The job service as a process, on data folders that something has happened to."""

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    artifact,
    config,
    ended,
    messages,
)
from voxroute.jobs.v1 import jobs_pb2

FILM = config(upload_name="film.wav")


def test_a_folder_of_somebody_else_ends_the_start_with_a_sentence(tmp_path: Path) -> None:
    """Exit code 1, as for everything that a service cannot start with; every file is there."""
    film = tmp_path / "films" / "uploads" / "family" / "wedding.mp4"
    film.parent.mkdir(parents=True)
    film.write_text("wedding")
    done = subprocess.run(
        [
            sys.executable, "-m", "voxroute_orchestrator", "serve", "--listen", "127.0.0.1:0",
            "--metrics-listen", "", "--data-dir", str(tmp_path / "films"),
        ],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot start: " in done.stderr
    assert "is not the job service's" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in (tmp_path / "films").rglob("*") if path.is_file()] == [film]


@pytest.mark.usefixtures("no_umask")
def test_a_service_keeps_its_files_to_itself_and_outlives_the_loss_of_its_store(
    services: Services, tmp_path: Path
) -> None:
    """In a folder that was there, open to all: no file of it is open to others while jobs run.

    Without its store the service puts the jobs aside and says so; with a backup of the store and
    the folders moved back it has them again.
    """
    (tmp_path / "data").mkdir(mode=0o777)
    endpoints = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
    daemon = Daemon(tmp_path, endpoints)
    film = recordings.write(tmp_path / "film.wav", recordings.steps(10)).read_bytes()
    backup = tmp_path / "backup.sqlite"
    try:
        daemon.start()
        job = daemon.stub().SubmitJob(messages(FILM, film), timeout=60).job
        done = ended(daemon.stub(), job.id)
        assert done.state == jobs_pb2.JOB_STATE_SUCCEEDED, done.error
        opened = [p for p in (daemon.data, *daemon.data.rglob("*")) if p.stat().st_mode & 0o077]
        assert not opened
        store = daemon.data / "jobs.sqlite"
        with contextlib.closing(sqlite3.connect(store)) as db, sqlite3.connect(backup) as copy:
            db.backup(copy)
        copy.close()
        daemon.end(signal.SIGKILL)
        for suffix in ("", "-wal", "-shm"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)

        daemon.start()
        assert not daemon.stub().ListJobs(jobs_pb2.ListJobsRequest(), timeout=30).jobs
        (aside,) = (daemon.data / "aside").glob("*/jobs/*")
        assert (aside / "results" / "film.en.srt").is_file()
        assert "put aside" in (tmp_path / "log").read_text()
        metrics = urllib.request.urlopen(f"http://{daemon.metrics}/metrics").read().decode()
        assert "voxroute_data_aside 1.0" in metrics
        daemon.end()

        aside.rename(daemon.data / "jobs" / aside.name)
        shutil.copyfile(backup, store)
        daemon.start()
        again = ended(daemon.stub(), job.id)
        assert again.artifacts == done.artifacts
        names = [one.name for one in again.artifacts]
        assert all(artifact(daemon.stub(), job.id, name) for name in names)
        daemon.end()
    finally:
        daemon.close()
