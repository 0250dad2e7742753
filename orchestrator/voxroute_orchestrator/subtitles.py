"""Subtitle files: SRT, WebVTT, ASS, TTML and JSON out, and the files of other makers in.

pysubs2 (1.8) takes `{...}` and `<...>` out of texts, whatever they are. So SRT, WebVTT and TTML are
written here, ASS with pysubs2 from texts that are escaped here, and files are read with its parsers
but cleaned here.
"""

import html
import json
import re
import xml.etree.ElementTree as ET  # for writing; files are read by pysubs2
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from voxroute_orchestrator.cues import Cue
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.linebreaks import flat

CUES_SCHEMA = "voxroute.cues/1"
GENERATOR = "Written by voxroute"
"""Stands in files of the formats that have a place for it; how one of ours is known."""

_TAGS = re.compile(
    r"</?(?:b|i|u|s|font|c|v|lang|ruby|rt)(?:[.\s][^<>]*)?>|<\d{2}:[\d:.]+>", re.IGNORECASE
)
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?\s+([^<>]+)>", re.IGNORECASE)
_OVERRIDES = re.compile(r"\{\\[^{}]*\}")  # {\an8}: positions and styles, in SRT as well
_ASS_BLOCKS = re.compile(r"(?<!\\)\{[^{}]*\}")
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9]")  # vectors, not text
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


def to_srt(cues: Iterable[Cue]) -> str:
    """The cues as SubRip.

    The format has no escaping. An empty line would end the cue and "-->" could be taken for a
    time, so the one is left out and the other written "->".
    """
    return "".join(
        f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n"
        f"{_lines(cue.text).replace('-->', '->')}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(cues: Iterable[Cue]) -> str:
    """The cues as WebVTT; a speaker is a voice tag."""
    blocks = (
        f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{_voice(cue)}\n\n"
        for cue in cues
    )
    return "WEBVTT\n\n" + "".join(blocks)


def _voice(cue: Cue) -> str:
    text = html.escape(_lines(cue.text), quote=False)
    speaker = html.escape(flat(cue.speaker), quote=False)
    return f"<v {speaker}>{text}</v>" if speaker else text


def to_ass(cues: Iterable[Cue], language: str = "") -> str:
    """The cues as Advanced SubStation Alpha, times in hundredths of a second; a speaker is a name.

    Braces and backslashes of the text are escaped as FFmpeg does it and libass understands it.
    """
    import pysubs2  # noqa: PLC0415 - most commands write other formats, and read none

    subtitles = pysubs2.SSAFile()
    subtitles.info.update(
        {"WrapStyle": "0", "ScaledBorderAndShadow": "yes", "PlayResX": "1920", "PlayResY": "1080"}
    )
    if language:
        subtitles.info["Language"] = language
    subtitles.styles["Default"] = pysubs2.SSAStyle(
        fontname="Arial", fontsize=60, outline=3, shadow=1, marginl=60, marginr=60, marginv=54
    )
    for cue in cues:
        subtitles.append(
            pysubs2.SSAEvent(
                start=cue.start_ms,
                end=cue.end_ms,
                text=_ass_text(_lines(cue.text)),
                name=flat(cue.speaker).replace(",", ";"),  # a comma ends the field
            )
        )
    return subtitles.to_string("ass", header_notice=GENERATOR)


def _ass_text(text: str) -> str:
    text = text.replace("\\", f"\\{_WORD_JOINER}").replace("{", "\\{").replace("}", "\\}")
    return text.replace("\n", "\\N")


def to_ttml(cues: Iterable[Cue], language: str = "") -> str:
    """The cues as TTML in the manner of the IMSC1 text profile; a speaker is an agent.

    Control characters, which XML cannot hold, are left out.
    """
    known = list(cues)
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
    agents = _ttml_head(ET.SubElement(root, f"{{{_TTML}}}head"), known)
    body = ET.SubElement(root, f"{{{_TTML}}}body", {"region": "bottom", "style": "plain"})
    division = ET.SubElement(body, f"{{{_TTML}}}div")
    for number, cue in enumerate(known, start=1):
        attributes = {
            f"{{{_XML}}}id": f"cue{number}",
            "begin": _time(cue.start_ms, "."),
            "end": _time(cue.end_ms, "."),
        }
        if flat(cue.speaker):
            attributes[f"{{{_TTML_METADATA}}}agent"] = agents[flat(cue.speaker)]
        paragraph = ET.SubElement(division, f"{{{_TTML}}}p", attributes)
        first, *others = _NOT_XML.sub("", _lines(cue.text)).split("\n")
        paragraph.text = first
        for line in others:
            ET.SubElement(paragraph, f"{{{_TTML}}}br").tail = line
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {GENERATOR} -->\n{text}\n'


def _ttml_head(head: ET.Element, cues: Iterable[Cue]) -> dict[str, str]:
    """Fills the head; the id of the agent of each speaker."""
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
            f"{{{_TTML_STYLING}}}textAlign": "center",
        },
    )
    layout = ET.SubElement(head, f"{{{_TTML}}}layout")
    ET.SubElement(
        layout,
        f"{{{_TTML}}}region",
        {
            f"{{{_XML}}}id": "bottom",
            f"{{{_TTML_STYLING}}}origin": "10% 80%",
            f"{{{_TTML_STYLING}}}extent": "80% 15%",
            f"{{{_TTML_STYLING}}}displayAlign": "after",
            f"{{{_TTML_STYLING}}}showBackground": "whenActive",
        },
    )
    return agents


