"""A client of the job service, against one of which it can be said when a call breaks."""

# ruff: noqa: N802 - methods have the contract's names
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from voxroute.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from voxroute_orchestrator.client.connection import CallPolicy
from voxroute_orchestrator.client.jobs import job_client


class _Breaking(jobs_pb2_grpc.JobServiceServicer):
    """Sends a transcript of five segments, and goes away after each two messages of it."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.newest = 7

    async def GetTranscript(
        self, request: jobs_pb2.GetTranscriptRequest, context: Any
    ) -> AsyncIterator[jobs_pb2.GetTranscriptResponse]:
        self.asked.append(request.revision)
        revision = request.revision or self.newest
        self.newest += 1  # somebody saves meanwhile
        messages = [
            jobs_pb2.GetTranscriptResponse(head=jobs_pb2.TranscriptHead(revision=revision)),
            *(
                jobs_pb2.GetTranscriptResponse(
                    segments=jobs_pb2.TranscriptSegments(
                        segments=[jobs_pb2.TranscriptSegment(id=f"{revision}-{n}")]
                    )
                )
                for n in range(5)
            ),
        ]
        for message in messages[: 2 * len(self.asked)]:
            yield message
        if 2 * len(self.asked) < len(messages):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


async def test_a_transcript_whose_stream_breaks_goes_on_with_the_same_revision() -> None:
    """Each message once, and none of the revision that has come since."""
    server = grpc.aio.server()
    service = _Breaking()  # pyright: ignore[reportAbstractUsage] - the other methods are not called
    jobs_pb2_grpc.add_JobServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with job_client(f"127.0.0.1:{port}", CallPolicy()) as client:
            told = [reply async for reply in client.transcript("a-job")]
    finally:
        await server.stop(None)
    assert service.asked == [0, 7, 7]
    assert told[0].head.revision == 7
    assert [one.id for reply in told[1:] for one in reply.segments.segments] == [
        f"7-{n}" for n in range(5)
    ]
