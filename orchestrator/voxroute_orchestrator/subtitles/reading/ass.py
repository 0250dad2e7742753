"""ASS and SSA: what is said in their events.

pysubs2 (1.8) takes the fields in its own order, whatever the file's `Format:` lines say, and gives
up a whole file for one event that it cannot read.
"""

import re
from collections.abc import Iterator

from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.markup import LEGACY_PLACES, AssStyle, overridden
from voxroute_orchestrator.subtitles.reading.cues import Found

_EVENT = [
    "layer",
    "start",
    "end",
    "style",
    "name",
    "marginl",
    "marginr",
    "marginv",
    "effect",
    "text",
]
_OLD_EVENT = ["marked", *_EVENT[1:]]
_STYLE = [
    "name",
    "fontname",
    "fontsize",
    "primarycolour",
    "secondarycolour",
    "outlinecolour",
    "backcolour",
    "bold",
    "italic",
    "underline",
    "strikeout",
    "scalex",
    "scaley",
    "spacing",
    "angle",
    "borderstyle",
    "outline",
    "shadow",
    "alignment",
]
_OLD_STYLE = [
    "name",
    "fontname",
    "fontsize",
    "primarycolour",
    "secondarycolour",
    "tertiarycolour",
    "backcolour",
    "bold",
    "italic",
    "borderstyle",
    "outline",
    "shadow",
    "alignment",
]
_TIME = re.compile(
    r"(?P<minus>-)?(?P<h>\d{1,9}):(?P<m>\d{1,3}):(?P<s>\d{1,3})(?:[.,:](?P<part>\d{1,3}))?"
)
_PICTURE = (384.0, 288.0)  # what libass assumes
_FRAME_MS = 50  # of a sign that is drawn anew for each picture
_FLASH_MS = 300


def looks_like(text: str) -> bool:
    """Whether the text is one of these files."""
    return (
        re.search(
            r"^[ \t]*\[(?:Script Info|V4\+? Styles|Events)\]", text, re.IGNORECASE | re.MULTILINE
        )
        is not None
        and re.search(r"^[ \t]*Dialogue:", text, re.IGNORECASE | re.MULTILINE) is not None
    )


def read(text: str) -> tuple[list[Found], list[str]]:
    """What the events show, and the lines that are no events though they say so.

    An event that stands in the file on several layers, or anew for each picture, is found once.
    """
    found: list[Found] = []
    wrong: list[str] = []
    old = re.search(r"^[ \t]*\[V4 Styles\]", text, re.IGNORECASE | re.MULTILINE) is not None
    styles, picture = _styles(text, old=old), _picture(text)
    fields = _OLD_EVENT if old else _EVENT
    for number, section, name, value in _entries(text):
        if section != "events":
            continue
        if name == "format":
            told = [part.strip().lower() for part in value.split(",")]
            fields = told if told[-1] == "text" and {"start", "end"} <= {*told} else fields
        elif name == "dialogue":
            event = dict(zip(fields, value.split(",", len(fields) - 1), strict=False))
            times = _ms(event.get("start", "")), _ms(event.get("end", ""))
            if "text" not in event or None in times:
                wrong.append(f"line {number}")
                continue
            style = styles.get(event.get("style", "").strip().lstrip("*"), AssStyle())
            said = overridden(event["text"], style, picture)
            if said is not None and said.text:
                speaker = flat(event.get("name", event.get("actor", "")))
                found.append(
                    Found(
                        f"line {number}", *times,
                        said.text, speaker, said.position, said.italic, shown_for_0_ms=False,
                    )
                )  # fmt: skip
    return _once(found), wrong


def _entries(text: str) -> Iterator[tuple[int, str, str, str]]:
    """The number, section, name and value of each line that has them."""
    section = ""
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip()
        # embedded fonts have lines in brackets too, but no small letters
        if stripped[:1] == "[" and stripped[-1:] == "]" and any(map(str.islower, stripped)):
            section = stripped[1:-1].strip().lower()
        elif ":" in stripped and not stripped.startswith(";"):
            name, value = stripped.split(":", 1)
            yield number, section, name.strip().lower(), value.lstrip()


def _styles(text: str, *, old: bool) -> dict[str, AssStyle]:
    styles: dict[str, AssStyle] = {}
    fields = _OLD_STYLE if old else _STYLE
    for _, section, name, value in _entries(text):
        if "styles" not in section:
            continue
        if name == "format":
            fields = [part.strip().lower() for part in value.split(",")]
        elif name == "style":
            told = dict(zip(fields, (part.strip() for part in value.split(",")), strict=False))
            place = int(told["alignment"]) if told.get("alignment", "").isdecimal() else 2
            place = LEGACY_PLACES.get(place, 2) if old else place
            italic = told.get("italic", "0") not in {"0", ""}
            styles[told.get("name", "").lstrip("*")] = AssStyle(
                italic,
                place if 1 <= place <= 9 else 2,  # noqa: PLR2004 - a keypad
            )
    return styles


def _picture(text: str) -> tuple[float, float]:
    """The size that points are told in."""
    told: dict[str, float] = {}
    for _, section, name, value in _entries(text):
        if section == "script info" and re.fullmatch(r"[1-9]\d{0,5}", value.strip()):
            told[name] = float(value)
    width, height = told.get("playresx"), told.get("playresy")
    if width is None and height is None:
        return _PICTURE
    # libass makes up the one that is missing for a picture of 4:3
    return width or (height or 0) * 4 / 3, height or (width or 0) * 3 / 4


def _ms(text: str) -> int | None:
    time = _TIME.fullmatch(text.strip())
    if time is None:
        return None
    seconds = 3600 * int(time["h"]) + 60 * int(time["m"]) + int(time["s"])
    ms = 1000 * seconds + int((time["part"] or "").ljust(3, "0"))
    return -ms if time["minus"] else ms


def _once(found: list[Found]) -> list[Found]:
    """The events, without those that draw the same again: on another layer, or a picture later."""
    kept: list[Found] = []
    last: dict[tuple[str, str], int] = {}
    for event in sorted(found, key=lambda one: one.start_ms or 0):
        key = (event.text, event.speaker)
        before = kept[last[key]] if key in last else None
        if before is not None and _same_drawing(before, event):
            kept[last[key]] = before.until(max(before.end_ms or 0, event.end_ms or 0))
            continue
        last[key] = len(kept)
        kept.append(event)
    return kept


def _same_drawing(before: Found, event: Found) -> bool:
    start, end, until = event.start_ms or 0, event.end_ms or 0, before.end_ms or 0
    if start < until:  # at the same time
        return True
    return start - until <= _FRAME_MS and end - start <= _FLASH_MS
