"""Which services there are, and what each says of itself."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio

from voxroute.asr.v1 import asr_pb2
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


def speech_status(target: str, reply: asr_pb2.GetCapabilitiesResponse, *, serving: bool) -> Status:
    """What a speech service says of itself."""
    models = (f"{m.model.id}{'' if m.loaded else ' (not loaded)'}" for m in reply.models)
    return _status(
        SPEECH,
        target,
        reply,
        f"{reply.engine} {reply.engine_version}".strip(),
        models,
        serving=serving,
        engine=reply.engine,
        languages=tuple(reply.languages),
        alignable_languages=tuple(reply.alignable_languages),
        features=frozenset(
            asr_pb2.Feature.Name(f).removeprefix("FEATURE_").lower()
            for f in reply.features
            if f in asr_pb2.Feature.values()
        ),
        real_time_factor=(reply.real_time_factor if reply.HasField("real_time_factor") else None),
    )


def translation_status(
    target: str, reply: translate_pb2.GetCapabilitiesResponse, *, serving: bool
) -> Status:
    """What a translation service says of itself."""
    engine = ", ".join(sorted({model.model.engine for model in reply.models}))
    models = (
        f"{m.model.id}{'' if m.loaded else ' (not loaded)'}{f', {m.license}' if m.license else ''}"
        for m in reply.models
    )
    return _status(TRANSLATION, target, reply, engine, models, serving=serving, engine=engine)


def _status(
    kind: str,
    target: str,
    reply: asr_pb2.GetCapabilitiesResponse | translate_pb2.GetCapabilitiesResponse,
    shown_engine: str,
    shown_models: Iterable[str],
    *,
    serving: bool,
    **offered: Any,
) -> Status:
    """What both kinds say; `offered` are the other fields of the offer."""
    device, queue = convert.device(reply.device), reply.queue
    return Status(
        kind,
        target,
        serving=serving,
        engine=shown_engine,
        version=reply.service_version,
        device=f"{device.kind} {device.compute_type} {device.name}".strip(),
        models=tuple(shown_models),
        queue=f"{queue.calls_in_flight} of {queue.calls_capacity}, {queue.work_queued} waiting",
        offer=routing.Offer(
            target,
            None if serving else "it is loading or draining",
            device=device.kind,
            models=tuple(model.model.id for model in reply.models),
            calls_in_flight=queue.calls_in_flight,
            calls_capacity=queue.calls_capacity,
            work_queued=queue.work_queued,
            **offered,
        ),
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
