"""What every call to a service carries: the id of its job, and of its span where it is traced."""

import contextlib
import uuid
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, Protocol, Self, cast

import grpc
import grpc.aio

from voxroute_serving.telemetry import logs, tracing
from voxroute_serving.telemetry.request_ids import JOB_METADATA_KEY, METADATA_KEY

_MULTICALLABLES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_NOT_TRACED = "/grpc.health."  # asked again and again; the rest would drown

_log = logs.get_logger(__name__)

_job_id: ContextVar[str] = ContextVar("job_id", default="")


@contextlib.contextmanager
def in_job(job_id: str, attributes: tracing.Attributes) -> Generator[None]:
    """Lets calls, log lines and spans in the block be those of a job; "" is for a new id."""
    chosen = job_id or uuid.uuid4().hex[:16]
    token = _job_id.set(chosen)
    about = {"voxroute.job_id": chosen, **attributes}
    try:
        with logs.bound(job=chosen), tracing.span("job", about, root=True):
            if not job_id:
                _log.info("job begins")
            yield
    finally:
        _job_id.reset(token)


class Begin(Protocol):
    """Begins a call: `begin` with more metadata, "/package.Service/Method" being its method."""

    def __call__(self, method: str, begin: Callable[..., Any], metadata: tuple[Any, ...]) -> Any:
        """The call, begun."""
        ...


class CallingChannel:
    """A channel whose calls are begun by a function.

    An interceptor of grpc.aio (1.85) would hide the call that `client/asr.py` writes to.
    """

    def __init__(self, channel: grpc.aio.Channel, begin: Begin) -> None:
        self._channel = channel
        self._begin = begin

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._channel, name)
        if name not in _MULTICALLABLES:
            return attribute

        def multicallable(method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
            call = attribute(method, *args, **kwargs)

            def begun(*args: Any, metadata: Any = None, **kwargs: Any) -> Any:
                def begin(metadata: tuple[Any, ...]) -> Any:
                    return call(*args, metadata=metadata, **kwargs)

                return self._begin(method, begin, tuple(metadata or ()))

            return begun

        return multicallable

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await cast("Any", self._channel).__aexit__(*failure)


def of_job(channel: grpc.aio.Channel, target: str) -> grpc.aio.Channel:
    """The channel to an address, its calls marked as those of the current job, and traced."""

    def begin(method: str, begin: Callable[..., Any], metadata: tuple[Any, ...]) -> Any:
        job_id = _job_id.get()
        if job_id:
            metadata = (*metadata, (JOB_METADATA_KEY, job_id))
        if method.startswith(_NOT_TRACED):
            return begin(metadata)
        span, carrier = tracing.client_span(method[1:], _about(target, metadata))
        call = begin((*metadata, *carrier.items()))

        def ended(call: Any) -> None:
            tracing.end_call(span, _code_of(call).name, server=False)
            span.end()

        call.add_done_callback(ended)
        return call

    return cast("grpc.aio.Channel", CallingChannel(channel, begin))


def _about(target: str, metadata: tuple[Any, ...]) -> dict[str, str]:
    """What a call's span tells of it."""
    names = {METADATA_KEY: "voxroute.request_id", JOB_METADATA_KEY: "voxroute.job_id"}
    told = {names[key]: value for key, value in metadata if key in names}
    return {"server.address": target, **told}


def _code_of(call: Any) -> grpc.StatusCode:
    """The status of a call that has ended.

    grpc.aio tells it by a coroutine, which does not wait then.
    """
    coroutine = call.code()
    try:
        coroutine.send(None)
    except StopIteration as told:
        return told.value
    coroutine.close()
    return grpc.StatusCode.UNKNOWN
