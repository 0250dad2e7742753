"""The MLX service under launchd: the job that is rendered, and the script that installs it."""

import json
import os
import plistlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.process import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "launchd" / "asr-mlx.sh"
LABEL = "org.voxroute.asr-mlx"
MODEL = ROOT / "models" / "asr-tiny-hi-en"
# what the script asks of macOS's own command, with a file for what launchd would remember; like
# the real one it still knows a job for a while after bootout
LAUNCHCTL = """#!/bin/bash
echo "$@" >>"$HOME/launchctl.calls"
case $1 in
bootstrap) [ ! -e "$HOME/job" ] && cp "$3" "$HOME/job" ;;
bootout) mv "$HOME/job" "$HOME/stopping" ;;
print) [ -e "$HOME/job" ] && echo "	state = running" || rm "$HOME/stopping" 2>/dev/null ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory with a space and an ampersand, and a launchctl for the search path."""
    home = tmp_path / "Some & One"
    (home / "bin").mkdir(parents=True)
    launchctl = home / "bin" / "launchctl"
    launchctl.write_text(LAUNCHCTL)
    launchctl.chmod(0o755)
    return home


def run(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """What the script did in a home directory."""
    return subprocess.run(
        [SCRIPT, *arguments],
        env={
            **os.environ,
            "HOME": str(home),
            "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
            "VOXROUTE_MLX_ENVIRONMENT": sys.prefix,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def job(home: Path, *flags: str) -> dict[str, Any]:
    """The rendered job."""
    done = run(home, "render", *flags)
    assert done.returncode == 0, done.stderr
    return plistlib.loads(done.stdout.encode())


def test_the_job_is_what_launchd_needs(home: Path) -> None:
    """Restart on crash only, no storm of restarts, logs of the user, no placeholder left."""
    made = job(home)
    assert made["Label"] == LABEL
    assert made["RunAtLoad"] is True
    assert made["KeepAlive"] == {"SuccessfulExit": False}
    assert made["ThrottleInterval"] >= 10
    logs = home / "Library" / "Logs" / "voxroute"
    assert Path(made["StandardErrorPath"]).parent == logs
    assert Path(made["StandardOutPath"]).parent == logs
    assert made["ProgramArguments"][:3] == [f"{sys.prefix}/bin/python", "-m", "voxroute_asr_mlx"]
    assert "{{" not in str(made)


def test_the_job_agrees_with_the_services_settings(home: Path) -> None:
    """The service's own ports on this machine alone; it may drain and free before it is killed."""
    made = job(home)
    settings = MlxSettings(_cli_parse_args=made["ProgramArguments"][3:])  # pyright: ignore[reportCallIssue]
    defaults = MlxSettings.model_fields
    assert settings.listen == defaults["listen"].default == ["127.0.0.1:50052"]
    assert settings.metrics_listen == defaults["metrics_listen"].default == "127.0.0.1:9152"
    # the model is given so long to be freed by the service, and again by its thread
    assert made["ExitTimeOut"] > settings.drain_s + 2 * main._FREE_S


@pytest.mark.parametrize("flags", [("--drain-s", "600"), ("--drain-s=599.5",)])
def test_a_longer_drain_moves_the_kill(flags: tuple[str, ...], home: Path) -> None:
    """The kill comes 30 s after the end of the drain that the flags ask for."""
    assert job(home, *flags)["ExitTimeOut"] == 630


def test_flags_of_the_service_replace_those_of_the_template(home: Path) -> None:
    """A flag that is given stands once; values keep their blanks and signs."""
    made = job(
        home, "--listen=0.0.0.0:50052", "--insecure", "--model", "/Volumes/A <&> B/m", "--offline"
    )
    arguments = made["ProgramArguments"][3:]
    settings = MlxSettings(_cli_parse_args=arguments)  # pyright: ignore[reportCallIssue]
    assert settings.listen == ["0.0.0.0:50052"]
    assert settings.model == "/Volumes/A <&> B/m"
    assert settings.offline
    assert settings.metrics_listen == "127.0.0.1:9152"


def test_the_job_starts_the_service_and_sigterm_ends_it_well(home: Path) -> None:
    """What launchd would run listens; SIGTERM exits 0, after which launchd leaves it stopped."""
    flags = ("--listen", "127.0.0.1:0", "--metrics-listen", "", "--model", str(MODEL))
    command = job(home, *flags, "--device", "cpu")["ProgramArguments"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = json.loads(process.stdout.readline())
            assert line["event"] == "listening"
            assert line["addresses"][0].startswith("127.0.0.1:")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
        assert process.returncode == 0, errors


def test_install_replaces_what_runs_and_uninstall_removes_it(home: Path) -> None:
    """Installing twice waits for the first to stop; uninstalling keeps the logs."""
    agent = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    assert run(home, "install").returncode == 0
    again = run(home, "install", "--model", "tiny")
    assert again.returncode == 0, again.stderr
    installed = plistlib.loads(agent.read_bytes())
    assert installed["ProgramArguments"][-2:] == ["--model", "tiny"]
    assert (home / "job").read_bytes() == agent.read_bytes()
    assert "running" in run(home, "status").stdout
    assert run(home, "uninstall").returncode == 0
    assert not agent.exists()
    assert not (home / "job").exists()
    assert (home / "Library" / "Logs" / "voxroute").is_dir()
    assert run(home, "uninstall").returncode == 0
    calls = (home / "launchctl.calls").read_text().splitlines()
    assert f"bootstrap gui/{os.getuid()} {agent}" in calls
    assert f"bootout gui/{os.getuid()}/{LABEL}" in calls


def test_flags_that_the_service_does_not_take_install_nothing(home: Path) -> None:
    """A misspelt flag and a wrong value are told at once, and what runs goes on."""
    for flags in (["--modle", "tiny"], ["--max-batch", "many"]):
        done = run(home, "install", *flags)
        assert done.returncode != 0
        assert flags[0] in done.stderr
    assert not (home / "Library").exists()


def test_a_missing_environment_is_told(home: Path) -> None:
    """The message names the command that makes the environment."""
    done = run(home, "install", VOXROUTE_MLX_ENVIRONMENT=str(home / "nothing"))
    assert done.returncode == 1
    assert "install-mlx.sh" in done.stderr


def test_a_wrong_command_prints_the_usage(home: Path) -> None:
    """Exit code 2, and the commands that there are."""
    done = run(home, "start")
    assert done.returncode == 2
    assert "uninstall" in done.stderr
