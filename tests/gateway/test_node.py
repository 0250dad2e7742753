"""OpenAI's client for Node and the AI SDK, unchanged, as npm installs them."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import CLIENTS, Gateway, gateway


def _answers(clients: Path, script: str, server: Gateway, recording: Path) -> dict[str, Any]:
    done = subprocess.run(
        ["node", script, f"{server.url}/v1", str(recording)],
        check=False, capture_output=True, text=True, cwd=clients,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def openai(clients: Path, server: Gateway, short: Path) -> dict[str, Any]:
    """What OpenAI's client makes of each answer."""
    return _answers(clients, "openai.mjs", server, short)


@pytest.fixture(scope="module")
def ai(clients: Path, server: Gateway, short: Path) -> dict[str, Any]:
    """What the AI SDK makes of each answer."""
    return _answers(clients, "ai.mjs", server, short)


def _posted(server: Gateway, recording: Path, form: str) -> str:
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        data={"response_format": form, "language": "en"},
        files={"file": ("a.wav", recording.read_bytes())},
        timeout=120,
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_lock_names_no_registry() -> None:
    """What is installed comes from wherever npm is told to look."""
    lock = (CLIENTS / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert '"resolved"' not in lock


def test_the_client_reads_every_form(openai: dict[str, Any], server: Gateway, short: Path) -> None:
    """It sends the file first and in chunks; what it reads is what others get."""
    assert openai["models"]
    assert openai["srt"] == _posted(server, short, "srt")
    assert openai["vtt"] == _posted(server, short, "vtt")
    text = openai["json"]["text"]
    assert text
    assert openai["text"] == text + "\n"
    assert openai["json"]["usage"]["type"] == "duration"
    verbose = openai["verbose"]
    assert verbose["text"] == text
    assert verbose["language"] == "english"
    assert " ".join(segment["text"] for segment in verbose["segments"]) == text
    assert " ".join(word["word"] for word in verbose["words"]) == text
    assert all(word["start"] <= word["end"] <= verbose["duration"] for word in verbose["words"])


def test_the_client_reads_a_stream_and_a_translation(openai: dict[str, Any]) -> None:
    """Every event has a type that it knows; the deltas make up the text."""
    events = openai["events"]
    deltas = [event["delta"] for event in events if event["type"] == "transcript.text.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == events[-1]["text"] == openai["json"]["text"]
    assert events[-1]["type"] == "transcript.text.done"
    assert {event["type"] for event in events[:-1]} == {
        "transcript.text.delta",
        "transcript.text.segment",
    }
    assert openai["translation"]["text"] == openai["json"]["text"]


@pytest.mark.slow  # waits for the first line feeds
def test_line_feeds_ahead_of_an_answer_do_no_harm(
    clients: Path,
    asr: processes.Service,
    translation: processes.Service,
    short: Path,
    openai: dict[str, Any],
) -> None:
    """They keep the client patient; a file of WebVTT begins with its name all the same."""
    endpoints = ("--asr-endpoint", asr.target, "--translate-endpoint", translation.target)
    with gateway(*endpoints, "--heartbeat-s", "0.01") as hasty:
        found = _answers(clients, "openai.mjs", hasty, short)
    assert found["srt"].startswith("\n")
    assert found["srt"].lstrip("\n") == openai["srt"]
    assert found["vtt"].startswith("WEBVTT\n\n\n")
    assert found["text"].strip() == openai["text"].strip()
    for name in ("json", "verbose", "events", "translation"):
        assert found[name] == openai[name]


def test_what_is_wrong_is_an_error_of_its_own_class(openai: dict[str, Any]) -> None:
    """With what a program can go by."""
    failures = openai["failures"]
    found = {name: (one["class"], one["code"], one["param"]) for name, one in failures.items()}
    assert found == {
        "model": ("NotFoundError", "model_not_found", "model"),
        "language": ("BadRequestError", "invalid_value", "language"),
        "file": ("BadRequestError", "invalid_audio", None),
        "route": ("NotFoundError", "http", None),
    }


def test_the_ai_sdk_reads_segments_and_the_language(
    ai: dict[str, Any], openai: dict[str, Any]
) -> None:
    """Its schema is strict, and it knows languages by their English names alone."""
    found, spoken = ai["segments"], openai["verbose"]
    assert found["text"] == ai["plain"]["text"] == ai["json"]["text"] == spoken["text"]
    assert found["language"] == "en"
    assert found["durationInSeconds"] == spoken["duration"]
    assert [one["text"] for one in found["segments"]] == [s["text"] for s in spoken["segments"]]
    assert all(one["endSecond"] > one["startSecond"] for one in found["segments"])
    assert ai["plain"]["durationInSeconds"] == ai["json"]["durationInSeconds"] == spoken["duration"]
    assert not any(ai[name]["warnings"] for name in ("plain", "segments", "words", "json"))


def test_the_ai_sdk_reads_words_where_it_asks_for_words(
    ai: dict[str, Any], openai: dict[str, Any]
) -> None:
    """It takes segments for them where both come, so that only what is asked for may."""
    assert [one["text"] for one in ai["words"]["segments"]] == [
        one["word"] for one in openai["verbose"]["words"]
    ]


def test_the_ai_sdk_is_told_what_is_wrong(ai: dict[str, Any]) -> None:
    """In a sentence, and that it is not to be tried again."""
    for name, sentence in (("file", "no media file"), ("language", "^language: ")):
        failure = ai["failures"][name]
        assert (failure["name"], failure["statusCode"]) == ("AI_APICallError", 400)
        assert failure["isRetryable"] is False
        assert re.search(sentence, failure["message"])
