"""Each command of the README and the documentation is one that works, as it stands there."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from tests.orchestrator.cli.test_command import ROOT, STAND_INS
from tests.orchestrator.daemon import Daemon, Services, stand_in_services
from tests.orchestrator.films import Film
from voxroute_orchestrator.cli import app as cli_app
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
HEADS = (
    "voxroute", "python", "make", "./", "deploy/", "docker", "kubectl", "systemctl", "install",
    "cp", "prometheus", "promtool", "buf", "echo", "uv", ".tools/", "grpcurl", "curl", "pip",
)  # fmt: skip

RUN_ELSEWHERE = {
    "voxroute serve --data-dir /var/lib/voxroute": "test_jobs_page",
    "voxroute jobs watch 63285880ec70": "test_jobs_page",
    "voxroute jobs fetch 63285880ec70": "test_jobs_page",
    "voxroute ui": "test_ui, which also ends it",
    "voxroute live": "test_live_command, with services that hear live speech",
    "voxroute models pull": "test_models, against a hub of its own",
    "voxroute models convert": "test_models, against a hub of its own",
    "voxroute models rm": "test_models, with a model to remove",
    "make demo": "installs everything; its commands are those of test_workflow_example",
    "make test": "this is it",
    "make certs": "tests/serving/secured.py makes such certificates",
    "./install-mlx.sh": "tests/deploy/test_install_mlx",
    "deploy/launchd/asr-mlx.sh": "tests/deploy/test_launchd",
    "docker": "tests/deploy, where docker is installed",
    "kubectl": "tests/deploy/test_kubernetes checks the files",
    "prometheus": "tests/deploy/test_monitoring, where it is installed",
    "promtool": "tests/deploy/test_monitoring, where it is installed",
    "python deploy/grafana/dashboards.py": "tests/deploy/test_dashboards",
}
NOT_RUN = {
    "voxroute run film.mp4 -s hi -t en,ta --model large-v3": "needs a network; its flags are tried",
    "voxroute --tls-ca": "needs a service with a certificate; its flags are tried",
    "python -m voxroute_asr_whisperx": "needs a network and a GPU; its flags are tried",
    "python -m voxroute_translate": "needs a network; its flags are tried",
    "python -m benchmarks": "takes minutes, and real weights",
    "make uv.lock": "made with everything else",
    "buf": "no part of the repository",
    "echo": "writes a token",
    ".tools/bin/uv": "installs a member",
    "install": "needs root",
    "cp": "needs root",
    "systemctl": "needs root",
}


def _commands() -> list[str]:
    """Every command of the pages, each once, on one line and without its comment."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"(?:^    .+\n|^\n(?=    ))+", text, re.MULTILINE)
        blocks += re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL)
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+", " ", line.strip())
            command = re.sub(r"^([A-Z_]+=\S+ )+", "", command)  # variables that are set for it
            if command.startswith(HEADS):
                found[command.split(" # ")[0].strip()] = None
    return list(found)


COMMANDS = _commands()


def _left_out(command: str) -> bool:
    return any(command.startswith(one) for one in (*RUN_ELSEWHERE, *NOT_RUN))


def _whole(command: str) -> str:
    """The command with what stands on the page as "..."."""
    return command.replace(" run ...", " run film.mp4 -s hi -t en")


_ON_EVERY_RUN = [
    "voxroute run film.mp4 -s hi -t en",
    "voxroute translate film.hi.srt -s hi -t en --glossary terms.csv",
    "voxroute jobs submit film.mp4 -s hi -t en --watch",
    "./run-pipeline.sh -j <job-id>",
]
TRIED = [command for command in COMMANDS if not _left_out(command)]


