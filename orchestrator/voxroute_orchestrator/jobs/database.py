"""The store's file as a database: its tables by version, whose it is, locks, what goes wrong."""

import contextlib
import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from voxroute_orchestrator.jobs.errors import DiskFullError, StoreBusyError, StoreError

STORE_NAME = "jobs.sqlite"
APPLICATION_ID = 0x766F7872  # "voxr", in the header of the file; 0 in stores of version 1
_FIRST_TABLES = {"jobs", "events", "stages", "artifacts"}  # those of version 1
ID_FACT = "data_id"
DAMAGED = "is damaged; restore it from a backup, or name another folder"
# Each entry takes a store from the version of its index to the next; never change one that was
# released.
MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of submission
        id TEXT NOT NULL UNIQUE,
        idempotency_key TEXT UNIQUE,                -- NULL for none
        config TEXT NOT NULL,                       -- voxroute.jobs.v1.JobConfig as JSON
        state INTEGER NOT NULL,                     -- voxroute.jobs.v1.JobState
        error TEXT NOT NULL DEFAULT '',
        fresh INTEGER NOT NULL DEFAULT 0,           -- 1: throw away what is finished, then run
        queued_at INTEGER NOT NULL,                 -- the order of the queue
        create_ns INTEGER NOT NULL,                 -- times: nanoseconds since 1970, UTC
        start_ns INTEGER,
        end_ns INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        last_sequence INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX jobs_by_state ON jobs (state, queued_at);
    CREATE TABLE events (
        job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
        sequence INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        kind TEXT NOT NULL,                         -- state, stage, message, warning
        body TEXT NOT NULL,                         -- voxroute.jobs.v1.WatchJobResponse as JSON
        PRIMARY KEY (job, sequence)
    ) WITHOUT ROWID;
    CREATE TABLE stages (
        job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
        name TEXT NOT NULL,
        began INTEGER NOT NULL,                     -- the sequence number of its first event
        body TEXT NOT NULL,                         -- voxroute.jobs.v1.JobStage as JSON
        PRIMARY KEY (job, name)
    ) WITHOUT ROWID;
    CREATE TABLE artifacts (
        job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
        name TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (job, name)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,                      -- data_id: the id of the folder's marker
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE jobs ADD COLUMN tenant TEXT NOT NULL DEFAULT '';   -- the client, '' for no name
    ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;   -- 1 high, -1 low
    ALTER TABLE jobs ADD COLUMN began INTEGER NOT NULL DEFAULT 0;   -- the order of the claims
    DROP INDEX jobs_by_state;
    CREATE INDEX jobs_by_turn ON jobs (state, tenant, priority DESC, queued_at);
    CREATE INDEX jobs_by_beginning ON jobs (tenant, began);
    CREATE INDEX jobs_by_place ON jobs (queued_at);
    """,
)


def exclusive_lock(path: Path) -> sqlite3.Connection:
    """Holds an exclusive lock until it is closed or the process dies. Raises StoreBusyError.

    A file of its own: backups of the store itself are welcome at any time.
    """
    return _locked(path, ("BEGIN EXCLUSIVE",), "another job service works")


def shared_lock(path: Path) -> sqlite3.Connection:
    """Holds a lock beside others of its kind; whoever holds one keeps out `exclusive_lock`.

    Raises StoreBusyError.
    """
    # the transaction takes its lock with the first look
    look = ("BEGIN", "SELECT count(*) FROM sqlite_master")
    return _locked(path, look, "a job service that shares its folder with nobody works")


def _locked(path: Path, statements: Sequence[str], busy: str) -> sqlite3.Connection:
    with mapped(path):
        lock = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            for statement in statements:
                lock.execute(statement).fetchone()
        except sqlite3.OperationalError as error:
            lock.close()
            if _primary(error) == sqlite3.SQLITE_BUSY:
                raise StoreBusyError(
                    f"{busy} in {path.parent}; stop it, or name another folder with --data-dir"
                ) from error
            raise
        return lock


def id_of_earlier_store(path: Path) -> str:
    """The id of the data folder that a store is of; "" for one of a version that had none.

    Raises StoreError where the file is no job store, or a newer one's. Changes nothing, so it is
    not opened in the usual way: that would play its -wal back.
    """
    wal = path.with_name(path.name + "-wal")
    if not wal.is_file() or not wal.stat().st_size:
        return _checked_id(path, path)
    with disk(path.parent), tempfile.TemporaryDirectory(prefix="voxroute-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(wal, copy.with_name(wal.name))
        with mapped(path), contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return _checked_id(copy, path)


def _checked_id(path: Path, named: Path) -> str:
    address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with mapped(named), contextlib.closing(sqlite3.connect(address, uri=True)) as db:
        check_ours(db, named, made=True)
        return id_of(db)


def check_ours(db: sqlite3.Connection, path: Path, *, made: bool = False) -> None:
    """Raises StoreError for the database of something else, and for a newer version's.

    An empty one will do, unless it is to be `made` already.
    """
    version, tables = pragma(db, "user_version"), _tables(db)
    application = pragma(db, "application_id")
    empty = not tables and not version and not application
    first = version == 1 and not application and tables >= _FIRST_TABLES
    if (empty and made) or not (empty or first or application == APPLICATION_ID):
        raise StoreError(
            f"{path} is no store of a job service; name another folder with --data-dir"
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer voxroute (version {version} of its tables, this one"
            f" knows {len(MIGRATIONS)}); install that one, or name another folder with --data-dir"
        )


def pragma(db: sqlite3.Connection, name: str) -> int:
    """The number that one of SQLite's settings has."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _tables(db: sqlite3.Connection) -> set[str]:
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {row[0] for row in found if not row[0].startswith("sqlite_")}


def id_of(db: sqlite3.Connection) -> str:
    """The id of the data folder that a store is of; "" where it has none."""
    if "facts" not in _tables(db):
        return ""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (ID_FACT,)).fetchone()
    return str(row[0]) if row else ""


@contextlib.contextmanager
def disk(folder: Path) -> Generator[None]:
    """Turns what the disk refuses to do in a folder into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(f"the disk of {folder} is full; free some space") from error
        raise StoreError(
            f"{folder} cannot be used as a data folder ({error.strerror}: {error.filename}); mend"
            " that, or name another folder with --data-dir"
        ) from error


@contextlib.contextmanager
def mapped(path: Path) -> Generator[None]:
    """Turns what SQLite raises into errors that say what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = _primary(error)
        if code == sqlite3.SQLITE_FULL:
            raise DiskFullError(f"the disk of {path.parent} is full; free some space") from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise StoreBusyError(
                "another process holds the lock of the job store; try again", retry_after_s=2.0
            ) from error
        # the file's place is for the operator's eyes: the log has it as the cause
        kinds = {
            sqlite3.SQLITE_CORRUPT: DAMAGED,
            sqlite3.SQLITE_NOTADB: "is no SQLite file; name another folder with --data-dir",
            sqlite3.SQLITE_READONLY: "may not be written; check the permissions of the data folder",
            sqlite3.SQLITE_CANTOPEN: "cannot be opened; check the permissions of the data folder",
        }
        raise StoreError(
            f"the job store {kinds.get(code, 'cannot be used; the log says why')}"
        ) from error


def _primary(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where there is none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
