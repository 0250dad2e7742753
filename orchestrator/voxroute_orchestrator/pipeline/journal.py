"""What a job has finished, kept as it is finished: in a SQLite file for each job, if nothing else.

Each window and each translation is kept as a whole: whatever ends the process or the machine, the
journal holds whole windows, and a run that goes on repeats none of them.

What every journal promises; `tests/orchestrator/pipeline/test_journal_contract.py` asks it of each:

- What a call has kept is on the disk when it returns, and is read from then on, here and by
  whoever opens the journal next.
- Calls for several spans may be under way at once. One that is cancelled has kept all or nothing.
- Windows of a span are read in their order; of facts and translations of one name the last one is.
- `discard` forgets everything; what an earlier run still writes then is in no journal any more.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from voxroute_orchestrator.errors import OutputError, UsageError
from voxroute_orchestrator.files import make_private
from voxroute_orchestrator.names import MAX_BYTES, fitted, shown
from voxroute_orchestrator.transcript import (
    AsrStats,
    IgnoredOption,
    Model,
    Recognition,
    Segment,
    TranslatedSegment,
    Translation,
    Untranscribed,
)

_VERSION = 2  # of the tables, in SQLite's user_version
_SQLITE_ENDING = len("-journal")  # the longest that SQLite adds to a file's name
_MAX_PATH_BYTES = 512 - _SQLITE_ENDING  # SQLite (3.50), MAX_PATHNAME of os_unix.c
_LEAST_BYTES = 40  # of a name: in a deeper folder it is too long whatever is cut
_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE spans (
    span INTEGER PRIMARY KEY, start_s REAL NOT NULL, end_s REAL NOT NULL,
    stats TEXT  -- NULL while it is not complete
);
CREATE TABLE windows (
    span INTEGER NOT NULL, resume_from_s REAL NOT NULL, segments TEXT NOT NULL,
    untranscribed TEXT NOT NULL,
    PRIMARY KEY (span, resume_from_s)
);
CREATE TABLE translations (
    target TEXT NOT NULL, segment INTEGER NOT NULL, item TEXT NOT NULL,
    PRIMARY KEY (target, segment)
);
"""


@dataclass(slots=True)
class KeptSpan:
    """What is finished of a span: up to where, seconds of media, and the segments."""

    start_s: float
    end_s: float
    done_s: float = 0.0
    segments: list[Segment] = field(default_factory=list[Segment])
    untranscribed: list[Untranscribed] = field(default_factory=list[Untranscribed])
    stats: AsrStats | None = None
    """What it cost; None while it is not complete."""


class Journal(Protocol):
    """The journal of one job. Lives on one event loop.

    Every method raises OutputError where it cannot be written or read, TakenError where another
    run has followed this one, whose journal it is then.
    """

    def fact(self, name: str) -> Any:
        """A fact that was kept; None for none."""
        ...

    async def keep_fact(self, name: str, value: Any) -> None:
        """Keeps a fact, as JSON, in place of one of that name."""
        ...

    def spans(self) -> dict[int, KeptSpan]:
        """What is finished of each span that was begun, by its index."""
        ...

    async def keep_window(
        self,
        span: int,
        bounds: tuple[float, float],
        segments: Sequence[Segment],
        untranscribed: Sequence[Untranscribed],
        resume_from_s: float,
    ) -> None:
        """Keeps what a finished window has given; `bounds` are those of its span, in seconds."""
        ...

    async def keep_span(self, span: int, bounds: tuple[float, float], stats: AsrStats) -> None:
        """Marks a span as complete."""
        ...

    def translations(self, target: str) -> list[TranslatedSegment]:
        """The translations of a language that are finished, by segment."""
        ...

    async def keep_translation(self, target: str, item: TranslatedSegment) -> None:
        """Keeps the translation of one segment, in place of an earlier one."""
        ...

    async def close(self) -> None:
        """Ends what is under way, and leaves the journal to whoever goes on."""
        ...

    async def discard(self) -> None:
        """Forgets everything, once the results are there; nothing can be kept any more."""
        ...


OpenJournal = Callable[[], Awaitable[Journal]]
"""Opens the journal of a job, and keeps from it whoever has it. Raises OutputError, TakenError."""


