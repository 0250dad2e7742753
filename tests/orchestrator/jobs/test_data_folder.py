"""The data folder of the job service: whose it is, what a start changes in it, who can read it.

Every test compares all that was in the folder with all that is there afterwards: a file may be
put aside, and is lost by nothing.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.serving.captured_logs import captured_logs
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jobs import database
from voxroute_orchestrator.jobs.data_folder import LOCK_NAME, MARKER_NAME
from voxroute_orchestrator.jobs.database import STORE_NAME
from voxroute_orchestrator.jobs.errors import DiskFullError, StoreBusyError, StoreError
from voxroute_orchestrator.jobs.files import DataFolder
from voxroute_orchestrator.jobs.reconcile import reconcile
from voxroute_orchestrator.jobs.store import SUCCEEDED
from voxroute_orchestrator.jobs.stores.sqlite import LOST, SqliteStore
from voxroute_serving.errors import ServingError

CONFIG = jobs_pb2.JobConfig(upload_name="film.wav")
NOBODY = 65534
SERVICES_OWN = {
    name + suffix for name in (STORE_NAME, LOCK_NAME) for suffix in ("", "-wal", "-shm")
} | {MARKER_NAME, f"{LOCK_NAME}-journal"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")


@dataclass(frozen=True)
class Kept:
    """What a start has left: the jobs and what it has told."""

    jobs: dict[str, jobs_pb2.Job]
    told: str


def start(path: Path) -> Kept:
    """A start of the job service, up to where jobs would run, and its end."""
    with (
        captured_logs() as logs,
        contextlib.closing(DataFolder(path)) as folder,
        contextlib.closing(SqliteStore(folder.path, data_id=folder.id)) as store,
    ):
        reconcile(store, folder)
        jobs = {job.id: job for job in store.page([], 100, None)[0]}
    return Kept(jobs, "; ".join(str(line) for line in logs))


def files(folder: Path) -> dict[str, str]:
    """What every file and link below a folder holds; nothing of links is followed."""
    found: dict[str, str] = {}
    for path in folder.rglob("*"):  # does not follow links
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def everything(folder: Path) -> dict[str, Any]:
    """Every name below a folder with its type, permissions and time of change."""
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.lstat().st_ino)
        for path in (folder, *folder.rglob("*"))
    }


def lost(before: dict[str, str], folder: Path) -> list[str]:
    """The files that are neither where they were nor aside, with what they held."""
    after = files(folder)
    aside = {
        name.split("/", 2)[2]: held for name, held in after.items() if name.startswith("aside/")
    }
    return [
        name
        for name, held in before.items()
        if name not in SERVICES_OWN
        and held != after.get(name)
        and held != aside.get(name.split("/", 2)[2] if name.startswith("aside/") else name)
    ]


def write(path: Path, text: str) -> Path:
    """A file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def add_job(data: Path, *, done: bool) -> str:
    """A job as a run of the service leaves it: one that is done, or one that waits."""
    with (
        contextlib.closing(DataFolder(data)) as folder,
        contextlib.closing(SqliteStore(folder.path, data_id=folder.id)) as store,
    ):
        job_id, of_job = folder.new_job()
        write(of_job.media / "film.wav", f"sound {job_id}")
        store.submit(job_id, "", CONFIG)
        if done:
            for name in ("film.hi.srt", "film.transcript.json"):
                write(of_job.results / name, f"{name} {job_id}")
            claimed = store.claim()
            assert claimed is not None
            store.end(claimed, SUCCEEDED, artifacts=of_job.artifacts())
    return job_id


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a job that is done and one that waits."""
    path = tmp_path / "data"
    add_job(path, done=True)
    add_job(path, done=False)
    return path


def marker(data: Path) -> dict[str, Any]:
    """What the marker says."""
    return json.loads((data / MARKER_NAME).read_text())


def mark(data: Path, **changes: Any) -> Path:
    """Writes the marker anew."""
    write(data / MARKER_NAME, json.dumps(marker(data) | changes))
    return data


def make_earlier(data: Path) -> Path:
    """Turns a data folder into one of the first version: no marker, nothing of it in the store."""
    (data / MARKER_NAME).unlink()
    database = sqlite3.connect(data / STORE_NAME, isolation_level=None)
    for statement in (
        "DROP INDEX jobs_by_turn",
        "DROP INDEX jobs_by_beginning",
        "DROP INDEX jobs_by_place",
        *(f"ALTER TABLE jobs DROP COLUMN {name}" for name in ("tenant", "priority", "began")),
        "CREATE INDEX jobs_by_state ON jobs (state, queued_at)",
        "DROP TABLE facts",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 0",
    ):
        database.execute(statement)
    database.close()
    return data


def family(data: Path) -> Path:
    """A folder of a person's, laid out like a data folder."""
    write(data / "uploads" / "family" / "wedding.mp4", "wedding")
    write(data / "uploads" / "a.mp4", "a")
    write(data / "jobs" / "20260131-movie-1" / "job.json", "{}")
    return data


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Generator[Path]:
    """A file system of its own on a folder."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("this host lets nobody mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


# --- a folder that is not the service's, or not this service's, is refused and left as it is


def _foreign(data: Path) -> Path:
    shutil.rmtree(data)
    return family(data)


def _only_a_note(data: Path) -> Path:
    shutil.rmtree(data)
    write(data / "note.txt", "mine")
    return data


def _hidden_note(data: Path) -> Path:
    shutil.rmtree(data)
    write(data / ".note", "mine")
    return data


def _link_to_foreign(data: Path) -> Path:
    family(data.parent / "films")
    link = data.parent / "link"
    link.symlink_to(data.parent / "films")
    return link


def _link_to_nothing(data: Path) -> Path:
    link = data.parent / "link"
    link.symlink_to(data.parent / "nothing")
    return link


def _a_file(data: Path) -> Path:
    return write(data.parent / "file", "mine")


def _below_a_file(data: Path) -> Path:
    return write(data.parent / "file", "mine") / "data"


def _foreign_owner(data: Path) -> Path:
    os.chown(data, NOBODY, NOBODY)
    return data


def _newer_marker(data: Path) -> Path:
    return mark(data, version=2)


def _older_marker(data: Path) -> Path:
    return mark(data, version=0)


def _other_marker(data: Path) -> Path:
    return mark(data, kind="something else")


def _too_deep(data: Path) -> Path:
    write(data / MARKER_NAME, "[" * 4000)
    return data


def _no_json(data: Path) -> Path:
    write(data / MARKER_NAME, "\0" * 100)
    return data


def _no_id(data: Path) -> Path:
    return mark(data, id="../../etc")


def _linked_marker(data: Path) -> Path:
    (data / MARKER_NAME).rename(data.parent / "marker")
    (data / MARKER_NAME).symlink_to(data.parent / "marker")
    return data


def _no_marker_and_no_store(data: Path) -> Path:
    (data / MARKER_NAME).unlink()
    (data / STORE_NAME).unlink()
    return data


def _another_store(data: Path) -> Path:
    add_job(data.parent / "other", done=True)
    shutil.copyfile(data.parent / "other" / STORE_NAME, data / STORE_NAME)
    return data


def _no_store_of_ours(data: Path) -> Path:
    (data / STORE_NAME).unlink()
    with contextlib.closing(sqlite3.connect(data / STORE_NAME)) as database:
        database.execute("CREATE TABLE photos (name TEXT)")
    return data


def _no_marker_and_no_store_of_ours(data: Path) -> Path:
    (data / MARKER_NAME).unlink()
    return _no_store_of_ours(data)


def _newer_store(data: Path) -> Path:
    with contextlib.closing(sqlite3.connect(data / STORE_NAME)) as database:
        database.execute("PRAGMA user_version = 99")
    return data


def _no_marker_and_newer_store(data: Path) -> Path:
    (data / MARKER_NAME).unlink()
    return _newer_store(data)


def _linked_store(data: Path) -> Path:
    (data / STORE_NAME).rename(data.parent / "store")
    (data / STORE_NAME).symlink_to(data.parent / "store")
    return data


def _linked_uploads(data: Path) -> Path:
    family(data.parent / "films")
    (data / "uploads").rmdir()
    (data / "uploads").symlink_to(data.parent / "films" / "uploads")
    return data


def _linked_aside(data: Path) -> Path:
    family(data.parent / "films")
    (data / "aside").symlink_to(data.parent / "films")
    return data


def _earlier_with_films(data: Path) -> Path:
    return family(make_earlier(data))


def _earlier_with_a_file(data: Path) -> Path:
    write(make_earlier(data) / "notes.txt", "mine")
    return data


def _earlier_with_a_film_in_a_job(data: Path) -> Path:
    write(next((data / "jobs").iterdir()) / "holiday.mp4", "mine")
    return make_earlier(data)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (_foreign, "is not the job service's: .* it holds jobs, uploads"),
        (_only_a_note, r"it holds note\.txt"),
        (_hidden_note, r"it holds \.note"),
        (_link_to_foreign, "is not the job service's"),
        (_link_to_nothing, "leads nowhere"),
        (_a_file, "is no folder"),
        (_below_a_file, "cannot be used as a data folder"),
        pytest.param(_foreign_owner, f"belongs to user {NOBODY}", marks=as_root),
        (_newer_marker, "newer voxroute"),
        (_older_marker, "is damaged"),
        (_other_marker, "is no marker of the job service"),
        (_too_deep, "is no marker of the job service"),
        (_no_json, "is no marker of the job service"),
        (_no_id, "is damaged"),
        (_linked_marker, "is a link"),
        (_no_marker_and_no_store, "is not the job service's"),
        (_another_store, "store of another data folder"),
        (_no_store_of_ours, "is no store of a job service"),
        (_no_marker_and_no_store_of_ours, "is no store of a job service"),
        (_newer_store, "newer voxroute"),
        (_no_marker_and_newer_store, "newer voxroute"),
        (_linked_store, "is a link"),
        (_linked_uploads, "is a link"),
        (_linked_aside, "is a link"),
        (_earlier_with_films, r"uploads/a\.mp4, uploads/family, jobs/2.* cannot be"),
        (_earlier_with_a_file, r"notes\.txt cannot be"),
        (_earlier_with_a_film_in_a_job, r"holiday\.mp4 cannot be"),
    ],
)
def test_a_folder_that_cannot_be_worked_in_is_refused_and_keeps_every_file(
    data: Path, wrong: Callable[[Path], Path], sentence: str
) -> None:
    """The sentence says what is wrong; no file around is moved, changed or lost."""
    path = wrong(data)
    before = files(data.parent)
    with pytest.raises(StoreError, match=sentence) as error:
        start(path)
    assert "--data-dir" in str(error.value)
    after = files(data.parent)
    for name in (f"data/{own}{suffix}" for own in (STORE_NAME,) for suffix in ("-wal", "-shm")):
        after.pop(name, None)  # SQLite's, of a store that it has looked into
    assert after == before


@pytest.mark.parametrize("wrong", [_foreign, _only_a_note, _earlier_with_films, _link_to_foreign])
def test_not_even_a_time_changes_in_a_folder_of_somebody_else(
    data: Path, wrong: Callable[[Path], Path]
) -> None:
    """No lock, no marker, no permission, no -wal: it is only looked at."""
    path = wrong(data)
    before = everything(data.parent)
    with pytest.raises(StoreError):
        start(path)
    assert everything(data.parent) == before


# --- what is the service's is worked in, whatever happened to it, and nothing is deleted


def _linked(data: Path) -> Path:
    link = data.parent / "link"
    link.symlink_to(data)
    return link


def _marker_missing(data: Path) -> Path:
    (data / MARKER_NAME).unlink()
    return data


def _store_lost(data: Path) -> Path:
    (data / STORE_NAME).unlink()
    return data


def _store_emptied(data: Path) -> Path:
    write(data / STORE_NAME, "")
    return data


def _all_databases_lost(data: Path) -> Path:
    (data / STORE_NAME).unlink()
    (data / LOCK_NAME).unlink()
    return data


def _store_of_before(data: Path) -> Path:
    shutil.copyfile(data / STORE_NAME, data.parent / "backup")
    add_job(data, done=True)
    shutil.copyfile(data.parent / "backup", data / STORE_NAME)
    return data


def _store_of_before_the_end(data: Path) -> Path:
    """The waiting job has been done since the backup."""
    waits = next(j.id for j in start(data).jobs.values() if j.state != SUCCEEDED)
    write(data / "jobs" / waits / "results" / "film.transcript.json", "hours of work")
    return data


def _first_version_restored(data: Path) -> Path:
    own = (data / MARKER_NAME).read_text()
    write(make_earlier(data) / MARKER_NAME, own)
    return data


def _earlier(data: Path) -> Path:
    write(data / "uploads" / "tmpab1_cd2e", "half a film")
    write(data / ".cache" / "model", "weights")
    return make_earlier(data)


def _job_folders_gone(data: Path) -> Path:
    (data / "jobs").rename(data.parent / "jobs")
    return data


def _only_marker_left(data: Path) -> Path:
    for name in ("jobs", "uploads"):
        (data / name).rename(data.parent / name)
    (data / STORE_NAME).unlink()
    return data


def _strangers_inside(data: Path) -> Path:
    family(data)
    write(data / "jobs" / "note.txt", "mine")
    (data / "jobs" / "0123456789ab").symlink_to(data.parent)
    write(data / "notes.txt", "mine")
    return data


@pytest.mark.parametrize(
    ("wrong", "told", "jobs"),
    [
        (_linked, "", 2),
        (_marker_missing, "the data folder had no marker", 2),
        (_store_lost, "the store does not know this", 0),
        (_store_emptied, "the store does not know this", 0),
        (_all_databases_lost, "the store does not know this", 0),
        (_store_of_before, "the store does not know this", 2),
        (_store_of_before_the_end, "the store does not know this", 2),
        (_first_version_restored, "", 2),
        (_earlier, "the data folder had no marker", 2),
        (_job_folders_gone, "results are gone", 2),
        (_only_marker_left, "", 0),
        (_strangers_inside, "the store does not know this", 2),
    ],
)
def test_a_start_loses_no_file_whatever_happened_to_its_folder(
    data: Path, wrong: Callable[[Path], Path], told: str, jobs: int
) -> None:
    """What the store does not know lies aside, with its content; a second start changes nothing."""
    path = wrong(data)
    before = files(data)
    first = start(path)
    assert told in first.told
    assert len(first.jobs) == jobs
    assert not lost(before, data)
    assert marker(data)["version"] == 1
    between = files(data)
    second = start(path)
    assert second.jobs == first.jobs
    assert {k: v for k, v in files(data).items() if k not in SERVICES_OWN} == {
        k: v for k, v in between.items() if k not in SERVICES_OWN
    }


def test_a_new_or_empty_folder_becomes_the_services(tmp_path: Path) -> None:
    """Marker and store have one id; what mkfs or a start that was cut short leaves is nothing."""
    for folder in (tmp_path / "a" / "b", tmp_path / "empty", tmp_path / "disk", tmp_path / "cut"):
        if folder.name != "b":
            folder.mkdir()
    (tmp_path / "disk" / "lost+found").mkdir()
    (tmp_path / "cut" / "uploads").mkdir()
    (tmp_path / "cut" / LOCK_NAME).touch()
    write(tmp_path / "cut" / f".{MARKER_NAME}.0123456789abcdef", "{")
    ids = set[str]()
    for path in (tmp_path / "a" / "b", tmp_path / "empty", tmp_path / "disk", tmp_path / "cut"):
        assert not start(path).jobs
        ids.add(marker(path)["id"])
        with contextlib.closing(sqlite3.connect(path / STORE_NAME)) as database:
            (kept,) = database.execute("SELECT value FROM facts").fetchone()
        assert kept == marker(path)["id"]
        start(path)
        assert marker(path)["id"] == kept
    assert len(ids) == 4


def test_a_folder_of_an_earlier_version_killed_at_once_is_known_by_its_log(data: Path) -> None:
    """The tables may be in the -wal alone; a copy is looked into, and the original not touched."""
    make_earlier(data)
    database = sqlite3.connect(data / STORE_NAME, isolation_level=None)
    try:
        database.execute("UPDATE jobs SET attempts = 7")
        killed = data.parent / "killed"
        shutil.copytree(data, killed)
    finally:
        database.close()
    assert (killed / f"{STORE_NAME}-wal").stat().st_size
    assert {job.attempts for job in start(killed).jobs.values()} == {7}


def test_two_services_do_not_share_a_folder(data: Path) -> None:
    """The second one is told to take another folder, also through a link; it changes nothing."""
    with contextlib.closing(DataFolder(data)):
        before = files(data.parent)
        for path in (data, _linked(data)):
            with pytest.raises(StoreBusyError, match="--data-dir"):
                start(path)
        (data.parent / "link").unlink()
        assert files(data.parent) == before


@as_root
def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """DiskFullError for a new folder and for one with jobs, whose next start has them all."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "new").mkdir()
        full = disk / "full"
        with contextlib.suppress(OSError), full.open("wb") as file:
            for _ in range(1024):
                file.write(b"x" * 1024)
                file.flush()
        with pytest.raises(DiskFullError, match="free some space"):
            start(disk / "new")
        full.unlink()
        job_id = add_job(disk / "new", done=True)
        with contextlib.suppress(OSError), full.open("wb") as file:
            for _ in range(1024):
                file.write(b"x" * 1024)
                file.flush()
        before = files(disk / "new")
        with contextlib.suppress(ServingError):
            start(disk / "new")
        assert not lost(before, disk / "new")
        full.unlink()
        assert start(disk / "new").jobs[job_id].state == SUCCEEDED


