"""Wyoming's protocol with its own client, as Home Assistant uses it, and with garbage."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import AsrProgram, Describe, Info

from tests.gateway.conftest import Gateway, gateway
from tests.gateway.live.conftest import LiveService
from tests.gateway.live.speaking import LENGTH_S, SAID, monologue, pieces
from voxroute_gateway.interfaces.wyoming_frames import read_frame

FORMAT: Any = {"rate": 16_000, "width": 2, "channels": 1}


@contextmanager
def listening(*flags: str) -> Generator[tuple[Gateway, int]]:
    """A gateway that speaks it, and the port."""
    with gateway("--wyoming-listen", "127.0.0.1:0", *flags) as running:
        [told] = [one for one in running.told["addresses"] if one.startswith("tcp://")]
        yield running, int(told.rpartition(":")[2])


@pytest.fixture(scope="module")
def port(asr: LiveService) -> Iterator[int]:
    """The port of a gateway in front of the speech service."""
    with listening("--asr-endpoint", asr.target) as (_, found):
        yield found


def _client(port: int) -> AsyncTcpClient:
    return AsyncTcpClient("127.0.0.1", port, connect_timeout=10, read_timeout=60)


async def test_it_says_what_there_is_without_asking_anybody() -> None:
    """Home Assistant waits a second; here the service is not there at all."""
    with listening("--asr-endpoint", "127.0.0.1:1", "--model", "large-v3") as (_, port):
        for _ in range(2):
            began = time.monotonic()
            async with _client(port) as client:
                await client.write_event(Describe().event())
                event = await client.read_event()
            assert time.monotonic() - began < 1
            assert event is not None
            [program] = Info.from_event(event).asr
            assert program.supports_transcript_streaming
            assert program.models[0].name == "large-v3"
            assert {"en", "hi"} <= set(program.models[0].languages)


async def test_models_and_their_languages_are_those_of_the_service(port: int) -> None:
    """As soon as it has answered once."""
    program: AsrProgram | None = None
    async with _client(port) as client:
        for _ in range(100):
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            [program] = Info.from_event(event).asr
            if program.models[0].name != "default":
                break
            await asyncio.sleep(0.1)
    assert program is not None
    assert program.models[0].installed
    assert program.models[0].attribution.name == "whisperx"
    assert set(program.models[0].languages) == {"hi", "en"}


async def test_a_recording_is_written_down_while_it_is_spoken(port: int) -> None:
    """Chunks that come before the end and add up to the transcript; one connection, twice."""
    async with _client(port) as client:
        for speed in (1.0, 50.0):
            told: list[tuple[float, Event]] = []
            await client.write_event(Transcribe(name="whisper-1", language="en").event())
            await client.write_event(AudioStart(**FORMAT).event())
            began = time.monotonic()

            async def read(told: list[tuple[float, Event]] = told, began: float = began) -> None:
                while not told or told[-1][1].type != "transcript-stop":
                    event = await client.read_event()
                    assert event is not None
                    told.append((time.monotonic() - began, event))

            reading = asyncio.ensure_future(read())
            async for piece in pieces(monologue(16_000), 32_000, speed=speed):
                await client.write_event(AudioChunk(audio=piece, **FORMAT).event())
            await client.write_event(AudioStop().event())
            await asyncio.wait_for(reading, 60)
            kinds = [event.type for _, event in told]
            chunks = [event.data["text"] for _, event in told if event.type == "transcript-chunk"]
            assert kinds[0] == "transcript-start"
            assert kinds[-2:] == ["transcript", "transcript-stop"]
            assert told[-2][1].data == {"text": SAID, "language": "en"}
            assert "".join(chunks) == SAID
            if speed == 1.0:
                assert told[1][0] < LENGTH_S / 2


async def test_a_recording_without_words_has_an_empty_transcript(port: int) -> None:
    """And not an error."""
    async with _client(port) as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=bytes(32_000), **FORMAT).event())
        await client.write_event(AudioStop().event())
        events = [await client.read_event() for _ in range(3)]
    told = [(event.type, event.data) for event in events if event is not None]
    assert told == [
        ("transcript-start", {}), ("transcript", {"text": ""}), ("transcript-stop", {}),
    ]  # fmt: skip


async def _answer(port: int, *sent: bytes) -> list[Event]:
    """What is answered until the connection ends."""
    async with _client(port) as client:
        assert client._writer is not None
        client._writer.write(b"".join(sent))
        events: list[Event] = []
        while (event := await client.read_event()) is not None:
            events.append(event)
    return events


def _line(**header: Any) -> bytes:
    return json.dumps(header).encode() + b"\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\n",
        b"\xff\xfe\x00\n",
        b"[" * 60_000 + b"\n",
        b"[]\n",
        b"x" * 200_000,
        _line(type=7),
        _line(type=""),
        _line(type="describe", data=[1]),
        _line(type="describe", data_length="7"),
        _line(type="describe", data_length=-1),
        _line(type="describe", data_length=True),
        _line(type="describe", data_length=10**12),
        _line(type="describe", data_length=4) + b"nope",
        _line(type="audio-chunk", payload_length=10**12),
        _line(type="audio-start", data={"rate": 16000, "width": 4, "channels": 1}),
        _line(type="audio-start", data={"rate": 1, "width": 2, "channels": 1}),
        _line(type="audio-start", data={"rate": 16000, "width": 2, "channels": 99}),
        _line(type="audio-start", data={"rate": "x", "width": 2}),
        _line(type="audio-start"),
        *(
            _line(type="audio-start", data=FORMAT) + _line(type="audio-chunk", data=FORMAT | other)
            for other in ({"rate": 48_000}, {"width": 4}, {"channels": 2})
        ),
        _line(type="transcribe", data={"language": "?!"})
        + _line(type="audio-start", data={"rate": 16000, "width": 2, "channels": 1}),
    ],
)
async def test_garbage_is_answered_with_an_error(port: int, sent: bytes) -> None:
    """Which says why, and the connection ends; the next one is served."""
    events = await _answer(port, sent)
    assert [event.type for event in events] == ["error"]
    assert events[0].data["text"]
    assert events[0].data["code"]
    async with _client(port) as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        assert event.type == "info"


async def test_a_client_that_leaves_frees_its_place(port: int, asr: LiveService) -> None:
    """In the middle of a recording."""
    async with _client(port) as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=monologue(16_000), **FORMAT).event())
        event = await client.read_event()
        assert event is not None
        assert event.type == "transcript-start"
        assert await asyncio.to_thread(asr.streams) == 1
    await asyncio.to_thread(asr.wait_until, 0)


@pytest.mark.slow  # a service has to start twice
async def test_connections_are_bounded_and_a_lost_service_is_told() -> None:
    """Both with an error, since the protocol has no other word."""
    flags = ("--asr-endpoint", "127.0.0.1:1", "--max-live-connections", "1")
    with listening(*flags) as (_, port):
        async with _client(port) as client:
            await client.write_event(AudioStart(**FORMAT).event())
            await client.write_event(AudioChunk(audio=bytes(3_200), **FORMAT).event())
            [full] = await _answer(port)
            assert full.data["code"] == "live_full"
            event = await client.read_event()
            assert event is not None
            assert event.type == "error"
            assert event.data["code"] == "unavailable"


async def test_what_was_said_is_told_before_the_gateway_ends(asr: LiveService) -> None:
    """A recording is written down; a connection that does nothing is waited for by nobody."""
    with listening("--asr-endpoint", asr.target) as (running, port):
        async with _client(port) as idle, _client(port) as client:
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(**FORMAT).event())
            await client.write_event(AudioChunk(audio=monologue(16_000), **FORMAT).event())
            event = await client.read_event()
            assert event is not None
            assert event.type == "transcript-start"
            running.process.terminate()
            assert await idle.read_event() is None
            await client.write_event(AudioStop().event())
            heard = ""
            while (event := await client.read_event()) is not None:
                heard = event.data["text"] if event.type == "transcript" else heard
            assert heard == SAID


async def test_half_of_a_character_comes_back_as_it_was(port: int) -> None:
    """It is no character, but JSON can say it."""
    async with _client(port) as client:
        assert client._writer is not None
        client._writer.write(b'{"type": "ping", "data": {"text": "\\ud800"}}\n')
        event = await client.read_event()
        assert event is not None
        assert event.data == {"text": "\ud800"}


async def test_an_event_has_so_long_to_come() -> None:
    """From its first byte on; before that a connection may wait for its person."""
    reader = asyncio.StreamReader()
    reading = asyncio.ensure_future(read_frame(reader, 0.3))
    await asyncio.sleep(0.5)
    assert not reading.done()
    reader.feed_data(b'{"type": "audio-chunk", "payload_length": 3}\nab')
    with pytest.raises(TimeoutError):
        await reading


@pytest.mark.parametrize("flags", [[], ["--insecure"]])
def test_an_address_that_others_reach_has_to_be_meant(flags: list[str]) -> None:
    """There are no tokens and no TLS, so --insecure, which is about TLS, is not enough."""
    done = subprocess.run(
        [sys.executable, "-m", "voxroute_gateway", "--wyoming-listen", "0.0.0.0:0", *flags],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--wyoming-insecure" in done.stderr
