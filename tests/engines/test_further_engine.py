"""A further engine is its folder and its entry point: the toy, beside an unchanged product."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pysubs2
import pytest

from tests.e2e import processes
from voxroute_orchestrator import engines

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "toy_engine"
EXAMPLE = ROOT / "examples" / "lost-key.mp4"
HEAVY = {"ctranslate2", "grpc", "mlx", "numpy", "pydantic", "torch", "transformers"}

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def toy_installed(tmp_path: Path) -> dict[str, str]:
    """The variables of a Python that has the toy as an installer would leave it."""
    project = tomllib.loads((TOY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, version = project["name"], project["version"]
    info = tmp_path / "installed" / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        f"{key} = {value}" for key, value in project["entry-points"]["voxroute.engines"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(["[voxroute.engines]", *lines, ""]))
    return {"PYTHONPATH": f"{TOY}:{info.parent}"}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs the command in a folder of its own, with services that end with it."""

    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        own = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
        own |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        own |= {"VOXROUTE_LOCAL_IDLE_S": "0", **variables}
        return subprocess.run(
            [sys.executable, "-m", "voxroute_orchestrator", *arguments],
            env=own, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    return run


def test_routing_takes_it_where_it_is_asked_for_and_nowhere_else(
    command: Command, toy_installed: dict[str, str]
) -> None:
    """Its manifest says so; the reasons against the others are told as ever."""
    asked = command("route", "--backend", "toy", "--explain", **toy_installed)
    assert asked.returncode == 0, asked.stderr
    assert "speech: voxroute_asr_toy on cpu" in asked.stdout
    assert "voxroute_asr_whisperx on cpu: toy is asked for, and this is whisperx" in asked.stdout
    assert "toy" not in command("route", "--explain", **toy_installed).stdout
    elsewhere = command("route", "--backend", "toy")
    assert elsewhere.returncode == 2
    assert "there is no engine 'toy' here; there are auto, mlx, whisperx" in elsewhere.stderr


def test_it_is_started_for_a_recording_and_its_text_is_written(
    command: Command, toy_installed: dict[str, str], tmp_path: Path
) -> None:
    """A local service like any other: flags, windows, segments, subtitles."""
    done = command(
        "transcribe", str(EXAMPLE), "-s", "hi", "--backend", "toy", "--offline", **toy_installed
    )
    assert done.returncode == 0, done.stderr
    assert "speech: voxroute_asr_toy on cpu" in done.stderr
    (transcript,) = tmp_path.rglob("*.transcript.json")
    assert (
        json.loads(transcript.read_text(encoding="utf-8"))["recognition"]["model"]["engine"]
        == "toy"
    )
    (written,) = tmp_path.rglob("*.hi.srt")
    reference = pysubs2.load(str(EXAMPLE.with_suffix(".hi.srt")))
    heard = " ".join(event.plaintext for event in pysubs2.load(str(written))).split()
    assert heard == " ".join(event.plaintext for event in reference).split()


@pytest.mark.parametrize("level", ["debug", "info"])
def test_it_logs_at_the_level_that_is_asked_for(level: str, toy_installed: dict[str, str]) -> None:
    """Its own lines, as those of the service around it."""
    flags = ("--log-level", level)
    with processes.service("voxroute_asr_toy", *flags, wait=True, **toy_installed) as running:
        log = running.log.read_text()
    assert ("knows by heart" in log) == (level == "debug")


def test_manifests_are_read_without_their_engines() -> None:
    """The command reads them all to start one: no library, no module of an engine's package."""
    code = (
        "import sys; from voxroute_orchestrator.engines import installed; "
        "print(*(engine.module for engine in installed())); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    found, imported = (line.split() for line in done.stdout.splitlines())
    assert {*engines.OURS.values(), engines.TRANSLATE} == {*found}
    assert not HEAVY & {name.partition(".")[0] for name in imported}
    assert not [name for name in imported if name.partition(".")[0] in found and "." in name]
