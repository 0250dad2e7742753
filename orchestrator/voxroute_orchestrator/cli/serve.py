"""`voxroute serve`, `voxroute gateway` and `voxroute worker`: what runs until it is stopped.

The flags of servers are those of their settings.
"""

import asyncio
import importlib.util
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from voxroute_orchestrator.cli.options import LogLevel
from voxroute_orchestrator.errors import ServiceUnavailableError, UsageError
from voxroute_serving.errors import InvalidInputError

if TYPE_CHECKING:
    from voxroute_orchestrator.jetstream.access import Access

app = typer.Typer(add_completion=False)

_PASSED_ON: dict[str, Any] = {  # to the settings' own parser, --help included
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


@app.command("serve", context_settings=_PASSED_ON)
def serve_command(context: typer.Context) -> None:
    """Serve jobs over gRPC; `voxroute serve --help` tells the flags."""
    from voxroute_orchestrator.jobs.service import serve  # noqa: PLC0415 - the other's is not

    serve(context.args)


@app.command("gateway", context_settings=_PASSED_ON)
def gateway_command(context: typer.Context) -> None:
    """Serve HTTP for programs of other makers; `voxroute gateway --help` tells the flags."""
    try:
        from voxroute_gateway.process import serve  # noqa: PLC0415 - it may not be installed
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"voxroute_gateway", "aiohttp"}:
            raise
        raise UsageError(
            "the gateway is not installed here; `pip install voxroute-gateway` adds it"
        ) from error
    serve(context.args, "voxroute gateway")


@app.command("worker")
def worker_command(
    *,
    engine: Annotated[
        str, typer.Option("--engine", help="nats://HOST:PORT, as the job services have it.")
    ],
    credentials: Annotated[
        Path | None,
        typer.Option("--engine-credentials", help="File that says who it is there, as theirs."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--engine-tls-ca", help="PEM file of the CAs of those servers.")
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--engine-tls-cert", help="Its certificate for them, PEM.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--engine-tls-key", help="The certificate's private key, PEM.")
    ] = None,
    asr_endpoint: Annotated[
        str, typer.Option("--asr-endpoint", help="HOST:PORT of the speech service beside it.")
    ] = "127.0.0.1:50051",
    lanes: Annotated[
        int, typer.Option("--lanes", min=0, help="Spans at once; 0 for what the service says.")
    ] = 0,
    name: Annotated[
        str, typer.Option("--name", help="What it is called; else the name of the host.")
    ] = "",
    level: Annotated[LogLevel, typer.Option("--log-level", help="Least level logged.")] = (
        LogLevel.info
    ),
) -> None:
    """Take parts of the jobs of `voxroute serve --engine --workers` to a speech service here."""
    if importlib.util.find_spec("nats") is None:
        raise UsageError(
            "a worker needs nats-py; `pip install 'voxroute-orchestrator[fleet]'` adds it"
        )
    from voxroute_orchestrator.jetstream.access import Access  # noqa: PLC0415 - not for servers
    from voxroute_orchestrator.server_settings import EngineSettings  # noqa: PLC0415

    try:
        asked = EngineSettings(
            engine=engine,  # pyright: ignore[reportArgumentType] - several with commas
            engine_credentials=credentials,
            engine_tls_ca=ca,
            engine_tls_cert=cert,
            engine_tls_key=key,
        )
        access = Access.read(asked.engine, ca=ca, cert=cert, key=key, credentials=credentials)
    except ValidationError as error:
        told = [f"--engine: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()]
        raise UsageError("; ".join(told)) from None  # an address may hold a password
    except InvalidInputError as error:
        raise UsageError(str(error)) from error
    asyncio.run(_work(level, access, asr_endpoint, name or socket.gethostname(), lanes))


async def _work(level: LogLevel, access: "Access", target: str, name: str, lanes: int) -> None:
    """Works until SIGTERM or SIGINT. Raises ServiceUnavailableError where no server answers."""
    # the servers have no need of these, and only the link may be missing what it needs
    from voxroute_orchestrator.cli.work import settings_of  # noqa: PLC0415
    from voxroute_orchestrator.client.asr import AsrClient  # noqa: PLC0415
    from voxroute_orchestrator.client.connection import (  # noqa: PLC0415
        Endpoint,
        connect,
        policy,
    )
    from voxroute_orchestrator.client.credentials import of_settings  # noqa: PLC0415
    from voxroute_orchestrator.jetstream.link import Link, LinkError  # noqa: PLC0415
    from voxroute_orchestrator.jetstream.worker import Worker  # noqa: PLC0415

    settings = settings_of(False, [target], None, None, level)
    patience = policy(settings)
    endpoint = Endpoint("speech service", target)
    async with connect(endpoint, patience, of_settings(settings)) as channel:
        try:
            link = await Link.open(access, name=name)
        except LinkError as error:
            raise ServiceUnavailableError(str(error)) from error
        worker = Worker(link, AsrClient(endpoint, channel, patience), name, lanes=lanes)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        try:
            await worker.run()
        finally:
            await link.close()
