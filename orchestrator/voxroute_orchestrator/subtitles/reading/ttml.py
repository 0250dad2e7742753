"""TTML: its paragraphs with their times, whatever expression they are in.

Neither pysubs2 (1.8) nor ttconv (1.2) reads what is in use: the one knows no frames and ticks, the
other leaves out `div` in `div` and times such as "00:00:04,500" without a word. Elements and
attributes are known by their local names here, so older namespaces of TTML (DFXP) are read as well.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from voxroute_orchestrator.subtitles.linebreaks import flat
from voxroute_orchestrator.subtitles.placements import BELOW, Box, of_box
from voxroute_orchestrator.subtitles.reading.cues import Found, ms_of

_CLOCK = re.compile(
    r"(?P<minus>-)?(?:(?P<h>\d{1,9}):)?(?P<m>\d{1,9}):(?P<s>\d{1,9})"
    r"(?:[.,](?P<fraction>\d{1,9})|[:;](?P<frames>\d{1,9})(?:\.(?P<sub>\d{1,9}))?)?"
)
_OFFSET = re.compile(r"(?P<minus>-)?(?P<count>\d{1,15}(?:[.,]\d{1,9})?)(?P<unit>h|ms|m|s|f|t)?")
_SECONDS = {"h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}
_LENGTH = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,6})?)(%|px|c|rw|rh)")
_NOT_SAID = frozenset({"metadata", "set", "animate", "desc", "title", "agent", "name", "copyright"})
_RUBY = frozenset({"text", "textContainer", "delimiter"})
_DROPPED = 2  # frame numbers that NTSC leaves out in each minute but every tenth

_Times = tuple[Fraction | None, Fraction | None]


@dataclass(frozen=True, slots=True)
class _Clock:
    """What time expressions are counted in."""

    nominal: int
    rate: Fraction
    sub_frames: int
    ticks: Fraction
    smpte: bool
    drop: bool

    def seconds(self, text: str) -> Fraction | None:
        """The seconds of a time expression; None for what is none."""
        if clock := _CLOCK.fullmatch(text):
            found = self._clock(clock)
        elif (offset := _OFFSET.fullmatch(text)) is not None:
            count = Fraction(offset["count"].replace(",", "."))
            unit = offset["unit"] or "s"  # nothing is not allowed, and written all the same
            if unit == "f":
                found = count / self.rate
            else:
                found = count / self.ticks if unit == "t" else count * _SECONDS[unit]
            clock = offset
        else:
            return None
        return -found if clock["minus"] else found

    def _clock(self, clock: re.Match[str]) -> Fraction:
        minutes = 60 * int(clock["h"] or 0) + int(clock["m"])
        whole = 60 * minutes + int(clock["s"])
        frames = Fraction(int(clock["frames"] or 0)) + Fraction(
            int(clock["sub"] or 0), self.sub_frames
        )
        if not self.smpte or clock["fraction"]:
            fraction = Fraction(f"0.{clock['fraction'] or 0}")
            return whole + fraction + frames / self.rate
        dropped = _DROPPED * (minutes - minutes // 10) if self.drop else 0
        return (whole * self.nominal + frames - dropped) / self.rate


def _clock_of(root: ET.Element) -> _Clock:
    told = _attributes(root)
    nominal = _number(told, "frameRate", 30)
    parts = [int(n) for n in re.findall(r"\d{1,9}", told.get("frameRateMultiplier", ""))]
    above, below = parts if len(parts) == 2 and all(parts) else (1, 1)  # noqa: PLR2004 - a fraction
    rate, sub = nominal * Fraction(above, below), _number(told, "subFrameRate", 1)
    usual = rate * sub if "frameRate" in told else Fraction(1)
    return _Clock(
        nominal,
        rate,
        sub,
        Fraction(_number(told, "tickRate", 0)) or usual,
        told.get("timeBase") == "smpte",
        told.get("dropMode") == "dropNTSC",
    )


def _number(told: Mapping[str, str], name: str, default: int) -> int:
    text = told.get(name, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text) and int(text) else default


def _local(name: object) -> str:
    return name.rpartition("}")[2] if isinstance(name, str) else ""  # comments have functions


def _attributes(element: ET.Element) -> dict[str, str]:
    return {_local(name): value.strip() for name, value in element.attrib.items()}


@dataclass(frozen=True, slots=True)
class _Place:
    """What an element hands down to those in it."""

    begin: Fraction | None = None
    end: Fraction | None = None
    style: Mapping[str, str] = field(default_factory=dict[str, str])
    region: str = ""
    agent: str = ""
    preserve: bool = False
    wrong: bool = False
    """Whether it is told when it begins, in no way that can be read."""

    @property
    def times(self) -> _Times:
        return self.begin, self.end


@dataclass(frozen=True, slots=True)
class _Run:
    """Letters of one style and time."""

    text: str
    italic: bool
    times: _Times


class _Document:
    def __init__(self, root: ET.Element) -> None:
        self.clock = _clock_of(root)
        self.unknown: list[str] = []
        told = _attributes(root)
        self._cells = _pair(told.get("cellResolution", ""), (32.0, 15.0))
        self._pixels = _pair(told.get("extent", "").replace("px", ""), (1920.0, 1080.0))
        self._styles: dict[str, dict[str, str]] = {}
        self._regions: dict[str, dict[str, str]] = {}
        self._agents: dict[str, str] = {}
        for element in root.iter():
            kind, attributes = _local(element.tag), _attributes(element)
            if kind == "style" and "id" in attributes:
                self._styles[attributes["id"]] = attributes
            elif kind == "agent" and "id" in attributes:
                names = [child.text or "" for child in element if _local(child.tag) == "name"]
                self._agents[attributes["id"]] = flat(" ".join(names))
        for element in root.iter():
            if _local(element.tag) == "region" and (name := _attributes(element).get("id")):
                own = self._resolved(_attributes(element))
                for child in element:
                    if _local(child.tag) == "style":
                        own |= self._resolved(_attributes(child))
                self._regions[name] = own

    def _resolved(
        self, attributes: Mapping[str, str], seen: set[str] | None = None
    ) -> dict[str, str]:
        """The attributes with those of the styles that they refer to, each of which counts once."""
        seen = set() if seen is None else seen
        found: dict[str, str] = {}
        for name in attributes.get("style", "").split():
            if name not in seen:
                seen.add(name)
                found |= self._resolved(self._styles.get(name, {}), seen)
        return found | {name: value for name, value in attributes.items() if name != "style"}

    def within(self, element: ET.Element, above: _Place, starts: Fraction | None) -> _Place:
        """What the element hands down; `starts` is what its times are counted from."""
        own = self._resolved(_attributes(element))
        begin, end, dur = (self._time(own.get(name)) for name in ("begin", "end", "dur"))
        base = starts if starts is not None else above.begin
        start = base if begin is None else (base or Fraction(0)) + begin
        ends = [above.end] if above.end is not None else []
        if end is not None:
            ends.append((base or Fraction(0)) + end)
        if dur is not None:
            ends.append((start or Fraction(0)) + dur)
        if start is None and ends and (end is not None or dur is not None):
            start = Fraction(0)
        inherited = {"fontStyle", "textAlign", "direction"}
        return _Place(
            start,
            min(ends, default=None),
            {k: v for k, v in above.style.items() if k in inherited} | own,
            own.get("region", above.region),
            own.get("agent", above.agent),
            own.get("space", "preserve" if above.preserve else "") == "preserve",
            above.wrong or (begin is None and "begin" in own),
        )

    def _time(self, text: str | None) -> Fraction | None:
        if text is None:
            return None
        found = self.clock.seconds(text)
        if found is None:
            self.unknown.append(text)
        return found

    def paragraphs(self, element: ET.Element, above: _Place) -> Iterator[tuple[ET.Element, _Place]]:
        """Each paragraph in the element, with its times."""
        sequence = _attributes(element).get("timeContainer") == "seq"
        starts: Fraction | None = above.begin
        for child in element:
            kind = _local(child.tag)
            if kind not in {"body", "div", "p"}:
                continue
            place = self.within(child, above, starts if sequence else None)
            if sequence and place.end is not None:
                starts = place.end
            if kind == "p":
                yield child, place
            else:
                yield from self.paragraphs(child, place)

    def runs(self, element: ET.Element, place: _Place) -> Iterator[_Run]:
        """The letters in a paragraph or span."""
        italic = self._style(place, "fontStyle") in {"italic", "oblique", "reverseOblique"}
        yield _Run(_blanks(element.text, place), italic, place.times)
        sequence = _attributes(element).get("timeContainer") == "seq"
        starts: Fraction | None = place.begin
        for child in element:
            kind = _local(child.tag)
            if kind == "br":
                yield _Run("\n", italic, place.times)
            elif kind == "span" and _attributes(child).get("ruby") not in _RUBY:
                inner = self.within(child, place, starts if sequence else None)
                if sequence and inner.end is not None:
                    starts = inner.end
                yield from self.runs(child, inner)
            elif kind and kind not in _NOT_SAID and kind != "span":
                yield from self.runs(child, place)
            yield _Run(_blanks(child.tail, place), italic, place.times)

    def _style(self, place: _Place, name: str) -> str:
        return place.style.get(name, self._regions.get(place.region, {}).get(name, ""))

    def speaker(self, place: _Place) -> str:
        """Who speaks, where the file tells."""
        names = (self._agents.get(agent, "") for agent in place.agent.split())
        return next(filter(None, names), "")

    def position(self, place: _Place) -> str:
        """Where the paragraph's region stands."""
        region = self._regions.get(place.region, {}) | {
            name: place.style[name] for name in ("origin", "extent") if name in place.style
        }
        corner = self._lengths(region.get("origin", ""))
        size = self._lengths(region.get("extent", ""))
        if corner is None or size is None:
            return BELOW
        return of_box(
            Box(
                *corner, *size,
                region.get("displayAlign", ""), self._style(place, "textAlign"),
            )
        )  # fmt: skip

    def _lengths(self, text: str) -> tuple[float, float] | None:
        """Two lengths in percent of the picture."""
        parts = [_LENGTH.fullmatch(part) for part in text.split()]
        if len(parts) != 2:  # noqa: PLR2004 - across and down
            return None
        found: list[float] = []
        for part, cells, pixels in zip(parts, self._cells, self._pixels, strict=True):
            if part is None:
                return None
            whole = {"c": cells, "px": pixels}.get(part[2], 100.0)
            found.append(100 * float(part[1]) / whole)
        return found[0], found[1]


