"""Who is signed in to the page: a cookie for a token, since players and links send no headers."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from voxroute_gateway.answers import JSON, as_json, response
from voxroute_gateway.description import BOOLEAN, STRING, Operation, whole
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_gateway.uploads import json_object
from voxroute_serving.security.tokens import TokenFile, digest_of

PATH = "/ui/session"
LONGEST_S = 7 * 24 * 3600.0
_MOST = 1000

_TOLD = {200: {JSON: whole(asked=BOOLEAN, signed_in=BOOLEAN)}}


@dataclass(frozen=True, slots=True)
class _Session:
    token: bytes
    """The digest of the token that it was made from."""
    expires_at: float


@dataclass(slots=True)
class Sessions:
    """The sessions that are good now, in memory and by digests: they end with the gateway.

    Each is as good as its token, and no longer than that.
    """

    tokens: TokenFile | None
    """None where no tokens are asked for; then nobody signs in."""
    clock: Callable[[], float] = time.monotonic
    _known: dict[bytes, _Session] = field(default_factory=dict[bytes, _Session])

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [
            web.get(PATH, self.tell, allow_head=False),
            web.post(PATH, self.sign_in),
            web.delete(PATH, self.sign_out),
        ]

    def begin(self, token: str) -> str:
        """A new session's secret. Raises RequestError for a token that is not known.

        Where there are too many, the oldest ends.
        """
        if self.tokens is None or self.tokens.name_of(token) is None:
            raise RequestError(401, "this token is not known here", "invalid_api_key")
        now = self.clock()
        for digest in [one for one, known in self._known.items() if known.expires_at <= now]:
            del self._known[digest]
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        secret = secrets.token_urlsafe(32)
        self._known[digest_of(secret)] = _Session(digest_of(token), now + LONGEST_S)
        return secret

    def token_of(self, request: web.Request) -> bytes | None:
        """The digest of the token of somebody who is signed in; None of anybody else."""
        # by the digest of 32 random bytes: how long it takes to find tells nothing of the secret
        digest = digest_of(request.cookies.get(_cookie(request), ""))
        known = self._known.get(digest)
        if known is None or self.tokens is None:
            return None
        if known.expires_at <= self.clock() or self.tokens.name_of_digest(known.token) is None:
            del self._known[digest]
            return None
        return known.token

    @Operation(_TOLD)
    async def tell(self, request: web.Request) -> web.Response:
        """Whether a token is asked for, and whether this browser is signed in."""
        return self._told(signed_in=self.tokens is None or self.token_of(request) is not None)

    @Operation(_TOLD, (403,), body={JSON: whole(token=STRING)})
    async def sign_in(self, request: web.Request) -> web.Response:
        """A session for a token, as a cookie."""
        token = (await json_object(request)).get("token", "")
        if not isinstance(token, str):
            raise bad_field("token", "write a text")
        if self.tokens is None:
            return self._told(signed_in=True)
        secret = self.begin(token.strip())
        answer = self._told(signed_in=True)
        answer.set_cookie(
            _cookie(request), secret, path="/", max_age=int(LONGEST_S),
            httponly=True, samesite="Strict",
            # where something in front of the gateway ends TLS, the browser says so by its origin
            secure=request.secure or request.headers.get("Origin", "").startswith("https:"),
        )  # fmt: skip
        return answer

    @Operation(_TOLD, (403,))
    async def sign_out(self, request: web.Request) -> web.Response:
        """Ends the session."""
        self._known.pop(digest_of(request.cookies.get(_cookie(request), "")), None)
        answer = self._told(signed_in=self.tokens is None)
        answer.del_cookie(_cookie(request), path="/", httponly=True, samesite="Strict")
        return answer

    def _told(self, *, signed_in: bool) -> web.Response:
        told = {"asked": self.tokens is not None, "signed_in": signed_in}
        return response(as_json(told, {"Cache-Control": "no-store"}))


def _cookie(request: web.Request) -> str:
    """The cookie's name: browsers keep those of all ports of a host together."""
    port = request.host.rpartition(":")[2]
    return f"voxroute_session_{port}" if port.isdecimal() else "voxroute_session"
