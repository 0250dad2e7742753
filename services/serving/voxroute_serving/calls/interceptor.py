"""What surrounds every call: its id, its client, its log line, its metrics, its errors' statuses.

One interceptor does them all, in this order, so that what the client sees, what the log says and
what is counted are the same status. It also keeps the gate: which calls may begin, and which are
open.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from voxroute_serving import bounds
from voxroute_serving.calls.statuses import defect_status, status_of
from voxroute_serving.device.places import Caller, enter
from voxroute_serving.errors import (
    ClientLimitError,
    InvalidInputError,
    NotReadyError,
    ServingError,
    UnsupportedError,
    chain,
)
from voxroute_serving.metrics import UNKNOWN_METHOD, Method, MethodType, Metrics
from voxroute_serving.security.clients import Access, name_without_token
from voxroute_serving.telemetry import logs, request_ids, tracing
from voxroute_serving.telemetry.request_ids import request_id

__all__ = ["CallInterceptor", "Gate", "request_id"]

Context = grpc.aio.ServicerContext[Any, Any]

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_ALWAYS_SERVED = {
    _HEALTH,
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name,
}
_ALWAYS_ANSWERED = {"GetCapabilities", "ListModels"}  # they never wait for the device
# A client that was killed ends its stream like one that forgot `finish`; that it is gone is known
# within a millisecond (measured with grpcio 1.85). Waiting tells the two apart in the metrics.
_FAREWELL_S = 0.05
_CLIENT_RETRY_S = 2.0  # advice to a client whose share is taken; only it knows its calls' ends
_STATUS_S = 5.0  # how long a handler waits until its status is on its way

# by whether the request and the response are streams: in the labels, and to grpc
_KINDS: dict[tuple[bool, bool], tuple[MethodType, str]] = {
    (False, False): ("unary", "unary_unary"),
    (True, False): ("client_stream", "stream_unary"),
    (False, True): ("server_stream", "unary_stream"),
    (True, True): ("bidi_stream", "stream_stream"),
}

_log = logs.get_logger(__name__)


class Phase(Enum):
    """Where the service is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


class Gate:
    """Which calls may begin, and which are open. Lives on one event loop.

    Health, reflection and the methods that only tell what the service is are always let in, and
    nobody waits for their end.
    """

    def __init__(self, metrics: Metrics, max_calls_per_client: int = 0) -> None:
        self.phase = Phase.LOADING
        self._metrics = metrics
        self._max_calls_per_client = max_calls_per_client
        self._calls_of_client: Counter[str] = Counter()
        self._open: set[asyncio.Task[Any]] = set()
        self._cut: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open_calls(self) -> int:
        """Calls that a drain waits for."""
        return len(self._open)

    def enter(self, phase: Phase) -> None:
        """Begins a phase of life; open calls go on."""
        self.phase = phase
        self._metrics.ready.set(1 if phase is Phase.SERVING else 0)

    def refusal(self) -> NotReadyError | None:
        """The error for a call that would begin now, or None where it may."""
        if self.phase is Phase.LOADING:
            return NotReadyError(
                "the service is loading its model; retry in a moment", retry_after_s=2.0
            )
        if self.phase is Phase.DRAINING:
            return NotReadyError(
                "the service is shutting down; retry, or use another endpoint", retry_after_s=1.0
            )
        return None

    @contextlib.contextmanager
    def open_call(self, client: str) -> Generator[None]:
        """Counts the current task as an open call for the length of the block.

        Raises ClientLimitError where the client has its share already.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a call is a task
        if 0 < self._max_calls_per_client <= self._calls_of_client[client]:
            raise ClientLimitError(
                f"{client} has {self._calls_of_client[client]} calls open, as many as one client"
                " may; wait until one has ended",
                retry_after_s=_CLIENT_RETRY_S,
            )
        self._calls_of_client[client] += 1
        self._open.add(task)
        self._idle.clear()
        try:
            yield
        finally:
            self._calls_of_client[client] -= 1
            if not self._calls_of_client[client]:
                del self._calls_of_client[client]  # addresses are many
            self._open.discard(task)
            if not self._open:
                self._idle.set()

    async def idle(self) -> None:
        """Returns once no call is open."""
        await self._idle.wait()

    def cut(self) -> int:
        """Ends the open calls with UNAVAILABLE; returns how many."""
        tasks = self._open - self._cut
        for task in tasks:
            self._cut.add(task)
            task.cancel()
        return len(tasks)

    def was_cut(self) -> bool:
        """Whether it was the gate that cancelled the current task."""
        return asyncio.current_task() in self._cut


class _Flow(Caller):
    """A call's client, whether its messages have ended, and how the call ends."""

    def __init__(self, limit_s: float, bytes_per_s: float = 0.0) -> None:
        super().__init__(limit_s, bytes_per_s)
        self.requests_ended = False
        self.ending = _Ending()