def _pair(text: str, default: tuple[float, float]) -> tuple[float, float]:
    parts = text.split()
    if len(parts) != 2 or not all(re.fullmatch(r"[1-9]\d{0,5}", part) for part in parts):  # noqa: PLR2004
        return default
    return float(parts[0]), float(parts[1])


def _blanks(text: str | None, place: _Place) -> str:
    return (text or "") if place.preserve else re.sub(r"\s+", " ", text or "")


def read(text: str) -> tuple[list[Found], list[str]]:
    """What a TTML document shows, and the time expressions that are none.

    A paragraph without times of its own, or without an end, is shown span by span where its spans
    have some. Raises xml.etree.ElementTree.ParseError, RecursionError.
    """
    root = ET.fromstring(text)  # noqa: S314 - expat bounds what entities grow to
    document = _Document(root)
    found: list[Found] = []
    top = document.within(root, _Place(), None)
    for number, (element, place) in enumerate(document.paragraphs(root, top), start=1):
        runs = list(document.runs(element, place))
        own = _attributes(element)
        untold = place.end is None and any(run.times[1] is not None for run in runs)
        if {"begin", "end", "dur"} & own.keys() and not untold:
            groups = [(place.times, runs)]
        else:
            groups = list(_by_times(runs))
        for (begin, end), part in groups:
            letters = [run for run in part if any(map(str.isalnum, run.text))]
            found.append(
                Found(
                    place=f"paragraph {number}",
                    start_ms=None if place.wrong else ms_of(begin),
                    end_ms=ms_of(end),
                    text="".join(run.text for run in part),
                    speaker=document.speaker(place),
                    position=document.position(place),
                    italic=bool(letters) and all(run.italic for run in letters),
                )
            )
    return found, document.unknown


def _by_times(runs: list[_Run]) -> Iterator[tuple[_Times, list[_Run]]]:
    """The runs that have letters, with what stands between them, while their times are the same."""
    part: list[_Run] = []
    times: _Times | None = None
    for run in runs:
        if run.text.strip() and times is not None and run.times != times:
            yield times, part
            part = []
        if run.text.strip():
            times = run.times
        part.append(run)
    if times is not None:
        yield times, part
