"""The services behind the gateway: found as the command finds them, held, and waited for."""

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field

from voxroute_gateway.errors import RequestError
from voxroute_gateway.metrics import GatewayMetrics
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import Endpoint
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import ServiceUnavailableError, VoxrouteError
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.fleet.survey import (
    SPEECH,
    TRANSLATION,
    Status,
    ask,
    speech_status,
    translation_status,
)
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_serving.telemetry.logs import get_logger

_LONGEST_PAUSE_S = 30.0  # between tries; advice that is longer is not waited for in one piece
_AWAY_PAUSE_S = 1.0
_LOOK_AGAIN_S = 30.0  # between looks for configured services that were away

_log = get_logger(__name__)


@dataclass(slots=True)
class WaitingRoom:
    """How many wait, and how long."""

    metrics: GatewayMetrics
    max_waiting: int
    patience_s: float
    """How long services may be away, rather than full."""
    _waiting: int = 0

    def enter(self, failure: CallFailedError, *, anyway: bool) -> None:
        """One more waits. Raises RequestError where the room is full, unless it may `anyway`."""
        if self._waiting >= self.max_waiting and not anyway:
            raise RequestError(
                429, "the services are full; try again later", "queue_full", None,
                failure.retry_after_s,
            ) from failure  # fmt: skip
        self._waiting += 1
        self.metrics.waiting.inc()

    def leave(self) -> None:
        """One fewer waits."""
        self._waiting -= 1
        self.metrics.waiting.dec()


@dataclass(slots=True, eq=False)
class Visit:
    """One request, which keeps its place in the line until a service has taken it."""

    line: "Line"
    called: asyncio.Event = field(default_factory=asyncio.Event)
    _served: bool = False
    _taken: bool = False
    """Whether a service has it now."""
    _away_s: float = 0.0

    def served(self) -> None:
        """Tells that a service has taken the request, and works on it."""
        self._served, self._taken, self._away_s = True, True, 0.0
        self.leave()

    def ended(self) -> None:
        """Tells that a call for it has ended, so that a place is free where it had one."""
        if self._taken:
            self._taken = False
            self.line.freed()

    def leave(self) -> None:
        """Gives the place in the line back."""
        if self in self.line.waiting:
            self.line.waiting.remove(self)
            self.line.room.leave()

    async def wait(self, failure: CallFailedError) -> None:
        """Returns when to try again after a failure.

        That is when the service says; those behind the first in the line, so many times later; and
        the first also when one of this gateway's calls has ended. Raises RequestError where the
        room is full, and CallFailedError where waiting is of no use.
        """
        if not failure.retryable:
            raise failure
        full = failure.retry_after_s is not None
        if not full and self._away_s + _AWAY_PAUSE_S > self.line.room.patience_s:
            raise failure
        if self not in self.line.waiting:
            # what has been worked on is not thrown away for want of a place to wait
            self.line.room.enter(failure, anyway=self._served)
            self.line.waiting.append(self)
        if not full:
            await asyncio.sleep(_AWAY_PAUSE_S)
            self._away_s += _AWAY_PAUSE_S
            return
        self._away_s = 0.0
        place = 1 + self.line.waiting.index(self)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min((failure.retry_after_s or 0) * place, _LONGEST_PAUSE_S)):
                await self.called.wait()
        self.called.clear()


@dataclass(slots=True)
class Line:
    """Those who wait for services of one kind, in the order in which they came."""

    room: WaitingRoom
    waiting: list[Visit] = field(default_factory=list[Visit])

    @contextlib.contextmanager
    def visit(self) -> Generator[Visit]:
        """One request's way through the room; it has left at the end of the block."""
        visit = Visit(self)
        try:
            yield visit
        finally:
            visit.leave()

    def freed(self) -> None:
        """Tells that a place is free: who has waited longest tries at once."""
        for visit in self.waiting:
            if not visit.called.is_set():
                visit.called.set()
                return


