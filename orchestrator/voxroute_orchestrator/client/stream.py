"""What two-way calls share: writing, reading to the end, silence noticed."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc._cython import cygrpc

Reply = TypeVar("Reply", bound=Message)
_SEND_ERROR = cast("type[Exception]", cast("Any", cygrpc).InternalError)  # what _write meets


class Watchdog:
    """Cancels a call whose service has work and sends nothing for too long."""

    def __init__(
        self, call: Any, stall_timeout_s: float, waiting: Callable[[], bool] = lambda: True
    ) -> None:
        self._call = call
        self._stall_timeout_s = stall_timeout_s
        self._waiting = waiting
        self._heard_at = time.monotonic()
        self.fired = False

    def heard(self) -> None:
        """Tells that the service is alive."""
        self._heard_at = time.monotonic()

    async def watch(self) -> None:
        """Returns after it has cancelled the call."""
        while True:
            silent_s = time.monotonic() - self._heard_at
            if not self._waiting():
                self.heard()
            elif silent_s >= self._stall_timeout_s:
                self.fired = True
                self._call.cancel()
                return
            await asyncio.sleep(min(1.0, self._stall_timeout_s / 4))


async def read_all(
    call: Any,
    send: Callable[[], Awaitable[None]],
    receive: Callable[[Any], Awaitable[None]],
    watchdog: Watchdog,
) -> None:
    """Sends and receives at once until the service ends the call.

    Raises what sending, receiving or the call raised; the call is over in every case.
    """
    sender = asyncio.ensure_future(send())
    guard = asyncio.ensure_future(watchdog.watch())

    def end_call(task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            call.cancel()  # what could not be sent will never be finished

    sender.add_done_callback(end_call)
    try:
        while True:
            reply = await call.read()
            if reply is grpc.aio.EOF:
                await call.code()  # cancelling before the status is there would change it
                break
            watchdog.heard()
            await receive(reply)
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        # the sender's own failure has ended the call, and says more than the call does
        if sender.done() and not sender.cancelled() and (cause := sender.exception()) is not None:
            raise cause from None
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        if not call.done():
            raise
    finally:
        guard.cancel()
        sender.cancel()
        call.cancel()
        await asyncio.gather(sender, guard, return_exceptions=True)
    code = await call.code()
    if code != grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code,
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )


async def write(call: Any, message: Message) -> bool:
    """Sends a message; false once the call is over, whose status then tells why.

    The message goes past grpc.aio's own `write` (1.85): that one replaces the service's status by
    INTERNAL "Internal error from Core" when the service ends the call while a message is on its
    way, so a refusal and its details would be lost.
    """
    try:
        await call.wait_for_connection()
        if call.done():
            return False
        await call._cython_call.send_serialized_message(message.SerializeToString())  # noqa: SLF001 - see above
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, _SEND_ERROR):
        return False
    return True


async def close_writing(call: Any) -> None:
    """Tells the service that no message follows."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, _SEND_ERROR):
        await call.done_writing()
