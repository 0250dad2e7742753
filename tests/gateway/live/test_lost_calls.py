"""Live speech whose service is full, slow to load, leaves or dies, by a script."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.gateway.conftest import Gateway, gateway
from tests.gateway.live.conftest import live_service
from tests.gateway.live.speaking import SAID, audio_input, connected, last_error, monologue
from tests.orchestrator.live_stand_in import (
    LiveSpeech,
    Reply,
    Requests,
    accepted,
    committed,
    done,
    forever,
)
from tests.orchestrator.stand_in import Break, abort, serving
from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_serving.testing.served import until

SECOND = bytes(48_000)
TRANSCRIPTION = "conversation.item.input_audio_transcription"


@asynccontextmanager
async def scripted(speech: LiveSpeech) -> AsyncGenerator[Gateway]:
    """A gateway in front of a service that follows a script."""
    async with serving(speech) as address:
        running = gateway("--asr-endpoint", address)
        try:
            yield await asyncio.to_thread(running.__enter__)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


def started(utterance: int, at_s: float = 0.0) -> Reply:
    """Somebody speaks."""
    return Reply(speech_started=asr_pb2.SpeechStarted(utterance=utterance, at=duration(at_s)))


def ended(utterance: int, text: str, end_s: float, reason: Any = 1) -> Reply:
    """A whole utterance."""
    segments = [asr_pb2.Segment(text=text)] if text else []
    return Reply(
        utterance=asr_pb2.Utterance(
            utterance=utterance, end=duration(end_s), segments=segments, reason=reason
        )
    )


def settled(until_s: float) -> Reply:
    """All is told up to a time."""
    return Reply(progress=asr_pb2.LiveProgress(settled=duration(until_s)))


def audio_bytes(requests: list[asr_pb2.TranscribeLiveRequest]) -> int:
    """How much of them is audio."""
    return sum(len(request.audio) for request in requests)


async def _config(speech: LiveSpeech) -> asr_pb2.LiveConfig:
    """The options of the call that has begun."""
    assert await until(lambda: any(one.HasField("config") for one in speech.requests))
    [config] = [one.config for one in speech.requests if one.HasField("config")]
    return config


async def heard(requests: Requests, n_bytes: int) -> None:
    """Returns after so much audio."""
    async for request in requests:
        n_bytes -= len(request.audio)
        if n_bytes <= 0:
            return


@pytest.mark.parametrize("code", [14, 5])
async def test_a_service_that_dies_in_an_utterance_ends_the_session(code: int) -> None:
    """With an event and a code that say whether to come again: half told is not told twice."""

    async def script(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        yield accepted()
        await heard(requests, len(SECOND))
        yield started(1)
        yield committed("Half of", 1)

        status = next(one for one in grpc.StatusCode if one.value[0] == code)
        await abort(context, Break(0, code=status, message="no such model"))

    async with scripted(LiveSpeech(script=script)) as running, connected(running.url) as socket:
        await socket.append(SECOND)
        await socket.until(f"{TRANSCRIPTION}.delta")
        error = await last_error(socket)
        assert error["message"]
        assert error["type"] == ("server_error" if code == 14 else "invalid_request_error")
        assert socket.socket.close_code == (1013 if code == 14 else 1008)


async def test_a_call_that_breaks_between_utterances_goes_on_with_another_one() -> None:
    """With the audio that has no text yet, its times, and new numbers: nobody notices."""
    offsets: list[float] = []

    async def script(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        first = await anext(requests)
        offsets.append(seconds(first.config.audio.start_offset))
        yield accepted()
        if len(offsets) == 1:
            await heard(requests, 2 * len(SECOND))
            yield started(1)
            yield committed("One.", 1)
            yield ended(1, "One.", 1.0)
            yield settled(1.4)
            await abort(context, Break(0))
        await heard(requests, round((2 - offsets[1]) * len(SECOND)))
        yield started(1, 1.5)
        yield committed("Two.", 1)
        yield ended(1, "Two.", 2.0)
        await forever()

    speech = LiveSpeech(script=script)
    async with scripted(speech) as running, connected(running.url) as socket:
        for begin in range(0, 2 * len(SECOND), 8_001):  # samples are cut in two
            await socket.append((SECOND + SECOND)[begin : begin + 8_001])
        await socket.until(f"{TRANSCRIPTION}.completed")
        again = await socket.until(f"{TRANSCRIPTION}.completed")
        assert socket.texts() == ["One.", "Two."]
        starts = [e for e in socket.events if e["type"].endswith("speech_started")]
        assert starts[1]["item_id"] == again["item_id"] != starts[0]["item_id"]
        assert starts[1]["audio_start_ms"] == 1500
    assert offsets[0] == 0.0
    assert 1.2 < offsets[1] <= 1.4
    assert all(len(request.audio) % 2 == 0 for request in speech.requests)
    again_s = audio_bytes(speech.requests) / len(SECOND) - 2
    assert again_s == pytest.approx(2 - offsets[1], abs=1e-4)


@pytest.mark.slow  # services have to start
async def test_a_session_goes_on_where_one_of_two_services_ends() -> None:
    """Real ones: what was said into the first is closed, and the other hears the rest."""
    with live_service() as one, live_service() as other:
        targets = f"{one.target},{other.target}"
        with gateway("--asr-endpoint", targets) as running:
            async with connected(running.url) as socket:
                english = {"model": "whisper-1", "language": "en"}
                await socket.send("session.update", session=audio_input(transcription=english))
                speaking = asyncio.ensure_future(socket.speak(monologue()))
                await socket.until(f"{TRANSCRIPTION}.completed")
                [busy] = [it for it in (one, other) if await asyncio.to_thread(it.streams)]
                ending = asyncio.ensure_future(asyncio.to_thread(busy.service.stop))
                while "radio" not in " ".join(socket.texts()):
                    await socket.until(f"{TRANSCRIPTION}.completed")
                await speaking
                assert await ending == 0
    texts = socket.texts()
    assert texts[0] == "Good night."
    assert texts[-2:] == SAID.partition("garden. ")[2].replace("? ", "?|").split("|")


async def test_a_call_that_ends_for_want_of_audio_begins_again_with_the_next() -> None:
    """Somebody who mutes the microphone for an hour speaks on as if nothing had been."""
    calls = 0

    async def script(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        nonlocal calls
        calls += 1
        yield accepted()
        await heard(requests, len(SECOND))
        if calls == 1:
            yield settled(1.0)

            idle = grpc.StatusCode.DEADLINE_EXCEEDED
            await abort(context, Break(0, code=idle, reason="IDLE_STREAM"))
        yield ended(1, "Here I am.", 2.0)
        await forever()

    async with scripted(LiveSpeech(script=script)) as running, connected(running.url) as socket:
        await socket.append(SECOND)
        await asyncio.sleep(2.5)
        assert calls == 1
        await socket.append(SECOND)
        await socket.until(f"{TRANSCRIPTION}.completed")
        assert calls == 2
        assert socket.texts() == ["Here I am."]


async def test_who_sends_while_a_model_is_loaded_is_read_so_far_and_no_further() -> None:
    """The rest waits at the client; all of it arrives once the service takes it, in order."""
    ready = asyncio.Event()
    n_seconds = 90

    async def script(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        del context
        yield Reply(progress=asr_pb2.LiveProgress(stage=asr_pb2.STAGE_LOADING))
        await ready.wait()
        yield accepted()
        async for request in requests:
            if request.HasField("end_utterance"):
                yield ended(1, "All.", float(n_seconds), 2)
        yield done()

    speech = LiveSpeech(script=script)
    async with scripted(speech) as running, connected(running.url) as socket:
        await socket.send("session.update", session=audio_input(turn_detection=None))

        async def speak() -> None:
            for number in range(n_seconds):
                await socket.append(bytes([number]) * len(SECOND))
            await socket.send("input_audio_buffer.commit")

        before = running.resident_bytes()
        speaking = asyncio.ensure_future(speak())
        await asyncio.sleep(2)
        assert running.resident_bytes() - before < 64 * 2**20
        ready.set()
        await socket.until(f"{TRANSCRIPTION}.completed")
        await speaking
    audio = b"".join(request.audio for request in speech.requests)
    assert audio == b"".join(bytes([number]) * len(SECOND) for number in range(n_seconds))


@pytest.mark.slow  # services have to start
async def test_a_full_service_is_told_after_a_short_wait() -> None:
    """Nobody who speaks waits for minutes; the code says to come again."""

    async def script(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        del requests

        full = grpc.StatusCode.RESOURCE_EXHAUSTED
        await abort(context, Break(0, code=full, retry_after_s=5.0, reason="QUEUE_FULL"))
        yield accepted()

    async with scripted(LiveSpeech(script=script)) as running, connected(running.url) as socket:
        await socket.append(SECOND)
        error = await last_error(socket)
        assert error["type"] == "rate_limit_error"
        assert socket.socket.close_code == 1013


async def test_options_are_those_of_the_contract() -> None:
    """Each is where the service looks for it."""

    async def script(requests: Requests, context: Any) -> AsyncIterator[Reply]:
        del context
        yield accepted()
        async for _ in requests:
            pass
        yield done()

    speech = LiveSpeech(script=script)
    async with scripted(speech) as running, connected(running.url) as socket:
        turns = {
            "type": "server_vad", "threshold": 0.25, "prefix_padding_ms": 400,
            "silence_duration_ms": 9_000,
        }  # fmt: skip
        transcription = {
            "model": "tiny-of-ours", "languages": ["en", "hindi"], "prompt": "Names: Asha.",
            "keywords": ["voxroute"], "delay": "high",
        }  # fmt: skip
        options = audio_input(
            format={"type": "audio/pcma"}, turn_detection=turns, transcription=transcription
        )
        await socket.send("session.update", session=options)
        updated = await socket.until("session.updated")
        shown = updated["session"]["audio"]["input"]["turn_detection"]
        assert shown["silence_duration_ms"] == 5_000, "the most that services take"
        await socket.append(bytes(800))
        config = await _config(speech)
        assert config.audio.g711.law == asr_pb2.G711_LAW_A
        assert seconds(config.endpoint.silence) == 5.0
        assert seconds(config.vad.padding) == pytest.approx(0.4)
        assert config.vad.threshold == pytest.approx(0.25)
        assert list(config.allowed_languages) == ["en", "hi"]
        assert config.decoding.initial_prompt == "Names: Asha."
        assert list(config.decoding.hotwords) == ["voxroute"]
        assert seconds(config.update_interval) == 2.0
        assert config.model != "tiny-of-ours", "one that is not there counts as the default"
        for eagerness, pause_s in (("low", 2.0), ("high", 0.8)):
            turns = {"type": "semantic_vad", "eagerness": eagerness}
            speech.requests.clear()
            await socket.send("session.update", session=audio_input(turn_detection=turns))
            await socket.append(bytes(800))
            config = await _config(speech)
            assert seconds(config.endpoint.silence) == pytest.approx(pause_s)
