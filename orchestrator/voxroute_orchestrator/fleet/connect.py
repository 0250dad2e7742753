"""The services of a job: the best of the configured ones, or local ones that are started for it."""

import asyncio
import contextlib
import dataclasses
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import grpc.aio

from voxroute_orchestrator.client.asr import AsrClient, NextService
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect, policy
from voxroute_orchestrator.client.credentials import of_settings
from voxroute_orchestrator.client.translate import NextTranslator, TranslateClient
from voxroute_orchestrator.errors import LocalServiceError, RefusedError, ServiceUnavailableError
from voxroute_orchestrator.fleet import routing, second_services, spare
from voxroute_orchestrator.fleet.hardware import Host, detect
from voxroute_orchestrator.fleet.local import child_environment, local_speech, local_translation
from voxroute_orchestrator.fleet.local_process import LocalSpec
from voxroute_orchestrator.fleet.needs import Needs, ObserveRoute, observe_nothing
from voxroute_orchestrator.fleet.second_services import FindAligner, FindDiarizer
from voxroute_orchestrator.fleet.survey import (
    SPEECH,
    TRANSLATION,
    Status,
    ask,
    offers_of,
    speech_decision,
    survey,
    translation_decision,
)
from voxroute_orchestrator.reporter import Waits, said_waits
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.transcript import Note
from voxroute_serving.telemetry import tracing

_OUT_OF_MEMORY = re.compile(r"out.of.memory", re.IGNORECASE)
_LOOK_AGAIN_S = 1.0  # between looks at services that are away


async def _no_replacement() -> None:
    return None


async def _no_aligner(language: str) -> None:
    del language


