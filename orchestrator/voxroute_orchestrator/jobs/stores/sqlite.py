"""Jobs, their stages, events and results in one SQLite file.

A committed change outlives a power cut (`synchronous=FULL`), so the sequence number of an event
that a watcher has seen is never given to another one.
"""

import contextlib
import json
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.json_format import Parse

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.files import make_private
from voxroute_orchestrator.jobs.database import (
    APPLICATION_ID,
    DAMAGED,
    ID_FACT,
    MIGRATIONS,
    STORE_NAME,
    check_ours,
    disk,
    id_of,
    mapped,
    pragma,
)
from voxroute_orchestrator.jobs.errors import (
    JobNotFoundError,
    LeaseLostError,
    StoreError,
)
from voxroute_orchestrator.jobs.store import (
    CANCELLED,
    ENDED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Batch,
    Event,
    as_text,
    check_deletable,
    check_resumable,
    key_taken,
    message_event,
    rank,
    state_event,
)

_BUSY_S = 10.0  # for a backup or a person with the sqlite3 shell to be done
_EVENTS_AT_ONCE = 500
_PAGE_BYTES = 1 << 20  # of jobs, after which a page ends; clients take messages of 4 MiB
_LAST_NUMBER = 2**63 - 1  # SQLite's largest

_NEXT = """
    SELECT * FROM jobs WHERE state = :queued AND tenant = (
        SELECT tenant FROM jobs AS one WHERE state = :queued GROUP BY tenant
        ORDER BY (SELECT count(*) FROM jobs WHERE state = :running AND tenant = one.tenant),
            (SELECT max(began) FROM jobs WHERE tenant = one.tenant), min(queued_at)
        LIMIT 1
    ) ORDER BY priority DESC, queued_at LIMIT 1
"""  # the rule of JobStore.claim

LOST = "the data folder does not hold what the job needs"
"""So begins the error of a job whose files are gone."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job whose turn it is."""

    job_id: str
    config: jobs_pb2.JobConfig
    epoch: int
    """How often it was claimed, this time included."""
    fresh: bool
    """Whether what is finished is to be thrown away first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store knows of a job's files."""

    job_id: str
    state: int
    upload_name: str
    """The media file; "" for one below a media root."""
    artifacts: dict[str, int]
    """The results, with their sizes in bytes."""
    lost: bool
    """Whether it has failed because its files were gone."""


