"""LiveKit, Pipecat and wyoming-openai, unchanged, each in an environment of its own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe

from tests.e2e import processes
from tests.gateway.conftest import Gateway
from tests.gateway.live.speaking import SAID, monologue, pieces

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAMS = Path(__file__).parent / "foreign"
UV = processes.ROOT / ".tools" / "bin" / "uv"


def _interpreter(least: tuple[int, int]) -> str:
    """A Python of at least a version; the test is skipped where there is none."""
    if sys.version_info >= least:
        return sys.executable
    names = [f"python{least[0]}.{minor}" for minor in range(least[1], 15)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    kept = sorted(root.glob("versions/*/bin/python3"))
    for candidate in [*names, *map(str, kept)]:
        with contextlib.suppress(OSError):
            done = subprocess.run(
                [candidate, "-c", f"import sys; print(sys.version_info >= {least})"],
                check=False, capture_output=True, text=True,
            )  # fmt: skip
            if done.stdout.strip() == "True":
                return candidate
    pytest.skip(f"there is no Python {least[0]}.{least[1]} or later")


def _environment(folder: Path, least: tuple[int, int], *packages: str) -> Path:
    """An interpreter that has the packages; the test is skipped where they cannot be had."""
    if not UV.exists():
        pytest.skip(f"there is no {UV.name}; run make install")
    made = subprocess.run(
        [UV, "venv", "--quiet", "--python", _interpreter(least), folder],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    python = folder / "bin" / "python"
    done = subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", python, *packages],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"cannot install {', '.join(packages)}: {done.stderr.strip()[-300:]}")
    return python


def _lines(python: Path, program: str, *arguments: str) -> list[dict[str, Any]]:
    recording = processes.ROOT / "examples" / "evening.wav"
    done = subprocess.run(
        [python, PROGRAMS / program, arguments[0], recording, *arguments[1:]],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_livekit_hears_turn_by_turn(live: Gateway, tmp_path: Path) -> None:
    """Starts and ends of speech, interim texts that grow, final ones in order."""
    python = _environment(
        tmp_path / "env", (3, 11), "livekit-agents==1.8.9", "livekit-plugins-openai==1.8.9"
    )
    told = _lines(python, "livekit_stt.py", f"{live.url}/v1", "gpt-4o-mini-transcribe")
    kinds = [one["type"] for one in told]
    final = [one for one in told if one["type"] == "final_transcript"]
    assert " ".join(one["text"] for one in final) == SAID
    assert {one["language"] for one in final} == {"en"}
    assert kinds.count("start_of_speech") == len(final)
    assert kinds.count("end_of_speech") >= len(final) - 1
    assert kinds.index("interim_transcript") < kinds.index("final_transcript")


@pytest.mark.parametrize("turns", ["server", "client"])
def test_pipecat_hears_whoever_listens_for_pauses(
    live: Gateway, tmp_path: Path, turns: str
) -> None:
    """Its own default is to commit by itself."""
    python = _environment(tmp_path / "env", (3, 11), "pipecat-ai[openai,websockets-base]==1.14.0")
    told = _lines(python, "pipecat_stt.py", f"{live.url}/v1", turns)
    final = [one["text"] for one in told if one["final"]]
    assert " ".join(final) == SAID
    assert len(final) == (1 if turns == "client" else 4)
    assert "".join(one["text"] for one in told if not one["final"]).split() == SAID.split() or (
        turns == "server"
    )
    assert not told[0]["final"], "text comes before its end"


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _wyoming_openai(python: Path, url: str) -> Generator[int]:
    """The port of a server of wyoming-openai in front of a gateway."""
    port = processes.free_port()
    process = subprocess.Popen(
        [python, "-m", "wyoming_openai", "--uri", f"tcp://127.0.0.1:{port}",
         "--stt-openai-url", f"{url}/v1", "--stt-openai-key", "none",
         "--stt-models", "whisper-1", "--stt-streaming-models", "gpt-4o-transcribe",
         "--stt-realtime-models", "gpt-realtime-whisper", "--languages", "en"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not _answers(port):
            assert process.poll() is None, "it has ended"
            assert time.monotonic() < until, "it does not listen"
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(30)


async def test_wyoming_openai_works_in_front_of_the_gateway(live: Gateway, tmp_path: Path) -> None:
    """By recordings, by streams of events and by the realtime API, as Home Assistant calls it."""
    python = _environment(tmp_path / "env", (3, 12), "wyoming-openai==0.8.0")
    heard: dict[str, tuple[str, int]] = {}
    with _wyoming_openai(python, live.url) as port:
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=60) as client:
            await client.write_event(Describe().event())
            info = await client.read_event()
            assert info is not None
            names = [model["name"] for one in info.data["asr"] for model in one["models"]]
        for name in names:
            async with AsyncTcpClient("127.0.0.1", port, read_timeout=60) as client:
                await client.write_event(Transcribe(name=name, language="en").event())
                form: Any = {"rate": 16_000, "width": 2, "channels": 1}
                await client.write_event(AudioStart(**form).event())
                async for piece in pieces(monologue(16_000), 32_000, speed=2):
                    await client.write_event(AudioChunk(audio=piece, **form).event())
                await client.write_event(AudioStop().event())
                n_chunks = 0
                while (event := await client.read_event()) is not None:
                    assert event.type != "error", event.data
                    n_chunks += event.type == "transcript-chunk"
                    if event.type == "transcript":
                        heard[name] = (event.data["text"], n_chunks)
                        break
    assert set(heard) == {"whisper-1", "gpt-4o-transcribe", "gpt-realtime-whisper"}
    for text, _ in heard.values():
        assert "the doctor is sleeping in the garden" in text
        assert "My brother has already repaired this radio." in text
    assert heard["gpt-realtime-whisper"][1] > 1