def to_json(cues: Iterable[Cue], language: str = "") -> str:
    """The cues as JSON: `schema`, `language`, and for each its times, text and speaker."""
    items = [
        {"start_ms": cue.start_ms, "end_ms": cue.end_ms, "text": cue.text}
        | ({"speaker": cue.speaker} if cue.speaker else {})
        for cue in cues
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


def read(path: Path, *, encoding: str | None = None) -> list[Cue]:
    """The cues of an SRT, WebVTT, ASS, SSA, SUB or TTML file, or of our JSON, in its order.

    Styles go; the speakers of WebVTT and ASS stay. Raises UsageError where it cannot be read.
    """
    import pysubs2  # noqa: PLC0415 - as above
    from pysubs2.exceptions import Pysubs2Error  # noqa: PLC0415 - as above

    text = _decode(path, encoding)
    if CUES_SCHEMA in text[:200]:
        return _from_json(text, path)
    try:
        # the tags stay in, so that what only looks like one is not lost
        subtitles = pysubs2.SSAFile.from_string(text, keep_html_tags=True)
    except (
        Pysubs2Error,
        ValueError,
        KeyError,
        IndexError,
        SyntaxError,
        NotImplementedError,
        RecursionError,
    ) as error:  # XML that is broken is a SyntaxError
        raise UsageError(
            f"{path} is in no subtitle format that is known ({error}); give SRT, WebVTT or ASS"
        ) from error
    known = subtitles.format or ""
    cues = [
        Cue(event.start, event.end, cleaned, _speaker(event.name, event.text, known))
        for event in subtitles
        if not event.is_comment
        # not is_drawing of pysubs2 (1.8), which takes the square of the braces that nothing closes
        and not _DRAWING.search(event.text)
        and (cleaned := _clean(event.text, known))
    ]
    if not cues:
        raise UsageError(f"{path} has no cues; is it a subtitle file?")
    return cues


def _from_json(text: str, path: Path) -> list[Cue]:
    try:
        items: list[dict[str, Any]] = json.loads(text)["cues"]
        cues = [
            Cue(int(i["start_ms"]), int(i["end_ms"]), str(i["text"]), str(i.get("speaker", "")))
            for i in items
        ]
        for cue in cues:
            (cue.text + cue.speaker).encode()  # half of a surrogate pair cannot be written again
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise UsageError(f"{path} is no whole {CUES_SCHEMA} file ({error})") from error
    if not cues:
        raise UsageError(f"{path} has no cues; is it a subtitle file?")
    return cues


def _speaker(name: str, text: str, format_name: str) -> str:
    if format_name == "vtt" and (voice := _VOICE.match(text)):
        return flat(html.unescape(voice[1]))
    return flat(name) if format_name in {"ass", "ssa"} else ""


def _decode(path: Path, encoding: str | None) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}; check the path") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    marks = (b"\xff\xfe", b"\xfe\xff")
    assumed = encoding or ("utf-16" if data.startswith(marks) else "utf-8-sig")
    try:
        return data.decode(assumed)
    except LookupError as error:
        raise UsageError(f"{assumed} is no encoding; use utf-8, cp1252, ...") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not {assumed}; name its encoding with --encoding (cp1252, utf-16, ...)"
        ) from error
    except ValueError as error:  # the encoding "undefined", or a zero byte in the name of one
        raise UsageError(f"{assumed!r} is no encoding; use utf-8, cp1252, ...") from error


def _clean(text: str, format_name: str) -> str:
    """The event's text, its lines with line feeds between, without styles."""
    blocks = _ASS_BLOCKS if format_name in {"ass", "ssa"} else _OVERRIDES
    text = blocks.sub("", text)
    text = text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    if format_name == "ass":
        text = text.replace("\\{", "{").replace("\\}", "}").replace(f"\\{_WORD_JOINER}", "\\")
    if format_name in {"srt", "vtt"}:
        text = _TAGS.sub("", text)
    if format_name == "vtt":
        text = html.unescape(text)
    return "\n".join(line for part in text.split("\n") if (line := flat(part)))
