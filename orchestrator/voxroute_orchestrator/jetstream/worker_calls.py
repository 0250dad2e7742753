"""The calls of a worker: each message is fetched for the service beside it, each answer is told."""

import asyncio
import contextlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.stream import close_writing, raise_for_status, write
from voxroute_orchestrator.jetstream.calls import LEFT, OVER, ending, packed
from voxroute_orchestrator.jetstream.link import AwayError, Link, LinkError
from voxroute_orchestrator.jetstream.worker_metrics import Outcome, WorkerMetrics
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger
from voxroute_serving.telemetry.request_ids import JOB_METADATA_KEY, METADATA_KEY

BEAT_S = 2.0
"""How often something is told at least; less than what a worker is taken for dead after."""
_PAUSE_S = 0.1  # before somebody who is away is asked again
_IDLE_S = 0.3  # without anybody who answers, after which a finished window is the last
_NOBODY_S = 2.0  # likewise, after which nobody waits for the call
_HUNG_S = 15.0  # with somebody who does not answer, likewise
_AWAY_S = 60.0  # without the server, likewise
_GET_S = 2.0  # in which a message of the call is there, or asked for again
_TELL_S = 0.5  # after which is asked again whether what was told is kept
_UNKEPT_S = 2.0  # likewise: what comes behind would be lost with whoever is to keep it
_OUTCOMES: dict[str, Outcome] = {grpc.StatusCode.OK.name: "done", LEFT: "left"}

_log = get_logger(__name__)


class _OverError(Exception):
    """Nobody waits for the call any more."""


class WorkerCall(ABC):
    """One piece of work: a call of the service."""

    def __init__(
        self,
        link: Link,
        method: Any,
        request: type[Message],
        given: dict[str, Any],
        job_id: str,
        *,
        stopping: asyncio.Event,
        metrics: WorkerMetrics,
    ) -> None:
        """`method` is that of the service, which takes each `request`.

        `given` is what whoever does the job has answered to the question for a piece.
        """
        self.job_id = job_id
        self._link = link
        self._request = request
        self._metrics = metrics
        self._subject = f"vr.work.{job_id}"
        self._name = str(given["call"])
        self._stopping = stopping
        self._leaving = False
        self._cut_short = False
        self._untold: list[bytes] = []
        self._news = asyncio.Event()
        metadata = ((METADATA_KEY, str(given["request_id"])), (JOB_METADATA_KEY, job_id))
        with tracing.below(given["trace"]):
            self._grpc = method(metadata=metadata)

    @abstractmethod
    def doing(self) -> dict[str, Any]:
        """What it is and how far, for whoever asks who is there."""

    @abstractmethod
    def _heard(self, reply: Any) -> bool:
        """Counts an answer; whether nothing is lost where it is the last one."""

    @property
    def _ends(self) -> bool:
        """Whether the piece is to be given back as soon as nothing of it is lost."""
        return self._stopping.is_set() or self._leaving

    async def run(self) -> Outcome:
        """How it has ended, once it has or nobody waits for it any more."""
        _log.info("work begins", job=self.job_id)
        sending = asyncio.create_task(self._send())
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._news.set())
        try:
            return await self._tell(reading, sending)
        except _OverError:
            _log.info("work is nobody's any more", job=self.job_id)
        except (LinkError, grpc.aio.AioRpcError) as error:
            _log.warning("work is left", job=self.job_id, error=str(error))
        finally:
            for task in (sending, reading):
                task.cancel()
            self._grpc.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)
        return "lost"

    async def _send(self) -> None:
        """Hands on what is fetched. Raises _OverError, AwayError."""
        async with contextlib.aclosing(self._fetched()) as messages:
            async for message in messages:
                if not await write(self._grpc, message):
                    return
        await close_writing(self._grpc)

    async def _fetched(self) -> AsyncGenerator[Any]:
        """The messages of the call. Raises _OverError, AwayError."""
        number = 0
        while data := await self._ask({"get": number}):
            number += 1
            yield self._request.FromString(data)

    async def _read(self) -> dict[str, Any]:
        """How the call has ended, once it has; what the service answers is to be told."""
        try:
            while (reply := await self._grpc.read()) is not grpc.aio.EOF:
                self._untold.append(reply.SerializeToString())
                self._news.set()
                if self._heard(reply) and self._ends:
                    self._grpc.cancel()
                    return {"code": LEFT}
            await raise_for_status(self._grpc)
        except grpc.aio.AioRpcError as error:
            return ending(error)
        return {"code": LEFT if self._cut_short else grpc.StatusCode.OK.name}

    async def _tell(
        self, reading: "asyncio.Task[dict[str, Any]]", sending: "asyncio.Task[None]"
    ) -> Outcome:
        """Tells what the service answers, down to the end. Raises _OverError, AwayError."""
        number = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):  # `wait_for` (3.11) may swallow a cancellation
                    await self._news.wait()
            if sending.done() and not sending.cancelled():  # with the call that has ended
                sending.result()
            self._news.clear()
            ended = reading.done()
            untold, self._untold = self._untold, []
            head: dict[str, Any] = {"tell": number}
            if ended:
                head["end"] = reading.result()
            unkept = asyncio.get_running_loop().call_later(_UNKEPT_S, self._leave)
            try:
                await self._ask(head, packed(untold))
            finally:
                unkept.cancel()
            self._leaving = False
            number += 1
            if ended:
                return _OUTCOMES.get(head["end"]["code"], "failed")

    async def _ask(self, head: dict[str, Any], body: bytes = b"") -> bytes:
        """The answer, asked for until there is one. Raises _OverError, AwayError."""
        within_s = _TELL_S if "tell" in head else _GET_S
        data = json.dumps({"call": self._name} | head).encode() + b"\n" + body
        began = hung_at = time.monotonic()
        nobody_at = math.inf
        while True:
            try:
                answer = await self._link.ask(self._subject, data, within_s)
            except AwayError:
                now = time.monotonic()
                if not self._link.connected:
                    hung_at = now
                if now - hung_at > _HUNG_S or now - began > _AWAY_S:
                    raise
            else:
                if answer == OVER:
                    raise _OverError
                if answer is not None:
                    return answer
                now = time.monotonic()
                nobody_at = min(nobody_at, now)
                if now - nobody_at > _NOBODY_S:
                    raise _OverError
                if now - nobody_at > _IDLE_S:
                    self._leave()
            await asyncio.sleep(_PAUSE_S)

    def _leave(self) -> None:
        """Has the piece given back as soon as nothing of it is lost."""
        self._leaving = True


