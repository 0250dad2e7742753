"""The interface of LibreTranslate, and that of Lingarr, which Bazarr translates subtitles with."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiohttp import web

from voxroute_gateway.answers import JSON, as_json, response
from voxroute_gateway.description import (
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
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.interfaces.lines import CueText, Paragraphs
from voxroute_gateway.interfaces.markup import Html
from voxroute_gateway.interfaces.text_language import detect
from voxroute_gateway.languages import tag_of, title_of
from voxroute_gateway.translating import pairs, translated
from voxroute_gateway.uploads import json_object, small_form

_MAX_TEXTS = 5000
_FAILED = "FAILED"
_Page = Html | Paragraphs | CueText

_Q: Schema = {"oneOf": [STRING, {**array(STRING), "minItems": 1, "maxItems": _MAX_TEXTS}]}
_ASKED: Schema = {"source": STRING, "target": STRING, "format": one_of("text", "html")}
_FORM = "application/x-www-form-urlencoded"
_LANGUAGE = whole(code=STRING, name=STRING, targets=array(STRING))
_LINE = whole(position=INTEGER, line=STRING)


class Translations:
    """The routes of both."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [
            web.post("/translate", self.translate),
            web.get("/translate", self.translate),
            web.get("/languages", self.languages),
            web.post("/detect", self.detect),
            web.get("/frontend/settings", self.frontend_settings),
            web.post("/api/translate/content", self.content),
        ]

    @Operation(
        {200: {JSON: fields(("translatedText",), translatedText=_Q)}},
        (404, *SERVICES),
        query={"q": array(STRING), **_ASKED},
        body={kind: fields(q=_Q, **_ASKED) for kind in (JSON, _FORM)},
        body_required=False,
    )
    async def translate(self, request: web.Request) -> web.Response:
        """`q`, a text or several, from `source` to `target`; `format` is text or html."""
        asked = await _asked(request)
        texts, several = _texts(asked)
        target = _target(asked, "target")
        kind = _text(asked, "format") or "text"
        if kind not in {"text", "html"}:
            raise bad_field("format", "write text or html")
        source = tag_of(_text(asked, "source"), "source")
        found: dict[str, Any] = {}
        if not source:
            source, confidence = detect(" ".join(texts), await self._sources())
            detected = {"confidence": confidence, "language": source}
            found["detectedLanguage"] = [detected] * len(texts) if several else detected
        pages = [self._page(text, kind) for text in texts]
        results = await self._pages(pages, source, target, in_order=False)
        return response(as_json({"translatedText": results if several else results[0], **found}))

    def _page(self, text: str, kind: str) -> _Page:
        if kind == "html":
            return Html(text)
        # what Subtitle Edit writes for the line feed of a cue
        feed = "<br />"
        return CueText(text, self._gateway.rules, feed) if feed in text else Paragraphs(text)

    async def _pages(
        self, pages: Sequence[_Page], source: str, target: str, *, in_order: bool
    ) -> list[str]:
        spoken = [text for page in pages for text in page.texts]
        results = iter(await self._translated(spoken, source, target, in_order=in_order))
        return [page.with_texts([next(results) for _ in page.texts]) for page in pages]

    async def _translated(
        self, texts: list[str], source: str, target: str, *, in_order: bool
    ) -> list[str]:
        """The texts in the other language. Raises RequestError where one has failed."""
        results = await translated(self._gateway.upstream, texts, source, target, in_order=in_order)
        for number, result in enumerate(results, 1):
            if result.status == _FAILED:
                raise RequestError(
                    422, f"text {number} cannot be translated: {result.detail}", "failed", "q"
                )
        return [result.text for result in results]

    async def _sources(self) -> list[str]:
        found = await pairs(self._gateway.upstream)
        return list(dict.fromkeys(source for source, _ in found))

    @Operation({200: {JSON: array(_LANGUAGE)}}, SERVICES)
    async def languages(self, request: web.Request) -> web.Response:
        """What can be translated to what."""
        del request
        targets: dict[str, list[str]] = {}
        for source, target in await pairs(self._gateway.upstream):
            targets.setdefault(source, []).append(target)
        found = [
            {"code": source, "name": title_of(source), "targets": sorted(into)}
            for source, into in sorted(targets.items())
        ]
        return response(as_json(found))

    @Operation(
        {200: {JSON: array(whole(confidence=NUMBER, language=STRING))}},
        SERVICES,
        query={"q": array(STRING)},
        body={kind: fields(q=_Q) for kind in (JSON, _FORM)},
        body_required=False,
    )
    async def detect(self, request: web.Request) -> web.Response:
        """Which language a text is in."""
        texts, _ = _texts(await _asked(request))
        language, confidence = detect(" ".join(texts), await self._sources())
        return response(as_json([{"confidence": confidence, "language": language}]))

    @Operation({200: {JSON: {"type": "object"}}})
    async def frontend_settings(self, request: web.Request) -> web.Response:
        """What clients look up before they begin."""
        del request
        language = {"source": {"code": "auto"}, "target": {"code": "en"}}
        content: dict[str, Any] = {
            "apiKeys": self._gateway.settings.client_tokens is not None,
            "charLimit": -1,
            "keyRequired": self._gateway.settings.client_tokens is not None,
            "language": language,
            "suggestions": False,
            "supportedFilesFormat": [],
        }
        return response(as_json(content))

    @Operation(
        {200: {JSON: array(_LINE)}},
        (404, *SERVICES),
        body={
            JSON: fields(
                ("targetLanguage", "lines"),
                sourceLanguage=STRING,
                targetLanguage=STRING,
                lines=array(_LINE),
            )
        },
    )
    async def content(self, request: web.Request) -> web.Response:
        """Lingarr's: the lines of a film, each with those before it as its context."""
        asked = await json_object(request)
        lines = _lines(asked)
        source = tag_of(_text(asked, "sourceLanguage"), "sourceLanguage")
        target = _target(asked, "targetLanguage")
        ordered = sorted(lines, key=lambda line: line[0])
        texts = [text for _, text in ordered]
        if not source:
            source, _ = detect(" ".join(texts), await self._sources())
        pages = [CueText(text, self._gateway.rules) for text in texts]
        results = await self._pages(pages, source, target, in_order=True)
        found = [
            {"position": position, "line": text}
            for (position, _), text in zip(ordered, results, strict=True)
        ]
        return response(as_json(found))