class _Undecodable:
    """Stands for a request message whose bytes are not of its type."""


class _Received:
    """The messages of a request stream, counted; waits for them are the client's."""

    def __init__(
        self, messages: AsyncIterable[Any], count: Callable[[], None], flow: _Flow
    ) -> None:
        self._source = messages
        self._flow = flow
        self._messages: AsyncIterator[Any] | None = None
        self._count = count

    def __aiter__(self) -> "_Received":
        return self

    async def __anext__(self) -> Any:
        if self._messages is None:
            # not before: grpc makes a coroutine here, which a refused call would never await
            self._messages = aiter(self._source)
        try:
            with self._flow.waiting():
                message = await anext(self._messages)
        except StopAsyncIteration:
            self._flow.requests_ended = True
            raise
        self._count()
        self._flow.received(message)
        return _decoded(message)

    async def close(self) -> None:
        """Lets go of the last message.

        A generator of grpc's (1.85) that was not read to its end is a circle with what made it, and
        would keep the message until the garbage collector comes.
        """
        close = getattr(self._messages, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):  # somebody still waits for a message
                await close()


def _size(message: Any) -> int:
    return message.ByteSize() if isinstance(message, Message) else len(message)


def _decoded(message: Any) -> Any:
    if isinstance(message, _Undecodable):
        raise InvalidInputError("a message of the request is not of the type that the method takes")
    if isinstance(message, Message):  # handlers of plain bytes are for tests
        bounds.check(message)
    return message


