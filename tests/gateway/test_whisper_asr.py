"""The requests of Bazarr's whisper provider, as they are on the wire."""

import io
import json
import os
import shutil
import subprocess
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway
from tests.gateway.wire import recorded, send

# Recorded from the provider itself: the name of the film is in the query where a setting says so.
ASR = """
POST /asr?task={task}&language=hi&output=srt&encode=false&video_file=%2Ffilms%2FA+film+%282020%29.mp4 HTTP/1.1
Host: gateway:8000
User-Agent: Subliminal/2.1.0dev
Accept-Encoding: gzip, deflate
Accept: */*
Connection: keep-alive
Content-Length: <LENGTH>
Content-Type: multipart/form-data; boundary=BOUNDARY

--BOUNDARY
Content-Disposition: form-data; name="audio_file"; filename="audio_file"

<FILE>
--BOUNDARY--
"""  # noqa: E501 - one line of a request
DETECT = ASR.replace("/asr?task={task}&language=hi&output=srt&", "/detect-language?")


@pytest.fixture(scope="module")
def samples(clip: Path) -> bytes:
    """Fifteen seconds of the clip as Bazarr sends it: s16le, 16 kHz, mono, without a header."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(clip)) as media:
        frames = [f for packet in media.decode(audio=0) for f in resampler.resample(packet)]
        frames += resampler.resample(None)
    whole = b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in frames)
    return whole[: 15 * 32_000]


def _post(server: Gateway, path: str, audio: bytes, **query: str) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", params=query, files={"audio_file": audio}, timeout=120)


def test_samples_become_a_subtitle_file(server: Gateway, samples: bytes) -> None:
    """The same one as of a media file with them."""
    query = {"task": "transcribe", "language": "hi", "output": "srt"}
    answer = _post(server, "/asr", samples, **query, encode="false", video_file="/film.mp4")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "-->" in answer.text
    file = io.BytesIO()
    with wave.open(file, "wb") as media:
        media.setparams((1, 2, 16_000, 0, "NONE", ""))
        media.writeframes(samples)
    assert _post(server, "/asr", file.getvalue(), **query).text == answer.text


def test_translate_gives_english(server: Gateway, samples: bytes) -> None:
    """Bazarr asks for it where English is wanted of a film in another language."""
    answer = _post(
        server, "/asr", samples, task="translate", language="hi", output="srt", encode="false"
    )
    assert answer.text.isascii()
    assert "-->" in answer.text


def test_a_language_is_told_by_name_and_code(server: Gateway, samples: bytes) -> None:
    """Bazarr reads the code, and the name where it knows no such code."""
    answer = _post(server, "/detect-language", samples, encode="false").json()
    assert answer["detected_language"] == "hindi"
    assert answer["language_code"] == "hi"
    assert 0 < answer["confidence"] <= 1


def test_the_version_is_told(server: Gateway) -> None:
    """The settings page of Bazarr asks for it."""
    assert httpx.get(f"{server.url}/status").json()["version"]


@pytest.mark.parametrize("query", [{"output": "doc"}, {"task": "sing"}, {"language": "q-q-q"}])
def test_an_error_is_no_subtitle(server: Gateway, query: dict[str, str]) -> None:
    """Whatever comes is taken for one, so it must not look like one."""
    answer = _post(server, "/asr", bytes(3200), **query)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("error: ")
    assert "-->" not in answer.text


@pytest.mark.parametrize("output", ["txt", "vtt", "tsv", "json"])
def test_each_output_is_what_it_is_called(server: Gateway, samples: bytes, output: str) -> None:
    """Those of whisper-asr-webservice."""
    answer = _post(server, "/asr", samples, output=output, encode="false")
    begin = {"vtt": "WEBVTT", "tsv": "start\tend\ttext\n", "json": "{"}.get(output, "")
    assert answer.text.lstrip("\n").startswith(begin)


@pytest.fixture(scope="module")
def narrow(translation: processes.Service) -> Iterator[Gateway]:
    """A gateway whose speech service has one place; line feeds go ahead of its answers."""
    with (
        processes.asr_service("--max-concurrent-calls", "1") as speech,
        gateway(
            "--asr-endpoint", speech.target, "--translate-endpoint", translation.target,
            "--heartbeat-s", "0.05",
        ) as running,
    ):  # fmt: skip
        yield running


def test_four_films_at_once_are_all_transcribed(narrow: Gateway, samples: bytes) -> None:
    """Bazarr bans a server for a day that refuses one, so that they wait here."""
    requests = [recorded(ASR.format(task=t), samples) for t in ("transcribe", "translate") * 2]
    requests.append(recorded(DETECT, samples))
    with ThreadPoolExecutor(len(requests)) as pool:
        *answers, detected = pool.map(lambda request: send(narrow, request), requests)
    assert [answer.status for answer in answers] == [200] * 4
    files = [answer.body.lstrip(b"\n") for answer in answers]
    spoken, english = files[:2]
    assert files == [spoken, english] * 2
    assert spoken.startswith(b"1\n00:00:")
    assert not spoken.isascii()
    assert english.isascii()
    assert b"-->" in english
    assert (detected.status, detected.json()["language_code"]) == (200, "hi")


@pytest.fixture(scope="module")
def provider(narrow: Gateway, clip: Path) -> dict[str, list[Any]]:
    """What Bazarr's provider makes of the clip, from the source that VOXROUTE_BAZARR names."""
    source = os.environ.get("VOXROUTE_BAZARR")
    if not source:
        pytest.skip("VOXROUTE_BAZARR names no checkout of Bazarr")
    uv = shutil.which("uv") or str(processes.ROOT / ".tools" / "bin" / "uv")
    needed = ("babelfish", "ffmpeg-python", "imageio-ffmpeg", "lxml", "pillow", "pycountry",
              "requests", "setuptools<81")  # fmt: skip
    done = subprocess.run(
        [uv, "run", "--quiet", "--no-project", "--python", "3.11",
         *(word for name in needed for word in ("--with", name)),
         str(Path(__file__).with_name("bazarr_provider.py")), source, narrow.url, str(clip)],
        check=False, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_provider_takes_its_subtitles(provider: dict[str, list[Any]]) -> None:
    """Where it knows the language and where it asks for it; four at once."""
    assert [one["task"] for one in provider["hin"]] == ["transcribe"] * 2
    assert [one["task"] for one in provider["eng"]] == ["translate"] * 2
    assert [one["audio_language"] for one in provider["hin"] + provider["eng"]] == ["hin"] * 4
    assert all(one["valid"] for found in provider.values() for one in found)
    spoken = {one["content"].strip() for one in provider["hin"] + provider["at_once"]}
    (english,) = {one["content"].strip() for one in provider["eng"]}
    assert len(spoken) == 1
    assert len(provider["at_once"]) == 4
    assert english.isascii()