@dataclass(slots=True)
class _Found:
    """Connections to services, open until nobody uses them and they are to be found anew."""

    connected: Connected
    stack: contextlib.AsyncExitStack
    at: float
    """When they were found, by the monotonic clock."""
    calls: Counter[str] = field(default_factory=Counter[str])
    """Calls of this gateway at each address."""
    users: int = 0
    stale: bool = False

    async def drop(self) -> None:
        """Closes the connections as soon as nobody uses them."""
        self.stale = True
        if not self.users:
            await asyncio.shield(asyncio.ensure_future(self.stack.aclose()))


@dataclass(slots=True)
class _Held:
    """The services of one kind."""

    settings: Settings
    needs: Needs
    n_configured: int
    line: Line
    found: _Found | None = None
    opening: "asyncio.Task[_Found] | None" = None

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncGenerator[_Found]:
        """The connections; they stay for the next request. Raises VoxrouteError."""
        found = self.found
        if found is None:
            # others wait for it too, so a client that leaves does not end it
            found = await asyncio.shield(self._open())
        elif self._may_be_more(found):
            self._open()
        found.users += 1
        try:
            yield found
        except ServiceUnavailableError:
            self._forget(found)
            raise
        except CallFailedError as failure:
            if isinstance(failure.error, ServiceUnavailableError) and failure.retry_after_s is None:
                self._forget(found)
            raise
        finally:
            found.users -= 1
            if found.stale:
                await found.drop()

    def known(self) -> Connected:
        """What there is now, without a look for more."""
        return self.found.connected if self.found is not None else Connected()

    def _may_be_more(self, found: _Found) -> bool:
        """Whether a service that was away may be back."""
        short = self._n(found.connected) < self.n_configured
        return short and time.monotonic() - found.at > _LOOK_AGAIN_S

    def _n(self, connected: Connected) -> int:
        return len(connected.speech if self.needs.speech else connected.translators)

    def _open(self) -> "asyncio.Task[_Found]":
        if self.opening is None:
            self.opening = asyncio.ensure_future(self._find())
            self.opening.add_done_callback(_observe)
        return self.opening

    async def _find(self) -> _Found:
        stack, before = contextlib.AsyncExitStack(), self.found
        try:
            connected = await stack.enter_async_context(
                services(self.settings, self.needs, os.environ, _log.info, _log.warning)
            )
        except VoxrouteError:
            if before is None or before.stale:
                raise
            before.at = time.monotonic()
            return before
        finally:
            self.opening = None
        self.found = _Found(connected, stack, time.monotonic())
        if before is not None:
            await before.drop()
        return self.found

    def _forget(self, found: _Found) -> None:
        found.stale = True
        if self.found is found:
            self.found = None

    async def close(self) -> None:
        """Closes the connections, and ends the services that were started for them."""
        if self.opening is not None:
            self.opening.cancel()
            await asyncio.gather(self.opening, return_exceptions=True)
        if self.found is not None:
            await self.found.stack.aclose()


def _observe(opening: "asyncio.Task[_Found]") -> None:
    """Tells a failure that perhaps nobody waits for."""
    if not opening.cancelled() and (error := opening.exception()) is not None:
        _log.warning("no services were found", exc_info=error)


@dataclass(slots=True)
class SpeechVisit:
    """One request's way to a speech service."""

    _held: _Held
    _visit: Visit
    _full: set[str] = field(default_factory=set[str])
    """The addresses that have refused it since it last waited."""

    def served(self) -> None:
        """As Visit.served."""
        self._visit.served()

    @contextlib.asynccontextmanager
    async def service(self) -> AsyncGenerator[AsrClient]:
        """Of the services that have not refused it, the one with the fewest calls of this gateway.

        Raises VoxrouteError.
        """
        async with self._held.connected() as found:
            known = found.connected.speech
            left = [one for one in known if one.endpoint.target not in self._full] or known
            speech = min(left, key=lambda one: found.calls[one.endpoint.target])
            target = speech.endpoint.target
            found.calls[target] += 1
            try:
                yield speech
            except (CallFailedError, VoxrouteError):
                self._full.add(target)
                raise
            finally:
                found.calls[target] -= 1
                self._visit.ended()

    async def wait(self, failure: CallFailedError) -> None:
        """Returns at once where another service has not been asked yet; else as Visit.wait."""
        found = self._held.found
        known = found.connected.speech if found is not None else ()
        if failure.retryable and any(one.endpoint.target not in self._full for one in known):
            return
        self._full.clear()
        await self._visit.wait(failure)


