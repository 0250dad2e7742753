"""The transcript of a job over HTTP: read, changed, timed and translated again, exported."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from aiohttp import web
from google.protobuf.duration_pb2 import Duration

from voxroute.jobs.v1 import jobs_pb2
from voxroute_gateway.answers import (
    JSON,
    Answer,
    File,
    as_json,
    broken,
    ended,
    patient,
    response,
)
from voxroute_gateway.description import (
    BINARY,
    BOOLEAN,
    INTEGER,
    NUMBER,
    SERVICES,
    STRING,
    Operation,
    Schema,
    array,
    fields,
    one_of,
    required,
    whole,
)
from voxroute_gateway.errors import bad_field
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.uploads import json_object, whole_number
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_orchestrator.errors import VoxrouteError

T = TypeVar("T")

_FORMATS = ("srt", "vtt", "ass", "ttml", "json", "txt")
_MAX_BODY_BYTES = 32 * 1024**2
_MAX_REVISION = 2**31 - 1
_MAX_S = 1e9  # far beyond every recording; what is more is no time
_ERRORS = (404, *SERVICES)

_JSON = json.JSONEncoder(ensure_ascii=False)  # once: json.dumps makes one for each segment

_POSITIVE: Schema = {**INTEGER, "minimum": 0, "maximum": _MAX_REVISION}
_STRETCH: dict[str, Schema] = {"start_s": NUMBER, "end_s": NUMBER}


def _by_name(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


_SEGMENT = fields(
    ("id", "start_s", "end_s", "text"),
    **_STRETCH,
    id=STRING,
    text=STRING,
    language=STRING,
    speaker=STRING,
    words=array(fields(("start_s", "end_s", "text"), **_STRETCH, text=STRING, probability=NUMBER)),
    flags=array(STRING),
    edited=BOOLEAN,
    translations=_by_name(
        fields(("text",), text=STRING, status=STRING, stale=BOOLEAN, edited=BOOLEAN)
    ),
)
_SPEAKERS = _by_name(STRING)
_TRANSCRIPT = whole(
    revision=INTEGER,
    duration_s=NUMBER,
    source_languages=array(STRING),
    target_languages=array(STRING),
    speakers=_SPEAKERS,
    segments=array(_SEGMENT),
    untranscribed=array(whole(**_STRETCH, reason=STRING)),
)
_AGAIN = {
    200: {
        JSON: whole(
            revision=INTEGER,
            left=array(whole(segment_id=STRING, language=STRING, reason=STRING, message=STRING)),
        )
    }
}


class Transcripts:
    """The routes below /api/jobs/{job_id} that are about the transcript."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        one = "/api/jobs/{job_id}"
        return [
            web.get(f"{one}/transcript", self.transcript),
            web.put(f"{one}/transcript", self.put),
            web.post(f"{one}/retime", self.retime),
            web.post(f"{one}/retranslate", self.retranslate),
            web.get(f"{one}/export", self.export),
        ]

    @Operation({200: {JSON: _TRANSCRIPT}}, _ERRORS, query={"revision": _POSITIVE})
    async def transcript(self, request: web.Request) -> web.StreamResponse:
        """A revision of a job's transcript; the newest where none is named.

        Each segment is a line of its own, sent while the next ones are made: who reads by lines has
        the first long before the last. An answer that breaks off has no end.
        """
        job_id, revision = request.match_info["job_id"], _revision(request)
        replies = self._gateway.jobs.transcript(job_id, revision)
        async with contextlib.aclosing(replies) as sent:
            head = (await anext(sent, jobs_pb2.GetTranscriptResponse())).head
            answer = web.StreamResponse()
            answer.content_type, answer.charset = JSON, "utf-8"
            await answer.prepare(request)
            if request.method != "HEAD":
                await answer.write(_head_told(head).encode())
                begin = ""
                try:
                    async for reply in sent:
                        lines = await asyncio.to_thread(_lines, reply.segments.segments)
                        await answer.write(f"{begin}{lines}".encode())
                        begin = ",\n"
                except VoxrouteError as error:
                    raise broken(request, error) from error
                await answer.write(b"\n]}" if begin else b"]}")
            await ended(request, answer)
        return answer

    @Operation(
        {200: {JSON: whole(revision=INTEGER)}},
        (409, *_ERRORS),
        body={
            JSON: fields(
                ("base_revision", "segments", "speakers"),
                base_revision=_POSITIVE,
                segments=array(_SEGMENT),
                speakers=_SPEAKERS,
            )
        },
    )
    async def put(self, request: web.Request) -> web.Response:
        """Keeps what a person has made of a revision as the next one."""
        client = self._gateway.jobs
        asked = await json_object(request, _MAX_BODY_BYTES)
        config = jobs_pb2.PutTranscriptConfig(
            job_id=request.match_info["job_id"],
            base_revision=_base(asked),
            speakers=[
                jobs_pb2.SpeakerName(speaker=speaker, name=_text(name, "speakers"))
                for speaker, name in _object(asked.get("speakers"), "speakers").items()
            ],
        )
        segments = await asyncio.to_thread(_segments, asked.get("segments"))
        return response(as_json({"revision": await client.put_transcript(config, segments)}))

    @Operation(
        _AGAIN,
        (409, *_ERRORS),
        body={
            JSON: fields(
                ("base_revision", "segment_ids"), base_revision=_POSITIVE, segment_ids=array(STRING)
            )
        },
    )
    async def retime(self, request: web.Request) -> web.StreamResponse:
        """Finds out again when the words of segments are said; the next revision has them."""
        client = self._gateway.jobs
        asked = await json_object(request)
        message = jobs_pb2.RetimeRequest(
            job_id=request.match_info["job_id"],
            base_revision=_base(asked),
            segment_ids=_texts(asked.get("segment_ids"), "segment_ids"),
        )
        return await self._again(request, client.retime(message))

    @Operation(
        _AGAIN,
        (409, *_ERRORS),
        body={
            JSON: fields(
                ("base_revision", "segment_ids"),
                base_revision=_POSITIVE,
                segment_ids=array(STRING),
                languages=array(STRING),
            )
        },
    )
    async def retranslate(self, request: web.Request) -> web.StreamResponse:
        """Translates segments again; the next revision has what comes of it."""
        client = self._gateway.jobs
        asked = await json_object(request)
        message = jobs_pb2.RetranslateRequest(
            job_id=request.match_info["job_id"],
            base_revision=_base(asked),
            segment_ids=_texts(asked.get("segment_ids"), "segment_ids"),
            languages=_texts(asked.get("languages", []), "languages"),
        )
        return await self._again(request, client.retranslate(message))

    async def _again(
        self,
        request: web.Request,
        work: Awaitable[jobs_pb2.RetimeResponse | jobs_pb2.RetranslateResponse],
    ) -> web.StreamResponse:
        async def answer() -> Answer:
            done = await work
            left = [
                {
                    "segment_id": one.segment_id,
                    "language": one.language,
                    "reason": one.reason,
                    "message": one.message,
                }
                for one in done.left
            ]
            return as_json({"revision": done.revision, "left": left})

        return await patient(request, answer(), content_type=JSON)

    @Operation(
        {200: {JSON: {"type": "object"}, "*/*": BINARY}},
        _ERRORS,
        query={
            "format": required(one_of(*_FORMATS)),
            "language": STRING,
            "revision": _POSITIVE,
        },
    )
    async def export(self, request: web.Request) -> web.Response:
        """The subtitles or the text of a revision, as a file."""
        client = self._gateway.jobs
        asked = jobs_pb2.ExportTranscriptRequest(
            job_id=request.match_info["job_id"],
            revision=_revision(request),
            format=request.query.get("format", ""),
            language=request.query.get("language", ""),
        )
        name, data = await client.export(asked)
        return web.Response(body=data, headers=File(name, len(data)).headers())


