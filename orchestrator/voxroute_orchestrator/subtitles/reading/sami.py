"""SAMI: texts that are shown until the next one of their class, a class for each language.

Read here because pysubs2 (1.8) knows no classes: it joins the languages of a moment into one text,
and ends a text where another language begins.
"""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

from voxroute_orchestrator.subtitles import markup
from voxroute_orchestrator.subtitles.reading.cues import Found

_BEGINS = re.compile(r"\s*<sami[\s>]", re.IGNORECASE)
_STYLES = ("b", "i", "s", "u")
# The last text of a class has no end: as pysubs2 has it, half a second and 15 letters a second.
_LAST_MS, _LETTER_MS = 500, 67


def looks_like(text: str) -> bool:
    """Whether the file says that it is SAMI."""
    return _BEGINS.match(text) is not None


@dataclass(slots=True)
class _Text:
    """What a class shows from a moment on; the name of a class is "" where the file tells none."""

    number: int
    start_ms: int
    of_class: str
    parts: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """Its lines, without blanks around them."""
        lines = "".join(self.parts).strip().splitlines()
        return "\n".join(line.strip() for line in lines)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[_Text] = []
        self.open = False
        self.in_paragraph = False
        self.n_moments = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Raises ValueError, KeyError."""
        if tag == "sync":
            self.n_moments += 1
            self.texts.append(_Text(self.n_moments, int(dict(attrs)["start"] or 0), ""))
            self.open, self.in_paragraph = True, False
        elif not self.open:
            return
        elif tag == "p":
            self._paragraph((dict(attrs).get("class") or "").casefold())
        elif tag == "br":
            self.handle_data("\n")
        elif tag in _STYLES:
            self.handle_data(f"{{\\{tag}1}}")

    def _paragraph(self, of_class: str) -> None:
        last = self.texts[-1]
        if not self.in_paragraph and not last.text:
            last.of_class = of_class
        elif last.of_class == of_class:
            last.parts.append("\n")
        else:
            self.texts.append(_Text(last.number, last.start_ms, of_class))
        self.in_paragraph = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("sync", "body", "sami"):
            self.open = False
        elif tag in _STYLES:
            self.handle_data(f"{{\\{tag}0}}")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[-1].parts.append(data)


def read(text: str) -> tuple[list[Found], list[str]]:
    """What the file shows, and its classes with text where these are several.

    Raises ValueError, KeyError where a moment is none.
    """
    parser = _Parser()
    parser.feed(text)
    parser.close()
    classes = list(dict.fromkeys(one.of_class for one in parser.texts if one.text))
    found: list[Found] = []
    for of_class in classes:
        # a blank without a class of its own clears the picture
        own = [one for one in parser.texts if one.of_class == of_class or not one.text]
        own = [one for one in own if one.of_class == of_class or one.of_class not in classes]
        own.sort(key=lambda one: one.start_ms)
        ends = [later.start_ms for _, later in pairwise(own)]
        ends += [one.start_ms + _LAST_MS + len(one.text) * _LETTER_MS for one in own[-1:]]
        for one, end_ms in zip(own, ends, strict=True):
            said = markup.overridden(one.text) if one.text else None
            if said is not None:
                place = f"cue {one.number}"
                found.append(Found(place, one.start_ms, end_ms, said.text, italic=said.italic))
    return found, classes if len(classes) > 1 else []
