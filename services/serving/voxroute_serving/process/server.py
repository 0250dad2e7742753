"""The gRPC server of a service: its addresses, limits, health, reflection and drain."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from voxroute_serving.calls.interceptor import CallInterceptor, Gate, Phase
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.health import HealthServicer
from voxroute_serving.process.settings import (
    ListeningSettings,
    ProcessSettings,
    ServerSettings,
)
from voxroute_serving.security.clients import Access
from voxroute_serving.security.tls import ServerTls, TlsError, TlsFiles
from voxroute_serving.security.tokens import TokenFile, TokenFileError
from voxroute_serving.telemetry.logs import get_logger

KEEPALIVE_TIMEOUT_S = 10.0  # a client that does not answer a ping for this long is dead
_HEALTH_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_FLUSH_S = 1.0  # for the last bytes of calls that have ended

_log = get_logger(__name__)
_MAX_STREAMS = 1024  # of one connection; beyond what a service takes, to refuse with a sentence


class ListenError(Exception):
    """An address cannot be served on; the message says why and what to do."""


def read_tls(settings: ProcessSettings) -> ServerTls | None:
    """The certificates, None without TLS. Raises ListenError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    try:
        return ServerTls(files)
    except TlsError as error:
        raise ListenError(f"cannot serve with TLS: {error}") from error


def read_tokens(settings: ListeningSettings) -> TokenFile | None:
    """The tokens of clients, None where nobody is asked for one. Raises ListenError."""
    if settings.client_tokens is None:
        return None
    try:
        return TokenFile(settings.client_tokens)
    except TokenFileError as error:
        raise ListenError(f"cannot ask clients for tokens: {error}") from error


class ServiceServer:
    """A gRPC server that begins as NOT_SERVING and refuses calls until `open`."""

    def __init__(
        self, service_names: Sequence[str], settings: ServerSettings, metrics: Metrics
    ) -> None:
        """Reads certificates and tokens. Raises ListenError where they cannot be used."""
        self.gate = Gate(metrics, settings.max_calls_per_client)
        self.tls = read_tls(settings)
        self.addresses: list[str] = []
        self._settings = settings
        self._sockets: list[Path] = []
        access = Access(read_tokens(settings))
        self.grpc = grpc.aio.server(
            interceptors=[
                CallInterceptor(
                    metrics,
                    self.gate,
                    access,
                    settings.idle_timeout_s,
                    settings.min_bytes_per_s,
                )
            ],
            options=_options(settings),
        )
        names = list(dict.fromkeys([*service_names, _HEALTH_NAME]))
        self._health = HealthServicer(names)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        if settings.reflection:
            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self.grpc)

    async def start(self) -> None:
        """Listens on all addresses and answers, NOT_SERVING at first. Raises ListenError."""
        try:
            for address in self._settings.listen:
                if address.startswith("unix:"):
                    path = Path(address.removeprefix("unix:"))
                    self.addresses.append(self._listen_on_socket(path))
                else:
                    self.addresses.append(self._listen_on_port(address))
        except ListenError:
            await self.stop()
            raise
        await self.grpc.start()

    def open(self) -> None:
        """Takes calls from now on, and says SERVING."""
        self.gate.enter(Phase.SERVING)
        self._health.set_all(serving=True)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Stops: NOT_SERVING and no new calls at once; the open ones get `drain_s` to finish.

        Whatever is open then, or when `hurry` is set, ends with UNAVAILABLE.
        """
        self.gate.enter(Phase.DRAINING)
        self._health.set_all(serving=False)
        _log.info("draining", open_calls=self.gate.open_calls, drain_s=self._settings.drain_s)
        if not await self._idle_within(self._settings.drain_s, hurry):
            _log.warning("cutting open calls", calls=self.gate.cut())
            # handlers clean up; one that ignores its cancellation must not hold the process
            await self._idle_within(_FLUSH_S, asyncio.Event())
        await self.stop()

    async def stop(self) -> None:
        """Ends whatever is open and frees the addresses."""
        await self.grpc.stop(_FLUSH_S if self.gate.phase is Phase.DRAINING else 0)
        await _ended(_FLUSH_S)
        for path in self._sockets:
            with contextlib.suppress(OSError):
                path.unlink()

    async def _idle_within(self, limit_s: float, hurry: asyncio.Event) -> bool:
        """Whether no call was open before the limit passed or `hurry` was set."""
        waits = [asyncio.ensure_future(self.gate.idle()), asyncio.ensure_future(hurry.wait())]
        try:
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not self.gate.open_calls

    def _listen_on_port(self, address: str) -> str:
        """Listens on HOST:PORT; the address with the port that was taken."""
        try:
            if self.tls is not None:
                port = self.grpc.add_secure_port(address, self.tls.credentials())
            else:
                port = self.grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise ListenError(
                f"cannot listen on {address}: the port is taken or the host is not this machine's;"
                " choose another with --listen"
            ) from error
        return f"{address.rpartition(':')[0]}:{port}"

    def _listen_on_socket(self, path: Path) -> str:
        """Listens on a unix socket that only this user can open; its address."""
        remove_stale_socket(path)
        # by the umask, so that there is no moment in which others could connect
        previous = os.umask(0o177)
        try:
            self.grpc.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise ListenError(
                f"cannot listen on unix:{path}: the directory must exist and be writable, and the"
                f" path have at most 107 bytes (it has {len(os.fsencode(path))})"
            ) from error
        finally:
            os.umask(previous)
        self._sockets.append(path)
        return f"unix:{path}"


async def _ended(limit_s: float) -> None:
    """Waits until grpc's own tasks around the calls of this loop have ended.

    `grpc.aio.Server.stop` (grpcio 1.85) cancels them and returns at once. A loop that ends before
    they have makes grpc log "Exception not handled by _handle_exceptions", with a traceback, for
    each.
    """
    tasks = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__name__", "") == "_schedule_rpc_coro"
    ]
    if tasks:
        await asyncio.wait(tasks, timeout=limit_s)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    keepalive_ms = round(settings.keepalive_s * 1000)
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        # two services on one port would each get half of the calls
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        # The keepalive's own timeout is for a peer that acknowledges no bytes. A frozen one, whose
        # kernel does, gets as long as any ping: a minute by default (grpcio 1.85).
        ("grpc.http2.ping_timeout_ms", round(KEEPALIVE_TIMEOUT_S * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # clients may ask for signs of life too; the default drops those that ask each minute
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


def remove_stale_socket(path: Path) -> None:
    """Removes a socket that nobody serves. Raises ListenError where somebody does.

    grpc, and asyncio, would take over a served one without a word.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"cannot listen on unix:{path}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
        else:
            raise ListenError(
                f"cannot listen on unix:{path}: another process serves there; stop it or choose"
                " another path"
            )
