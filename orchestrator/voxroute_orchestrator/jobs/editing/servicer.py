"""The methods of JobService that are about the transcript."""

# ruff: noqa: N802 - the methods have the contract's names
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from voxroute.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from voxroute_orchestrator.client.jobs import batches
from voxroute_orchestrator.jobs.editing import again
from voxroute_orchestrator.jobs.editing.again import Again, Services
from voxroute_orchestrator.jobs.editing.revisions import Revision, Revisions
from voxroute_orchestrator.jobs.editing.segments import MAX_SEGMENTS, changed, head, messages
from voxroute_orchestrator.jobs.errors import (
    ArtifactNotFoundError,
    InvalidJobError,
    RevisionConflictError,
)
from voxroute_orchestrator.jobs.recordings import CHUNK_BYTES
from voxroute_orchestrator.jobs.runner import Runner
from voxroute_orchestrator.subtitles.formats import FORMATS
from voxroute_orchestrator.subtitles.results import (
    PLAIN,
    UNKNOWN_LANGUAGE,
    subtitle_name,
    subtitle_text,
)
from voxroute_orchestrator.transcript import Segment, Transcript
from voxroute_serving.bounds import quoted
from voxroute_serving.calls.requests import Context, Requests

_MAX_BYTES = 32 * 1024**2  # of all segments that a client sends


