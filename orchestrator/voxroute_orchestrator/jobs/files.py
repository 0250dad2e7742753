"""The files of the job service: uploads, media below the roots, results.

    <data-dir>/voxroute-data.json    the marker; see data_folder.py
    <data-dir>/jobs.sqlite           the store; see stores/sqlite.py
    <data-dir>/uploads/              files that are still on their way
    <data-dir>/jobs/<id>/media/      the uploaded file
    <data-dir>/jobs/<id>/journal.sqlite
    <data-dir>/jobs/<id>/results/    with an engine results-<attempt>/, and no journal
    <data-dir>/jobs/<id>/revisions/  the transcript as people have changed it; see revisions.py
    <data-dir>/jobs/<id>/sound/      the recording as browsers play it; see sound.py
    <data-dir>/aside/<time>/         what a start has found that is not the service's

With files on a server there are copies of those, and neither a store nor journals.

All of it is for the service's own user only.

Nothing here trusts a name that a client sends.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Self

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.files import sha256
from voxroute_orchestrator.jobs.data_folder import ASIDE, JOBS, UPLOADS, OwnedFolder, sync_folder
from voxroute_orchestrator.jobs.errors import (
    DiskFullError,
    InvalidJobError,
    MediaNotFoundError,
    StoreError,
    UploadTooLargeError,
)
from voxroute_orchestrator.names import MAX_BYTES, sent
from voxroute_orchestrator.subtitles.results import transcript_name
from voxroute_serving.telemetry.logs import get_logger

_ID_DIGITS = 12  # 48 random bits; a folder that is there already is not taken
_PARTIAL = ".part"
_RESULTS = "results"
_ABANDONED_S = 24 * 3600.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The folder of one job."""

    path: Path
    attempt: int = 0
    """Whose results; 0 where there are those of one at a time."""
    copies: bool = False
    """Whether they are of files on a server."""

    @property
    def media(self) -> Path:
        """Where the uploaded file is, alone."""
        return self.path / "media"

    @property
    def journal(self) -> Path:
        """What is finished."""
        return self.path / "journal.sqlite"

    @property
    def results(self) -> Path:
        """The files that a client may fetch."""
        return self.path / (f"{_RESULTS}-{self.attempt}" if self.attempt else _RESULTS)

    @property
    def revisions(self) -> Path:
        """What people have made of the transcript; on a server each transcript has its own."""
        return self.path / (f"revisions-{self.attempt}" if self.copies else "revisions")

    @property
    def sound(self) -> Path:
        """Where the sound is that browsers play, alone."""
        return self.path / "sound"

    def forget(self) -> None:
        """Throws away what is finished, and what people have made of it."""
        for path in self.path.glob(f"{self.journal.name}*"):  # SQLite's -wal and -shm, too
            path.unlink()
        shutil.rmtree(self.results, ignore_errors=True)
        shutil.rmtree(self.revisions, ignore_errors=True)

    def forget_earlier(self) -> None:
        """Throws away the results of the attempts before, which may write some even now."""
        for path in self.path.glob(f"{_RESULTS}-*"):
            number = path.name.rpartition("-")[2]
            if number.isdecimal() and int(number) < self.attempt:
                shutil.rmtree(path, ignore_errors=True)

    def has_complete_results(self) -> bool:
        """Whether the job was done to its end, whatever became of it since."""
        return any(self.results.glob(f"*{transcript_name('')}"))

    def size_of_result(self, name: str) -> int | None:
        """Bytes of a result; None where there is no such file."""
        path = self.results / name
        return path.stat().st_size if path.is_file() else None

    def artifacts(self) -> list[jobs_pb2.Artifact]:
        """The results that are there, with their checksums."""
        if not self.results.is_dir():
            return []
        return [
            jobs_pb2.Artifact(name=path.name, bytes=path.stat().st_size, sha256=sha256(path))
            for path in sorted(self.results.iterdir())
            if path.is_file() and not path.name.startswith(".")
        ]