class SpanCall(WorkerCall):
    """A span of a recording; it is given back at the end of a window."""

    _reached_s = 0.0
    """Media time up to which windows are finished."""

    def doing(self) -> dict[str, Any]:
        """As WorkerCall."""
        return {"job": self.job_id, "at_s": round(self._reached_s, 3)}

    async def _fetched(self) -> AsyncGenerator[asr_pb2.TranscribeRequest]:
        async with contextlib.aclosing(super()._fetched()) as requests:
            async for request in requests:
                if request.HasField("config"):
                    begin, done = request.config.audio.start_offset, request.config.resume_from
                    self._reached_s = max(convert.seconds(begin), convert.seconds(done))
                yield request

    def _heard(self, reply: asr_pb2.TranscribeResponse) -> bool:
        if not reply.progress.HasField("resume_from"):
            return False
        reached_s = convert.seconds(reply.progress.resume_from)
        self._metrics.decoded_seconds.inc(max(0.0, reached_s - self._reached_s))
        self._reached_s = max(reached_s, self._reached_s)
        return True


class TurnCall(WorkerCall):
    """A turn at the texts of a translation; given back once what was fetched is translated."""

    _pair = ""
    _n_texts = 0

    def doing(self) -> dict[str, Any]:
        """As WorkerCall."""
        return {"job": self.job_id, "pair": self._pair, "texts": self._n_texts}

    async def _fetched(self) -> AsyncGenerator[translate_pb2.TranslateRequest]:
        async with contextlib.aclosing(super()._fetched()) as requests:
            async for request in requests:
                if request.HasField("config"):
                    config = request.config
                    self._pair = f"{config.source_language}-{config.target_language}"
                yield request
                if self._ends and not request.HasField("finish"):
                    self._cut_short = True
                    yield translate_pb2.TranslateRequest(finish=common_pb2.Finish())
                    return

    def _heard(self, reply: translate_pb2.TranslateResponse) -> bool:
        if reply.HasField("result"):
            self._n_texts += 1
            self._metrics.translated_texts.inc()
        return False
