"""OpenAI's audio API: models, transcriptions, translations."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import Any

from aiohttp import web

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.answers import (
    ENDED_WITH,
    JSON,
    TEXT,
    Answer,
    as_json,
    comments,
    cues_of,
    ended,
    headers_of,
    patient,
    response,
    segment_of,
    send_event,
    subtitles,
    type_of,
    usage,
    verbose,
    warnings,
    words_of,
)
from voxroute_gateway.description import (
    BINARY,
    BOOLEAN,
    EVENTS,
    INTEGER,
    NUMBER,
    SERVICES,
    STRING,
    Operation,
    Schema,
    array,
    fields,
    one_of,
    whole,
)
from voxroute_gateway.errors import RequestError, bad_field, of_failure
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.languages import tag_of
from voxroute_gateway.recognition import Call, Heard
from voxroute_gateway.translating import translation_of
from voxroute_gateway.uploads import Fields, first, is_true
from voxroute_orchestrator.transcript import Segment, Translation
from voxroute_serving.telemetry.logs import get_logger

_FORMS = ("json", "text", "srt", "verbose_json", "vtt")
_HOTTEST = 1.0

_log = get_logger(__name__)


_MODEL = whole(id=STRING, object=STRING, created=INTEGER, owned_by=STRING)
_ASKED: Schema = {
    "file": BINARY,
    "model": STRING,
    "language": STRING,
    "prompt": STRING,
    "response_format": one_of(*_FORMS),
    "temperature": {**NUMBER, "minimum": 0, "maximum": _HOTTEST},
    "timestamp_granularities[]": array(one_of("word", "segment")),
}
_TEXTS: Schema = {TEXT: STRING, type_of("srt"): STRING, type_of("vtt"): STRING}
_HEARD = {JSON: fields(("text",), text=STRING), **_TEXTS}


class OpenAiAudio:
    """The routes below /v1."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{id:.+}", self.model),
            web.post("/v1/audio/transcriptions", self.transcriptions),
            web.post("/v1/audio/translations", self.translations),
        ]

    @Operation({200: {JSON: whole(object=STRING, data=array(_MODEL))}}, SERVICES)
    async def models(self, request: web.Request) -> web.Response:
        """The speech models that a request can name."""
        del request
        return response(as_json({"object": "list", "data": await self._models()}))

    @Operation({200: {JSON: _MODEL}}, (404, *SERVICES))
    async def model(self, request: web.Request) -> web.Response:
        """One of them. Raises RequestError."""
        name = request.match_info["id"]
        for model in await self._models():
            if model["id"] == name:
                return response(as_json(model))
        raise RequestError(404, "there is no such model", "model_not_found", "model")

    async def _models(self) -> list[dict[str, Any]]:
        async with self._gateway.upstream.speech() as speech:
            found = await speech.capabilities()
        return [
            {"id": one.model.id, "object": "model", "created": 0, "owned_by": one.model.engine}
            for one in found.models
        ]

    @Operation(
        {200: {**_HEARD, **EVENTS}},
        (404, *SERVICES),
        body={"multipart/form-data": fields(("file",), **_ASKED, stream=BOOLEAN)},
    )
    async def transcriptions(self, request: web.Request) -> web.StreamResponse:
        """What is said."""
        async with self._gateway.hearing(request, "file", _options) as (fields, call):
            form = _form(fields)
            if is_true(first(fields, "stream")):
                return await self._stream(request, fields, call)
            return await self._patient(request, form, call, self._transcribed(fields, form, call))

    async def _transcribed(self, fields: Fields, form: str, call: Call) -> Answer:
        heard = await call.finish()
        return self._answer(fields, form, heard, None, heard.language)

    @Operation(
        {200: _HEARD},
        (404, *SERVICES),
        body={"multipart/form-data": fields(("file",), **_ASKED, to_language=STRING)},
    )
    async def translations(self, request: web.Request) -> web.StreamResponse:
        """What is said, in English or in `to_language`."""
        async with self._gateway.hearing(request, "file", _options) as (fields, call):
            form = _form(fields)
            target = tag_of(first(fields, "to_language"), "to_language") or "en"
            work = self._translated(fields, form, call, target)
            return await self._patient(request, form, call, work)

    async def _translated(self, fields: Fields, form: str, call: Call, target: str) -> Answer:
        heard = await call.finish()
        translation = await translation_of(self._gateway.upstream, heard.segments, target)
        return self._answer(fields, form, heard, translation, target)

    async def _patient(
        self, request: web.Request, form: str, call: Call, work: Awaitable[Answer]
    ) -> web.StreamResponse:
        return await patient(
            request,
            work,
            content_type=type_of(form),
            form=form,
            known=lambda: headers_of(call.heard),
        )

    def _answer(
        self,
        fields: Fields,
        form: str,
        heard: Heard,
        translation: Translation | None,
        language: str,
    ) -> Answer:
        headers = headers_of(heard)
        texts = {item.segment_id: item.text for item in translation.items} if translation else None
        match form:
            case "srt" | "vtt":
                cues = cues_of(heard, translation, self._gateway.rules)
                return Answer(subtitles(form, cues, language).body, type_of(form), headers)
            case "verbose_json":
                task = "transcribe" if translation is None else "translate"
                asked = _granularities(fields)
                words = translation is None and "word" in asked
                # the language of a translation is that which was heard, as OpenAI has it
                found = verbose(heard, task=task, words=words, texts=texts, language=heard.language)
                if words and asked == {"word"}:
                    del found["segments"]  # the AI SDK takes them where both come
                return as_json(found, headers)
            case _:
                text = " ".join(texts.values()) if texts is not None else heard.text
                if form == "text":
                    return Answer(text + "\n", TEXT, headers)
                languages = [{"code": language}] if language else []
                content = {"text": text, "languages": languages, "usage": usage(heard)}
                if heard.warnings:
                    content["warnings"] = warnings(heard)
                return as_json(content, headers)

    async def _stream(self, request: web.Request, fields: Fields, call: Call) -> web.StreamResponse:
        """Segments as they are finished, as server-sent events."""
        heartbeat_s = self._gateway.settings.heartbeat_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(heartbeat_s):
                await call.accepted()
        stream = web.StreamResponse(headers={"Cache-Control": "no-cache", **headers_of(call.heard)})
        stream.content_type, stream.charset = "text/event-stream", "utf-8"
        await stream.prepare(request)
        try:

            def progress() -> str:
                segments = call.heard.segments
                return f"progress {segments[-1].end_s if segments else 0.0:.1f}"

            async with comments(stream, progress, heartbeat_s):
                async for event in _events(call, words="word" in _granularities(fields)):
                    await send_event(stream, event)
        except Exception as error:  # noqa: BLE001 - the status is out already
            failure = of_failure(error)
            _log.error(
                "a stream was broken off",
                status=failure.status, reason=failure.message, exc_info=error,
            )  # fmt: skip
            request[ENDED_WITH] = failure.status
            await send_event(stream, failure.openai())
        else:
            await stream.write(b"data: [DONE]\n\n")
        await ended(request, stream)
        return stream


