"""Clients of other gRPC stacks, over TLS with a token: buf's (Go) and @grpc/grpc-js (Node)."""

import base64
import difflib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.make_certs import make
from tests.e2e import processes
from voxroute_orchestrator.subtitles import formats as subtitles

# the bundled model transcribes a minute of film for each of the clients; npm fetches packages
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TOKEN = "the-token-of-other-stacks"  # noqa: S105 - of this test
UNAUTHENTICATED = 16
BUF = Path(sys.executable).with_name("buf")


@dataclass
class Secured:
    """A speech service with TLS and a token, and where its CA is."""

    address: str
    ca: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The WhisperX service with the bundled model on localhost."""
    folder = tmp_path_factory.mktemp("certs")
    make(folder)
    tokens = folder / "tokens"
    tokens.write_text(f"stacks:{TOKEN}\n")
    flags = {
        "--model": processes.ASR_MODEL,
        "--listen": "localhost:0",
        "--tls-cert": folder / "server.pem",
        "--tls-key": folder / "server.key",
        "--client-tokens": tokens,
    }
    arguments = [str(part) for flag in flags.items() for part in flag]
    with processes.service("voxroute_asr_whisperx", "--offline", *arguments) as running:
        listening = next(
            json.loads(line)
            for line in running.log.read_text().splitlines()
            if line.startswith("{") and "addresses" in line
        )
        address = next(one for one in listening["addresses"] if one.startswith("localhost:"))
        yield Secured(address, folder / "ca.pem")


def check(texts: list[str]) -> None:
    """The transcript is that of the clip."""
    reference = subtitles.read(processes.ROOT / "examples" / "lost-key.hi.srt")
    wanted = " ".join(cue.text for cue in reference).split()
    matcher = difflib.SequenceMatcher(None, wanted, " ".join(texts).split())
    assert matcher.ratio() > 0.8, texts


# --- buf curl


def curl(
    secured: Secured, method: str, messages: list[dict[str, Any]], *flags: str
) -> "subprocess.CompletedProcess[str]":
    """What `buf curl` answers; the contract comes by reflection."""
    if not BUF.exists():
        pytest.skip(f"the program buf is not at {BUF}; run make install")
    return subprocess.run(
        [
            str(BUF),
            *("curl", "--protocol", "grpc", "--cacert", str(secured.ca), "--data", "@-", *flags),
            f"https://{secured.address}/voxroute.asr.v1.AsrService/{method}",
        ],
        input="\n".join(json.dumps(message) for message in messages),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def values(text: str) -> Iterator[dict[str, Any]]:
    """The JSON values of a text, one after the other."""
    decoder = json.JSONDecoder()
    left = text.strip()
    while left:
        value, end = decoder.raw_decode(left)
        yield value
        left = left[end:].lstrip()


def messages(clip: Path) -> list[dict[str, Any]]:
    """The messages of a transcription in JSON."""
    data = clip.read_bytes()
    return [
        {"config": {"language": "hi", "audio": {"container": {}}}},
        *(
            {"audio": base64.b64encode(data[at : at + 65_536]).decode()}
            for at in range(0, len(data), 65_536)
        ),
        {"finish": {}},
    ]


def authorization(token: str) -> list[str]:
    """The flags that send a token with the call and with reflection."""
    return ["-H", f"authorization: Bearer {token}", "--reflect-header", "*"]


def test_buf_transcribes_over_tls_with_a_token(secured: Secured, clip: Path) -> None:
    """By reflection, as a bidirectional stream."""
    done = curl(secured, "Transcribe", messages(clip), *authorization(TOKEN))
    assert done.returncode == 0, done.stderr
    answers = list(values(done.stdout))
    assert "done" in answers[-1]
    check([one["segment"]["text"] for one in answers if "segment" in one])


@pytest.mark.parametrize("token", ["", "a-token-that-nobody-has"])
def test_buf_is_refused_without_the_token(secured: Secured, token: str) -> None:
    """Neither the contract, by reflection, nor, to one who has it, the call."""
    flags = authorization(token) if token else []
    done = curl(secured, "GetCapabilities", [{}], *flags)
    assert done.returncode != 0
    assert "failed to find service" in done.stderr  # buf's words for reflection that is refused
    schema = ["--schema", str(processes.ROOT / "protos")]
    done = curl(secured, "GetCapabilities", [{}], *schema, *flags[:2])
    assert done.returncode != 0
    assert '"code": "unauthenticated"' in done.stderr
    assert "token" in done.stderr


def test_buf_refuses_a_ca_that_it_does_not_know(secured: Secured, tmp_path: Path) -> None:
    """A certificate of ours is nothing to whoever trusts another CA."""
    make(tmp_path)
    other = Secured(secured.address, tmp_path / "ca.pem")
    schema = ["--schema", str(processes.ROOT / "protos")]
    done = curl(other, "GetCapabilities", [{}], *schema, *authorization(TOKEN)[:2])
    assert done.returncode != 0
    assert "certificate" in done.stderr


# --- @grpc/grpc-js


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with @grpc/grpc-js and the test's client."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program} is not installed")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(Path(__file__).with_name("foreign_client.js"), folder)
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "@grpc/grpc-js@1", "@grpc/proto-loader@0.7"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install @grpc/grpc-js: {done.stderr[-500:]}")
    return folder


def node(modules: Path, secured: Secured, token: str, clip: Path) -> dict[str, Any]:
    """What the client prints."""
    arguments = [processes.ROOT / "protos", secured.address, secured.ca, token, clip]
    done = subprocess.run(
        ["node", "foreign_client.js", *map(str, arguments)],
        cwd=modules,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_grpc_js_transcribes_over_tls_with_a_token(
    modules: Path, secured: Secured, clip: Path
) -> None:
    """An independent implementation of HTTP/2 and gRPC."""
    check(node(modules, secured, TOKEN, clip)["texts"])


@pytest.mark.parametrize("token", ["", "a-token-that-nobody-has"])
def test_grpc_js_is_refused_without_the_token(
    modules: Path, secured: Secured, clip: Path, token: str
) -> None:
    """UNAUTHENTICATED with the sentence, though the client goes on sending."""
    answer = node(modules, secured, token, clip)
    assert answer["code"] == UNAUTHENTICATED
    assert "token" in answer["details"]
