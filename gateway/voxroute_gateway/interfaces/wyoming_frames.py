"""The frames of Wyoming's protocol: a line of JSON, then data in JSON, then a payload.

The package `wyoming` reads them too, and waits for as many bytes as a header says, whatever that
is; some garbage ends its reader with exceptions of other kinds than it promises. So it is a client
in the tests only.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, cast

MAX_LINE_BYTES = 64 * 1024
_MAX_DATA_BYTES = 256 * 1024
_MAX_PAYLOAD_BYTES = 1024 * 1024  # 5 s of 48 kHz in stereo; clients send some 20 to 100 ms


class FrameError(Exception):
    """What came is no frame; the message says why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event."""

    type: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    payload: bytes = b""


async def read_frame(reader: asyncio.StreamReader, in_time_s: float) -> Frame | None:
    """The next frame; None where the client has closed the connection.

    All of it has to come within `in_time_s` of its first byte. Raises FrameError, TimeoutError, and
    OSError where the connection breaks.
    """
    first = await reader.read(1)
    if not first:
        return None
    try:
        async with asyncio.timeout(in_time_s):
            line = first if first == b"\n" else first + await reader.readuntil(b"\n")
            header = _object(line, "the header")
            kind = header.get("type")
            if not isinstance(kind, str) or not kind:
                raise FrameError("the header has no type")
            data = _object(json.dumps(header.get("data") or {}).encode(), "data")
            if n_bytes := _length(header, "data_length", _MAX_DATA_BYTES):
                data |= _object(await reader.readexactly(n_bytes), "data")
            n_bytes = _length(header, "payload_length", _MAX_PAYLOAD_BYTES)
            return Frame(kind, data, await reader.readexactly(n_bytes) if n_bytes else b"")
    except asyncio.LimitOverrunError:
        raise FrameError(f"a header has at most {MAX_LINE_BYTES} bytes") from None
    except asyncio.IncompleteReadError:
        raise FrameError("the connection ended within an event") from None


def _length(header: dict[str, Any], name: str, most: int) -> int:
    given: object = header.get(name)
    if given is None:
        return 0
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= most:
        raise FrameError(f"{name} is a number from 0 to {most}")
    return given


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        raise FrameError(f"{what} is no JSON") from None
    if not isinstance(found, dict):
        raise FrameError(f"{what} is no JSON object")
    return cast("dict[str, Any]", found)


def frame_bytes(frame: Frame) -> bytes:
    """The frame as it is sent."""
    # in ASCII: what a client has sent and gets back may hold half of a character
    data = json.dumps(frame.data).encode() if frame.data else b""
    header: dict[str, Any] = {"type": frame.type}
    if data:
        header["data_length"] = len(data)
    if frame.payload:
        header["payload_length"] = len(frame.payload)
    return json.dumps(header).encode() + b"\n" + data + frame.payload
