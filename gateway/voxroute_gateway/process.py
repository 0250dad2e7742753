"""The gateway's process: what it listens on, how it ends."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from voxroute_gateway.app import build
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.interfaces.wyoming import Wyoming
from voxroute_gateway.metrics import GatewayMetrics
from voxroute_gateway.settings import GatewaySettings
from voxroute_gateway.uploads import check_folder
from voxroute_gateway.upstream import Upstream, WaitingRoom
from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.client.connection import policy
from voxroute_orchestrator.client.jobs import JobClient, job_client
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_serving.process.main import (
    EXIT_OK,
    announce,
    failed,
    heed_signals,
    open_metrics,
    run_process,
)
from voxroute_serving.process.server import (
    ListenError,
    read_tls,
    read_tokens,
    remove_stale_socket,
)
from voxroute_serving.security.tls import ServerTls
from voxroute_serving.telemetry.logs import get_logger

_CUT_S = 0.5  # for requests that are cut to end
_IDLE_CONNECTION_S = 75  # without a request, or with one whose headers do not end; nginx has it too

_log = get_logger(__name__)


def serve(arguments: Sequence[str] | None = None, program: str | None = None) -> NoReturn:
    """Serves until SIGTERM, SIGINT or SIGHUP, and ends the process."""
    run_process(
        GatewaySettings,
        _serve,
        distribution="voxroute-gateway",
        arguments=arguments,
        program=program,
    )


async def _serve(settings: GatewaySettings, version: str) -> int:
    """Serves until a signal; the exit code."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    heed_signals(stop, hurry)
    logging.getLogger("aiohttp.server").addFilter(_in_brief)
    metrics = GatewayMetrics(version)
    async with contextlib.AsyncExitStack() as stack:
        try:
            check_folder()
            options = settings.of_command()
            room = WaitingRoom(metrics, settings.max_waiting, options.retry_s)
            # the times of words are wanted now and then: a local service gets its aligner
            spec = JobSpec(
                asr_model=settings.model, translate_model=settings.translate_model, align=True
            )
            upstream = Upstream(options, spec, room)
            stack.push_async_callback(upstream.close)
            jobs = await _jobs(stack, settings.jobs_endpoint or options.jobs_endpoint, options)
            gateway = Gateway(settings, upstream, options.subtitles, version, jobs)
            tls = read_tls(settings)
            app = build(gateway, metrics, read_tokens(settings))
            endpoint = open_metrics(metrics.registry, settings.metrics_listen, tls)
            if endpoint is not None:
                stack.push_async_callback(asyncio.to_thread, endpoint.close)
            runner = web.AppRunner(
                app,
                handler_cancellation=True,
                access_log=None,
                auto_decompress=False,  # what is compressed is refused
                shutdown_timeout=_CUT_S,
                keepalive_timeout=_IDLE_CONNECTION_S,
            )
            await runner.setup()
            addresses = await _listen(runner, settings.listen, tls)
            wyoming = Wyoming(gateway)
            stack.push_async_callback(wyoming.close)
            if settings.wyoming_listen:
                addresses.append(await _listen_wyoming(wyoming, settings.wyoming_listen))
        except Exception as error:  # noqa: BLE001 - the process ends with a message
            return failed(error)
        announce(addresses, endpoint)
        await stop.wait()
        await asyncio.gather(
            _drain(runner, metrics, settings.drain_s, hurry), wyoming.leave(settings.drain_s)
        )
    _log.info("stopped")
    return EXIT_OK


async def _jobs(
    stack: contextlib.AsyncExitStack, target: str, options: Settings
) -> JobClient | None:
    """A client of the job service, where there is one. Raises UsageError."""
    if not target:
        return None
    client = job_client(target, policy(options), credentials.of_settings(options))
    return await stack.enter_async_context(client)


def _in_brief(record: logging.LogRecord) -> bool:
    """Lets what is no HTTP be a line of the log: it is no fault of the gateway's."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
    return True


async def _drain(
    runner: web.AppRunner, metrics: GatewayMetrics, drain_s: float, hurry: asyncio.Event
) -> None:
    """Takes no new connections; requests that are open get so long, then they are cut."""
    for site in list(runner.sites):
        await site.stop()
    await runner.shutdown()  # sends those away who watch jobs
    waits = [asyncio.ensure_future(hurry.wait()), asyncio.ensure_future(metrics.idle())]
    _, left = await asyncio.wait(waits, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in left:
        wait.cancel()
    await runner.cleanup()


async def _listen_wyoming(wyoming: Wyoming, address: str) -> str:
    """Listens; the address with its real port, as it is told. Raises ListenError."""
    try:
        return f"tcp://{await wyoming.listen(address)}"
    except OSError as error:
        raise _taken(address, "--wyoming-listen", error) from error


def _taken(address: str, flag: str, error: OSError) -> ListenError:
    return ListenError(
        f"cannot listen on {address}: {error.strerror or error}; is another process there? Choose"
        f" another address with {flag}"
    )


async def _listen(
    runner: web.AppRunner, addresses: Sequence[str], tls: ServerTls | None
) -> list[str]:
    """Listens; the addresses with their real ports. Raises ListenError."""
    found: list[str] = []
    for address in addresses:
        try:
            if address.startswith("unix:"):
                path = Path(address.removeprefix("unix:"))
                remove_stale_socket(path)
                previous = os.umask(0o177)  # for this user alone, as those of the services
                try:
                    await web.UnixSite(runner, path).start()
                finally:
                    os.umask(previous)
                found.append(address)
                continue
            host, _, port = address.rpartition(":")
            context = _following(tls) if tls is not None else None
            site = web.TCPSite(runner, host.strip("[]"), int(port), ssl_context=context)
            await site.start()
            real: Any = cast("Any", site)._server.sockets[0].getsockname()[1]  # noqa: SLF001 - no other way to it
            found.append(f"{host}:{real}")
        except OSError as error:
            raise _taken(address, "--listen", error) from error
    return found


def _following(tls: ServerTls) -> ssl.SSLContext:
    """A context whose new connections have the certificates of the files as they are then."""
    context = tls.http_context

    def newest(connection: Any, name: str | None, current: ssl.SSLContext) -> None:
        del name, current
        tls.refresh()
        connection.context = tls.http_context

    context.sni_callback = newest
    return context