# --- to JSON --------------------------------------------------------------------------------------


def _head_told(head: jobs_pb2.TranscriptHead) -> str:
    """The first line of a transcript."""
    told = _JSON.encode(
        {
            "revision": head.revision,
            "duration_s": seconds(head.duration),
            "source_languages": list(head.source_languages),
            "target_languages": list(head.target_languages),
            "speakers": {one.speaker: one.name for one in head.speakers},
            "untranscribed": [
                {**_times_told(one), "reason": one.reason} for one in head.untranscribed
            ],
        }
    )
    return told.removesuffix("}") + ', "segments": [\n'


def _lines(segments: Iterable[jobs_pb2.TranscriptSegment]) -> str:
    return ",\n".join(map(_segment_told, segments))


def _times_told(stretch: Any) -> dict[str, Any]:
    return {"start_s": seconds(stretch.start), "end_s": seconds(stretch.end)}


def _segment_told(one: jobs_pb2.TranscriptSegment) -> str:
    content = {
        "id": one.id,
        **_times_told(one),
        "text": one.text,
        "language": one.language,
        "speaker": one.speaker,
        "words": [_word_told(word) for word in one.words],
        "flags": list(one.flags),
        "edited": one.edited,
        "translations": {
            told.language: {
                "text": told.text,
                "status": told.status,
                "stale": told.stale,
                "edited": told.edited,
            }
            for told in one.translations
        },
    }
    return _JSON.encode(content)


