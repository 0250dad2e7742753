"""The requests of Bazarr's whisper provider, as they are on the wire."""

import io
import json
import os
import random
import shutil
import subprocess
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway
from tests.gateway.wire import recorded, send
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

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


@pytest.mark.slow  # the bundled model decodes four recordings
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


def test_a_long_answer_in_webvtt_is_a_file_of_it(asr: processes.Service, short: Path) -> None:
    """Line feeds that go ahead stand behind its name; a whole answer counts as one."""
    with gateway("--asr-endpoint", asr.target, "--heartbeat-s", "0.05") as running:
        answer = httpx.post(
            f"{running.url}/asr?language=en&output=vtt",
            files={"audio_file": short.read_bytes()}, timeout=120,
        )  # fmt: skip
        page = httpx.get(running.metrics).text
    assert answer.text.startswith("WEBVTT\n\n")
    assert "-->" in answer.text
    assert 'requests_total{route="/asr",status="200"} 1.0' in page


@pytest.mark.slow  # the bundled model decodes four recordings
def test_what_a_person_should_know_is_told(server: Gateway, clip: Path) -> None:
    """Damage by a header and in JSON; words that nobody can time too."""
    damaged = bytearray(clip.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 20_000] = random.Random(0).randbytes(20_000)  # noqa: S311 - no secret
    form = {"audio_file": ("a.mp4", bytes(damaged))}
    answer = httpx.post(f"{server.url}/asr?language=hi&output=srt", files=form, timeout=120)
    assert "DAMAGED_AUDIO" in answer.headers["x-voxroute-warnings"]
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": ("a.mp4", bytes(damaged))},
        data={"language": "hi", "response_format": "verbose_json"}, timeout=120,
    )  # fmt: skip
    assert "DAMAGED_AUDIO" in [one["code"] for one in answer.json()["warnings"]]
    assert all("flags" in one for one in answer.json()["segments"])