@dataclass(slots=True)
class Upstream:
    """All that requests need of services."""

    settings: Settings
    spec: JobSpec
    room: WaitingRoom
    _speech: _Held = field(init=False)
    _translation: _Held = field(init=False)

    def __post_init__(self) -> None:
        self._speech = self._held(speech=True)
        self._translation = self._held(speech=False)

    def _held(self, *, speech: bool) -> _Held:
        endpoints = self.settings.asr_endpoints if speech else self.settings.translate_endpoints
        needs = Needs(
            spec=self.spec,
            speech=speech,
            translation=not speech,
            only_asr_endpoints=speech and bool(endpoints),
            only_translate_endpoints=not speech and bool(endpoints),
            patience_s=self.room.patience_s,
        )
        return _Held(self.settings, needs, len(endpoints), Line(self.room))

    @contextlib.contextmanager
    def speech_visit(self) -> Generator[SpeechVisit]:
        """A request's way to a speech service."""
        with self._speech.line.visit() as visit:
            yield SpeechVisit(self._speech, visit)

    @contextlib.contextmanager
    def translation_visit(self) -> Generator[Visit]:
        """A request's way to the translation service."""
        with self._translation.line.visit() as visit:
            yield visit

    @contextlib.asynccontextmanager
    async def speech(self) -> AsyncGenerator[AsrClient]:
        """A speech service. Raises VoxrouteError."""
        async with self._speech.connected() as found:
            yield found.connected.speech[0]

    @contextlib.asynccontextmanager
    async def translator(self) -> AsyncGenerator[TranslateClient]:
        """A translation service. Raises VoxrouteError."""
        async with self._translation.connected() as found:
            yield found.connected.translators[0]

    async def statuses(self) -> list[Status]:
        """What each service says that is configured, or that the gateway has; it starts none."""
        speech, translation = self._speech.known(), self._translation.known()
        asked = [
            *(_status_of(one) for one in speech.speech),
            *(_status_of(one) for one in translation.translators),
        ]
        there = {one.endpoint.target for one in (*speech.speech, *translation.translators)}
        for kind, targets in (
            (SPEECH, self.settings.asr_endpoints),
            (TRANSLATION, self.settings.translate_endpoints),
        ):
            asked += [ask(kind, one, self.settings) for one in targets if one not in there]
        told = await asyncio.gather(*asked)
        return sorted(told, key=lambda status: (status.kind, status.target))

    def endpoints(self) -> list[Endpoint]:
        """The services that are configured, or that the gateway has, by kind and address."""
        known = [
            *(one.endpoint for one in self._speech.known().speech),
            *(one.endpoint for one in self._translation.known().translators),
            *(Endpoint(SPEECH, one) for one in self.settings.asr_endpoints),
            *(Endpoint(TRANSLATION, one) for one in self.settings.translate_endpoints),
        ]
        by_target = {one.target: one for one in known}
        return sorted(by_target.values(), key=lambda one: (one.name, one.target))

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.gather(self._speech.close(), self._translation.close())


async def _status_of(client: AsrClient | TranslateClient) -> Status:
    """What a service says over the connection that is there."""
    target = client.endpoint.target
    try:
        if isinstance(client, AsrClient):
            return speech_status(target, await client.capabilities(), serving=True)
        return translation_status(target, await client.capabilities(), serving=True)
    except VoxrouteError as error:
        kind = SPEECH if isinstance(client, AsrClient) else TRANSLATION
        return Status(kind, target, error=str(error))
