"""`voxroute serve`: JobService on the store and the runner, and LiveService beside it."""

# ruff: noqa: N802 - the methods have the contract's names
import asyncio
import base64
import binascii
import contextlib
import importlib.util
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import grpc.aio
from prometheus_client import CollectorRegistry

from voxroute.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from voxroute.live.v1 import live_pb2_grpc
from voxroute_orchestrator.errors import MediaStalledError
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.jobs.editing.again import Services
from voxroute_orchestrator.jobs.editing.revisions import Revisions
from voxroute_orchestrator.jobs.editing.servicer import TranscriptServicer
from voxroute_orchestrator.jobs.errors import (
    ArtifactNotFoundError,
    InvalidJobError,
    MediaNotFoundError,
    OutcomeUnknownError,
    StoreError,
)
from voxroute_orchestrator.jobs.files import (
    DataFolder,
    Upload,
    check_upload_name,
    entered,
    media_below,
)
from voxroute_orchestrator.jobs.metrics import JobMetrics, JobState
from voxroute_orchestrator.jobs.reconcile import reconcile
from voxroute_orchestrator.jobs.recordings import Recordings, bytes_of
from voxroute_orchestrator.jobs.retention import DAY_S, delete_job, delete_old
from voxroute_orchestrator.jobs.runner import Defaults, Runner
from voxroute_orchestrator.jobs.store import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Attempt,
    Event,
    JobStore,
    OnThreads,
    Store,
)
from voxroute_orchestrator.jobs.stores.embedded import EmbeddedJobs
from voxroute_orchestrator.jobs.stores.file_store import FileStore, FolderFiles
from voxroute_orchestrator.jobs.stores.sqlite import SqliteStore
from voxroute_orchestrator.live import service as live
from voxroute_orchestrator.live.metrics import LiveMetrics
from voxroute_orchestrator.names import is_path
from voxroute_orchestrator.pipeline.recording import transcribe_media
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.server_settings import JobServerSettings
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import (
    AskedError,
    JobSpec,
    of_message,
    to_message,
)
from voxroute_serving.audio.media import Watch
from voxroute_serving.bounds import MAX_INTEGER, quoted
from voxroute_serving.calls.requests import Context, Requests
from voxroute_serving.device.places import client
from voxroute_serving.errors import ClientLimitError, InvalidInputError, NotReadyError
from voxroute_serving.process.main import Runtime, run_service

if TYPE_CHECKING:
    from voxroute_orchestrator.jetstream.access import Access
    from voxroute_orchestrator.jobs.stores.bucket import Bucket
    from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs

SERVICE_NAME = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name
_DEFAULT_PAGE, _MAX_PAGE = 50, 1000
_QUEUED_RETRY_S = 30.0  # advice to a client whose jobs wait; how long they take is not known
_TOKEN = "jobs:"  # noqa: S105 - a page token is no secret

_STATE_NAMES: dict[int, JobState] = {
    QUEUED: "queued",
    RUNNING: "running",
    SUCCEEDED: "succeeded",
    FAILED: "failed",
    CANCELLED: "cancelled",
}


