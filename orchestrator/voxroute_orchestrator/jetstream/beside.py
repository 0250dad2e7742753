"""The service beside a worker, which tells by itself when it comes and goes."""

import asyncio
import time
from typing import Any, cast

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voxroute.asr.v1 import asr_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import unary
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import ServiceUnavailableError, VoxrouteError

_AGAIN_S = 1.0  # before one that is away is called again
_ASK_AGAIN_S = 60.0  # what it can do changes seldom

Capabilities = asr_pb2.GetCapabilitiesResponse | translate_pb2.GetCapabilitiesResponse


class Beside:
    """What it says of itself: its health as it changes, what it can do once a minute at most."""

    def __init__(self, client: AsrClient | TranslateClient, channel: grpc.aio.Channel) -> None:
        self.client = client
        self.pairs: list[tuple[str, str]] = []
        """(source, target) of what it translates."""
        self._health: Any = cast("Any", health_pb2_grpc).HealthStub(channel)  # it knows no aio
        self._told: Capabilities | None = None
        self._asked_at = 0.0
        self._why = "it has not said yet that it takes calls"

    @property
    def told(self) -> Capabilities | None:
        """What it could do when it was asked; None while it takes no calls."""
        return self._told

    async def capabilities(self) -> Capabilities:
        """What it can do. Raises VoxrouteError while it takes no calls."""
        if self._told is None:
            raise ServiceUnavailableError(f"{self.client.endpoint} takes no calls: {self._why}")
        if time.monotonic() - self._asked_at > _ASK_AGAIN_S:
            await self._ask()
        return self._told

    async def watch(self) -> None:
        """Follows its health until it is cancelled."""
        while True:
            try:
                watched = self._health.Watch(health_pb2.HealthCheckRequest())
                async for reply in watched:
                    if reply.status == health_pb2.HealthCheckResponse.SERVING:
                        await self._ask()
                    else:
                        self._lose("it loads or drains")
                self._lose("it has gone")
            except grpc.aio.AioRpcError as error:
                self._lose(f"{error.code().name}: {error.details()}")
            except VoxrouteError as error:
                self._lose(str(error))
            await asyncio.sleep(_AGAIN_S)

    async def _ask(self) -> None:
        told = await self.client.capabilities()
        if isinstance(self.client, TranslateClient):
            every = translate_pb2.ListLanguagePairsRequest()
            reply = await unary(self.client.endpoint, self.client.stub.ListLanguagePairs, every)
            self.pairs = [(pair.source_language, pair.target_language) for pair in reply.pairs]
        self._told = told
        self._asked_at = time.monotonic()

    def _lose(self, why: str) -> None:
        self._told, self._why = None, why