@as_root
def test_a_folder_that_cannot_be_written_is_told(data: Path, tmp_path: Path) -> None:
    """A disk that was mounted read-only, with the data folder on it."""
    with mounted(tmp_path / "disk", "size=4m") as disk:
        shutil.copytree(data, disk / "data")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = files(disk)
        with pytest.raises(StoreError, match=r"cannot be used|may not be written|cannot be opened"):
            start(disk / "data")
        assert files(disk) == before


AS_NOBODY = """
import os, sys
from pathlib import Path
from voxroute_orchestrator.jobs.errors import StoreError
from voxroute_orchestrator.jobs.files import DataFolder
os.setgid(65534)
os.setuid(65534)
try:
    DataFolder(Path(sys.argv[1]))
except StoreError as error:
    sys.exit(str(error))
"""


@as_root
def test_a_folder_without_permissions_for_its_own_user_is_told(data: Path) -> None:
    """Its files belong to the service's user, and it may not be written to: a sentence."""
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        closed = Path(shutil.copytree(data, Path(open_to_all) / "data"))
        for path in (closed, *closed.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        (closed / LOCK_NAME).unlink()
        closed.chmod(0o500)
        before = files(closed)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(closed)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, done.stderr
        assert "Permission denied" in done.stderr
        assert "Traceback" not in done.stderr
        assert files(closed) == before


# --- after a restore


def test_jobs_whose_files_are_gone_have_failed_until_they_are_back(data: Path) -> None:
    """A sentence each; with the files back the next start has the results again."""
    whole = start(data).jobs
    done = next(job.id for job in whole.values() if job.state == SUCCEEDED)
    _job_folders_gone(data)
    gone = start(data).jobs
    assert all(job.state == jobs_pb2.JOB_STATE_FAILED for job in gone.values())
    assert all(job.error.startswith(LOST) for job in gone.values())
    assert "film.hi.srt" in gone[done].error
    shutil.rmtree(data / "jobs")
    (data.parent / "jobs").rename(data / "jobs")
    back = start(data).jobs
    assert back[done].state == SUCCEEDED
    assert not back[done].error
    assert back[done].artifacts == whole[done].artifacts


def test_results_that_differ_from_what_the_store_knows_are_told(data: Path) -> None:
    """A job's folder of another day than the store: no client gets what it was not promised."""
    done = next(job.id for job in start(data).jobs.values() if job.state == SUCCEEDED)
    write(data / "jobs" / done / "results" / "film.hi.srt", "of another day")
    job = start(data).jobs[done]
    assert job.state == jobs_pb2.JOB_STATE_FAILED
    assert "film.hi.srt" in job.error


def test_jobs_of_a_lost_store_come_back_with_its_backup(data: Path) -> None:
    """What was put aside is moved back, the backup of the store is put in place: all is there."""
    backup = data.parent / "backup"
    shutil.copyfile(data / STORE_NAME, backup)
    whole = start(data).jobs
    _store_lost(data)
    start(data)
    (aside,) = (data / "aside").iterdir()
    for folder in (aside / "jobs").iterdir():
        folder.rename(data / "jobs" / folder.name)
    shutil.copyfile(backup, data / STORE_NAME)
    assert start(data).jobs == whole


def test_the_log_of_another_store_beside_a_restored_one_is_no_defect(data: Path) -> None:
    """A -wal that was left when the backup was put in place: a sentence, or the backup's jobs."""
    backup = data.parent / "backup"
    shutil.copyfile(data / STORE_NAME, backup)
    database = sqlite3.connect(data / STORE_NAME, isolation_level=None)
    try:
        for k in range(300):
            database.execute("INSERT INTO facts VALUES (?, ?)", (f"x{k}", "y" * 300))
        database.execute("UPDATE jobs SET attempts = 7")
        log = (data / f"{STORE_NAME}-wal").read_bytes()
    finally:
        database.close()
    shutil.copyfile(backup, data / STORE_NAME)
    (data / f"{STORE_NAME}-wal").write_bytes(log)
    before = files(data)
    with contextlib.suppress(ServingError):
        start(data)
    assert not lost(before, data)


# --- what is removed


def test_only_uploads_that_the_service_itself_has_left_are_removed(data: Path) -> None:
    """By their names and kind; a link or a second name of somebody's file is put aside unread."""
    with contextlib.closing(DataFolder(data)) as folder:
        upload = folder.upload(1000)
        upload.__enter__()
        upload.write(b"half a film")
        (partial,) = (data / "uploads").iterdir()
        film = write(data.parent / "film.mp4", "film")
        prefix = folder.id
        (data / "uploads" / f"{prefix}-link.part").symlink_to(film)
        os.link(film, data / "uploads" / f"{prefix}-second.part")
        write(data / "uploads" / f"{'0' * 32}-other.part", "of another folder")
        write(data / "uploads" / f"{prefix}-folder.part" / "film.mp4", "film")
        write(data / "uploads" / "tmpabcdefgh", "of an earlier version")
        before = files(data)
        with contextlib.closing(SqliteStore(folder.path, data_id=folder.id)) as store:
            reconcile(store, folder)
        assert lost(before, data) == [f"uploads/{partial.name}"]
        assert not list((data / "uploads").iterdir())
        assert folder.count_aside() == 5
        assert film.read_text() == "film"
        upload.__exit__(None, None, None)


# --- services that share it


def _begun_at_once(data: Path) -> list[DataFolder]:
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda _: DataFolder(data, shared=True), range(4)))


