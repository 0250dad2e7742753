"""The one-time installation of the MLX service."""

# ruff: noqa: FBT001 - pytest passes parameters by name
import os
import platform
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "install-mlx.sh"
SCRIPTS = [SCRIPT, ROOT / "deploy" / "launchd" / "asr-mlx.sh"]
MLX_RUNS_HERE = (platform.system(), platform.machine()) in {
    ("Darwin", "arm64"),
    ("Linux", "x86_64"),
    ("Linux", "aarch64"),
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_well_formed(script: Path) -> None:
    """Bash reads them, and they may be executed."""
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=10)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_use_nothing_newer_than_the_bash_of_macos(script: Path) -> None:
    """Bash 3.2 has no associative arrays, mapfile, case changes, or `;&`."""
    text = script.read_text()
    for newer in ("declare -A", "mapfile", "readarray", ",,}", "^^}", ";&", "|&", "&>>", "coproc"):
        assert newer not in text


def host(directory: Path, system: str, machine: str, *, rosetta: bool = False) -> dict[str, str]:
    """An environment whose uname and sysctl speak of another host."""
    commands = {
        "uname": f'[ "$1" = -s ] && echo {system} || echo {machine}',
        "sysctl": f"echo {int(rosetta)}",
    }
    for name, body in commands.items():
        (directory / name).write_text(f"#!/bin/sh\n{body}\n")
        (directory / name).chmod(0o755)
    return {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("system", "machine", "rosetta", "words"),
    [
        ("Darwin", "x86_64", False, "Intel processor"),
        ("Darwin", "x86_64", True, "Rosetta"),
        ("Linux", "riscv64", False, "no MLX for Linux on riscv64"),
    ],
)
def test_hosts_without_mlx_are_told_what_to_do(
    system: str,
    machine: str,
    rosetta: bool,
    words: str,
    tmp_path: Path,
) -> None:
    """Nothing is installed, and the message says what to use instead."""
    environment = host(tmp_path, system, machine, rosetta=rosetta)
    done = subprocess.run(
        [SCRIPT],
        env={**environment, "VOXROUTE_MLX_ENVIRONMENT": str(tmp_path / "env")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert not (tmp_path / "env").exists()


def test_a_python_that_does_not_fit_is_told(tmp_path: Path) -> None:
    """The message names the versions and how to name another interpreter."""
    done = subprocess.run(
        [SCRIPT],
        env={**host(tmp_path, "Darwin", "arm64"), "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "PYTHON=" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it fetches 400 MB the first time
@pytest.mark.skipif(not MLX_RUNS_HERE, reason="there is no MLX for this host")
def test_installing_for_real_gives_a_service_without_torch(tmp_path: Path) -> None:
    """The script says what it found, twice; the environment runs the service and has no torch."""
    environment = tmp_path / "env"
    for _ in range(2):
        done = subprocess.run(
            [SCRIPT],
            env={**os.environ, "VOXROUTE_MLX_ENVIRONMENT": str(environment)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
            pytest.skip("the package registry cannot be reached")
        assert done.returncode == 0, done.stderr
        for words in ("mlx ", "mlx-whisper ", "default device: ", "Metal available: "):
            assert words in done.stdout
    python = environment / "bin" / "python"
    asked = subprocess.run(
        [python, "-m", "voxroute_asr_mlx", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "--listen" in asked.stdout
    without = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('torch'))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert without.stdout.strip() == "None"
