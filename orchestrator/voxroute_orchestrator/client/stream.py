"""What two-way calls share: writing, reading to the end, silence noticed."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from grpc._cython import cygrpc

from voxroute_orchestrator.client.connection import CallPolicy
from voxroute_orchestrator.client.failures import broken_stream, of_rpc_error

_SEND_ERROR = cast("type[Exception]", cast("Any", cygrpc).InternalError)  # what _write meets


class Watchdog:
    """Cancels a call whose service has work and sends nothing for too long."""

    def __init__(self, call: Any, stall_timeout_s: float, waiting: Callable[[], bool]) -> None:
        self.stall_timeout_s = stall_timeout_s
        self._call = call
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
            elif silent_s >= self.stall_timeout_s:
                self.fired = True
                self._call.cancel()
                return
            await asyncio.sleep(min(1.0, self.stall_timeout_s / 4))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A two-way call that is to be made."""

    method: Any
    """The stub's; without an iterator of requests its call is written to."""
    messages: AsyncGenerator[Message]
    """What is sent."""
    is_last: Callable[[Any], bool]
    """Whether an answer says that all is done."""
    service: str
    """What the service is called in errors."""
    policy: CallPolicy
    length_s: float | None
    """How long the media is, for the deadline; None where that is not known."""
    request_id: str
    waits: Callable[[], bool] = lambda: True
    """Whether the service has work, so that silence tells that it hangs."""

    async def replies(self) -> AsyncGenerator[Any]:
        """Sends, and gives the answers; the call is over when the iteration is, however it ends.

        Raises CallFailedError where the call did not end well, and what `messages` raises.
        """
        call = self.method(
            timeout=self.policy.deadline_s(self.length_s),
            metadata=(("x-request-id", self.request_id),),
        )
        watchdog = Watchdog(call, self.policy.stall_timeout_s, self.waits)
        done = False
        try:
            async with contextlib.aclosing(_replies(call, self.messages, watchdog)) as replies:
                async for reply in replies:
                    done = self.is_last(reply) or done
                    yield reply
        except grpc.aio.AioRpcError as error:
            if watchdog.fired:
                silent = f"has sent nothing for {self.policy.stall_timeout_s:.0f} s"
                raise broken_stream(self.service, silent) from error
            raise of_rpc_error(error, self.service, self.request_id) from error
        if not done:
            raise broken_stream(self.service, "ended the call before it was done")


async def _replies(
    call: Any, messages: AsyncGenerator[Message], watchdog: Watchdog
) -> AsyncGenerator[Any]:
    """Raises what sending, receiving or the call raised; the call is over in every case."""
    sender = asyncio.ensure_future(_send(call, messages))
    guard = asyncio.ensure_future(watchdog.watch())
    sender.add_done_callback(lambda task: _end_call(call, task))
    try:
        while (reply := await call.read()) is not grpc.aio.EOF:
            watchdog.heard()
            yield reply
        await call.code()  # cancelling before the status is there would change it
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
    await raise_for_status(call)


async def raise_for_status(call: Any) -> None:
    """Returns where a call that is over went well. Raises AioRpcError."""
    code = await call.code()
    if code != grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code,
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )


async def answer(call: Any, messages: AsyncGenerator[Message]) -> Any:
    """The one answer to a stream of messages. Raises what sending or the call raised."""
    sender = asyncio.ensure_future(_send(call, messages))
    sender.add_done_callback(lambda task: _end_call(call, task))
    try:
        return await call
    except asyncio.CancelledError:
        if sender.done() and not sender.cancelled() and (cause := sender.exception()) is not None:
            raise cause from None
        raise
    finally:
        sender.cancel()
        call.cancel()
        await asyncio.gather(sender, return_exceptions=True)


def _end_call(call: Any, task: "asyncio.Future[None]") -> None:
    """Cancels a call whose messages could not be sent: it will never be finished."""
    if not task.cancelled() and task.exception() is not None:
        call.cancel()


async def _send(call: Any, messages: AsyncGenerator[Message]) -> None:
    async with contextlib.aclosing(messages):
        async for message in messages:
            if not await write(call, message):
                return
    await close_writing(call)


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
