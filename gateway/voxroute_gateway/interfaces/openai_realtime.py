"""OpenAI's realtime API for transcription: WebSockets, and short-lived tokens for them."""

import asyncio
from typing import Any

from aiohttp import web

from voxroute_gateway.answers import JSON, as_json, response
from voxroute_gateway.description import (
    INTEGER,
    STRING,
    Operation,
    Schema,
    fields,
    whole,
)
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.interfaces.realtime_items import new_id
from voxroute_gateway.interfaces.realtime_socket import RealtimeSocket
from voxroute_gateway.live.secrets import MOST_S, TOKEN
from voxroute_gateway.live.session import TranscriptionSession, object_of
from voxroute_gateway.uploads import json_object

PATH = "/v1/realtime"
_PROTOCOL = "realtime"
_TOKEN_PROTOCOL = "openai-insecure-api-key."  # noqa: S105 - OpenAI's name for what follows it
_BETA_PROTOCOL = "openai-beta.realtime-v1"
_SECONDS = 60

_OBJECT: Schema = {"type": "object"}
_AFTER = fields((), anchor=STRING, seconds={**INTEGER, "minimum": 1})
_SECRET = whole(value=STRING, expires_at=INTEGER)


def offered_token(request: web.Request) -> str:
    """The token among the subprotocols, where a page has to put it; "" for none."""
    for one in _protocols(request):
        if one.startswith(_TOKEN_PROTOCOL):
            return one.removeprefix(_TOKEN_PROTOCOL)
    return ""


def _protocols(request: web.Request) -> list[str]:
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
    return [one.strip() for one in offered.split(",") if one.strip()]


class OpenAiRealtime:
    """The routes below /v1/realtime."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._leaving = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [
            web.get(PATH, self.realtime, allow_head=False),
            web.post(f"{PATH}/client_secrets", self.client_secrets),
            web.post(f"{PATH}/transcription_sessions", self.transcription_sessions),
        ]

    async def leave(self, app: web.Application) -> None:
        """Ends the sessions, with what was said in them."""
        del app
        self._leaving.set()

    @Operation({101: {}}, (403, 426, 429), query={"model": STRING, "intent": STRING})
    async def realtime(self, request: web.Request) -> web.StreamResponse:
        """A session over a WebSocket: speech in, its text out. Raises RequestError."""
        offered = _protocols(request)
        if offered and _PROTOCOL not in offered:
            # also because aiohttp would write those that it does not take into the log
            raise RequestError(400, "offer the subprotocol realtime", "bad_subprotocol")
        socket = web.WebSocketResponse(
            protocols=(_PROTOCOL,) if offered else (),
            max_msg_size=self._gateway.settings.max_live_message_bytes,
            autoping=False,
            compress=False,  # base64 of sound is not worth it
        )
        if not socket.can_prepare(request).ok:
            raise RequestError(
                426, "this is a WebSocket; connect to it as one", "upgrade_required",
                more={"Upgrade": "websocket"},
            )  # fmt: skip
        with self._gateway.live.place("realtime"):
            await socket.prepare(request)
            beta = "realtime=v1" in request.headers.get("OpenAI-Beta", "")
            older = beta or _BETA_PROTOCOL in offered
            session = self._session(request)
            await RealtimeSocket(socket, self._gateway.upstream, session, older=older).run(
                self._leaving
            )
        return socket

    def _session(self, request: web.Request) -> TranscriptionSession:
        for token in (
            request.headers.get("Authorization", "").partition(" ")[2].strip(),
            request.headers.get("X-Api-Key", ""),
            request.query.get("api_key", ""),
            offered_token(request),
        ):
            known = self._gateway.secrets.session_of(token)
            if known is not None:
                return known
        model = request.query.get("model", "")
        return TranscriptionSession(model=model[:200].encode(errors="ignore").decode())

    @Operation(
        {200: {JSON: whole(value=STRING, expires_at=INTEGER, session=_OBJECT)}},
        (429,),
        body={JSON: fields((), expires_after=_AFTER, session=_OBJECT)},
        body_required=False,
    )
    async def client_secrets(self, request: web.Request) -> web.Response:
        """A token for /v1/realtime that is good for a while, with the session's options."""
        asked = await _body(request)
        after = object_of(asked.get("expires_after"), "expires_after")
        seconds: object = after.get("seconds", _SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1:
            raise bad_field("expires_after.seconds", "write a whole number of seconds")
        session = _updated(object_of(asked.get("session"), "session"))
        value, expires_at = self._gateway.secrets.issue(
            session, min(seconds, MOST_S), request.get(TOKEN, b"")
        )
        shown = session.shown(new_id("sess"))
        return response(as_json({"value": value, "expires_at": expires_at, "session": shown}))

    @Operation(
        {200: {JSON: fields(("client_secret",), client_secret=_SECRET)}},
        (429,),
        body={JSON: _OBJECT},
        body_required=False,
    )
    async def transcription_sessions(self, request: web.Request) -> web.Response:
        """The same as clients of the beta ask for it: the body is the session."""
        session = _updated(await _body(request))
        value, expires_at = self._gateway.secrets.issue(session, _SECONDS, request.get(TOKEN, b""))
        shown = session.shown_older(new_id("sess"))
        secret = {"value": value, "expires_at": expires_at}
        return response(as_json({**shown, "client_secret": secret}))


async def _body(request: web.Request) -> dict[str, Any]:
    return await json_object(request) if request.can_read_body else {}


def _updated(given: dict[str, Any]) -> TranscriptionSession:
    return TranscriptionSession().updated(given)