class Upload:
    """A file on its way to the disk; gone at the end of the block unless it was taken.

    Raises UploadTooLargeError and DiskFullError. Blocking.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, prefix: str, before: Callable[[], None]
    ) -> None:
        """`before` is called when the block begins."""
        self._folder = folder
        self._prefix = prefix
        self._before = before
        self._limit_bytes = limit_bytes
        self.path = Path()
        """Where it is until then."""
        self._file: BinaryIO | None = None
        self.size = 0

    def __enter__(self) -> Self:
        self._before()
        with written():
            descriptor, name = tempfile.mkstemp(_PARTIAL, self._prefix, self._folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until the process is gone, if need be
            self.path = Path(name)
            self._file = os.fdopen(descriptor, "wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk: what is in its buffer goes anyway
                self._file.close()
            self.path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Adds the next bytes."""
        self.size += len(data)
        if self.size > self._limit_bytes:
            raise UploadTooLargeError(
                f"the file has more than {self._limit_bytes} bytes, the limit of this service; put"
                " it below a media root of the service and name it with media_path, or have"
                " --max-upload-bytes raised"
            )
        assert self._file is not None  # noqa: S101 - the block has begun
        with written():
            self._file.write(data)

    def flush(self) -> None:
        """Sees that who opens the file finds all of it."""
        assert self._file is not None  # noqa: S101 - the block has begun
        with written():
            self._file.flush()

    def take(self, target: Path) -> None:
        """Moves the whole file to its place, where a power cut does not lose it."""
        assert self._file is not None  # noqa: S101 - the block has begun
        with written():
            self._file.flush()
            os.fsync(self._file.fileno())
            # not its parents: where the job's folder is gone, the job is, too
            target.parent.mkdir(mode=0o700, exist_ok=True)
            self.path.replace(target)
            sync_folder(target.parent)
            sync_folder(target.parent.parent)


class DataFolder:
    """The data folder of the service, which no other process works in until `close`.

    But for services that share it, as `--engine` has them do. With `copies` all that is in it is on
    a server as well.
    """

    def __init__(self, path: Path, *, shared: bool = False, copies: bool = False) -> None:
        """Takes the folder; see OwnedFolder for what it raises."""
        self._owned = OwnedFolder(path, shared=shared, copies=copies)
        self._shared = shared
        self._copies = copies
        self.path = self._owned.path
        self.id = self._owned.id
        self.uploads = self.path / UPLOADS
        self.jobs = self.path / JOBS
        self._aside: Path | None = None

    def close(self) -> None:
        """Lets another process have the folder."""
        self._owned.close()

    def upload(self, limit_bytes: int) -> Upload:
        """A file that is to come, of at most so many bytes."""
        return Upload(self.uploads, limit_bytes, self._upload_prefix, self._sweep)

    def _sweep(self) -> None:
        """Removes what is left of uploads whose service was killed, in a folder that is shared.

        One that comes from somebody is locked, and grows: what has done neither for a day, by the
        clock of whoever has the files or ours, is nobody's. Blocking.
        """
        if not self._shared:  # there a start has done so
            return
        with contextlib.suppress(OSError):  # the next one sees to it
            for path in self.uploads.iterdir():
                age_s = time.time() - path.lstat().st_mtime
                if age_s > _ABANDONED_S and self._is_partial(path) and _is_unlocked(path):
                    path.unlink()
                    _log.info("the rest of an upload is removed", name=path.name)

    @property
    def _upload_prefix(self) -> str:
        return f"{self.id}-"  # tells a later start that the file is the service's own

    def job(self, job_id: str, attempt: int = 0) -> JobFiles:
        """The folder of a job; the id is one of the store's.

        Where jobs are shared, an attempt that was taken for dead may still write results, so that
        each has its own; those that count are of the last one, `Job.attempts`.
        """
        attempt = attempt if self._shared or self._copies else 0
        return JobFiles(self.jobs / job_id, attempt, self._copies)

    def new_job(self) -> tuple[str, JobFiles]:
        """A new id and its folder."""
        with written():
            while True:
                job_id = uuid.uuid4().hex[:_ID_DIGITS]
                try:
                    (self.jobs / job_id).mkdir(mode=0o700)
                except FileExistsError:
                    continue
                return job_id, self.job(job_id)

    def remove(self, job_id: str) -> None:
        """Removes the folder of a job that is no more, or never came to be."""
        shutil.rmtree(self.jobs / job_id, ignore_errors=True)

    def empty(self) -> None:
        """Removes all copies, and what is left of uploads that were cut off."""
        for path in self.uploads.iterdir():
            if self._is_partial(path):
                path.unlink()
        for path in self.jobs.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def clean(self, known: Collection[str]) -> None:
        """Puts aside what is neither the service's own nor of a job that is known.

        What is left of uploads that were cut off is removed, and nothing else ever.
        """
        for path in sorted(self.uploads.iterdir()):
            if self._is_partial(path):
                path.unlink()
                _log.info("the rest of an upload is removed", name=path.name)
            else:
                self.put_aside(path)
        for path in sorted(self.jobs.iterdir()):
            if path.name not in known:
                self.put_aside(path)

    def _is_partial(self, path: Path) -> bool:
        """Whether it is certain that the service has made the file and has not finished it."""
        status = path.lstat()
        named = path.name.startswith(self._upload_prefix) and path.name.endswith(_PARTIAL)
        return (
            named
            and stat.S_ISREG(status.st_mode)
            and status.st_uid == os.geteuid()
            and status.st_nlink == 1
        )

    def put_aside(self, path: Path) -> None:
        """Moves a file or folder below `aside/`; one that cannot be moved stays. Both are told."""
        place = path.relative_to(self.path)
        try:
            target = self._new_aside() / place
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.rename(target)
            sync_folder(target.parent)
            sync_folder(path.parent)
        except OSError as error:
            _log.error(
                "not the service's, and cannot be put aside", path=str(place), exc_info=error
            )
            return
        _log.warning(
            "the store does not know this; it is put aside",
            path=str(place),
            now=str(target.relative_to(self.path)),
        )

    def _new_aside(self) -> Path:
        """The folder of this start for what is put aside. Raises OSError."""
        if self._aside is None:
            (self.path / ASIDE).mkdir(mode=0o700, exist_ok=True)
            began = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            path, number = self.path / ASIDE / began, 1
            while path.exists():
                number += 1
                path = self.path / ASIDE / f"{began}-{number}"
            path.mkdir(mode=0o700)
            self._aside = path
        return self._aside

    def count_aside(self) -> int:
        """How many files and folders lie aside."""
        return sum(1 for _ in (self.path / ASIDE).glob("*/*/*"))


