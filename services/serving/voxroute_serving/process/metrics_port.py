"""The HTTP server behind /metrics.

prometheus_client (0.26) has one too, but with TLS it shakes hands on the thread that accepts, so
that one client that says nothing keeps all others out, and its certificates stay those of the
start.
"""

import socket
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import prometheus_client
from prometheus_client import CollectorRegistry

from voxroute_serving.security.tls import ServerTls

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_SILENCE_S = 10.0  # a client that sends nothing for so long is sent away


class _Handler(WSGIRequestHandler):
    """Answers one connection, without a log line."""

    timeout = _SILENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: a scrape every few seconds would drown the rest."""


def http_server(
    registry: CollectorRegistry, host: str, port: int, tls: ServerTls | None
) -> WSGIServer:
    """A server that listens; its port is `server_port`. Raises OSError."""
    family, _, _, _, _ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]

    app = cast("WSGIApplication", cast("Any", prometheus_client).make_wsgi_app(registry))

    class Server(ThreadingMixIn, WSGIServer):
        address_family = family
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, Any]:
            """A connection; the handshake is left to its own thread."""
            connection, address = super().get_request()
            if tls is None:
                return connection, address
            tls.refresh()
            wrapped = tls.http_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
            return wrapped, address

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Nothing: a client that leaves or speaks no TLS is no fault of the service."""

    return make_server(host, port, app, Server, _Handler)


class MetricsEndpoint:
    """The HTTP port that serves /metrics, on threads of its own; with TLS where it is given."""

    def __init__(
        self, registry: CollectorRegistry, address: str, tls: ServerTls | None = None
    ) -> None:
        """Listens on HOST:PORT; port 0 takes a free one. Raises OSError."""
        host, _, port = address.rpartition(":")
        self._server = http_server(registry, host.strip("[]"), int(port), tls)
        self._thread = Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stops serving and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
