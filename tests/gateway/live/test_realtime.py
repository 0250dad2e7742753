"""Live speech with OpenAI's own client, and by the events themselves."""

import asyncio
import random
import time
from typing import Any

import httpx2 as httpx
import openai
import pytest

from tests.gateway.conftest import Gateway, gateway
from tests.gateway.live.conftest import LiveService
from tests.gateway.live.speaking import (
    LENGTH_S,
    SAID,
    audio_input,
    connected,
    encoded,
    last_error,
    monologue,
    mu_law,
    pieces,
)

TRANSCRIPTION = "conversation.item.input_audio_transcription"
ENGLISH = {"model": "whisper-1", "language": "en"}


async def test_openais_client_reads_what_is_said_while_it_is_said(live: Gateway) -> None:
    """Deltas that come before the end, and add up to the transcripts, in order."""
    client = openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)
    told: list[tuple[float, Any]] = []
    async with client, client.realtime.connect(
        model="gpt-4o-transcribe", extra_query={"intent": "transcription"}
    ) as connection:  # fmt: skip
        began = time.monotonic()

        async def speak() -> None:
            session: Any = audio_input(
                format={"type": "audio/pcm", "rate": 24_000},
                transcription={"model": "gpt-4o-transcribe", "language": "en"},
                turn_detection={"type": "server_vad", "silence_duration_ms": 300},
                noise_reduction={"type": "near_field"},
            )
            await connection.session.update(session=session)
            async for piece in pieces(monologue(), 48_000):
                await connection.input_audio_buffer.append(audio=encoded(piece))

        speaking = asyncio.ensure_future(speak())
        async for event in connection:
            told.append((time.monotonic() - began, event))
            assert event.type != "error", event
            transcripts = [e.transcript for _, e in told if e.type == f"{TRANSCRIPTION}.completed"]
            if " ".join(transcripts) == SAID:
                break
        speaking.cancel()
    kinds = [event.type for _, event in told]
    assert kinds[:2] == ["session.created", "session.updated"]
    shown = told[1][1].session.audio.input
    assert shown.turn_detection.silence_duration_ms == 300
    assert shown.noise_reduction is None
    first = next(at for at, event in told if event.type == f"{TRANSCRIPTION}.delta")
    assert first < LENGTH_S / 2
    previous = None
    for item_id in dict.fromkeys(e.item_id for _, e in told if e.type.endswith("speech_started")):
        mine = [e for _, e in told if getattr(e, "item_id", None) == item_id]
        order = [e.type for e in mine]
        whole = "".join(e.delta for e in mine if e.type == f"{TRANSCRIPTION}.delta")
        assert order[0] == "input_audio_buffer.speech_started"
        assert order[-1] == f"{TRANSCRIPTION}.completed"
        assert order.index("input_audio_buffer.speech_stopped") < order.index(
            "input_audio_buffer.committed"
        )
        assert whole == mine[-1].transcript
        assert mine[-1].usage.type == "duration"
        assert mine[-1].usage.seconds > 0.5
        assert mine[-1].languages[0].code == "en"
        [committed] = [e for e in mine if e.type == "input_audio_buffer.committed"]
        assert committed.previous_item_id == previous
        previous = item_id
        items = [e.item.id for _, e in told if e.type == "conversation.item.done"]
        assert item_id in items


async def test_a_client_of_the_beta_is_answered_in_its_own_words(live: Gateway) -> None:
    """Flat options, `transcription_session.updated`, and a commit that ends the utterance."""
    # the beta's client takes a base_url for one with TLS, whatever it says
    client = openai.AsyncOpenAI(
        websocket_base_url=f"{live.url}/v1".replace("http", "ws"), api_key="none", max_retries=0
    )
    async with client, client.beta.realtime.connect(
        model="whisper-1", extra_query={"intent": "transcription"}
    ) as connection:  # fmt: skip
        session: Any = {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": ENGLISH,
            "turn_detection": None,
        }
        await connection.transcription_session.update(session=session)
        await connection.input_audio_buffer.append(audio=encoded(mu_law()))
        await connection.input_audio_buffer.commit()
        kinds: list[str] = []
        heard = ""
        async for event in connection:
            kinds.append(event.type)
            if event.type == "transcription_session.updated":
                assert event.session.input_audio_format == "g711_ulaw"
            if event.type == f"{TRANSCRIPTION}.completed":
                heard = event.transcript
                break
    assert "doctor is sleeping in the garden" in heard
    assert "conversation.item.created" in kinds
    assert "conversation.item.added" not in kinds
    assert "input_audio_buffer.speech_started" not in kinds, "the client listens for pauses itself"


