"""A service in the process of a test: the real server on a real socket."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from voxroute_serving.asr.app import AsrApp
from voxroute_serving.asr.diarizing import Diarizer
from voxroute_serving.asr.engine import AsrEngine
from voxroute_serving.device.batcher import Admission, DeviceThread
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.app import App
from voxroute_serving.process.main import Runtime
from voxroute_serving.process.server import ServiceServer
from voxroute_serving.process.settings import AsrSettings, ServerSettings

A = TypeVar("A", bound=App)
S = TypeVar("S", bound=ServerSettings)


@dataclass(frozen=True, slots=True)
class Served(Generic[A]):
    """What runs, and where."""

    app: A
    runtime: Runtime
    address: str
    """HOST:PORT or unix:/PATH."""

    @property
    def metrics(self) -> Metrics:
        """Those of the server."""
        return self.runtime.metrics


@contextlib.asynccontextmanager
async def serving(build_app: Callable[[S, Runtime], A], settings: S) -> AsyncGenerator[Served[A]]:
    """An app that serves at the first of the settings' addresses until the block ends."""
    device = DeviceThread()
    admission = Admission(settings.max_concurrent_calls)
    runtime = Runtime(device, admission, Metrics(), "1.2.3")
    app = build_app(settings, runtime)
    server = ServiceServer(app.service_names, settings, runtime.metrics)
    app.register(server.grpc)
    await server.start()
    try:
        await app.start()
        server.open()
        yield Served(app, runtime, server.addresses[0])
    finally:
        await server.stop()
        await app.close()
        assert await device.close()  # noqa: S101 - of tests


def serving_engine(
    engine: AsrEngine, diarizer: Diarizer | None = None, **settings: Any
) -> contextlib.AbstractAsyncContextManager[Served[AsrApp]]:
    """A speech service of an engine, on a free port."""
    chosen = AsrSettings(listen=["127.0.0.1:0"], metrics_listen="", **settings)
    return serving(lambda given, runtime: AsrApp(engine, given, runtime, diarizer), chosen)


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + within_s
    while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    return condition()
