"""One WebSocket of OpenAI's realtime API: the client's events in, the session's events out."""

import asyncio
import base64
import binascii
import contextlib
import json
import time
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from aiohttp import WSCloseCode, WSMsgType, web

from voxroute_gateway.errors import RequestError, bad_field, of_failure
from voxroute_gateway.interfaces.realtime_items import Event, Items, new_id
from voxroute_gateway.live.session import TranscriptionSession
from voxroute_gateway.live.stream import LiveStream
from voxroute_gateway.upstream import Upstream
from voxroute_serving.telemetry.logs import get_logger

_PING_S = 20.0
_DEAD_S = 60.0  # without a sign of life, or with answers that are not read
_LEAVING_S = 10.0  # for what was said before the gateway ends
_TRY_AGAIN = WSCloseCode.TRY_AGAIN_LATER
_SERVER_ERROR = 500
_AWAY = frozenset({429, 503, 504})
_MAX_ID = 512  # characters of a client's event_id that come back

_log = get_logger(__name__)


class RealtimeSocket:
    """A session, from its first event to the end of the connection."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        upstream: Upstream,
        session: TranscriptionSession,
        *,
        older: bool,
    ) -> None:
        """`older` is whether the client knows the events of the beta alone."""
        self._socket = socket
        self._upstream = upstream
        self._session = session
        self._id = new_id("sess")
        self._items = Items(older=older)
        self._stream: LiveStream | None = None
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()  # of the stream that was finished
        self._position_s = 0.0
        self._uncommitted = False
        self._sign_at = time.monotonic()
        self._reading = True  # no, where the service does not keep up

    async def run(self, leaving: asyncio.Event) -> None:
        """Serves the client until it leaves, the session fails, or the gateway is `leaving`."""
        await self._send({"type": "session.created", "session": self._session.shown(self._id)})
        reading = asyncio.ensure_future(self._read())
        telling = asyncio.ensure_future(self._tell())
        tasks = [reading, telling, *map(_task, (self._watch(), leaving.wait()))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._socket.closed or (reading in done and reading.exception() is None):
                return
            if leaving.is_set() and not done & {reading, telling}:
                reading.cancel()
                await self._finish(telling)
            await self._fail(reading if reading in done else telling)
        except ConnectionError:
            pass  # the client has left
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._socket.close()

    async def _finish(self, telling: "asyncio.Task[None]") -> None:
        """Tells what was said, before the gateway ends."""
        if self._stream is not None:
            finishing = _task(self._close_stream())
            await asyncio.wait(
                [finishing, telling], timeout=_LEAVING_S, return_when=asyncio.FIRST_COMPLETED
            )
            finishing.cancel()

    async def _fail(self, task: "asyncio.Task[None]") -> None:
        """Ends the session with why the task has ended, in an event and in the code of the end."""
        error = task.exception() if task.done() and not task.cancelled() else None
        if isinstance(error, ConnectionError):
            raise error
        if error is None:
            failure = RequestError(503, "the gateway ends; connect again", "unavailable")
        else:
            failure = of_failure(error)
            defect = failure.status == _SERVER_ERROR
            tell = _log.error if defect else _log.info
            tell(
                "a session ends", status=failure.status, exc_info=error if failure.is_own else None
            )
        kind = failure.kind if failure.status < _SERVER_ERROR else "server_error"
        await self._error(failure, None, kind)
        again = failure.status in _AWAY
        code = _TRY_AGAIN if again else WSCloseCode.INTERNAL_ERROR
        if failure.status < _SERVER_ERROR and not again:
            code = WSCloseCode.POLICY_VIOLATION
        await self._socket.close(code=code, message=failure.message.encode()[:120])

    async def _send(self, event: Mapping[str, Any]) -> None:
        told = {"event_id": new_id("event"), **event}
        try:
            async with asyncio.timeout(_DEAD_S):
                # in ASCII: an event_id that comes back may hold half of a character
                await self._socket.send_str(json.dumps(told))
        except TimeoutError as error:
            raise ConnectionResetError("the client does not read") from error

    async def _error(self, failure: RequestError, event_id: object, kind: str) -> None:
        about: Event = {**cast("Event", failure.openai()["error"]), "type": kind}
        about["event_id"] = event_id[:_MAX_ID] if isinstance(event_id, str) else None
        await self._send({"type": "error", "error": about})

    async def _watch(self) -> None:
        """Returns once the client is dead."""
        # aiohttp's own heartbeat ends connections that are not read for a while, as where a model
        # is loaded
        while not self._socket.closed:
            await asyncio.sleep(_PING_S)
            if self._reading and time.monotonic() - self._sign_at > _DEAD_S:
                await self._socket.close()
                return
            await self._socket.ping()

    async def _tell(self) -> None:
        """Sends what the services tell. Raises what ends the session."""
        while True:
            await self._opened.wait()
            self._opened.clear()
            stream = cast("LiveStream", self._stream)
            self._items.manual = self._session.turn_detection is None
            async with contextlib.aclosing(stream.events()) as replies:
                async for reply in replies:
                    for event in self._items.events(reply):
                        await self._send(event)
            for event in self._items.ended():
                await self._send(event)
            self._stream = None
            self._closed.set()

    async def _read(self) -> None:
        """Takes the client's events until it closes the connection."""
        while True:
            self._reading = True
            message = await self._socket.receive()
            self._sign_at, self._reading = time.monotonic(), False
            match message.type:
                case WSMsgType.TEXT:
                    await self._take(cast("str", message.data))
                case WSMsgType.BINARY:
                    wrong = RequestError(400, "send events as texts", "invalid_event")
                    await self._error(wrong, None, wrong.kind)
                case WSMsgType.PING:
                    await self._socket.pong(cast("bytes", message.data))
                case WSMsgType.PONG:
                    pass
                case _:
                    return

    async def _take(self, text: str) -> None:
        event: dict[str, Any] = {}
        try:
            event = _event(text)
            await self._handle(event)
        except RequestError as failure:
            await self._error(failure, event.get("event_id"), failure.kind)

    async def _handle(self, event: dict[str, Any]) -> None:
        """Does what an event asks. Raises RequestError."""
        match event.get("type"):
            case "input_audio_buffer.append":
                await self._append(event)
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                await self._clear()
            case "session.update" | "transcription_session.update" as kind:
                await self._update(event, older=kind != "session.update")
            case _:
                raise bad_field("type", "transcription sessions know no such event")

    async def _append(self, event: dict[str, Any]) -> None:
        try:
            samples = base64.b64decode(event.get("audio", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise bad_field("audio", "it is no base64") from None
        if not samples:
            return
        if self._stream is None:
            self._stream = LiveStream(self._upstream, self._session.config(), self._position_s)
            self._opened.set()
        self._uncommitted = True
        await self._stream.audio(samples)
        self._position_s = self._stream.position_s

    async def _commit(self) -> None:
        if not self._uncommitted:
            raise RequestError(
                400, "there is no audio to commit; append some first",
                "input_audio_buffer_commit_empty",
            )  # fmt: skip
        self._uncommitted = False
        if self._stream is not None:  # else new options have ended the utterance
            await self._stream.end_utterance()

    async def _clear(self) -> None:
        if self._stream is not None:
            await self._stream.drop_utterance()
        self._uncommitted = False
        await self._send({"type": "input_audio_buffer.cleared"})

    async def _update(self, event: dict[str, Any], *, older: bool) -> None:
        given = event.get("session")
        if not isinstance(given, dict):
            raise bad_field("session", "write an object")
        session = self._session.updated(cast("dict[str, Any]", given))
        if self._stream is not None and session.config() != self._session.config():
            await self._close_stream()
        self._session = session
        if older:
            self._items.older = True
            shown = session.shown_older(self._id)
            await self._send({"type": "transcription_session.updated", "session": shown})
        else:
            await self._send({"type": "session.updated", "session": session.shown(self._id)})

    async def _close_stream(self) -> None:
        """Ends the call that goes on, once all is told that was said into it."""
        stream = self._stream
        if stream is not None:
            self._closed.clear()
            await stream.finish()
            await self._closed.wait()


def _task(work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    return asyncio.ensure_future(work)


def _event(text: str) -> dict[str, Any]:
    """An event of the client. Raises RequestError."""
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(400, "the event is no JSON", "invalid_json") from None
    if not isinstance(found, dict):
        raise RequestError(400, "the event is no JSON object", "invalid_json")
    return cast("dict[str, Any]", found)