async def _events(call: Call, *, words: bool) -> AsyncGenerator[dict[str, Any]]:
    async for segments in call.segments():
        for segment in segments:
            blank = "" if segment.id == 1 else " "
            yield {"type": "transcript.text.delta", "delta": blank + segment.text}
            yield _segment_event(segment)
    heard = call.heard
    whole = verbose(heard, task="transcribe", words=words, texts=None, language=heard.language)
    yield {"type": "transcript.text.done", "words": words_of(heard.segments), **whole}


def _segment_event(segment: Segment) -> dict[str, Any]:
    """The segment flat, as OpenAI's type has it, and nested, as Subtitle Edit reads it."""
    flat = segment_of(segment)
    return {
        "type": "transcript.text.segment",
        **flat,
        "id": str(flat["id"]),
        "speaker": "",
        "segment": flat,
    }


def _form(fields: Fields) -> str:
    form = first(fields, "response_format") or "json"
    if form not in _FORMS:
        raise bad_field("response_format", f"write one of {', '.join(_FORMS)}")
    return form


def _granularities(fields: Fields) -> set[str]:
    asked = set(fields.get("timestamp_granularities", ()))
    if asked - {"word", "segment"}:
        raise bad_field("timestamp_granularities", "write word or segment")
    return asked


def _options(fields: Fields) -> asr_pb2.TranscribeConfig:
    """What the service is asked for. Raises RequestError."""
    _form(fields)
    temperature = _temperature(first(fields, "temperature"))
    decoding = asr_pb2.DecodingOptions(
        initial_prompt=first(fields, "prompt"),
        # 0 is for OpenAI what leaves it to the engine
        temperatures=[temperature] if temperature else [],
    )
    return asr_pb2.TranscribeConfig(
        model=first(fields, "model"),
        language=tag_of(first(fields, "language")),
        word_timestamps="word" in _granularities(fields),
        decoding=decoding if decoding.ListFields() else None,
    )


def _temperature(text: str) -> float:
    try:
        temperature = float(text or 0)
    except ValueError:
        temperature = -1.0
    if not 0 <= temperature <= _HOTTEST:
        raise bad_field("temperature", "write a number from 0 to 1")
    return temperature