async def _asked(request: web.Request) -> dict[str, Any]:
    """What is asked, by a form, by JSON or by the query string; lists of `q` as lists."""
    if request.content_type == "application/json" and request.can_read_body:
        return {**request.query, **await json_object(request)}
    fields = await small_form(request) if request.method == "POST" else dict[str, Any]()
    found: dict[str, Any] = {**request.query, **fields}
    several = [*request.query.getall("q", []), *_all(fields, "q")]
    if len(several) > 1:
        found["q"] = several
    return found


def _all(fields: Mapping[str, Any], name: str) -> list[Any]:
    getall: Any = getattr(fields, "getall", None)
    return list(getall(name, [])) if getall is not None else []


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise bad_field(name, "write a text")
    return value.strip()


def _target(asked: Mapping[str, Any], name: str) -> str:
    target = tag_of(_text(asked, name), name)
    if not target:
        raise bad_field(name, "name the language that is wanted")
    return target


def _texts(asked: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The texts, and whether they came as a list. Raises RequestError."""
    value = asked.get("q")
    several = isinstance(value, list)
    texts = cast("list[object]", value) if several else [value]
    if not texts or len(texts) > _MAX_TEXTS or not all(isinstance(text, str) for text in texts):
        raise bad_field("q", f"send a text, or a list of up to {_MAX_TEXTS}")
    return cast("list[str]", texts), several


def _lines(asked: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Position and text of each line. Raises RequestError."""
    lines = asked.get("lines")
    if not isinstance(lines, list):
        raise bad_field("lines", "send a list of {position, line}")
    found: list[tuple[int, str]] = []
    for line in cast("list[object]", lines):
        one = cast("dict[str, object]", line) if isinstance(line, dict) else {}
        position, text = one.get("position"), one.get("line")
        if not isinstance(position, int) or not isinstance(text, str):
            raise bad_field("lines", "each is {position: a whole number, line: a text}")
        found.append((position, text))
    return found
