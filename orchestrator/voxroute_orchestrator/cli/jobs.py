"""`voxroute jobs ...`: the client of the job service."""

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator import __version__
from voxroute_orchestrator.cli.options import OutputOption, QuietOption, asks
from voxroute_orchestrator.cli.terminal.progress import reporter
from voxroute_orchestrator.cli.terminal.tables import print_table
from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.client.connection import policy
from voxroute_orchestrator.client.jobs import (
    JobClient,
    bytes_of,
    job_client,
    raise_for,
    state_name,
    tell,
)
from voxroute_orchestrator.client.messages import seconds
from voxroute_orchestrator.errors import EXIT_CODES, MediaNotFoundError, OutputError, UsageError
from voxroute_orchestrator.jobs.store import CANCELLED, ENDED, FAILED, QUEUED, RUNNING, SUCCEEDED
from voxroute_orchestrator.names import is_file, sent, shown
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.settings import load
from voxroute_orchestrator.spec import SENT, JobSpec, to_message
from voxroute_serving.telemetry import tracing

T = TypeVar("T")

DEFAULT_SERVER = "127.0.0.1:50050"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Submit jobs to a job service, watch them, fetch their results.",
)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="VOXROUTE_SERVER",
        help="The job service: HOST:PORT or unix:/PATH.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As the contract's JSON.")]


def _ask(server: str, work: Callable[[JobClient], Awaitable[T]]) -> T:
    """What the work returns, with a client of the server."""

    async def act() -> T:
        settings = load(**credentials.flags)
        if settings.tracing:
            tracing.start("voxroute", __version__)
        own = credentials.of_settings(settings)
        async with job_client(server, policy(settings), own) as client:
            if "retry_s" not in settings.model_fields_set:  # else they have set their patience
                await client.check_there()
            return await work(client)

    return asyncio.run(act())


