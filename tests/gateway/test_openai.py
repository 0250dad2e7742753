"""OpenAI's audio API with OpenAI's own client."""

import io
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import av
import httpx2 as httpx
import openai
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway, wait_until_free

MEASURES = ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")


@pytest.fixture(scope="module")
def client(server: Gateway) -> Iterator[openai.OpenAI]:
    """OpenAI's client, with nothing but the address changed."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def speech(server: Gateway, short: Path) -> dict[str, Any]:
    """The whole of what is answered about the monologue."""
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        data={
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["segment", "word"],
        },
        files={"file": ("a.wav", short.read_bytes())},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_models_are_those_of_the_service(client: openai.OpenAI) -> None:
    """Each can be asked for by its name, another one is not found."""
    models = client.models.list().data
    assert models
    assert client.models.retrieve(models[0].id).id == models[0].id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_a_segment_has_ten_fields_and_each_is_a_number(speech: dict[str, Any]) -> None:
    """Strict readers drop the whole answer for a null; what was not measured is named."""
    assert speech["language"] == "english"
    assert isinstance(speech["duration"], float)
    assert 10 < speech["duration"] < 12
    for segment in speech["segments"]:
        assert isinstance(segment["id"], int)
        assert isinstance(segment["seek"], int)
        assert isinstance(segment["tokens"], list)
        numbers = [segment[name] for name in ("start", "end", *MEASURES)]
        assert all(isinstance(one, float | int) for one in numbers)
        assert set(segment["unmeasured"]) <= {"tokens", *MEASURES}
    assert {"word", "start", "end"} == set(speech["words"][0])


def test_the_client_reads_every_form(
    client: openai.OpenAI, short: Path, speech: dict[str, Any]
) -> None:
    """json, text, srt, vtt and verbose_json, with the same text in each."""
    create: Any = client.audio.transcriptions.create
    found = {
        form: create(file=short, model="whisper-1", language="English", response_format=form)
        for form in ("json", "text", "srt", "vtt", "verbose_json")
    }
    assert found["json"].text == speech["text"] == found["text"].strip()
    assert found["verbose_json"].text == speech["text"]
    assert found["verbose_json"].segments[0].no_speech_prob is not None
    assert found["vtt"].startswith("WEBVTT")
    assert "-->" in found["srt"]


def test_a_stream_gives_each_segment_as_a_delta(
    client: openai.OpenAI, short: Path, speech: dict[str, Any]
) -> None:
    """The deltas make up the text, and the end has all of it."""
    stream: Any = client.audio.transcriptions.create(file=short, model="whisper-1", stream=True)
    events = list(stream)
    kinds = {event.type for event in events}
    assert kinds == {
        "transcript.text.delta",
        "transcript.text.segment",
        "transcript.text.done",
    }
    text = "".join(e.delta for e in events if e.type == "transcript.text.delta")
    assert text == events[-1].text == speech["text"]


def test_each_event_is_named_and_a_segment_stands_nested_too(server: Gateway, short: Path) -> None:
    """Subtitle Edit goes by `event:` lines and reads times from the nested segment."""
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        data={"model": "whisper-1", "response_format": "json", "stream": "true"},
        files={"file": ("audio.mp3", short.read_bytes(), "audio/mpeg")},
        timeout=120,
    )
    blocks = [b for b in answer.text.split("\n\n") if b and not b.startswith(":")]
    assert blocks[-1] == "data: [DONE]"
    content: dict[str, Any] = {}
    for block in blocks[:-1]:
        name, data = block.split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert name == f"event: {content['type']}"
        if content["type"] == "transcript.text.segment":
            assert content["segment"]["start"] == content["start"]
    assert content["segments"][0]["end"] > 0
    assert answer.headers["x-voxroute-model"]


def test_a_file_in_front_of_its_fields_is_transcribed_as_they_say(
    server: Gateway, short: Path
) -> None:
    """As OpenAI's client for Node sends it: chunked, the file first."""
    body = io.BytesIO()
    body.write(b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n')
    body.write(b"Content-Type: application/octet-stream\r\n\r\n" + short.read_bytes())
    for name, value in (("model", "whisper-1"), ("language", "en"), ("response_format", "text")):
        field = f'\r\n--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'
        body.write(field.encode())
    body.write(b"\r\n--x--\r\n")
    whole = body.getvalue()
    pieces = (whole[i : i + 65536] for i in range(0, len(whole), 65536))
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        content=pieces,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
        timeout=120,
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.strip()


@pytest.mark.filterwarnings("ignore:deprecated")
def test_a_translation_is_what_is_asked_for(
    client: openai.OpenAI, short: Path, speech: dict[str, Any]
) -> None:
    """By the translation service, segment for segment; English to English stays as it is."""
    create = cast("Any", client.audio.translations).create
    assert create(file=short, model="whisper-1").text == speech["text"]
    hindi = create(file=short, model="whisper-1", extra_body={"to_language": "hi"}).text
    assert any("\u0900" <= letter <= "\u097f" for letter in hindi)


def test_what_is_wrong_is_told_as_openai_tells_it(client: openai.OpenAI, clip: Path) -> None:
    """With the field, and that a repeat is of no use."""
    create: Any = client.audio.transcriptions.create
    with pytest.raises(openai.BadRequestError) as caught:
        create(file=clip, model="whisper-1", language="tlh-nonsense-xx")
    assert caught.value.param == "language"
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.BadRequestError):
        create(file=("a.mp3", b"no audio at all" * 100), model="whisper-1")


