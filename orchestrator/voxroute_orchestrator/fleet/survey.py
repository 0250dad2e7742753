"""Which services there are, and what each says of itself."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc.aio

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import Endpoint, connect, is_serving, policy
from voxroute_orchestrator.client.credentials import of_settings
from voxroute_orchestrator.client.failures import brief, is_lasting, tls_reason
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import RefusedError, VoxrouteError
from voxroute_orchestrator.fleet import routing
from voxroute_orchestrator.fleet.hardware import Host
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.settings import Settings

SPEECH = "speech service"
TRANSLATION = "translation service"


@dataclass(frozen=True, slots=True)
class Status:
    """What a configured service says of itself, for people."""

    kind: str
    target: str
    error: str | None = None
    refused: bool = False
    """Whether the service answers and does not let this client in."""
    lasting: bool = False
    """Whether waiting does not mend it: the certificate is wrong."""
    serving: bool = False
    engine: str = ""
    version: str = ""
    device: str = ""
    models: tuple[str, ...] = ()
    queue: str = ""
    offer: routing.Offer | None = None


async def survey(settings: Settings) -> list[Status]:
    """What every configured service says, speech first, in the order of the configuration."""
    speech = [ask(SPEECH, target, settings) for target in settings.asr_endpoints]
    translation = [ask(TRANSLATION, target, settings) for target in settings.translate_endpoints]
    return list(await asyncio.gather(*speech, *translation))


async def ask(kind: str, target: str, settings: Settings) -> Status:
    """What a service says of itself, or why it says nothing."""
    endpoint = Endpoint(kind, target)
    async with connect(endpoint, policy(settings), of_settings(settings)) as channel:
        try:
            serving = await is_serving(channel)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                said = (error.details() or error.code().name).strip()
                why = tls_reason(said) or f"cannot be reached ({brief(said)})"
                return Status(kind, target, error=why, lasting=is_lasting(said))
            serving = True  # it has no health service; what follows tells
        try:
            if kind == SPEECH:
                speech = await AsrClient(endpoint, channel, policy(settings)).capabilities()
                return speech_status(target, speech, serving=serving)
            client = TranslateClient(endpoint, channel, policy(settings))
            return translation_status(target, await client.capabilities(), serving=serving)
        except VoxrouteError as error:
            refused = isinstance(error, RefusedError)
            return Status(kind, target, error=str(error), serving=serving, refused=refused)


def _queue(queue: common_pb2.QueueStatus) -> str:
    return f"{queue.calls_in_flight} of {queue.calls_capacity}, {queue.work_queued} waiting"


def speech_status(target: str, reply: asr_pb2.GetCapabilitiesResponse, *, serving: bool) -> Status:
    """What a speech service says of itself."""
    device = convert.device(reply.device)
    offer = routing.Offer(
        target=target,
        error=None if serving else "it is loading or draining",
        engine=reply.engine,
        device=device.kind,
        languages=tuple(reply.languages),
        alignable_languages=tuple(reply.alignable_languages),
        features=frozenset(
            asr_pb2.Feature.Name(f).removeprefix("FEATURE_").lower()
            for f in reply.features
            if f in asr_pb2.Feature.values()
        ),
        models=tuple(model.model.id for model in reply.models),
        calls_in_flight=reply.queue.calls_in_flight,
        calls_capacity=reply.queue.calls_capacity,
        work_queued=reply.queue.work_queued,
        real_time_factor=(reply.real_time_factor if reply.HasField("real_time_factor") else None),
    )
    return Status(
        SPEECH,
        target,
        serving=serving,
        engine=f"{reply.engine} {reply.engine_version}".strip(),
        version=reply.service_version,
        device=f"{device.kind} {device.compute_type} {device.name}".strip(),
        models=tuple(f"{m.model.id}{'' if m.loaded else ' (not loaded)'}" for m in reply.models),
        queue=_queue(reply.queue),
        offer=offer,
    )


def translation_status(
    target: str, reply: translate_pb2.GetCapabilitiesResponse, *, serving: bool
) -> Status:
    """What a translation service says of itself."""
    device = convert.device(reply.device)
    engines = sorted({model.model.engine for model in reply.models})
    offer = routing.Offer(
        target=target,
        error=None if serving else "it is loading or draining",
        engine=", ".join(engines),
        device=device.kind,
        models=tuple(model.model.id for model in reply.models),
        calls_in_flight=reply.queue.calls_in_flight,
        calls_capacity=reply.queue.calls_capacity,
        work_queued=reply.queue.work_queued,
    )
    return Status(
        TRANSLATION,
        target,
        serving=serving,
        engine=", ".join(engines),
        version=reply.service_version,
        device=f"{device.kind} {device.compute_type} {device.name}".strip(),
        models=tuple(
            f"{m.model.id}{'' if m.loaded else ' (not loaded)'}"
            f"{f', {m.license}' if m.license else ''}"
            for m in reply.models
        ),
        queue=_queue(reply.queue),
        offer=offer,
    )


def speech_decision(
    settings: Settings, needs: Needs, host: Host, statuses: Sequence[Status]
) -> routing.Decision:
    """Which services can recognise the speech of the job, and why."""
    return routing.route_speech(
        host,
        offers_of(statuses, SPEECH),
        needs.wish(),
        may_start=not (needs.only_asr_endpoints and settings.asr_endpoints),
    )


def translation_decision(
    settings: Settings, needs: Needs, host: Host, statuses: Sequence[Status]
) -> routing.Decision:
    """Which services can translate the job, and why."""
    return routing.route_translation(
        host,
        offers_of(statuses, TRANSLATION),
        model=needs.spec.translate_model,
        device=needs.spec.translate_device,
        may_start=not (needs.only_translate_endpoints and settings.translate_endpoints),
    )


def offers_of(statuses: Sequence[Status], kind: str) -> list[routing.Offer]:
    """What the services of a kind offer."""
    return [
        status.offer or routing.Offer(status.target, error=status.error)
        for status in statuses
        if status.kind == kind
    ]
