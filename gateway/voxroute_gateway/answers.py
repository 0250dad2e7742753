"""What is sent back: subtitles, JSON, and answers that keep a waiting client patient."""

import asyncio
import contextlib
import json
import mimetypes
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from aiohttp import web

from voxroute_gateway.errors import RequestError, of_failure
from voxroute_gateway.languages import name_of
from voxroute_gateway.recognition import Heard
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.subtitles.cues import Cue, source_cues, translated_cues
from voxroute_orchestrator.subtitles.formats import FORMATS
from voxroute_orchestrator.subtitles.rules import CueRules
from voxroute_orchestrator.transcript import Segment, Translation
from voxroute_serving.telemetry.logs import get_logger

JSON, TEXT = "application/json", "text/plain"
_TYPES = {"srt": "application/x-subrip", "vtt": "text/vtt", "text": TEXT}
_FILE_TYPES = {
    **_TYPES, "ass": "text/x-ssa", "ttml": "application/ttml+xml",
    # what mimetypes does not know on every host
    "flac": "audio/flac", "m4a": "audio/mp4", "m4b": "audio/mp4", "mkv": "video/x-matroska",
    "oga": "audio/ogg", "ogg": "audio/ogg", "opus": "audio/ogg", "wav": "audio/wav",
}  # fmt: skip
_PLAYED = ("audio/", "video/")
_UNKNOWN = "application/octet-stream"
_VTT = "WEBVTT\n\n"
ENDED_WITH = web.RequestKey("ended_with", int)
"""The status of a request whose headers had gone ahead: of its whole answer, or of its failure."""
HEARTBEAT_S = web.AppKey("heartbeat_s", float)
"""How long an answer may keep its client waiting without a sign of life."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    body: str
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def as_json(content: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON, its letters as they are."""
    return Answer(json.dumps(content, ensure_ascii=False), JSON, headers or {})


def response(answer: Answer, status: int = 200) -> web.Response:
    """The answer, sent at once."""
    return web.Response(
        status=status,
        text=answer.body,
        content_type=answer.content_type,
        charset="utf-8",
        headers=answer.headers,
    )


async def patient(
    request: web.Request,
    work: Awaitable[Answer],
    *,
    content_type: str,
    form: str = "",
    known: Callable[[], Mapping[str, str]] = dict[str, str],
) -> web.StreamResponse:
    """The answer; where it takes long, its headers and line feeds go ahead of it.

    `known` tells the answer's own headers, as far as they are known when they go ahead; `form` is
    "vtt" for a file of WebVTT, which has to begin with its name.
    What goes wrong after the headers ends the connection in the middle, so that no client takes
    what it has for the whole.
    """
    heartbeat_s = request.app[HEARTBEAT_S]
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=heartbeat_s)
        if done:
            return response(task.result())
        early = web.StreamResponse(headers=known())
        early.content_type, early.charset = content_type, "utf-8"
        await early.prepare(request)
        sent = _VTT if form == "vtt" else "\n"
        await early.write(sent.encode())
        while not (await asyncio.wait([task], timeout=heartbeat_s))[0]:
            await early.write(b"\n")
        try:
            body = task.result().body
        except Exception as error:
            raise broken(request, error) from error
        await early.write(body.removeprefix(_VTT).encode() if sent == _VTT else body.encode())
        await ended(request, early)
        return early
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def ended(request: web.Request, stream: web.StreamResponse) -> None:
    """Ends an answer whose headers went ahead; a client that leaves now has all of it."""
    request.setdefault(ENDED_WITH, stream.status)
    await stream.write_eof()


def broken(request: web.Request, error: Exception) -> asyncio.CancelledError:
    """Breaks the connection of a request that failed after its headers; what is to be raised."""
    failure = of_failure(error)
    _log.error(
        "an answer was broken off", status=failure.status, reason=failure.message, exc_info=error
    )
    if request.transport is not None:
        request.transport.abort()
    request[ENDED_WITH] = failure.status
    return asyncio.CancelledError()


@dataclass(frozen=True, slots=True)
class File:
    """A file that is sent, whole or in part."""

    name: str
    size: int
    """Bytes."""
    version: str = ""
    """Another text where the content is another; "" where it is not sent in parts."""
    inline: bool = False
    """Whether a browser is to show it; only what it plays is, as a client has named the file."""
    sound: bool = False

    @property
    def tag(self) -> str:
        """Its ETag."""
        return f'"{self.version}"'

    def headers(self) -> dict[str, str]:
        """What is told of it."""
        suffix = self.name.rpartition(".")[2].lower()
        kind = _FILE_TYPES.get(suffix) or mimetypes.guess_type(self.name)[0] or _UNKNOWN
        if self.sound:
            kind = "audio/webm"
        if self.inline and not kind.startswith(_PLAYED):
            kind = _UNKNOWN
        how = "inline" if self.inline else "attachment"
        return {
            "Content-Type": kind + ("; charset=utf-8" if kind.startswith("text/") else ""),
            "Content-Disposition": f"{how}; filename*=UTF-8''{quote(self.name, safe='')}",
            "X-Content-Type-Options": "nosniff",
            **({"Accept-Ranges": "bytes", "ETag": self.tag} if self.version else {}),
        }


