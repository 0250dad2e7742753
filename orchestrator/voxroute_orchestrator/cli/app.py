"""The commands of `voxroute` by name and one line each; what one works with is imported with it.

`voxroute --help` and the completions of shells come from here alone, in a tenth of the time.
"""

import importlib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import voxroute_orchestrator
from voxroute_orchestrator.cli.main import all_imported
from voxroute_orchestrator.errors import EXIT_CODES, JobInterruptedError


class Command(NamedTuple):
    """Where a command is, and the line that tells it in the help."""

    module: str
    help: str


COMMANDS = {
    "serve": Command("serve", "Serve jobs over gRPC; `voxroute serve --help` tells the flags."),
    "gateway": Command(
        "serve",
        "Serve HTTP for programs of other makers; `voxroute gateway --help` tells the flags.",
    ),
    "worker": Command(
        "serve",
        "Take parts of the jobs of `voxroute serve --engine --workers` to a speech service here.",
    ),
    "fleet": Command(
        "serve", "Show the NATS servers of --engine, who shares jobs on them, and what waits."
    ),
    "ui": Command("ui", "Show the web page: films to subtitles, to correct and to take along."),
    "run": Command("run", "Turn recordings into transcripts and translated subtitles."),
    "transcribe": Command(
        "run", "Turn a recording into a transcript and subtitles in its own language."
    ),
    "live": Command("live", "Caption what is spoken now: a microphone, a stream, standard input."),
    "translate": Command("run", "Translate a subtitle file; times stay as they are."),
    "tracks": Command(
        "tracks", "List the audio tracks of a recording, and tell which one would be taken."
    ),
    "services": Command(
        "services",
        "Show the services that are configured and those that are kept warm here; end the latter.",
    ),
    "route": Command("run", "Show which service would do a job, without doing it."),
    "bootstrap": Command(
        "workflow",
        "Detect this host's hardware and write what suits it to out/hardware_cache.json.",
    ),
    "prepare": Command(
        "workflow", "Make a job folder with settings that suit this host; `run-job` runs it."
    ),
    "run-job": Command("workflow", "Run a prepared job with what its own files say."),
    "jobs": Command("jobs", "Submit jobs to a job service, watch them, fetch their results."),
    "models": Command("models", "Fetch, convert, list and remove models ahead of their use."),
}
"""All of them, in the order of the help."""


class _Commands(TyperGroup):
    """Imports a command once it is called, not for being listed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name, its name, and the rest of them."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, _imported(name) if name else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Raises JobInterruptedError, where typer would end without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise JobInterruptedError("interrupted") from None


def _imported(name: str) -> Any:
    module = importlib.import_module(f"voxroute_orchestrator.cli.{COMMANDS[name].module}")
    found: Any = typer.main.get_command(module.app)
    all_imported()
    return getattr(found, "commands", {}).get(name, found)  # one of several, or the module's own


app = typer.Typer(
    cls=_Commands,
    name="voxroute",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Recordings to transcripts and translated subtitles, on the hardware that is there.",
    epilog=EXIT_CODES,
)


def _listed() -> None:
    """Stands for a command until that is imported."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.help)(_listed)


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        typer.echo(f"voxroute {voxroute_orchestrator.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", help="CAs of the services, PEM; turns TLS on.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="This client's certificate, PEM.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", help="The certificate's private key, PEM.")
    ] = None,
    tls_server_name: Annotated[
        str, typer.Option("--tls-server-name", help="Name that services' certificates must have.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File that holds the token for services.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token to other hosts without TLS too.")
    ] = False,
    local_idle_s: Annotated[
        float | None,
        typer.Option(
            "--local-idle-s",
            min=0,
            help="Seconds that a service which is started here stays for the next command, unused;"
            " 0 ends it with the command. Else 300.",
        ),
    ] = None,
) -> None:
    # here: the command that was called has imported them, and --version has no need of them
    from voxroute_orchestrator.client import credentials  # noqa: PLC0415
    from voxroute_serving.telemetry import tracing  # noqa: PLC0415

    del version
    context.call_on_close(tracing.stop)
    credentials.flags.update(
        tls_ca=tls_ca,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_server_name=tls_server_name,
        token_file=token_file,
        insecure=insecure,
        local_idle_s=local_idle_s,
    )
