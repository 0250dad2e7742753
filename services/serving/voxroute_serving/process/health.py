"""The standard health service, grpc.health.v1.

grpcio-health-checking 1.85 has one for asyncio too, but it forgets the watchers of a service as
soon as one of them leaves, so that the others never hear of a change, and it keeps something for
every name that a client ever asked to watch.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voxroute_serving.bounds import quoted

Context = grpc.aio.ServicerContext[Any, Any]
_Response = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):
    """The health of the server ("") and of each of its services. Begins as NOT_SERVING."""

    def __init__(self, service_names: Iterable[str]) -> None:
        self._statuses = dict.fromkeys(["", *service_names], _Response.NOT_SERVING)
        self._changed = asyncio.Event()

    def set_all(self, *, serving: bool) -> None:
        """Sets the health of everything and tells the watchers."""
        status = _Response.SERVING if serving else _Response.NOT_SERVING
        self._statuses = dict.fromkeys(self._statuses, status)
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The health now. NOT_FOUND: no such service."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"there is no service {quoted(request.service)} here"
            )
        return _Response(status=status)

    async def Watch(  # noqa: N802 - gRPC's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The health now and after each change; SERVICE_UNKNOWN where there is no such service."""
        del context
        told = None
        while True:
            changed = self._changed  # taken before the look, so that no change falls between
            status = self._statuses.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != told:
                yield _Response(status=status)
                told = status
            await changed.wait()
