"""`voxroute gateway`: the HTTP gateway, where it is installed."""

import typer

from voxroute_orchestrator.errors import UsageError

app = typer.Typer(add_completion=False)


@app.command(
    "gateway",
    context_settings={
        # the flags are those of the settings; their own parser tells them, --help included
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
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
