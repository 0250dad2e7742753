"""Subtitle files: SRT, WebVTT, ASS, TTML and JSON out, and the files of other makers in.

What is written is in the order of beginnings, and each cue ends after it begins: WebVTT and many
players demand it. No library writes texts as they are: pysubs2 (1.8) takes `{...}` and `<...>` out
of them, whatever they are, and ends ASS at ten hours.
"""

import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.placements import BELOW, box, keypad, point
from voxroute_orchestrator.subtitles.turns import turns_of

CUES_SCHEMA = "voxroute.cues/1"
GENERATOR = "Written by voxroute"
"""Stands in files of the formats that have a place for it; how one of ours is known."""

VTT_HEAD = "WEBVTT\n\n"
"""Begins a file of the format."""

_LIKE_MARKUP = re.compile(r"<(?=/?[a-zA-Z]|\d+:|br)|&(?=#?\w{1,31};)", re.IGNORECASE)
"""What a reader of SubRip may take for a tag or an entity."""
_LIKE_TIMES = re.compile(
    r"^(?=[^\S\n]*(?:-?\s?\d{1,9}\s?[:;][^\n]*(?:[-\u2013\u2014]\s?>|\u2192)"
    r"|\d{1,3}:\d\d:\d\d[.,]\d{3}[^\S\n]*-{0,2}[^\S\n]*$))",
    re.MULTILINE,
)
_LIKE_COMMAND = re.compile(r"\\(?=[Nh\u2060])|(?<=\{)\\")
_WORD_JOINER = (
    "\u2060"  # as FFmpeg: after a backslash, it keeps the next letter from being a command
)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TTML = "http://www.w3.org/ns/ttml"
_TTML_METADATA = f"{_TTML}#metadata"
_TTML_PARAMETER = f"{_TTML}#parameter"
_TTML_STYLING = f"{_TTML}#styling"
_XML = "http://www.w3.org/XML/1998/namespace"
_IMSC1_TEXT = "http://www.w3.org/ns/ttml/profile/imsc1/text"


def _in_order(cues: Iterable[Cue]) -> list[Cue]:
    """The cues in the order of their beginnings, none of which ends before it begins."""
    return sorted(
        (replace(cue, end_ms=max(cue.end_ms, cue.start_ms + 1)) for cue in cues),
        key=lambda cue: cue.start_ms,
    )


def _voices(cues: Iterable[Cue]) -> Iterator[list[Cue]]:
    """The cues in order; those of several speakers at the same time and place are one group."""
    group: list[Cue] = []
    for cue in _in_order(cues):
        same = group and (cue.start_ms, cue.end_ms, cue.position) == (
            group[-1].start_ms, group[-1].end_ms, group[-1].position,
        )  # fmt: skip
        if same and cue.speaker and group[-1].speaker not in {"", cue.speaker}:
            group.append(cue)
            continue
        if group:
            yield group
        group = [cue]
    if group:
        yield group


def to_srt(cues: Iterable[Cue], *, first: int = 1) -> str:
    """The cues as SubRip; one that does not stand below has the override that players know.

    They are counted from `first`.

    The format has no escaping. An empty line would end the cue and "-->" could be taken for a
    time, so the one is left out and the other written "->"; a line that looks like times all the
    same begins with a word joiner, which nobody sees. What only looks like a tag is written with
    entities. What several say at the same time is one cue, a turn with a dash for each.
    """
    blocks: list[str] = []
    for number, group in enumerate(_voices(cues), start=first):
        cue = group[0]
        if len(group) > 1:
            turns = "\n".join(one.text if _marked(one) else f"- {one.text}" for one in group)
            cue = replace(cue, text=turns, italic=all(one.italic for one in group))
        blocks.append(
            f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n"
            f"{_srt_text(cue)}\n\n"
        )
    return "".join(blocks)


def _marked(cue: Cue) -> bool:
    return any(turn.mark for turn in turns_of(cue.text))


def _srt_text(cue: Cue) -> str:
    text = _without_commands(_lines(cue.text)).replace("-->", "->")
    text = _LIKE_TIMES.sub(_WORD_JOINER, text)
    text = _LIKE_MARKUP.sub(lambda found: html.escape(found[0]), text)
    text = f"<i>{text}</i>" if cue.italic else text
    place = keypad(cue.position)
    return text if place == 2 else f"{{\\an{place}}}{text}"  # noqa: PLR2004 - below, in the middle


def _without_commands(text: str) -> str:
    """The text, its backslashes so that none begins a command of a line break or a position."""
    return _LIKE_COMMAND.sub(rf"\\{_WORD_JOINER}", text)


