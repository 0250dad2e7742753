"""Calls to a job service: tried again while it is away, and never done twice."""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from voxroute.common.v1 import common_pb2
from voxroute.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.connection import (
    CallPolicy,
    Endpoint,
    call_unary,
    connect,
    is_serving,
    new_request_id,
    unary,
)
from voxroute_orchestrator.client.credentials import NO_CREDENTIALS, Credentials
from voxroute_orchestrator.client.failures import (
    brief,
    broken_stream,
    is_lasting,
    of_rpc_error,
    tls_reason,
)
from voxroute_orchestrator.client.retry import Retry
from voxroute_orchestrator.client.stream import close_writing, write
from voxroute_orchestrator.errors import (
    JobFailedError,
    OutputError,
    ServiceUnavailableError,
    UsageError,
    VoxrouteError,
)
from voxroute_orchestrator.files import sha256
from voxroute_orchestrator.names import fitted
from voxroute_orchestrator.reporter import Reporter

JOB_SERVICE = "job service"
UPLOAD_CHUNK_BYTES = 1 << 20
"""Below the 4 MiB that services take in one message."""
_SEGMENTS_AT_ONCE = 100  # the contract's
_LOOK_S = 1.6  # with the start of the command less than three seconds
_SETTLED = {
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
}
_UNARY_TIMEOUT_S = 60.0  # a cancelled job answers once its services have stopped
_AGAIN_TIMEOUT_S = 3600.0  # a service may have to load its model, or hear hours of a recording
Reply = TypeVar("Reply", bound=Message)
Media = Callable[[], AsyncGenerator[bytes]]
"""What gives the bytes of a recording, from their start however often it is called."""


def state_name(state: "jobs_pb2.JobState") -> str:
    """The state as a person says it: "running"."""
    return jobs_pb2.JobState.Name(state).removeprefix("JOB_STATE_").lower()


@contextlib.asynccontextmanager
async def job_client(
    target: str, policy: CallPolicy, credentials: Credentials = NO_CREDENTIALS
) -> AsyncGenerator["JobClient"]:
    """A client of the job service at an address. Raises UsageError."""
    endpoint = Endpoint(JOB_SERVICE, target)
    async with connect(endpoint, policy, credentials) as channel:
        yield JobClient(endpoint, channel, policy)


