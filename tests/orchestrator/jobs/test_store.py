"""The SQLite store of the job service, and the log that writes its events."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jobs.database import APPLICATION_ID, MIGRATIONS, STORE_NAME
from voxroute_orchestrator.jobs.errors import DiskFullError, StoreBusyError, StoreError
from voxroute_orchestrator.jobs.event_log import EventLog
from voxroute_orchestrator.jobs.store import QUEUED, Event, as_text, message_event
from voxroute_orchestrator.jobs.stores import sqlite
from voxroute_orchestrator.jobs.stores.sqlite import SqliteStore

CONFIG = jobs_pb2.JobConfig(upload_name="film.wav")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A fresh store."""
    opened = SqliteStore(tmp_path)
    yield opened
    opened.close()


def test_what_a_killed_service_left_running_is_next(store: SqliteStore) -> None:
    """At the place that it had, before all that came later."""
    for job_id in ("a", "b", "c"):
        store.submit(job_id, "", CONFIG)
    for _ in range(2):
        store.claim()
    assert store.requeue_left("killed") == ["a", "b"]
    claimed = [store.claim() for _ in range(4)]
    assert [one and (one.job_id, one.epoch) for one in claimed] == [
        ("a", 2), ("b", 2), ("c", 1), None
    ]  # fmt: skip


def test_a_full_disk_is_told_and_changes_nothing(store: SqliteStore) -> None:
    """DiskFullError; the events before it are there, and none of those that did not fit."""
    store.submit("a", "", CONFIG)
    claimed = store.claim()
    assert claimed is not None
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskFullError, match="free some space"):
        store.append(claimed, [message_event("x" * 10_000) for _ in range(50)])
    assert store.get("a").last_sequence == 2
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.append(claimed, [message_event("it fits now")])
    assert [event.sequence for event in store.events("a", 0).events] == [1, 2, 3]


def test_a_locked_store_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE, with the advice to come back, when another process writes for too long."""
    monkeypatch.setattr(sqlite, "_BUSY_S", 0.1)
    store = SqliteStore(tmp_path)
    other = sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError) as error:
            store.submit("a", "", CONFIG)
        assert error.value.retry_after_s
        other.execute("ROLLBACK")
        assert store.submit("a", "", CONFIG)[1]
    finally:
        other.close()
        store.close()


def test_a_store_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its jobs are those of a client without a name, in the order that they had."""
    database = sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None)
    for migration in MIGRATIONS[:2]:
        database.executescript(migration)
    database.execute("PRAGMA user_version = 2")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.executemany(
        "INSERT INTO jobs (id, config, state, queued_at, create_ns) VALUES (?, ?, ?, ?, 1)",
        [("late", as_text(CONFIG), QUEUED, 8), ("early", as_text(CONFIG), QUEUED, 7)],
    )
    database.close()
    store = SqliteStore(tmp_path)
    store.submit("named", "", CONFIG, "dubbing")
    claimed = [store.claim() for _ in range(3)]
    assert [one and one.job_id for one in claimed] == ["early", "named", "late"]
    store.close()


def test_a_store_of_a_newer_version_or_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    """StoreError; a store is never downgraded."""
    SqliteStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / STORE_NAME, isolation_level=None)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="newer"):
        SqliteStore(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / STORE_NAME).write_text("no database " * 100)
    with pytest.raises(StoreError, match="no SQLite file"):
        SqliteStore(tmp_path / "other")


async def test_progress_is_kept_once_a_second_for_each_stage() -> None:
    """Beginning, end and what is said are always kept, in their order."""
    now = 100.0
    kept: list[Event] = []

    async def append(events: Sequence[Event]) -> None:
        kept.extend(events)

    log = EventLog(append, lambda: now)
    log.stage("transcribing", 100.0)
    for k in range(1000):
        now += 0.01
        log.advance("transcribing", k / 10)
    log.say("almost")
    log.finish("transcribing")
    await log.close()
    told = [event.body.WhichOneof("event") for event in kept]
    progress = told.index("message") - 1
    assert 9 <= progress <= 10  # in ten seconds
    assert told == ["stage"] * (1 + progress) + ["message", "stage"]
    last = kept[-1].body.stage
    assert (last.done.seconds, last.finished) == (100, True)


async def test_events_that_cannot_be_kept_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for a moment loses and doubles nothing."""
    monkeypatch.setattr("voxroute_orchestrator.jobs.event_log._AGAIN_S", 0.01)
    kept: list[str] = []
    failures = [DiskFullError("full"), DiskFullError("full")]

    async def append(events: Sequence[Event]) -> None:
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        kept.extend(event.body.message for event in events)

    log = EventLog(append)
    log.say("a")
    await asyncio.sleep(0)
    log.say("b")
    await log.close()
    assert kept == ["a", "b"]