class SqliteStore:
    """The store in a folder. Safe for several threads; one process at a time (data_folder.py).

    Blocking. Every method raises DiskFullError, StoreBusyError or StoreError where the disk does
    not do as it should; nothing is then changed. What takes a Claimed raises LeaseLostError once
    that is over.
    """

    def __init__(
        self,
        folder: Path,
        observe: Callable[[str, Sequence[Event]], None] | None = None,
        *,
        data_id: str = "",
    ) -> None:
        """Opens the store, making or migrating it. The folder is there already.

        `data_id` is the id of the folder, which the store gets if it has none; StoreError where
        it has another one. "" asks for none. `observe` hears the id of a job and its events once
        they are kept, on any thread.
        """
        self._observe = observe or _unobserved
        self.path = folder / STORE_NAME
        self._lock = threading.Lock()
        with disk(folder):
            make_private(self.path)  # SQLite gives -wal and -shm the permissions of this file
        with mapped(self.path):
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with mapped(self.path):
                self._db.row_factory = sqlite3.Row
                check_ours(self._db, self.path)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                self._check_whole()
            self._migrate(data_id)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Closes the file; another process may open the store then."""
        with self._lock:
            self._db.close()

    def _check_whole(self) -> None:
        """Raises StoreError for a damaged file: an old -wal beside a restored store makes one."""
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise StoreError(f"the job store {DAMAGED}")

    def _migrate(self, data_id: str) -> None:
        with self._transaction() as db:
            version = pragma(db, "user_version")
            for migration in MIGRATIONS[version:]:
                # not executescript: it would commit before the version is raised
                for statement in migration.split(";"):
                    db.execute(statement)
            if version < len(MIGRATIONS):
                db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            kept = id_of(db)
            if data_id and not kept:
                db.execute("INSERT INTO facts VALUES (?, ?)", (ID_FACT, data_id))
            elif data_id and kept != data_id:
                raise StoreError(
                    f"{self.path} is the store of another data folder; put this folder's own back,"
                    " from a backup if need be, or name another folder with --data-dir"
                )

    @contextlib.contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._lock, mapped(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends some transactions by itself
                    self._db.execute("ROLLBACK")
                raise

    # Submitting and looking:

    def find_submission(self, key: str, config: jobs_pb2.JobConfig) -> jobs_pb2.Job | None:
        """The job of an idempotency key; None for none.

        Raises InvalidJobError where the key was used with another config.
        """
        if not key:
            return None
        with self._transaction() as db:
            return _of_key(db, key, config)

    def submit(
        self, job_id: str, key: str, config: jobs_pb2.JobConfig, tenant: str = ""
    ) -> tuple[jobs_pb2.Job, bool]:
        """The queued job and True, or the job that has the key already and False.

        Raises InvalidJobError where the key was used with another config.
        """
        with self._transaction() as db:
            there = _of_key(db, key, config) if key else None
            if there is not None:
                return there, False
            cursor = db.execute(
                "INSERT INTO jobs (id, idempotency_key, config, state, queued_at, create_ns,"
                " tenant, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job_id, key or None, as_text(config), QUEUED),
                    *(_next_place(db), time.time_ns(), tenant, rank(config)),
                ),
            )
            events = [state_event(QUEUED)]
            _append(db, int(cursor.lastrowid or 0), events)
            job = _job(db, _row(db, job_id))
        self._observe(job_id, events)
        return job, True

    def waiting_of(self, tenant: str) -> int:
        """How many jobs of a client wait."""
        with self._transaction() as db:
            counted = "SELECT count(*) FROM jobs WHERE state = ? AND tenant = ?"
            return int(db.execute(counted, (QUEUED, tenant)).fetchone()[0])

    def ended_before(self, time_s: float) -> list[str]:
        """The ids of the jobs that have ended before a time, seconds since 1970."""
        with self._transaction() as db:
            found = db.execute("SELECT id FROM jobs WHERE end_ns < ?", (int(time_s * 1e9),))
            return [row["id"] for row in found]

    def get(self, job_id: str) -> jobs_pb2.Job:
        """The job. Raises JobNotFoundError."""
        with self._transaction() as db:
            return _job(db, _row(db, job_id))

    def page(
        self, states: Sequence[int], size: int, before: int | None
    ) -> tuple[list[jobs_pb2.Job], int | None]:
        """At most `size` jobs, the newest first, older than number `before`.

        Fewer where they are large. Also the number to go on with; None on the last page.
        """
        marks = ",".join("?" * len(states))
        where = f"state IN ({marks})" if states else "1"
        jobs: list[jobs_pb2.Job] = []
        last, used = None, 0
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT * FROM jobs WHERE {where} AND number < ? ORDER BY number DESC LIMIT ?",  # noqa: S608 - only question marks are put in
                (*states, before if before is not None else _LAST_NUMBER, size + 1),
            )
            for row in rows:  # one by one: each may hold a glossary of a megabyte
                if len(jobs) == size or used > _PAGE_BYTES:
                    return jobs, last
                jobs.append(_job(db, row))
                last, used = int(row["number"]), used + jobs[-1].ByteSize()
        return jobs, None

    def job_ids(self) -> set[str]:
        """The ids of all jobs."""
        with self._transaction() as db:
            return {row["id"] for row in db.execute("SELECT id FROM jobs")}

    def kept(self) -> list[Kept]:
        """What the store knows of the files of every job."""
        with self._transaction() as db:
            files: defaultdict[int, dict[str, int]] = defaultdict(dict)
            for row in db.execute("SELECT job, name, bytes FROM artifacts"):
                files[row["job"]][row["name"]] = row["bytes"]
            return [
                Kept(
                    row["id"],
                    row["state"],
                    json.loads(row["config"]).get("uploadName", ""),
                    files.get(row["number"], {}),
                    lost=row["error"].startswith(LOST),
                )
                for row in db.execute("SELECT number, id, state, config, error FROM jobs")
            ]

    # Events:

    def append(self, claimed: Claimed, events: Sequence[Event]) -> None:
        """Numbers and keeps the events, all or none."""
        with self._transaction() as db:
            _append(db, _held(db, claimed), events)
        self._observe(claimed.job_id, events)

    def events(self, job_id: str, after: int) -> Batch:
        """The next events after a sequence number, some hundreds at most.

        Raises JobNotFoundError.
        """
        with self._transaction() as db:
            job = _row(db, job_id)
            rows = db.execute(
                "SELECT sequence, time_ns, body FROM events WHERE job = ? AND sequence > ?"
                " ORDER BY sequence LIMIT ?",
                (job["number"], after, _EVENTS_AT_ONCE),
            ).fetchall()
        events: list[jobs_pb2.WatchJobResponse] = []
        for row in rows:
            event = Parse(row["body"], jobs_pb2.WatchJobResponse(sequence=row["sequence"]))
            event.time.FromNanoseconds(row["time_ns"])
            events.append(event)
        last = events[-1].sequence if events else after
        return Batch(events, ended=job["state"] in ENDED and last >= job["last_sequence"])

    # The life of a job:

    def claim(self) -> Claimed | None:
        """The job whose turn it is, RUNNING from now on; None where none waits."""
        with self._transaction() as db:
            row = db.execute(_NEXT, {"queued": QUEUED, "running": RUNNING}).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE jobs SET state = ?, attempts = attempts + 1,"
                " start_ns = coalesce(start_ns, ?), began = (SELECT max(began) + 1 FROM jobs)"
                " WHERE number = ?",
                (RUNNING, time.time_ns(), row["number"]),
            )
            events = [state_event(RUNNING)]
            _append(db, row["number"], events)
            config = Parse(row["config"], jobs_pb2.JobConfig())
        self._observe(row["id"], events)
        return Claimed(row["id"], config, row["attempts"] + 1, fresh=bool(row["fresh"]))

    def began_afresh(self, claimed: Claimed) -> None:
        """Notes that what was finished is thrown away, so that it is not done twice."""
        with self._transaction() as db:
            db.execute("UPDATE jobs SET fresh = 0 WHERE number = ?", (_held(db, claimed),))

    def end(
        self,
        claimed: Claimed,
        state: "jobs_pb2.JobState",
        *,
        error: str = "",
        artifacts: Sequence[jobs_pb2.Artifact] = (),
    ) -> None:
        """Ends a job, with the files that it leaves."""
        with self._transaction() as db:
            number = _held(db, claimed)
            db.execute(
                "UPDATE jobs SET state = ?, error = ?, end_ns = ? WHERE number = ?",
                (state, error, time.time_ns(), number),
            )
            db.execute("DELETE FROM artifacts WHERE job = ?", (number,))
            db.executemany(
                "INSERT INTO artifacts (job, name, bytes, sha256) VALUES (?, ?, ?, ?)",
                [(number, a.name, a.bytes, a.sha256) for a in artifacts],
            )
            events = [state_event(state)]
            _append(db, number, events)
        self._observe(claimed.job_id, events)

    def lose(self, job_id: str, why: str) -> None:
        """Ends a job whose files are gone; what it had is kept for the day they are back."""
        self._end_as(job_id, FAILED, f"{LOST}: {why}")

    def find_again(self, job_id: str) -> None:
        """Ends a job as SUCCEEDED whose results were gone and are back."""
        self._end_as(job_id, SUCCEEDED, "")

    def _end_as(self, job_id: str, state: "jobs_pb2.JobState", error: str) -> None:
        with self._transaction() as db:
            number = _row(db, job_id)["number"]
            db.execute(
                "UPDATE jobs SET state = ?, error = ?, end_ns = coalesce(end_ns, ?)"
                " WHERE number = ?",
                (state, error, time.time_ns(), number),
            )
            events = [state_event(state)]
            _append(db, number, events)
        self._observe(job_id, events)

    def cancel_queued(self, job_id: str) -> bool:
        """Whether the job waited; it is CANCELLED then. Raises JobNotFoundError."""
        with self._transaction() as db:
            row = _row(db, job_id)
            if row["state"] != QUEUED:
                return False
            db.execute(
                "UPDATE jobs SET state = ?, end_ns = ? WHERE number = ?",
                (CANCELLED, time.time_ns(), row["number"]),
            )
            events = [state_event(CANCELLED)]
            _append(db, row["number"], events)
        self._observe(job_id, events)
        return True

    def resume(self, job_id: str, *, restart: bool) -> jobs_pb2.Job:
        """The job, at the end of the queue. Raises JobNotFoundError, JobStateError."""
        with self._transaction() as db:
            row = _row(db, job_id)
            check_resumable(job_id, row["state"], restart=restart)
            db.execute(
                "UPDATE jobs SET state = ?, error = '', end_ns = NULL, fresh = max(fresh, ?),"
                " queued_at = ? WHERE number = ?",
                (QUEUED, int(restart), _next_place(db), row["number"]),
            )
            db.execute("DELETE FROM artifacts WHERE job = ?", (row["number"],))
            if restart:
                db.execute("DELETE FROM stages WHERE job = ?", (row["number"],))
            events = [state_event(QUEUED)]
            _append(db, row["number"], events)
            job = _job(db, _row(db, job_id))
        self._observe(job_id, events)
        return job

    def delete(self, job_id: str) -> None:
        """Forgets a job that has ended. Raises JobNotFoundError, JobStateError."""
        with self._transaction() as db:
            row = _row(db, job_id)
            check_deletable(job_id, row["state"])
            db.execute("DELETE FROM jobs WHERE number = ?", (row["number"],))

    def requeue(self, claimed: Claimed, why: str) -> None:
        """Puts a running job back to its own place in the queue."""
        with self._transaction() as db:
            events = _requeue(db, _held(db, claimed), why)
        self._observe(claimed.job_id, events)

    def requeue_left(self, why: str) -> list[str]:
        """Does so with every running job: nobody does any yet. Their ids."""
        left: dict[str, list[Event]] = {}
        with self._transaction() as db:
            running = db.execute(
                "SELECT number, id FROM jobs WHERE state = ? ORDER BY number", (RUNNING,)
            ).fetchall()
            for row in running:
                left[row["id"]] = _requeue(db, row["number"], why)
        for job_id, events in left.items():
            self._observe(job_id, events)
        return list(left)

    def in_state(self, state: "jobs_pb2.JobState") -> list[str]:
        """The ids of the jobs in a state."""
        with self._transaction() as db:
            found = db.execute("SELECT id FROM jobs WHERE state = ? ORDER BY number", (state,))
            return [row["id"] for row in found]


def _unobserved(job_id: str, events: Sequence[Event]) -> None:
    del job_id, events


def _row(db: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    row = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFoundError.of(job_id)
    return row


def _held(db: sqlite3.Connection, claimed: Claimed) -> int:
    """The number of a claimed job. Raises LeaseLostError where that is over."""
    row = db.execute(
        "SELECT number FROM jobs WHERE id = ? AND state = ? AND attempts = ?",
        (claimed.job_id, RUNNING, claimed.epoch),
    ).fetchone()
    if row is None:
        raise LeaseLostError.of(claimed.job_id, claimed.epoch)
    return int(row["number"])


def _requeue(db: sqlite3.Connection, number: int, why: str) -> list[Event]:
    db.execute("UPDATE jobs SET state = ? WHERE number = ?", (QUEUED, number))
    events = [message_event(why), state_event(QUEUED)]
    _append(db, number, events)
    return events


def _of_key(db: sqlite3.Connection, key: str, config: jobs_pb2.JobConfig) -> jobs_pb2.Job | None:
    row = db.execute("SELECT * FROM jobs WHERE idempotency_key = ?", (key,)).fetchone()
    if row is None:
        return None
    if row["config"] != as_text(config):
        raise key_taken(row["id"])
    return _job(db, row)


def _next_place(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT coalesce(max(queued_at), 0) + 1 FROM jobs").fetchone()[0])


def _append(db: sqlite3.Connection, number: int, events: Sequence[Event]) -> None:
    sequence = int(
        db.execute("SELECT last_sequence FROM jobs WHERE number = ?", (number,)).fetchone()[0]
    )
    for event in events:
        sequence += 1
        db.execute(
            "INSERT INTO events (job, sequence, time_ns, kind, body) VALUES (?, ?, ?, ?, ?)",
            (number, sequence, event.time_ns, event.kind, as_text(event.body)),
        )
        if event.kind == "stage":
            db.execute(
                "INSERT INTO stages (job, name, began, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (job, name) DO UPDATE SET body = excluded.body",
                (number, event.body.stage.name, sequence, as_text(event.body.stage)),
            )
    db.execute("UPDATE jobs SET last_sequence = ? WHERE number = ?", (sequence, number))


def _job(db: sqlite3.Connection, row: sqlite3.Row) -> jobs_pb2.Job:
    number = row["number"]
    stages = db.execute("SELECT body FROM stages WHERE job = ? ORDER BY began", (number,))
    artifacts = db.execute("SELECT * FROM artifacts WHERE job = ? ORDER BY name", (number,))
    job = jobs_pb2.Job(
        id=row["id"],
        config=Parse(row["config"], jobs_pb2.JobConfig()),
        state=row["state"],
        error=row["error"],
        stages=[Parse(stage["body"], jobs_pb2.JobStage()) for stage in stages],
        artifacts=[
            jobs_pb2.Artifact(name=a["name"], bytes=a["bytes"], sha256=a["sha256"])
            for a in artifacts
        ],
        last_sequence=row["last_sequence"],
        attempts=row["attempts"],
    )
    job.create_time.FromNanoseconds(row["create_ns"])
    if row["start_ns"] is not None:
        job.start_time.FromNanoseconds(row["start_ns"])
    if row["end_ns"] is not None:
        job.end_time.FromNanoseconds(row["end_ns"])
    return job
