"""The flags of `voxroute`: what is asked for, from `JobSpec`, and how it is to be done."""

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from voxroute_orchestrator import spec as specs


class LogLevel(StrEnum):
    """How much the command writes about its own working."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


MediaArguments = Annotated[
    list[str],
    typer.Argument(
        metavar="MEDIA...",
        help="The recording: any file with audio. Several, folders, or quoted patterns are done"
        " one after the other.",
    ),
]
MediaArgument = Annotated[Path, typer.Argument(help="The recording: any file with audio.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted run has stopped.")
]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files of others.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="No downloads; bundled models unless one is named.")
]
AsrEndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--asr-endpoint", "--endpoint", help="A running speech service, HOST:PORT or unix:/PATH."
    ),
]
TranslateEndpointOption = Annotated[
    list[str] | None,
    typer.Option("--translate-endpoint", help="A running translation service."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; else voxroute.yaml.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors.")]
LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="Log of the command itself, to standard error.")
]

Command = Callable[..., None]


def asks(
    *, only: tuple[str, ...] = (), but: tuple[str, ...] = (), required: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """Gives a command the flags of JobSpec where its parameter `spec` stands, and makes it of them.

    `only` and `but` name fields, `required` those that must be typed.
    """
    asked = {
        name: flag
        for name, flag in specs.FLAGS.items()
        if name not in but and (name in only or not only)
    }

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def with_spec(**given: Any) -> None:
            spec = specs.of_flags({name: given.pop(name) for name in asked})
            command(spec=spec, **given)

        signature = inspect.signature(command, eval_str=True)
        flags = [_parameter(name, flag, name in required) for name, flag in asked.items()]
        parameters = [
            one
            for parameter in signature.parameters.values()
            for one in (flags if parameter.name == "spec" else [parameter])
        ]
        with_spec.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_spec.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_spec

    return decorated


def _parameter(name: str, flag: specs.Flag, required: bool) -> inspect.Parameter:  # noqa: FBT001
    option: Any = typer.Option(*flag.names, help=flag.help, min=flag.least)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else flag.unsaid,
        annotation=Annotated[flag.kind, option],
    )
