"""The requests of Bazarr's whisper provider, as they are on the wire."""

import io
import wave
from pathlib import Path

import av
import httpx2 as httpx
import pytest

from tests.gateway.conftest import Gateway


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
