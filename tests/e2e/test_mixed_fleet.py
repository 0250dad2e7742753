"""The fleet of docs/fleet.md: four hosts, here network namespaces that a bridge connects."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.speech import CLIP_S, looped
from scripts.make_certs import Authority
from tests.e2e import networks, processes
from tests.e2e.members import Member

ROOT = processes.ROOT
EXAMPLE = ROOT / "deploy" / "examples" / "voxroute.yaml"
NET = "10.77.8"
DESK = f"{NET}.1"  # where the command runs
HOSTS = {"mac": f"{NET}.2", "gpu-1": f"{NET}.3", "gpu-2": f"{NET}.4", "text": f"{NET}.5"}
LOOPS = 10  # of the example: nine minutes, nine spans for six calls at once
TOKEN = "f" * 40

pytestmark = [
    pytest.mark.slow,  # four real services and a quarter of an hour of speech
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def network() -> Iterator[networks.Network]:
    """The hosts, without anything on them."""
    with networks.network({"desk": DESK, **HOSTS}) as made:
        yield made


@dataclass
class Fleet:
    """The services by their hosts, and the desk that uses them."""

    network: networks.Network
    members: dict[str, Member]
    folder: Path

    def command(self, *arguments: str) -> "subprocess.Popen[str]":
        """`voxroute` on the desk, with the example's settings."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
        inherited["VOXROUTE_LOCAL_IDLE_S"] = "0"
        return subprocess.Popen(
            [
                *self.network.inside("desk"),
                sys.executable,
                "-m",
                "voxroute_orchestrator",
                *arguments,
            ],
            cwd=self.folder,
            env=inherited | {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def said(self, *arguments: str) -> str:
        """What the command says; fails with it where it fails."""
        process = self.command(*arguments)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output


@pytest.fixture(scope="module")
def fleet(network: networks.Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The services with TLS and tokens, each on its host, and the example's settings."""
    folder = tmp_path_factory.mktemp("fleet")
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.cert)
    for name, text in (("token", TOKEN), ("tokens", f"desk:{TOKEN}")):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    certificate, key = authority.issue(*HOSTS.values()).write(folder, "server")
    speech = ("--model", str(processes.ASR_MODEL))
    translation = ("--models", str(processes.TRANSLATE_MODEL))
    what = {
        "mac": ("voxroute_asr_mlx", 50052, speech),
        "gpu-1": ("voxroute_asr_whisperx", 50051, speech),
        "gpu-2": ("voxroute_asr_whisperx", 50051, speech),
        "text": ("voxroute_translate", 50053, translation),
    }
    protection = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with tempfile.TemporaryDirectory(prefix="vx") as sockets:
        members = {
            host: Member(
                module,
                f"{HOSTS[host]}:{port},unix:{sockets}/{host}.sock",
                folder / f"{host}.log",
                (*flags, *protection, "--client-tokens", str(folder / "tokens"),
                 "--device", "cpu", "--offline"),
                network.inside(host),
                {"VOXROUTE_MODEL_CACHE_DIR": str(folder / f"cache-{host}")},
                TOKEN,
            )
            for host, (module, port, flags) in what.items()
        }  # fmt: skip
        settings = yaml.safe_load(EXAMPLE.read_text())
        for kind in ("asr_endpoints", "translate_endpoints"):
            settings[kind] = [_at_address(endpoint) for endpoint in settings[kind]]
        for name, file in (("tls_ca", "ca.pem"), ("token_file", "token")):
            settings[name] = str(folder / file)
        (folder / "voxroute.yaml").write_text(yaml.safe_dump(settings))
        try:
            for member in members.values():
                member.begin()
            for member in members.values():
                member.ready()
            yield Fleet(network, members, folder)
        finally:
            for member in members.values():
                member.close()


def _at_address(endpoint: str) -> str:
    """The endpoint with the address of the host that it names."""
    found = re.fullmatch(r"grpcs://([\w-]+)\.example:(\d+)", endpoint)
    assert found is not None, endpoint
    return f"grpcs://{HOSTS[found[1]]}:{found[2]}"


def _endpoints(fleet: Fleet) -> dict[str, str]:
    """Host to endpoint, as the settings name it."""
    settings = yaml.safe_load((fleet.folder / "voxroute.yaml").read_text())
    named = [*settings["asr_endpoints"], *settings["translate_endpoints"]]
    by_address = {address: host for host, address in HOSTS.items()}
    return {by_address[one.split("//")[1].split(":")[0]]: one for one in named}


def _run(fleet: Fleet, media: Path, name: str) -> "subprocess.Popen[str]":
    return fleet.command("run", str(media), "-s", "hi", "-t", "en", "-o", str(fleet.folder / name))


def _report(fleet: Fleet, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The transcript and the report of a run."""
    folder = fleet.folder / name
    transcript = json.loads((folder / "film.transcript.json").read_text())
    return transcript, json.loads((folder / "film.run.json").read_text())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example again and again."""
    return looped(tmp_path_factory.mktemp("film") / "film.mka", round(LOOPS * CLIP_S))


def test_the_command_sees_the_whole_fleet(fleet: Fleet) -> None:
    """`services` shows all four as serving, `route --explain` ranks them; no token, no answer."""
    shown = fleet.said("services")
    for host, endpoint in _endpoints(fleet).items():
        assert endpoint.removeprefix("grpcs://") in shown, host
    explained = fleet.said("route", "-s", "hi", "-t", "en", "--explain")
    for host, endpoint in _endpoints(fleet).items():
        assert endpoint.removeprefix("grpcs://") in explained, host
    assert "mlx-whisper" in explained
    assert "whisperx" in explained
    (fleet.folder / "wrong").write_text("w" * 40 + "\n")
    refused = fleet.command("--token-file", str(fleet.folder / "wrong"), "services")
    assert "token" in refused.communicate(timeout=60)[0]
    assert refused.returncode != 0


def test_one_film_goes_through_every_service(fleet: Fleet, film: Path) -> None:
    """All three speech services take part, and every segment is translated."""
    process = _run(fleet, film, "whole")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    transcript, report = _report(fleet, "whole")
    speech = [one for host, one in _endpoints(fleet).items() if host != "text"]
    assert sorted(report["recognition"]["endpoints"]) == sorted(speech)
    assert len(transcript["translations"]["en"]["items"]) == len(transcript["segments"])


def test_a_host_that_dies_midway_costs_nothing_but_time(fleet: Fleet, film: Path) -> None:
    """The others do its work; what is said is what the whole fleet said, and it may come back."""
    lost = fleet.members["gpu-2"]
    process = _run(fleet, film, "less")
    try:
        _wait_for_calls(lost)
        lost.end(signal.SIGKILL)
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, output
    transcript, _ = _report(fleet, "less")
    assert transcript["complete"]
    whole, _ = _report(fleet, "whole")
    # MLX and CTranslate2 differ in a word here and there: who transcribed what is chance
    assert abs(len(transcript["segments"]) - len(whole["segments"])) <= len(whole["segments"]) // 20
    assert transcript["segments"][-1]["end_s"] == pytest.approx(
        whole["segments"][-1]["end_s"], abs=1.0
    )
    down = fleet.command("services")
    assert HOSTS["gpu-2"] in down.communicate(timeout=60)[0]
    assert down.returncode != 0
    lost.begin()
    lost.ready()
    fleet.said("services")


def _wait_for_calls(member: Member) -> None:
    """Returns once the service is at a call."""
    until = time.monotonic() + 120
    while member.open_calls() == 0:
        assert time.monotonic() < until, member.log.read_text()
        time.sleep(0.1)
