"""Tokens for a page or a telephone, which are good for minutes and for live speech alone."""

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from voxroute_gateway.errors import RequestError

S = TypeVar("S")

MOST_S = 3600
_MOST = 1000  # at once; each keeps its session's options
_PREFIX = "ek"
_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class _Known(Generic[S]):
    digest: bytes
    expires_at: float
    session: S


@dataclass(slots=True)
class Secrets(Generic[S]):
    """The tokens that are good now, each with the options that it stands for.

    They are kept in memory, by their digests: a gateway that starts anew knows none.
    """

    clock: Callable[[], float] = time.time
    _known: dict[str, _Known[S]] = field(default_factory=dict[str, _Known[S]])

    def issue(self, session: S, seconds: float) -> tuple[str, int]:
        """A new token, and until when it is good, as Unix time.

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
        self._known[name] = _Known(_digest(secret), expires_at, session)
        return f"{_PREFIX}_{name}_{secret}", expires_at

    def session_of(self, token: str) -> S | None:
        """What the token stands for; None where it is not known or no longer good."""
        prefix, _, rest = token.partition("_")
        name, _, secret = rest.partition("_")
        known = self._known.get(name) if prefix == _PREFIX else None
        # by the digest, and one there always is, so that the time tells nothing of the secret
        expected = known.digest if known is not None else bytes(hashlib.sha256().digest_size)
        if not hmac.compare_digest(expected, _digest(secret)) or known is None:
            return None
        return known.session if known.expires_at > self.clock() else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