class JobClient:
    """A client of one job service. Every method raises VoxrouteError."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, policy: CallPolicy) -> None:
        self.endpoint = endpoint
        self._channel = channel
        self._policy = policy
        self._stub: Any = jobs_pb2_grpc.JobServiceStub(channel)

    async def check_there(self) -> None:
        """Looks whether anybody answers at the address, for two seconds.

        Raises ServiceUnavailableError with what to start. What is wrong with certificates or
        tokens is left to the calls themselves.
        """
        channel = self._channel
        state = channel.get_state(try_to_connect=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                while state not in _SETTLED:
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            return
        said = "it gives no answer"
        try:
            await is_serving(channel, _LOOK_S / 4)
        except grpc.aio.AioRpcError as error:
            said = (error.details() or said).strip()
            if error.code() is not grpc.StatusCode.UNAVAILABLE and state in _SETTLED:
                return
            if is_lasting(said):
                return
            said = tls_reason(said) or brief(said)
        else:
            return
        raise ServiceUnavailableError(
            f"no job service answers at {self.endpoint.target} ({said}); start one with `voxroute"
            " serve --data-dir FOLDER`, or name another with --server HOST:PORT"
        )

    async def submit(
        self, config: jobs_pb2.JobConfig, *, key: str, media: Media | None = None
    ) -> jobs_pb2.SubmitJobResponse:
        """Submits a job, with the bytes of `media` where the config names an upload.

        A lost connection is tried again: with the same key there is one job.
        """

        async def attempt() -> jobs_pb2.SubmitJobResponse:
            request_id = new_request_id()
            call = self._stub.SubmitJob(metadata=(("x-request-id", request_id),))
            try:
                return await _sent(call, _messages(config, key, media))
            except grpc.aio.AioRpcError as error:
                raise of_rpc_error(error, str(self.endpoint), request_id) from error

        return await Retry(self.endpoint, self._policy).run(attempt)

    async def get(self, job_id: str) -> jobs_pb2.Job:
        """The job."""
        reply: jobs_pb2.GetJobResponse = await self._unary(
            self._stub.GetJob, jobs_pb2.GetJobRequest(job_id=job_id)
        )
        return reply.job

    async def all(
        self, states: "list[jobs_pb2.JobState]", most: int
    ) -> AsyncIterator[jobs_pb2.Job]:
        """The newest jobs, at most so many."""
        token = ""
        while most > 0:
            request = jobs_pb2.ListJobsRequest(states=states, page_size=most, page_token=token)
            reply = await self.page(request)
            for job in reply.jobs:
                yield job
            most -= len(reply.jobs)
            token = reply.next_page_token
            if not token:
                return

    async def page(self, request: jobs_pb2.ListJobsRequest) -> jobs_pb2.ListJobsResponse:
        """A page of the list of jobs."""
        return await self._unary(self._stub.ListJobs, request)

    async def cancel(self, job_id: str) -> jobs_pb2.Job:
        """The job, once it has ended."""
        reply: jobs_pb2.CancelJobResponse = await self._unary(
            self._stub.CancelJob, jobs_pb2.CancelJobRequest(job_id=job_id)
        )
        return reply.job

    async def resume(self, job_id: str, *, restart: bool) -> jobs_pb2.Job:
        """The job, queued. Not tried again: the first try may have queued it."""
        request = jobs_pb2.ResumeJobRequest(job_id=job_id, restart=restart)
        reply: jobs_pb2.ResumeJobResponse = await self._once(self._stub.ResumeJob, request)
        return reply.job

    async def retry(self, job_id: str) -> jobs_pb2.Job:
        """A job that has failed, queued. Raises UsageError where it has not failed."""
        job = await self.get(job_id)
        if job.state != jobs_pb2.JOB_STATE_FAILED:
            raise UsageError(
                f"job {job_id} has not failed, it is {state_name(job.state)}; a cancelled one is"
                " resumed"
            )
        return await self.resume(job_id, restart=False)

    async def delete(self, job_id: str) -> None:
        """Removes a job that has ended. Not tried again: the first try may have removed it."""
        await self._once(self._stub.DeleteJob, jobs_pb2.DeleteJobRequest(job_id=job_id))

    async def watch(self, job_id: str, after: int) -> AsyncGenerator[jobs_pb2.WatchJobResponse]:
        """The events after a sequence number, each once, until the job has ended.

        Goes on by itself where the connection is lost or the service starts again.
        """
        retry, last = Retry(self.endpoint, self._policy), after
        async for attempt in retry.attempts():
            with attempt:
                request = jobs_pb2.WatchJobRequest(job_id=job_id, after_sequence=last)
                async with contextlib.aclosing(self._replies(self._stub.WatchJob, request)) as told:
                    async for event in told:
                        last = event.sequence
                        retry.progress()
                        yield event

    def read(
        self, job_id: str, artifact: jobs_pb2.Artifact, offset: int = 0, length: int = 0
    ) -> AsyncGenerator[bytes]:
        """The bytes of a result from one on, read on where the connection is lost.

        All that follow where `length` is 0.
        """
        request = jobs_pb2.GetArtifactRequest(
            job_id=job_id, name=artifact.name, offset=offset, length=length
        )
        return self._bytes(self._stub.GetArtifact, request, artifact)

    async def media(self, job_id: str, *, sound: bool = False) -> jobs_pb2.MediaFile:
        """What the job's recording is, or its sound, which is made if need be."""
        request = jobs_pb2.GetMediaRequest(job_id=job_id, length=1, sound=sound)

        async def first() -> jobs_pb2.MediaFile:
            async with contextlib.aclosing(self._replies(self._stub.GetMedia, request)) as sent:
                async for reply in sent:
                    return reply.file
            raise broken_stream(str(self.endpoint), "sent nothing of the recording")

        return await Retry(self.endpoint, self._policy).run(first)

    def read_media(
        self, job_id: str, file: jobs_pb2.MediaFile, offset: int, length: int, *, sound: bool
    ) -> AsyncGenerator[bytes]:
        """As `read`, of the recording or its sound."""
        request = jobs_pb2.GetMediaRequest(job_id=job_id, offset=offset, length=length, sound=sound)
        return self._bytes(self._stub.GetMedia, request, file)

    async def _bytes(
        self, method: Any, request: Any, file: "jobs_pb2.Artifact | jobs_pb2.MediaFile"
    ) -> AsyncGenerator[bytes]:
        """The part of a file that a request asks for, asked on where the connection is lost."""
        retry = Retry(self.endpoint, self._policy)
        end = request.offset + request.length if request.length else file.bytes
        async for attempt in retry.attempts():
            with attempt:
                request.length = max(0, end - request.offset)
                async with contextlib.aclosing(self._replies(method, request)) as sent:
                    async for reply in sent:
                        told = getattr(reply, "file", file)  # of GetMedia, in the first
                        if told.bytes and told != file:
                            raise VoxrouteError(
                                f"{file.name} of job {request.job_id} has become another file"
                                " meanwhile; ask for it again"
                            )
                        data = reply.data[: end - request.offset]  # old services know no length
                        request.offset += len(data)
                        retry.progress()
                        if data:
                            yield data
                        if request.offset >= end:
                            break
                if request.offset < min(end, file.bytes):
                    raise broken_stream(str(self.endpoint), f"sent {file.name} in part only")

    async def transcript(
        self, job_id: str, revision: int = 0
    ) -> AsyncGenerator[jobs_pb2.GetTranscriptResponse]:
        """A revision of the job's transcript, the newest for 0: its head, then its segments."""
        request = jobs_pb2.GetTranscriptRequest(job_id=job_id, revision=revision)
        n_read = 0
        retry = Retry(self.endpoint, self._policy)
        async for attempt in retry.attempts():
            with attempt:
                replies = self._replies(self._stub.GetTranscript, request)
                async with contextlib.aclosing(replies) as sent:
                    n_sent = 0
                    async for reply in sent:
                        n_sent += 1
                        if n_sent <= n_read:
                            continue
                        n_read = n_sent
                        # a revision never changes: another call for it goes on where this one ends
                        request.revision = reply.head.revision or request.revision
                        retry.progress()
                        yield reply

    async def put_transcript(
        self,
        config: jobs_pb2.PutTranscriptConfig,
        segments: Sequence[jobs_pb2.TranscriptSegment],
    ) -> int:
        """The number of the new revision. Not tried again: the first try may have kept it."""

        async def messages() -> AsyncGenerator[jobs_pb2.PutTranscriptRequest]:
            yield jobs_pb2.PutTranscriptRequest(config=config)
            for batch in batches(segments):
                yield jobs_pb2.PutTranscriptRequest(segments=batch)
            yield jobs_pb2.PutTranscriptRequest(finish=common_pb2.Finish())

        async def call(_: object, **how: Any) -> Any:
            return await _sent(self._stub.PutTranscript(**how), messages())

        reply: jobs_pb2.PutTranscriptResponse = await self._once(call, config)
        return reply.revision

    async def export(self, request: jobs_pb2.ExportTranscriptRequest) -> tuple[str, bytes]:
        """The name of the file, and its content."""

        async def whole() -> tuple[str, bytes]:
            name, data = "", bytearray()
            replies = self._replies(self._stub.ExportTranscript, request)
            async with contextlib.aclosing(replies) as sent:
                async for reply in sent:
                    name = reply.name or name
                    data += reply.data
            return name, bytes(data)

        return await Retry(self.endpoint, self._policy).run(whole)

    async def retranslate(
        self, request: jobs_pb2.RetranslateRequest
    ) -> jobs_pb2.RetranslateResponse:
        """Translates segments again, however long that takes. Not tried again, as the next."""
        return await self._once(self._stub.Retranslate, request, _AGAIN_TIMEOUT_S)

    async def retime(self, request: jobs_pb2.RetimeRequest) -> jobs_pb2.RetimeResponse:
        """Finds out again when words are said."""
        return await self._once(self._stub.Retime, request, _AGAIN_TIMEOUT_S)

    async def fetch(self, job_id: str, artifact: jobs_pb2.Artifact, folder: Path) -> Path:
        """Downloads a file, verified; a part that an earlier try has left is gone on with.

        A file that is there with the same content stays as it is.
        """
        path = folder / artifact.name
        if artifact.name != path.name or not artifact.name or artifact.name in {".", ".."}:
            raise OutputError(f"{self.endpoint} names a file {artifact.name!r}; it is not taken")
        part = folder / fitted(path.name, f".{artifact.sha256[:12]}.part", beginning=".")
        try:
            if path.is_file() and sha256(path) == artifact.sha256:
                return path
            await self._download(job_id, artifact, part)
            if sha256(part) != artifact.sha256:  # the part was no beginning of this file
                part.unlink()
                await self._download(job_id, artifact, part)
            if sha256(part) != artifact.sha256:
                part.unlink()
                raise OutputError(
                    f"{artifact.name} has another checksum than {self.endpoint} told; did the job"
                    " run again meanwhile? Fetch once more"
                )
            part.replace(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error
        return path

    async def _download(self, job_id: str, artifact: jobs_pb2.Artifact, part: Path) -> None:
        with part.open("ab") as file:
            if file.tell() > artifact.bytes:
                file.seek(0)
                file.truncate()
            async with contextlib.aclosing(self.read(job_id, artifact, file.tell())) as read:
                async for data in read:
                    file.write(data)

    async def _replies(self, method: Any, request: Message) -> AsyncGenerator[Any]:
        """The replies of one call, which is over when the iteration is. Raises CallFailedError."""
        request_id = new_request_id()
        call = method(request, metadata=(("x-request-id", request_id),))
        try:
            async for reply in call:
                yield reply
        except grpc.aio.AioRpcError as error:
            raise of_rpc_error(error, str(self.endpoint), request_id) from error
        finally:
            call.cancel()

    async def _once(
        self, method: Any, request: Message, timeout_s: float = _UNARY_TIMEOUT_S
    ) -> Any:
        return await unary(self.endpoint, method, request, timeout_s)

    async def _unary(self, method: Any, request: Message) -> Any:
        async def attempt() -> Any:
            return await call_unary(self.endpoint, method, request, _UNARY_TIMEOUT_S)

        return await Retry(self.endpoint, self._policy).run(attempt)


async def _messages(
    config: jobs_pb2.JobConfig, key: str, media: Media | None
) -> AsyncGenerator[jobs_pb2.SubmitJobRequest]:
    opening = jobs_pb2.SubmitJobConfig(idempotency_key=key, job=config)
    yield jobs_pb2.SubmitJobRequest(config=opening)
    if media is not None:
        async with contextlib.aclosing(media()) as chunks:
            async for data in chunks:
                yield jobs_pb2.SubmitJobRequest(data=data)
    yield jobs_pb2.SubmitJobRequest(finish=common_pb2.Finish())


async def _sent(call: Any, requests: AsyncGenerator[Message]) -> Any:
    """The reply to a stream of messages, which a service may end early."""
    try:
        async with contextlib.aclosing(requests) as messages:
            async for message in messages:
                if not await write(call, message):
                    break
            else:
                await close_writing(call)
        return await call
    finally:
        call.cancel()


def batches(
    segments: Iterable[jobs_pb2.TranscriptSegment],
) -> Iterator[jobs_pb2.TranscriptSegments]:
    """The segments in messages that are below the limits of any service and client."""
    batch = jobs_pb2.TranscriptSegments()
    size = 0
    for segment in segments:
        own = segment.ByteSize()
        if batch.segments and (
            size + own > UPLOAD_CHUNK_BYTES or len(batch.segments) == _SEGMENTS_AT_ONCE
        ):
            yield batch
            batch, size = jobs_pb2.TranscriptSegments(), 0
        batch.segments.append(segment)
        size += own
    if batch.segments:
        yield batch


async def bytes_of(path: Path) -> AsyncGenerator[bytes]:
    """The bytes of a file. Raises OSError."""
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while data := await asyncio.to_thread(file.read, UPLOAD_CHUNK_BYTES):
            yield data


def tell(event: jobs_pb2.WatchJobResponse, told: Reporter) -> None:
    """Tells an event as the job itself would."""
    match event.WhichOneof("event"):
        case "state":
            told.say(f"job {state_name(event.state)}")
        case "stage":
            stage = event.stage
            total_s = convert.seconds(stage.total) if stage.HasField("total") else None
            told.stage(stage.name, total_s)
            told.advance(stage.name, convert.seconds(stage.done))
            if stage.finished:
                told.finish(stage.name)
        case "message":
            told.say(event.message)
        case "warning":
            told.warn(event.warning.message)
        case _:  # of a newer service
            pass


def raise_for(job: jobs_pb2.Job) -> None:
    """Raises JobFailedError where the job has ended without success."""
    if job.state == jobs_pb2.JOB_STATE_FAILED:
        raise JobFailedError(f"job {job.id} has failed: {job.error}")
    if job.state == jobs_pb2.JOB_STATE_CANCELLED:
        raise JobFailedError(f"job {job.id} was cancelled")
