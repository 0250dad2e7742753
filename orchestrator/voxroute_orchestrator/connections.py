"""The services of a job: the best of the configured ones, or local ones that are started for it."""

import asyncio
import contextlib
import dataclasses
import importlib.util
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import grpc.aio

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator import convert, routing, second_services, spare
from voxroute_orchestrator.clients import (
    AsrClient,
    CallPolicy,
    Endpoint,
    TranslateClient,
    connect,
    is_serving,
)
from voxroute_orchestrator.credentials import of_settings
from voxroute_orchestrator.errors import (
    LocalServiceError,
    RefusedError,
    ServiceUnavailableError,
    VoxrouteError,
)
from voxroute_orchestrator.failures import is_lasting, tls_reason
from voxroute_orchestrator.hardware import Host, detect
from voxroute_orchestrator.local_process import LocalSpec
from voxroute_orchestrator.progress import Waits, said_waits
from voxroute_orchestrator.recognition import NextService, Speech
from voxroute_orchestrator.second_services import FindAligner, FindDiarizer
from voxroute_orchestrator.settings import (
    BUNDLED_ALIGN,
    BUNDLED_ALIGN_LANGUAGES,
    BUNDLED_ASR,
    BUNDLED_TRANSLATE,
    Settings,
    bundled_models,
)
from voxroute_orchestrator.streams import Service
from voxroute_orchestrator.transcript import Note
from voxroute_orchestrator.translations import NextTranslator, Translator
from voxroute_serving import tracing

if TYPE_CHECKING:
    from voxroute_orchestrator.models_at_hand import Choice

_OUT_OF_MEMORY = re.compile(r"out.of.memory", re.IGNORECASE)

_PROTECTION = {f"VOXROUTE_{name}" for name in ("TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA")} | {
    "VOXROUTE_CLIENT_TOKENS"
}

_LOOK_AGAIN_S = 1.0  # between looks at services that are away

