"""Uploads: bytes on their way to the disk that can be read meanwhile, and forms that bring them."""

import asyncio
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeVar, cast

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_serving.errors import InvalidInputError

CHUNK_BYTES = 256 * 1024
_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 100
_WHOLE_BODY_S = 60.0  # for JSON and for forms without a file, which have some megabytes at most
_JSON = re.compile(r"application/json|[^/]+/[^/]+\+json")
# what aiohttp 3.14 raises of a body that is broken, and json of one that is nested too deeply
_UNREADABLE = (
    ValueError, TypeError, LookupError, AssertionError, RuntimeError,
    HttpProcessingError, web.RequestPayloadError,
)  # fmt: skip

T = TypeVar("T")

Fields = dict[str, list[str]]
"""The values of each field of a form, in their order; names without "[]"."""


def check_folder() -> None:
    """Raises InvalidInputError, which ends the process, where uploads cannot be kept."""
    try:
        _nameless().close()
    except OSError as error:
        folder = os.environ.get("TMPDIR") or "the folder for temporary files"
        raise InvalidInputError(
            f"uploads cannot be kept in {folder}: {error.strerror}; name another folder by TMPDIR"
        ) from error


def _nameless() -> IO[bytes]:
    # where TMPDIR cannot be used, tempfile would take another folder without a word
    return tempfile.TemporaryFile(dir=os.environ.get("TMPDIR") or tempfile.gettempdir())


def _no_room() -> RequestError:
    return RequestError(503, "there is no room for the upload now", "disk_full")


