"""The commands and flags of docs/jobs.md work as they are written there."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from tests import forking
from tests.orchestrator import recordings
from tests.orchestrator.cli.test_command import STAND_INS
from tests.orchestrator.daemon import Daemon, Services
from voxroute_orchestrator.cli import jobs as cli_jobs
from voxroute_orchestrator.cli import run as cli_run

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "jobs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:^    .+\n|^\n(?=    ))+", PAGE, re.MULTILINE)
SCRIPT = "".join(BLOCKS).replace("\\\n", " ")
COMMANDS = [shlex.split(line, comments=True) for line in SCRIPT.splitlines() if line.strip()]
ANY_ADDRESS = re.compile(r"127\.0\.0\.1:5005(\d)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The recordings that the page names; its films are Matroska here."""
    for name in ("film", "films/one", "more/deep/two"):
        path = tmp_path / f"{name}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        recordings.write(path, recordings.steps(4))
    return tmp_path


def test_the_page_has_the_commands_that_are_tried() -> None:
    """One that is added has to be tried below."""
    heads = [tuple(word for word in command[:3] if word.isalpha()) for command in COMMANDS]
    assert heads == [
        ("voxroute", "serve"),
        ("voxroute", "jobs", "submit"),
        ("voxroute", "jobs", "watch"),
        ("voxroute", "jobs", "fetch"),
        ("voxroute", "run"),
    ]


def test_the_commands_do_what_the_page_says(folder: Path, services: Services) -> None:
    """The service starts, the job's id is printed, it is watched and its results fetched."""
    serve, submit, watch, fetch, batch = COMMANDS
    targets = {"1": services.asr, "3": services.translate}
    flags = [ANY_ADDRESS.sub(lambda found: targets[found[1]], word) for word in serve[2:]]
    assert flags[0] == "--data-dir"
    daemon = Daemon(folder, tuple(flags[2:]))  # in a folder of its own
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    environment |= {
        "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "VOXROUTE_LOCAL_IDLE_S": "0",
    }  # fmt: skip

    def run(command: list[str], **replaced: str) -> str:
        words = [replaced.get(word.replace(".", "_"), word) for word in command[1:]]
        done = forking.run(
            "voxroute_orchestrator", *words, environment=environment, folder=folder, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        daemon.start()
        environment["VOXROUTE_SERVER"] = daemon.target
        job_id = run(submit, film_mp4="film.mkv").strip()
        placeholder = watch[3]
        run(watch, **{placeholder: job_id})
        assert fetch[3] == placeholder
        run(fetch, **{placeholder: job_id})
    finally:
        daemon.close()
    assert (folder / "out" / "film.en.srt").is_file()
    # this one starts services
    environment |= {
        "PYTHONPATH": f"{STAND_INS}:{STAND_INS.parents[2]}",
        "STAND_IN_DIR": str(folder),
    }
    run(batch)
    assert (folder / "out" / "one.en.srt").is_file()
    assert (folder / "out" / "two.en.srt").is_file()


def test_serve_takes_the_flags_of_the_page_and_run_calls_them_the_same() -> None:
    """Each flag of the operator's table is one of `voxroute serve`."""
    table = PAGE[PAGE.index("## For the operator") : PAGE.index("Who can reach the service")]
    named = set(re.findall(r"^\| .*?\|", table, re.MULTILINE))
    flags = set(re.findall(r"--[a-z-]+", " ".join(named)))
    done = forking.run("voxroute_orchestrator", "serve", "--help", timeout=120)
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert flags
    assert flags <= set(re.findall(r"--[a-z-]+", told))
    assert {"--asr-endpoint", "--translate-endpoint"} <= flags & _flags(cli_run.app, "run")


def test_the_client_takes_the_flags_of_the_page() -> None:
    """Each flag in a line of the table about `jobs X` is one of that command."""
    table = PAGE[PAGE.index("## The command as a client") : PAGE.index("## Many recordings")]
    lines = [line for line in table.splitlines() if line.startswith("| `jobs")]
    assert len(lines) >= 5
    for line in lines:
        names = re.findall(r"`jobs ([a-z]+)", line)
        known = set[str]().union(*(_flags(cli_jobs.app, name) for name in names))
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def _flags(app: typer.Typer, name: str) -> set[str]:
    """The options of a command."""
    group: Any = typer.main.get_command(app)
    return {flag for parameter in group.commands[name].params for flag in parameter.opts}
