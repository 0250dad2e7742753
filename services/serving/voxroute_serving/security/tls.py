"""The service's certificates: checked before they are used, and read again when they change."""

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc

from voxroute_serving.security.watched import Look, Watched
from voxroute_serving.telemetry.logs import get_logger

_log = get_logger(__name__)


class TlsError(Exception):
    """The certificate files cannot be used; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates are; PEM."""

    cert: Path
    """The service's certificate, and those between it and its CA."""
    key: Path
    """Its private key, without a passphrase."""
    client_ca: Path | None = None
    """The CAs of clients; where set, a client without a certificate of theirs is refused."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.cert, self.key, *((self.client_ca,) if self.client_ca else ()))


class ServerTls:
    """The certificates that new connections get; open ones keep theirs.

    `http_context` has the same ones for an HTTP server, which takes it anew for each connection.

    Files that have changed, and that nobody has written to for a moment, are read when the next
    connection begins. Where they do not fit together, a renewal that is half done say, the ones
    before stay in use, and the log says so.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Reads and checks the files. Raises TlsError."""
        self._files = files
        self._watched = Watched(files.paths)
        self._lock = threading.Lock()
        self._current, self.http_context = _read(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials whose certificates follow the files."""
        given = self._current

        def news() -> grpc.ServerCertificateConfiguration | None:
            """What grpc asks before each handshake, on threads of its own; None for no change."""
            nonlocal given
            self.refresh()
            if given is self._current:
                return None
            given = self._current
            return given

        return grpc.dynamic_ssl_server_credentials(
            given,
            cast("Any", news),  # its type does not know None
            require_client_authentication=self._files.client_ca is not None,
        )

    def refresh(self) -> None:
        """Reads the files again where they have changed."""
        with self._lock:
            if self._watched.look() is not Look.SETTLED:
                return
            try:
                found = _read(self._files)
            except TlsError as error:
                if self._watched.take():
                    _log.error("the certificates stay as they were", error=str(error))
                return
            if self._watched.take():
                self._current, self.http_context = found
                _log.info("certificates read again", cert=str(self._files.cert))


def _read(files: TlsFiles) -> tuple[grpc.ServerCertificateConfiguration, ssl.SSLContext]:
    """The files for grpc and for HTTP. Raises TlsError where they do not fit together."""
    contents: list[bytes] = []
    for path in files.paths:
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise TlsError(f"cannot read {path}: {error.strerror}") from error
    context = _context(files)
    cert, key, *client_ca = contents
    configuration = grpc.ssl_server_certificate_configuration(
        [(key, cert)], root_certificates=client_ca[0] if client_ca else None
    )
    return configuration, context


def _context(files: TlsFiles) -> ssl.SSLContext:
    """The files for Python's own TLS, whose errors are clearer than grpc's. Raises TlsError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # a passphrase would be asked for on the terminal
        context.load_cert_chain(files.cert, files.key, password="")
    except ssl.SSLError as error:
        raise TlsError(
            f"{files.cert} and {files.key} are no certificate and its private key in PEM, without"
            f" a passphrase ({error.reason or 'unreadable'})"
        ) from error
    except OSError as error:
        raise TlsError(f"cannot read {files.cert} or {files.key}: {error.strerror}") from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(cafile=files.client_ca)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"{files.client_ca} holds no certificates in PEM") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context
