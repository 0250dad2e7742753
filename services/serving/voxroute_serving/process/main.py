"""The whole of a service's process: settings, logs, server, signals, exit code.

A process writes one line to stdout, once it listens:

    {"event": "listening", "addresses": ["127.0.0.1:50051"], "metrics": "127.0.0.1:9151",
     "pid": 4711}

with the real ports where port 0 was asked for. Health tells when it serves. Everything else goes
to stderr. Exit codes: 0 after SIGTERM, SIGINT or SIGHUP, 1 where it could not start, 2 for settings
that make no sense.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, NoReturn, TypeVar

from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from pydantic_settings import SettingsError

from voxroute_serving.device.batcher import Admission, DeviceThread
from voxroute_serving.device.host import prepare_for_cpu
from voxroute_serving.errors import ServingError
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.app import App, Leaving
from voxroute_serving.process.metrics_port import MetricsEndpoint
from voxroute_serving.process.server import ListenError, ServiceServer
from voxroute_serving.process.settings import (
    ENV_PREFIX,
    LogSettings,
    ServerSettings,
    misspelt_variables,
)
from voxroute_serving.security.tls import ServerTls
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger, set_up_logs

AnySettings = TypeVar("AnySettings", bound=LogSettings)
Settings = TypeVar("Settings", bound=ServerSettings)

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
_FREE_S = 10.0  # for freeing the models; after it the process ends with them
_ABANDON_S = 2.0  # the same while a model is still being loaded
_GARBAGE = 10_000
"""Objects made before garbage is looked for. By Python's 700, reading a film's transcript takes
three times as long: what is looked through are its own words, and torch."""
_SWITCH_S = 0.0005
"""After so long who wants Python's lock has it from who computes; by default ten times as much. Who
launches the work of a GPU wants it after each launch."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the process gives to the service that it serves."""

    device: DeviceThread
    admission: Admission
    metrics: Metrics
    service_version: str


def run_service(
    settings_class: type[Settings],
    build_app: Callable[[Settings, Runtime], App],
    *,
    distribution: str = "voxroute-serving",
    traced_as: str | None = None,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
) -> NoReturn:
    """Serves until SIGTERM, SIGINT or SIGHUP, and ends the process with the exit code.

    `build_app` is called once, on the event loop, before anything is served. The rest is as in
    run_process.
    """

    async def serve(settings: Settings, version: str) -> int:
        return await _Process(settings, build_app, version).run()

    run_process(
        settings_class,
        serve,
        distribution=distribution,
        traced_as=traced_as,
        arguments=arguments,
        program=program,
    )


def run_process(
    settings_class: type[AnySettings],
    serve: Callable[[AnySettings, str], Coroutine[Any, Any, int]],
    *,
    distribution: str,
    traced_as: str | None = None,
    arguments: Sequence[str] | None = None,
    program: str | None = None,
) -> NoReturn:
    """Settings, logs and traces, then `serve`, whose result is the process's exit code.

    `arguments` are the flags, those of the process by default, and `program` what their help calls
    the command. `distribution` is the installed package whose version `serve` is told, and whose
    name the process has in traces unless `traced_as` is another.
    """
    try:
        settings = settings_class(
            _cli_parse_args=True if arguments is None else list(arguments),  # pyright: ignore[reportCallIssue]
            _cli_prog_name=program,  # pyright: ignore[reportCallIssue]
        )
    except (ValidationError, SettingsError) as error:
        _say(_settings_message(error))
        sys.exit(EXIT_USAGE)
    gc.set_threshold(_GARBAGE)
    sys.setswitchinterval(_SWITCH_S)
    prepare_for_cpu(str(getattr(settings, "device", "auto")))
    set_up_logs(settings.log_level, settings.log_format, log_text=settings.log_text)
    for name, meant in misspelt_variables(settings_class, os.environ):
        _log.warning("unknown variable", name=name, did_you_mean=meant)
    version = metadata.version(distribution)
    if settings.tracing:
        tracing.start(traced_as or distribution, version)
    try:
        code = asyncio.run(serve(settings, version))
    except BaseException:
        tracing.stop()
        raise
    _end(code)


