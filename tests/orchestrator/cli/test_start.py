"""The first second of the command: what it imports, how long that takes, and Ctrl-C meanwhile."""

import os
import signal
import statistics
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from langcodes import Language, standardize_tag

from tests.orchestrator import recordings
from tests.orchestrator.daemon import Daemon, stand_in_services
from voxroute_orchestrator import transcript
from voxroute_orchestrator.cli import app as cli_app
from voxroute_orchestrator.cli import jobs as cli_jobs
from voxroute_orchestrator.cli import live as cli_live
from voxroute_orchestrator.cli import models as cli_models
from voxroute_orchestrator.cli import run as cli_run
from voxroute_orchestrator.cli import serve as cli_serve
from voxroute_orchestrator.cli import services as cli_services
from voxroute_orchestrator.cli import tracks as cli_tracks
from voxroute_orchestrator.cli import ui as cli_ui
from voxroute_orchestrator.cli import workflow as cli_prepare
from voxroute_orchestrator.transcript import same_language, standard_tag

MODULES = (
    cli_jobs,
    cli_live,
    cli_models,
    cli_prepare,
    cli_run,
    cli_serve,
    cli_services,
    cli_tracks,
    cli_ui,
)
COMMAND = [sys.executable, "-m", "voxroute_orchestrator"]
HEAVY = {
    "av", "ctranslate2", "google.protobuf", "grpc", "huggingface_hub", "langcodes", "numpy",
    "opentelemetry", "pydantic", "structlog", "torch", "transformers", "voxroute_serving", "yaml",
}  # fmt: skip