async def sent(
    request: web.Request, file: File, read: Callable[[int, int], AsyncGenerator[bytes]]
) -> web.StreamResponse:
    """Sends a file, or the range of it that is asked for; `read` is told offset and length.

    Raises RequestError.
    """
    begin, end = _range(request, file)
    answer = web.StreamResponse(headers=file.headers())
    answer.content_length = end - begin
    if end - begin < file.size:
        answer.set_status(206)
        answer.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.size}"
    await answer.prepare(request)
    if request.method != "HEAD" and begin < end:
        try:
            async with contextlib.aclosing(read(begin, end - begin)) as chunks:
                async for data in chunks:
                    await answer.write(data)
        except VoxrouteError as error:
            raise broken(request, error) from error
    await ended(request, answer)
    return answer


def _range(request: web.Request, file: File) -> tuple[int, int]:
    """The first byte that is wanted and the one behind the last. Raises RequestError.

    All of the file where the range is none of one part, or is about another file.
    """
    n = file.size
    try:
        asked = request.http_range
    except ValueError:
        return 0, n
    if asked.start is None or request.headers.get("If-Range", file.tag) != file.tag:
        return 0, n
    begin = max(0, n + asked.start) if asked.start < 0 else asked.start
    if begin >= n:
        raise RequestError(
            416, f"the file has {n} bytes", "range", "Range", more={"Content-Range": f"bytes */{n}"}
        )
    return begin, n if asked.stop is None else min(n, asked.stop)


def cues_of(heard: Heard, translation: Translation | None, rules: CueRules) -> list[Cue]:
    """What stands on the screen when, as the command has it."""
    if translation is None:
        return source_cues(heard.segments, rules)
    return translated_cues(heard.segments, translation, rules)


def subtitles(kind: str, cues: Sequence[Cue], language: str) -> Answer:
    """A subtitle file, "srt" or "vtt"."""
    return Answer(FORMATS[kind](cues, language), type_of(kind))


def type_of(form: str) -> str:
    """The content type of a form of answer."""
    return _TYPES.get(form, JSON)


def segment_of(segment: Segment, text: str | None = None) -> dict[str, Any]:
    """A segment as OpenAI's clients read it: ten fields, none of them null.

    What the engine did not measure has a number that says nothing, and is named in `unmeasured`;
    `flags` are doubts about the text.
    """
    measured = {
        "temperature": (segment.temperature, 0.0),
        "avg_logprob": (segment.avg_log_prob, 0.0),
        "compression_ratio": (segment.compression_ratio, 1.0),
        "no_speech_prob": (segment.no_speech_prob, 0.0),
    }
    found: dict[str, Any] = {
        "id": segment.id - 1,
        "seek": round(segment.start_s * 100),  # frames of 10 ms, as Whisper counts
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text if text is None else text,
        "tokens": [],
        **{
            name: neutral if value is None else value for name, (value, neutral) in measured.items()
        },
        "unmeasured": ["tokens", *(name for name, (value, _) in measured.items() if value is None)],
        "flags": list(segment.flags),
    }
    return found


def words_of(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    """The words of all segments with their times, seconds."""
    return [
        {"word": word.text, "start": word.start_s, "end": word.end_s}
        for segment in segments
        for word in segment.words
    ]


def verbose(
    heard: Heard, *, task: str, words: bool, texts: Mapping[int, str] | None, language: str
) -> dict[str, Any]:
    """All that is known of a recording; `texts` are translations by segment."""
    segments = [segment_of(one, texts[one.id] if texts else None) for one in heard.segments]
    found: dict[str, Any] = {
        "task": task,
        "language": name_of(language),
        "languages": [{"code": language}] if language else [],
        "duration": float(heard.duration_s),
        "text": " ".join(one["text"] for one in segments),
        "segments": segments,
        "usage": usage(heard),
        "untranscribed": [
            {"start": one.start_s, "end": one.end_s, "reason": one.reason}
            for one in heard.untranscribed
        ],
        "warnings": warnings(heard),
    }
    if words:
        found["words"] = words_of(heard.segments)
    return found


def warnings(heard: Heard) -> list[dict[str, str]]:
    """What a person should know of a recording."""
    return [{"code": code, "message": message} for code, message in heard.warnings.items()]


def headers_of(heard: Heard) -> dict[str, str]:
    """Which model answers, and the codes of what a person should know, as far as that is known."""
    told = {"x-voxroute-model": heard.model, "x-voxroute-warnings": ", ".join(heard.warnings)}
    return {name: value for name, value in told.items() if value}


def usage(heard: Heard) -> dict[str, Any]:
    """What was worked on."""
    return {"type": "duration", "seconds": float(heard.duration_s)}


async def send_event(stream: web.StreamResponse, content: Mapping[str, Any]) -> None:
    """One server-sent event; some clients go by its name and others by its type."""
    data = json.dumps(content, ensure_ascii=False)
    await stream.write(f"event: {content.get('type', 'error')}\ndata: {data}\n\n".encode())


@contextlib.asynccontextmanager
async def comments(
    stream: web.StreamResponse, text: Callable[[], str], heartbeat_s: float
) -> AsyncGenerator[None]:
    """Sends a comment again and again while the block lasts, so that the client waits."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(heartbeat_s)
            await stream.write(f": {text()}\n\n".encode())

    telling = asyncio.ensure_future(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
