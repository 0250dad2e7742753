"""Uploads: bytes on their way to the disk that can be read meanwhile, and forms that bring them."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.errors import RequestError, bad_field

CHUNK_BYTES = 256 * 1024
_MAX_FIELD_BYTES = 64 * 1024
_MAX_FIELDS = 100

_UNREADABLE = (ValueError, AssertionError, LookupError, HttpProcessingError)
"""What aiohttp raises for a form that is none."""

Fields = dict[str, list[str]]
"""The values of each field of a form, in their order; names without "[]"."""


class Spool:
    """A file without a name that is written once and read any number of times, also meanwhile."""

    def __init__(self, max_bytes: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - close is below
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
            raise RequestError(503, "there is no room for the upload now", "disk_full") from error
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
        return asr_pb2.AudioFormat(container=asr_pb2.ContainerFormat())

    def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, as they come."""
        return self.spool.chunks()


async def receive(
    request: web.Request, spool: Spool, part_name: str, began: Callable[[Fields], None]
) -> Fields:
    """Reads a multipart form to its end; its file goes to the spool.

    `began` is told the fields in front of the file when that begins. Raises RequestError.
    """
    if not request.content_type.startswith("multipart/"):
        raise RequestError(
            400, f"send multipart/form-data with the part {part_name!r}", "no_form", part_name
        )
    fields: Fields = {}
    there = False
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, aiohttp.BodyPartReader):
                raise RequestError(400, "the form holds a form", "bad_form")
            name = (part.name or "").removesuffix("[]")
            if name != part_name:
                fields.setdefault(name, []).append(await _text(part, name))
                if len(fields) > _MAX_FIELDS:
                    raise RequestError(400, "the form has too many fields", "bad_form")
                continue
            if there:
                raise bad_field(part_name, "send one file")
            there = True
            began(fields)
            while data := await part.read_chunk(CHUNK_BYTES):
                await spool.write(bytes(data))
            spool.finish()
    except _UNREADABLE as error:
        raise RequestError(400, "the form cannot be read", "bad_form") from error
    if not spool.size:
        raise bad_field(part_name, "there is no file, or it is empty")
    return fields


async def _text(part: aiohttp.BodyPartReader, name: str) -> str:
    data = b""
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > _MAX_FIELD_BYTES:
            raise bad_field(name, "it is too long")
    return data.decode("utf-8", "replace")


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
    """The fields of a form, in memory. Raises RequestError."""
    try:
        return await request.post()
    except _UNREADABLE as error:
        raise RequestError(400, "the form cannot be read", "bad_form") from error


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestError."""
    try:
        found: object = await request.json()
    except (ValueError, LookupError, RecursionError) as error:
        raise RequestError(400, "the body is no JSON", "bad_json") from error
    if not isinstance(found, dict):
        raise RequestError(400, "the body is no JSON object", "bad_json")
    return cast("dict[str, Any]", found)