@app.command(epilog=EXIT_CODES)
@asks(only=tuple(SENT))
def submit(
    *,
    media: Annotated[
        str, typer.Argument(help="The recording; with --on-server, its path below a media root.")
    ],
    spec: JobSpec,
    on_server: Annotated[
        bool, typer.Option("--on-server", help="The file is on the host of the service already.")
    ] = False,
    key: Annotated[
        str,
        typer.Option("--key", help="Your own name for this submission: the same makes no second."),
    ] = "",
    watch_it: Annotated[
        bool, typer.Option("--watch", help="Watch it; fail where it fails.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    quiet: QuietOption = False,
) -> None:
    """Submit a recording; prints the job's id."""
    config = to_message(spec)
    path: Path | None = None
    if on_server:
        if shown(media) != media:
            raise UsageError(
                f"the path {shown(media)} has line ends, other controls or bytes that are no UTF-8,"
                " which a job service is not asked for; rename the file, or upload it"
            )
        config.media_path = media
    else:
        path = Path(media)
        if not is_file(path):
            raise MediaNotFoundError(f"there is no file {shown(path)}; check the path")
        config.upload_name = sent(path.name)
        if config.upload_name != path.name:
            typer.echo(f"{shown(path.name)} is called {config.upload_name} there", err=True)

    async def work(client: JobClient) -> None:
        # a key of its own lets a lost answer be asked for again
        media_of = None if path is None else functools.partial(bytes_of, path)
        reply = await client.submit(config, key=key or uuid.uuid4().hex, media=media_of)
        if not reply.created:
            typer.echo(f"there already: {state_name(reply.job.state)}", err=True)
        typer.echo(reply.job.id)
        if watch_it:
            await _watch(client, reply.job.id, 0, quiet=quiet)

    _ask(server, work)


@app.command("list", epilog=EXIT_CODES)
def list_command(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="queued, running, succeeded, failed, cancelled."),
    ] = None,
    most: Annotated[int, typer.Option("-n", "--most", min=1, help="Most jobs to show.")] = 50,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """List the jobs, the newest first."""
    states = [_state(text) for text in _parts(state or [])]

    async def work(client: JobClient) -> list[jobs_pb2.Job]:
        return [job async for job in client.all(states, most)]

    found = _ask(server, work)
    if as_json:
        typer.echo(_json(jobs_pb2.ListJobsResponse(jobs=found)))
        return
    print_table(("job", "state", "media", "submitted", "done"), map(_row, found))


@app.command(epilog=EXIT_CODES)
def show(
    *, job_id: JobArgument, as_json: JsonOption = False, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show a job: its state, its stages, its results."""
    job = _ask(server, lambda client: client.get(job_id))
    if as_json:
        typer.echo(_json(job))
        return
    for line in _lines(job):
        typer.echo(line)


@app.command(epilog=EXIT_CODES)
def watch(
    *,
    job_id: JobArgument,
    after: Annotated[
        int, typer.Option("--after", min=0, help="Number of the last event that you saw.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="An event a line, as JSON.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    quiet: QuietOption = False,
) -> None:
    """Watch a job until it ends, whatever happens to the connection meanwhile."""

    async def work(client: JobClient) -> None:
        await _watch(client, job_id, after, quiet=quiet, as_json=as_json)

    _ask(server, work)


async def _watch(
    client: JobClient, job_id: str, after: int, *, quiet: bool, as_json: bool = False
) -> None:
    async with contextlib.aclosing(client.watch(job_id, after)) as events:
        if as_json:
            async for event in events:
                typer.echo(_json(event, indent=None))
        else:
            with reporter(quiet=quiet) as told:
                async for event in events:
                    tell(event, told)
    raise_for(await client.get(job_id))


@app.command(epilog=EXIT_CODES)
def cancel(*, job_id: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """End a job; what is finished is kept."""
    job = _ask(server, lambda client: client.cancel(job_id))
    typer.echo(f"{job.id} {state_name(job.state)}")


@app.command(epilog=EXIT_CODES)
def resume(
    *,
    job_id: JobArgument,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what is finished, and begin anew.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Queue a job again that was cancelled or has failed; it goes on where it ended."""
    job = _ask(server, lambda client: client.resume(job_id, restart=restart))
    typer.echo(f"{job.id} {state_name(job.state)}")


@app.command(epilog=EXIT_CODES)
def retry(*, job_id: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Queue a failed job again; it goes on where it failed."""
    job = _ask(server, lambda client: client.retry(job_id))
    typer.echo(f"{job.id} {state_name(job.state)}")


@app.command(epilog=EXIT_CODES)
def delete(*, job_id: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Remove a job that has ended, with its upload and its results."""
    _ask(server, lambda client: client.delete(job_id))


@app.command(epilog=EXIT_CODES)
def fetch(
    *,
    job_id: JobArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Names; else all results.")
    ] = None,
    output: OutputOption = Path(),
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Download a job's results, verified; a broken download is gone on with."""

    async def work(client: JobClient) -> None:
        job = await client.get(job_id)
        there = {artifact.name: artifact for artifact in job.artifacts}
        unknown = [name for name in names or () if name not in there]
        if unknown:
            raise UsageError(
                f"job {job_id} has no {', '.join(unknown)}; it has"
                f" {', '.join(there) or 'no results yet'}"
            )
        if not there:
            raise UsageError(f"job {job_id} ({state_name(job.state)}) has no results yet")
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output} cannot be made: {error.strerror}") from error
        for name in names or there:
            typer.echo(shown(str(await client.fetch(job_id, there[name], output))))

    _ask(server, work)


def _parts(texts: list[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _state(text: str) -> "jobs_pb2.JobState":
    states = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
    names = {state_name(state): state for state in states}
    if text not in names:
        raise UsageError(f"there is no state {text}; there are {', '.join(names)}")
    return names[text]


def _json(message: Message, indent: int | None = 2) -> str:
    return MessageToJson(
        message, preserving_proto_field_name=True, indent=indent, ensure_ascii=False
    )


def _media(job: jobs_pb2.Job) -> str:
    return job.config.upload_name or job.config.media_path


def _row(job: jobs_pb2.Job) -> tuple[str, ...]:
    submitted = job.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")
    latest = job.stages[-1] if job.stages and job.state not in ENDED else None
    return (job.id, state_name(job.state), _media(job), submitted, _stage(latest) if latest else "")


def _stage(stage: jobs_pb2.JobStage) -> str:
    done = clock(seconds(stage.done))
    total = f" of {clock(seconds(stage.total))}" if stage.HasField("total") else ""
    return f"{stage.name}: {'done' if stage.finished else done + total}"


def _lines(job: jobs_pb2.Job) -> list[str]:
    config = job.config
    lines = [
        f"job: {job.id}",
        f"state: {state_name(job.state)}" + (f" ({job.error})" if job.error else ""),
        f"media: {_media(job)}",
        f"spoken: {', '.join(config.source_languages) or 'to be detected'}",
        f"wanted: {', '.join(config.target_languages) or 'a transcript only'}",
        f"attempts: {job.attempts}",
        f"last event: {job.last_sequence}",
    ]
    lines += [f"stage: {_stage(stage)}" for stage in job.stages]
    lines += [f"result: {artifact.name} ({artifact.bytes} bytes)" for artifact in job.artifacts]
    return lines
