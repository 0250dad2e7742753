"""The client of AsrService.TranscribeLive: samples out as they come, messages in as they come.

    async with live.call(speech, asr_pb2.LiveConfig(audio=..., update_interval=...)) as call:
        # one task sends
        await call.audio(samples)
        await call.end_utterance()
        await call.finish()
        # another one reads, the whole time
        async for reply in call.replies():
            match reply.WhichOneof("event"):
                case "committed": ...

`speech` is what `fleet/connect.py` finds. What is sent waits while the service does not keep up:
who must not lose samples meanwhile holds them. A send returns False once the call is over, and
`replies` then says why. At the end of the block the call is over in every case, and the service
free; so it is where a task that sends or reads is cancelled. A live stream cannot be gone on with:
who wants another one opens it with the `start_offset` that it has come to.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import new_request_id
from voxroute_orchestrator.client.failures import broken_stream, of_rpc_error
from voxroute_orchestrator.client.stream import Watchdog, close_writing, raise_for_status, write

SILENCE_S = 30.0
"""A service that is sent audio tells how it goes every second; one that is silent so long hangs."""


class LiveCall:
    """One live stream. One task reads, any others send."""

    def __init__(self, call: Any, service: str, request_id: str, stall_timeout_s: float) -> None:
        self.request_id = request_id
        """Of the call, in the logs of both sides."""
        self._call = call
        self._service = service
        self._writing = asyncio.Lock()  # grpc takes one message at a time
        self._owed = True
        """Whether the service has been sent something since its last message."""
        self._watchdog = Watchdog(call, stall_timeout_s, lambda: self._owed)
        self._guard = asyncio.ensure_future(self._watchdog.watch())

    async def send(self, request: asr_pb2.TranscribeLiveRequest) -> bool:
        """Sends any message. False once the call is over."""
        async with self._writing:
            try:
                sent = await write(self._call, request)
            except asyncio.CancelledError:  # whether it was sent is not known
                self._call.cancel()
                raise
        if not self._owed:
            self._watchdog.heard()
            self._owed = True
        return sent

    async def audio(self, samples: bytes) -> bool:
        """Sends the next samples, 20 to 200 ms of them at best. False once the call is over."""
        return await self.send(asr_pb2.TranscribeLiveRequest(audio=samples))

    async def end_utterance(self) -> bool:
        """Ends the utterance now. False once the call is over."""
        end = asr_pb2.EndUtterance()
        return await self.send(asr_pb2.TranscribeLiveRequest(end_utterance=end))

    async def drop_utterance(self) -> bool:
        """Drops what was heard since the last utterance. False once the call is over."""
        drop = asr_pb2.DropUtterance()
        return await self.send(asr_pb2.TranscribeLiveRequest(drop_utterance=drop))

    async def finish(self) -> bool:
        """Tells that nothing follows; what is left is still told. False once the call is over."""
        finish = common_pb2.Finish()
        sent = await self.send(asr_pb2.TranscribeLiveRequest(finish=finish))
        await close_writing(self._call)
        return sent

    async def replies(self) -> AsyncGenerator[asr_pb2.TranscribeLiveResponse]:
        """The service's messages, `done` last. To be iterated once.

        Raises CallFailedError where the call ended without `done`.
        """
        done = False
        try:
            while (reply := await self._call.read()) is not grpc.aio.EOF:
                self._watchdog.heard()
                self._owed = False
                if reply.HasField("accepted"):  # until then a model may be loaded
                    patience_s = min(SILENCE_S, self._watchdog.stall_timeout_s)
                    self._watchdog.stall_timeout_s = patience_s
                done = done or reply.HasField("done")
                yield reply
            await raise_for_status(self._call)
        except grpc.aio.AioRpcError as error:
            raise of_rpc_error(error, self._service, self.request_id) from error
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if (current is not None and current.cancelling()) or not self._watchdog.fired:
                raise
            silent = f"has sent nothing for {self._watchdog.stall_timeout_s:.0f} s"
            raise broken_stream(self._service, silent) from None
        if not done:
            raise broken_stream(self._service, "ended the call before it was done")

    async def end(self) -> None:
        """Ends the call at once, wherever it is."""
        self._guard.cancel()
        self._call.cancel()
        await asyncio.gather(self._guard, return_exceptions=True)


@contextlib.asynccontextmanager
async def call(speech: AsrClient, config: asr_pb2.LiveConfig) -> AsyncGenerator[LiveCall]:
    """A live stream, its config sent; the model is that of the client where `config` names none.

    Whether the service takes it tells the first of the `replies`.
    """
    request_id = new_request_id()
    opened = speech.stub.TranscribeLive(metadata=(("x-request-id", request_id),))
    stream = LiveCall(opened, str(speech.endpoint), request_id, speech.policy.stall_timeout_s)
    try:
        first = asr_pb2.LiveConfig(model=speech.model)
        first.MergeFrom(config)
        await stream.send(asr_pb2.TranscribeLiveRequest(config=first))
        yield stream
    finally:
        await stream.end()
