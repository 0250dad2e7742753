"""The files of jobs on NATS servers; each service has a folder of its own for copies.

What was written here goes to the server before anybody hears of it, and what is missing here comes
from there, with its digest compared. A copy goes when the job has, or an hour after its last use.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.files import sha256
from voxroute_orchestrator.jetstream import files as on_server
from voxroute_orchestrator.jetstream.files import FileName, GoneError, Kept
from voxroute_orchestrator.jetstream.link import ConflictError, Link, LinkError
from voxroute_orchestrator.jobs.errors import JobNotFoundError, StoreError
from voxroute_orchestrator.jobs.files import DataFolder, JobFiles, Upload, entered, written
from voxroute_orchestrator.jobs.stores.file_store import ThereError
from voxroute_orchestrator.jobs.stores.leases import serving_errors
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

T = TypeVar("T")

_UNUSED_S = 3600.0
_UNKNOWN_S = 300.0  # a job that is being submitted has files before it is one
_TIDY_S, _SWEEP_S = 60.0, 3600.0

_log = get_logger(__name__)


class Jobs(Protocol):
    """What is asked of the store of the jobs, on the same server."""

    @property
    def link(self) -> Link:
        """The connection."""
        ...

    async def get(self, job_id: str) -> jobs_pb2.Job:
        """As JobStore.get."""
        ...


class ServerFiles:
    """FileStore: on the server. Lives on the event loop that runs."""

    def __init__(self, jobs: Jobs, folder: DataFolder) -> None:
        self._jobs = jobs
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._fetching: dict[Path, asyncio.Future[None]] = {}
        self._used: dict[str, float] = {}
        self._tasks: list[asyncio.Future[None]] = []

    async def start(self, in_use: Callable[[], Collection[str]]) -> None:
        """As FileStore."""
        self._tasks = [
            asyncio.ensure_future(self._again(_TIDY_S, lambda: self.tidy(in_use()))),
            asyncio.ensure_future(self._again(_SWEEP_S, self._sweep)),
        ]

    async def close(self) -> None:
        """As FileStore."""
        works = [*self._tasks, *self._fetching.values()]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    # Coming and going:

    async def fetch(self, path: Path, tell: Callable[[str], None] | None = None) -> str:
        """As FileStore."""
        if not path.is_relative_to(self._folder.jobs):
            return ""
        file = self._named(path)
        with self._using(file.job_id), _gone():
            kept = await on_server.look(self._jobs.link, file)
            work = self._fetching.get(path)
            if work is None and await asyncio.to_thread(_is_there, path, kept):
                return kept.sha256
            if tell is not None:
                tell(f"{file.name} comes from the server, {kept.n_bytes / 1e6:.1f} MB")
            if work is None:
                work = asyncio.ensure_future(self._fetched(file, kept, path))
                self._fetching[path] = work
                work.add_done_callback(lambda done: self._end(path, done))
            await asyncio.shield(work)  # somebody else may wait for it, too
        return kept.sha256

    async def _fetched(self, file: FileName, kept: Kept, path: Path) -> None:
        upload = self._folder.upload(kept.n_bytes)
        with self._using(file.job_id):
            async with entered(upload):
                await on_server.get(self._jobs.link, file, kept, upload.write)
                await asyncio.to_thread(self._take, upload, path)

    def _end(self, path: Path, done: "asyncio.Future[None]") -> None:
        del self._fetching[path]
        if not done.cancelled() and done.exception() is not None:
            _log.warning("a file was not fetched", name=path.name, error=str(done.exception()))

    def _take(self, upload: Upload, path: Path) -> None:
        with written():
            path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        upload.take(path)

    async def share(self, path: Path, patience_s: float = 5.0) -> None:
        """As FileStore."""
        file = self._named(path)
        with self._using(file.job_id), serving_errors():
            try:
                await on_server.put(self._jobs.link, file, path, patience_s)
            except ConflictError:  # it was tried before, and nobody has answered
                kept = await on_server.look(self._jobs.link, file)
                if await asyncio.to_thread(sha256, path) != kept.sha256:
                    raise StoreError(
                        f"the server has another {file.name} of job {file.job_id}"
                    ) from None

    def have(self, path: Path) -> None:
        """As FileStore."""
        self._wait(self.fetch(path))

    def keep(self, job_id: str, file: Upload, target: Path) -> None:
        """As FileStore."""
        file.flush()
        self._wait(self._put(self._named(target), file.path))
        self._take(file, target)
        try:
            self._wait(self._jobs.get(job_id))
        except JobNotFoundError:  # its files were removed before this one came
            self._wait(self.remove(job_id))
            raise

    async def _put(self, file: FileName, source: Path) -> None:
        with self._using(file.job_id), serving_errors():
            try:
                await on_server.put(self._jobs.link, file, source)
            except ConflictError as error:
                raise ThereError(file.name) from error

    def names(self, folder: Path) -> list[str]:
        """As FileStore."""
        return self._wait(self._names(folder.parent.name, folder.name))

    async def _names(self, job_id: str, place: str) -> list[str]:
        with serving_errors():
            return await on_server.names(self._jobs.link, job_id, place)

    def alone(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """As FileStore: of two, `keep` tells the second."""
        del folder
        return contextlib.nullcontext()

    # Removing:

    def prune(self, paths: Sequence[Path]) -> None:
        """As FileStore; that there was such a file stays known: its name has had its turn."""
        for path in paths:
            path.unlink(missing_ok=True)
        if paths:  # those before it are empty already
            file = self._named(paths[-1])
            self._wait(self._or_later(on_server.empty(self._jobs.link, file)))

    async def forget(self, files: JobFiles) -> None:
        """As FileStore."""
        await asyncio.to_thread(files.forget)
        await self._or_later(self._remove_before(files, ("results", "revisions")))

    async def forget_earlier(self, files: JobFiles) -> None:
        """As FileStore."""
        await asyncio.to_thread(files.forget_earlier)
        await self._or_later(self._remove_before(files, ("results",)))

    async def _remove_before(self, files: JobFiles, kinds: Collection[str]) -> None:
        link, job_id = self._jobs.link, files.path.name
        for place in await on_server.places(link, job_id):
            kind, _, attempt = place.partition("-")
            if kind in kinds and attempt.isdecimal() and int(attempt) < files.attempt:
                await on_server.remove(link, job_id, place)

    async def remove(self, job_id: str) -> None:
        """As FileStore."""
        await asyncio.to_thread(self._folder.remove, job_id)
        self._used.pop(job_id, None)
        await self._or_later(on_server.remove(self._jobs.link, job_id))

    @staticmethod
    async def _or_later(work: Awaitable[None]) -> None:
        """Does what goes with the job, or after a day, where the server does not answer now."""
        try:
            await work
        except LinkError as error:
            _log.warning("files are removed from the server later", error=str(error))

    async def tidy(self, in_use: Collection[str], unused_s: float = _UNUSED_S) -> None:
        """Removes copies of jobs that are gone, and those that nobody has used for so long.

        Raises ServingError.
        """
        for path in await asyncio.to_thread(lambda: list(self._folder.jobs.iterdir())):
            job_id, now = path.name, time.monotonic()
            idle_s = now - self._used.setdefault(job_id, now)
            if job_id in in_use or idle_s < 0:
                continue
            if idle_s > unused_s or (idle_s > _UNKNOWN_S and not await self._is_known(job_id)):
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
                self._used.pop(job_id, None)

    async def _sweep(self) -> None:
        await on_server.sweep(self._jobs.link, self._is_known)

    async def _is_known(self, job_id: str) -> bool:
        """Raises ServingError."""
        try:
            await self._jobs.get(job_id)
        except JobNotFoundError:
            return False
        return True

    @staticmethod
    async def _again(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (LinkError, ServingError, OSError) as error:
                _log.warning("what nobody needs is removed later", error=str(error))
            await asyncio.sleep(every_s)

    def _named(self, path: Path) -> FileName:
        job_id, place, name = path.relative_to(self._folder.jobs).parts
        return FileName(job_id, place, name)

    @contextlib.contextmanager
    def _using(self, job_id: str) -> Generator[None]:
        """Keeps the copies of a job, and for a while longer."""
        self._used[job_id] = float("inf")
        try:
            yield
        finally:
            self._used[job_id] = time.monotonic()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What something gives that is done on the loop. Blocking."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextlib.contextmanager
def _gone() -> Generator[None]:
    """As serving_errors; a file that is not there is told as the disk would tell it."""
    with serving_errors():
        try:
            yield
        except GoneError as error:
            raise FileNotFoundError(str(error)) from error


def _is_there(path: Path, kept: Kept) -> bool:
    return path.is_file() and path.stat().st_size == kept.n_bytes
