"""Tokens for a page or a telephone, which are good for minutes and for live speech alone."""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from aiohttp import web

from voxroute_gateway.errors import RequestError
from voxroute_serving.security.tokens import digest_of

S = TypeVar("S")

TOKEN = web.RequestKey("token", bytes)
"""The digest of the token with which a request came."""

MOST_S = 3600
_MOST = 1000  # at once; each keeps its session's options
_PREFIX = "ek"
_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class _Known(Generic[S]):
    digest: bytes
    token: bytes
    expires_at: float
    session: S


@dataclass(slots=True)
class Secrets(Generic[S]):
    """The tokens that are good now, each with the options that it stands for.

    None is good for longer than the token for which it was made. They are
    kept in memory, by their digests: a gateway that starts anew knows none.
    """

    clock: Callable[[], float] = time.time
    _known: dict[str, _Known[S]] = field(default_factory=dict[str, _Known[S]])

    def issue(self, session: S, seconds: float, token: bytes = b"") -> tuple[str, int]:
        """A new token, and until when it is good, as Unix time.

        `token` is the digest of the one that asks for it; none where no tokens are asked for.
        Raises RequestError where there are too many.
        """
        now = self.clock()
        for name in [name for name, one in self._known.items() if one.expires_at <= now]:
            del self._known[name]
        if len(self._known) >= _MOST:
            raise RequestError(
                429, "too many short-lived tokens are good now; try again later",
                "too_many_secrets", None, _RETRY_AFTER_S,
            )  # fmt: skip
        name, secret = secrets.token_hex(8), secrets.token_hex(24)
        expires_at = math.ceil(now + seconds)
        self._known[name] = _Known(digest_of(secret), token, expires_at, session)
        return f"{_PREFIX}_{name}_{secret}", expires_at

    def session_of(
        self, token: str, is_known: Callable[[bytes], bool] = lambda _: True
    ) -> S | None:
        """What the token stands for; None where it is not known or no longer good.

        `is_known` says whether the token is good for which it was made, by its digest.
        """
        prefix, _, rest = token.partition("_")
        name, _, secret = rest.partition("_")
        known = self._known.get(name) if prefix == _PREFIX else None
        # by the digest, and one there always is, so that the time tells nothing of the secret
        expected = known.digest if known is not None else bytes(hashlib.sha256().digest_size)
        if not hmac.compare_digest(expected, digest_of(secret)) or known is None:
            return None
        is_good = known.expires_at > self.clock() and is_known(known.token)
        return known.session if is_good else None
