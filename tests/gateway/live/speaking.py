"""What live clients of the tests say, and when: the bundled monologue, at the pace of speech."""

import asyncio
import base64
import json
import wave
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
import scipy.signal

from tests.e2e import processes

PIECE_S = 0.05
SAID = (
    "Good night. I think that the doctor is sleeping in the garden. Why did you open the door?"
    " My brother has already repaired this radio."
)
"""What the bundled model writes down of it."""
LENGTH_S = 11.1


def monologue(rate: int = 24_000) -> bytes:
    """Some seconds of English and a second of silence, s16le mono."""
    with wave.open(str(processes.ROOT / "examples" / "evening.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
        there = file.getframerate()
    heard = samples if rate == there else scipy.signal.resample_poly(samples, rate, there)
    return np.clip(heard, -32768, 32767).astype("<i2").tobytes() + bytes(2 * rate)


def mu_law() -> bytes:
    """The same as telephones have it in America."""
    samples = np.frombuffer(monologue(8_000), "<i2").astype(np.int32)
    sign = np.where(samples < 0, 0x80, 0)
    size = np.minimum(np.abs(samples), 32635) + 132
    exponent = np.floor(np.log2(size)).astype(np.int32) - 7
    mantissa = (size >> (exponent + 3)) & 15
    return (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8).tobytes()


def encoded(samples: bytes) -> str:
    """As an event carries it."""
    return base64.b64encode(samples).decode()


async def pieces(samples: bytes, bytes_per_s: int, *, speed: float = 1.0) -> AsyncIterator[bytes]:
    """The samples as they are spoken, or so many times faster."""
    size = int(bytes_per_s * PIECE_S) // 2 * 2
    began = asyncio.get_running_loop().time()
    for n, begin in enumerate(range(0, len(samples), size)):
        yield samples[begin : begin + size]
        due = began + (n + 1) * PIECE_S / speed
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


class Socket:
    """A client of the realtime API that sends what the test says, and keeps what it is told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **content: Any) -> None:
        await self.socket.send_json({"type": kind, **content})

    async def append(self, samples: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=encoded(samples))

    async def speak(self, samples: bytes, bytes_per_s: int = 48_000, speed: float = 1.0) -> None:
        async for piece in pieces(samples, bytes_per_s, speed=speed):
            await self.append(piece)

    async def next(self) -> dict[str, Any]:
        """The next event. Raises EOFError at the end of the connection."""
        message = await self.socket.receive(60)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError(f"{message.type} {self.socket.close_code} {message.extra}")
        self.events.append(json.loads(message.data))
        return self.events[-1]

    async def until(
        self, kind: str, which: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The next event of a kind. Raises EOFError, and AssertionError for an error before it."""
        while True:
            event = await self.next()
            if event["type"] == kind and which(event):
                return event
            assert event["type"] != "error", event

    def texts(self) -> list[str]:
        """What is completed, in order."""
        return [e["transcript"] for e in self.events if e["type"].endswith(".completed")]


async def last_error(socket: Socket) -> dict[str, Any]:
    """The error that ends a session."""
    while (event := await socket.next())["type"] != "error":
        pass
    with pytest.raises(EOFError):
        await socket.next()
    return event["error"]


@asynccontextmanager
async def connected(
    url: str, *, protocols: tuple[str, ...] = (), query: str = "", **headers: str
) -> AsyncGenerator[Socket]:
    """A connection to the realtime API; it is closed at the end."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{url}/v1/realtime{query}", protocols=protocols, headers=headers
        ) as socket,
    ):
        yield Socket(socket)


def audio_input(**options: Any) -> dict[str, Any]:
    """A session as clients of today describe it."""
    return {"type": "transcription", "audio": {"input": options}}
