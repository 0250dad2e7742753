"""A worker: takes spans of running jobs from a NATS server to the speech service beside it.

It connects to both and nobody connects to it, so that it may be where no way leads in. It keeps
nothing: a span that it does not finish goes back to whoever does the job, with its windows.
"""

import asyncio
import contextlib
import json
import math
import time
from typing import Any

import grpc
import grpc.aio

from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.stream import close_writing, raise_for_status, write
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.jetstream.beside import Beside
from voxroute_orchestrator.jetstream.calls import LEFT, OVER, ending, packed, pool_of
from voxroute_orchestrator.jetstream.link import AwayError, Link, LinkError, Ticket
from voxroute_orchestrator.jetstream.setup import SPANS, hand_out
from voxroute_orchestrator.jetstream.worker_metrics import Outcome, WorkerMetrics
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger
from voxroute_serving.telemetry.request_ids import JOB_METADATA_KEY, METADATA_KEY

_TICKET_S = 10.0  # in which a ticket that was pulled leads to a call, or another worker has it
_PULL_S = 0.5
_PAUSE_S = 1.0  # before a service or server that is away is asked again
_BEAT_S = 2.0  # less than what a worker is taken for dead after
_IDLE_S = 0.3  # without anybody who answers, after which a finished window is the last
_NOBODY_S = 2.0  # likewise, after which nobody waits for the call
_HUNG_S = 15.0  # with somebody who does not answer, likewise
_AWAY_S = 60.0  # without the server, likewise
_GET_S = 2.0  # in which a message of the call is there, or asked for again
_TELL_S = 0.5  # after which is asked again whether what was told is kept
_UNKEPT_S = 2.0  # likewise: what comes behind would be lost with whoever is to keep it
_SPAN_S = 120.0  # what a call is expected to have, at least
_OUTCOMES: dict[str, Outcome] = {grpc.StatusCode.OK.name: "done", LEFT: "left"}
_MIN_LANES = 2  # one span's windows fill the batches of the other

_log = get_logger(__name__)


class _OverError(Exception):
    """Nobody waits for the call any more."""