def test_each_command_of_the_pages_is_tried_or_is_left_out_for_a_reason() -> None:
    """A reason that fits no command any more goes."""
    assert len(COMMANDS) > 40
    assert len(TRIED) >= 14
    assert set(_ON_EVERY_RUN) <= set(TRIED)
    for one in (*RUN_ELSEWHERE, *NOT_RUN):
        assert any(command.startswith(one) for command in COMMANDS), one


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("voxroute")])
def test_the_command_takes_its_flags(command: str) -> None:
    """Parsed as the command parses it, nothing is unknown and nothing is missing."""
    words = shlex.split(_whole(command))[1:]
    if "serve" in words:  # it has a parser of its own, which test_jobs_page tries
        return
    group: Any = typer.main.get_command(cli_app.app)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(group.make_context("voxroute", list(words)))
        while isinstance(group, click.Group) or hasattr(group, "resolve_command"):
            rest = [*getattr(context, "_protected_args", ()), *context.args]
            if not rest:
                break
            name, group, rest = group.resolve_command(context, rest)
            context = stack.enter_context(group.make_context(name, list(rest), parent=context))


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python -m voxroute_")])
def test_the_service_takes_its_flags(command: str) -> None:
    """Each flag is one that the service's help tells."""
    words = shlex.split(command)
    told = subprocess.run(
        [sys.executable, *words[1:3], "--help"], capture_output=True, text=True, check=True,
        timeout=120,
    ).stdout  # fmt: skip
    flags = {word for word in words if word.startswith("--")}
    assert flags <= set(re.findall(r"--[a-z-]+", told))


@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if not c.startswith(("voxroute", "python"))]
)
def test_files_and_targets_that_the_command_names_are_there(command: str) -> None:
    """Scripts, configurations, and targets of make."""
    words = shlex.split(command)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE)
    for word in words:
        path = word.partition("=")[2] or word
        if path.startswith(("./", "deploy/")):
            assert (ROOT / path).exists(), path


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """What does the work."""
    with stand_in_services(pairs=(("hi", "en"), ("hi", "ta"), ("en", "hi"))) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the pages name."""
    for name in ("film.mp4", "film.mkv", "movie.mp4", "films/one.mp4", "more/deep/two.mkv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Film("matroska" if name.endswith("mkv") else "mp4").write(path)
    (tmp_path / "terms.csv").write_text("source,target\nword1,one\n", encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, services: Services) -> Iterator[Daemon]:
    """A job service, for the commands that ask one."""
    folder = tmp_path_factory.mktemp("daemon")
    running = Daemon(
        folder, ("--asr-endpoint", services.asr, "--translate-endpoint", services.translate)
    )
    running.start()
    yield running
    running.close()


@pytest.fixture
def run(place: Path, services: Services, daemon: Daemon) -> Callable[[str], str]:
    """Runs a command of the pages in the folder, with services that are there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    environment |= {
        "HOME": str(place),
        "XDG_CONFIG_HOME": str(place),
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "PYTHONPATH": f"{STAND_INS}:{ROOT}",
        "STAND_IN_DIR": str(place),
        "VOXROUTE_LOCAL_IDLE_S": "0",
        "VOXROUTE_OFFLINE": "true",
        "VOXROUTE_WORK_DIR": str(place / "out"),
        "VOXROUTE_SERVER": daemon.target,
        "VOXROUTE_ASR_ENDPOINTS": services.asr,
        "VOXROUTE_TRANSLATE_ENDPOINTS": services.translate,
    }

    def act(command: str) -> str:
        for address, ours in (("50051", services.asr), ("50053", services.translate)):
            command = command.replace(f"127.0.0.1:{address}", ours)
        if command.startswith("./"):
            command = str(ROOT / command)
        done = subprocess.run(
            ["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout

    return act


@pytest.mark.parametrize(
    "command",
    [
        command if command in _ON_EVERY_RUN else pytest.param(command, marks=pytest.mark.slow)
        for command in TRIED
    ],
)
def test_the_command_does_its_work(command: str, run: Callable[[str], str], place: Path) -> None:
    """With exit code 0, on the files that it names."""
    for name in re.findall(r"translate (\S+\.srt)", command):
        cues = [Cue(k * 1000, k * 1000 + 900, f"word{k}") for k in range(3)]
        (place / name).write_text(subtitles.to_srt(cues), encoding="utf-8")
    if "<job-id>" in command:
        run("./prepare-job.sh movie.mp4 --transcribe -s hi")
        (job,) = (place / "out" / "jobs").iterdir()
        (job / f".{job.name}.env").write_text(
            (job / f".{job.name}.env").read_text().replace("=whisperx", "=auto")
        )
        command = command.replace("<job-id>", job.name)
    said = run(_whole(command))
    if command.startswith("voxroute run film.mp4"):
        assert "film.en.srt" in said
        assert (place / "film.en.srt").is_file()
