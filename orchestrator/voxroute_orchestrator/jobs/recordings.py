"""The recording of a job, for whoever wants to hear it while reading the transcript."""

import hashlib
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jobs.errors import MediaNotFoundError
from voxroute_orchestrator.jobs.files import DataFolder
from voxroute_orchestrator.jobs.runner import Runner, fetched
from voxroute_orchestrator.jobs.sound import SUFFIX, Sounds
from voxroute_orchestrator.jobs.stores.file_store import FileStore
from voxroute_orchestrator.reading import reading
from voxroute_serving.audio.media import MediaFile, MediaRefusedError, Watch

CHUNK_BYTES = 256 * 1024
"""Of a file, in one message."""


class Seekable(Protocol):
    """A file that is open."""

    def seek(self, offset: int, /) -> int:
        """Moves to an offset."""
        ...

    def read(self, n: int, /) -> bytes:
        """At most `n` bytes; empty at the end."""
        ...


async def bytes_of(file: Seekable, watch: Watch, offset: int, length: int) -> AsyncGenerator[bytes]:
    """A part of a file, a chunk at a time; all that follows where `length` is 0.

    Raises MediaStalledError.
    """
    left = length
    await reading(watch, partial(file.seek, offset))
    while left or not length:
        most = min(CHUNK_BYTES, left) if length else CHUNK_BYTES
        data = await reading(watch, partial(file.read, most))
        if not data:
            return
        left -= len(data)
        yield data


def _version(file: MediaFile, digest: str) -> str:
    """A text that is the same for the same content, at every service that has its digest."""
    return (digest or hashlib.sha256(repr(file.identity).encode()).hexdigest())[:32]


class Recordings:
    """The recordings of all jobs."""

    def __init__(self, folder: DataFolder, files: FileStore, runner: Runner) -> None:
        self._runner = runner
        self._files = files
        self._sounds = Sounds(folder, files)

    async def opened(
        self, job_id: str, watch: Watch, *, sound: bool
    ) -> tuple[MediaFile, jobs_pb2.MediaFile]:
        """The file, which whoever asks closes, and what a client is told of it.

        Raises ServingError, MediaStalledError.
        """
        job = await self._runner.job(job_id)
        name = PurePosixPath(job.media_name)  # as its client knows it
        file, about = await self._opened(job.media, watch, name.name)
        if not sound:
            return file, about
        file.close()
        path = await self._sounds.of(job, about.version)
        return await self._opened(path, watch, f"{name.stem}{SUFFIX}")

    async def _opened(
        self, path: Path, watch: Watch, name: str
    ) -> tuple[MediaFile, jobs_pb2.MediaFile]:
        digest = await fetched(self._files, path)
        file = await reading(watch, partial(_opened, path, watch, name))
        version = _version(file, digest)
        return file, jobs_pb2.MediaFile(name=file.name, bytes=file.size, version=version)


def _opened(path: Path, watch: Watch, name: str) -> MediaFile:
    try:
        return MediaFile(path, watch, name=name, links=False)
    except (OSError, MediaRefusedError) as error:
        raise MediaNotFoundError(
            "the recording of the job is gone, or may not be read; its operator can put it back"
        ) from error
