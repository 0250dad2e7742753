"""Answers that take longer than their clients wait for a sign of life; places that are taken."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
import requests

from tests.e2e import processes
from tests.gateway.conftest import (
    Gateway,
    gateway,
    place_taken,
    wait_until_busy,
    wait_until_free,
)

PATIENCE_S = 2.0  # of clients, between two signs of life
LONG_S = 8.0

# a client that is ended from outside, at a point that it tells
CLIENT = """
import socket, sys, time
host, port, path, media, share = sys.argv[1:]
body = open(media, "rb").read()
head = b'--x\\r\\nContent-Disposition: form-data; name="language"\\r\\n\\r\\nhi\\r\\n'
head += b'--x\\r\\nContent-Disposition: form-data; name="file"; filename="a.mp4"\\r\\n\\r\\n'
tail = b"\\r\\n--x--\\r\\n"
whole = head + body + tail
with socket.create_connection((host, int(port))) as connection:
    connection.sendall(
        f"POST {path} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(whole)}\\r\\n"
        "Content-Type: multipart/form-data; boundary=x\\r\\n\\r\\n".encode()
    )
    connection.sendall(whole[: int(len(whole) * float(share))])
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def patient(one_place: processes.Service) -> Iterator[Gateway]:
    """A gateway in front of it that gives signs of life more often than clients need them."""
    with gateway("--asr-endpoint", one_place.target, "--heartbeat-s", "0.5") as running:
        yield running


@pytest.fixture(scope="module")
def client(patient: Gateway) -> Iterator[openai.OpenAI]:
    """OpenAI's client, which tries once and waits two seconds for a sign of life."""
    with openai.OpenAI(
        base_url=f"{patient.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
    ) as made:
        yield made


def test_an_answer_may_take_longer_than_its_client_waits(
    one_place: processes.Service, client: openai.OpenAI, short: Path
) -> None:
    """The service does nothing for a while; line feeds and comments go out meanwhile."""
    create: Any = client.audio.transcriptions.create
    asked: list[Callable[[], str]] = [
        lambda: create(file=short, model="whisper-1").text,
        lambda: list(create(file=short, model="whisper-1", stream=True))[-1].text,
    ]
    (text,) = {ask() for ask in asked}
    with ThreadPoolExecutor(len(asked)) as pool:
        one_place.process.send_signal(signal.SIGSTOP)
        try:
            answers = [pool.submit(ask) for ask in asked]
            time.sleep(LONG_S)
        finally:
            one_place.process.send_signal(signal.SIGCONT)
        assert [one.result() for one in answers] == [text, text]


@pytest.mark.slow  # waits twenty seconds
def test_a_client_survives_the_wait_for_a_place(
    patient: Gateway,
    one_place: processes.Service,
    client: openai.OpenAI,
    short: Path,
    samples: bytes,
) -> None:
    """In every form, for longer than it waits for a sign; a wrong field is told at once."""
    create: Any = client.audio.transcriptions.create

    def bazarr() -> str:
        return requests.post(
            f"{patient.url}/detect-language?encode=false",
            files={"audio_file": samples},
            timeout=(PATIENCE_S, PATIENCE_S),
        ).json()["language_code"]

    asked: list[Callable[[], Any]] = [
        lambda: create(file=short, model="whisper-1", language="en").text,
        lambda: create(file=short, model="whisper-1", response_format="srt"),
        lambda: list(create(file=short, model="whisper-1", stream=True))[-1].text,
        bazarr,
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        with place_taken(one_place, samples):
            waiting = [pool.submit(ask) for ask in asked]
            time.sleep(LONG_S)
            assert not any(one.done() for one in waiting)
            with pytest.raises(openai.BadRequestError):
                create(file=short, model="whisper-1", language="tlh-nonsense-xx")
        assert all(one.result() for one in waiting)


def test_four_downloads_of_bazarr_share_one_place(
    patient: Gateway, one_place: processes.Service, samples: bytes
) -> None:
    """All succeed: the language first, then subtitles; a 429 would ban the server for a day."""

    def download(number: int) -> tuple[str, str]:
        with requests.Session() as session:
            session.headers["User-Agent"] = "Subliminal/1.0"
            files: Any = {"audio_file": samples}
            found = session.post(
                f"{patient.url}/detect-language",
                params={"encode": "false", "video_file": f"/films/{number}.mkv"},
                files=files, timeout=(5, 3600),
            )  # fmt: skip
            subtitle = session.post(
                f"{patient.url}/asr",
                params={
                    "task": "transcribe", "language": found.json()["language_code"],
                    "output": "srt", "encode": "false", "video_file": f"/films/{number}.mkv",
                },
                files=files, timeout=(5, 3600),
            )  # fmt: skip
        return found.json()["detected_language"], subtitle.text.strip()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(download, range(4)))
    assert {language for language, _ in results} == {"hindi"}
    assert len({subtitle for _, subtitle in results}) == 1
    assert "-->" in results[0][1]
    wait_until_free(one_place)


@pytest.mark.parametrize("share", ["0.6", "1"], ids=["in its upload", "before its answer"])
def test_a_client_that_is_killed_gives_its_place_back(
    patient: Gateway, one_place: processes.Service, clip: Path, short: Path, share: str
) -> None:
    """The next one gets it, and the service has no call left."""
    host, port = patient.address
    arguments = [host, str(port), "/v1/audio/transcriptions", str(clip), share]
    killed = subprocess.Popen([sys.executable, "-c", CLIENT, *arguments])
    wait_until_busy(one_place)
    killed.kill()
    killed.wait()
    answer = httpx.post(
        f"{patient.url}/v1/audio/transcriptions",
        data={"language": "en"},
        files={"file": ("a.wav", short.read_bytes())},
        timeout=120,
    )
    assert answer.status_code == 200
    assert answer.json()["text"]
    wait_until_free(one_place)
    counted = httpx.get(patient.metrics).text
    assert "voxroute_gateway_requests_waiting 0.0" in counted
    assert "voxroute_gateway_requests_in_flight 0.0" in counted
