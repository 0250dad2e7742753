"""`voxroute models ...`: what models are here, fetching, converting and removing them."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_orchestrator.cli.options import How, asks
from voxroute_orchestrator.cli.terminal.tables import print_table
from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.client.connection import Endpoint, connect, policy, unary
from voxroute_orchestrator.engines import installed
from voxroute_orchestrator.errors import EXIT_CODES, UsageError, VoxrouteError
from voxroute_orchestrator.fleet.hardware import detect
from voxroute_orchestrator.fleet.survey import SPEECH, TRANSLATION
from voxroute_orchestrator.models import conversion
from voxroute_orchestrator.models import hub as hub_models
from voxroute_orchestrator.models import local as local_models
from voxroute_orchestrator.models.hub import HubFile
from voxroute_orchestrator.models.local import LocalModel
from voxroute_orchestrator.settings import Settings, bundled_models

_LINE_EVERY_S = 10.0
_FORMATS = tuple(dict.fromkeys(to for engine in installed() for to in engine.converters))

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Fetch, convert, list and remove models ahead of their use.",
)

RevisionOption = Annotated[
    str, typer.Option("--revision", help="A branch, a tag or a commit; else the main branch.")
]
ForBackendOption = Annotated[
    str,
    typer.Option("--backend", help="The engine that a well-known name is for; else by the host."),
]


@app.command(epilog=EXIT_CODES)
@asks(how=("offline", "config", "quiet"))
def pull(
    *,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Well-known names or hub ids.")
    ],
    revision: RevisionOption = "",
    backend: ForBackendOption = "auto",
    how: How,
) -> None:
    """Fetch models into the hub's cache and compare every file with the hub's checksum.

    What is here is not fetched again, and what was cut off is gone on with. A gated model needs
    HF_TOKEN, or `hf auth login`. Prints the directories.
    """
    settings = how.settings()
    known = _well_known(backend)
    ids = [hub_models.hub_id_of(name, known) for name in names]
    for hub_id in ids:
        typer.echo(str(_pulled(settings, hub_id, revision, quiet=how.quiet)))


@app.command("list", epilog=EXIT_CODES)
@asks(how=("asr_endpoint", "translate_endpoint", "config"))
def list_command(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    how: How,
) -> None:
    """List the models of this host, and those of the configured services."""
    settings = how.settings()
    here = local_models.models(settings)
    there = asyncio.run(_of_services(settings))
    if as_json:
        content = {
            "models": [_document(model) for model in here],
            "services": [asdict(model) for model in there],
        }
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    print_table(("model", "kind", "revision", "size", "last used", "made from"), map(_row, here))
    if there:
        print_table(
            ("service", "model", "state", "calls", "idle", "memory"),
            [
                (
                    model.service,
                    model.model or f"({model.error})",
                    model.state,
                    str(model.calls_in_flight),
                    "" if model.idle_s is None else f"{model.idle_s:.0f} s",
                    _size(model.memory_bytes) if model.memory_bytes else "",
                )
                for model in there
            ],
        )


@app.command("rm", epilog=EXIT_CODES)
@asks(how=("config",))
def remove(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name of `voxroute models list`, or well-known.")
    ],
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    how: How,
) -> None:
    """Remove a model: from the hub's cache, and what was converted from it."""
    chosen = local_models.of_name(how.settings(), name)
    for model in chosen:
        typer.echo(f"{model.name} ({model.kind}, {_size(model.bytes)})", err=True)
    if not yes and not typer.confirm("Remove this from the disk?", err=True):
        raise UsageError("nothing was removed; --yes does not ask")
    typer.echo(f"{_size(local_models.remove(chosen))} freed")


@app.command(epilog=EXIT_CODES)
@asks(how=("offline", "config", "quiet"))
def convert(
    *,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME_OR_DIR", help="A well-known name, a hub id or a directory."),
    ],
    to: Annotated[
        str,
        typer.Option("--to", help=f"The format that a service runs: {', '.join(_FORMATS)}."),
    ],
    revision: RevisionOption = "",
    how: How,
) -> None:
    """Convert a model as a service would at its first use, into the cache where it looks.

    Fetches it first where it is not here. Prints the directory.
    """
    if to not in _FORMATS:
        raise UsageError(f"--to {to}: the engines here run {', '.join(_FORMATS) or 'none'}")
    settings = how.settings()
    source = _source(settings, name, to, revision, quiet=how.quiet)
    converter = conversion.converter_of(source, to)
    with _activity(quiet=how.quiet) as tell:
        made = conversion.convert(converter, name, source, settings.model_cache_dir, tell)
    if made == source and not how.quiet:
        typer.echo(f"{name} is in that format already", err=True)
    typer.echo(str(made))


def _well_known(backend: str) -> Mapping[str, str]:
    """The hub's ids of well-known names, of the engine that is named or suits the host."""
    host = detect()
    named = next((one for one in host.engines if one.name == backend), None)
    if backend != "auto" and named is None:
        raise UsageError(f"--backend {backend}: this engine is not installed here")
    engine = named or host.engine("asr", host.accelerator, "cpu")
    return engine.hub_ids if engine is not None else {}


