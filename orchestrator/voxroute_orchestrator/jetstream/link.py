"""The one way to a NATS server: requests that are tried again, and writes that are never doubled.

Only the connection below it imports `nats`, too. Of nats-py only that is used, with its requests
and subscriptions; what JetStream does is asked for by its own messages (`$JS.API`), because what
the client has on top of them loses pulls and streams of messages when a server goes.

Every write says which message of its subject it follows, so that of two writers one is refused. A
write whose answer is lost is looked up before it is told to have failed.
"""

import asyncio
import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.connection import Connection, KeptOutError, alone, said
from voxroute_serving.telemetry.logs import get_logger

LEAST_SERVER = (2, 10, 27)
"""Older ones strand messages of work queues, and let the servers of a cluster differ."""
LEAST_BYTES = 1 << 20
"""Of a message, which is what servers take by default; parts of files and samples have half."""
PATIENCE_S = 5.0
"""How long a call tries, where its caller says nothing else."""
START_S = 20.0
"""The same at a start: the servers of a cluster may be starting as well."""
_TRY_S = 2.0  # for one answer; a request that was under way when its server went has none
_PART_TRY_S = 5.0  # where the answer, or what is sent, is half a megabyte and not alone
_PAUSE_S = 0.1
_CONNECT_S = 10.0
_CLOSE_S = 5.0
# In that time a ticket comes that is there. Not with `no_wait`: of several such pulls at once some
# are never answered (2.10.27).
_PULL_S = 0.25
_AT_ONCE = 64  # questions about single messages
_API = "$JS.API."

_NO_MESSAGE = 10037
_NOT_THERE = frozenset({_NO_MESSAGE, 10043, 10057})  # nor to be deleted
_CONFLICTS = frozenset({10071, 10164})  # wrong last sequence
# the stream's bytes, the account's, and what the server or its disk has for all
_FULL = frozenset({10077, 10002, 10023, 10047})
_AWAY_CODE = 503  # no leader yet, or JetStream is starting

# in small letters, as the client (2.16.0) tells whatever a server says
_FORBIDDEN = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]+)"')
_TELL_AGAIN_S = 30.0  # the same error

_log = get_logger(__name__)


class LinkError(Exception):
    """Something about the server. The sentence is for its operator."""


class AwayError(LinkError):
    """No server has answered in time; `unsure` is whether a write may have been kept."""

    def __init__(self, sentence: str, *, unsure: bool = False) -> None:
        super().__init__(sentence)
        self.unsure = unsure


class ConflictError(LinkError):
    """Another message has come first."""


class FullError(LinkError):
    """A limit of the stream, of the account or of the disk is reached."""


class RefusedError(LinkError):
    """The server says no to what was asked; `code` is JetStream's."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream, or one that was published again from it."""

    subject: str
    sequence: int
    """Its number in the stream."""
    data: bytes
    time_s: float = 0.0
    """When it was kept, by the server's clock; 0 for what was said."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A message of a work queue that is this client's until it says so, or the time is up."""

    subject: str
    reply: str
    data: bytes