def _is_unlocked(path: Path) -> bool:
    """Whether no process writes an upload any more. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.asynccontextmanager
async def entered(upload: Upload) -> AsyncGenerator[None]:
    """The upload's block, entered and left on a thread."""
    await asyncio.to_thread(upload.__enter__)
    try:
        yield
    finally:
        await asyncio.shield(asyncio.to_thread(upload.__exit__, None, None, None))


def check_upload_name(name: str) -> str:
    """The name, fit for a file of its own. Raises InvalidJobError."""
    field = "config.job.upload_name"
    if not name or name != PurePosixPath(name).name or "\\" in name:
        raise InvalidJobError.of_field(field, "give the file's name without any folder")
    if name != sent(name):
        raise InvalidJobError.of_field(
            field, "it begins with a dot, or has ends of lines or other controls; rename the file"
        )
    if len(name.encode()) > MAX_BYTES:
        raise InvalidJobError.of_field(field, f"it has more than {MAX_BYTES} bytes; shorten it")
    return name


def media_below(roots: Sequence[Path], name: str) -> Path:
    """The real path of a file below one of the roots, links resolved.

    Raises MediaNotFoundError for everything else, and says no more about it: what is outside of
    the roots is not the client's business.
    """
    missing = MediaNotFoundError(
        f"there is no file {name[:100]!r} below the media roots of this service"
        if roots
        else "this service has no media roots; upload the file, or have --media-root set"
    )
    if not name or "\0" in name or PurePosixPath(name).is_absolute():
        raise missing
    for root in roots:
        try:
            real_root = root.resolve(strict=True)
            path = (real_root / name).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):  # none, a loop of links, an over-long name
            continue
        if path.is_relative_to(real_root) and path.is_file():
            return path
    raise missing


def media_of(config: jobs_pb2.JobConfig, files: JobFiles, roots: Sequence[Path]) -> Path:
    """Where the recording of a job is now. Raises MediaNotFoundError.

    A link below a media root may have changed since the job was taken.
    """
    if config.WhichOneof("media") == "upload_name":
        return files.media / config.upload_name
    return media_below(roots, config.media_path)


@contextlib.contextmanager
def written() -> Generator[None]:
    """Turns what the disk refuses into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(
                "the disk of the service is full; retry when space was freed"
            ) from error
        raise StoreError("the service cannot write to its data folder; its log says why") from error