class Worker:
    """Works until it is stopped. Lives on one event loop."""

    def __init__(
        self, link: Link, service: Beside, name: str, metrics: WorkerMetrics, *, lanes: int = 0
    ) -> None:
        """`lanes` are the spans at once; 0 for as many as the service says."""
        self._link = link
        self._service = service
        self._name = name
        self._metrics = metrics
        metrics.follow(lambda: link.connected, lambda: service.told is not None)
        self._wanted_lanes = lanes
        self._stopping = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._doing: set[_Call] = set()
        self._made: set[str] = set()  # consumers

    def stop(self) -> None:
        """Has each span given back after the window that is under way; nothing more is taken."""
        self._stopping.set()

    def tell(self) -> dict[str, Any]:
        """What it is and does, for whoever asks who is there."""
        told = self._service.told or asr_pb2.GetCapabilitiesResponse()
        device = convert.device(told.device)
        return {
            "service": self._service.client.endpoint.target,
            "service_up": self._service.told is not None,
            "lanes": self._wanted_lanes or _lanes(told),
            "device": f"{device.kind} {device.compute_type} {device.name}".strip(),
            "models": [one.model.id for one in told.models],
            "doing": [{"job": one.job_id, "at_s": round(one.reached_s, 3)} for one in self._doing],
        }

    async def run(self) -> None:
        """Returns once it was stopped and is done."""
        watching = asyncio.ensure_future(self._service.watch())
        try:
            await self._work()
        finally:
            watching.cancel()
            for call in self._calls:
                call.cancel()
            await asyncio.gather(watching, *self._calls, return_exceptions=True)

    async def _work(self) -> None:
        away = False
        while not self._stopping.is_set():
            try:
                await self._take()
                away = False
            except (LinkError, VoxrouteError) as error:
                if not away:
                    _log.warning("the worker waits", error=str(error))
                away = True
                await self._pause(_PAUSE_S)
        while self._calls:
            await asyncio.wait(self._calls)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _take(self) -> None:
        """Takes a span where there is one and a lane is free. Raises LinkError, VoxrouteError."""
        capabilities = await self._service.capabilities()  # none is taken while it is away
        lanes = self._wanted_lanes or _lanes(capabilities)
        self._metrics.lanes.set(lanes)
        if len(self._calls) >= lanes:
            await asyncio.wait(
                [*self._calls, asyncio.ensure_future(self._pause(_PAUSE_S))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            return
        for model in ("", *(one.model.id for one in capabilities.models)):
            pool = pool_of(model)
            if pool not in self._made:
                await hand_out(self._link, SPANS, pool, _TICKET_S, f"vr.span.{pool}.>")
                self._made.add(pool)
            ticket = await self._link.pull(SPANS, pool, _PULL_S)
            if ticket is not None:
                task = asyncio.create_task(self._take_up(ticket))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                return

    async def _take_up(self, ticket: Ticket) -> None:
        """Asks for a span, and does it where there is one."""
        job_id = ticket.subject.split(".")[3]
        try:
            asked = json.dumps({"worker": self._name}).encode()
            answer = await self._link.ask(f"vr.work.{job_id}", asked)
        except AwayError as error:  # the ticket comes again
            _log.warning("a job has no answer", job=job_id, error=str(error))
            return
        taken = asyncio.create_task(self._link.done(ticket))  # a write, which nobody waits for
        given: dict[str, Any] = json.loads(answer) if answer else {}
        if given:
            client = self._service.client
            stopping, metrics = self._stopping, self._metrics
            call = _Call(self._link, client, given, job_id, stopping=stopping, metrics=metrics)
            self._doing.add(call)
            try:
                with metrics.in_flight.track_inprogress():
                    metrics.ended(await call.run())
            finally:
                self._doing.discard(call)
        await taken


def _lanes(capabilities: asr_pb2.GetCapabilitiesResponse) -> int:
    """Spans at once: enough for the service's device, as far as it says."""
    limits = capabilities.limits
    in_flight_s = limits.audio_in_flight.ToTimedelta().total_seconds()
    return max(_MIN_LANES, min(math.ceil(in_flight_s / _SPAN_S), limits.max_concurrent_calls // 2))


class _Call:
    """One span: a call of the service, whose messages are fetched and whose answers are told."""

    def __init__(
        self,
        link: Link,
        service: AsrClient,
        given: dict[str, Any],
        job_id: str,
        *,
        stopping: asyncio.Event,
        metrics: WorkerMetrics,
    ) -> None:
        self._link = link
        self._metrics = metrics
        self.reached_s = 0.0
        """Media time up to which windows are finished."""
        self._subject = f"vr.work.{job_id}"
        self._name = str(given["call"])
        self._stopping = stopping
        self._leaving = False
        self._untold: list[bytes] = []
        self._news = asyncio.Event()
        metadata = ((METADATA_KEY, str(given["request_id"])), (JOB_METADATA_KEY, job_id))
        with tracing.below(given["trace"]):
            self._grpc = service.stub.Transcribe(metadata=metadata)
        self.job_id = job_id

    async def run(self) -> Outcome:
        """How the span has ended, once it has or nobody waits for it any more."""
        _log.info("span begins", job=self.job_id)
        sending = asyncio.create_task(self._send())
        reading = asyncio.create_task(self._read())
        reading.add_done_callback(lambda _: self._news.set())
        try:
            return await self._tell(reading, sending)
        except _OverError:
            _log.info("span is nobody's any more", job=self.job_id)
        except (LinkError, grpc.aio.AioRpcError) as error:
            _log.warning("span is left", job=self.job_id, error=str(error))
        finally:
            for task in (sending, reading):
                task.cancel()
            self._grpc.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)
        return "lost"

    async def _send(self) -> None:
        """Fetches the messages of the call. Raises _OverError, AwayError."""
        number = 0
        while data := await self._ask({"get": number}):
            number += 1
            request = asr_pb2.TranscribeRequest.FromString(data)
            if request.HasField("config"):
                begin, done = request.config.audio.start_offset, request.config.resume_from
                self.reached_s = max(convert.seconds(begin), convert.seconds(done))
            if not await write(self._grpc, request):
                return
        await close_writing(self._grpc)

    async def _read(self) -> dict[str, Any]:
        """How the call has ended, once it has; what the service answers is to be told."""
        try:
            while (reply := await self._grpc.read()) is not grpc.aio.EOF:
                self._untold.append(reply.SerializeToString())
                self._news.set()
                if reply.progress.HasField("resume_from"):
                    self._count(convert.seconds(reply.progress.resume_from))
                    if self._stopping.is_set() or self._leaving:
                        self._grpc.cancel()
                        return {"code": LEFT}
            await raise_for_status(self._grpc)
        except grpc.aio.AioRpcError as error:
            return ending(error)
        return {"code": grpc.StatusCode.OK.name}

    def _count(self, reached_s: float) -> None:
        self._metrics.decoded_seconds.inc(max(0.0, reached_s - self.reached_s))
        self.reached_s = max(reached_s, self.reached_s)

    async def _tell(
        self, reading: "asyncio.Task[dict[str, Any]]", sending: "asyncio.Task[None]"
    ) -> Outcome:
        """Tells what the service answers, down to the end. Raises _OverError, AwayError."""
        number = 0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _BEAT_S)
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
            await asyncio.sleep(_PAUSE_S / 10)

    def _leave(self) -> None:
        """Has the span given back at the end of the window that is under way."""
        self._leaving = True