def to_vtt(cues: Iterable[Cue], *, head: str = VTT_HEAD) -> str:
    """The cues as WebVTT; a speaker is a voice tag, several at the same time are one cue."""
    blocks = (
        f"{_time(group[0].start_ms, '.')} --> {_time(group[0].end_ms, '.')}"
        f"{' ' if group[0].position else ''}{group[0].position}\n"
        + "\n".join(map(_voice, group))
        + "\n\n"
        for group in _voices(cues)
    )
    return head + "".join(blocks)


def _voice(cue: Cue) -> str:
    text = html.escape(_without_commands(_lines(cue.text)), quote=False)
    text = f"<i>{text}</i>" if cue.italic else text
    speaker = html.escape(flat(cue.speaker), quote=False)
    return f"<v {speaker}>{text}</v>" if speaker else text


_ASS_SIZE = (1920, 1080)  # pixels that points are told in
_ASS_HEAD = f"""\
[Script Info]
; {GENERATOR}
ScriptType: v4.00+
WrapStyle: 0
ScaledBorderAndShadow: yes
PlayResX: {_ASS_SIZE[0]}
PlayResY: {_ASS_SIZE[1]}
"""
_ASS_STYLES = """
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, \
Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,60,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,3,1,2,\
60,60,54,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def to_ass(cues: Iterable[Cue], language: str = "") -> str:
    """The cues as Advanced SubStation Alpha, times in hundredths of a second; a speaker is a name.

    Braces and backslashes of the text are escaped as FFmpeg does it and libass understands it.
    """
    events = (
        f"Dialogue: 0,{_ass_time(cue.start_ms)},"
        f"{_ass_time(max(cue.end_ms, cue.start_ms + 10))},Default,"
        # a comma ends the field
        f"{flat(cue.speaker).replace(',', ';')},0,0,0,,{_ass_text(cue)}\n"
        for cue in _in_order(cues)
    )
    told = f"Language: {language}\n" if language else ""
    return _ASS_HEAD + told + _ASS_STYLES + "".join(events)


def _ass_time(ms: int) -> str:
    seconds, hundredths = divmod((ms + 5) // 10, 100)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{hundredths:02}"


def _ass_text(cue: Cue) -> str:
    text = _lines(cue.text).replace("\\", f"\\{_WORD_JOINER}")
    text = text.replace("{", "\\{").replace("}", "\\}").replace("\n", "\\N")
    place, at = keypad(cue.position), point(cue.position)
    overrides = "" if place == 2 else f"\\an{place}"  # noqa: PLR2004 - below, in the middle
    if at is not None:
        place, x, y = at
        width, height = _ASS_SIZE
        overrides = f"\\an{place}\\pos({x * width / 100:.6g},{y * height / 100:.6g})"
    overrides += "\\i1" if cue.italic else ""
    return f"{{{overrides}}}{text}" if overrides else text


def to_ttml(cues: Iterable[Cue], language: str = "") -> str:
    """The cues as TTML in the manner of the IMSC1 text profile; a speaker is an agent.

    Control characters, which XML cannot hold, are left out.
    """
    known = _in_order(cues)
    for prefix, name in (
        ("", _TTML),
        ("ttm", _TTML_METADATA),
        ("ttp", _TTML_PARAMETER),
        ("tts", _TTML_STYLING),
    ):
        ET.register_namespace(prefix, name)
    root = ET.Element(
        f"{{{_TTML}}}tt",
        {
            f"{{{_XML}}}lang": language,
            f"{{{_TTML_PARAMETER}}}profile": _IMSC1_TEXT,
            f"{{{_TTML_PARAMETER}}}timeBase": "media",
        },
    )
    agents, regions = _ttml_head(ET.SubElement(root, f"{{{_TTML}}}head"), known)
    # a region of the body would hide the paragraphs that have another
    several = len(regions) > 1
    body = ET.SubElement(root, f"{{{_TTML}}}body", {"style": "plain"})
    if not several:
        body.set("region", regions[BELOW])
    division = ET.SubElement(body, f"{{{_TTML}}}div")
    for number, cue in enumerate(known, start=1):
        attributes = {
            f"{{{_XML}}}id": f"cue{number}",
            "begin": _time(cue.start_ms, "."),
            "end": _time(cue.end_ms, "."),
        }
        if several:
            attributes["region"] = regions[cue.position]
        if cue.italic:
            attributes[f"{{{_TTML_STYLING}}}fontStyle"] = "italic"
        if flat(cue.speaker):
            attributes[f"{{{_TTML_METADATA}}}agent"] = agents[flat(cue.speaker)]
        paragraph = ET.SubElement(division, f"{{{_TTML}}}p", attributes)
        first, *others = _NOT_XML.sub("", _lines(cue.text)).split("\n")
        paragraph.text = first
        for line in others:
            ET.SubElement(paragraph, f"{{{_TTML}}}br").tail = line
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {GENERATOR} -->\n{text}\n'


def _ttml_head(head: ET.Element, cues: Iterable[Cue]) -> tuple[dict[str, str], dict[str, str]]:
    """Fills the head; the ids of the agent of each speaker, and of the region of each position."""
    speakers = dict.fromkeys(name for cue in cues if (name := flat(cue.speaker)))
    agents = {speaker: f"speaker{number}" for number, speaker in enumerate(speakers, start=1)}
    if agents:
        metadata = ET.SubElement(head, f"{{{_TTML}}}metadata")
        for speaker, agent_id in agents.items():
            agent = ET.SubElement(
                metadata,
                f"{{{_TTML_METADATA}}}agent",
                {f"{{{_XML}}}id": agent_id, "type": "person"},
            )
            name = ET.SubElement(agent, f"{{{_TTML_METADATA}}}name", {"type": "full"})
            name.text = _NOT_XML.sub("", speaker)
    styling = ET.SubElement(head, f"{{{_TTML}}}styling")
    ET.SubElement(
        styling,
        f"{{{_TTML}}}style",
        {
            f"{{{_XML}}}id": "plain",
            f"{{{_TTML_STYLING}}}color": "white",
            f"{{{_TTML_STYLING}}}fontFamily": "proportionalSansSerif",
            f"{{{_TTML_STYLING}}}fontSize": "100%",
        },
    )
    layout = ET.SubElement(head, f"{{{_TTML}}}layout")
    positions = dict.fromkeys([BELOW, *(cue.position for cue in cues)])
    regions = {
        position: f"region{number}" if number else "bottom"
        for number, position in enumerate(positions)
    }
    for position, name in regions.items():
        place = box(position)
        ET.SubElement(
            layout,
            f"{{{_TTML}}}region",
            {
                f"{{{_XML}}}id": name,
                f"{{{_TTML_STYLING}}}origin": f"{place.x:.6g}% {place.y:.6g}%",
                f"{{{_TTML_STYLING}}}extent": f"{place.width:.6g}% {place.height:.6g}%",
                f"{{{_TTML_STYLING}}}displayAlign": place.display_align,
                f"{{{_TTML_STYLING}}}textAlign": place.text_align,
                f"{{{_TTML_STYLING}}}showBackground": "whenActive",
            },
        )
    return agents, regions


def to_json(cues: Iterable[Cue], language: str = "") -> str:
    """The cues as JSON: `schema`, `language`, and of each cue its times, its text and the rest."""
    items = [
        {"start_ms": cue.start_ms, "end_ms": cue.end_ms, "text": cue.text}
        | ({"speaker": cue.speaker} if cue.speaker else {})
        | ({"position": cue.position} if cue.position else {})
        | ({"italic": True} if cue.italic else {})
        for cue in _in_order(cues)
    ]
    content = {
        "schema": CUES_SCHEMA,
        "generator": GENERATOR,
        "language": language,
        "cues": items,
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _only_cues(write: Callable[[Iterable[Cue]], str]) -> Callable[[Iterable[Cue], str], str]:
    return lambda cues, language: write(cues)  # noqa: ARG005 - the format has no place for it


FORMATS: Mapping[str, Callable[[Iterable[Cue], str], str]] = {
    "srt": _only_cues(to_srt),
    "vtt": _only_cues(to_vtt),
    "ass": to_ass,
    "ttml": to_ttml,
    "json": to_json,
}
"""What writes each format, given the cues and the BCP-47 tag of their language."""
DEFAULT_FORMATS = ("srt", "vtt")


def formats_of(text: str) -> tuple[str, ...]:
    """The formats that a list with commas names, each once. Raises UsageError."""
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        what = f"{', '.join(unknown)} is no format" if unknown else "no format is named"
        raise UsageError(f"{what}; --format takes {','.join(FORMATS)}")
    return names


def _lines(text: str) -> str:
    # a lone carriage return or form feed is a line break to some readers
    return "\n".join(line for part in text.splitlines() if (line := flat(part)))


def _time(ms: int, separator: str) -> str:
    seconds, milliseconds = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{separator}{milliseconds:03}"


def silence(_: str) -> None:
    """Tells nobody."""


def read(
    path: Path, *, encoding: str | None = None, tell: Callable[[str], None] = silence
) -> list[Cue]:
    """As `reading.subrip.read`, which is imported where a file is read and not before."""
    from voxroute_orchestrator.subtitles.reading import subrip  # noqa: PLC0415 - as told

    return subrip.read(path, encoding=encoding, tell=tell)
