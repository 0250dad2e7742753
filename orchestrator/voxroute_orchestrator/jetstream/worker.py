"""A worker: takes parts of running jobs from a NATS server to the service beside it.

They are spans for a speech service, and turns at translations for a translation service. It
connects to both and nobody connects to it, so that it may be where no way leads in. It keeps
nothing: what it does not finish goes back to whoever does the job, with what is done of it.
"""

import asyncio
import contextlib
import json
import math
from typing import Any

from voxroute.asr.v1 import asr_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.translate import TranslateClient, offers
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.jetstream.beside import Beside, Capabilities
from voxroute_orchestrator.jetstream.calls import pool_of, translation_pool_of
from voxroute_orchestrator.jetstream.link import Link, LinkError, Ticket
from voxroute_orchestrator.jetstream.setup import SPANS, hand_out
from voxroute_orchestrator.jetstream.worker_calls import SpanCall, TurnCall, WorkerCall
from voxroute_orchestrator.jetstream.worker_metrics import WorkerMetrics
from voxroute_serving.telemetry.logs import get_logger

_TICKET_S = 10.0  # in which a ticket that was pulled leads to a call, or another worker has it
_PULL_S = 0.5
_PAUSE_S = 1.0  # before a service or server that is away is asked again
_OTHERS_S = 0.5  # after which a ticket comes again that is for another worker, by its languages
_OTHERS = 8  # of them in turn, after which the next pool is looked at
_SPAN_S = 120.0  # what a call is expected to have, at least
_MIN_LANES = 2  # one call's windows or texts fill the batches of the other
_TOLD_PAIRS = 20  # a model may have thousands

_log = get_logger(__name__)


class Worker:
    """Works until it is stopped. Lives on one event loop."""

    def __init__(
        self, link: Link, service: Beside, name: str, metrics: WorkerMetrics, *, lanes: int = 0
    ) -> None:
        """`lanes` are the calls at once; 0 for as many as the service says."""
        self._link = link
        self._service = service
        self._name = name
        self._metrics = metrics
        metrics.follow(lambda: link.connected, lambda: service.told is not None)
        self._wanted_lanes = lanes
        self._translates = isinstance(service.client, TranslateClient)
        self._stopping = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._doing: set[WorkerCall] = set()
        self._made: set[str] = set()  # consumers

    def stop(self) -> None:
        """Has each call given back as soon as nothing of it is lost; nothing more is taken."""
        self._stopping.set()

    def tell(self) -> dict[str, Any]:
        """What it is and does, for whoever asks who is there."""
        told = self._service.told or asr_pb2.GetCapabilitiesResponse()
        device = convert.device(told.device)
        pairs = [f"{source}-{target}" for source, target in self._service.pairs]
        return {
            "translates": self._translates,
            "pairs": pairs[:_TOLD_PAIRS],
            "n_pairs": len(pairs),
            "service": self._service.client.endpoint.target,
            "service_up": self._service.told is not None,
            "lanes": self._wanted_lanes or _lanes(told),
            "device": f"{device.kind} {device.compute_type} {device.name}".strip(),
            "models": [one.model.id for one in told.models],
            "doing": [one.doing() for one in self._doing],
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
        told = ""
        while not self._stopping.is_set():
            try:
                await self._take()
                told = ""
            except (LinkError, VoxrouteError) as error:
                if str(error) != told:
                    _log.warning("the worker waits", error=str(error))
                told = str(error)
                self._made.clear()  # a server that has lost its disk has none of them
                await self._pause(_PAUSE_S)
        while self._calls:
            await asyncio.wait(self._calls)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _take(self) -> None:
        """Takes work where there is some and a lane is free. Raises LinkError, VoxrouteError."""
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
            pool = translation_pool_of(model) if self._translates else pool_of(model)
            if pool not in self._made:
                await hand_out(self._link, SPANS, pool, _TICKET_S, f"vr.span.{pool}.>")
                self._made.add(pool)
            ticket = await self._pull(pool, any_model=not model)
            if ticket is not None:
                task = asyncio.create_task(self._take_up(ticket))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
                return

    async def _pull(self, pool: str, *, any_model: bool) -> Ticket | None:
        """A ticket of a pool; those of languages that the service has not are for others."""
        for _ in range(_OTHERS):
            ticket = await self._link.pull(SPANS, pool, _PULL_S)
            pair = _pair(ticket) if ticket is not None and any_model else None
            if ticket is None or pair is None or offers(self._service.pairs, *pair):
                return ticket
            await self._link.put_back(ticket, _OTHERS_S)
        return None

    async def _take_up(self, ticket: Ticket) -> None:
        """Asks for a piece of work, and does it where there is one."""
        job_id, pair = ticket.subject.split(".")[3], _pair(ticket)
        if self._service.told is None:  # it has gone since the ticket was asked for
            await self._link.put_back(ticket, _OTHERS_S)
            return
        try:
            asked = json.dumps({"worker": self._name} | ({"pair": pair} if pair else {})).encode()
            answer = await self._link.ask(f"vr.work.{job_id}", asked)
        except LinkError as error:  # the ticket comes again
            _log.warning("a job has no answer", job=job_id, error=str(error))
            return
        taken = asyncio.create_task(self._link.done(ticket))  # a write, which nobody waits for
        given: dict[str, Any] = json.loads(answer) if answer else {}
        if given:
            call = self._call(given, job_id)
            self._doing.add(call)
            try:
                with self._metrics.in_flight.track_inprogress():
                    self._metrics.ended(await call.run())
            finally:
                self._doing.discard(call)
        await taken

    def _call(self, given: dict[str, Any], job_id: str) -> WorkerCall:
        client, stopping, metrics = self._service.client, self._stopping, self._metrics
        if isinstance(client, TranslateClient):
            method, request = client.stub.Translate, translate_pb2.TranslateRequest
            kind: type[WorkerCall] = TurnCall
        else:
            method, request = client.stub.Transcribe, asr_pb2.TranscribeRequest
            kind = SpanCall
        return kind(self._link, method, request, given, job_id, stopping=stopping, metrics=metrics)


def _pair(ticket: Ticket) -> tuple[str, str] | None:
    """The languages that a ticket is about; None for that of a span."""
    if not ticket.data:
        return None
    source, target = json.loads(ticket.data)
    return source, target


def _lanes(capabilities: Capabilities) -> int:
    """Calls at once: enough for the service's device, as far as it says."""
    if isinstance(capabilities, translate_pb2.GetCapabilitiesResponse):
        return _MIN_LANES
    limits = capabilities.limits
    in_flight_s = limits.audio_in_flight.ToTimedelta().total_seconds()
    return max(_MIN_LANES, min(math.ceil(in_flight_s / _SPAN_S), limits.max_concurrent_calls // 2))