def test_a_client_that_leaves_frees_the_service(
    server: Gateway, asr: processes.Service, clip: Path
) -> None:
    """The call ends in the middle."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/v1/audio/transcriptions",
            data={"model": "whisper-1"},
            files={"file": ("a.mp4", clip.read_bytes())},
            timeout=httpx.Timeout(10, read=0.05),
        )
    wait_until_free(asr)


def test_a_large_upload_does_not_grow_the_memory(server: Gateway, asr: processes.Service) -> None:
    """A hundred megabytes go through the disk; whatever the service says of them."""
    host, port = server.url.removeprefix("http://").split(":")
    before = server.resident_bytes()
    most = before
    with socket.create_connection((host, int(port))) as connection:
        n = 100 * 1024 * 1024
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        tail = b"\r\n--x--\r\n"
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n"
            + f"Content-Length: {len(head) + n + len(tail)}\r\n\r\n".encode()
            + head
        )
        for _ in range(n // 2**20):
            connection.sendall(bytes(2**20))
            most = max(most, server.resident_bytes())
        connection.sendall(tail)
        connection.settimeout(60)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"no media file" in answer  # the service's sentence: it has had the bytes
    assert most - before < 40e6
    wait_until_free(asr)


def test_requests_are_counted_and_carry_their_id(server: Gateway) -> None:
    """By route and status; the id of a client comes back."""
    answer = httpx.get(f"{server.url}/health", headers={"x-request-id": "mine-1"})
    assert answer.json() == {"status": "ok"}
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["server"] == "voxroute"
    with urllib.request.urlopen(server.metrics) as page:  # noqa: S310 - of this test's own process
        text = page.read().decode()
    assert 'voxroute_gateway_requests_total{route="/health",status="200"}' in text


def test_a_token_is_asked_for_where_there_is_a_file_of_them(tmp_path: Path) -> None:
    """As a bearer, or as X-Api-Key; health is open."""
    tokens = tmp_path / "tokens"
    tokens.write_text("me:0123456789abcdef0123\n")
    tokens.chmod(0o600)
    with gateway("--client-tokens", str(tokens), "--asr-endpoint", "127.0.0.1:1") as running:
        url = f"{running.url}/v1/nothing"
        assert httpx.get(url).status_code == 401
        for headers in (
            {"Authorization": "Bearer 0123456789abcdef0123"},
            {"X-Api-Key": "0123456789abcdef0123"},
        ):
            assert httpx.get(url, headers=headers).status_code == 404
        assert httpx.get(f"{running.url}/health").status_code == 200


def test_an_address_that_others_reach_needs_tls() -> None:
    """As every service refuses it, before anything listens."""
    done = subprocess.run(
        [sys.executable, "-m", "voxroute_orchestrator", "gateway", "--listen", "0.0.0.0:0"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--tls-cert" in done.stderr


def post_at_once(running: Gateway, recording: Path, n: int) -> list[httpx.Response]:
    """The answers to as many transcriptions of the same recording."""

    def post(url: str) -> httpx.Response:
        files = {"file": ("a.wav", recording.read_bytes())}
        return httpx.post(url, data={"language": "en"}, files=files, timeout=120)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(post, [f"{running.url}/v1/audio/transcriptions"] * n))


def test_requests_wait_while_the_service_is_full(one_place: processes.Service, short: Path) -> None:
    """Three at once with one place: all are answered, none with 429; line feeds go ahead."""
    with gateway("--asr-endpoint", one_place.target, "--heartbeat-s", "0.05") as running:
        answers = post_at_once(running, short, 3)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.text[0] for answer in answers} <= {"\n", "{"}
    assert any(answer.text.startswith("\n") for answer in answers)
    assert all(answer.json()["text"] for answer in answers)


def test_a_place_to_wait_may_be_wanting(one_place: processes.Service, short: Path) -> None:
    """Past `max_waiting` it is 429, and when to come again."""
    with gateway("--asr-endpoint", one_place.target, "--max-waiting", "0") as running:
        answers = post_at_once(running, short, 4)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert all(answer.json()["error"]["type"] == "rate_limit_error" for answer in refused)


@pytest.mark.slow  # the bundled model decodes three tracks
def test_of_several_tracks_the_one_in_the_language_is_heard(
    server: Gateway, short: Path, clip: Path, tmp_path: Path
) -> None:
    """As the command takes it; which one is told."""
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as made:
        target: Any = made
        streams = [target.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for stream, language in zip(streams, ("eng", "hin"), strict=True):
            stream.metadata["language"] = language
        for stream, path in zip(streams, (short, clip), strict=True):
            resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
            with av.open(str(path)) as source:
                for frame in source.decode(audio=0):
                    for piece in resampler.resample(frame):
                        piece.pts = None
                        target.mux(stream.encode(piece))
            target.mux(stream.encode(None))

    def heard(recording: Path) -> dict[str, Any]:
        with recording.open("rb") as file:
            return httpx.post(
                f"{server.url}/v1/audio/transcriptions", files={"file": file},
                data={"language": "hi", "response_format": "verbose_json"}, timeout=120,
            ).json()  # fmt: skip

    answer, alone = heard(film), heard(clip)
    assert answer["text"][:60] == alone["text"][:60]
    [told] = [one["message"] for one in answer["warnings"] if one["code"] == "TRACK_CHOSEN"]
    assert "track 2 of 2, hin" in told