def _lenient(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """The deserializer, giving _Undecodable for what it cannot read.

    What it raises would reach the client as it is, before the interceptor sees the call.
    """
    if deserializer is None:
        return None

    def deserialize(data: bytes) -> Any:
        try:
            return deserializer(data)
        except Exception:  # noqa: BLE001 - whatever a deserializer raises, the bytes are wrong
            return _Undecodable()

    return deserialize


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Surrounds every call of every kind. Handlers are `async`.

    A handler must not send initial metadata itself: the interceptor has, with the request id.
    """

    def __init__(
        self,
        metrics: Metrics,
        gate: Gate,
        access: Access | None = None,
        idle_s: float = 0.0,
        bytes_per_s: float = 0.0,
    ) -> None:
        """`idle_s` is how long a client may keep the service waiting, 0 for any time.

        `bytes_per_s` is what it has to send or read for each second of waiting.
        """
        self._metrics = metrics
        self._gate = gate
        self._access = access or Access()
        self._idle_s = idle_s
        self._bytes_per_s = bytes_per_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the method, surrounded; None where the server has no such method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            self._metrics.started.labels(*UNKNOWN_METHOD.labels).inc()
            self._metrics.handled.labels(*UNKNOWN_METHOD.labels, "UNIMPLEMENTED").inc()
            return None
        _, service, name = handler_call_details.method.rsplit("/", 2)
        kind, shape = _KINDS[handler.request_streaming, handler.response_streaming]
        return getattr(grpc, f"{shape}_rpc_method_handler")(
            self._serving(Method(kind, service, name), handler, getattr(handler, shape)),
            _lenient(handler.request_deserializer),
            handler.response_serializer,
        )

    def _serving(
        self, method: Method, kind: "grpc.RpcMethodHandler[Any, Any]", handle: Callable[..., Any]
    ) -> Callable[..., Any]:
        takes_stream, gives_stream = kind.request_streaming, kind.response_streaming

        async def serve(request: Any, context: Context) -> Any:
            streams = takes_stream or gives_stream
            flow = _Flow(self._idle_s, self._bytes_per_s) if streams else _Flow(0)
            received = self._received(method, request, flow) if takes_stream else None

            async def act() -> Any:
                if received is None:
                    self._metrics.messages_received.labels(*method.labels).inc()
                answer = handle(_decoded(request) if received is None else received, context)
                if gives_stream:
                    return await self._send(method, context, answer, flow)
                response = await answer
                self._metrics.messages_sent.labels(*method.labels).inc()
                return response

            try:
                return await self._surround(method, context, act, flow)
            finally:
                if received is not None:
                    await received.close()

        return serve

    def _received(self, method: Method, requests: AsyncIterator[Any], flow: _Flow) -> _Received:
        count = self._metrics.messages_received.labels(*method.labels).inc
        return _Received(requests, count, flow)

    async def _send(self, method: Method, context: Context, responses: Any, flow: _Flow) -> None:
        """Writes what a handler yields.

        Written here instead of handed to grpc as a generator: a call that is cancelled while a
        message is being written leaves a generator to the garbage collector, and with it whatever
        place in a queue it holds.
        """
        sent = self._metrics.messages_sent.labels(*method.labels)
        if not hasattr(responses, "__aiter__"):  # a handler that writes by itself
            await responses
            return
        async with contextlib.aclosing(responses):
            async for response in responses:
                with flow.reading(_size(response)):
                    await context.write(response)
                sent.inc()

    async def _surround(
        self,
        method: Method,
        context: Context,
        act: Callable[[], Awaitable[Any]],
        flow: _Flow,
    ) -> Any:
        metadata = _metadata(context)
        identity = request_ids.bind(metadata.get(request_ids.METADATA_KEY))
        job = request_ids.fit(metadata.get(request_ids.JOB_METADATA_KEY))
        logs.bind_only(request_id=identity, **({"job": job} if job else {}))
        self._metrics.started.labels(*method.labels).inc()
        started = time.monotonic()
        ending = flow.ending
        with _span(method, metadata, identity, job) as span:
            try:
                response, status = await self._answer(method, context, act, flow)
            finally:
                took = time.monotonic() - started
                self._metrics.handled.labels(*method.labels, ending.code.name).inc()
                self._metrics.handling_seconds.labels(*method.labels).observe(took)
                self._metrics.observe_error(ending.error)
                tracing.end_call(span, ending.code.name, ending.error_type, server=True)
                _write_log_line(method, context, ending, took)
                _forget(ending.error)
                ending.error = None
        # Counted before the client is told: one that asks for the metrics next finds its call.
        if status is not None:
            await _abort(context, status)
        return response

    async def _answer(
        self,
        method: Method,
        context: Context,
        act: Callable[[], Awaitable[Any]],
        flow: _Flow,
    ) -> tuple[Any, status_pb2.Status | None]:
        """What the handler returns, or the status of its failure; noted in `flow.ending`."""
        ending = flow.ending
        try:
            await context.send_initial_metadata(((request_ids.METADATA_KEY, request_id()),))
            client = self._client(method, context)
            logs.bind(client=client)
            flow.client, flow.peer = client, context.peer()
            enter(flow)
            with flow.watching():
                response = await self._admitted(method, act, client)
        except asyncio.CancelledError:
            if not self._gate.was_cut():
                ending.code = _code_of_cancellation(context)
                raise
            status = ending.of(CUT, request_id())
        except grpc.aio.AbortError:
            ending.code = _code_set(context) or grpc.StatusCode.UNKNOWN
            raise
        except ServingError as error:
            if error.status is grpc.StatusCode.INVALID_ARGUMENT and flow.requests_ended:
                await self._part(context, ending)
            status = ending.of(error, request_id())
        except NotImplementedError as error:
            # what the generated base classes raise for a method that a servicer leaves out
            if _code_set(context) is not grpc.StatusCode.UNIMPLEMENTED:
                status = ending.of_defect(error, request_id())
            else:
                left_out = UnsupportedError(f"this service does not have the method {method.name}")
                status = ending.of(left_out, request_id())
        except Exception as error:  # noqa: BLE001 - logged; hidden from the client
            status = ending.of_defect(error, request_id())
        else:
            ending.code = _code_set(context) or grpc.StatusCode.OK
            return response, None
        return None, status

    def _client(self, method: Method, context: Context) -> str:
        """The client's name. Raises UnauthenticatedError; never for a question about health."""
        if method.service == _HEALTH:
            return name_without_token(context)
        return self._access.identify(context)

    async def _admitted(
        self, method: Method, act: Callable[[], Awaitable[Any]], client: str
    ) -> Any:
        if method.service in _ALWAYS_SERVED or method.name in _ALWAYS_ANSWERED:
            return await act()
        refusal = self._gate.refusal()
        if refusal is not None:
            raise refusal
        with self._gate.open_call(client):
            return await act()

    async def _part(self, context: Context, ending: "_Ending") -> None:
        """Waits for the cancellation of a call whose client is gone."""
        try:
            await asyncio.sleep(_FAREWELL_S)
        except asyncio.CancelledError:
            ending.code = _code_of_cancellation(context)
            raise


CUT = NotReadyError(
    "the service is shutting down and this call did not end in time; start it again, here or at"
    " another endpoint",
    retry_after_s=1.0,
)


@dataclass(slots=True)
class _Ending:
    """How a call ended."""

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN
    error: Exception | None = None
    defect: bool = False

    @property
    def error_type(self) -> str:
        """The reason of the error, else its class; "" where there is none."""
        if isinstance(self.error, ServingError):
            return self.error.reason
        return type(self.error).__name__ if self.error is not None else ""

    def of(self, error: ServingError, identity: str) -> status_pb2.Status:
        """Notes a failure that the client is told about; its status."""
        self.code, self.error = error.status, error
        self.defect = error.status is grpc.StatusCode.INTERNAL
        return status_of(error, identity)

    def of_defect(self, error: Exception, identity: str) -> status_pb2.Status:
        """Notes a failure that nobody foresaw; its status."""
        self.code, self.error, self.defect = grpc.StatusCode.INTERNAL, error, True
        return defect_status(identity)


async def _abort(context: Context, status: status_pb2.Status) -> NoReturn:
    answer = rpc_status.to_status(status)  # pyright: ignore[reportUnknownMemberType]
    # The status stands behind the answers that the client has not read: one that reads nothing
    # would keep the handler waiting. Without it grpc still sends the status once there is room.
    try:
        async with asyncio.timeout(_STATUS_S):
            await context.abort(answer.code, answer.details, answer.trailing_metadata)
    except grpc.aio.AbortError as error:
        asyncio.get_running_loop().call_soon(_forget, error)  # grpcio 1.85 keeps it in the call
        raise
    except TimeoutError:
        raise asyncio.CancelledError from None
    raise AssertionError  # abort does not return


def _forget(error: BaseException | None) -> None:
    """Drops what an error that has been told of knows of the frames that it went through.

    They know the error, and the request: as a circle they would keep its megabytes until the
    garbage collector comes, which counts objects and not their bytes.
    """
    for one in chain(error):
        one.__traceback__ = None


def _metadata(context: Context) -> dict[str, str]:
    """What came with the call, without what is binary; of a key that came twice the first."""
    found: dict[str, str] = {}
    for key, value in cast(
        "Iterable[tuple[str, str | bytes]]", context.invocation_metadata() or ()
    ):
        if isinstance(value, str):
            found.setdefault(key, value)
    return found


def _span(
    method: Method, metadata: dict[str, str], identity: str, job: str
) -> contextlib.AbstractContextManager[Any]:
    """The span of a call; none for health and reflection, which would drown the rest."""
    if method.service in _ALWAYS_SERVED:
        return contextlib.nullcontext(tracing.NO_SPAN)
    about = {"voxroute.request_id": identity} | ({"voxroute.job_id": job} if job else {})
    return tracing.server_span(f"{method.service}/{method.name}", metadata, about)


def _code_set(context: Context) -> grpc.StatusCode | None:
    """The status that a handler has set on its context; None for OK and for none."""
    code = cast("Any", context.code())
    if not code:  # None, or 0 for OK
        return None
    if isinstance(code, grpc.StatusCode):
        return code
    return next((known for known in grpc.StatusCode if known.value[0] == code), None)


def _code_of_cancellation(context: Context) -> grpc.StatusCode:
    """CANCELLED, or DEADLINE_EXCEEDED where the call's time is over."""
    left_s = cast("float | None", context.time_remaining())
    over = left_s is not None and left_s <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if over else grpc.StatusCode.CANCELLED


def _write_log_line(method: Method, context: Context, ending: _Ending, took_s: float) -> None:
    fields: dict[str, Any] = {
        "service": method.service,
        "method": method.name,
        "code": ending.code.name,
        "duration_s": round(took_s, 4),
        "peer": context.peer(),
    }
    error = ending.error
    if isinstance(error, ServingError):
        fields |= {"reason": error.reason, "message": error.message}
    if error is not None and (ending.defect or error.__cause__ is not None):
        fields["exc_info"] = error
    if ending.defect:
        _log.error("call", **fields)
    elif method.service in _ALWAYS_SERVED or method.name in _ALWAYS_ANSWERED:
        _log.debug("call", **fields)  # health checks would drown the rest
    else:
        _log.info("call", **fields)
