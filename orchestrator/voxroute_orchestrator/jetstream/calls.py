"""A call that a worker fetches, over requests that the worker makes.

The worker asks for the messages of the call one by one, hands them to the service beside it, and
tells what that answers. Each question has a number, so that one whose answer was lost is asked
again and answered the same. What was told is answered once it is dealt with: it is kept.

A question is a line of JSON, with bytes behind it: `{"call": c, "get": n}`, or `{"call": c,
"tell": n, "end": ...}`.
"""

import asyncio
import base64
import contextlib
import hashlib
import struct
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from secrets import token_hex
from typing import Any, Generic, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from voxroute_orchestrator.client.connection import CallPolicy
from voxroute_orchestrator.client.failures import broken_stream, of_rpc_error
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.pipeline.workers import LeftError

LEFT = "LEFT"
"""The code with which a worker leaves a call because it was told to."""
OVER = b"over"
"""The answer to whoever works on a call that nobody waits for any more."""
SILENT_S = 10.0
"""After so long without a word a worker is taken for dead; each says something more often."""
STALLED_S = CallPolicy().stall_timeout_s
"""After so long without an answer a service hangs that has work, though its worker is there."""
_LOOK_S = 1.0
_LENGTH = struct.Struct(">I")
_ANY = "any"
TRANSLATION = "translation"
"""The pool of the workers that translate, with any model."""

R = TypeVar("R", bound=Message)


def pool_of(model: str) -> str:
    """The pool of the workers that recognise speech with a model, as a part of a subject.

    "" for any model.
    """
    return digest_of(model) if model else _ANY


def translation_pool_of(model: str) -> str:
    """Likewise, of those that translate."""
    return digest_of(f"{TRANSLATION} {model}") if model else TRANSLATION


def digest_of(name: str) -> str:
    """What stands for a name where not every character is allowed."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def packed(messages: Sequence[bytes]) -> bytes:
    """Messages, each behind its length."""
    return b"".join(_LENGTH.pack(len(message)) + message for message in messages)


def unpacked(data: bytes) -> list[bytes]:
    """The messages again. Raises ValueError."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + _LENGTH.size
        if start > len(data):
            raise ValueError("half a message")
        (length,) = _LENGTH.unpack_from(data, at)
        at = start + length
        found.append(data[start:at])
    return found


def ending(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """How a call has ended, for `tell`."""
    return {
        "code": error.code().name,
        "details": error.details(),
        "trailing": {
            key: base64.b64encode(value).decode()
            for key, value in error.trailing_metadata() or ()
            if isinstance(value, bytes)
        },
    }


class FetchedCall(Generic[R]):
    """The call as the one who waits for its answers has it."""

    def __init__(
        self,
        link: Link,
        messages: AsyncGenerator[Message],
        reply: type[R],
        is_last: Callable[[R], bool],
        *,
        service: str,
        request_id: str,
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """`messages` are what is sent; each answer is a `reply`, one says that all is done.

        `service` is what the worker is called in errors; `waits` is whether it has work, so that
        silence tells that it hangs, where nobody else would take that over.
        """
        self.name = token_hex(12)
        self._link = link
        self._messages = messages
        self._reply = reply
        self._is_last = is_last
        self._waits = waits
        self._service = service
        self._request_id = request_id
        self._reading = asyncio.Lock()
        self._given: tuple[int, bytes] = (-1, b"")
        self._told: dict[int, asyncio.Future[bytes]] = {}
        self._batches: asyncio.Queue[tuple[dict[str, Any], bytes]] = asyncio.Queue()
        self._heard_at = time.monotonic()
        self._over = False
        self._cannot = ""

    async def end(self) -> None:
        """Sends away who asks from now on."""
        self._over = True
        for told in self._told.values():
            if not told.done():
                told.set_result(OVER)
        async with self._reading:
            await self._messages.aclose()

    async def replies(self) -> AsyncGenerator[R]:
        """The answers of the service. Raises CallFailedError."""
        done, answered_at = False, time.monotonic()
        while True:
            head, body = await self._heard()
            if body or not self._waits():
                answered_at = time.monotonic()
            elif time.monotonic() - answered_at > STALLED_S:
                raise broken_stream(self._service, f"has sent nothing for {STALLED_S:.0f} s")
            for data in unpacked(body):
                reply = self._reply.FromString(data)
                done = done or self._is_last(reply)
                yield reply
            kept = self._told[head["tell"]]
            if not kept.done():
                kept.set_result(b"")
            end: dict[str, Any] | None = head.get("end")
            if end is None:
                continue
            if end["code"] == LEFT:
                raise LeftError(self._service)
            if end["code"] != grpc.StatusCode.OK.name:
                raise of_rpc_error(_error(end), self._service, self._request_id)
            if not done:
                raise broken_stream(self._service, "ended the call before it was done")
            return

    async def _heard(self) -> tuple[dict[str, Any], bytes]:
        """What is told next. Raises CallFailedError where nothing is."""
        self._heard_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):  # `wait_for` (3.11) may swallow a cancellation
                    return await self._batches.get()
            if self._cannot:
                raise broken_stream(self._service, self._cannot)
            if not self._link.connected:
                self._heard_at = time.monotonic()
            if time.monotonic() - self._heard_at > SILENT_S:
                if self._given[0] < 0:  # the answer with the call has not arrived
                    raise LeftError(self._service)
                raise broken_stream(self._service, f"has said nothing for {SILENT_S:.0f} s")

    async def answer(self, head: dict[str, Any], body: bytes) -> bytes:
        """The answer to a question of the worker."""
        if self._over:
            return OVER
        self._heard_at = time.monotonic()
        if "get" in head:
            return await self._message(head["get"])
        number = head["tell"]
        if number not in self._told:
            self._told = {number: asyncio.get_running_loop().create_future()}
            self._batches.put_nowait((head, body))
        return await asyncio.shield(self._told[number])

    async def _message(self, number: int) -> bytes:
        """The message of that number; nothing behind the last one."""
        async with self._reading:
            if number == self._given[0] + 1:
                message = await anext(self._messages, None)
                self._given = (number, message.SerializeToString() if message else b"")
                most, n_bytes = self._link.most_bytes, len(self._given[1])
                if n_bytes > most:
                    self._cannot = (
                        f"cannot be given a message of {n_bytes} bytes: the NATS server takes"
                        f" {most}; raise its max_payload, or ask for less"
                    )
                    return OVER
            return self._given[1] if number == self._given[0] else OVER


def _error(end: dict[str, Any]) -> grpc.aio.AioRpcError:
    trailing = [(key, base64.b64decode(value)) for key, value in end["trailing"].items()]
    return grpc.aio.AioRpcError(
        grpc.StatusCode[end["code"]],
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*cast("Any", trailing)),
        details=end["details"],
    )
