"""Subtitle files of any maker, read.

Which reader reads what was settled with files, those of
`tests/orchestrator/subtitles/test_subtitle_readers.py`: webvtt-py (0.6) reads WebVTT as browsers
do. Of SubRip it refuses files without numbers and drops cues before 0, and pysubs2 (1.8) drops last
lines that are numbers, so SubRip and SBV are read here; TTML, ASS and SAMI for the reasons that
stand in their modules. MicroDVD, MPL2 and TMPlayer are read with pysubs2.
"""

import contextlib
import json
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.subtitles import markup, placements
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.formats import CUES_SCHEMA
from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.placements import canonical
from voxroute_orchestrator.subtitles.reading import ass, sami, ttml
from voxroute_orchestrator.subtitles.reading.cues import Found, cues_of

_SHOWN = 40  # characters of a line that is told
_MOST_TOLD = 5  # sentences about a file; the rest is counted
_HEAD = 4000  # characters in which a file says what it is
_MICRODVD_RATE = 23.976  # frames a second, where the file does not tell: that of most films
_MICRODVD_FRAMES = 72  # of a last text whose end is not told
_ENCODED = re.compile(rb"""^\s*<\?xml[^>]{1,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")

_CODES = "Scenarist_SCC"  # the times of which look like those of TMPlayer

# as word processors make of it
_ARROW = r"(?:(?:-{1,2}|[\u2013\u2014])\s?>|\u2192)"
_TIME = r"(-?\s?(?:\d{1,9}\s?:\s?)?\d{1,9}\s?:\s?\d{1,9}(?:\s?[,.;:]\s?\d{1,9})?)"
_SRT_TIMES = re.compile(rf"^\s*{_TIME}\s*{_ARROW}\s*{_TIME}(?P<rest>\s.*)?$")
_SRT_WRONG = re.compile(
    r"^\s*-?\s?\d{1,9}\s?[:;][\w\s:.,;-]{0,30}-\s?>\s*-?\s?\w{1,9}\s?[:;]"
    r"|^\s*\d{1,3}:\d\d:\d\d[.,]\d{3}\s*(?:-{1,2}\s?>?\s*)?$"  # cut off
)
_SBV_TIME = r"(-?\d{1,9}:\d{1,2}:\d{1,2}\.\d{1,3})"
_SBV_TIMES = re.compile(rf"^\s*{_SBV_TIME},{_SBV_TIME}(?P<rest>)\s*$")
_VTT_HEADER = re.compile(r"^WEBVTT(?:[ \t].*)?$")
_VTT_TIME = r"(?:\d{1,9}:)?\d{1,2}:\d{1,2}\.\d{1,3}"
_VTT_TIMES = re.compile(rf"^\s*{_VTT_TIME}\s*-->\s*{_VTT_TIME}")
_VTT_COMMAS = re.compile(r"^[\d:\s]{1,20},\d{1,3}\s*-->[\d:\s]{1,20},\d{1,3}")
_VTT_BEFORE_0 = re.compile(r"^\s*-[\d:]{1,20}[.,]\d{1,3}\s*-->(?=\s*\d)")
_TTML = re.compile(r"<(?:[\w.-]{1,40}:)?tt[\s>]")
_TIMED = re.compile(r"\d:\d\d|begin=|^\{\d", re.MULTILINE)  # there were to be cues
_MAP = re.compile(r"^X-TIMESTAMP-MAP=.*$", re.MULTILINE)
_MPEG_HZ, _MPEG_WRAP = 90, 2**33  # ticks a millisecond, and where they begin anew

Tell = Callable[[str], None]


def read(path: Path, *, encoding: str | None, tell: Tell) -> list[Cue]:
    """The cues of a subtitle file, or of our JSON, in the order of their beginnings.

    `tell` gets a sentence for what had to be mended or left out, or where there are none. Raises
    UsageError where the file cannot be read.
    """
    text = _decoded(path, encoding)
    told: list[str] = []
    if CUES_SCHEMA in text[:200]:
        found = _from_json(text, path)
    else:
        found = _found(text, path, told.append) if text else []
    cues = cues_of(found, told.append)
    for sentence in told[:_MOST_TOLD]:
        tell(f"{path.name}: {sentence}")
    if len(told) > _MOST_TOLD:
        tell(f"{path.name}: so it is with {len(told) - _MOST_TOLD} more of its cues")
    if not cues and (told or _TIMED.search(text)):
        reason = told[0] if told else "what is in it cannot be read"
        raise UsageError(f"{path} has no cues ({reason}), so there is nothing to translate")
    if not cues:
        tell(
            f"{path.name} has no cue, as that of a film without speech; its translations have none"
        )
    return cues


def _found(text: str, path: Path, tell: Tell) -> list[Found]:
    """What the file shows. Raises UsageError where no reader can read it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pysubs2, about styles
            return _by_format(text, tell)
    except (
        ET.ParseError,
        ValueError,
        KeyError,
        IndexError,
        ArithmeticError,
        NotImplementedError,
        RecursionError,
        AssertionError,
    ) as error:
        raise UsageError(
            f"{path} is in no subtitle format that is known ({error}); give SRT, WebVTT, ASS"
            " or TTML. If it is a subtitle file, name its encoding with --encoding (utf-16-le,"
            " cp1252, ...)"
        ) from error


def _by_format(text: str, tell: Tell) -> list[Found]:
    """As `_found`, but raises what the readers raise."""
    if any(map(_VTT_HEADER.match, text.lstrip().split("\n", 1)[:1])):
        return _from_vtt(text.lstrip(), tell)
    if text.lstrip().startswith("<") and _TTML.search(text[:_HEAD]):
        found, unknown = ttml.read(text)
        for time in dict.fromkeys(unknown):
            tell(f'"{time[:_SHOWN]}" is no time of TTML')
        return found
    if ass.looks_like(text):
        found, wrong = ass.read(text)
        for place in wrong:
            tell(f"{place} is no event that can be read; it is left out")
        return found
    if sami.looks_like(text):
        found, classes = sami.read(text)
        if classes:
            tell(f"it has texts of several languages, which are all taken: {', '.join(classes)}")
        return found
    lines = text.split("\n")
    for pattern in (_SRT_TIMES, _SBV_TIMES):
        if any(map(pattern.match, lines)):
            return _from_blocks(lines, pattern)
    return _from_pysubs2(text, tell)


def _from_json(text: str, path: Path) -> list[Found]:
    try:
        items: list[dict[str, Any]] = json.loads(text)["cues"]
        found = [
            Found(
                f"cue {number}",
                int(item["start_ms"]),
                int(item["end_ms"]),
                str(item["text"]),
                flat(str(item.get("speaker", ""))),
                canonical(str(item.get("position", ""))),
                item.get("italic") is True,
            )
            for number, item in enumerate(items, start=1)
        ]
        for one in found:
            (one.text + one.speaker).encode()  # half of a surrogate pair cannot be written again
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise UsageError(f"{path} is no whole {CUES_SCHEMA} file ({error})") from error
    return found


def _decoded(path: Path, encoding: str | None) -> str:
    """The file's text, its lines with line feeds between. Raises UsageError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}; check the path") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not data.strip(b"\xef\xbb\xbf \t\r\n"):
        return ""
    assumed = encoding or _encoding_of(data)
    try:
        text = data.decode(assumed)
    except LookupError as error:
        raise UsageError(
            f"{assumed} is no encoding; --encoding takes utf-8, cp1252, ..."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not {assumed.removesuffix('-sig')}; name its encoding with --encoding"
            " (cp1252, utf-16, ...)"
        ) from error
    except ValueError as error:  # the encoding "undefined", or a zero byte in the name of one
        raise UsageError(
            f"{assumed!r} is no encoding; --encoding takes utf-8, cp1252, ..."
        ) from error
    # marks stand within files that were joined as well
    text = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # UTF-7 and UTF-16 of some makers have half pairs
        raise UsageError(
            f"{path} is not {assumed.removesuffix('-sig')}; name its encoding with --encoding"
            " (cp1252, utf-16, ...)"
        ) from error
    return text


def _encoding_of(data: bytes) -> str:
    """What the file's marks tell, the zeros of UTF-16 without one, or XML; else UTF-8."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    high, low = data[0::2].count(0), data[1::2].count(0)
    # numbers, blanks and line ends have a zero byte each, whatever the language
    if max(high, low) * 20 > len(data) and max(high, low) > 4 * min(high, low):
        return "utf-16-be" if high > low else "utf-16-le"
    declared = _ENCODED.match(data[:300])
    if declared:
        with contextlib.suppress(LookupError, ValueError):  # it may be declared wrongly
            data.decode(declared[1].decode())
            return declared[1].decode()
    return "utf-8-sig"


def _from_blocks(lines: Sequence[str], times: re.Pattern[str]) -> list[Found]:
    """The cues of SubRip or SBV: lines with times, and their texts up to the next.

    In a file with numbers the number before the next times is no text; any other number is.
    """
    matches = [times.match(line) for line in lines]
    at = [
        number
        for number, match in enumerate(matches)
        if match is not None or (times is _SRT_TIMES and _SRT_WRONG.match(lines[number]))
    ]
    numbers = [
        _number_before(lines, number, after) for number, after in zip(at, [-1, *at], strict=False)
    ]
    numbered = sum(number is not None for number in numbers) * 2 >= len(at)
    found: list[Found] = []
    for number, before, following in zip(at, [*numbers[1:], None], [*at[1:], None], strict=True):
        end = before if numbered and before is not None else following
        text = "\n".join(lines[number + 1 : end])
        match = matches[number]
        start_ms, end_ms, settings = None, None, ""
        if match is not None:
            start_ms, end_ms, settings = (
                _ms(match[1]),
                _ms(match[2]),
                canonical(match["rest"] or ""),
            )
        if times is _SBV_TIMES:
            text = text.replace("[br]", "\n")
        for said in markup.tagged(text, webvtt=False):
            found.append(  # noqa: PERF401 - clearer than loops in one
                Found(
                    f"line {number + 1}", start_ms, end_ms,
                    said.text, said.speaker, said.position or settings, said.italic,
                )
            )  # fmt: skip
    return found


def _number_before(lines: Sequence[str], at: int, after: int) -> int | None:
    """The line of the cue's number: the last one before its times that is not empty."""
    number = at - 1
    while number > after and not lines[number].strip():
        number -= 1
    if number <= after or not lines[number].strip().isdecimal():
        return None
    # a number that an empty line parts from the times, and none from the text, is text
    apart = number < at - 1
    joined = number - 1 > after and bool(lines[number - 1].strip())
    return None if apart and joined else number


def _ms(text: str) -> int:
    """A time of SubRip or SBV. Raises ValueError."""
    digits = text.replace(" ", "")
    minus = digits.startswith("-")
    parts = re.split("[:,.;]", digits.lstrip("-"))
    has_fraction = re.search(r"[,.;]\d+$", digits) is not None or len(parts) > 3  # noqa: PLR2004
    fraction = parts.pop() if has_fraction else "0"
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    ms = 1000 * seconds + (int(fraction.ljust(3, "0")[:3]))
    return -ms if minus else ms


def _from_vtt(text: str, tell: Tell) -> list[Found]:
    """The cues of WebVTT, of several files one after the other too, as HLS segments come."""
    found: list[Found] = []
    ends: dict[tuple[int | None, str, str], int] = {}
    known: set[tuple[int | None, int | None, str, str]] = set()
    first_ms: int | None = None
    began = 1
    for part in _vtt_parts(text, tell):
        own_ms = _shift_ms(part)
        first_ms = own_ms if first_ms is None else first_ms
        shift_ms = 0 if own_ms is None or first_ms is None else own_ms - first_ms
        if shift_ms < -_MPEG_WRAP // _MPEG_HZ // 2:
            shift_ms += _MPEG_WRAP // _MPEG_HZ
        before = len(found)
        for cue in _vtt_cues(part, shift_ms, began, tell):
            # one that was cut where segments meet is whole again
            index = ends.get((cue.start_ms, cue.text, cue.speaker))
            key = (cue.start_ms, cue.end_ms, cue.text, cue.speaker)
            if key in known:
                continue
            known.add(key)
            if index is not None and cue.end_ms is not None:
                found[index] = found[index].until(cue.end_ms)
            else:
                found.append(cue)
        ends |= {
            (one.end_ms, one.text, one.speaker): index
            for index, one in enumerate(found[before:], start=before)
        }
        began += part.count("\n") + 1
    return found


def _vtt_parts(text: str, tell: Tell) -> list[str]:
    """The files that the text is made of, with times as webvtt-py takes them."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _VTT_COMMAS.match(line):
            lines[number] = line.replace(",", ".")
        if _VTT_BEFORE_0.match(line):
            shown = line.strip()[:_SHOWN]
            tell(f'line {number + 1}: "{shown}" begins before the film; it begins at 0 now')
            lines[number] = _VTT_BEFORE_0.sub("00:00.000 -->", line)
    begins = [number for number in range(len(lines)) if _begins_vtt(lines, number)]
    ends = [*begins[1:], len(lines)]
    return ["\n".join(lines[begin:end]) for begin, end in zip(begins, ends, strict=True)]


def _begins_vtt(lines: Sequence[str], number: int) -> bool:
    """Whether a file begins with the line; what looks like a header amid text is text."""
    if not _VTT_HEADER.match(lines[number]):
        return False
    following = lines[number + 1] if number + 1 < len(lines) else ""
    return (
        number == 0
        or not lines[number - 1].strip()
        or (lines[number].strip() == "WEBVTT" and not following.strip())
        or _MAP.match(following) is not None
    )


def _shift_ms(part: str) -> int | None:
    """What a segment's map adds to its times; None where it has none."""
    line = _MAP.search(part.partition("-->")[0])
    if line is None:
        return None
    ticks = re.search(r"MPEGTS:(\d{1,12})\b", line[0])
    local = re.search(r"LOCAL:(\d{1,6}:)?(\d{1,6}):(\d{1,6})\.(\d{1,3})", line[0])
    if ticks is None or local is None:
        return None
    return int(ticks[1]) // _MPEG_HZ - _ms(local[0].removeprefix("LOCAL:"))


def _vtt_cues(part: str, shift_ms: int, began: int, tell: Tell) -> Iterator[Found]:
    import webvtt  # noqa: PLC0415 - few commands read WebVTT
    from webvtt.errors import MalformedCaptionError  # noqa: PLC0415 - as above

    _tell_unread(part, began, tell)
    try:
        file = webvtt.from_string(part)
    except MalformedCaptionError as error:
        raise ValueError(str(error)) from error
    regions = {
        region.id: _region_settings(region.viewportanchor, region.regionanchor, region.width)
        for region in file.regions
    }
    for number, caption in enumerate(file.captions, start=1):
        position = canonical(str(caption.settings))
        if caption.settings.region in regions and "line" not in position:
            position = canonical(f"{regions[caption.settings.region]} {position}")
        for said in markup.tagged(caption.raw_text, webvtt=True):
            place = said.position or position
            yield Found(
                f"cue {number}",
                caption.start_time.in_milliseconds() + shift_ms,
                caption.end_time.in_milliseconds() + shift_ms,
                said.text, said.speaker, place, said.italic,
            )  # fmt: skip


def _region_settings(viewport: str | None, own: str | None, width: str | None) -> str:
    """Where a region of WebVTT stands, as settings of a cue."""
    x, y = (float(part.strip("%")) for part in (viewport or "0%,100%").split(","))
    left, top = (float(part.strip("%")) for part in (own or "0%,100%").split(","))
    wide = float((width or "100%").strip("%"))
    box = placements.Box(
        x - left * wide / 100, y, wide, 0, "before" if top < 50 else "after", "center"  # noqa: PLR2004
    )  # fmt: skip
    return placements.of_box(box)


def _tell_unread(part: str, began: int, tell: Tell) -> None:
    """Tells of blocks that are not shown, though they should have been cues, or parts of one."""
    block: list[str] = []
    seen_cue = False
    for number, line in enumerate([*part.split("\n"), ""], start=began):
        if line:  # a blank is text: what YouTube writes begins with such a line
            block.append(line)
            continue
        if any(map(str.strip, block)) and not block[0].startswith(
            ("NOTE", "STYLE", "REGION", "WEBVTT")
        ):
            arrows = [text for text in block if "-->" in text]
            first = (arrows or block)[0].strip()[:_SHOWN]
            place = f"line {number - len(block) + (block.index(arrows[0]) if arrows else 0)}"
            if arrows and not any(map(_VTT_TIMES.match, arrows)):
                tell(f'{place}: "{first}" is no time of WebVTT; its cue is left out')
            elif seen_cue and not arrows:
                tell(f'{place}: "{first}" belongs to no cue and no player shows it; it is left out')
            seen_cue = seen_cue or bool(arrows)
        block = []


def _from_pysubs2(text: str, tell: Tell) -> list[Found]:
    """What pysubs2 finds. Raises ValueError where it knows no format that it is in."""
    if text.lstrip().startswith(_CODES):
        raise ValueError("its captions are codes of a decoder and no text")
    import pysubs2  # noqa: PLC0415 - few commands read its formats
    from pysubs2.exceptions import Pysubs2Error, UnknownFPSError  # noqa: PLC0415 - as above

    text = _with_ends(text)
    try:
        try:
            file = pysubs2.SSAFile.from_string(text, keep_html_tags=True)
        except UnknownFPSError:
            rate = re.match(r"\s*\{[01]\}\s*\{[01]\}\s*(\d{2,3}(?:[.,]\d{1,6})?)\s*\n", text)
            known = float(rate[1].replace(",", ".")) if rate else _MICRODVD_RATE
            if rate is None:
                tell(
                    f"the file counts frames and does not tell how many make a second;"
                    f" {known} are taken; another number goes into a first line {{1}}{{1}}25"
                )
            else:
                text = text[rate.end() :]
            file = pysubs2.SSAFile.from_string(text, keep_html_tags=True, fps=known)
    except Pysubs2Error as error:
        raise ValueError(str(error)) from error
    found: list[Found] = []
    for number, event in enumerate(file, start=1):
        own = re.sub(r"\{[a-zA-Z]:[^{}]*\}", "", event.text)  # {c:$0000ff}: colours of MicroDVD
        own = re.sub(r"\{([^{}\\][^{}]*)\}", r"\\{\1\\}", own)  # no other brace means anything
        said = markup.overridden(own)
        if said is not None:
            place = f"cue {number}"
            found.append(Found(place, event.start, event.end, said.text, italic=said.italic))
    return found


def _with_ends(text: str) -> str:
    """The text, in which lines of MicroDVD that tell no end have the next one's beginning."""
    if "{}" not in text:
        return text
    lines = text.split("\n")
    following = ""
    for number in range(len(lines) - 1, -1, -1):
        begin = re.match(r"\{(\d{1,9})\}\{(\d{0,9})\}", lines[number])
        if begin is None:
            continue
        if not begin[2]:
            end = following or str(int(begin[1]) + _MICRODVD_FRAMES)
            lines[number] = f"{{{begin[1]}}}{{{end}}}{lines[number][begin.end() :]}"
        following = begin[1]
    return "\n".join(lines)