def _word_told(word: jobs_pb2.TranscriptWord) -> dict[str, Any]:
    told = _times_told(word)
    told["text"] = word.text
    if word.HasField("probability"):
        told["probability"] = float(f"{word.probability:.6g}")
    return told


# --- from JSON ------------------------------------------------------------------------------------


def _revision(request: web.Request) -> int:
    return whole_number(request.query.get("revision") or "0", "revision", _MAX_REVISION)


def _base(asked: dict[str, Any]) -> int:
    value = asked.get("base_revision")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_REVISION:
        raise bad_field("base_revision", "write the number of the revision that was worked on")
    return value


def _segments(value: object) -> list[jobs_pb2.TranscriptSegment]:
    """Raises RequestError."""
    return _each(value, "segments", _segment)


def _segment(value: object, path: str) -> jobs_pb2.TranscriptSegment:
    asked = _object(value, path)
    start, end = _times(asked, path)
    return jobs_pb2.TranscriptSegment(
        id=_text(asked.get("id"), f"{path}.id"),
        start=start,
        end=end,
        text=_text(asked.get("text"), f"{path}.text"),
        language=_text(asked.get("language", ""), f"{path}.language"),
        speaker=_text(asked.get("speaker", ""), f"{path}.speaker"),
        words=_each(asked.get("words", []), f"{path}.words", _word),
        flags=_texts(asked.get("flags", []), f"{path}.flags"),
        translations=[
            _translation(language, one, f"{path}.translations")
            for language, one in _object(
                asked.get("translations", {}), f"{path}.translations"
            ).items()
        ],
    )


def _word(value: object, path: str) -> jobs_pb2.TranscriptWord:
    asked = _object(value, path)
    start, end = _times(asked, path)
    probability = asked.get("probability")
    return jobs_pb2.TranscriptWord(
        start=start,
        end=end,
        text=_text(asked.get("text"), f"{path}.text"),
        probability=None if probability is None else _number(probability, f"{path}.probability"),
    )


def _translation(language: str, value: object, path: str) -> jobs_pb2.SegmentTranslation:
    asked = _object(value, path)
    stale = asked.get("stale", False)
    if not isinstance(stale, bool):
        raise bad_field(f"{path}.stale", "write true or false")
    text = _text(asked.get("text"), f"{path}.text")
    return jobs_pb2.SegmentTranslation(language=language, text=text, stale=stale)


def _times(asked: dict[str, Any], path: str) -> tuple[Duration, Duration]:
    start_s = _number(asked.get("start_s"), f"{path}.start_s")
    end_s = _number(asked.get("end_s"), f"{path}.end_s")
    return duration(start_s), duration(end_s)


def _number(value: object, path: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MAX_S:
        return float(value)  # and no NaN, which is below nothing
    raise bad_field(path, "write a finite number")


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise bad_field(path, "write a text")
    return value


def _texts(value: object, path: str) -> list[str]:
    return _each(value, path, _text)


def _each(value: object, path: str, read: Callable[[object, str], T]) -> list[T]:
    if not isinstance(value, list):
        raise bad_field(path, "write a list")
    return [read(one, f"{path}[{n}]") for n, one in enumerate(cast("Sequence[object]", value))]


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_field(path, "write an object")
    return cast("dict[str, Any]", value)
