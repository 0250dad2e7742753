"""Texts of subtitle files without their markup: what is said, by whom, where, and in italics.

Only markup that the formats know is taken out; what merely looks like it ("Wait <3") is text.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.placements import BELOW, of_keypad, of_point

WORD_JOINER = "\u2060"
"""After a backslash, it keeps the next letter from being a command, as FFmpeg does it."""

_TAG = (
    r"(?P<tag>(?i:</?(?:b|i|u|s|em|strong|font|c|v|lang|ruby|rt|span)(?:[.\s][^<>]*)?>"
    r")|<\d+:[\d:.]+>)|(?P<line><[bB][rR]\s*/?>)"
)
_BLOCK = (
    rf"(?P<block>\{{\\(?!{WORD_JOINER})[^{{}}]*\}})"  # {\an8}: positions and styles, in SRT as well
)
_ASS_BLOCK = r"(?P<block>(?<!\\)\{[^{}]*\})"
_BREAK = r"(?P<break>\\N)"
_ASS_BREAK = r"(?P<break>\\[Nn])"
_BLANK = r"(?P<blank>\\h)"
_MARKUP = re.compile(f"{_TAG}|{_BLOCK}|{_BREAK}|{_BLANK}")
_ASS_MARKUP = re.compile(f"{_ASS_BLOCK}|{_ASS_BREAK}|{_BLANK}")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31}\d{0,2});")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]+)>", re.IGNORECASE)
_ITALIC = re.compile(r"<(?P<end>/?)(?:i|em)(?:[.\s][^<>]*)?>", re.IGNORECASE)
_COMMAND = re.compile(r"\\(?:i(?P<italic>[01])?(?![a-zA-Z])|(?P<reset>r)|an?(?P<place>\d{1,2}))")
_POINT = re.compile(r"\\(?:pos|move)\(\s*(-?[\d.]{1,12})\s*,\s*(-?[\d.]{1,12})")
_DRAWING = re.compile(r"\\p[1-9]")  # vectors, not text
LEGACY_PLACES = {1: 1, 2: 2, 3: 3, 5: 7, 6: 8, 7: 9, 9: 4, 10: 5, 11: 6}
"""The places of SSA's `\\a` on a keypad."""


@dataclass(slots=True)
class Said:
    """What one voice says in a cue; `italic` where all of it is."""

    text: str = ""
    speaker: str = ""
    position: str = BELOW
    italic: bool = False


@dataclass(frozen=True, slots=True)
class AssStyle:
    """What counts here of a style of ASS; `keypad` is its place."""

    italic: bool = False
    keypad: int = 2


_PLAIN = AssStyle()


@dataclass(slots=True)
class _Reader:
    """Gathers text, where it stands, and whether letters of it are in italics and others not."""

    style: AssStyle = _PLAIN
    said: list[Said] = field(default_factory=lambda: [Said()])
    depth: int = 0
    """How many tags of italics are open."""
    leaning: bool = False
    upright: bool = False
    place: int | None = None
    point: tuple[float, float] | None = None
    drawing: bool = False
    drawn: bool = False

    def add(self, kind: str, token: str) -> None:
        """Adds letters, or what stands for them."""
        if self.drawing:
            self.drawn = True
            return
        letters = {"break": "\n", "line": "\n", "blank": " "}.get(kind, token)
        self.said[-1].text += letters.replace(f"\\{WORD_JOINER}", "\\").replace("\0", "")
        if any(map(str.isalnum, letters)):
            self.leaning = self.leaning or self.depth > 0
            self.upright = self.upright or self.depth == 0

    def voice(self, speaker: str) -> None:
        """What follows is said by another."""
        if self.said[-1].text.strip() and self.said[-1].speaker != speaker:
            self.said.append(Said())
        self.said[-1].speaker = speaker

    def tag(self, tag: str, *, voices: bool) -> None:
        """Takes account of a tag of SubRip or WebVTT."""
        italic = _ITALIC.fullmatch(tag)
        voice = _VOICE.fullmatch(tag)
        if italic:
            self.depth = max(0, self.depth + (-1 if italic["end"] else 1))
        elif voices and voice:
            self.voice(flat(html.unescape(voice[1])))

    def block(self, block: str) -> None:
        """Takes account of a block of commands of ASS."""
        if "\\p" in block:
            ends = "\\p0" in block
            self.drawing = _DRAWING.search(block) is not None or (self.drawing and not ends)
        point = _POINT.search(block)
        if point is not None and self.point is None:
            self.point = _numbers(point)
        for command in _COMMAND.finditer(block):
            if command["place"]:
                number = int(command["place"])
                number = number if command[0].startswith("\\an") else LEGACY_PLACES.get(number, 0)
                self.place = number if 1 <= number <= 9 else self.place  # noqa: PLR2004 - a keypad
            elif command["reset"] or command["italic"] is None:
                self.depth = int(self.style.italic)
            else:
                self.depth = int(command["italic"])

    def position(self, picture: tuple[float, float] | None) -> str:
        """Where the text stands, on a picture of that size."""
        place = self.place or self.style.keypad
        if self.point is None or picture is None:
            return of_keypad(place)
        (x, y), (width, height) = self.point, picture
        return of_point(place, 100 * x / width, 100 * y / height)

    def found(self, picture: tuple[float, float] | None = None) -> list[Said]:
        """What was said, by each voice."""
        for said in self.said:
            said.text = clean_lines(said.text)
            said.italic = self.leaning and not self.upright
            said.position = self.position(picture)
        return [said for said in self.said if said.text]


def clean_lines(text: str) -> str:
    """The lines of a text that are not empty, without blanks around them."""
    return "\n".join(line for part in text.split("\n") if (line := flat(part)))


def _tokens(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    """What kind of markup, or "text", and its letters."""
    at = 0
    for match in pattern.finditer(text):
        if match.start() > at:
            yield "text", text[at : match.start()]
        yield match.lastgroup or "", match[0]
        at = match.end()
    if at < len(text):
        yield "text", text[at:]


def tagged(text: str, *, webvtt: bool) -> list[Said]:
    """What is said in a text of SubRip or WebVTT, a part for each voice.

    WebVTT escapes by entities and has voices; in SubRip an entity counts with its semicolon only.
    """
    reader = _Reader()
    for kind, token in _tokens(_MARKUP, text):
        if kind == "tag":
            reader.tag(token, voices=webvtt)
        elif kind == "block":
            reader.block(token)
        elif kind == "text":
            decoded = html.unescape(token) if webvtt else _ENTITY.sub(_character, token)
            reader.add(kind, decoded)
        else:
            reader.add(kind, token)
    return reader.found()


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity[0])


def overridden(
    text: str, style: AssStyle = _PLAIN, picture: tuple[float, float] | None = None
) -> Said | None:
    """What is said in a text of ASS, "" where nothing is; None for a drawing.

    `picture` is the size that points are told in, PlayResX and PlayResY.
    """
    reader = _Reader(style, depth=int(style.italic))
    for kind, token in _tokens(_ASS_MARKUP, text):
        if kind == "block":
            reader.block(token)
        elif kind == "text":
            reader.add(kind, token.replace("\\{", "{").replace("\\}", "}"))
        else:
            reader.add(kind, token)
    found = reader.found(picture)
    if found:
        return found[0]
    return None if reader.drawn else Said(position=reader.position(picture))


def _numbers(point: re.Match[str]) -> tuple[float, float] | None:
    try:
        return float(point[1]), float(point[2])
    except ValueError:  # "1.2.3"
        return None
