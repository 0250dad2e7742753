"""The workers that come for the spans of a job, as whoever does the job sees them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from voxroute_orchestrator.client.asr import AsrClient, AsrRequest, Transcription
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, new_request_id
from voxroute_orchestrator.client.failures import broken_stream
from voxroute_orchestrator.client.messages import AsrEvent
from voxroute_orchestrator.jetstream.calls import FetchedCall, pool_of
from voxroute_orchestrator.jetstream.link import (
    AwayError,
    ConflictError,
    FullError,
    Link,
    LinkError,
)
from voxroute_orchestrator.jetstream.setup import SPANS
from voxroute_orchestrator.pipeline.workers import Asking
from voxroute_serving.telemetry.logs import get_logger

_MOST_OFFERED = 8  # tickets of one job: those of others get their turn

_log = get_logger(__name__)


class AskingWorker(AsrClient):
    """Asking: a worker that asks for a span. It fetches its one call itself."""

    def __init__(self, link: Link, name: str, model: str) -> None:
        self.endpoint = Endpoint("worker", name)
        self.policy = CallPolicy()
        self.model = model
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._link = link

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
        try:
            call = await FetchedCall.begin(
                self._link, transcription.messages(), str(self.endpoint), transcription.request_id
            )
        except AwayError as error:
            self.refuse()
            raise broken_stream(str(self.endpoint), "cannot be given its span") from error
        self._reply({"call": call.subject, "request_id": transcription.request_id})
        try:
            async with contextlib.aclosing(call.replies()) as replies:
                async for reply in replies:
                    for event in transcription.events(reply):
                        yield event
        finally:
            await call.end()


class JobWorkers:
    """Workers: those who may work on one job."""

    def __init__(self, link: Link, job_id: str, model: str) -> None:
        """`model` is what they have to have; "" for any."""
        self._link = link
        self._job_id = job_id
        self._model = model
        self._asking: asyncio.Queue[AskingWorker] = asyncio.Queue()
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
        worker = AskingWorker(self._link, str(json.loads(data)["worker"]), self._model)
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
