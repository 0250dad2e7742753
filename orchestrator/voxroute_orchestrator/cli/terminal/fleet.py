"""`voxroute fleet`: the servers of `--engine`, the services and workers there, and what waits."""

from collections.abc import Sequence
from typing import Any, Literal, NoReturn

import typer
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from voxroute_orchestrator.cli.terminal.tables import print_table
from voxroute_orchestrator.errors import ServiceUnavailableError, UsageError
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.server_settings import EngineSettings
from voxroute_serving.errors import InvalidInputError
from voxroute_serving.process.main import EXIT_OK, run_process


class FleetSettings(EngineSettings):
    """What `voxroute fleet` takes on top of that."""

    model_config = SettingsConfigDict(cli_shortcuts={"as-json": "json"})

    log_level: Literal["debug", "info", "warning", "error"] = "error"
    log_format: Literal["json", "console"] = "console"
    as_json: bool = Field(default=False, description="whether all of it is printed as JSON")


def show(arguments: Sequence[str]) -> NoReturn:
    """Shows it and ends the process. Raises UsageError, ServiceUnavailableError."""
    run_process(
        FleetSettings,
        _show,
        distribution="voxroute-orchestrator",
        arguments=arguments,
        program="voxroute fleet",
    )


async def _show(settings: FleetSettings, _version: str) -> int:
    """Raises UsageError, ServiceUnavailableError."""
    if not settings.engine:
        raise UsageError("name the NATS server with --engine, as the job services have it")
    try:
        access = Access.of(settings)
    except InvalidInputError as error:
        raise UsageError(str(error)) from error
    # they need nats-py
    from voxroute_orchestrator.jetstream.link import Link, LinkError  # noqa: PLC0415
    from voxroute_orchestrator.jetstream.presence import look  # noqa: PLC0415

    try:
        link = await Link.open(access, name="voxroute fleet")
        try:
            found = await look(access, link)
        finally:
            await link.close()
    except LinkError as error:
        raise ServiceUnavailableError(str(error)) from error
    if settings.as_json:
        typer.echo(found.as_json())
    else:
        _print(found)
    away = [server.address for server in found.servers if not server.reachable]
    if away:
        raise ServiceUnavailableError(f"not reachable: {', '.join(away)}")
    return EXIT_OK


def _print(found: Any) -> None:
    print_table(
        ("server", "state", "name", "version", "leads"),
        (
            (one.address, _state(one), one.name, one.version, " ".join(one.leads))
            for one in found.servers
        ),
    )
    print_table(
        ("job service", "host", "version", "does", "places"),
        (
            (one["name"], one["host"], one["version"], _jobs(one), str(one["max_jobs"]))
            for one in found.job_services
        ),
    )
    print_table(
        ("worker", "host", "version", "does", "lanes", "device", "models", "languages", "service"),
        map(_worker, found.workers),
    )
    jobs = [f"{number} {state}" for state, number in found.jobs.items()]
    typer.echo(f"jobs: {', '.join(jobs) or 'no job service tells'}")
    typer.echo(f"longest waiting: {clock(found.oldest_s)}")
    spans = [f"{number} for {model}" for model, number in found.tickets.items()]
    typer.echo(f"offered to workers: {', '.join(spans) or 'nothing'}")
    again = f" ({found.leases['again']} not for the first time)" if found.leases["again"] else ""
    typer.echo(f"leases: {found.leases['held']}{again}")


def _state(server: Any) -> str:
    if not server.reachable:
        return "not reachable"
    if server.offline:
        return "missed by the others"
    return f"{server.behind} messages behind" if server.behind else "in step"


def _jobs(service: dict[str, Any]) -> str:
    doing = (f"{one['job']} (attempt {one['attempt']})" for one in service["doing"])
    return ", ".join(doing) or "nothing"


def _worker(worker: dict[str, Any]) -> tuple[str, ...]:
    doing = map(_piece, worker["doing"])
    return (
        worker["name"],
        worker["host"],
        worker["version"],
        ", ".join(doing) or "nothing",
        str(worker["lanes"]),
        worker["device"],
        " ".join(worker["models"]),
        _pairs(worker),
        worker["service"] + ("" if worker["service_up"] else " (takes no calls)"),
    )


def _piece(doing: dict[str, Any]) -> str:
    if "pair" in doing:
        return f"{doing['job']} {doing['pair']}, {doing['texts']} texts"
    return f"{doing['job']} at {clock(doing['at_s'])}"


def _pairs(worker: dict[str, Any]) -> str:
    """Which languages a worker translates; nothing for one that recognises speech."""
    pairs: list[str] = worker["pairs"]
    more = worker["n_pairs"] - len(pairs)
    return " ".join([*pairs, *([f"and {more} more"] if more else [])])