class TranscriptServicer(jobs_pb2_grpc.JobServiceServicer):
    """Answers what is asked about transcripts. Lives on one event loop."""

    def __init__(self, runner: Runner, revisions: Revisions, services: Services) -> None:
        self._runner = runner
        self._revisions = revisions
        self._services = services

    async def GetTranscript(
        self, request: jobs_pb2.GetTranscriptRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.GetTranscriptResponse]:
        """A revision, in messages below every limit of gRPC's."""
        del context

        revision = await asyncio.to_thread(self._revisions.read, request.job_id, request.revision)
        yield jobs_pb2.GetTranscriptResponse(head=head(revision))
        parts = batches(messages(revision))
        # one after the other: who reads them works on the first while the next is made
        while (segments := await asyncio.to_thread(next, parts, None)) is not None:
            yield jobs_pb2.GetTranscriptResponse(segments=segments)

    async def PutTranscript(
        self, request_iterator: AsyncIterator[jobs_pb2.PutTranscriptRequest], context: Context
    ) -> jobs_pb2.PutTranscriptResponse:
        """Looks at every segment before anything is kept."""
        del context
        requests = Requests[jobs_pb2.PutTranscriptConfig](request_iterator, "segments")
        config = await requests.config()
        sent: list[jobs_pb2.TranscriptSegment] = []
        size = 0
        async with contextlib.aclosing(requests.rest()) as parts:
            async for part in parts:
                sent += part.segments
                size += part.ByteSize()
                if len(sent) > MAX_SEGMENTS or size > _MAX_BYTES:
                    raise InvalidJobError.of_field(
                        "segments",
                        f"a transcript has {MAX_SEGMENTS} of them and {_MAX_BYTES} bytes at most",
                    )

        def put() -> int:
            base = self._revisions.at(config.job_id, config.base_revision)
            first = base
            if base.number > 1:
                # an operator may have lost it; what people write now is kept all the same
                with contextlib.suppress(ArtifactNotFoundError):
                    first = self._revisions.read(config.job_id, 1)
            revision = changed(base, first, sent, config.speakers)
            return self._revisions.add(config.job_id, base.number, revision)

        # a client that leaves now may leave a revision behind, which is whole
        return jobs_pb2.PutTranscriptResponse(revision=await asyncio.to_thread(put))

    async def ExportTranscript(
        self, request: jobs_pb2.ExportTranscriptRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.ExportTranscriptResponse]:
        """A revision by the code that writes the files of the job itself."""
        del context
        if request.format not in {*FORMATS, PLAIN}:
            raise InvalidJobError.of_field("format", f"write {', '.join([*FORMATS, PLAIN])}")
        form = (await self._runner.job(request.job_id, media=False)).form

        def export() -> tuple[str, bytes]:
            revision = self._revisions.read(request.job_id, request.revision)
            transcript = _for_readers(revision)
            source = transcript.language or UNKNOWN_LANGUAGE
            language = request.language or source
            if language not in {source, *transcript.translations}:
                raise InvalidJobError.of_field(
                    "language", f"the transcript has no translation to {quoted(language)}"
                )
            name = subtitle_name(self._revisions.name(request.job_id), language, request.format)
            return name, subtitle_text(transcript, language, request.format, form).encode()

        name, data = await asyncio.to_thread(export)
        yield jobs_pb2.ExportTranscriptResponse(name=name)
        for begin in range(0, len(data), CHUNK_BYTES):
            yield jobs_pb2.ExportTranscriptResponse(data=data[begin : begin + CHUNK_BYTES])

    async def Retranslate(
        self, request: jobs_pb2.RetranslateRequest, context: Context
    ) -> jobs_pb2.RetranslateResponse:
        """The job's services, model and glossary on other texts."""
        del context
        base = await self._base(request.job_id, request.base_revision)
        there = list(base.transcript.translations)
        languages = list(dict.fromkeys(request.languages)) or there
        for number, language in enumerate(languages):
            if language not in there:
                raise InvalidJobError.of_field(
                    f"languages[{number}]",
                    f"the transcript has no translation to {quoted(language)}",
                )
        job = await self._runner.job(request.job_id, media=False)

        async def work(done: Again, segments: Sequence[Segment]) -> None:
            await again.retranslate(done, job, segments, languages, self._services)

        number, left = await self._again(request.job_id, base, request.segment_ids, work)
        return jobs_pb2.RetranslateResponse(revision=number, left=left)

    async def Retime(
        self, request: jobs_pb2.RetimeRequest, context: Context
    ) -> jobs_pb2.RetimeResponse:
        """The words of other texts in the job's own recording."""
        del context
        base = await self._base(request.job_id, request.base_revision)
        job = await self._runner.job(request.job_id)

        async def work(done: Again, segments: Sequence[Segment]) -> None:
            await again.retime(done, job, segments, self._services)

        number, left = await self._again(request.job_id, base, request.segment_ids, work)
        return jobs_pb2.RetimeResponse(revision=number, left=left)

    async def _base(self, job_id: str, number: int) -> Revision:
        return await asyncio.to_thread(self._revisions.at, job_id, number)

    async def _again(
        self,
        job_id: str,
        base: Revision,
        ids: Sequence[str],
        work: Callable[[Again, Sequence[Segment]], Awaitable[None]],
    ) -> tuple[int, list[jobs_pb2.LeftSegment]]:
        """Keeps what the work makes of some segments; the revision, and what has stayed."""
        there = base.by_id()
        for number, name in enumerate(ids):
            if name not in there:
                raise InvalidJobError.of_field(
                    f"segment_ids[{number}]", f"revision {base.number} has no {quoted(name)}"
                )
        segments = [there[name] for name in dict.fromkeys(ids)]
        if not segments:
            raise InvalidJobError.of_field("segment_ids", "name at least one segment")
        done = Again(base, hidden=self._runner.hidden(job_id))
        with self._runner.told(job_id):
            await work(done, segments)

        def put() -> tuple[int, list[jobs_pb2.LeftSegment]]:
            while True:
                newest = self._revisions.read(job_id)
                found, changed_meanwhile = done.put_on(newest)
                left = [*done.left, *changed_meanwhile]
                if found == newest:
                    return base.number, left
                # who writes between the two lines is put together with it the next time
                with contextlib.suppress(RevisionConflictError):
                    return self._revisions.add(job_id, newest.number, found), left

        return await asyncio.to_thread(put)


def _for_readers(revision: Revision) -> Transcript:
    """The transcript with the speakers' names; a text that a person has seen is not in doubt.

    A segment that was emptied says nothing, and nor does what was translated of its earlier text.
    """
    segments = [
        segment.model_copy(
            update={
                "speaker": revision.speakers.get(segment.speaker, segment.speaker),
                "flags": () if revision.mark_of(segment).edited else segment.flags,
            }
        )
        for segment in revision.transcript.segments
    ]
    emptied = {
        segment.id: revision.mark_of(segment).stale for segment in segments if not segment.text
    }
    translations = {
        language: translation.model_copy(
            update={
                "items": [
                    item
                    for item in translation.items
                    if language not in emptied.get(item.segment_id, ())
                ]
            }
        )
        for language, translation in revision.transcript.translations.items()
    }
    return revision.transcript.model_copy(
        update={"segments": segments, "translations": translations}
    )