def _end(code: int) -> NoReturn:
    """Ends the process without taking the interpreter down.

    A thread of a call that was cut may still be in native code, and one in C++ that comes back to
    an interpreter on its way down ends the process with SIGABRT (CPython 3.11, ONNX Runtime).
    """
    tracing.stop()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Process(Generic[Settings]):
    """The life of the process, from the signal handlers to the exit code."""

    def __init__(
        self, settings: Settings, build_app: Callable[[Settings, Runtime], App], version: str
    ) -> None:
        self._settings = settings
        self._build_app = build_app
        self._version = version
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> int:
        """Serves until a signal; the exit code."""
        heed_signals(self._stop, self._hurry)
        metrics = Metrics(service_version=self._version)
        admission = Admission(
            self._settings.max_concurrent_calls, max_queued=self._settings.max_queued_work
        )
        metrics.observe_admission(admission)
        device = DeviceThread()
        runtime = Runtime(device, admission, metrics, self._version)
        try:
            app = self._build_app(self._settings, runtime)
            server = ServiceServer(app.service_names, self._settings, metrics)
            app.register(server.grpc)
            endpoint = open_metrics(metrics.registry, self._settings.metrics_listen, server.tls)
        except Exception as error:  # noqa: BLE001 - the process ends with a message
            await device.close(_ABANDON_S)
            return failed(error)
        try:
            return await self._serve(app, server, endpoint, device)
        finally:
            if endpoint is not None:
                await asyncio.to_thread(endpoint.close)

    async def _serve(
        self,
        app: App,
        server: ServiceServer,
        endpoint: MetricsEndpoint | None,
        device: DeviceThread,
    ) -> int:
        try:
            await server.start()
        except ListenError as error:
            await self._free(app, device, _FREE_S, EXIT_FAILED)
            return failed(error)
        announce(server.addresses, endpoint)
        start = asyncio.ensure_future(app.start())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([start, stop], return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            _log.info("stopped while loading")
            start.cancel()
            await server.stop()
            await self._free(app, device, _ABANDON_S, EXIT_OK)
            return EXIT_OK
        stop.cancel()
        failure = start.exception()
        if failure is not None:
            code = failed(failure)
            await server.stop()
            await self._free(app, device, _FREE_S, code)
            return code
        server.open()
        _log.info("serving", addresses=server.addresses)
        await self._stop.wait()
        if isinstance(app, Leaving):
            app.leave()
        await server.drain(self._hurry)
        await self._free(app, device, _FREE_S, EXIT_OK)
        _log.info("stopped")
        return EXIT_OK

    async def _free(self, app: App, device: DeviceThread, limit_s: float, code: int) -> None:
        """Frees the models on their thread. Ends the process where that takes too long."""
        try:
            await asyncio.wait_for(app.close(), limit_s)
        except TimeoutError:
            pass
        except Exception:  # noqa: BLE001 - the process ends all the same
            _log.exception("the models could not be freed")
        if not await device.close(limit_s if not self._hurry.is_set() else _ABANDON_S):
            _log.warning("the device is busy; the process ends without it")
            _end(code)


def open_metrics(
    registry: CollectorRegistry, address: str, tls: ServerTls | None
) -> MetricsEndpoint | None:
    """The Prometheus endpoint, None for an empty address. Raises ListenError."""
    if not address:
        return None
    try:
        return MetricsEndpoint(registry, address, tls)
    except OSError as error:
        raise ListenError(
            f"cannot serve metrics on {address}: {error.strerror}; choose another address with"
            " --metrics-listen, or none with an empty one"
        ) from error


def announce(addresses: Sequence[str], endpoint: MetricsEndpoint | None) -> None:
    """Says on stdout, and in the log, where the process listens."""
    metrics = endpoint.address if endpoint is not None else ""
    line = {
        "event": "listening",
        "addresses": list(addresses),
        "metrics": metrics,
        "pid": os.getpid(),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    _log.info("listening", addresses=list(addresses), metrics=metrics)


def heed_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    """Has the first signal that ends the process set `stop`, and any other one `hurry`."""

    def signalled(number: int) -> None:
        name = signal.Signals(number).name
        if not stop.is_set():
            _log.info("stopping", signal=name)
            stop.set()
        elif number != signal.SIGHUP:  # a terminal that closes sends it twice: itself and its shell
            _log.info("hurrying", signal=name)
            hurry.set()

    loop = asyncio.get_running_loop()
    for number in _stop_signals():
        loop.add_signal_handler(number, signalled, number)


def _stop_signals() -> list[signal.Signals]:
    """Those that drain; SIGHUP is not one of them under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def failed(error: BaseException) -> int:
    """Says why the process cannot serve; the exit code."""
    if isinstance(error, (ServingError, ListenError)):
        if error.__cause__ is not None:
            _log.error("cannot start", exc_info=error)
        _say(f"cannot start: {error}")
    else:
        _log.error("cannot start", exc_info=error)
        _say(f"cannot start: {type(error).__name__}: {error}; the traceback is in the log above")
    return EXIT_FAILED


def _settings_message(error: ValidationError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return f"settings: {error}"
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_input=False):
        text = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # about several settings, which the text names
            lines.append(text)
            continue
        name = str(problem["loc"][0])
        flag = "--" + name.replace("_", "-")
        lines.append(f"{flag} (or {ENV_PREFIX}{name.upper()}): {text}")
    return "\n".join(lines)


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
