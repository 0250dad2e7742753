"""Runs the queued jobs: so many at once, the oldest first, each in its own folder.

A job ends as SUCCEEDED, FAILED or CANCELLED. A service that stops, by SIGTERM or by SIGKILL, ends
none: its running jobs are queued again at the place they had, and go on from their journals.
"""

import asyncio
import contextlib
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import platformdirs

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.jobs.errors import (
    DiskFullError,
    LeaseLostError,
    MediaNotFoundError,
    StoreBusyError,
    of_failure,
)
from voxroute_orchestrator.jobs.event_log import EventLog
from voxroute_orchestrator.jobs.files import DataFolder, JobFiles, media_of
from voxroute_orchestrator.jobs.store import (
    CANCELLED,
    FAILED,
    RUNNING,
    SUCCEEDED,
    Attempt,
    Event,
    JobStore,
)
from voxroute_orchestrator.jobs.stores.file_store import FileStore
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.spec import JobSpec, of_message
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules
from voxroute_serving.audio.media import Watch
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

T = TypeVar("T")

Work = Callable[[Job, Reporter, Attempt], Awaitable[list[str]]]
"""What does a job: `pipeline.recording.transcribe_media`, with its settings."""

_PATIENCE_S = 20.0  # for each part of a result; a cluster has another leader after 3 to 8 s
_AGAIN_S = 2.0  # between tries of what must be written, on a disk that is full
_STOPPED = "the service stops; the job goes on when it starts again"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator has chosen."""

    spec: JobSpec = field(default_factory=JobSpec)
    """For jobs that do not choose themselves."""
    only_asr_endpoints: bool = False
    """Whether running services were named, so that no local one is started beside them."""
    only_translate_endpoints: bool = False
    patience_s: float = 0.0
    """How long those may be away when a job begins."""
    max_audio_s: float | None = None
    rules: CueRules = DEFAULT_RULES
    """Those of the cues."""


class Runner:
    """The running jobs. Lives on one event loop."""

    def __init__(
        self,
        store: JobStore,
        folder: DataFolder,
        files: FileStore,
        work: Work,
        *,
        max_jobs: int,
        media_roots: Sequence[Path] = (),
        defaults: Defaults | None = None,
    ) -> None:
        self.stopping = False
        self._store = store
        self._folder = folder
        self._files = files
        self._work = work
        self._max_jobs = max_jobs
        self._media_roots = media_roots
        self._defaults = defaults or Defaults()
        self._jobs: dict[asyncio.Task[None], Attempt] = {}
        self._works: set[asyncio.Future[list[str]]] = set()
        self._dispatcher: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """How many jobs run."""
        return len(self._jobs)

    def attempts(self) -> list[Attempt]:
        """The attempts that run."""
        return list(self._jobs.values())

    async def start(self) -> None:
        """Begins with what waits. Raises ServingError."""
        await self._store.start()
        self._dispatcher = asyncio.ensure_future(self._dispatch())

    def stop(self) -> None:
        """Ends the running jobs without ending them in the store, and the calls that watch."""
        self.stopping = True
        self._store.waiting.set()
        self._store.bells.ring_all()
        for work in self._works:
            work.cancel()

    async def stopped(self) -> None:
        """Returns once nothing runs any more."""
        self.stop()
        if self._dispatcher is not None:
            await self._dispatcher
        while self._jobs:
            await asyncio.wait(self._jobs)

    async def _dispatch(self) -> None:
        while not self.stopping:
            self._store.waiting.clear()
            try:
                while len(self._jobs) < self._max_jobs and await self._begin_next():
                    pass
            except ServingError as error:
                _log.error("the queue cannot be read; it is tried again", exc_info=error)
                await asyncio.sleep(_AGAIN_S)
                continue
            await self._store.waiting.wait()

    async def _begin_next(self) -> bool:
        """Whether a job has begun."""
        if self.stopping:
            return False
        attempt = await self._store.claim()
        if attempt is None:
            return False
        task = asyncio.ensure_future(self._run(attempt))
        self._jobs[task] = attempt
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._jobs[task]
        self._store.waiting.set()  # a place is free

    async def _run(self, attempt: Attempt) -> None:
        """One job from its beginning to the last word about it in the store."""
        job_id = attempt.job_id
        _log.info("job begins", job=job_id, attempt=attempt.epoch)
        try:
            await self._do_and_tell(attempt)
        except LeaseLostError:
            # another attempt goes on with the job, and its state is that one's to tell
            _log.warning("job is done elsewhere", job=job_id, attempt=attempt.epoch)

    async def _do_and_tell(self, attempt: Attempt) -> None:
        """Raises LeaseLostError."""
        job_id = attempt.job_id
        files = self._folder.job(job_id, attempt.epoch)

        async def append(events: Sequence[Event]) -> None:
            with contextlib.suppress(LeaseLostError):  # the attempt has heard of it
                await attempt.append(events)

        hidden = self.hidden(job_id)
        log = EventLog(append, without_paths=hidden)
        work = asyncio.ensure_future(self._do(attempt, files, log))
        self._works.add(work)
        stopped = asyncio.ensure_future(attempt.stopped.wait())
        stopped.add_done_callback(lambda _: work.cancel())
        if self.stopping:
            work.cancel()
        await asyncio.wait([work])
        self._works.discard(work)
        stopped.cancel()
        await log.close()
        state, error = self._outcome(attempt, work)
        error = hidden(error)
        if state == RUNNING:
            await self._insist(lambda: attempt.give_back(_STOPPED))
        else:
            artifacts = await self._insist(lambda: self._shared_artifacts(files))
            await self._insist(lambda: attempt.end(state, error=error, artifacts=artifacts or ()))
        _log.info("job ended", job=job_id, state=jobs_pb2.JobState.Name(state), error=error)

    async def _do(self, attempt: Attempt, files: JobFiles, log: EventLog) -> list[str]:
        if attempt.fresh:
            await self._files.forget(files)
            await attempt.began_afresh()
        await self._files.forget_earlier(files)
        job = await self._fetched_job(attempt, files, log)
        lines = await self._work(job, log, attempt)
        for line in lines:
            if not line.startswith(str(files.results)):  # a path here says nothing to a client
                log.say(line)
        return lines

    async def _shared_artifacts(self, files: JobFiles) -> list[jobs_pb2.Artifact]:
        """The results, where every service finds them. Raises ServingError, OSError."""
        artifacts = await asyncio.to_thread(files.artifacts)
        for artifact in artifacts:
            await self._files.share(files.results / artifact.name, _PATIENCE_S)
        return artifacts

    async def _fetched_job(self, attempt: Attempt, files: JobFiles, events: EventLog) -> Job:
        """The job with its recording here, for which it waits. Raises as `_job_of`."""
        told: set[str] = set()

        def tell(text: str) -> None:
            if text not in told:  # the disk may be full for hours
                told.add(text)
                events.say(text)

        while True:
            try:
                return await self._job_of(attempt.job_id, attempt.config, files, tell)
            except (StoreBusyError, DiskFullError) as error:
                _log.warning("a recording is fetched again", job=attempt.job_id, error=str(error))
                tell(f"the job waits for its recording: {error}")
            await asyncio.sleep(_AGAIN_S)

    async def job(self, job_id: str, *, media: bool = True) -> Job:
        """A job of the store, as its work has it now; without `media` it cannot be opened.

        Raises ServingError.
        """
        config = (await self._store.get(job_id)).config
        if not media:
            files = self._folder.job(job_id)
            job = job_of(config, Path(name_of(config)), files, self._defaults)
            return dataclasses.replace(job, job_id=job_id)
        with self.told(job_id):
            return await self._job_of(job_id, config, self._folder.job(job_id))

    async def _job_of(
        self,
        job_id: str,
        config: jobs_pb2.JobConfig,
        files: JobFiles,
        tell: Callable[[str], None] | None = None,
    ) -> Job:
        """Raises MediaNotFoundError; MediaStalledError where the disk does not answer."""
        watch = Watch(name_of(config))
        media = await reading(watch, lambda: media_of(config, files, self._media_roots))
        await fetched(self._files, media, tell)
        job = job_of(config, media, files, self._defaults)
        return dataclasses.replace(job, job_id=job_id)

    @contextlib.contextmanager
    def told(self, job_id: str) -> Generator[None]:
        """Lets what fails within a call about a job leave as an error of the service."""
        try:
            yield
        except (CallFailedError, VoxrouteError) as error:
            failure = error.error if isinstance(error, CallFailedError) else error
            _log.info("a call about a job failed", job=job_id, exc_info=error)
            raise of_failure(failure, self.hidden(job_id)(str(failure))) from error

    def hidden(self, job_id: str) -> Callable[[str], str]:
        """As hiding_paths, for a job of this service."""
        return hiding_paths(self._folder.job(job_id), (self._folder.path, *self._media_roots))

    def _outcome(
        self, attempt: Attempt, work: "asyncio.Future[list[str]]"
    ) -> "tuple[jobs_pb2.JobState, str]":
        """The state that the job is in now, and why; RUNNING where it is to go on later.

        Raises LeaseLostError where that is another attempt's to say.
        """
        if not work.cancelled() and work.exception() is None:
            return SUCCEEDED, ""
        if attempt.why == "cancelled":
            return CANCELLED, ""
        if attempt.why == "lost":
            raise LeaseLostError.of(attempt.job_id, attempt.epoch)
        if self.stopping:
            return RUNNING, ""
        if work.cancelled():
            return FAILED, "the job was interrupted; resume it"
        error = work.exception()
        if isinstance(error, (VoxrouteError, ServingError)):
            return FAILED, str(error)
        _log.error("job failed", job=attempt.job_id, exc_info=error)
        return FAILED, f"a defect of the service ({type(error).__name__}); its log says more"

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T | None:
        """What the function returns, tried until the disk lets it; None where the service stops.

        Raises LeaseLostError.
        """
        while True:
            try:
                return await write()
            except (ServingError, OSError) as error:
                _log.error("the end of a job cannot be kept; it is tried again", exc_info=error)
                if self.stopping:
                    return None
            await asyncio.sleep(_AGAIN_S)


async def fetched(files: FileStore, media: Path, tell: Callable[[str], None] | None = None) -> str:
    """As FileStore.fetch, of a recording or its sound. Raises MediaNotFoundError."""
    try:
        return await files.fetch(media, tell)
    except FileNotFoundError as error:
        raise MediaNotFoundError(
            "the recording of the job is gone, or damaged, where the service keeps it; its operator"
            " can put it back, or submit it again"
        ) from error


def hiding_paths(files: JobFiles, folders: Iterable[Path] = ()) -> Callable[[str], str]:
    """What makes of a text one for clients: without where things are on this host.

    That is not their business; the names of files are. A path ends at a blank, unless it begins
    with one of the folders, or with one that services use.
    """
    ours = _spelt(files.path)
    known = {path for folder in (*folders, *_own_folders()) for path in _spelt(folder)}
    longest_first = sorted(ours | known, key=len, reverse=True)

    def hidden(text: str) -> str:
        for path in longest_first:
            # what is below the job's own folder is known to the client by its name there
            text = text.replace(f"{path}{os.sep}", "" if path in ours else os.sep)
        return re.sub(r"(?<![\w./:])/(?:[^\s/'\",;:()]+/)*(?=[^\s/])", "", text)

    return hidden


def _own_folders() -> Iterator[Path]:
    """Folders of this host that sentences may name, on many hosts with blanks."""
    for find in (Path.home, Path.cwd, lambda: Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError, RuntimeError):  # there is none any more
            yield find()
    yield Path(sys.prefix)
    yield platformdirs.user_log_path("voxroute")
    yield platformdirs.user_cache_path("voxroute")


def _spelt(folder: Path) -> set[str]:
    """How the folder may be written."""
    found = {str(folder), str(folder.absolute()), os.path.realpath(folder)}
    return {path for path in found if path.startswith(os.sep) and len(path) > 1}


def name_of(config: jobs_pb2.JobConfig) -> str:
    """The recording's name, as its client has given it."""
    return config.upload_name or config.media_path


def job_of(config: jobs_pb2.JobConfig, media: Path, files: JobFiles, defaults: Defaults) -> Job:
    """The job of a config that was checked."""
    asked, own = of_message(config), defaults.spec
    return Job(
        spec=dataclasses.replace(
            asked,
            asr_model=asked.asr_model or own.asr_model,
            translate_model=asked.translate_model or own.translate_model,
            diarization_model=own.diarization_model,
            backend=own.backend,
            device=own.device,
        ),
        media=media,
        media_name=name_of(config),
        media_links=False,  # it was looked at with all links resolved
        max_audio_s=defaults.max_audio_s,
        rules=defaults.rules,
        folder=files.results,
        overwrite=True,
        only_asr_endpoints=defaults.only_asr_endpoints,
        only_translate_endpoints=defaults.only_translate_endpoints,
        patience_s=defaults.patience_s,
        journal=files.journal,
        resume=files.journal.exists(),
    )