SPEECH = "speech service"
TRANSLATION = "translation service"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a job needs of its services."""

    speech: bool
    translation: bool
    language: str | None = None
    asr_model: str = ""
    translate_model: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    """Source and target of every translation, as far as they are known before."""
    words: bool = False
    align: bool = False
    """Whether a service is asked for word times once the transcript is there."""
    diarization_model: str = ""
    """For a speech service that is started here; "" for none."""
    strict: bool = False
    backend: str = "auto"
    """What a person asks for: "mlx", "whisperx" or "auto"; so for the devices."""
    device: str = "auto"
    translate_device: str = "auto"
    compute_type: str = ""
    """For a speech service that is started here; "" for its own choice."""
    batch_size: int = 0
    """As compute_type; 0 for its own choice."""
    only_asr_endpoints: bool = False
    """Whether the configured services were named for this job, so that no local one will do."""
    only_translate_endpoints: bool = False
    patience_s: float = 0.0
    """How long configured services may be away, where none that is left can do the job."""

    def wish(self) -> routing.Wish:
        """What routing needs to know of it."""
        features: set[str] = {routing.WORD_TIMESTAMPS} if self.words else set()
        if self.language is None:
            features.add(routing.LANGUAGE_DETECTION)
        return routing.Wish(
            language=self.language,
            model=self.asr_model,
            features=frozenset(features),
            strict=self.strict,
            backend=self.backend,
            device=self.device,
        )


class ObserveRoute(Protocol):
    """Counts decisions."""

    def __call__(
        self, work: routing.Work, decision: routing.Decision, /, *, fallback: bool = False
    ) -> None:
        """One was made; `fallback` is whether another service had the work before."""
        ...


def observe_nothing(
    work: routing.Work, decision: routing.Decision, /, *, fallback: bool = False
) -> None:
    """An ObserveRoute that counts nothing."""
    del work, decision, fallback


async def _no_replacement() -> None:
    return None


async def _no_aligner(language: str) -> None:
    del language


@dataclass(frozen=True, slots=True)
class Connected:
    """Clients of services that answer, the best first; none where a job needs none.

    Their models are "" where a local service was started with the model.
    """

    speech: tuple[Speech, ...] = ()
    translators: tuple[Translator, ...] = ()
    next_asr: NextService = _no_replacement
    """What finds another speech service where one is out of memory."""
    next_translate: NextTranslator = _no_replacement
    aligner: FindAligner = _no_aligner
    diarizer: FindDiarizer = _no_replacement
    notes: tuple[Note, ...] = ()
    """What happened on the way here that belongs in the result."""


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


def policy(settings: Settings) -> CallPolicy:
    """How patient calls are, as set."""
    return CallPolicy(
        retry_s=settings.retry_s,
        stall_timeout_s=settings.stall_timeout_s,
        deadline_factor=settings.deadline_factor,
        keepalive_s=settings.keepalive_s,
    )


def installed_services() -> set[str]:
    """Modules of the services that this Python can run."""
    modules = (routing.ASR_MLX, routing.ASR_WHISPERX, routing.TRANSLATE)
    return {module for module in modules if importlib.util.find_spec(f"{module}") is not None}


async def survey(settings: Settings) -> list[Status]:
    """What every configured service says, speech first, in the order of the configuration."""
    speech = [_ask(SPEECH, target, settings) for target in settings.asr_endpoints]
    translation = [_ask(TRANSLATION, target, settings) for target in settings.translate_endpoints]
    return list(await asyncio.gather(*speech, *translation))


async def _ask(kind: str, target: str, settings: Settings) -> Status:
    endpoint = Endpoint(kind, target)
    async with connect(endpoint, policy(settings), of_settings(settings)) as channel:
        try:
            serving = await is_serving(channel)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                said = (error.details() or error.code().name).strip()
                why = tls_reason(said) or f"cannot be reached ({said})"
                return Status(kind, target, error=why, lasting=is_lasting(said))
            serving = True  # it has no health service; what follows tells
        try:
            if kind == SPEECH:
                speech = await AsrClient(endpoint, channel, policy(settings)).capabilities()
                return _speech_status(target, speech, serving=serving)
            client = TranslateClient(endpoint, channel, policy(settings))
            return _translation_status(target, await client.capabilities(), serving=serving)
        except VoxrouteError as error:
            refused = isinstance(error, RefusedError)
            return Status(kind, target, error=str(error), serving=serving, refused=refused)


def _queue(queue: common_pb2.QueueStatus) -> str:
    return f"{queue.calls_in_flight} of {queue.calls_capacity}, {queue.work_queued} waiting"


def _speech_status(target: str, reply: asr_pb2.GetCapabilitiesResponse, *, serving: bool) -> Status:
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


def _translation_status(
    target: str, reply: translate_pb2.GetCapabilitiesResponse, *, serving: bool
) -> Status:
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


@contextlib.asynccontextmanager
async def services(
    settings: Settings,
    needs: Needs,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    warn: Callable[[str], None],
    *,
    observe: ObserveRoute = observe_nothing,
    waits: Waits | None = None,
) -> AsyncGenerator[Connected]:
    """Clients of what the job needs; local services end with the block, or stay warm.

    `waits` shows what is waited for; a line of `say` each where it is None. Raises
    ServiceUnavailableError with the reason of every candidate. What local services could not do is
    refused before any is started: UsageError for a model that is not here, RefusedError for a
    language.
    """
    host, statuses = await asyncio.gather(asyncio.to_thread(detect), survey(settings))
    statuses = await _awaited(settings, needs, host, statuses, say)
    specs: list[LocalSpec] = []
    speech = translation = None
    if needs.speech:
        speech = speech_decision(settings, needs, host, statuses)
        observe("asr", speech)
        chosen = _chosen(speech, SPEECH, "--asr-endpoint", statuses)
        for warning in speech.warnings:
            warn(warning)
        say(f"speech: {chosen} ({chosen.reason})")
        if chosen.local:
            specs.append(await _local_speech(settings, needs, chosen, say, warn))
    if needs.translation:
        translation = translation_decision(settings, needs, host, statuses)
        observe("translate", translation)
        chosen = _chosen(translation, TRANSLATION, "--translate-endpoint", statuses)
        if chosen.local:
            specs.append(await _local_translation(settings, needs, chosen, say, warn))
    async with contextlib.AsyncExitStack() as stack:
        starter = _Starter(
            settings,
            needs,
            stack,
            environment=environment,
            say=say,
            warn=warn,
            waits=waits or said_waits(say),
            observe=observe,
        )
        sharing = _Sharing(starter, {status.target: status.offer for status in statuses})
        successors = _Successors(starter, speech, host)
        local, notes = await starter.start_any(specs, successors)
        spare.dismiss()
        recognisers: list[Speech] = []
        if speech is not None:
            if SPEECH in local:
                model = needs.asr_model if successors.remote else ""
                recognisers.append(Speech(await starter.asr_client(local[SPEECH]), model))
            recognisers += await sharing.recognisers(speech, recognisers)
            successors.leave_out([one.client.endpoint.target for one in recognisers])
        translators: list[Translator] = []
        if translation is not None:
            if TRANSLATION in local:
                translators.append(Translator(await starter.translate_client(local[TRANSLATION])))
            else:
                translators += await sharing.translators(translation)
        shared = [one.client.endpoint.target for one in translators]
        second = _SecondServices(starter, statuses, recognisers)
        yield Connected(
            tuple(recognisers),
            tuple(translators),
            successors.replacement,
            _translate_successors(starter, translation, shared),
            second.aligner,
            second.diarizer,
            notes,
        )


async def _awaited(
    settings: Settings,
    needs: Needs,
    host: Host,
    statuses: list[Status],
    say: Callable[[str], None],
) -> list[Status]:
    """What the configured services say once they can do the job, or when patience ends.

    `statuses` is what they say now. Waits for those that cannot be reached, load or drain, not for
    those that refuse this client.
    """
    until = time.monotonic() + needs.patience_s
    told = False
    while True:
        lacking = [
            kind
            for kind, needed, decide in (
                (SPEECH, needs.speech, speech_decision),
                (TRANSLATION, needs.translation, translation_decision),
            )
            if needed and decide(settings, needs, host, statuses).chosen is None
        ]
        away = [
            status
            for status in statuses
            if status.kind in lacking and not (status.serving or status.refused or status.lasting)
        ]
        if not away or time.monotonic() >= until:
            return statuses
        if not told:
            told = True
            say(f"waiting for {', '.join(f'the {one.kind} at {one.target}' for one in away)}")
        await asyncio.sleep(_LOOK_AGAIN_S)
        statuses = await survey(settings)


def speech_decision(
    settings: Settings, needs: Needs, host: Host, statuses: Sequence[Status]
) -> routing.Decision:
    """Which services can recognise the speech of the job, and why."""
    return routing.route_speech(
        host,
        installed_services(),
        _offers(statuses, SPEECH),
        needs.wish(),
        may_start=not (needs.only_asr_endpoints and settings.asr_endpoints),
    )


def translation_decision(
    settings: Settings, needs: Needs, host: Host, statuses: Sequence[Status]
) -> routing.Decision:
    """Which services can translate the job, and why."""
    return routing.route_translation(
        host,
        installed_services(),
        _offers(statuses, TRANSLATION),
        model=needs.translate_model,
        device=needs.translate_device,
        may_start=not (needs.only_translate_endpoints and settings.translate_endpoints),
    )


def _offers(statuses: Sequence[Status], kind: str) -> list[routing.Offer]:
    return [
        status.offer or routing.Offer(status.target, error=status.error)
        for status in statuses
        if status.kind == kind
    ]


def _chosen(
    decision: routing.Decision, kind: str, flag: str, statuses: Sequence[Status]
) -> routing.Candidate:
    """The best candidate. Raises RefusedError, or ServiceUnavailableError with all reasons."""
    if decision.chosen is None:
        refusals = [s.error for s in statuses if s.kind == kind and s.refused and s.error]
        if refusals:
            raise RefusedError("; ".join(refusals))
        raise ServiceUnavailableError(
            f"no {kind} can do this: {decision.why_not()}. `voxroute services` shows the configured"
            f" ones; name one that runs with {flag} HOST:PORT, or install one here"
        )
    return decision.chosen


class _Starter:
    """Starts local services and connects to services; all ends with the stack."""

    def __init__(
        self,
        settings: Settings,
        needs: Needs,
        stack: contextlib.AsyncExitStack,
        *,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        warn: Callable[[str], None],
        waits: Waits,
        observe: ObserveRoute,
    ) -> None:
        self.settings = settings
        self.needs = needs
        self.say = say
        self.observe = observe
        self._environment = environment
        self._warn = warn
        self._waits = waits
        self._stack = stack

    async def start(self, specs: Sequence[LocalSpec]) -> dict[str, Endpoint]:
        """Starts the services; their endpoints by name. Raises LocalServiceError."""
        if not specs:
            return {}
        from voxroute_orchestrator.services import (  # noqa: PLC0415 - with running ones of no use
            local_services,
        )

        with tracing.span("start services", {"voxroute.services": [s.module for s in specs]}):
            running = await self._stack.enter_async_context(
                local_services(
                    specs,
                    environment=_child_environment(self.settings, self._environment),
                    startup_timeout_s=self.settings.startup_timeout_s,
                    idle_s=self.settings.local_idle_s,
                    tell=self._warn,
                    waits=self._waits,
                )
            )
        return {service.spec.name: service.endpoint() for service in running}

    async def start_any(
        self, specs: list[LocalSpec], successors: "_Successors"
    ) -> tuple[dict[str, Endpoint], tuple[Note, ...]]:
        """The endpoints by name, and what happened.

        Where the speech service does not start for lack of memory, the next one takes its place.
        """
        notes: list[Note] = []
        while True:
            try:
                local = await self.start(specs)
            except LocalServiceError as error:
                candidate = successors.after(error)
                if candidate is None:
                    raise
                notes.append(_fallback(error, candidate))
                self._warn(notes[-1].message)
                specs = [spec for spec in specs if spec.name != SPEECH]
                if candidate.local:
                    modest = _modest(self.needs)
                    specs.append(
                        await _local_speech(self.settings, modest, candidate, self.say, self._warn)
                    )
            else:
                if successors.remote is not None:
                    local[SPEECH] = Endpoint(SPEECH, successors.remote)
                return local, tuple(notes)

    async def _channel(self, endpoint: Endpoint, calls: CallPolicy) -> grpc.aio.Channel:
        return await self._stack.enter_async_context(
            connect(endpoint, calls, of_settings(self.settings))
        )

    async def service(self, endpoint: Endpoint) -> Service:
        """A speech service for calls whose answer counts as a whole."""
        calls = policy(self.settings)
        return Service(endpoint, await self._channel(endpoint, calls), calls)

    async def asr_client(self, endpoint: Endpoint) -> AsrClient:
        """A client of a speech service."""
        calls = policy(self.settings)
        channel = await self._channel(endpoint, calls)
        return AsrClient(endpoint, channel, calls)

    async def translate_client(self, endpoint: Endpoint) -> TranslateClient:
        """A client of a translation service."""
        calls = policy(self.settings)
        channel = await self._channel(endpoint, calls)
        return TranslateClient(endpoint, channel, calls)

    async def translate_replacement(self, candidate: routing.Candidate) -> Translator:
        """A client of another translation service. Raises LocalServiceError."""
        if not candidate.local:
            client = await self.translate_client(Endpoint(TRANSLATION, candidate.name))
            return Translator(client, self.needs.translate_model)
        needs = dataclasses.replace(self.needs, translate_device=candidate.device)
        spec = await _local_translation(self.settings, needs, candidate, self.say, self._warn)
        local = await self.start([spec])
        return Translator(await self.translate_client(local[TRANSLATION]))

    async def replacement(self, candidate: routing.Candidate) -> Speech:
        """A client of another speech service, started if need be. Raises LocalServiceError."""
        if not candidate.local:
            client = await self.asr_client(Endpoint(SPEECH, candidate.name))
            return Speech(client, self.needs.asr_model)
        modest = _modest(self.needs)
        spec = await _local_speech(self.settings, modest, candidate, self.say, self._warn)
        local = await self.start([spec])
        return Speech(await self.asr_client(local[SPEECH]))


class _Sharing:
    """The running services that can share a job: all that have the model of the best one."""

    def __init__(self, starter: _Starter, offers: Mapping[str, routing.Offer | None]) -> None:
        self._starter = starter
        self._offers = offers

    async def recognisers(
        self, decision: routing.Decision, started: Sequence[Speech]
    ) -> list[Speech]:
        """The running speech services of a decision, beside the one that was started for it.

        A local service that was started with a model shares with those that have the same one.
        """
        wanted = self._starter.needs.asr_model
        model = wanted
        if started and not wanted:
            reply = await started[0].client.capabilities()
            model = reply.models[0].model.id if reply.models else ""
        names = self._names(decision, model, alone=bool(started))
        return [
            Speech(await self._starter.asr_client(Endpoint(SPEECH, name)), wanted)
            for name in names
            if not any(one.client.endpoint.target == name for one in started)
        ]

    async def translators(self, decision: routing.Decision) -> list[Translator]:
        """The running translation services of a decision."""
        wanted = self._starter.needs.translate_model
        return [
            Translator(await self._starter.translate_client(Endpoint(TRANSLATION, name)), wanted)
            for name in self._names(decision, wanted, alone=False)
        ]

    def _names(self, decision: routing.Decision, model: str, *, alone: bool) -> list[str]:
        """The addresses, the best first; `model` is "" for that of the best service.

        `alone` is whether there is a service already, so that there need not be another.
        """
        running = [candidate.name for candidate in decision.ranked if not candidate.local]
        if not self._starter.settings.share:
            return [] if alone else running[:1]
        if not running:
            return []
        first = self._offers.get(running[0])
        model = model or (first.models[0] if first is not None and first.models else "")
        having = [name for name in running if model and self._has(name, model)]
        return having if alone or running[0] in having else [running[0], *having]

    def _has(self, name: str, model: str) -> bool:
        """Whether requests that name what the job names get this model."""
        offer = self._offers.get(name)
        if offer is None:
            return False
        named = self._starter.needs.asr_model or self._starter.needs.translate_model
        return model in (offer.models if named else offer.models[:1])


class _SecondServices:
    """Who aligns and diarizes: a configured service, or the one that was started here."""

    def __init__(
        self, starter: _Starter, statuses: Sequence[Status], recognisers: Sequence[Speech]
    ) -> None:
        self._starter = starter
        self._statuses = [status for status in statuses if status.kind == SPEECH]
        self._transcribing = [one.client.endpoint for one in recognisers]

    async def aligner(self, language: str) -> Service | None:
        """As FindAligner."""
        offers, transcribing = await self._offers(), self._first_target()
        return await self._service(
            "align", second_services.aligner_for(offers, language, transcribing)
        )

    async def diarizer(self) -> Service | None:
        """As FindDiarizer."""
        offers, transcribing = await self._offers(), self._first_target()
        return await self._service("diarize", second_services.diarizer_for(offers, transcribing))

    def _first_target(self) -> str:
        return self._transcribing[0].target if self._transcribing else ""

    async def _offers(self) -> list[routing.Offer]:
        """What the configured services said at first, and what the local one says now."""
        local = [one.target for one in self._transcribing if self._is_local(one.target)]
        settings = self._starter.settings
        asked = await asyncio.gather(*(_ask(SPEECH, target, settings) for target in local))
        return _offers([*self._statuses, *asked], SPEECH)

    def _is_local(self, target: str) -> bool:
        return all(status.target != target for status in self._statuses)

    async def _service(self, work: routing.Work, offer: routing.Offer | None) -> Service | None:
        if offer is None:
            self._starter.observe(work, routing.Decision((), ()))
            return None
        candidate = routing.Candidate(
            offer.target, offer.device, usable=True, reason=work, local=self._is_local(offer.target)
        )
        self._starter.observe(work, routing.Decision((candidate,), (candidate,)))
        known = [one for one in self._transcribing if one.target == offer.target]
        endpoint = known[0] if known else Endpoint(SPEECH, offer.target)
        return await self._starter.service(endpoint)


class _Successors:
    """The speech services after the chosen one, each once, a local one on the CPU last."""

    def __init__(self, starter: _Starter, decision: routing.Decision | None, host: Host) -> None:
        self._starter = starter
        ranked = decision.ranked if decision is not None else ()
        self._current = ranked[0] if ranked else None
        self._left = [*ranked[1:]]
        cpu = routing.local_cpu(host, installed_services())
        if cpu is not None and cpu not in ranked:
            self._left.append(cpu)

    def after(self, error: LocalServiceError) -> routing.Candidate | None:
        """The next one where the current one did not start for lack of memory; else None."""
        said = str(error)
        ours = self._current is not None and self._current.name in said
        if not ours or not _OUT_OF_MEMORY.search(said):
            return None
        return self._next()

    def _next(self) -> routing.Candidate | None:
        self._current = self._left.pop(0) if self._left else None
        _observe_fallback(self._starter, "asr", self._current)
        return self._current

    @property
    def remote(self) -> str | None:
        """The address of the one whose turn it is; None where it is local."""
        current = self._current
        return current.name if current is not None and not current.local else None

    def leave_out(self, targets: Sequence[str]) -> None:
        """Takes out services that do the job already."""
        self._left = [one for one in self._left if one.local or one.name not in targets]

    async def replacement(self) -> Speech | None:
        """A client of the next one. Raises LocalServiceError."""
        candidate = self._next()
        return None if candidate is None else await self._starter.replacement(candidate)


def _translate_successors(
    starter: _Starter, decision: routing.Decision | None, taken: Sequence[str]
) -> NextTranslator:
    """What finds the next translation service, each once, a local one on the CPU last.

    Those at the addresses `taken` do the job already.
    """
    ranked = decision.ranked if decision is not None else ()
    left = [one for one in ranked[1:] if one.local or one.name not in taken]
    if routing.TRANSLATE in installed_services() and not any(
        c.local and c.device == "cpu" for c in ranked
    ):
        left.append(routing.Candidate(routing.TRANSLATE, "cpu", usable=True, reason="on cpu"))

    async def following() -> Translator | None:
        candidate = left.pop(0) if left else None
        _observe_fallback(starter, "translate", candidate)
        return None if candidate is None else await starter.translate_replacement(candidate)

    return following


def _observe_fallback(
    starter: _Starter, work: routing.Work, candidate: routing.Candidate | None
) -> None:
    ranked = () if candidate is None else (candidate,)
    starter.observe(work, routing.Decision(ranked, ranked), fallback=True)


def _modest(needs: Needs) -> Needs:
    """The needs without what was meant for another device's memory."""
    return dataclasses.replace(needs, compute_type="", batch_size=0)