class Link:
    """A connection that comes back by itself. Lives on one event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.reconnects = 0
        self.conflicts = 0
        """Writes that were refused because another came first."""
        self._reconnected: list[Callable[[], None]] = []
        self._forbidden: set[str] = set()
        self._told: dict[str, float] = {}

    @classmethod
    async def open(cls, access: Access, *, name: str = "voxroute") -> Self:
        """Connects to one of the servers, and to another one of their cluster when it goes.

        Raises AwayError where nobody answers, and LinkError, at once, where the server does not let
        the client in, is too old or has no JetStream.
        """
        client = Connection(access)
        link = cls(client)
        options: dict[str, Any] = {
            "name": name,
            "error_cb": link._on_error,
            "reconnected_cb": link._on_reconnected,
            "connect_timeout": _TRY_S,
            "reconnect_time_wait": _PAUSE_S,
            "max_reconnect_attempts": -1,  # the default ends after 60 tries
            "ping_interval": 5,  # a peer that is cut off is noticed after 10 s
            "max_outstanding_pings": 2,
            "pending_size": 0,  # nothing is sent late that was told to have failed
            "inbox_prefix": "_INR",
            **access.identity,
        }
        if access.tls is not None:
            options["tls"] = access.tls
        try:
            async with asyncio.timeout(_CONNECT_S):
                await client.connect(list(access.servers), **options)
            await link._check()
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await link.close()
            raise AwayError(
                f"no NATS server answers at {', '.join(access.servers)} within {_CONNECT_S:.0f} s"
                f" ({said(client.last_error or error)})"
            ) from error
        except KeptOutError as error:
            await link.close()
            raise LinkError(f"the NATS server cannot be used ({error})") from error
        except BaseException:
            await link.close()
            raise
        return link

    async def _check(self) -> None:
        told = self._client.connected_server_version
        version = (told.major, told.minor, told.patch)
        if version < LEAST_SERVER:
            there, least = (".".join(map(str, one)) for one in (version, LEAST_SERVER))
            raise LinkError(
                f"the NATS server has version {there}; install {least} or newer: older ones lose"
                " jobs when they are killed"
            )
        if self.most_bytes < LEAST_BYTES:
            raise LinkError(
                f"the NATS server takes messages of {self.most_bytes} bytes at most; set its"
                f" max_payload to {LEAST_BYTES} (1MB) or more, as it is by default"
            )
        try:
            await self.call("INFO", patience_s=START_S)
        except AwayError:
            for subject in tuple(self._forbidden):  # where answers go, say
                self._check_allowed(subject)
            raise
        except RefusedError as error:
            if not error.code:
                raise
            raise LinkError(
                f"the NATS server has no JetStream ({error}); start it with -js"
            ) from error

    async def close(self) -> None:
        """Leaves the server. What is under way fails."""
        closing = asyncio.ensure_future(self._client.close())
        await asyncio.wait([closing], timeout=_CLOSE_S)
        if not closing.done() or closing.exception() is not None:
            _log.warning("the connection to the NATS server did not close")

    def on_reconnected(self, call: Callable[[], None]) -> None:
        """Has a function called after each time that the connection was away."""
        self._reconnected.append(call)

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        _log.info("the NATS server is there again")
        for call in self._reconnected:
            call()

    async def _on_error(self, error: Exception) -> None:
        """Logs what the client tells: ten times a second while nobody is there."""
        found = _FORBIDDEN.search(str(error).lower())
        if found:
            self._forbidden.add(found[1])
        text, now = said(error), time.monotonic()
        if now - self._told.get(text, -_TELL_AGAIN_S) < _TELL_AGAIN_S:
            return
        self._told = {text: at for text, at in self._told.items() if now - at < _TELL_AGAIN_S}
        self._told[text] = now
        _log.warning("the NATS server says", error=text)

    def _check_allowed(self, subject: str) -> None:
        """Raises RefusedError where the server has said that this user may not use a subject."""
        if subject.lower() in self._forbidden:
            self._forbidden.discard(subject.lower())
            raise RefusedError(
                0,
                f"the NATS user of this service may not use {subject}; deploy/nats/accounts.conf"
                " has what it needs",
            )

    @property
    def most_bytes(self) -> int:
        """The largest message that the server takes."""
        return self._client.max_payload

    # What a server is asked:

    async def call(
        self, what: str, body: dict[str, Any] | None = None, patience_s: float = PATIENCE_S
    ) -> dict[str, Any]:
        """JetStream's answer to a request of its API. One that may be asked twice.

        Raises AwayError, RefusedError.
        """
        data = json.dumps(body).encode() if body else b""
        return await self._insist(_API + what, data, {}, patience_s)

    async def append(
        self,
        stream: str,
        subject: str,
        data: bytes,
        follows: int,
        patience_s: float = PATIENCE_S,
    ) -> int:
        """Keeps a message behind message `follows` of its subject, 0 for none; its own number.

        The data is one that no other writer would keep in this place: by it the message is known
        again where the answer was lost. Raises ConflictError, FullError, AwayError, RefusedError.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(follows)}
        tries = _Tries()
        try:
            answer = await self._insist(subject, data, headers, patience_s, tries)
        except RefusedError as error:
            if tries.unsure:
                found = await self.next(stream, subject, follows + 1, patience_s)
                if found is not None and found.data == data:
                    return found.sequence
            if error.code in _CONFLICTS:
                self.conflicts += 1
                raise ConflictError(str(error)) from error
            raise _full(error) from error
        return int(answer["seq"])

    async def add(self, subject: str, data: bytes, patience_s: float = PATIENCE_S) -> int:
        """Keeps a message, behind whatever its subject has; its own number.

        Where an answer is lost it is kept once more, and the number is that of the last one.
        Raises FullError, AwayError, RefusedError.
        """
        try:
            answer = await self._insist(subject, data, {}, patience_s, _Tries(_PART_TRY_S))
        except RefusedError as error:
            raise _full(error) from error
        return int(answer["seq"])

    async def at(
        self, stream: str, sequence: int, patience_s: float = PATIENCE_S
    ) -> Message | None:
        """The message with a number. Raises AwayError, RefusedError.

        Whichever server has it hands it out as it is; what none has is asked of the leader.
        """
        subject, asked = f"{_API}DIRECT.GET.{stream}", json.dumps({"seq": sequence}).encode()
        try:
            found = await self._request(subject, asked, _PART_TRY_S)
            if found.headers and not _status(found):
                return Message(found.headers["Nats-Subject"], sequence, found.data)
        except (nats.errors.Error, TimeoutError, OSError):
            self._check_allowed(subject)
        return await self._message(stream, {"seq": sequence}, patience_s, _PART_TRY_S)

    async def last(self, stream: str, subject: str) -> Message | None:
        """The last message of a subject. Raises AwayError, RefusedError."""
        return await self._message(stream, {"last_by_subj": subject}, PATIENCE_S)

    async def next(
        self, stream: str, subject: str, sequence: int, patience_s: float = PATIENCE_S
    ) -> Message | None:
        """The first message of a subject from a number on. Raises AwayError, RefusedError."""
        return await self._message(stream, {"seq": sequence, "next_by_subj": subject}, patience_s)

    async def purge(self, stream: str, subject: str, up_to: int = 0) -> None:
        """Removes the messages of a subject, those up to a number; 0 for all of them.

        A server that is killed may have them back. Raises AwayError, RefusedError.
        """
        body = {"filter": subject} | ({"seq": up_to + 1} if up_to else {})
        await self.call(f"STREAM.PURGE.{stream}", body)

    async def delete(self, stream: str, sequence: int) -> None:
        """Removes one message; it may be gone already. Raises AwayError, RefusedError."""
        try:
            await self.call(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except RefusedError as error:
            if error.code not in _NOT_THERE:
                raise

    async def _message(
        self, stream: str, which: dict[str, Any], patience_s: float, try_s: float = _TRY_S
    ) -> Message | None:
        subject, asked = f"{_API}STREAM.MSG.GET.{stream}", json.dumps(which).encode()
        try:
            answer = await self._insist(subject, asked, {}, patience_s, _Tries(try_s))
        except RefusedError as error:
            if error.code == _NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        data = base64.b64decode(message.get("data", ""))
        time_s = seconds_of(message["time"])
        return Message(message["subject"], int(message["seq"]), data, time_s)

    async def _insist(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, Any],
        patience_s: float,
        tries: "_Tries | None" = None,
    ) -> dict[str, Any]:
        until = time.monotonic() + patience_s
        tries = tries or _Tries()
        while True:
            try:
                reply = await self._request(subject, data, tries.each_s, headers=headers or None)
                answer: dict[str, Any] = json.loads(reply.data)
                refusal = answer.get("error")
                if not refusal:
                    return answer
                sentence, code = f"{refusal.get('description')} ({subject})", refusal["err_code"]
                if refusal["code"] != _AWAY_CODE or code in _FULL:
                    raise RefusedError(code, sentence)
            except (nats.errors.NoRespondersError, nats.errors.OutboundBufferLimitError) as error:
                sentence = said(error)  # and nobody has it
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._check_allowed(subject)
                tries.unsure = True
                sentence = said(error)
            if time.monotonic() > until:
                raise AwayError(
                    f"the NATS server does not answer ({sentence})", unsure=tries.unsure
                )
            await asyncio.sleep(_PAUSE_S)

    async def _request(
        self,
        subject: str,
        data: bytes,
        timeout_s: float = _TRY_S,
        *,
        headers: dict[str, Any] | None = None,
        old_style: bool = False,
    ) -> Msg:
        asked = self._client.request(
            subject, data, timeout=timeout_s, headers=headers, old_style=old_style
        )
        try:
            return await alone(asked)
        except nats.errors.MaxPayloadError as error:  # it stays so, however often it is asked
            raise RefusedError(
                0, f"the NATS server takes {self.most_bytes} bytes at most, not {len(data)}"
            ) from error

    # Work queues:

    async def pull(self, stream: str, consumer: str, within_s: float = _PULL_S) -> Ticket | None:
        """A message of a work queue that is there, or comes in time. Raises AwayError."""
        subject = f"{_API}CONSUMER.MSG.NEXT.{stream}.{consumer}"
        try:
            # in the old style: the other one's inbox drops a message that has its own subject
            message = await self._request(
                subject,
                json.dumps({"batch": 1, "expires": int(within_s * 1e9)}).encode(),
                within_s + _TRY_S,
                old_style=True,
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self._check_allowed(subject)
            raise AwayError(f"the NATS server does not answer ({said(error)})") from error
        if _status(message):
            return None
        return Ticket(message.subject, message.reply, message.data)

    async def done(self, ticket: Ticket) -> None:
        """Takes a ticket out of the queue. One that stays comes again."""
        await self._speak_of(ticket, b"+ACK")

    async def put_back(self, ticket: Ticket, after_s: float) -> None:
        """Has a ticket come again after a time, to whoever pulls then."""
        delay = json.dumps({"delay": int(after_s * 1e9)})
        await self._speak_of(ticket, f"-NAK {delay}".encode())

    async def _speak_of(self, ticket: Ticket, said_of: bytes) -> None:
        try:
            await self._request(ticket.reply, said_of)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            _log.warning("a ticket comes again", subject=ticket.subject, error=said(error))

    # Streams:

    async def read(self, stream: str, subject: str, start: int = 0) -> AsyncGenerator[Message]:
        """The messages of a subject that are there, from a number on, in their order.

        `subject` may be a pattern. Each is asked of the stream's leader: a consumer is wherever the
        cluster has put it, on a server that is behind or hangs. Raises AwayError, RefusedError.
        """
        while (message := await self.next(stream, subject, start)) is not None:
            yield message
            start = message.sequence + 1

    async def lasts(self, stream: str, subject: str) -> AsyncGenerator[Message]:
        """The last message of each subject of a pattern, in no order.

        Raises AwayError, RefusedError.
        """
        async for names in self.subjects(stream, subject):
            for at in range(0, len(names), _AT_ONCE):
                some = (self.last(stream, name) for name in names[at : at + _AT_ONCE])
                for message in await asyncio.gather(*some):
                    if message is not None:  # it may have been removed
                        yield message

    async def subjects(self, stream: str, pattern: str) -> AsyncGenerator[list[str]]:
        """The subjects of a pattern that have messages, many at once, in no order.

        Raises AwayError, RefusedError.
        """
        offset, total = 0, 1
        while offset < total:
            asked = {"subjects_filter": pattern, "offset": offset}
            info = await self.call(f"STREAM.INFO.{stream}", asked)
            names: list[str] = list(info["state"].get("subjects") or ())
            offset, total = offset + len(names), int(info.get("total", 0)) if names else 0
            yield names

    # What is said once:

    async def listen(
        self, subject: str, hear: Callable[[Message], None]
    ) -> Callable[[], Awaitable[None]]:
        """Has a function called for each message that is said; ends with what comes back.

        What a stream publishes again has its number there; what was said while the connection was
        away is missing. Raises AwayError.
        """

        async def on(message: Msg) -> None:
            number = int((message.headers or {}).get("Nats-Sequence", 0))
            hear(Message(message.subject, number, message.data))

        return (await self._subscribed(subject, on)).unsubscribe

    async def answer(self, subject: str) -> Callable[[], Awaitable[None]]:
        """Answers who asks if somebody is there; ends with what comes back. Raises AwayError."""

        async def on(message: Msg) -> None:
            with contextlib.suppress(nats.errors.Error):
                await message.respond(b"+")

        return (await self._subscribed(subject, on)).unsubscribe

    async def serve(
        self, subject: str, answer: Callable[[bytes], Awaitable[bytes]]
    ) -> Callable[[], Awaitable[None]]:
        """Answers questions, many at once; ends with what comes back. Raises AwayError."""
        answering: set[asyncio.Future[None]] = set()

        async def reply(message: Msg) -> None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await message.respond(await answer(message.data))

        async def on(message: Msg) -> None:
            task = asyncio.ensure_future(reply(message))
            answering.add(task)
            task.add_done_callback(answering.discard)

        return (await self._subscribed(subject, on)).unsubscribe

    async def ask(self, subject: str, data: bytes, within_s: float = _TRY_S) -> bytes | None:
        """What somebody answers; None where nobody is there. Raises AwayError, RefusedError."""
        try:
            return (await self._request(subject, data, within_s)).data
        except nats.errors.NoRespondersError:
            return None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self._check_allowed(subject)
            raise AwayError(f"nobody answers ({said(error)})", unsure=True) from error

    async def ask_all(self, subject: str, within_s: float) -> list[bytes]:
        """What all answer who answer in time. Raises AwayError."""
        answers: list[bytes] = []

        async def on(message: Msg) -> None:
            if not _status(message):  # else nobody is there
                answers.append(message.data)

        inbox = self._client.new_inbox()
        subscription = await self._subscribed(inbox, on)
        try:
            await alone(self._client.publish(subject, b"", reply=inbox))
            await asyncio.sleep(within_s)
            await alone(subscription.unsubscribe())
        except (nats.errors.Error, OSError) as error:
            raise AwayError(f"the NATS server does not answer ({said(error)})") from error
        self._check_allowed(subject)
        return answers

    @property
    def connected(self) -> bool:
        """Whether there is a connection just now."""
        return self._client.is_connected

    async def _subscribed(
        self, subject: str, on: Callable[[Msg], Awaitable[None]] | None = None
    ) -> Subscription:
        client: Any = self._client  # of `subscribe` (2.16.0) some types are unknown
        try:
            subscription = await alone(client.subscribe(subject, cb=on))
            await alone(
                client.flush(_TRY_S)
            )  # behind it the server has said whether that is allowed
        except nats.errors.Error as error:
            raise AwayError(f"the NATS server does not answer ({said(error)})") from error
        self._check_allowed(subject)
        return subscription

    async def is_answered(self, subject: str, timeout_s: float) -> bool:
        """Whether somebody answers a question. Raises AwayError while the connection is away."""
        try:
            await self._request(subject, b"", timeout_s)
        except nats.errors.NoRespondersError:
            return False
        except (nats.errors.TimeoutError, TimeoutError) as error:
            if self._client.is_connected:
                return False
            raise AwayError("the NATS server has gone") from error
        except nats.errors.Error as error:
            raise AwayError(f"the NATS server does not answer ({said(error)})") from error
        return True


@dataclass(slots=True)
class _Tries:
    """How long each waits, and whether one of them may have been kept."""

    each_s: float = _TRY_S
    unsure: bool = False


def _full(error: RefusedError) -> LinkError:
    """The error of a limit, where it is one."""
    return FullError(str(error)) if error.code in _FULL else error


def seconds_of(time: str) -> float:
    """A time that a server tells, in seconds since 1970."""
    return datetime.fromisoformat(time).timestamp()


def _status(message: Msg) -> str:
    """What a server says in place of a message; "" for a message."""
    return str((message.headers or {}).get("Status", ""))
