"""All routes, and what surrounds every request: its id, who sends it, how it is counted."""

import asyncio
import time

from aiohttp import web, web_response
from aiohttp.typedefs import Handler, Middleware

from voxroute_gateway.answers import ENDED_WITH, HEARTBEAT_S, JSON, TEXT, Answer, as_json, response
from voxroute_gateway.description import STRING, Operation, document, whole
from voxroute_gateway.errors import CLIENT_LEFT, RequestError, Wording, of_failure, wording
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.interfaces.jobs import Jobs
from voxroute_gateway.interfaces.libretranslate import Translations
from voxroute_gateway.interfaces.openai_audio import OpenAiAudio
from voxroute_gateway.interfaces.openai_realtime import PATH, OpenAiRealtime, offered_token
from voxroute_gateway.interfaces.resumable import ResumableUploads
from voxroute_gateway.interfaces.transcripts import Transcripts
from voxroute_gateway.interfaces.whisper_asr import WhisperAsr
from voxroute_gateway.live.secrets import TOKEN
from voxroute_gateway.metrics import GatewayMetrics
from voxroute_gateway.page.files import FOLDER, PageFiles
from voxroute_gateway.page.services import Services
from voxroute_gateway.page.sessions import Sessions
from voxroute_gateway.uploads import json_object, small_form
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_serving.security.tokens import TokenFile, digest_of
from voxroute_serving.telemetry import logs, request_ids, tracing

