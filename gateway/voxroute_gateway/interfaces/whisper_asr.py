"""The interface of whisper-asr-webservice, as Bazarr's whisper provider uses it.

Bazarr takes whatever comes for the subtitle, and bans a server for a day whose connection breaks:
so requests wait here for as long as their client does, and errors are texts that no reader takes
for a subtitle.
"""

from typing import Any

from aiohttp import web

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.answers import (
    JSON,
    TEXT,
    Answer,
    as_json,
    cues_of,
    headers_of,
    patient,
    response,
    segment_of,
    subtitles,
    warnings,
    words_of,
)
from voxroute_gateway.description import (
    BINARY,
    BOOLEAN,
    NUMBER,
    SERVICES,
    STRING,
    Operation,
    one_of,
    whole,
)
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.languages import name_of, tag_of
from voxroute_gateway.recognition import Call, languages_of
from voxroute_gateway.translating import translation_of
from voxroute_gateway.uploads import SpooledAudio, is_true

_PART = "audio_file"
_OUTPUTS = ("txt", "vtt", "srt", "tsv", "json")
_NO_SPEECH = 422


_FORM = {"multipart/form-data": whole(audio_file=BINARY)}


class WhisperAsr:
    """Its routes; all options are in the query string."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [
            web.post("/asr", self.asr),
            web.post("/detect-language", self.detect),
            web.get("/status", self.status),
        ]

    @Operation({200: {JSON: whole(version=STRING)}})
    async def status(self, request: web.Request) -> web.Response:
        """The version, which Bazarr's test of the address asks for."""
        del request
        return response(as_json({"version": self._gateway.version}))

    @Operation(
        {200: {TEXT: STRING}},
        (404, *SERVICES),
        query={
            "task": one_of("transcribe", "translate"),
            "language": STRING,
            "output": one_of(*_OUTPUTS),
            "encode": BOOLEAN,
            "initial_prompt": STRING,
            "word_timestamps": BOOLEAN,
        },
        body=_FORM,
    )
    async def asr(self, request: web.Request) -> web.StreamResponse:
        """A transcript, or a translation to English, in the form of `output`."""
        output = request.query.get("output", "txt")
        if output not in _OUTPUTS:
            raise bad_field("output", f"write one of {', '.join(_OUTPUTS)}")
        task = request.query.get("task", "transcribe")
        if task not in {"transcribe", "translate"}:
            raise bad_field("task", "write transcribe or translate")
        async with self._hearing(request) as (_, call):
            heard = self._heard(call, output, translate=task == "translate")
            return await patient(request, heard, content_type=TEXT, form=output)

    def _hearing(self, request: web.Request) -> Any:
        asked = asr_pb2.TranscribeConfig(
            language=tag_of(request.query.get("language", "")),
            word_timestamps=is_true(request.query.get("word_timestamps", "")),
        )
        prompt = request.query.get("initial_prompt", "").strip()
        if prompt:
            asked.decoding.initial_prompt = prompt
        return self._gateway.hearing(request, _PART, lambda _: asked, samples=_samples(request))

    async def _heard(self, call: Call, output: str, *, translate: bool) -> Answer:
        heard = await call.finish()
        translation = (
            await translation_of(self._gateway.upstream, heard.segments, "en")
            if translate
            else None
        )
        texts = {item.segment_id: item.text for item in translation.items} if translation else {}
        said = [(one, texts.get(one.id, one.text)) for one in heard.segments]
        match output:
            case "srt" | "vtt":
                cues = cues_of(heard, translation, self._gateway.rules)
                language = "en" if translate else heard.language
                text = subtitles(output, cues, language).body
            case "json":
                content: dict[str, Any] = {
                    "language": heard.language,
                    "text": " ".join(text for _, text in said),
                    "segments": [
                        {**segment_of(one, text), "words": words_of([one])} for one, text in said
                    ],
                    "warnings": warnings(heard),
                }
                text = as_json(content).body
            case "tsv":
                rows = (
                    f"{round(one.start_s * 1000)}\t{round(one.end_s * 1000)}\t{_flat(text)}\n"
                    for one, text in said
                )
                text = "start\tend\ttext\n" + "".join(rows)
            case _:
                text = "".join(f"{_flat(one)}\n" for _, one in said)
        return Answer(text, TEXT, headers_of(heard))

    @Operation(
        {200: {JSON: whole(detected_language=STRING, language_code=STRING, confidence=NUMBER)}},
        (404, *SERVICES),
        query={"encode": BOOLEAN},
        body=_FORM,
    )
    async def detect(self, request: web.Request) -> web.StreamResponse:
        """The language that is spoken. Raises RequestError where nobody speaks."""
        async with self._gateway.received(request, _PART, samples=_samples(request)) as audio:
            return await patient(request, self._detected(audio), content_type=JSON)

    async def _detected(self, audio: SpooledAudio) -> Answer:
        languages = await languages_of(self._gateway.upstream, audio)
        if not languages:
            raise RequestError(_NO_SPEECH, "there is no speech in it", "no_speech")
        likely = languages[0]
        content = {
            "detected_language": name_of(likely.language),
            "language_code": likely.language,
            "confidence": likely.probability,
        }
        return as_json(content)


def _samples(request: web.Request) -> bool:
    """Whether the part is samples, rather than a media file."""
    return not is_true(request.query.get("encode", "true"))


def _flat(text: str) -> str:
    return " ".join(text.split())
