"""`voxroute serve`, `voxroute gateway` and `voxroute worker`: what runs until it is stopped.

And `voxroute fleet`, which looks at them. The flags of all are those of their settings.
"""

from typing import Any

import typer

from voxroute_orchestrator.errors import UsageError

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


@app.command("worker", context_settings=_PASSED_ON)
def worker_command(context: typer.Context) -> None:
    """Take parts of the jobs of `voxroute serve --engine --workers` to a speech service here."""
    from voxroute_orchestrator.jetstream.worker_process import work  # noqa: PLC0415 - as above

    work(context.args)


@app.command("fleet", context_settings=_PASSED_ON)
def fleet_command(context: typer.Context) -> None:
    """Show the NATS servers of --engine, who shares jobs on them, and what waits."""
    from voxroute_orchestrator.cli.terminal.fleet import show  # noqa: PLC0415 - as above

    show(context.args)
