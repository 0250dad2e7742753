"""The requests of Bazarr's whisper provider, as they are on the wire."""

import io
import wave
from typing import Any

import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2


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


def test_a_language_is_told_by_name_and_code(
    server: Gateway, asr: processes.Service, samples: bytes
) -> None:
    """Bazarr reads the code, and the name where it knows no such code; nothing is transcribed."""
    answer = _post(server, "/detect-language", samples, encode="false").json()
    assert answer["detected_language"] == "hindi"
    assert answer["language_code"] == "hi"
    with asr.channel() as channel:
        stub: Any = asr_pb2_grpc.AsrServiceStub(channel)
        config = asr_pb2.DetectLanguageConfig(audio=processes.pcm_config().audio)
        told = stub.DetectLanguage(iter([
            asr_pb2.DetectLanguageRequest(config=config),
            asr_pb2.DetectLanguageRequest(audio=samples),
            asr_pb2.DetectLanguageRequest(finish=common_pb2.Finish()),
        ]))  # fmt: skip
    assert answer["confidence"] == pytest.approx(told.languages[0].probability, abs=1e-5)


@pytest.mark.parametrize(("audio", "status"), [(bytes(32_000), 422), (bytes(3), 400)])
def test_where_nobody_speaks_there_is_no_language(
    server: Gateway, audio: bytes, status: int
) -> None:
    """A sentence says so, or what is wrong with the samples."""
    answer = _post(server, "/detect-language", audio, encode="false")
    assert answer.status_code == status, answer.text
    assert answer.text.startswith("error: ")


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
