"""Where the files of jobs are: uploads, results, revisions, sounds.

All that works on them works in the data folder. A store of files sees that what is to be read is
there, and that what was written is where every service finds it. In a folder that all services have
neither is anything to do; with files elsewhere the folder has copies (remote_files.py).
"""

import asyncio
import contextlib
import fcntl
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path
from typing import Protocol

from voxroute_orchestrator.jobs.errors import JobNotFoundError, StoreError
from voxroute_orchestrator.jobs.files import DataFolder, JobFiles, Upload, written
from voxroute_orchestrator.jobs.store import Store

_LOCK_NAME = "lock"


class ThereError(Exception):
    """Somebody else has written such a file before."""


class FileStore(Protocol):
    """The files of all jobs, by their paths in the data folder. Lives on one event loop.

    `keep`, `have`, `names`, `prune` and `alone` block, and are for other threads. Every method
    raises DiskFullError, StoreBusyError or StoreError where files are not kept as they should.
    """

    async def start(self, in_use: Callable[[], Collection[str]]) -> None:
        """Begins to remove what nobody needs, but for jobs that are told to be in use."""
        ...

    async def close(self) -> None:
        """Ends that."""
        ...

    async def fetch(self, path: Path, tell: Callable[[str], None] | None = None) -> str:
        """Sees that a file of a job is at its path; its SHA-256 where that is known, else "".

        `tell` hears of what takes a while. Raises FileNotFoundError where it is found that there is
        no such file, or not as it was written. Other paths are left alone.
        """
        ...

    async def share(self, path: Path, patience_s: float = 5.0) -> None:
        """Has every service find a file that lies at its path."""
        ...

    async def forget(self, files: JobFiles) -> None:
        """Throws away what is finished of a job, and what people have made of it."""
        ...

    async def forget_earlier(self, files: JobFiles) -> None:
        """Throws away the results of the attempts before."""
        ...

    async def remove(self, job_id: str) -> None:
        """Removes the files of a job that is no more, or never came to be."""
        ...

    def have(self, path: Path) -> None:
        """As `fetch`."""
        ...

    def keep(self, job_id: str, file: Upload, target: Path) -> None:
        """Puts a file among those of a job, which may be deleted meanwhile.

        Raises JobNotFoundError, and nothing is left of it then; ThereError where it is found that
        somebody else has put one there.
        """
        ...

    def names(self, folder: Path) -> list[str]:
        """The names of the files in a folder of a job."""
        ...

    def prune(self, paths: Sequence[Path]) -> None:
        """Removes files, the oldest of theirs; `paths` are in order of their age."""
        ...

    def alone(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Keeps others from writing to a folder of a job, where `keep` does not find that out."""
        ...


class FolderFiles:
    """FileStore: the data folder is all that there is, of one service or of several."""

    def __init__(self, store: Store, folder: DataFolder) -> None:
        self._store = store
        self._folder = folder

    async def start(self, in_use: Callable[[], Collection[str]]) -> None:
        """As FileStore."""

    async def close(self) -> None:
        """As FileStore."""

    async def fetch(self, path: Path, tell: Callable[[str], None] | None = None) -> str:
        """As FileStore."""
        del path, tell
        return ""

    async def share(self, path: Path, patience_s: float = 0.0) -> None:
        """As FileStore."""

    async def forget(self, files: JobFiles) -> None:
        """As FileStore."""
        await asyncio.to_thread(files.forget)

    async def forget_earlier(self, files: JobFiles) -> None:
        """As FileStore."""
        await asyncio.to_thread(files.forget_earlier)

    async def remove(self, job_id: str) -> None:
        """As FileStore."""
        await asyncio.to_thread(self._folder.remove, job_id)

    def have(self, path: Path) -> None:
        """As FileStore."""

    def keep(self, job_id: str, file: Upload, target: Path) -> None:
        """As FileStore."""
        try:
            file.take(target)
        except StoreError:
            self._store.get(job_id)
            raise
        try:
            self._store.get(job_id)
        except JobNotFoundError:  # its folder was removed before the file came into it
            self._folder.remove(job_id)
            raise

    def names(self, folder: Path) -> list[str]:
        """As FileStore."""
        return [path.name for path in folder.glob("*")]

    def prune(self, paths: Sequence[Path]) -> None:
        """As FileStore."""
        with written():
            for path in paths:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self, folder: Path) -> Generator[None]:
        """As FileStore."""
        with contextlib.ExitStack() as stack:
            try:
                with written():
                    folder.mkdir(mode=0o700, exist_ok=True)
                    lock = stack.enter_context((folder / _LOCK_NAME).open("wb"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
            except StoreError:
                self._store.get(folder.parent.name)  # it may have been deleted meanwhile
                raise
            yield
