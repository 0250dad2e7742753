"""`voxroute services ...`: the configured services, and local ones that are kept warm."""

import asyncio
from typing import Annotated

import typer

from voxroute_orchestrator.cli.options import How, asks
from voxroute_orchestrator.cli.terminal.tables import print_table
from voxroute_orchestrator.errors import EXIT_CODES, ServiceUnavailableError
from voxroute_orchestrator.fleet import warm as warm_services
from voxroute_orchestrator.fleet.survey import Status, survey
from voxroute_orchestrator.fleet.warm import Running
from voxroute_orchestrator.reporter import clock
from voxroute_serving.telemetry.logs import set_up_logs

_COLUMNS = ("service", "address", "state", "engine", "device", "models", "queue", "version")
_WARM_COLUMNS = ("started here", "model", "pid", "state", "memory", "ends after", "version")

app = typer.Typer(
    add_completion=False,
    help="Show the services that are configured and those that are kept warm here; end the latter.",
    epilog=EXIT_CODES,
)


@app.callback(invoke_without_command=True)
@asks(how=("asr_endpoint", "translate_endpoint", "config", "log_level"))
def show(*, context: typer.Context, how: How) -> None:
    """Show configured services (health, engine, device, models, queue), and those kept warm here.

    `voxroute services stop` ends the latter.
    """
    if context.invoked_subcommand is not None:
        return
    settings = how.settings()
    set_up_logs(how.log_level.value, "console", log_text=settings.log_text)
    statuses, warm = asyncio.run(survey(settings)), warm_services.running()
    if statuses:
        print_table(_COLUMNS, map(_row, statuses))
    else:
        typer.echo(
            "No services are configured, so `voxroute run` starts local ones. Name running ones"
            " with --asr-endpoint and --translate-endpoint, VOXROUTE_ASR_ENDPOINTS and"
            " VOXROUTE_TRANSLATE_ENDPOINTS, or in voxroute.yaml."
        )
    if warm:
        print_table(_WARM_COLUMNS, map(_warm_row, warm))
    down = [status.target for status in statuses if status.error or not status.serving]
    if down:
        raise ServiceUnavailableError(f"not serving: {', '.join(down)}")


@app.command(epilog=EXIT_CODES)
def stop(
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also those that a running command uses.")
    ] = False,
) -> None:
    """End the local services that are kept warm."""
    warm = warm_services.running()
    if not warm:
        typer.echo("No local service is running.")
    for service in warm:
        record = service.record
        if warm_services.stop(service, force=force):
            typer.echo(f"ended the {record.name} {record.model} (process {record.pid})")
        else:
            typer.echo(
                f"the {record.name} {record.model} (process {record.pid}) is used by a running"
                " command and stays; --force ends it too"
            )


def _row(status: Status) -> tuple[str, ...]:
    state = status.error or ("serving" if status.serving else "loading or draining")
    return (
        status.kind.removesuffix(" service"),
        status.target,
        state,
        status.engine,
        status.device,
        "; ".join(status.models),
        status.queue,
        status.version,
    )


def _warm_row(service: Running) -> tuple[str, ...]:
    record = service.record
    return (
        record.name.removesuffix(" service"),
        record.model,
        str(record.pid),
        "in use" if service.in_use else f"idle for {clock(service.unused_s)}",
        f"{service.memory_bytes / 1e6:.0f} MB",
        clock(record.idle_s),
        record.version,
    )
