"""`voxroute worker`: its settings, and the whole of its process."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self

from pydantic import Field, model_validator

from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import Endpoint, connect, policy
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.worker_metrics import WorkerMetrics
from voxroute_orchestrator.server_settings import EngineSettings
from voxroute_orchestrator.settings import Settings, load
from voxroute_serving.errors import InvalidInputError, NotReadyError
from voxroute_serving.process.main import (
    EXIT_OK,
    announce,
    failed,
    heed_signals,
    open_metrics,
    run_process,
)
from voxroute_serving.process.server import read_tls
from voxroute_serving.process.settings import MetricsAddress, ProcessSettings, metrics_on
from voxroute_serving.telemetry.logs import get_logger

_log = get_logger(__name__)


class WorkerSettings(EngineSettings, ProcessSettings):
    """What a worker takes on top of that."""

    metrics_listen: MetricsAddress = metrics_on(9156)
    asr_endpoint: str = Field(
        default="127.0.0.1:50051", description="HOST:PORT of the speech service beside it"
    )
    translate_endpoint: str = Field(
        default="", description="HOST:PORT of the translation service beside it, instead"
    )
    lanes: int = Field(
        default=0,
        ge=0,
        description="calls at once; 0 for what the service says. Too low leaves its device idle,"
        " too high takes work that other workers could do",
    )
    name: str = Field(default="", description="what it is called; else the name of the host")
    config: Path | None = Field(
        default=None, description="settings file of the command; else voxroute.yaml"
    )

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        if not self.engine:
            raise ValueError("a worker comes over a NATS server; name it with --engine")
        if self.translate_endpoint and "asr_endpoint" in self.model_fields_set:
            raise ValueError(
                "a worker stands beside one service; start one with --asr-endpoint and another"
                " with --translate-endpoint"
            )
        return self


def work(arguments: Sequence[str]) -> NoReturn:
    """Works until SIGTERM, SIGINT or SIGHUP, and ends the process."""
    run_process(
        WorkerSettings,
        _work,
        distribution="voxroute-orchestrator",
        traced_as="voxroute-worker",
        arguments=arguments,
        program="voxroute worker",
    )


async def _work(settings: WorkerSettings, version: str) -> int:
    """Works until a signal; the exit code."""
    metrics = WorkerMetrics(version)
    async with contextlib.AsyncExitStack() as stack:
        try:
            access = Access.of(settings)
            options = _options(settings)
            endpoint = open_metrics(metrics.registry, settings.metrics_listen, read_tls(settings))
            if endpoint is not None:
                stack.push_async_callback(asyncio.to_thread, endpoint.close)
            # they need nats-py
            from voxroute_orchestrator.jetstream.beside import Beside  # noqa: PLC0415
            from voxroute_orchestrator.jetstream.link import Link, LinkError  # noqa: PLC0415
            from voxroute_orchestrator.jetstream.presence import be_there  # noqa: PLC0415
            from voxroute_orchestrator.jetstream.worker import Worker  # noqa: PLC0415

            name = settings.name or socket.gethostname()
            if settings.translate_endpoint:
                there = Endpoint("translation service", settings.translate_endpoint)
            else:
                there = Endpoint("speech service", settings.asr_endpoint)
            patience = policy(options)
            channel = await stack.enter_async_context(
                connect(there, patience, credentials.of_settings(options))
            )
            kind = TranslateClient if settings.translate_endpoint else AsrClient
            service = Beside(kind(there, channel, patience), channel)
            try:
                link = await Link.open(access, name=name)
                stack.push_async_callback(link.close)
                worker = Worker(link, service, name, metrics, lanes=settings.lanes)
                await be_there(link, "worker", name, version, worker.tell)
            except LinkError as error:
                raise NotReadyError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - the process ends with a message
            return failed(error)
        stop, hurry = asyncio.Event(), asyncio.Event()
        heed_signals(stop, hurry)
        announce([], endpoint)
        working = asyncio.ensure_future(worker.run())
        stopped, hurried = (asyncio.ensure_future(one.wait()) for one in (stop, hurry))
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        worker.stop()
        await asyncio.wait([working, hurried], return_when=asyncio.FIRST_COMPLETED)
        for task in (working, stopped, hurried):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working  # what goes wrong in it is a defect
    _log.info("stopped")
    return EXIT_OK


def _options(settings: WorkerSettings) -> Settings:
    """The command's settings with these. Raises InvalidInputError, which ends the process."""
    try:
        return load(
            config=settings.config,
            tracing=settings.tracing,
            log_text=settings.log_text,
            **credentials.flags,
        )
    except UsageError as error:
        raise InvalidInputError(str(error)) from error
