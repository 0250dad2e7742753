"""A speech service whose live streams follow a script: each answer is what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.orchestrator.stand_in import Speech, serve
from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect

Reply = asr_pb2.TranscribeLiveResponse
Requests = AsyncIterator[asr_pb2.TranscribeLiveRequest]
Script = Callable[[Requests, Any], AsyncIterator[Reply]]


@dataclass
class LiveSpeech(Speech):
    """Answers every live stream by `script`, of its messages and context."""

    script: Script | None = None
    requests: list[asr_pb2.TranscribeLiveRequest] = field(
        default_factory=list[asr_pb2.TranscribeLiveRequest]
    )
    open_streams: int = 0

    async def TranscribeLive(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeLiveRequest], context: Any
    ) -> AsyncIterator[Reply]:
        async def noted() -> AsyncIterator[asr_pb2.TranscribeLiveRequest]:
            async for request in request_iterator:
                self.requests.append(request)
                yield request

        assert self.script is not None
        self.open_streams += 1
        try:
            async for reply in self.script(noted(), context):
                yield reply
        finally:
            self.open_streams -= 1


@contextlib.asynccontextmanager
async def client_of(
    speech: Speech,
    policy: CallPolicy = CallPolicy(retry_s=5.0),  # noqa: B008 - frozen
) -> AsyncGenerator[AsrClient]:
    """A client of the service, served until the block ends."""
    server, port = await serve("127.0.0.1:0", speech=speech)
    endpoint = Endpoint("speech service", f"127.0.0.1:{port}")
    try:
        async with connect(endpoint, policy) as channel:
            yield AsrClient(endpoint, channel, policy)
    finally:
        await server.stop(0)


def accepted() -> Reply:
    """The stream is admitted."""
    return Reply(accepted=asr_pb2.LiveAccepted(request_id="r1"))


def committed(text: str, utterance: int = 1) -> Reply:
    """Settled text without words."""
    return Reply(committed=asr_pb2.Committed(utterance=utterance, text=text))


def done() -> Reply:
    """The end."""
    return Reply(done=asr_pb2.LiveDone())


async def forever() -> None:
    """Does not return."""
    await asyncio.Event().wait()