_OPEN = frozenset(
    {"/", "/health", "/status", "/openapi.json"}
)  # what a program asks before it has a token, and what a person sees before signing in
_TO_PAGES = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    # a star means no Authorization
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "600",
}
_FIELDS_ONLY = frozenset({"/translate", "/detect"})  # LibreTranslate's
_OWN = ("/api/jobs", "/api/uploads", "/api/services", FOLDER)
"""What no page of another host may change unless it is named, even where no token is asked for."""
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_INERT = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Of what is no page: where a browser opens it as one, no script in it runs."""
_MAX_BODY_BYTES = 8 * 1024 * 1024  # of JSON and of forms without a file

_DESCRIPTION = web.AppKey("description", Answer)
_ID = web.RequestKey("request_id", str)
_log = logs.get_logger(__name__)


def build(gateway: Gateway, metrics: GatewayMetrics, tokens: TokenFile | None) -> web.Application:
    """The application."""
    # what it runs on goes out with no answer, also not with those to what is no HTTP
    web_response.SERVER_SOFTWARE = "voxroute"  # pyright: ignore[reportPrivateImportUsage] - no other way
    page, sessions = PageFiles(), Sessions(tokens)
    surrounding = _Surrounding(gateway, metrics, tokens, sessions)
    app = web.Application(middlewares=[surrounding.handle], client_max_size=_MAX_BODY_BYTES)
    app.on_response_prepare.append(_tell_id)
    app.on_response_prepare.append(surrounding.allow_page)
    app.on_response_prepare.append(_make_inert)
    uploads = ResumableUploads(gateway)
    jobs = Jobs(gateway, uploads)
    realtime = OpenAiRealtime(gateway)
    for interface in (
        OpenAiAudio(gateway), realtime, WhisperAsr(gateway), Translations(gateway), uploads, jobs,
        Transcripts(gateway), Services(gateway), sessions, page,
    ):  # fmt: skip
        app.add_routes(interface.routes())
    app.on_shutdown.append(jobs.leave)
    app.on_shutdown.append(realtime.leave)
    app.on_cleanup.append(uploads.close)
    app.router.add_get("/health", _health)
    app.router.add_get("/openapi.json", _openapi)
    app[HEARTBEAT_S] = gateway.settings.heartbeat_s
    app[_DESCRIPTION] = as_json(document(app, gateway.version))
    return app


async def _tell_id(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers[request_ids.METADATA_KEY] = request.get(_ID, "")


async def _make_inert(request: web.Request, answer: web.StreamResponse) -> None:
    del request
    answer.headers.setdefault("Content-Security-Policy", _INERT)


@Operation({200: {JSON: whole(status=STRING)}})
async def _health(request: web.Request) -> web.Response:
    """Whether the gateway serves."""
    del request
    return response(as_json({"status": "ok"}))


@Operation({200: {JSON: {"type": "object"}}})
async def _openapi(request: web.Request) -> web.Response:
    """All routes, as OpenAPI describes them."""
    return response(request.app[_DESCRIPTION])


class _Surrounding:
    """What happens around every request."""

    def __init__(
        self,
        gateway: Gateway,
        metrics: GatewayMetrics,
        tokens: TokenFile | None,
        sessions: Sessions,
    ) -> None:
        self._metrics = metrics
        self._tokens = tokens
        self._sessions = sessions
        self._secrets = gateway.secrets
        self._origins = frozenset(gateway.settings.cors_origins)
        self._hosts = frozenset(map(str.lower, gateway.settings.allowed_hosts))

    @property
    def handle(self) -> Middleware:
        """The middleware."""

        @web.middleware
        async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
            request_id = request_ids.bind(request.headers.get(request_ids.METADATA_KEY))
            request[_ID] = request_id
            return await self._counted(request, handler)

        return around

    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        status, began = CLIENT_LEFT, time.monotonic()
        with tracing.request_span(request.method, route, request.headers) as span:
            try:
                with self._metrics.request():
                    answer = await self._answered(request, handler)
                status = answer.status
                return answer
            finally:
                status = request.get(ENDED_WITH, status)
                took_s = time.monotonic() - began
                tracing.end_request(span, status)
                self._metrics.requests.labels(route, str(status)).inc()
                self._metrics.seconds.labels(route).observe(took_s)
                _log.info("request", route=route, status=status, seconds=round(took_s, 3))

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_host(request)
            if self._asks_for_page(request):
                return web.Response(status=204, headers=_TO_PAGES)
            self._check_origin(request)
            await self._check_token(request)
            return await handler(request)
        except (asyncio.CancelledError, ConnectionResetError):
            raise  # the client has left
        except web.HTTPException as error:
            allow = error.headers.get("Allow")
            failure = RequestError(
                error.status, error.reason, "http", more={"Allow": allow} if allow else {}
            )
        except web.RequestPayloadError:
            failure = RequestError(400, "the body cannot be read", "bad_body")
        except UnicodeEncodeError:  # of "\ud800" in JSON
            failure = RequestError(400, "a text holds half of a character", "bad_text")
        except (RequestError, VoxrouteError, CallFailedError) as error:
            failure = of_failure(error)
            own = error if failure.is_own else None
            _log.info("request refused", status=failure.status, code=failure.code, exc_info=own)
        except Exception as error:  # noqa: BLE001 - nothing internal goes out
            failure = of_failure(error)
            _log.exception("request failed")
        return _refusal(request, failure)

    async def allow_page(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Lets the page that asked read the answer, if it is one of those that may (CORS)."""
        if self._is_allowed(request):
            answer.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            answer.headers["Access-Control-Expose-Headers"] = "*"
            answer.headers.add("Vary", "Origin")

    def _asks_for_page(self, request: web.Request) -> bool:
        """Whether a browser asks what a page may send, which it does without a token."""
        asks = "Access-Control-Request-Method" in request.headers
        return request.method == "OPTIONS" and asks and self._is_allowed(request)

    def _is_allowed(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        return origin is not None and not self._origins.isdisjoint({origin, "*"})

    def _check_host(self, request: web.Request) -> None:
        """Raises RequestError where the gateway is called by a name that it has not."""
        name = request.host.lower()
        host, colon, port = name.rpartition(":")
        host = host if colon and port.isdecimal() else name
        if self._hosts and host not in self._hosts:
            raise RequestError(
                403, "this is no name of the gateway; --allowed-hosts names those that it has",
                "host", "Host",
            )  # fmt: skip

    def _check_origin(self, request: web.Request) -> None:
        """Raises RequestError where a page would change what it must not even read."""
        if "Origin" not in request.headers or _from_own_page(request):
            return
        changes = request.method in _CHANGES and request.path.startswith(_OWN)
        # a page reads what a WebSocket answers, which a browser would not let it by HTTP
        if (changes or request.path == PATH) and not self._is_allowed(request):
            raise _foreign(
                "pages of this origin may not do this; --cors-origins names those that may"
            )

    def _is_known(self, token: bytes) -> bool:
        return self._tokens is not None and self._tokens.name_of_digest(token) is not None

    async def _check_token(self, request: web.Request) -> None:
        """Raises RequestError where tokens are asked for and this one is not known."""
        if self._tokens is None or request.path in _OPEN or request.path.startswith(FOLDER):
            return
        by_cookie = self._sessions.token_of(request)
        # what the page sends has no token in it, and is not read for one: it may be long
        offered = await _offered(request, in_body=by_cookie is None or not _from_own_page(request))
        if request.path == PATH and self._secrets.session_of(offered, self._is_known) is not None:
            return
        if offered and self._tokens.name_of(offered) is not None:
            request[TOKEN] = digest_of(offered)
            return
        signed_in = None if offered else by_cookie
        if signed_in is None:
            raise RequestError(401, "send a token that this gateway knows", "invalid_api_key")
        request[TOKEN] = signed_in
        # the browser adds the cookie by itself, whoever has it ask
        acts = request.method not in {"GET", "HEAD"} or request.path == PATH
        if acts and not _from_own_page(request):
            raise _foreign("who is signed in does this from the gateway's own page alone")


def _from_own_page(request: web.Request) -> bool:
    """Whether a browser says that the gateway's own page asks.

    By Sec-Fetch-Site, which is right behind a proxy too; browsers leave it out without TLS.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("Origin") == f"{request.scheme}://{request.host}"


def _foreign(why: str) -> RequestError:
    return RequestError(403, why, "origin", "Origin")


async def _offered(request: web.Request, *, in_body: bool) -> str:
    """The token of a request, wherever its client puts one; "" for none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    named = request.headers.get("X-Api-Key") or request.query.get("api_key")
    if named:
        return named.strip()
    if request.path == PATH:
        return offered_token(request)
    return await _in_body(request) if in_body else ""


async def _in_body(request: web.Request) -> str:
    # other forms are files, which are not read for this
    with_fields = request.content_type == "multipart/form-data" and request.path in _FIELDS_ONLY
    if with_fields or request.content_type == "application/x-www-form-urlencoded":
        return str((await small_form(request)).get("api_key", ""))
    # a transcript of many hours has none, and who is signed out is to be told that
    short = (request.content_length or 0) <= _MAX_BODY_BYTES
    if request.content_type == "application/json" and short:
        return str((await json_object(request)).get("api_key", ""))
    return ""


def _refusal(request: web.Request, failure: RequestError) -> web.Response:
    """The failure in the words of the interface that was asked."""
    headers = failure.headers()
    match wording(request.path):
        case Wording.TEXT:
            answer = Answer(f"error: {failure.message}\n", TEXT, headers)
        case Wording.OPENAI:
            answer = as_json(failure.openai(), headers)
        case Wording.SENTENCE:
            answer = as_json({"error": failure.message}, headers)
    return response(answer, failure.status)