def _fallback(error: LocalServiceError, candidate: routing.Candidate) -> Note:
    return Note(
        source="orchestrator",
        code="OUT_OF_MEMORY_FALLBACK",
        message=f"{error}\n{candidate} does the work instead",
    )


def _child_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of local services: this process's, and no downloads where none may be.

    Without what protects services that others reach: a local one is on a private socket. They are
    traced where the command is, each under its own name.
    """
    not_theirs = {*_PROTECTION, "OTEL_SERVICE_NAME"}
    child = {name: value for name, value in environment.items() if name not in not_theirs}
    child["VOXROUTE_MODEL_CACHE_DIR"] = str(settings.model_cache_dir.absolute())
    child |= {"VOXROUTE_TRACING": "true"} if settings.tracing else {}
    child |= {"VOXROUTE_LOG_TEXT": "true"} if settings.log_text else {}
    if settings.offline:
        child |= {"VOXROUTE_OFFLINE": "true", "HF_HUB_OFFLINE": "1"}
    return child


async def _local_speech(
    settings: Settings,
    needs: Needs,
    chosen: routing.Candidate,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> LocalSpec:
    """The speech service to start. Raises UsageError, RefusedError for what it could not do."""
    from voxroute_orchestrator import models_at_hand, prechecks  # noqa: PLC0415 - as local_services

    def choose() -> models_at_hand.Choice:
        named = _absolute(needs.asr_model, settings) if needs.asr_model else ""
        choice = models_at_hand.speech(named, chosen.name, chosen.device, settings)
        for model in choice.models:
            prechecks.check_speech(model, needs.language, chosen.name, offline=settings.offline)
        return choice

    choice = await _chosen_models(choose, say, warn)
    arguments = ["--device", chosen.device]
    if needs.compute_type:
        arguments += ["--compute-type", needs.compute_type]
    if needs.batch_size:
        arguments += ["--max-batch", str(needs.batch_size)]
    for model in choice.models:
        arguments += ["--model", model]
    if chosen.name == routing.ASR_WHISPERX:
        if needs.diarization_model:
            arguments += ["--diarization-model", _absolute(needs.diarization_model, settings)]
        if needs.words or needs.align:
            arguments += _aligning(settings, needs, bundled=choice.bundled)
    return LocalSpec(SPEECH, chosen.name, tuple(arguments), _named(choice.models))


def _aligning(settings: Settings, needs: Needs, *, bundled: bool) -> list[str]:
    """The flags for word times: downloads, or beside the bundled speech model its aligner."""
    if not (settings.offline or bundled):
        return ["--align-downloads", "true"]
    folder = bundled_models(settings)
    if needs.asr_model not in {"", BUNDLED_ASR} or folder is None:
        return []
    directory = folder / BUNDLED_ALIGN
    if not directory.is_dir():
        return []
    pairs = [f"{language}={directory}" for language in BUNDLED_ALIGN_LANGUAGES]
    return ["--align-models", ",".join(pairs)]


async def _local_translation(
    settings: Settings,
    needs: Needs,
    chosen: routing.Candidate,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> LocalSpec:
    """The translation service to start. Raises UsageError, RefusedError, as above."""
    from voxroute_orchestrator import models_at_hand, prechecks  # noqa: PLC0415 - as local_services

    def choose() -> models_at_hand.Choice:
        named = _absolute(needs.translate_model, settings) if needs.translate_model else ""
        choice = models_at_hand.translation(named, settings)
        prechecks.check_translation(choice.models, needs.pairs, offline=settings.offline)
        return choice

    choice = await _chosen_models(choose, say, warn)
    arguments = ("--models", ",".join(choice.models)) if choice.models else ()
    if needs.translate_device != "auto":
        arguments = (*arguments, "--device", needs.translate_device)
    return LocalSpec(TRANSLATION, chosen.name, arguments, _named(choice.models))


async def _chosen_models(
    choose: "Callable[[], Choice]", say: Callable[[str], None], warn: Callable[[str], None]
) -> "Choice":
    """What `choose` returns, which may wait for the hub, and what is to say of it said."""
    choice = await asyncio.to_thread(choose)
    if choice.said:
        (warn if choice.warns else say)(choice.said)
    return choice


def _named(models: Sequence[str]) -> str:
    return ", ".join(Path(model).name for model in models)


def _absolute(model: str, settings: Settings) -> str:
    """A local directory or a bundled model as an absolute path, any other name as it is."""
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path.resolve())
    folder = bundled_models(settings)
    if folder is not None and model in {BUNDLED_ASR, BUNDLED_TRANSLATE}:
        return str(folder / model)
    return model
