"""Channels to services, which notice a dead peer, and short calls."""

import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from voxroute_orchestrator.client.calling import of_job
from voxroute_orchestrator.client.credentials import NO_CREDENTIALS, Credentials
from voxroute_orchestrator.client.failures import CallFailedError, of_rpc_error
from voxroute_orchestrator.settings import Settings

_KEEPALIVE_TIMEOUT_MS = 15_000
_MAX_REPLY_BYTES = 16 * 1024 * 1024  # a segment of 30 s with its words is some 10 KB
_UNARY_TIMEOUT_S = 30.0
BASE_DEADLINE_S = 900.0  # a model may have to be loaded first
_RESOLVED = ("dns:", "ipv4:", "ipv6:")  # grpc's own addresses, which may stand for many servers


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How patient calls are, seconds; see Settings for what each does."""

    retry_s: float = 120.0
    stall_timeout_s: float = 600.0
    deadline_factor: float = 20.0
    keepalive_s: float = 30.0

    def deadline_s(self, media_s: float | None) -> float | None:
        """The deadline of a call on so much media; none where its length is not known."""
        return None if media_s is None else BASE_DEADLINE_S + self.deadline_factor * media_s


async def _nothing() -> None:
    """Does nothing: what recovers an endpoint that others look after."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, what to call it, and how to bring it back where that is ours to do."""

    name: str
    """For people: "speech service", "translation service"."""
    target: str
    recover: Callable[[], Awaitable[None]] = _nothing

    def __str__(self) -> str:
        return f"the {self.name} at {self.target}"


@contextlib.asynccontextmanager
async def connect(
    endpoint: Endpoint, policy: CallPolicy, credentials: Credentials = NO_CREDENTIALS
) -> AsyncGenerator[grpc.aio.Channel]:
    """A channel that notices a dead peer, closed at the end. Raises UsageError."""
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", int(policy.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # grpc 1.85 waits this long for the answer to a ping, whatever the keepalive's time-out says
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", _MAX_REPLY_BYTES),
        # a restarted service should be found again within seconds, not after two minutes
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if endpoint.target.startswith(_RESOLVED):
        # else every call would go to the first server that answers
        options.append(("grpc.lb_policy_name", "round_robin"))
    async with credentials.open(endpoint.target, options) as channel:
        yield of_job(channel, endpoint.target)


def new_request_id() -> str:
    """An id for a call, in the logs of both sides."""
    return uuid.uuid4().hex[:16]


async def unary(
    endpoint: Endpoint,
    call: Callable[..., Any],
    request: Message,
    timeout_s: float = _UNARY_TIMEOUT_S,
) -> Any:
    """The reply to a unary call. Raises VoxrouteError."""
    try:
        return await call_unary(endpoint, call, request, timeout_s)
    except CallFailedError as failure:
        raise failure.error from failure


async def call_unary(
    endpoint: Endpoint,
    call: Callable[..., Any],
    request: Message,
    timeout_s: float = _UNARY_TIMEOUT_S,
) -> Any:
    """As unary. Raises CallFailedError, which tells whether to try again."""
    request_id = new_request_id()
    try:
        return await call(request, timeout=timeout_s, metadata=(("x-request-id", request_id),))
    except grpc.aio.AioRpcError as error:
        raise of_rpc_error(error, str(endpoint), request_id) from error


async def is_serving(channel: grpc.aio.Channel, timeout_s: float = 5.0) -> bool:
    """Whether the server says that it serves. Raises grpc.aio.AioRpcError where nobody answers."""
    stub: Any = cast("Any", health_pb2_grpc).HealthStub(channel)  # its types know no aio
    reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def policy(settings: Settings) -> CallPolicy:
    """How patient calls are, as set."""
    return CallPolicy(
        retry_s=settings.retry_s,
        stall_timeout_s=settings.stall_timeout_s,
        deadline_factor=settings.deadline_factor,
        keepalive_s=settings.keepalive_s,
    )
