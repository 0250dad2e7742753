"""The files of jobs elsewhere, on NATS servers or in a bucket; the data folder has copies.

What was written here goes there before anybody hears of it, and what is missing here comes from
there, with its digest compared. A copy goes when the job has, or an hour after its last use.
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
from voxroute_orchestrator.jetstream.link import PATIENCE_S
from voxroute_orchestrator.jobs.errors import JobNotFoundError, StoreError
from voxroute_orchestrator.jobs.files import DataFolder, JobFiles, Upload, entered, written
from voxroute_orchestrator.jobs.stores.file_store import ThereError
from voxroute_orchestrator.jobs.stores.parts import FileName, Kept, Remote
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

T = TypeVar("T")

_UNUSED_S = 3600.0
_UNKNOWN_S = 300.0  # a job that is being submitted has files before it is one
_TIDY_S, _SWEEP_S = 60.0, 3600.0

_log = get_logger(__name__)


class Jobs(Protocol):
    """What is asked of the store of the jobs."""

    async def get(self, job_id: str) -> jobs_pb2.Job:
        """As JobStore.get."""
        ...


class RemoteFiles:
    """FileStore: elsewhere. Lives on the event loop that runs."""

    def __init__(self, jobs: Jobs, folder: DataFolder, remote: Remote) -> None:
        self._jobs = jobs
        self._folder = folder
        self._remote = remote
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
        with self._using(file.job_id):
            kept = await self._remote.look(file)
            work = self._fetching.get(path)
            if work is None and await asyncio.to_thread(_is_there, path, kept):
                return kept.sha256
            if tell is not None:
                tell(f"{file.name} is fetched, {kept.n_bytes / 1e6:.1f} MB")
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
                await self._remote.get(file, kept, upload.write)
                await asyncio.to_thread(self._take, upload, path)

    def _end(self, path: Path, done: "asyncio.Future[None]") -> None:
        del self._fetching[path]
        if not done.cancelled() and done.exception() is not None:
            _log.warning("a file was not fetched", name=path.name, error=str(done.exception()))

    def _take(self, upload: Upload, path: Path) -> None:
        with written():
            path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        upload.take(path)

    async def share(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        """As FileStore."""
        file = self._named(path)
        with self._using(file.job_id):
            try:
                await self._remote.put(file, path, patience_s)
            except ThereError:  # it was tried before, and nobody has answered
                kept = await self._remote.look(file)
                if await asyncio.to_thread(sha256, path) != kept.sha256:
                    raise StoreError(f"there is another {file} already") from None

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
        with self._using(file.job_id):
            await self._remote.put(file, source)

    def names(self, folder: Path) -> list[str]:
        """As FileStore."""
        return self._wait(self._remote.names(folder.parent.name, folder.name))

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
            self._wait(self._or_later(self._remote.empty(file)))

    async def forget(self, files: JobFiles) -> None:
        """As FileStore."""
        await asyncio.to_thread(files.forget)
        await self._or_later(self._remove_before(files, ("results", "revisions")))

    async def forget_earlier(self, files: JobFiles) -> None:
        """As FileStore."""
        await asyncio.to_thread(files.forget_earlier)
        await self._or_later(self._remove_before(files, ("results",)))

    async def _remove_before(self, files: JobFiles, kinds: Collection[str]) -> None:
        job_id = files.path.name
        for place in await self._remote.places(job_id):
            kind, _, attempt = place.partition("-")
            if kind in kinds and attempt.isdecimal() and int(attempt) < files.attempt:
                await self._remote.remove(job_id, place)

    async def remove(self, job_id: str) -> None:
        """As FileStore."""
        await asyncio.to_thread(self._folder.remove, job_id)
        self._used.pop(job_id, None)
        await self._or_later(self._remote.remove(job_id))

    @staticmethod
    async def _or_later(work: Awaitable[None]) -> None:
        """Does what goes with the job, or after a day, where that cannot be now."""
        try:
            await work
        except ServingError as error:
            _log.warning("files are removed later", error=str(error))

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
        await self._remote.sweep(self._is_known)

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
            except (ServingError, OSError) as error:
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


def _is_there(path: Path, kept: Kept) -> bool:
    return path.is_file() and path.stat().st_size == kept.n_bytes
