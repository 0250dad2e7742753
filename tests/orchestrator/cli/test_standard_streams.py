"""Standard output and error that are closed, full, or read by nobody: the work is done anyway."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.cli.test_command import Sandbox, sandbox
from tests.orchestrator.daemon import Services

__all__ = ["sandbox"]  # the fixture

RESULTS = [
    "film.en.srt", "film.en.vtt", "film.hi.srt", "film.hi.vtt", "film.run.json", "film.ta.srt",
    "film.ta.vtt", "film.transcript.json",
]  # fmt: skip


def _shell(
    sandbox: Sandbox, arguments: list[str], redirections: str
) -> "subprocess.CompletedProcess[str]":
    """The command with its streams as a shell makes them; its own exit code."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirections}', "bash", sys.executable, "-m",
         "voxroute_orchestrator", *arguments],
        check=False, capture_output=True, text=True, env=sandbox.environment, cwd=sandbox.folder,
        timeout=120,
    )  # fmt: skip


def _job(sandbox: Sandbox, services: Services) -> list[str]:
    endpoints = ("--asr-endpoint", services.asr, "--translate-endpoint", services.translate)
    return sandbox.job(*endpoints)


@pytest.mark.parametrize(
    ("redirections", "code"),
    [
        (">/dev/full", 6),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("2> >(true)", 0),
        ("| true; exit ${PIPESTATUS[0]}", 0),
    ],
)
def test_a_run_writes_all_its_results_whatever_hears_of_them(
    sandbox: Sandbox, services: Services, redirections: str, code: int
) -> None:
    """All files are there; the exit code is 6 where standard output refuses, else 0."""
    done = _shell(sandbox, _job(sandbox, services), redirections)
    assert done.returncode == code, done.stderr
    assert sorted(path.name for path in sandbox.out.iterdir()) == RESULTS
    assert "Traceback" not in done.stderr
    if redirections == ">/dev/full":
        last = done.stderr.splitlines()[-1]
        assert last.startswith("voxroute: standard output cannot be written (No space left")


@pytest.mark.parametrize(
    ("arguments", "redirections", "code"),
    [
        (["run", "none.wav", "-t", "en"], "2>&-", 3),
        (["run", "none.wav", "none2.wav", "-t", "en"], "| true; exit ${PIPESTATUS[0]}", 3),
        (["--version"], ">/dev/full 2>/dev/full", 6),
    ],
)
def test_exit_codes_do_not_depend_on_the_streams(
    sandbox: Sandbox, arguments: list[str], redirections: str, code: int
) -> None:
    """The same as with open ones, and 6 where there is no room for what was asked for."""
    done = _shell(sandbox, arguments, redirections)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what a library writes to standard error would land in the store."""
    script = (
        "import os\nfrom pathlib import Path\n"
        "from voxroute_orchestrator.cli.terminal import standard_streams\n"
        "standard_streams.set_up()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "os.write(2, b'noise')\nos.write(1, b'noise')\n"
        "file.write('text')\n"
    )
    done = subprocess.run(
        ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", script], check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "text"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names
