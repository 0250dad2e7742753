"""The revisions of a transcript, and how they are kept.

The first is the transcript that the job has written. Each later one is a file of its own, whole:

    <data-dir>/jobs/<id>/revisions/<transcript>-<number>.json

`<transcript>` begins the SHA-256 of the job's transcript: what was made of another one, by a job
that has run again since, is never taken for a revision of this one. A file is written elsewhere,
flushed and renamed, so that after a power cut it is there as a whole or not at all.
"""

import contextlib
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxroute_orchestrator.jobs.errors import (
    ArtifactNotFoundError,
    JobStateError,
    RevisionConflictError,
    RevisionNotFoundError,
    StoreError,
)
from voxroute_orchestrator.jobs.files import DataFolder
from voxroute_orchestrator.jobs.store import SUCCEEDED, Store
from voxroute_orchestrator.jobs.stores.file_store import FileStore, ThereError
from voxroute_orchestrator.subtitles.results import transcript_name
from voxroute_orchestrator.transcript import Segment, Transcript

KEPT = 20
"""The newest revisions that are kept, beside the first."""
_TRANSCRIPT_DIGITS = 16
_MAX_BYTES = 1 << 28  # of a file; a transcript of 10,000 long segments has a quarter of that
_HELD_BYTES = (
    1 << 24
)  # of the files of revisions that stay in memory, where they take some 5 times as much


class Mark(BaseModel):
    """What a person has done to a segment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = ""
    """Its id, where that is not the segment's number."""
    edited: bool = False
    """Whether it is not as the job made it."""
    stale: tuple[str, ...] = ()
    """Languages whose translation is of an earlier text."""
    translated: tuple[str, ...] = ()
    """Languages whose translation a person has written."""
    earlier: dict[str, str] = Field(default_factory=dict[str, str])
    """The stale translations that were there before those, by language."""


UNMARKED = Mark()


class Revision(BaseModel):
    """A transcript at some moment."""

    model_config = ConfigDict(extra="forbid", validate_by_alias=True, validate_by_name=True)

    schema_: Literal["voxroute.revision/1"] = Field(default="voxroute.revision/1", alias="schema")
    number: int = 1
    transcript: Transcript
    marks: dict[int, Mark] = Field(default_factory=dict[int, Mark])
    """By number of the segment; those that nobody has touched have none."""
    speakers: dict[str, str] = Field(default_factory=dict[str, str])
    """How people call the speakers."""

    def mark_of(self, segment: Segment) -> Mark:
        """What was done to a segment."""
        return self.marks.get(segment.id, UNMARKED)

    def id_of(self, segment: Segment) -> str:
        """What clients know a segment by."""
        return self.mark_of(segment).id or str(segment.id)

    def by_id(self) -> dict[str, Segment]:
        """The segments by what clients know them by."""
        return {self.id_of(segment): segment for segment in self.transcript.segments}

    @property
    def next_number(self) -> int:
        """For a segment that is new."""
        return (
            max(
                itertools.chain((one.id for one in self.transcript.segments), self.marks), default=0
            )
            + 1
        )

    def with_segments(self, segments: Sequence[Segment], marks: dict[int, Mark]) -> "Revision":
        """The same with other segments, as far as they are marked, in order of their beginnings."""
        ordered = sorted(segments, key=lambda segment: segment.start_s)
        there = {segment.id for segment in ordered}
        transcript = self.transcript.model_copy(update={"segments": ordered})
        kept = {n: mark for n, mark in marks.items() if n in there and mark != UNMARKED}
        return self.model_copy(update={"transcript": transcript, "marks": kept})


@dataclass(frozen=True, slots=True)
class _Origin:
    """The transcript that a job has written."""

    job_id: str
    attempt: int
    name: str
    path: Path
    sha256: str