async def test_a_commit_without_words_is_completed_without_text(live: Gateway) -> None:
    """A client that commits waits for it; one that has sent nothing is told so, and goes on."""
    async with connected(live.url) as socket:
        await socket.send("session.update", session=audio_input(turn_detection=None))
        await socket.until("session.updated")
        await socket.send("input_audio_buffer.commit", event_id="mine")
        wrong = await socket.next()
        assert wrong["error"]["code"] == "input_audio_buffer_commit_empty"
        assert wrong["error"]["event_id"] == "mine"
        await socket.append(bytes(48_000))
        await socket.send("input_audio_buffer.commit")
        told = await socket.until(f"{TRANSCRIPTION}.completed")
    assert told["transcript"] == ""


async def test_what_was_cleared_is_not_transcribed(live: Gateway) -> None:
    """And what comes after it is."""
    async with connected(live.url) as socket:
        options = audio_input(turn_detection=None, transcription=ENGLISH)
        await socket.send("session.update", session=options)
        speech = monologue()
        await socket.append(speech[: 48_000 * 4])
        await socket.send("input_audio_buffer.clear")
        await socket.until("input_audio_buffer.cleared")
        await socket.append(speech[-48_000 * 3 :])
        await socket.send("input_audio_buffer.commit")
        await socket.until(f"{TRANSCRIPTION}.completed", _has_radio)
    assert "Good night" not in " ".join(socket.texts())


async def test_other_options_begin_after_what_was_said_before_them(live: Gateway) -> None:
    """The utterance is closed, and times go on."""
    async with connected(live.url) as socket:
        await socket.send("session.update", session=audio_input(transcription=ENGLISH))
        half = len(monologue()) // 2
        await socket.append(monologue()[:half])
        await socket.send(
            "session.update", session=audio_input(format="g711_ulaw", transcription=ENGLISH)
        )
        await socket.until("session.updated")
        await socket.until("session.updated")
        closed = [e["type"] for e in socket.events].count(f"{TRANSCRIPTION}.completed")
        assert closed == [e["type"] for e in socket.events].count("input_audio_buffer.committed")
        assert closed
        await socket.append(mu_law())
        started = await socket.until("input_audio_buffer.speech_started")
        assert started["audio_start_ms"] >= half / 48 - 300
        await socket.until(f"{TRANSCRIPTION}.completed", _has_radio)


async def test_tentative_text_is_for_those_who_ask(live: Gateway) -> None:
    """As events of their own; nobody else is sent one."""
    async with connected(live.url) as socket:
        session = {**audio_input(transcription={**ENGLISH, "delay": "minimal"})}
        await socket.send("session.update", session=session | {"include": ["voxroute.tentative"]})
        updated = await socket.until("session.updated")
        assert updated["session"]["include"] == ["voxroute.tentative"]
        speaking = asyncio.ensure_future(socket.speak(monologue()))
        tentative = await socket.until("voxroute.tentative", lambda event: event["text"] != "")
        assert tentative["item_id"]
        speaking.cancel()


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ("no json", "invalid_json"),
        ("[1]", "invalid_json"),
        ("[" * 60_000, "invalid_json"),
        ('{"type": "\\ud800", "event_id": "\\ud800"}', ""),
        ('{"type": "session.update", "session": {"turn_detection": {"threshold": 1%s}}}'
         % ("0" * 400), ""),
        ('{"type": "session.update", "session": {"turn_detection": {"threshold": NaN}}}', ""),
        ('{"type": "session.update", "session": {"include": ["\\ud800"]}}', ""),
        ('{"type": "response.create"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "?!"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": 7}', "invalid_value"),
        ('{"type": "session.update", "session": {"type": "realtime"}}', "invalid_value"),
        ('{"type": "session.update"}', "invalid_value"),
        ('{"type": "session.update", "session": {"turn_detection": {"threshold": 7}}}', ""),
        ('{"type": "session.update", "session": {"turn_detection": {"type": ["server_vad"]}}}', ""),
        ('{"type": "session.update", "session": {"turn_detection": {"eagerness": {"a": 1}}}}', ""),
        ('{"type": "session.update", "session": {"input_audio_format": "mp3"}}', ""),
        ('{"type": "session.update", "session": {"input_audio_transcription": {"language": "?"}}}',
         ""),
    ],
)  # fmt: skip
async def test_a_wrong_event_is_told_and_ends_nothing(live: Gateway, event: str, code: str) -> None:
    """The session goes on as it was."""
    async with connected(live.url) as socket:
        await socket.until("session.created")
        await socket.socket.send_str(event)
        told = await socket.next()
        assert told["type"] == "error"
        assert told["error"]["type"] == "invalid_request_error"
        assert told["error"]["code"] == (code or "invalid_value")
        await socket.send("session.update", session=audio_input())
        updated = await socket.until("session.updated")
        assert updated["session"]["audio"]["input"]["turn_detection"]["threshold"] == 0.5


