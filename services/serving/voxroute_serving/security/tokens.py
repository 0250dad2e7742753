"""Bearer tokens of clients, from a file.

One token a line, `NAME:TOKEN` or the token alone; blank lines and lines that begin with # do not
count. Several lines may have the same name, so that a client's old and new token are both good
while it changes them:

    # dubbing team, until December
    dubbing:8Jx0mZk2...
    dubbing:Qv7tR1ye...

The file is read again when it changes. What was added is good at once; what was taken out, once
nobody has written to the file for a second, since a file that is saved in place lacks lines while
it is written. Only digests of the tokens are kept.
"""

import errno
import hashlib
import hmac
import os
import re
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

from voxroute_serving.security.watched import Look, Watched
from voxroute_serving.telemetry.logs import get_logger

MIN_TOKEN_LENGTH = 16  # characters; `openssl rand -base64 32` gives 44
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # b64token of RFC 6750, section 2.1
_OTHERS = 0o077

_log = get_logger(__name__)


class TokenFileError(Exception):
    """The file of tokens cannot be used; the message says why, and holds no token."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The digest of a token and whose it is."""

    digest: bytes
    name: str


class TokenFile:
    """The tokens that are good now."""

    def __init__(self, path: Path) -> None:
        """Reads the file. Raises TokenFileError for one that is missing, empty or has a bad line.

        Stricter than what follows: a person is there to mend it.
        """
        self._path = path
        self._watched = Watched([path])
        self._lock = threading.Lock()
        self._coming: tuple[_Known, ...] = ()  # what stands in a file that may be half written
        self._known, problems = _parsed(self._text())
        if problems:
            raise TokenFileError(f"{path}: {problems[0]}")
        if not self._known:
            raise TokenFileError(
                f"{path} holds no token; write one a line, as NAME:TOKEN, or leave out"
                " --client-tokens"
            )
        if path.stat().st_mode & _OTHERS:
            _log.warning("other users of this host can read the tokens", path=str(path))

    def name_of(self, token: str) -> str | None:
        """Whose token it is; None where it is nobody's. Takes the same time for every token."""
        return self.name_of_digest(digest_of(token))

    def name_of_digest(self, digest: bytes) -> str | None:
        """The same of a token whose digest alone was kept."""
        self._refresh()
        name = None
        for known in (*self._coming, *self._known):  # all of them, whichever fits
            if hmac.compare_digest(known.digest, digest):
                name = known.name
        return name

    def _refresh(self) -> None:
        """Reads the file again where it has changed.

        A file that cannot be read, or holds no token, leaves things as they were: that revokes
        nobody. Any other counts as it is, without its bad lines, so that what was taken out is out.
        """
        with self._lock:
            look = self._watched.look()
            self._coming = self._whole_lines() if look is Look.MOVING else ()
            if look is not Look.SETTLED:
                return
            try:
                known, problems = _parsed(self._text())
            except TokenFileError as error:
                if self._watched.take():
                    _log.error("the tokens stay as they were", error=str(error))
                return
            if not self._watched.take():
                return
            for problem in problems:
                _log.error("a line of the tokens does not count", path=str(self._path), why=problem)
            if not known:
                error = f"{self._path} holds no token"
                _log.error("the tokens stay as they were", error=error)
                return
            self._known = known
            _log.info("tokens read again", path=str(self._path), tokens=len(known))

    def _whole_lines(self) -> tuple[_Known, ...]:
        """The tokens of a file that may be half written: those of lines that have their end."""
        try:
            whole, _, _ = self._bytes().rpartition(b"\n")
            return _parsed(whole.decode())[0]
        except (OSError, UnicodeDecodeError):
            return ()

    def _bytes(self) -> bytes:
        """What the file holds; a pipe in its place must not keep the service waiting."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            return file.read()

    def _text(self) -> str:
        try:
            return self._bytes().decode()
        except OSError as error:
            raise TokenFileError(f"cannot read {self._path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TokenFileError(f"{self._path} is not a text file in UTF-8") from error


def digest_of(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _parsed(text: str) -> tuple[tuple[_Known, ...], list[str]]:
    """The tokens, and what is wrong with the other lines."""
    found: dict[bytes, _Known] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, colon, token = entry.rpartition(":")
        name, token = name.strip() if colon else f"line-{number}", token.strip()
        problem = _problem(name, token)
        digest = digest_of(token)
        if problem is None and digest in found and found[digest].name != name:
            problem = "has the token of another line; each client has its own"
        if problem is not None:
            problems.append(f"line {number} {problem}")
        else:
            found[digest] = _Known(digest, name)
    return tuple(found.values()), problems


def _problem(name: str, token: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "has a bad name; write NAME:TOKEN, the name of at most 64 of A-Z a-z 0-9 . _ @ -"
    if not _TOKEN.fullmatch(token):
        return "has a bad token; a token is of A-Z a-z 0-9 . _ ~ + / - and may end in ="
    if len(token) < MIN_TOKEN_LENGTH:
        return f"has a token of fewer than {MIN_TOKEN_LENGTH} characters, which can be guessed"
    return None