class JobServicer(TranscriptServicer):
    """Answers the calls of JobService."""

    def __init__(
        self,
        store: JobStore,
        folder: DataFolder,
        files: FileStore,
        runner: Runner,
        *,
        on_threads: Store,
        services: Services,
        media_roots: Sequence[Path],
        max_upload_bytes: int,
        max_queued: int,
        named: bool,
    ) -> None:
        """At most `max_queued` jobs of a client wait, 0 for any number.

        `named` is whether clients have names, those of their tokens.
        """
        super().__init__(runner, Revisions(on_threads, folder, files), services)
        self._store = store
        self._folder = folder
        self._files = files
        self._recordings = Recordings(folder, files, runner)
        self._media_roots = media_roots
        self._max_upload_bytes = max_upload_bytes
        self._max_queued = max_queued
        self._queuing = asyncio.Lock()
        self._named = named

    async def SubmitJob(
        self, request_iterator: AsyncIterator[jobs_pb2.SubmitJobRequest], context: Context
    ) -> jobs_pb2.SubmitJobResponse:
        """Keeps the media, then the job: what is answered outlives a power cut."""
        del context
        requests = Requests[jobs_pb2.SubmitJobConfig](request_iterator, "data")
        submission = await requests.config()
        key, config = submission.idempotency_key, checked(submission)
        tenant = client() if self._named else ""
        there = await self._store.find_submission(key, config)
        if there is not None:
            return jobs_pb2.SubmitJobResponse(job=there, created=False)
        await self._check_queued(tenant)  # before it has sent gigabytes
        if config.WhichOneof("media") == "media_path":
            await self._check_media(config.media_path)
        upload = self._folder.upload(self._max_upload_bytes)
        async with entered(upload):
            await self._receive(requests, upload, uploads=bool(config.upload_name))
            # a client that leaves now may leave a job behind, with all that is its own
            job, created = await asyncio.shield(self._keep(upload, key, config, tenant))
        return jobs_pb2.SubmitJobResponse(job=job, created=created)

    async def _check_queued(self, tenant: str) -> None:
        """Raises ClientLimitError where as many jobs of a client wait as may."""
        if self._max_queued and await self._store.waiting_of(tenant) >= self._max_queued:
            raise ClientLimitError(
                f"{self._max_queued} jobs of {tenant or 'the clients'} wait, as many as may; submit"
                " again when one has begun, or cancel one",
                retry_after_s=_QUEUED_RETRY_S,
            )

    async def _check_media(self, name: str) -> None:
        """Raises job_errors.MediaNotFoundError, also where the media root does not answer."""
        try:
            await reading(Watch(name), lambda: media_below(self._media_roots, name))
        except MediaStalledError as error:
            raise MediaNotFoundError(str(error)) from error

    async def _receive(
        self, requests: Requests[jobs_pb2.SubmitJobConfig], upload: Upload, *, uploads: bool
    ) -> None:
        """Writes the data down to its `finish`."""
        async with contextlib.aclosing(requests.rest()) as parts:
            async for data in parts:
                if not uploads:
                    raise InvalidJobError.of_field("data", "a job with `media_path` takes no data")
                await asyncio.to_thread(upload.write, data)
        if uploads and not upload.size:
            raise InvalidJobError.of_field("data", "the file is empty")

    async def _keep(
        self, upload: Upload, key: str, config: jobs_pb2.JobConfig, tenant: str
    ) -> tuple[jobs_pb2.Job, bool]:
        job_id, files = await asyncio.to_thread(self._folder.new_job)
        created = False
        try:
            if config.upload_name:
                media = files.media / config.upload_name
                await asyncio.to_thread(upload.take, media)
                await self._files.share(media)
            async with self._queuing if self._max_queued else contextlib.nullcontext():
                await self._check_queued(tenant)
                job, created = await self._store.submit(job_id, key, config, tenant)
        except OutcomeUnknownError:
            created = True  # for all that is known, and then it needs its files
            raise
        finally:
            if not created:
                await self._files.remove(job_id)
        return job, created

    async def GetJob(
        self, request: jobs_pb2.GetJobRequest, context: Context
    ) -> jobs_pb2.GetJobResponse:
        """The job as the store has it."""
        del context
        return jobs_pb2.GetJobResponse(job=await self._store.get(request.job_id))

    async def ListJobs(
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        """A page of the jobs."""
        del context
        size = min(request.page_size or _DEFAULT_PAGE, _MAX_PAGE)
        before = _number_of(request.page_token) if request.page_token else None
        jobs, following = await self._store.page(list(request.states), size, before)
        token = _token_of(following) if following is not None else ""
        return jobs_pb2.ListJobsResponse(jobs=jobs, next_page_token=token)

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        """Events from the store only: what a watcher has seen is there after a restart, too."""
        del context
        job_id, after = request.job_id, request.after_sequence
        bell = self._store.bells.listen(job_id)
        try:
            while True:
                bell.clear()
                batch = await self._store.events(job_id, after)
                for event in batch.events:
                    yield event
                    after = event.sequence
                if batch.ended:
                    return
                if self._runner.stopping:
                    raise NotReadyError(
                        "the service is shutting down; watch again with the last sequence number",
                        retry_after_s=1.0,
                    )
                if not batch.events:
                    await bell.wait()
        finally:
            self._store.bells.leave(job_id, bell)

    async def CancelJob(
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.CancelJobResponse:
        """Answers once the job has ended."""
        del context
        await self._store.cancel(request.job_id)
        return jobs_pb2.CancelJobResponse(job=await self._store.get(request.job_id))

    async def ResumeJob(
        self, request: jobs_pb2.ResumeJobRequest, context: Context
    ) -> jobs_pb2.ResumeJobResponse:
        """Queues the job again."""
        del context
        job = await self._store.resume(request.job_id, restart=request.restart)
        return jobs_pb2.ResumeJobResponse(job=job)

    async def DeleteJob(
        self, request: jobs_pb2.DeleteJobRequest, context: Context
    ) -> jobs_pb2.DeleteJobResponse:
        """Forgets the job, and removes its files."""
        del context
        await delete_job(self._store, self._files, request.job_id)
        return jobs_pb2.DeleteJobResponse()

    async def GetArtifact(
        self, request: jobs_pb2.GetArtifactRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.GetArtifactResponse]:
        """The file from an offset on; only a name that the store has is ever opened."""
        del context
        job = await self._store.get(request.job_id)
        artifact = next((one for one in job.artifacts if one.name == request.name), None)
        if artifact is None:
            raise ArtifactNotFoundError(
                f"job {request.job_id} has no file {quoted(request.name)}; GetJob tells its files"
            )
        if request.offset > artifact.bytes:
            raise InvalidJobError.of_field(
                "offset", f"the file has {artifact.bytes} bytes; begin at 0"
            )
        path = self._folder.job(request.job_id, job.attempts).results / artifact.name
        try:
            await self._files.fetch(path)
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(
                f"{artifact.name} of job {request.job_id} is gone, or damaged, where the service"
                " keeps it; its operator can put it back, or resume the job with `restart`"
            ) from error
        except OSError as error:
            raise StoreError("the file cannot be read; the service's log says why") from error
        with file, self._runner.told(request.job_id):
            part = bytes_of(file, Watch(artifact.name), request.offset, request.length)
            async for data in part:
                yield jobs_pb2.GetArtifactResponse(data=data)

    async def GetMedia(
        self, request: jobs_pb2.GetMediaRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.GetMediaResponse]:
        """The recording as the job reads it: no link is followed, and no path is told."""
        del context
        watch = Watch("the recording")
        with self._runner.told(request.job_id):
            file, about = await self._recordings.opened(request.job_id, watch, sound=request.sound)
            with contextlib.closing(file):
                if request.offset > file.size:
                    raise InvalidJobError.of_field(
                        "offset", f"the file has {file.size} bytes; begin at 0"
                    )
                yield jobs_pb2.GetMediaResponse(file=about)
                async for data in bytes_of(file, watch, request.offset, request.length):
                    yield jobs_pb2.GetMediaResponse(data=data)


def _token_of(number: int) -> str:
    return base64.urlsafe_b64encode(f"{_TOKEN}{number}".encode()).decode()


def _number_of(token: str) -> int:
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        if text.startswith(_TOKEN):
            number = int(text.removeprefix(_TOKEN))
            if 0 <= number <= MAX_INTEGER:
                return number
    except (binascii.Error, ValueError):
        pass
    raise InvalidJobError.of_field("page_token", "it is none of this service; begin without one")


def checked(submission: jobs_pb2.SubmitJobConfig) -> jobs_pb2.JobConfig:
    """The job's config, its languages written as they are everywhere. Raises InvalidJobError."""
    config = submission.job
    media = config.WhichOneof("media")
    if media is None:
        raise InvalidJobError.of_field("config.job", "set `upload_name` or `media_path`")
    if media == "upload_name":
        check_upload_name(config.upload_name)
    try:
        spec = of_message(config)
    except AskedError as error:
        raise InvalidJobError.of_field(f"config.job.{error.field}", error.sentence) from error
    _check_model(spec.asr_model, "config.job.asr_model")
    _check_model(spec.translate_model, "config.job.translate_model")
    written = to_message(spec)
    setattr(written, media, getattr(config, media))
    return written


def _check_model(name: str, field: str) -> None:
    if is_path(name):
        raise InvalidJobError.of_field(
            field, "name a model, no folder of this host; its operator sets one with --model"
        )


class JobApp:
    """Jobs, and captions of what is spoken now, as the serving runtime knows them."""

    service_names: Sequence[str] = (SERVICE_NAME, live.SERVICE_NAME)

    def __init__(self, settings: JobServerSettings, runtime: Runtime) -> None:
        options = _options(settings)

        async def work(job: Job, told: Reporter, attempt: Attempt) -> list[str]:
            return await transcribe_media(
                job,
                options,
                told,
                self._metrics.observe_route,
                open_journal=attempt.open_journal,
                open_workers=attempt.open_workers if settings.workers else None,
            )

        if settings.workers and not settings.engine:
            raise InvalidInputError("--workers come over a NATS server; name it with --engine")
        access = _access(settings)  # before the folder is one that is shared
        self._settings, self._runtime = settings, runtime
        self._bucket = _bucket(settings)
        self._folder = DataFolder(
            settings.data_dir,
            shared=bool(settings.engine) and not settings.copies,
            copies=settings.copies,
        )
        self._keep_s = settings.keep_days * DAY_S
        self._deleting: asyncio.Task[None] | None = None
        self._metrics = JobMetrics(runtime.metrics.registry)
        self._sqlite: SqliteStore | None = None
        self._shared: JetStreamJobs | None = None
        self._store: JobStore
        self._files: FileStore
        on_threads: Store
        if access is not None:
            self._store = self._shared = _shared_jobs(
                settings, access, self._folder.id, self._observe, runtime.metrics.registry
            )
            on_threads = OnThreads(self._store)
            self._files = _files(settings, self._shared, on_threads, self._folder, self._bucket)
        else:
            self._sqlite = SqliteStore(self._folder.path, self._observe, data_id=self._folder.id)
            self._store = EmbeddedJobs(self._sqlite)
            on_threads = self._sqlite
            self._files = FolderFiles(on_threads, self._folder)
        spec = JobSpec(
            asr_model=settings.model,
            translate_model=settings.translate_model,
            diarization_model=options.diarization_model,
            backend=settings.backend,
            device=settings.device,
        )
        asr, translate = bool(settings.asr_endpoints), bool(settings.translate_endpoints)
        self._runner = Runner(
            self._store,
            self._folder,
            self._files,
            work,
            max_jobs=settings.max_jobs,
            media_roots=settings.media_root,
            defaults=Defaults(
                spec,
                only_asr_endpoints=asr,
                only_translate_endpoints=translate,
                patience_s=options.retry_s,
                max_audio_s=settings.max_audio_s,
                rules=options.subtitles,
            ),
        )
        self._servicer = JobServicer(
            self._store,
            self._folder,
            self._files,
            self._runner,
            on_threads=on_threads,
            services=Services(options, self._metrics.observe_route),
            media_roots=settings.media_root,
            max_upload_bytes=settings.max_upload_bytes,
            max_queued=settings.max_queued_per_client,
            named=settings.client_tokens is not None,
        )
        self._live = live.LiveServicer(
            live.Offered(options, spec, only_asr_endpoints=asr, only_translate_endpoints=translate),
            LiveMetrics(runtime.metrics.registry),
            self._metrics.observe_route,
        )

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicers."""
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self._servicer, server)
        live_pb2_grpc.add_LiveServiceServicer_to_server(self._live, server)

    async def start(self) -> None:
        """Puts in order what a killed service or a backup has left, and begins with what waits.

        In a folder that is shared nothing is put in order: others work there. One of copies is
        emptied.
        """
        if self._settings.copies:
            await asyncio.to_thread(self._folder.empty)
        if self._bucket is not None and self._shared is not None:
            self._shared.folder_id = await self._bucket.open()
        if self._sqlite is not None:
            await asyncio.to_thread(reconcile, self._sqlite, self._folder)
            for job_id in await asyncio.to_thread(self._sqlite.in_state, QUEUED):
                self._metrics.observe_state(job_id, "queued")
        self._metrics.aside.set(await asyncio.to_thread(self._folder.count_aside))
        await self._runner.start()
        await self._files.start(lambda: {one.job_id for one in self._runner.attempts()})
        if self._shared is not None:
            from voxroute_orchestrator.jobs.presence import be_there  # noqa: PLC0415 - it needs nats-py

            await be_there(self._shared, self._runner, self._runtime, self._settings)
        if self._keep_s:
            deleting = delete_old(self._store, self._files, self._keep_s)
            self._deleting = asyncio.ensure_future(deleting)

    def _observe(self, job_id: str, events: Sequence[Event]) -> None:
        for event in events:
            if event.kind == "state":
                self._metrics.observe_state(job_id, _STATE_NAMES[event.body.state])
            elif event.kind == "stage":
                stage = event.body.stage
                self._metrics.observe_progress(job_id, stage.name, finished=stage.finished)

    def leave(self) -> None:
        """Stops the jobs, sends the watchers away, and ends what is captioned."""
        if self._deleting is not None:
            self._deleting.cancel()
        self._runner.stop()
        self._live.leave()

    async def close(self) -> None:
        """Returns once the jobs have stopped and the store is closed."""
        await self._runner.stopped()
        await self._files.close()
        await self._store.close()
        self._folder.close()


def _access(settings: JobServerSettings) -> "Access | None":
    """How `--engine` is reached, None without. Raises InvalidInputError, which ends the process."""
    if not settings.engine:
        return None
    from voxroute_orchestrator.jetstream.access import Access  # noqa: PLC0415 - others need none

    return Access.of(settings)


def _shared_jobs(
    settings: JobServerSettings,
    access: "Access",
    folder_id: str,
    observe: Callable[[str, Sequence[Event]], None],
    registry: CollectorRegistry,
) -> "JetStreamJobs":
    """The jobs of `--engine`."""
    # they need nats-py
    from voxroute_orchestrator.jetstream.link import Link  # noqa: PLC0415
    from voxroute_orchestrator.jetstream.setup import ON_SERVER  # noqa: PLC0415
    from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs  # noqa: PLC0415

    return JetStreamJobs(
        lambda: Link.open(access),
        observe,
        folder_id=ON_SERVER if settings.engine_files == "server" else folder_id,
        lease_s=settings.engine_lease_s,
        replicas=settings.replicas,
        registry=registry,
    )


def _bucket(settings: JobServerSettings) -> "Bucket | None":
    """That of `--engine-files`, None without. Raises InvalidInputError, StoreError."""
    if settings.engine_files in {"folder", "server"}:
        return None
    if importlib.util.find_spec("obstore") is None:
        raise InvalidInputError(
            "--engine-files s3://... needs obstore; `pip install 'voxroute-orchestrator[s3]'` adds"
            " it"
        )
    from voxroute_orchestrator.jobs.stores.bucket import Bucket  # noqa: PLC0415 - others need none

    return Bucket(settings.engine_files)


def _files(
    settings: JobServerSettings,
    jobs: "JetStreamJobs",
    store: Store,
    folder: DataFolder,
    bucket: "Bucket | None",
) -> FileStore:
    """The files of jobs with `--engine`."""
    if not settings.copies:
        return FolderFiles(store, folder)
    # they need nats-py
    from voxroute_orchestrator.jobs.stores.remote_files import RemoteFiles  # noqa: PLC0415
    from voxroute_orchestrator.jobs.stores.server_files import ServerFiles  # noqa: PLC0415

    return RemoteFiles(jobs, folder, bucket or ServerFiles(lambda: jobs.link))


def _options(settings: JobServerSettings) -> Settings:
    """The settings of the jobs. Raises InvalidInputError, which ends the process."""
    for root in settings.media_root:
        if not root.is_dir():
            raise InvalidInputError(f"--media-root {root} is no folder; make it, or leave it out")
    return settings.of_command()


def serve(arguments: Sequence[str]) -> NoReturn:
    """Serves until SIGTERM, SIGINT or SIGHUP, and ends the process."""
    os.umask(0o077)  # what people say is for the service's own user, also in what SQLite writes
    run_service(
        JobServerSettings,
        JobApp,
        distribution="voxroute-orchestrator",
        traced_as="voxroute-jobs",
        arguments=arguments,
        program="voxroute serve",
    )