class Spool:
    """A file without a name that is written once and read any number of times, also meanwhile."""

    def __init__(self, max_bytes: int) -> None:
        """Raises RequestError where there is no room for it."""
        try:
            self._file = _nameless()
        except OSError as error:
            raise _no_room() from error
        self._max_bytes = max_bytes
        self._grown = asyncio.Event()
        self.size = 0
        self.complete = False

    async def write(self, data: bytes) -> None:
        """Appends. Raises RequestError where the upload is too large, or the disk is full."""
        if self.size + len(data) > self._max_bytes:
            raise RequestError(
                413, f"the file has more than {self._max_bytes} bytes", "limit_exceeded", "file"
            )
        try:
            await _to_the_end(asyncio.to_thread(self._put, data, self.size))
        except OSError as error:
            raise _no_room() from error
        self.size += len(data)
        self._tell()

    def _put(self, data: bytes, at: int) -> None:
        # by its place: what a cancelled request has written is written again
        rest = memoryview(data)
        while rest:
            n = os.pwrite(self._file.fileno(), rest, at)
            rest, at = rest[n:], at + n

    def finish(self) -> None:
        """Tells that nothing follows."""
        self.complete = True
        self._tell()

    def _tell(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """All of it from the start, as it comes."""
        read = 0
        while True:
            while read < self.size:
                n = min(CHUNK_BYTES, self.size - read)
                data = await asyncio.to_thread(os.pread, self._file.fileno(), n, read)
                read += len(data)
                yield data
            if self.complete:
                return
            await self._grown.wait()

    def close(self) -> None:
        """Gives the disk back."""
        self._file.close()


async def _to_the_end(work: Awaitable[None]) -> None:
    """Waits for what is on a thread, also where it is cancelled: a file may be closed then."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@dataclass(frozen=True, slots=True)
class SpooledAudio:
    """An upload for the speech service: the bytes of a media file, or samples."""

    spool: Spool
    samples: bool = False
    """Whether they are 16 kHz mono s16le, without a header."""
    start_s: float = 0.0
    length_s: float | None = None

    def format(self) -> asr_pb2.AudioFormat:
        """How the chunks are to be read."""
        if self.samples:
            return asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000, channels=1))
        return asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat(choose_audio_stream=True))

    def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, as they come."""
        return self.spool.chunks()


class Pace:
    """What a client owes while it is waited for, as with the services: bytes pay for seconds."""

    def __init__(self, limit_s: float, bytes_per_s: float) -> None:
        """`limit_s` is what may be owed, 0 for any; where `bytes_per_s` is 0, any bytes pay it."""
        self._limit_s = limit_s
        self._bytes_per_s = bytes_per_s
        self._owed_s = 0.0

    async def read(self, reading: Awaitable[T]) -> T:
        """What is read, whose wait counts. Raises RequestError where the client owes too much."""
        began = time.monotonic()
        left_s = max(0.0, self._limit_s - self._owed_s) if self._limit_s else None
        with _in_time():
            async with asyncio.timeout(left_s):
                found = await reading
        self._owed_s += time.monotonic() - began
        return found

    def pay(self, n_bytes: int) -> None:
        """Takes bytes for seconds."""
        paid_s = n_bytes / self._bytes_per_s if self._bytes_per_s else self._owed_s
        self._owed_s = max(0.0, self._owed_s - paid_s)


@contextlib.contextmanager
def _in_time() -> Generator[None]:
    try:
        yield
    except TimeoutError as error:
        raise RequestError(408, "the request came too slowly", "too_slow") from error


async def receive(
    request: web.Request, spool: Spool, part_name: str, pace: Pace, began: Callable[[Fields], None]
) -> Fields:
    """Reads a multipart form to its end; its file goes to the spool.

    `began` is told the fields in front of the file when that begins. Raises RequestError.
    """
    _check_kind(request, part_name)
    fields: Fields = {}
    stray: RequestError | None = None
    n_parts = 0
    try:
        reader = await request.multipart()
        while (part := await pace.read(reader.next())) is not None:
            n_parts += 1
            if n_parts > _MAX_FIELDS:
                raise RequestError(400, "the form has too many fields", "bad_form")
            if not isinstance(part, aiohttp.BodyPartReader):
                raise RequestError(400, "the form holds a form", "bad_form")
            name = _legible(part.name or "").removesuffix("[]")
            if name != part_name:
                wrong = _stray(part, name, part_name)
                stray = stray or wrong
                too_long = wrong or bad_field(
                    name, f"it is too long; the file is the part {part_name!r}"
                )
                fields.setdefault(name, []).append(await _text(part, too_long, pace))
                continue
            if spool.complete:
                raise bad_field(part_name, "send one file")
            began(fields)
            while data := await pace.read(part.read_chunk(CHUNK_BYTES)):
                pace.pay(len(data))
                await spool.write(bytes(data))
            spool.finish()
    except _UNREADABLE as error:
        raise RequestError(400, "the form cannot be read", "bad_form") from error
    if stray is not None and not spool.complete:
        raise stray
    if not spool.size:
        raise bad_field(part_name, "there is no file, or it is empty")
    return fields


def _check_kind(request: web.Request, part_name: str) -> None:
    """Raises RequestError where the body is no form as it is sent here."""
    if not request.content_type.startswith("multipart/"):
        raise RequestError(
            400, f"send multipart/form-data with the part {part_name!r}", "no_form", part_name
        )
    check_encoding(request)


def check_encoding(request: web.Request) -> None:
    """Raises RequestError where the body is compressed: few bytes could fill disk or memory."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestError(
            415, "send the body without Content-Encoding", "content_encoding", "Content-Encoding"
        )


def _stray(part: aiohttp.BodyPartReader, name: str, part_name: str) -> RequestError | None:
    """What is to be said where a part that is not the file's looks like one."""
    if part.filename is None and name:
        return None
    came = f"as the part {name!r}" if name else "in a part without a name"
    return RequestError(
        400, f"a file came {came}; here its part is called {part_name!r}", "no_file", part_name
    )


async def _text(part: aiohttp.BodyPartReader, too_long: RequestError, pace: Pace) -> str:
    data = b""
    while chunk := await pace.read(part.read_chunk()):
        pace.pay(len(chunk))
        data += chunk
        if len(data) > _MAX_FIELD_BYTES:
            raise too_long
    return data.decode("utf-8", "replace")


def _legible(text: str) -> str:
    """A text of a header, whose bytes that are no UTF-8 come as lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def first(fields: Fields, name: str, default: str = "") -> str:
    """The value of a field, without blanks around it."""
    values = fields.get(name)
    return values[0].strip() if values else default


def is_true(text: str) -> bool:
    """What forms and query strings say for true."""
    return text.strip().lower() in {"1", "true", "yes", "on"}


def whole_number(text: str, name: str, most: int = 2**63 - 1) -> int:
    """What a query string or a header says of a number. Raises RequestError."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not digits or int(text) > most:
        raise bad_field(name, f"write a whole number from 0 to {most}")
    return int(text)


async def small_form(request: web.Request) -> Mapping[str, Any]:
    """The fields of a form without a file. Raises RequestError."""
    check_encoding(request)
    try:
        with _in_time():
            async with asyncio.timeout(_WHOLE_BODY_S):
                return await request.post()
    except _UNREADABLE as error:
        raise RequestError(400, "the form cannot be read", "bad_form") from error


async def json_object(request: web.Request, max_bytes: int = 0) -> dict[str, Any]:
    """The body as a JSON object, which may have more bytes than others where `max_bytes` says so.

    Raises RequestError.
    """
    # a browser asks before a page of another host sends this type, and any other it may just send
    if not _JSON.fullmatch(request.content_type):
        raise RequestError(415, "send JSON as application/json", "content_type", "Content-Type")
    check_encoding(request)
    if max_bytes and not request.content.at_eof():  # else it was read, for the token in it
        request = request.clone(client_max_size=max_bytes)
    try:
        with _in_time():
            async with asyncio.timeout(_WHOLE_BODY_S):
                text = await request.text()
        found: object = json.loads(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except _UNREADABLE as error:
        raise RequestError(400, "the body is no JSON", "bad_json") from error
    if not isinstance(found, dict):
        raise RequestError(400, "the body is no JSON object", "bad_json")
    return cast("dict[str, Any]", found)