@dataclass(frozen=True, slots=True)
class Connected:
    """Clients of services that answer, the best first; none where a job needs none.

    Their models are "" where a local service was started with the model.
    """

    speech: tuple[AsrClient, ...] = ()
    translators: tuple[TranslateClient, ...] = ()
    next_asr: NextService = _no_replacement
    """What finds another speech service where one is out of memory."""
    next_translate: NextTranslator = _no_replacement
    aligner: FindAligner = _no_aligner
    diarizer: FindDiarizer = _no_replacement
    notes: tuple[Note, ...] = ()
    """What happened on the way here that belongs in the result."""


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
            specs.append(await local_speech(settings, needs.spec, chosen, say, warn))
    if needs.translation:
        translation = translation_decision(settings, needs, host, statuses)
        observe("translate", translation)
        chosen = _chosen(translation, TRANSLATION, "--translate-endpoint", statuses)
        if chosen.local:
            specs.append(await local_translation(settings, needs.spec, chosen, say, warn))
    async with contextlib.AsyncExitStack() as stack:
        waits = waits or said_waits(say)
        starter = _Starter(settings, needs, stack, environment, say, warn, waits, observe)
        sharing = _Sharing(starter, {status.target: status.offer for status in statuses})
        successors = _Successors(starter, speech, host)
        local, notes = await starter.start_any(specs, successors)
        spare.dismiss()
        recognisers: list[AsrClient] = []
        if speech is not None:
            if SPEECH in local:
                model = needs.spec.asr_model if successors.remote else ""
                recognisers.append(await starter.asr_client(local[SPEECH], model))
            recognisers += await sharing.recognisers(speech, recognisers)
            successors.leave_out([one.endpoint.target for one in recognisers])
        translators: list[TranslateClient] = []
        if translation is not None:
            if TRANSLATION in local:
                translators.append(await starter.translate_client(local[TRANSLATION]))
            else:
                translators += await sharing.translators(translation)
        shared = [one.endpoint.target for one in translators]
        second = _SecondServices(starter, statuses, recognisers)
        yield Connected(
            tuple(recognisers),
            tuple(translators),
            successors.replacement,
            _translate_successors(starter, translation, host, shared),
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


@dataclass(frozen=True, slots=True, eq=False)
class _Starter:
    """Starts local services and connects to services; all ends with the stack."""

    settings: Settings
    needs: Needs
    stack: contextlib.AsyncExitStack
    environment: Mapping[str, str]
    say: Callable[[str], None]
    warn: Callable[[str], None]
    waits: Waits
    observe: ObserveRoute

    async def start(self, specs: Sequence[LocalSpec]) -> dict[str, Endpoint]:
        """Starts the services; their endpoints by name. Raises LocalServiceError."""
        if not specs:
            return {}
        from voxroute_orchestrator.fleet.services import local_services  # noqa: PLC0415 - with running ones of no use

        with tracing.span("start services", {"voxroute.services": [s.module for s in specs]}):
            running = await self.stack.enter_async_context(
                local_services(
                    specs,
                    environment=child_environment(self.settings, self.environment),
                    startup_timeout_s=self.settings.startup_timeout_s,
                    idle_s=self.settings.local_idle_s,
                    tell=self.warn,
                    waits=self.waits,
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
                self.warn(notes[-1].message)
                specs = [spec for spec in specs if spec.name != SPEECH]
                if candidate.local:
                    modest = _modest(self.needs.spec)
                    specs.append(
                        await local_speech(self.settings, modest, candidate, self.say, self.warn)
                    )
            else:
                if successors.remote is not None:
                    local[SPEECH] = Endpoint(SPEECH, successors.remote)
                return local, tuple(notes)

    async def _channel(self, endpoint: Endpoint, calls: CallPolicy) -> grpc.aio.Channel:
        return await self.stack.enter_async_context(
            connect(endpoint, calls, of_settings(self.settings))
        )

    async def asr_client(self, endpoint: Endpoint, model: str = "") -> AsrClient:
        """A client of a speech service."""
        calls = policy(self.settings)
        return AsrClient(endpoint, await self._channel(endpoint, calls), calls, model)

    async def translate_client(self, endpoint: Endpoint, model: str = "") -> TranslateClient:
        """A client of a translation service."""
        calls = policy(self.settings)
        return TranslateClient(endpoint, await self._channel(endpoint, calls), calls, model)

    async def translate_replacement(self, candidate: routing.Candidate) -> TranslateClient:
        """A client of another translation service. Raises LocalServiceError."""
        if not candidate.local:
            there = Endpoint(TRANSLATION, candidate.name)
            return await self.translate_client(there, self.needs.spec.translate_model)
        asked = dataclasses.replace(self.needs.spec, translate_device=candidate.device)
        local_spec = await local_translation(self.settings, asked, candidate, self.say, self.warn)
        local = await self.start([local_spec])
        return await self.translate_client(local[TRANSLATION])

    async def replacement(self, candidate: routing.Candidate) -> AsrClient:
        """A client of another speech service, started if need be. Raises LocalServiceError."""
        if not candidate.local:
            there = Endpoint(SPEECH, candidate.name)
            return await self.asr_client(there, self.needs.spec.asr_model)
        modest = _modest(self.needs.spec)
        spec = await local_speech(self.settings, modest, candidate, self.say, self.warn)
        local = await self.start([spec])
        return await self.asr_client(local[SPEECH])


class _Sharing:
    """The running services that can share a job: all that have the model of the best one."""

    def __init__(self, starter: _Starter, offers: Mapping[str, routing.Offer | None]) -> None:
        self._starter = starter
        self._offers = offers

    async def recognisers(
        self, decision: routing.Decision, started: Sequence[AsrClient]
    ) -> list[AsrClient]:
        """The running speech services of a decision, beside the one that was started for it.

        A local service that was started with a model shares with those that have the same one.
        """
        wanted = self._starter.needs.spec.asr_model
        model = wanted
        if started and not wanted:
            reply = await started[0].capabilities()
            model = reply.models[0].model.id if reply.models else ""
        names = self._names(decision, model, alone=bool(started))
        return [
            await self._starter.asr_client(Endpoint(SPEECH, name), wanted)
            for name in names
            if not any(one.endpoint.target == name for one in started)
        ]

    async def translators(self, decision: routing.Decision) -> list[TranslateClient]:
        """The running translation services of a decision."""
        wanted = self._starter.needs.spec.translate_model
        return [
            await self._starter.translate_client(Endpoint(TRANSLATION, name), wanted)
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
        named = self._starter.needs.spec.asr_model or self._starter.needs.spec.translate_model
        return model in (offer.models if named else offer.models[:1])


class _SecondServices:
    """Who aligns and diarizes: a configured service, or the one that was started here."""

    def __init__(
        self, starter: _Starter, statuses: Sequence[Status], recognisers: Sequence[AsrClient]
    ) -> None:
        self._starter = starter
        self._statuses = [status for status in statuses if status.kind == SPEECH]
        self._transcribing = [one.endpoint for one in recognisers]

    async def aligner(self, language: str) -> AsrClient | None:
        """As FindAligner."""
        offers, transcribing = await self._offers(), self._first_target()
        return await self._service(
            "align", second_services.aligner_for(offers, language, transcribing)
        )

    async def diarizer(self) -> AsrClient | None:
        """As FindDiarizer."""
        offers, transcribing = await self._offers(), self._first_target()
        return await self._service("diarize", second_services.diarizer_for(offers, transcribing))

    def _first_target(self) -> str:
        return self._transcribing[0].target if self._transcribing else ""

    async def _offers(self) -> list[routing.Offer]:
        """What the configured services said at first, and what the local one says now."""
        local = [one.target for one in self._transcribing if self._is_local(one.target)]
        settings = self._starter.settings
        asked = await asyncio.gather(*(ask(SPEECH, target, settings) for target in local))
        return offers_of([*self._statuses, *asked], SPEECH)

    def _is_local(self, target: str) -> bool:
        return all(status.target != target for status in self._statuses)

    async def _service(self, work: routing.Work, offer: routing.Offer | None) -> AsrClient | None:
        if offer is None:
            self._starter.observe(work, routing.Decision((), ()))
            return None
        candidate = routing.Candidate(
            offer.target, offer.device, usable=True, reason=work, local=self._is_local(offer.target)
        )
        self._starter.observe(work, routing.Decision((candidate,), (candidate,)))
        known = [one for one in self._transcribing if one.target == offer.target]
        endpoint = known[0] if known else Endpoint(SPEECH, offer.target)
        return await self._starter.asr_client(endpoint)


class _Successors:
    """The speech services after the chosen one, each once, a local one on the CPU last."""

    def __init__(self, starter: _Starter, decision: routing.Decision | None, host: Host) -> None:
        self._starter = starter
        self._current = decision.chosen if decision is not None else None
        self._left = _behind(decision, host, "asr")

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

    async def replacement(self) -> AsrClient | None:
        """A client of the next one. Raises LocalServiceError."""
        candidate = self._next()
        return None if candidate is None else await self._starter.replacement(candidate)


def _translate_successors(
    starter: _Starter, decision: routing.Decision | None, host: Host, taken: Sequence[str]
) -> NextTranslator:
    """What finds the next translation service, each once, a local one on the CPU last.

    Those at the addresses `taken` do the job already.
    """
    behind = _behind(decision, host, "translate")
    left = [one for one in behind if one.local or one.name not in taken]

    async def following() -> TranslateClient | None:
        candidate = left.pop(0) if left else None
        _observe_fallback(starter, "translate", candidate)
        return None if candidate is None else await starter.translate_replacement(candidate)

    return following


def _behind(
    decision: routing.Decision | None, host: Host, kind: Literal["asr", "translate"]
) -> list[routing.Candidate]:
    """The candidates behind the best one, a local one on the CPU last."""
    ranked = decision.ranked if decision is not None else ()
    cpu = routing.local_cpu(host, kind)
    return [*ranked[1:], *([cpu] if cpu is not None and cpu not in ranked else [])]


def _observe_fallback(
    starter: _Starter, work: routing.Work, candidate: routing.Candidate | None
) -> None:
    ranked = () if candidate is None else (candidate,)
    starter.observe(work, routing.Decision(ranked, ranked), fallback=True)


def _modest(spec: JobSpec) -> JobSpec:
    """The spec without what was meant for another device's memory."""
    return dataclasses.replace(spec, compute_type="", batch_size=0)


def _fallback(error: LocalServiceError, candidate: routing.Candidate) -> Note:
    return Note(
        source="orchestrator",
        code="OUT_OF_MEMORY_FALLBACK",
        message=f"{error}\n{candidate} does the work instead",
    )
