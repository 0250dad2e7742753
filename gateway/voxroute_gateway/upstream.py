"""The services behind the gateway: found as the command finds them, held, and waited for."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field

from voxroute_gateway.errors import RequestError
from voxroute_gateway.metrics import GatewayMetrics
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import ServiceUnavailableError
from voxroute_orchestrator.fleet.connect import Connected, services
from voxroute_orchestrator.fleet.needs import Needs
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_serving.telemetry.logs import get_logger

_LONGEST_PAUSE_S = 30.0  # between tries; advice that is longer is not waited for in one piece

_log = get_logger(__name__)


@dataclass(slots=True)
class _Found:
    """Connections to services, open until nobody uses them and they are to be found anew."""

    connected: Connected
    stack: contextlib.AsyncExitStack
    users: int = 0
    stale: bool = False


@dataclass(slots=True)
class _Held:
    """The services of one kind."""

    settings: Settings
    needs: Needs
    found: _Found | None = None
    opening: "asyncio.Task[_Found] | None" = None

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncGenerator[Connected]:
        """The connections; they stay for the next request. Raises VoxrouteError."""
        found = self.found
        if found is None or found.stale:
            if self.opening is None:
                self.opening = asyncio.ensure_future(self._open())
            # others wait for it too, so a client that leaves does not end it
            found = await asyncio.shield(self.opening)
        found.users += 1
        try:
            yield found.connected
        except ServiceUnavailableError:
            self._drop(found)
            raise
        except CallFailedError as failure:
            if isinstance(failure.error, ServiceUnavailableError) and failure.retry_after_s is None:
                self._drop(found)
            raise
        finally:
            found.users -= 1
            if found.stale and not found.users:
                await asyncio.shield(asyncio.ensure_future(found.stack.aclose()))

    async def _open(self) -> _Found:
        stack = contextlib.AsyncExitStack()
        try:
            connected = await stack.enter_async_context(
                services(self.settings, self.needs, os.environ, _say, _warn)
            )
        finally:
            self.opening = None
        self.found = _Found(connected, stack)
        return self.found

    def _drop(self, found: _Found) -> None:
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


def _say(line: str) -> None:
    _log.info(line)


def _warn(line: str) -> None:
    _log.warning(line)


@dataclass(slots=True)
class WaitingRoom:
    """Where requests wait for services that are full, for as long as their clients stay."""

    metrics: GatewayMetrics
    max_waiting: int
    patience_s: float
    """How long services may be away, rather than full."""
    _waiting: int = 0

    async def wait(self, failure: CallFailedError, away_s: float) -> float:
        """Waits as a failure advises; how long the service has been away by then.

        `away_s` is how long it had been before. Raises RequestError where the room is full, and
        CallFailedError where waiting is of no use.
        """
        if not failure.retryable:
            raise failure
        full = failure.retry_after_s is not None
        pause_s = min(failure.retry_after_s or 1.0, _LONGEST_PAUSE_S)
        if not full and away_s + pause_s > self.patience_s:
            raise failure
        with self._place(failure):
            await asyncio.sleep(pause_s)
        return 0.0 if full else away_s + pause_s

    @contextlib.contextmanager
    def _place(self, failure: CallFailedError) -> Generator[None]:
        if self._waiting >= self.max_waiting:
            raise RequestError(
                429, "the services are full; try again later", "queue_full", None,
                failure.retry_after_s,
            ) from failure  # fmt: skip
        self._waiting += 1
        self.metrics.waiting.inc()
        try:
            yield
        finally:
            self._waiting -= 1
            self.metrics.waiting.dec()


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
        needs = Needs(
            spec=self.spec,
            speech=speech,
            translation=not speech,
            only_asr_endpoints=bool(self.settings.asr_endpoints),
            only_translate_endpoints=bool(self.settings.translate_endpoints),
            patience_s=self.room.patience_s,
        )
        return _Held(self.settings, needs)

    @contextlib.asynccontextmanager
    async def speech(self) -> AsyncGenerator[AsrClient]:
        """A speech service. Raises VoxrouteError."""
        async with self._speech.connected() as connected:
            yield connected.speech[0]

    @contextlib.asynccontextmanager
    async def translator(self) -> AsyncGenerator[TranslateClient]:
        """A translation service. Raises VoxrouteError."""
        async with self._translation.connected() as connected:
            yield connected.translators[0]

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.gather(self._speech.close(), self._translation.close())
