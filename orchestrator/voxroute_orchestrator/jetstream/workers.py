"""The workers that come for parts of a job, as whoever does the job sees them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from voxroute.asr.v1 import asr_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client.asr import AsrClient, AsrRequest, Transcription
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, new_request_id
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.messages import AsrEvent, TranslateEvent
from voxroute_orchestrator.client.translate import (
    TranslateClient,
    TranslateRequest,
    TranslationCall,
)
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.jetstream.calls import (
    OVER,
    FetchedCall,
    digest_of,
    pool_of,
    translation_pool_of,
)
from voxroute_orchestrator.jetstream.link import (
    ConflictError,
    FullError,
    Link,
    LinkError,
)
from voxroute_orchestrator.jetstream.setup import SPANS
from voxroute_orchestrator.pipeline.workers import Asking, Crew
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger

_TRANSCRIBE = "voxroute.asr.v1.AsrService/Transcribe"
_TRANSLATE = "voxroute.translate.v1.TranslateService/Translate"
_MOST_OFFERED = 8  # tickets of one kind of a job: those of others get their turn

R = TypeVar("R", bound=Message)
C = TypeVar("C")

_log = get_logger(__name__)


class _Question:
    """What a worker has asked, until it is answered with the one call that it fetches."""

    def __init__(self, link: Link, worker: str, calls: "dict[str, FetchedCall[Any]]") -> None:
        """`calls` are those that workers fetch, by name."""
        self.endpoint = Endpoint("worker", worker)
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._link = link
        self._calls = calls

    def reply(self, answer: dict[str, Any]) -> None:
        """Answers, unless it is answered."""
        if not self.answer.done():
            self.answer.set_result(json.dumps(answer).encode())

    async def replies(
        self,
        method: str,
        messages: AsyncGenerator[Message],
        reply: type[R],
        is_last: Callable[[R], bool],
        *,
        request_id: str,
        waits: Callable[[], bool] = lambda: False,
    ) -> AsyncGenerator[R]:
        """What the service beside the worker answers to the call. Raises CallFailedError."""
        service = str(self.endpoint)
        call = FetchedCall(
            self._link,
            messages,
            reply,
            is_last,
            service=service,
            request_id=request_id,
            waits=waits,
        )
        self._calls[call.name] = call
        about = {"server.address": service, "voxroute.request_id": request_id}
        span, trace = tracing.client_span(method, about)
        self.reply({"call": call.name, "request_id": request_id, "trace": trace})
        code = grpc.StatusCode.UNAVAILABLE
        try:
            async with contextlib.aclosing(call.replies()) as replies:
                async for one in replies:
                    yield one
            code = grpc.StatusCode.OK
        finally:
            tracing.end_call(span, code.name, server=False)
            span.end()
            del self._calls[call.name]
            await call.end()


class AskingRecogniser(AsrClient):
    """Asking: a worker that asks for a span."""

    def __init__(self, question: _Question, model: str) -> None:
        self.endpoint = question.endpoint
        self.policy = CallPolicy()
        self.model = model
        self._question = question

    @property
    def service(self) -> AsrClient:
        """As Asking."""
        return self

    def refuse(self) -> None:
        """As Asking."""
        self._question.reply({})

    async def transcribe(self, request: AsrRequest) -> AsyncGenerator[AsrEvent]:
        """As AsrClient."""
        call = Transcription(request, new_request_id())
        fetched = self._question.replies(
            _TRANSCRIBE,
            call.messages(),
            asr_pb2.TranscribeResponse,
            lambda reply: reply.HasField("done"),
            request_id=call.request_id,
        )
        async with contextlib.aclosing(fetched) as replies:
            async for reply in replies:
                for event in call.events(reply):
                    yield event


class AskingTranslator(TranslateClient):
    """Asking: a worker that asks for texts."""

    def __init__(self, question: _Question, model: str) -> None:
        self.endpoint = question.endpoint
        self.model = model
        self._question = question

    @property
    def service(self) -> TranslateClient:
        """As Asking."""
        return self

    def refuse(self) -> None:
        """As Asking."""
        self._question.reply({})

    async def translate(self, request: TranslateRequest) -> AsyncGenerator[TranslateEvent]:
        """One call; what it leaves without an answer goes back. Raises CallFailedError."""
        with request.items.holder() as held:
            call = TranslationCall(request, held, self.endpoint, new_request_id())
            fetched = self._question.replies(
                _TRANSLATE,
                call.messages(),
                translate_pb2.TranslateResponse,
                call.is_last,
                request_id=call.request_id,
                waits=lambda: bool(held),
            )
            async with contextlib.aclosing(fetched) as replies:
                async for reply in replies:
                    try:
                        events = list(call.events(reply))
                    except VoxrouteError as error:  # it makes no sense: others may do better
                        raise CallFailedError(error, retryable=True) from error
                    for event in events:
                        yield event


class _JobCrew(Generic[C]):
    """Crew: those who may do one kind of work of one job."""

    def __init__(
        self,
        job: "JobWorkers",
        model: str,
        tickets: str,
        data: bytes,
        asking: Callable[[_Question], Asking[C]],
    ) -> None:
        """`tickets` is how their subjects begin, `data` what they say."""
        self.model = model
        self._job = job
        self._tickets = tickets
        self._data = data
        self._as_asking = asking
        self._asking: asyncio.Queue[Asking[C]] = asyncio.Queue()
        self._closed = False

    async def offer(self, n_pieces: int) -> None:
        """As Crew."""
        subjects = [f"{self._tickets}{number}" for number in range(min(n_pieces, _MOST_OFFERED))]
        await self._job.offer(subjects, self._data)

    async def next(self) -> Asking[C]:
        """As Crew."""
        return await self._asking.get()

    def hear(self, question: _Question) -> None:
        """Takes a question of one of them."""
        asking = self._as_asking(question)
        if self._closed:
            asking.refuse()
        else:
            self._asking.put_nowait(asking)

    def close(self) -> None:
        """As Crew."""
        self._closed = True
        while not self._asking.empty():
            self._asking.get_nowait().refuse()


class JobWorkers:
    """Workers: those who may work on one job."""

    def __init__(self, link: Link, job_id: str, model: str, translation_model: str = "") -> None:
        """The models are what they have to have; "" for any."""
        self._link = link
        self._job_id = job_id
        self._translation_model = translation_model
        self._recognisers = _JobCrew(
            self,
            model,
            f"vr.span.{pool_of(model)}.{job_id}.",
            b"",
            lambda question: AskingRecogniser(question, model),
        )
        self._translators: dict[tuple[str, str], _JobCrew[TranslateClient]] = {}
        self._calls: dict[str, FetchedCall[Any]] = {}
        self._serving = asyncio.Lock()
        self._stop: Callable[[], Awaitable[None]] | None = None

    @property
    def recognisers(self) -> Crew[AsrClient]:
        """As Workers."""
        return self._recognisers

    def translators(self, source: str, target: str) -> Crew[TranslateClient]:
        """As Workers."""
        model, pair = self._translation_model, (source, target)
        if pair not in self._translators:
            number = digest_of(" ".join(pair))
            self._translators[pair] = _JobCrew(
                self,
                model,
                f"vr.span.{translation_pool_of(model)}.{self._job_id}.{number}-",
                json.dumps(pair).encode(),
                lambda question: AskingTranslator(question, model),
            )
        return self._translators[pair]

    async def offer(self, subjects: list[str], data: bytes) -> None:
        """Has tickets be there. What cannot be kept is told in the log."""
        try:
            async with self._serving:
                if self._stop is None:
                    self._stop = await self._link.serve(f"vr.work.{self._job_id}", self._answer)
            for subject in subjects:
                with contextlib.suppress(ConflictError, FullError):  # there is one
                    await self._link.append(SPANS, subject, data, 0)
        except LinkError as error:
            _log.warning("work is offered later", job=self._job_id, error=str(error))

    async def _answer(self, data: bytes) -> bytes:
        line, _, body = data.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        if "call" in head:
            call = self._calls.get(head["call"])
            return await call.answer(head, body) if call is not None else OVER
        question = _Question(self._link, str(head["worker"]), self._calls)
        pair = head.get("pair")
        crew = self._translators.get((pair[0], pair[1])) if pair else self._recognisers
        if crew is None:  # a ticket of an attempt before this one
            question.reply({})
        else:
            crew.hear(question)
        return await question.answer

    async def close(self) -> None:
        """As Workers."""
        with contextlib.suppress(Exception):  # who finds nobody leaves by himself
            if self._stop is not None:
                await self._stop()
            await self._link.purge(SPANS, f"vr.span.*.{self._job_id}.*")
        for crew in (self._recognisers, *self._translators.values()):
            crew.close()