def _took_s(*arguments: str) -> float:
    """Of a processor, as other processes take none of that."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, process.returncode, used = os.wait4(process.pid, 0)
    assert not process.returncode
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("flag", "least"), [("--version", "import typer"), ("--help", "import typer.rich_utils")]
)
def test_what_needs_no_command_takes_twice_its_library_at_most(flag: str, least: str) -> None:
    """Against the least that such a program imports, in one run; rich draws the help."""
    ratios = [_took_s("-m", "voxroute_orchestrator", flag) / _took_s("-c", least) for _ in range(5)]
    assert statistics.median(ratios) < 2, ratios


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], [], ["nonsense"], ["--nonsense"]])
def test_what_needs_no_command_imports_nothing_heavy(arguments: list[str]) -> None:
    """Nor does a command that is misspelt, but for pydantic, with which typer reads its name."""
    code = (
        "import sys\n"
        "from voxroute_orchestrator.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    imported = done.stderr.splitlines()
    assert "typer" in imported
    heavy = HEAVY - {"pydantic"} if arguments == ["nonsense"] else HEAVY
    assert not [name for name in imported if any(f"{name}.".startswith(f"{h}.") for h in heavy)]


NOT_FOR_A_JOB = {
    "ctranslate2", "huggingface_hub", "langcodes", "language_data", "numpy",
    "opentelemetry.exporter", "opentelemetry.propagate", "opentelemetry.sdk", "prometheus_client",
    "psutil", "pysubs2", "rich", "structlog", "torch", "transformers", "yaml",
    "voxroute_orchestrator.cli.terminal.bars", "voxroute_orchestrator.workflow.bootstrap",
    "voxroute_orchestrator.cli.batch", "voxroute_orchestrator.cli.workflow",
    "voxroute_orchestrator.models.conversion", "voxroute_orchestrator.models.hub",
    "voxroute_orchestrator.workflow.folder", "voxroute_orchestrator.subtitles.mux",
    "voxroute_orchestrator.models.prechecks",
    "voxroute_orchestrator.fleet.services", "voxroute_orchestrator.fleet.warm",
}  # fmt: skip


def test_a_job_of_running_services_imports_what_it_needs_and_no_more(tmp_path: Path) -> None:
    """Between the command and its first call a person waits for every import.

    numpy cuts what is longer than a span, langcodes reads unusual tags, rich draws on terminals.
    """
    media = recordings.write(tmp_path / "film.wav", recordings.steps(4))
    code = (
        "import sys\n"
        "from voxroute_orchestrator.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    with stand_in_services() as services:
        done = subprocess.run(
            [
                sys.executable, "-c", code, "run", str(media), "-s", "hi", "-t", "en",
                "-o", str(tmp_path / "out"), "--asr-endpoint", services.asr,
                "--translate-endpoint", services.translate,
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.splitlines())
    assert {"grpc", "av", "voxroute_orchestrator.pipeline.run"} <= imported
    assert not imported & NOT_FOR_A_JOB


def test_tags_of_two_letters_are_what_langcodes_says_of_them() -> None:
    """They are read without it, as nearly every command names such tags alone."""
    letters = [a + b for a in string.ascii_lowercase for b in string.ascii_lowercase]
    plain = [tag for tag in letters if standardize_tag(tag) == tag and Language.get(tag).is_valid()]
    assert sorted(transcript._TWO_LETTERS) == plain
    assert [standard_tag(tag) for tag in plain] == plain
    spoken = [Language.get(tag).maximize().language for tag in plain]
    assert len(set(spoken)) == len(plain)
    assert not same_language("hi", "en")
    assert same_language("sr", "sr-Cyrl")
    assert same_language("nb", "no")


def test_completions_of_names_import_nothing_heavy() -> None:
    """A person waits for each press of the key."""
    environment = os.environ | {
        "_VOXROUTE_COMPLETE": "complete_bash", "COMP_WORDS": "voxroute r", "COMP_CWORD": "1",
        "PYTHONPROFILEIMPORTTIME": "1",
    }  # fmt: skip
    code = (
        "import sys; sys.argv[0] = 'voxroute'; "
        "from voxroute_orchestrator.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["run", "route", "run-job"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & (HEAVY - {"pydantic"})


def test_each_command_is_told_as_it_tells_itself() -> None:
    """The names and lines of the help are those of the commands, and none is left out."""
    told: dict[str, str] = {}
    for module in MODULES:
        found: Any = typer.main.get_command(module.app)
        several = module in {cli_run, cli_prepare, cli_serve}
        commands = found.commands.values() if several else [found]
        name = module.__name__.rpartition(".")[2]
        told |= {command.name if several else name: command.help for command in commands}
    assert told == {name: command.help for name, command in cli_app.COMMANDS.items()}


# modules that are imported one after the other, from the first ones to the last
LANDMARKS = (
    "typer._click.exceptions", "typer", "pydantic", "grpc", "google.protobuf.message", "av",
    "voxroute_orchestrator.pipeline.recording", "voxroute_serving.telemetry.logs",
)  # fmt: skip


@pytest.mark.parametrize("landmark", LANDMARKS)
def test_an_interrupt_while_it_imports_ends_the_command_with_130(
    landmark: str, tmp_path: Path
) -> None:
    """One line, no traceback, wherever the import is: the interpreter tells each module."""
    media = recordings.write(tmp_path / "film.wav", recordings.steps(2))
    process = subprocess.Popen(
        [*COMMAND, "run", str(media), "-t", "en", "-o", str(tmp_path / "out"), "--offline"],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    with process.stdout, process.stderr:
        for line in process.stderr:
            if line.rpartition("|")[2].strip() == landmark:
                process.send_signal(signal.SIGINT)
            if not line.startswith("import time:"):
                said.append(line)
        out = process.stdout.read()
    assert process.wait(60) == 130
    assert "".join(said).startswith("voxroute: interrupted"), said
    assert len(said) == 1
    assert not out


@pytest.mark.parametrize("command", [["jobs", "list"], ["models", "rm", "x"], ["serve"]])
def test_an_interrupt_ends_other_commands_as_well(command: list[str], tmp_path: Path) -> None:
    """While their modules are imported, whose command is known by then."""
    module = {"jobs": "client.jobs", "models": "models.hub", "serve": "jobs.service"}[command[0]]
    process = subprocess.Popen(
        [*COMMAND, *command],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1", "HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said: list[str] = []
    with process.stderr:
        for line in process.stderr:
            if line.rstrip().endswith(f" voxroute_orchestrator.{module}"):
                process.send_signal(signal.SIGINT)
            if not line.startswith("import time:"):
                said.append(line)
    assert process.wait(60) == 130
    assert said == ["voxroute: interrupted\n"]


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    """As shells start what they put into the background."""
    process = subprocess.Popen(
        [*COMMAND, "bootstrap", "--help"],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509 - no threads
    )
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if line.rstrip().endswith(" typer"):
                process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_a_hangup_drains_the_job_service(tmp_path: Path) -> None:
    """Exit code 0, the store closed: the next start finds what was there."""
    with stand_in_services() as services:
        flags = ("--asr-endpoint", services.asr, "--translate-endpoint", services.translate)
        daemon = Daemon(tmp_path, flags)
        try:
            daemon.start()
            assert daemon.end(signal.SIGHUP) == 0
            assert '"stopped"' in (tmp_path / "log").read_text().splitlines()[-1]
            assert not list(daemon.data.glob("*-wal"))
        finally:
            daemon.close()
