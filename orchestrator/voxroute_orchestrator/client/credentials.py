"""How services are told who calls, and how the command tells that a service is the right one.

An endpoint that begins with grpcs:// or https:// is called with TLS, one with grpc:// or http://
and every unix socket without; any other with TLS where `tls_ca` is set.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio

from voxroute_orchestrator.client.calling import Begin, CallingChannel
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.settings import Settings
from voxroute_serving.process.settings import is_local
from voxroute_serving.security.watched import Look, Watched

METADATA_KEY = "authorization"
_TLS = ("grpcs://", "https://")
_PLAIN = ("grpc://", "http://")

Options = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What calls to services carry, and what services must show; files are PEM."""

    tls_ca: Path | None = None
    """CAs of services; None for those that grpc brings along."""
    tls_cert: Path | None = None
    """The client's certificate, for services that ask for one, and its key."""
    tls_key: Path | None = None
    tls_server_name: str = ""
    """The name that a service's certificate must have; "" for that of the address."""
    token_file: Path | None = None
    """The file whose first line that is no comment is the token; read again when it changes."""
    insecure: bool = False
    """Whether the token may leave this machine without TLS."""

    def open(self, target: str, options: Options) -> grpc.aio.Channel:
        """A channel to an endpoint, with TLS and the token as they are set.

        Raises UsageError for files that cannot be read, and for a token that would leave this
        machine in the clear.
        """
        address = _without_scheme(target)
        if self._wants_tls(target):
            if self.tls_server_name:
                options = [*options, ("grpc.ssl_target_name_override", self.tls_server_name)]
            channel = grpc.aio.secure_channel(address, self._tls(), options)
        else:
            if self.token_file is not None and not self.insecure and not _is_local(address):
                raise UsageError(
                    f"the token would go to {target} without encryption; write grpcs://{address},"
                    " or set tls_ca, or set insecure where the network is trusted"
                )
            channel = grpc.aio.insecure_channel(address, options)
        if self.token_file is None:
            return channel
        # grpc's own call credentials do not work without TLS, on a unix socket say
        return cast("grpc.aio.Channel", CallingChannel(channel, _with_token(self.token_file)))

    def _wants_tls(self, target: str) -> bool:
        if target.startswith(_TLS):
            return True
        if target.startswith(_PLAIN) or target.startswith("unix:"):
            return False
        return self.tls_ca is not None

    def _tls(self) -> grpc.ChannelCredentials:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("tls_cert and tls_key go together; set both, or none")
        ca, key, cert = (
            _read(path, name)
            for path, name in (
                (self.tls_ca, "tls_ca"),
                (self.tls_key, "tls_key"),
                (self.tls_cert, "tls_cert"),
            )
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


NO_CREDENTIALS = Credentials()

flags: dict[str, Any] = {}
"""The settings of this module that were given as flags before the command, for `settings.load`."""


def of_settings(settings: Settings) -> Credentials:
    """The credentials as set."""
    return Credentials(
        tls_ca=settings.tls_ca,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        tls_server_name=settings.tls_server_name,
        token_file=settings.token_file,
        insecure=settings.insecure,
    )


def read_token(path: Path) -> str:
    """The token in a file. Raises UsageError."""
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"token_file cannot be read: {error}") from error
    for line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            # a service's own file of tokens has names before them
            token = entry.rpartition(":")[2].strip()
            if token.isascii() and token.isprintable() and " " not in token:
                return token
            raise UsageError(f"token_file {path} holds something else than a token")
    raise UsageError(f"token_file {path} holds no token; write one into it, on a line of its own")


class _Token:
    """The token in a file, read again once it has changed and nobody is writing to it."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError: now, rather than in the middle of a job."""
        self._path = path
        self._watched = Watched([path.expanduser()])
        self._token = read_token(path)

    def now(self) -> str:
        """The token to send. Raises UsageError where there is none any more."""
        if self._watched.look() is Look.SETTLED:
            token = read_token(self._path)
            if self._watched.take():
                self._token = token
        return self._token


def _with_token(token_file: Path) -> Begin:
    token = _Token(token_file)

    def begin(method: str, begin: Callable[..., Any], metadata: tuple[Any, ...]) -> Any:
        del method
        return begin((*metadata, (METADATA_KEY, f"Bearer {token.now()}")))

    return begin


def _read(path: Path | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error}") from error


def _without_scheme(target: str) -> str:
    # "ipv4:", "dns:" and "unix:" are grpc's own; a host name with a port is taken as it is
    for scheme in (*_TLS, *_PLAIN):
        if target.startswith(scheme):
            return target.removeprefix(scheme).rstrip("/")
    return target


def _is_local(address: str) -> bool:
    """Whether nobody else can listen on the way: a socket, or loopback."""
    return is_local(re.sub("^(ipv4|ipv6|dns):/*", "", address))