class Revisions:
    """The revisions of all jobs. Blocking; may be used from several threads.

    Those that were read last stay in memory: each time that a person's words are saved, the first
    one and the newest are wanted again. Nobody may change what is read.
    """

    def __init__(self, store: Store, folder: DataFolder, files: FileStore) -> None:
        self._store = store
        self._folder = folder
        self._files = files
        self._writing = threading.Lock()
        self._holding = threading.Lock()
        self._held: dict[Path, tuple[tuple[int, int], Revision]] = {}
        """What its file's bytes and time were, and the revision; the oldest use first."""

    def read(self, job_id: str, number: int = 0) -> Revision:
        """A revision; the newest for 0.

        Raises JobNotFoundError, JobStateError, RevisionNotFoundError, ArtifactNotFoundError,
        StoreError.
        """
        origin = self._origin(job_id)
        number = number or self._newest(origin)
        path = origin.path if number == 1 else self._path(origin, number)
        try:
            self._files.have(path)
            as_it_is = _look(path)
            with self._holding:
                as_it_was, held = self._held.get(path, (None, None))
            revision = held if held and as_it_was == as_it_is else _read(path, number)
        except FileNotFoundError as error:
            if number == 1:
                raise ArtifactNotFoundError(
                    f"the transcript of job {job_id} is gone, or damaged, where the service keeps"
                    " it; its operator can put it back, or resume the job with `restart`"
                ) from error
            raise RevisionNotFoundError(
                f"the transcript of job {job_id} has no revision {number}, or not any more: the"
                f" first and the {KEPT} newest are kept"
            ) from error
        except (OSError, ValidationError) as error:
            raise StoreError("the revision cannot be read; the service's log says why") from error
        self._hold(path, as_it_is, revision)
        return revision

    def _hold(self, path: Path, looks: tuple[int, int], revision: Revision) -> None:
        with self._holding:
            self._held.pop(path, None)
            self._held[path] = looks, revision
            while sum(n_bytes for (n_bytes, _), _ in self._held.values()) > _HELD_BYTES:
                del self._held[next(iter(self._held))]

    def name(self, job_id: str) -> str:
        """What the files of the job's results begin with. Raises as `read`."""
        return self._origin(job_id).name.removesuffix(transcript_name(""))

    def at(self, job_id: str, base: int) -> Revision:
        """The newest revision. Raises RevisionConflictError where that is not `base`."""
        newest = self.read(job_id)
        if newest.number != base:
            raise RevisionConflictError.of(base, newest.number)
        return newest

    def add(self, job_id: str, base: int, revision: Revision) -> int:
        """Keeps a revision as the next one behind `base`; its number.

        Raises RevisionConflictError where another was faster; DiskFullError; as `read`.
        """
        origin = self._origin(job_id)
        with self._writing, self._files.alone(self._path(origin, 0).parent):
            newest = self._newest(origin)
            if newest != base:
                raise RevisionConflictError.of(base, newest)
            number = base + 1
            whole = revision.model_copy(update={"number": number})
            path = self._path(origin, number)
            with self._folder.upload(_MAX_BYTES) as file:
                file.write(whole.model_dump_json(by_alias=True).encode())
                try:
                    self._files.keep(job_id, file, path)
                except ThereError as error:
                    raise RevisionConflictError.of(base, self._newest(origin)) from error
            with contextlib.suppress(OSError):  # it may be deleted already
                self._hold(path, _look(path), whole)
            old = sorted(one for one in self._numbers(origin) if one <= number - KEPT)
            self._files.prune([self._path(origin, one) for one in old])
            return number

    def _origin(self, job_id: str) -> _Origin:
        job = self._store.get(job_id)
        found = next((a for a in job.artifacts if a.name.endswith(transcript_name(""))), None)
        if job.state != SUCCEEDED or found is None:
            raise JobStateError(
                f"job {job_id} has no transcript yet; there is one once it has succeeded"
            )
        path = self._folder.job(job_id, job.attempts).results / found.name
        return _Origin(job_id, job.attempts, found.name, path, found.sha256)

    def _path(self, origin: _Origin, number: int) -> Path:
        name = f"{origin.sha256[:_TRANSCRIPT_DIGITS]}-{number}.json"
        return self._folder.job(origin.job_id, origin.attempt).revisions / name

    def _numbers(self, origin: _Origin) -> list[int]:
        start = f"{origin.sha256[:_TRANSCRIPT_DIGITS]}-"
        names = self._files.names(self._path(origin, 0).parent)
        return [
            int(name.removeprefix(start).removesuffix(".json"))
            for name in names
            if name.startswith(start) and name.endswith(".json")
        ]

    def _newest(self, origin: _Origin) -> int:
        return max(self._numbers(origin), default=1)


def _look(path: Path) -> tuple[int, int]:
    """Bytes, and when it was written. Raises OSError."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _read(path: Path, number: int) -> Revision:
    """Raises OSError, ValidationError."""
    text = path.read_bytes()
    if number == 1:
        return Revision(transcript=Transcript.model_validate_json(text))
    return Revision.model_validate_json(text)