class SqliteJournal:
    """Journal: a SQLite file. It belongs to the thread that opened it.

    Its methods wait for the disk, which takes a millisecond, and for nothing else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if _path_bytes(path) > _MAX_PATH_BYTES:
            raise OutputError(
                f"the path of the journal, {shown(path)}, is longer than the {_MAX_PATH_BYTES}"
                " bytes that SQLite takes; name a folder with a shorter path"
            )
        with self._failures():
            _keep_private(path)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")  # a power cut loses no window
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._database.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        elif version == 1:  # knew no speech without text
            self._database.executescript(
                "BEGIN IMMEDIATE; ALTER TABLE windows ADD COLUMN untranscribed TEXT NOT NULL"
                f" DEFAULT '[]'; PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        elif version != _VERSION:
            raise UsageError(
                f"{shown(self.path.name)} was written by another version of voxroute; run the job"
                " anew, without --resume"
            )

    @classmethod
    def begin(cls, path: Path) -> Self:
        """A journal with nothing in it; what another run has left there is thrown away."""
        discard(path)
        return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def close(self) -> None:
        """As Journal."""
        self._database.close()

    async def discard(self) -> None:
        """As Journal: the file is removed."""
        self._database.close()
        discard(self.path)

    @contextlib.contextmanager
    def _failures(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, OSError) as error:
            raise OutputError(
                f"the journal {shown(self.path.name)} cannot be written or read ({error});"
                " free some space or name another folder with -o. What it holds already is kept"
            ) from error

    def _execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._failures():
            return self._database.execute(statement, values).fetchall()

    # --- facts about the whole job

    def fact(self, name: str) -> Any:
        """As Journal."""
        rows = self._execute("SELECT value FROM facts WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    async def keep_fact(self, name: str, value: Any) -> None:
        """As Journal."""
        self._execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, json.dumps(value))

    # --- recognition

    def spans(self) -> dict[int, KeptSpan]:
        """As Journal."""
        kept = {
            span: KeptSpan(
                start_s,
                end_s,
                start_s,
                stats=None if stats is None else AsrStats.model_validate_json(stats),
            )
            for span, start_s, end_s, stats in self._execute(
                "SELECT span, start_s, end_s, stats FROM spans"
            )
        }
        for span, resume_from_s, segments, untranscribed in self._execute(
            "SELECT span, resume_from_s, segments, untranscribed FROM windows"
            " ORDER BY span, resume_from_s"
        ):
            kept[span].done_s = resume_from_s
            kept[span].segments += [Segment.model_validate(one) for one in json.loads(segments)]
            kept[span].untranscribed += [
                Untranscribed.model_validate(one) for one in json.loads(untranscribed)
            ]
        return kept

    async def keep_window(
        self,
        span: int,
        bounds: tuple[float, float],
        segments: Sequence[Segment],
        untranscribed: Sequence[Untranscribed],
        resume_from_s: float,
    ) -> None:
        """As Journal."""
        texts, gaps = (
            json.dumps([one.model_dump(mode="json") for one in found])
            for found in (segments, untranscribed)
        )
        with self._transaction():
            self._execute("INSERT OR IGNORE INTO spans VALUES (?, ?, ?, NULL)", span, *bounds)
            self._execute(
                "INSERT INTO windows VALUES (?, ?, ?, ?)", span, resume_from_s, texts, gaps
            )

    async def keep_span(self, span: int, bounds: tuple[float, float], stats: AsrStats) -> None:
        """As Journal."""
        self._execute(
            "INSERT INTO spans VALUES (?, ?, ?, ?)"
            " ON CONFLICT (span) DO UPDATE SET stats = excluded.stats",
            span,
            *bounds,
            stats.model_dump_json(),
        )

    # --- translation

    def translations(self, target: str) -> list[TranslatedSegment]:
        """As Journal."""
        rows = self._execute(
            "SELECT item FROM translations WHERE target = ? ORDER BY segment", target
        )
        return [TranslatedSegment.model_validate_json(item) for (item,) in rows]

    async def keep_translation(self, target: str, item: TranslatedSegment) -> None:
        """As Journal."""
        self._execute(
            "INSERT OR REPLACE INTO translations VALUES (?, ?, ?)",
            target,
            item.segment_id,
            item.model_dump_json(),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(OutputError):
                self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")


async def keep_accepted(journal: Journal, name: str, work: Recognition | Translation) -> None:
    """Keeps as a fact which model does a piece of work, with which options."""
    fact = work.model_dump(include={"model", "options", "ignored_options"})
    fact["ignored"] = fact.pop("ignored_options")
    await journal.keep_fact(name, fact)


def restore_accepted(journal: Journal, name: str, work: Recognition | Translation) -> None:
    """Fills in what `keep_accepted` has kept, if anything."""
    fact = journal.fact(name)
    if fact is None:
        return
    work.model = Model.model_validate(fact["model"])
    work.options = fact["options"]
    work.ignored_options = [IgnoredOption.model_validate(one) for one in fact["ignored"]]


def journal_path(folder: Path, title: str) -> Path:
    """Where the journal of a title in a folder is. Its name leaves room for SQLite's own files."""
    room = _MAX_PATH_BYTES - _path_bytes(folder) - len("/")
    most = max(min(room, MAX_BYTES - _SQLITE_ENDING), _LEAST_BYTES)
    return folder / fitted(title, ".voxroute-journal", beginning=".", most_bytes=most)


def _path_bytes(path: Path) -> int:
    """Bytes of a path as SQLite sees it: absolute, without links."""
    return len(os.fsencode(os.path.realpath(path)))


def _keep_private(path: Path) -> None:
    """What was said is for the owner's eyes, wherever the results go. Raises OSError."""
    make_private(path)  # SQLite gives new -wal and -shm files the permissions of this one
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).chmod(0o600)


def discard(path: Path) -> None:
    """Removes a journal, if there is one. Raises OutputError."""
    try:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{shown(path)} cannot be removed: {error.strerror}") from error
