"""The flags of `voxroute`: what is asked for, from `JobSpec`, and how it is to be done."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from voxroute_orchestrator import __version__
from voxroute_orchestrator import spec as specs
from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.settings import Settings, load
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import set_up_logs


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
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; else voxroute.yaml.")
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Only warnings and errors.")]
LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="Log of the command itself, to standard error.")
]


@dataclass(frozen=True, kw_only=True)
class How:
    """How a command does its work, as the flags say that it has of these."""

    offline: OfflineOption = False
    asr_endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--asr-endpoint",
            "--endpoint",
            help="A running speech service, HOST:PORT or unix:/PATH.",
        ),
    ] = None
    translate_endpoint: Annotated[
        list[str] | None,
        typer.Option("--translate-endpoint", help="A running translation service."),
    ] = None
    config: ConfigOption = None
    quiet: QuietOption = False
    log_level: LogLevelOption = LogLevel.warning

    def settings(self) -> Settings:
        """The settings with what the flags say. Raises UsageError."""
        return load(
            offline=self.offline,
            asr_endpoints=",".join(self.asr_endpoint or ()),
            translate_endpoints=",".join(self.translate_endpoint or ()),
            config=self.config,
            **credentials.flags,
        )

    def begin(self, level: LogLevel | None = None) -> Settings:
        """The settings, from when on logs and traces are as they say. Raises UsageError."""
        settings = self.settings()
        set_up_logs((level or self.log_level).value, "console", log_text=settings.log_text)
        if settings.tracing:
            tracing.start("voxroute", __version__)
        return settings


_HOW = tuple(field.name for field in dataclasses.fields(How))
Command = Callable[..., None]


def asks(
    *,
    only: tuple[str, ...] = (),
    but: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
    how: tuple[str, ...] = _HOW,
) -> Callable[[Command], Command]:
    """Gives a command flags where its parameters `spec` and `how` stand, and makes these of them.

    `only` and `but` name fields of JobSpec, `required` those that must be typed, `how` those of
    How.
    """
    asked = {
        name: flag
        for name, flag in specs.FLAGS.items()
        if name not in but and (name in only or not only)
    }

    def decorated(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        of_how = inspect.signature(How, eval_str=True).parameters
        flags = {
            "spec": [_parameter(name, flag, name in required) for name, flag in asked.items()],
            "how": [of_how[name] for name in how],
        }

        @functools.wraps(command)
        def with_flags(**given: Any) -> None:
            if "spec" in signature.parameters:
                given["spec"] = specs.of_flags({name: given.pop(name) for name in asked})
            if "how" in signature.parameters:
                given["how"] = How(**{name: given.pop(name) for name in how})
            command(**given)

        parameters = [
            one
            for parameter in signature.parameters.values()
            for one in flags.get(parameter.name, [parameter])
        ]
        with_flags.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_flags

    return decorated


def _parameter(name: str, flag: specs.Flag, required: bool) -> inspect.Parameter:  # noqa: FBT001
    option: Any = typer.Option(*flag.names, help=flag.help, min=flag.least)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else flag.unsaid,
        annotation=Annotated[flag.kind, option],
    )
