"""The sound of a recording as every browser plays it: Opus in WebM, made once for each job.

It is what the speech services have heard: the same track and channel, decoded by the same reader,
on the recording's own timeline, so that a time of the transcript is one of the sound.
"""

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error

from voxroute_orchestrator.errors import MediaError
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.jobs.errors import SoundTooLongError
from voxroute_orchestrator.jobs.files import DataFolder, written
from voxroute_orchestrator.jobs.stores.file_store import FileStore, ThereError
from voxroute_orchestrator.media import CHUNK_BYTES, PcmReader
from voxroute_orchestrator.pipeline.recording import looked_at
from voxroute_orchestrator.reading import reading
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE, Watch

SUFFIX = ".webm"
_BITS_PER_S = 32_000  # speech of 8 kHz bandwidth without loss that anybody hears
_MAX_S = 24 * 3600.0  # 350 MB, and some ten minutes of a processor


@dataclass(slots=True)
class _Making:
    """A sound on its way, and how many wait for it."""

    task: "asyncio.Task[Path]"
    waiting: int = 0


class Sounds:
    """Makes the sounds of jobs, one at a time. Lives on one event loop."""

    def __init__(self, folder: DataFolder, files: FileStore) -> None:
        self._folder = folder
        self._files = files
        self._making: dict[Path, _Making] = {}
        self._turn = asyncio.Lock()

    async def of(self, job: Job, version: str) -> Path:
        """The file of the sound of a recording in this version, which is made if need be.

        Who asks for what is made already waits for that; when the last of them leaves, it is given
        up. Raises MediaError, SoundTooLongError, DiskFullError, JobNotFoundError.
        """
        target = self._folder.job(job.job_id).sound / f"{version}{SUFFIX}"
        with contextlib.suppress(FileNotFoundError):  # nobody has made it yet
            await self._files.fetch(target)
        if await asyncio.to_thread(target.is_file):
            return target
        making = self._making.get(target)
        if making is None:
            making = _Making(asyncio.create_task(self._made(job, target)))
            self._making[target] = making
        making.waiting += 1
        try:
            return await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if not making.waiting:
                making.task.cancel()
                self._making.pop(target, None)

    async def _made(self, job: Job, target: Path) -> Path:
        async with self._turn:
            watch = Watch(job.recording.label)
            media = await reading(watch, partial(looked_at, job))
            ends = [end_s for end_s in (media.duration_s, job.spec.end_s) if end_s is not None]
            _check_length(min(ends, default=0.0))
            reader = PcmReader(media, end_s=job.spec.end_s)
            try:
                await reading(reader.watch, partial(self._write, reader, job.job_id, target))
            except ThereError:  # another service was faster
                await self._files.fetch(target)
            finally:
                reader.close()
        return target

    def _write(self, reader: PcmReader, job_id: str, target: Path) -> None:
        files = self._folder.job(job_id)
        with self._folder.upload(limit_bytes=0) as file:
            with written():
                shutil.rmtree(files.sound, ignore_errors=True)  # of another version of the file
                encode(reader, file.path)
            reader.watch.check()  # a reader that was stopped is at its end, and this is not all
            self._files.keep(job_id, file, target)


def encode(reader: PcmReader, path: Path) -> None:
    """Writes all that is read, behind as much silence as it begins after the zero of the media.

    Raises MediaError, SoundTooLongError, OSError.
    """
    try:
        _encode(reader, path)
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def _encode(reader: PcmReader, path: Path) -> None:
    first = reader.read()
    if not first:
        raise MediaError(f"{reader.media.path} has no sound")
    target: Any = av.open(str(path), "w", format="webm")  # its types (18.1) are partly unknown
    with target as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE)
        stream.format, stream.layout, stream.bit_rate = "s16", "mono", _BITS_PER_S
        at = 0
        silence = round(reader.first_s * SAMPLE_RATE) * SAMPLE_BYTES
        _check_length(reader.first_s)
        while pcm := bytes(min(CHUNK_BYTES, silence)) or first or reader.read():
            if silence:
                silence -= len(pcm)
            else:
                first = b""
            frame = av.AudioFrame("s16", "mono", len(pcm) // SAMPLE_BYTES)
            frame.planes[0].update(pcm)
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = at
            at += frame.samples
            _check_length(at / SAMPLE_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _check_length(length_s: float) -> None:
    """Raises SoundTooLongError."""
    if length_s > _MAX_S:
        raise SoundTooLongError(
            f"the recording is longer than {_MAX_S / 3600:.0f} h, and no sound is made of it; its"
            " own file can be had"
        )