def test_a_folder_is_shared_by_those_who_say_so_and_nobody_else(tmp_path: Path) -> None:
    """All that start at once have one marker; whoever wants it alone is told, during and after."""
    for number in range(30):
        [found] = {folder.id for folder in _begun_at_once(tmp_path / f"data-{number}")}
        assert found
    data = tmp_path / "data"
    sharing = _begun_at_once(data)
    before = files(data)
    with pytest.raises(StoreError, match="start this one with their --engine"):
        DataFolder(data)
    for folder in sharing:
        folder.close()
    with pytest.raises(StoreError, match="start this one with their --engine"):
        DataFolder(data)
    assert files(data) == before
    DataFolder(data, shared=True).close()


def test_a_folder_with_jobs_of_its_own_is_not_shared(tmp_path: Path) -> None:
    """Nor one of the first version, which had no marker; every file is as it was."""
    data = tmp_path / "data"
    add_job(data, done=True)
    for change in (lambda: None, lambda: make_earlier(data)):
        change()
        before = everything(data)
        with pytest.raises(StoreError, match="leave out --engine"):
            DataFolder(data, shared=True)
        assert everything(data) == before
    assert start(data).jobs


# --- who can read it


@pytest.mark.usefixtures("no_umask")
def test_a_folder_that_is_open_to_others_is_closed_at_the_start(tmp_path: Path) -> None:
    """Folders 0700, files 0600, whoever made them how; a link's target keeps its permissions."""
    data = tmp_path / "data"
    data.mkdir(mode=0o777)
    done = add_job(data, done=True)
    outside = write(tmp_path / "outside", "x")
    (data / "jobs" / done / "results" / "link").symlink_to(outside)
    for path in (data, *data.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() else 0o666)
    assert "open to others" in start(data).told
    opened = [path for path in (data, *data.rglob("*")) if path.lstat().st_mode & 0o077]
    assert [path.name for path in opened] == ["link"]
    assert stat.S_IMODE(outside.stat().st_mode) == 0o666
    assert "open to others" not in start(data).told


