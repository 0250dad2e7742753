"""The workers that come for the spans of a job, as whoever does the job sees them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc

from voxroute_orchestrator.client.asr import AsrClient, AsrRequest, Transcription
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, new_request_id
from voxroute_orchestrator.client.messages import AsrEvent
from voxroute_orchestrator.jetstream.calls import OVER, FetchedCall, pool_of
from voxroute_orchestrator.jetstream.link import (
    ConflictError,
    FullError,
    Link,
    LinkError,
)
from voxroute_orchestrator.jetstream.setup import SPANS
from voxroute_orchestrator.pipeline.workers import Asking
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger

_METHOD = "voxroute.asr.v1.AsrService/Transcribe"
_MOST_OFFERED = 8  # tickets of one job: those of others get their turn

_log = get_logger(__name__)


class AskingWorker(AsrClient):
    """Asking: a worker that asks for a span. It fetches its one call itself."""

    def __init__(self, link: Link, name: str, model: str, calls: dict[str, FetchedCall]) -> None:
        """`calls` are those that workers fetch, by name."""
        self.endpoint = Endpoint("worker", name)
        self.policy = CallPolicy()
        self.model = model
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._link = link
        self._calls = calls

    @property
    def speech(self) -> AsrClient:
        """As Asking."""
        return self

    def refuse(self) -> None:
        """As Asking."""
        self._reply({})

    def _reply(self, answer: dict[str, Any]) -> None:
        if not self.answer.done():
            self.answer.set_result(json.dumps(answer).encode())

    async def transcribe(self, request: AsrRequest) -> AsyncGenerator[AsrEvent]:
        """As AsrClient."""
        transcription = Transcription(request, new_request_id())
        call = FetchedCall(
            self._link, transcription.messages(), str(self.endpoint), transcription.request_id
        )
        self._calls[call.name] = call
        about = {
            "server.address": str(self.endpoint),
            "voxroute.request_id": transcription.request_id,
        }
        span, trace = tracing.client_span(_METHOD, about)
        self._reply({"call": call.name, "request_id": transcription.request_id, "trace": trace})
        code = grpc.StatusCode.UNAVAILABLE
        try:
            async with contextlib.aclosing(call.replies()) as replies:
                async for reply in replies:
                    for event in transcription.events(reply):
                        yield event
            code = grpc.StatusCode.OK
        finally:
            tracing.end_call(span, code.name, server=False)
            span.end()
            del self._calls[call.name]
            await call.end()


class JobWorkers:
    """Workers: those who may work on one job."""

    def __init__(self, link: Link, job_id: str, model: str) -> None:
        """`model` is what they have to have; "" for any."""
        self._link = link
        self._job_id = job_id
        self._model = model
        self._asking: asyncio.Queue[AskingWorker] = asyncio.Queue()
        self._calls: dict[str, FetchedCall] = {}
        self._stop: Callable[[], Awaitable[None]] | None = None

    async def offer(self, n_spans: int) -> None:
        """As Workers."""
        try:
            if self._stop is None:
                self._stop = await self._link.serve(f"vr.work.{self._job_id}", self._answer)
            for number in range(min(n_spans, _MOST_OFFERED)):
                subject = f"vr.span.{pool_of(self._model)}.{self._job_id}.{number}"
                with contextlib.suppress(ConflictError, FullError):  # there is one
                    await self._link.append(SPANS, subject, b"", 0)
        except LinkError as error:
            _log.warning("spans are offered later", job=self._job_id, error=str(error))

    async def _answer(self, data: bytes) -> bytes:
        line, _, body = data.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        if "call" in head:
            call = self._calls.get(head["call"])
            return await call.answer(head, body) if call is not None else OVER
        worker = AskingWorker(self._link, str(head["worker"]), self._model, self._calls)
        self._asking.put_nowait(worker)
        return await worker.answer

    async def next(self) -> Asking:
        """As Workers."""
        return await self._asking.get()

    async def close(self) -> None:
        """As Workers."""
        with contextlib.suppress(Exception):  # who finds nobody leaves by himself
            if self._stop is not None:
                await self._stop()
            await self._link.purge(SPANS, f"vr.span.*.{self._job_id}.*")
        while not self._asking.empty():
            self._asking.get_nowait().refuse()