def _pulled(settings: Settings, hub_id: str, revision: str, *, quiet: bool) -> Path:
    """The directory of a model of the hub, whole."""
    if settings.offline:
        return hub_models.local(hub_id, revision or None)
    found = hub_models.listing(hub_id, revision or None)
    with _downloads(hub_id, quiet=quiet) as told:
        return hub_models.pull(found, revision or None, told)


def _source(settings: Settings, name: str, to: str, revision: str, *, quiet: bool) -> Path:
    """The directory of what is to be converted."""
    directory = Path(name).expanduser()
    bundled = bundled_models(settings)
    if not directory.is_dir() and bundled is not None and (bundled / name).is_dir():
        directory = bundled / name
    if directory.is_dir():
        return directory.resolve()
    known = [one.hub_ids for one in installed() if to in one.converters and one.kind == "asr"]
    hub_id = hub_models.hub_id_of(name, *known[:1])
    return _pulled(settings, hub_id, revision, quiet=quiet)


# --- progress ------------------------------------------------------------------------------------


class _Bars:
    """A bar for the file that is on its way; for terminals."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, file: HubFile, place: int, of: int) -> None:
        """A new bar."""
        self._task = self._progress.add_task(f"{file.name} ({place} of {of})", total=file.size)

    def advance(self, file: HubFile, done: int) -> None:
        """Moves it."""
        if self._task is not None:
            self._progress.update(self._task, completed=min(done, file.size))

    def finish(self, file: HubFile) -> None:
        """Fills it."""
        self.advance(file, file.size)


class _Lines:
    """A line for each file, and one every ten seconds; for logs and pipes."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._told_at = time.monotonic()

    def begin(self, file: HubFile, place: int, of: int) -> None:
        """Names the file."""
        self._say(f"{file.name} ({place} of {of}, {_size(file.size)})")

    def advance(self, file: HubFile, done: int) -> None:
        """Tells how far it is, if the last line is old enough."""
        if time.monotonic() - self._told_at >= _LINE_EVERY_S:
            self._say(f"{file.name}: {_size(done)} of {_size(file.size)}")

    def finish(self, file: HubFile) -> None:
        """Says nothing: the next line tells."""

    def _say(self, text: str) -> None:
        self._told_at = time.monotonic()
        if not self._quiet:
            typer.echo(text, err=True)


@contextlib.contextmanager
def _downloads(hub_id: str, *, quiet: bool) -> Generator[hub_models.Progress]:
    """Bars on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield _Lines(quiet=quiet)
        return
    console.print(hub_id, markup=False, highlight=False)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield _Bars(progress)


@contextlib.contextmanager
def _activity(*, quiet: bool) -> Generator[Callable[[str], None]]:
    """Takes what is being done: a spinner on a terminal, lines elsewhere."""

    def say(text: str) -> None:
        if not quiet:
            typer.echo(text, err=True)

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield say
        return
    with console.status("starting") as status:
        yield status.update


# --- lists ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a running service, or why the service tells of none."""

    service: str
    model: str = ""
    revision: str = ""
    state: Literal["", "available", "loading", "loaded"] = ""
    calls_in_flight: int = 0
    idle_s: float | None = None
    memory_bytes: int = 0
    error: str = ""


async def _of_services(settings: Settings) -> list[ServedModel]:
    """The models of every configured service, speech first."""
    targets = [(SPEECH, target) for target in settings.asr_endpoints]
    targets += [(TRANSLATION, target) for target in settings.translate_endpoints]
    asked = [_ask(settings, Endpoint(kind, target)) for kind, target in targets]
    return [model for models in await asyncio.gather(*asked) for model in models]


async def _ask(settings: Settings, endpoint: Endpoint) -> list[ServedModel]:
    try:
        own = credentials.of_settings(settings)
        async with connect(endpoint, policy(settings), own) as channel:
            stub: Any = cast("Any", models_pb2_grpc).ModelServiceStub(channel)
            reply = await unary(endpoint, stub.ListModels, models_pb2.ListModelsRequest())
    except VoxrouteError as error:
        return [ServedModel(endpoint.target, error=str(error))]
    return [_served(endpoint.target, model) for model in reply.models]


def _served(target: str, model: models_pb2.Model) -> ServedModel:
    state = models_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
    return ServedModel(
        service=target,
        model=model.model.id,
        revision=model.model.revision,
        state=cast("Any", state),
        calls_in_flight=model.calls_in_flight,
        idle_s=model.idle.ToMilliseconds() / 1000 if model.HasField("idle") else None,
        memory_bytes=model.memory_bytes,
    )


def _document(model: LocalModel) -> dict[str, Any]:
    used = model.last_used
    return {
        **asdict(model),
        "last_used": used.isoformat(timespec="seconds") if used is not None else None,
        "path": str(model.path),
    }


def _row(model: LocalModel) -> tuple[str, ...]:
    used = model.last_used.strftime("%Y-%m-%d %H:%M") if model.last_used is not None else ""
    revision = model.revision.removeprefix("sha256:")[:12]
    return (model.name, model.kind, revision, _size(model.bytes), used, model.source)


def _size(count: int) -> str:
    """Bytes as a person reads them: 3.1 GB."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - the next unit
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