@pytest.mark.usefixtures("no_umask")
def test_the_store_and_its_logs_are_closed_from_their_first_moment(tmp_path: Path) -> None:
    """Also before anything mends them: nobody opens them meanwhile."""
    with contextlib.closing(SqliteStore(tmp_path)) as store:
        store.submit("a", "", CONFIG)
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == dict.fromkeys((STORE_NAME, f"{STORE_NAME}-wal", f"{STORE_NAME}-shm"), 0o600)


def test_the_first_version_of_the_tables_never_changes() -> None:
    """Stores of it are out there, and a data folder without a marker is known by them."""
    digest = hashlib.sha256(database.MIGRATIONS[0].encode()).hexdigest()
    assert digest.startswith("a7c0ec34c8e46ac2")


def test_what_is_left_of_uploads_of_a_killed_service_is_removed_from_a_shared_folder(
    tmp_path: Path,
) -> None:
    """After a day, where nobody writes it; an upload that comes slowly stays, as does a new one."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from voxroute_orchestrator.jobs.files import DataFolder\n"
        "with DataFolder(Path(sys.argv[1]), shared=True).upload(1000) as upload:\n"
        "    print(upload.path, flush=True)\n    time.sleep(100)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    services = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        lines = [service.stdout.readline() for service in services if service.stdout]
        old, new, slow = (Path(line.strip()) for line in lines)
        for service in services[:2]:
            service.kill()
            service.wait(30)
        yesterday = time.time() - 25 * 3600
        for path in (old, slow):
            os.utime(path, (yesterday, yesterday))
        with contextlib.closing(DataFolder(tmp_path / "data", shared=True)) as folder:
            foreign = folder.uploads / "film.part"
            foreign.write_bytes(b"x")
            os.utime(foreign, (0, 0))
            with folder.upload(1000) as upload:
                assert set(folder.uploads.iterdir()) == {new, slow, foreign, upload.path}
    finally:
        for service in services:
            service.kill()
            service.wait(30)
            assert service.stdout is not None
            service.stdout.close()
