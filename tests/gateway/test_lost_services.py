"""Services that die under a call, and several of them."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
import requests

from tests.e2e import processes
from tests.gateway.conftest import gateway, place_taken, wait_until_busy, wait_until_free


def _lost(
    service: processes.Service, ask: Callable[[], Any], after_s: float = 0.0
) -> "Future[Any]":
    """What comes of a request whose service is killed once it has the call."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        wait_until_busy(service)
        service.process.send_signal(signal.SIGSTOP)  # so that it does not end before its time
        time.sleep(after_s)
        service.process.kill()
        service.process.wait()
    return asked


def _transcription(url: str, clip: Path, **fields: str) -> httpx.Response:
    files = {"file": ("a.mp4", clip.read_bytes())}
    data = {"language": "hi", **fields}
    return httpx.post(f"{url}/v1/audio/transcriptions", data=data, files=files, timeout=60)


def test_a_service_that_dies_before_the_headers_is_a_503(clip: Path) -> None:
    """With a sentence, and when to come again."""
    with (
        processes.asr_service() as service,
        gateway("--asr-endpoint", service.target, VOXROUTE_RETRY_S="1") as running,
    ):
        answer = _lost(service, lambda: _transcription(running.url, clip)).result()
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "no service can take the request now"
        assert int(answer.headers["retry-after"]) >= 1
        # the next one finds nobody at once
        answer = _transcription(running.url, clip)
        assert answer.status_code == 503
        assert "error" in answer.json()


def _by_openai(url: str, recording: Path, *, stream: bool = False) -> object:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        create: Any = client.audio.transcriptions.create
        found = create(file=recording, model="whisper-1", language="hi", stream=stream)
        return list(found) if stream else found


def _streamed(url: str, recording: Path) -> object:
    return _by_openai(url, recording, stream=True)


def _by_bazarr(url: str, recording: Path) -> object:
    files: Any = {"audio_file": recording.read_bytes()}
    query = {"language": "hi", "output": "srt"}
    return requests.post(f"{url}/asr", params=query, files=files, timeout=(5, 60)).content


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (_by_openai, openai.APIConnectionError),
        pytest.param(_streamed, openai.APIError, marks=pytest.mark.slow),
        # Bazarr bans a server for requests' ConnectionError, not for this one
        pytest.param(_by_bazarr, requests.exceptions.ChunkedEncodingError, marks=pytest.mark.slow),
    ],
)
def test_a_service_that_dies_after_the_headers_breaks_the_connection(
    clip: Path, ask: Callable[[str, Path], object], error: type[Exception]
) -> None:
    """No client takes what it has for the whole; a stream tells it; the log says why."""
    with (
        processes.asr_service() as service,
        gateway(
            "--asr-endpoint", service.target, "--heartbeat-s", "0.2", VOXROUTE_RETRY_S="2"
        ) as running,
    ):
        with pytest.raises(error):
            _lost(service, lambda: ask(running.url, clip), after_s=1).result()
        (line,) = [one for one in running.log() if "broken off" in one["event"]]
        assert line["status"] == 503
        assert line["reason"] == "no service can take the request now"
        counted = httpx.get(running.metrics).text
        assert 'status="499"' not in counted  # the client did not leave


@pytest.mark.slow  # two services have to start
def test_a_call_goes_on_at_another_service(clip: Path) -> None:
    """Where several are configured and one dies; the answer is the whole one."""
    with processes.asr_service() as first, processes.asr_service() as second:
        endpoints = ["--asr-endpoint", f"{first.target},{second.target}"]
        with gateway(*endpoints) as running:
            whole = _transcription(running.url, clip).json()["text"]
            answer = _lost(first, lambda: _transcription(running.url, clip)).result()
            assert answer.status_code == 200
            assert answer.json()["text"] == whole


@pytest.mark.slow  # two services have to start
def test_a_recording_goes_where_there_is_a_place(samples: bytes, short: Path) -> None:
    """The other service has one for each of two that come at once, and none is refused."""
    one = ["--max-concurrent-calls", "1"]
    with processes.asr_service(*one) as first, processes.asr_service(*one) as second:
        endpoints = ["--asr-endpoint", f"{first.target},{second.target}"]
        with gateway(*endpoints, "--max-waiting", "0") as running:
            for full in (first, second):
                with place_taken(full, samples):
                    assert _transcription(running.url, short).status_code == 200
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(_transcription, running.url, short) for _ in range(2)]
            assert [one.result().status_code for one in asked] == [200, 200]
            for service in (first, second):
                wait_until_free(service)