async def test_a_client_that_leaves_frees_its_place_at_once(
    live: Gateway, asr: LiveService
) -> None:
    """Whether it says so or just goes; and the gauge tells."""
    for abrupt in (False, True):
        async with connected(live.url) as socket:
            await socket.append(monologue()[: 48_000 * 3])
            await socket.until("input_audio_buffer.speech_started")
            assert await _open(live) == 1
            assert await asyncio.to_thread(asr.streams) == 1
            if abrupt:
                transport = socket.socket._response.connection.transport  # type: ignore[union-attr]
                transport.abort()
        await asyncio.to_thread(asr.wait_until, 0)
        assert await _open(live) == 0


def _has_radio(event: dict[str, Any]) -> bool:
    return "radio" in event["transcript"]


async def _open(running: Gateway) -> int:
    async with httpx.AsyncClient() as client:
        text = (await client.get(running.metrics)).text
    [line] = [
        one for one in text.splitlines()
        if one.startswith('voxroute_gateway_live_connections{kind="realtime"}')
    ]  # fmt: skip
    return int(float(line.rpartition(" ")[2]))


async def test_connections_are_bounded_in_number_and_events_in_size(
    asr: LiveService,
) -> None:
    """429 before the connection is one; 1009 where an event is too large."""
    flags = ("--max-live-connections", "1", "--max-live-message-bytes", "65536")
    with gateway("--asr-endpoint", asr.target, *flags) as running:
        async with connected(running.url) as socket:
            await socket.until("session.created")
            with pytest.raises(Exception, match="429"):
                async with connected(running.url):
                    pass
            await socket.append(bytes(65536))
            with pytest.raises(EOFError):
                await socket.next()
            assert socket.socket.close_code == 1009
        async with connected(running.url) as again:
            await again.until("session.created")


def test_a_request_that_is_no_websocket_is_told(live: Gateway) -> None:
    """With 426, as HTTP has it."""
    answer = httpx.get(f"{live.url}/v1/realtime")
    assert answer.status_code == 426
    assert answer.json()["error"]["code"] == "upgrade_required"


async def test_a_page_that_is_not_named_does_not_connect(live: Gateway) -> None:
    """A browser lets any page open a WebSocket, and read what it answers."""
    with pytest.raises(Exception, match="403"):
        async with connected(live.url, Origin="https://evil.example"):
            pass


async def test_the_gateway_tells_what_was_said_before_it_ends(asr: LiveService) -> None:
    """Then an error, and a code that says to come again."""
    with gateway("--asr-endpoint", asr.target) as running:
        async with connected(running.url) as socket:
            await socket.send("session.update", session=audio_input(transcription=ENGLISH))
            await socket.append(monologue()[: 48_000 * 5])
            for _ in ("Good night.", "I think that the doctor ..."):
                await socket.until("input_audio_buffer.speech_started")
            running.process.terminate()
            error = await last_error(socket)
    assert error["type"] == "server_error"
    assert socket.socket.close_code == 1013
    assert "doctor" in " ".join(socket.texts())


async def test_a_thousand_strange_events_leave_a_session_that_works(live: Gateway) -> None:
    """Each is done or told; memory does not grow, and the log tells of no defect."""
    chance = random.Random(1)  # noqa: S311 - strange, and the same each time
    values: list[Any] = [
        None, True, 0, -1, 7.5, 10**30, "", "x" * 3_000, "\u0000", [], [[]], {}, {"type": "none"},
        "server_vad", "audio/pcm", ["en"], "en",
    ]  # fmt: skip
    names = [
        "type", "session", "audio", "input", "format", "rate", "transcription", "language",
        "languages", "prompt", "keywords", "delay", "model", "include", "turn_detection",
        "threshold", "silence_duration_ms", "eagerness", "input_audio_format", "noise_reduction",
    ]  # fmt: skip

    def strange(depth: int) -> Any:
        if depth == 0 or chance.random() < 0.3:
            return chance.choice(values)
        return {chance.choice(names): strange(depth - 1) for _ in range(chance.randrange(4))}

    kinds = ["session.update", "transcription_session.update", "input_audio_buffer.append"]
    async with connected(live.url) as socket:
        await socket.until("session.created")
        before = 0
        for number in range(1_000):
            session = strange(4) if chance.random() < 0.5 else {"audio": {"input": strange(3)}}
            await socket.send(chance.choice(kinds), session=session)
            if number == 200:
                before = live.resident_bytes()
        await socket.send("session.update", event_id="last", session="no")
        while (await socket.next()).get("error", {}).get("event_id") != "last":
            pass
        assert {one["type"] for one in socket.events} <= {
            "session.created", "session.updated", "transcription_session.updated", "error",
        }  # fmt: skip
        assert live.resident_bytes() - before < 16 * 2**20
        english = audio_input(
            transcription={"language": "en", "languages": None, "prompt": "", "keywords": None},
            turn_detection={"type": "server_vad", "threshold": 0.5},
            format="pcm16",
        )
        await socket.send("session.update", session=english)
        await socket.append(monologue())
        socket.events.clear()
        await socket.until(f"{TRANSCRIPTION}.completed", _has_radio)
    assert not [line for line in live.log() if line["level"] == "error"]
