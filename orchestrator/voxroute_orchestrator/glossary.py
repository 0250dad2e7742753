"""Settled terms: from `terms.csv` to the services, and what became of them.

The file's first line names its columns: `source,target`, and if wanted `case_sensitive` and
`do_not_translate`. docs/glossary.md says what a service makes of the terms.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.transcript import TranslatedSegment

MAX_TERMS = 1000  # of the contract
MAX_TERM_CHARACTERS = 200  # of the contract

_REQUIRED = ("source", "target")
_FLAGS = ("case_sensitive", "do_not_translate")
_YES = frozenset({"yes", "true", "1", "y", "x"})
_NO = frozenset({"no", "false", "0", "n", ""})


@dataclass(frozen=True, slots=True)
class GlossaryTerm:
    """A term and how it is to be translated."""

    source: str
    target: str = ""
    case_sensitive: bool = False
    do_not_translate: bool = False
    """Whether the term stays as it stands in the source; then it has no target."""


def read(path: Path) -> tuple[GlossaryTerm, ...]:
    """The terms of a file in its order. Raises UsageError that names the line."""
    rows = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        columns = _columns(path, next(rows, list[str]()))
        terms: dict[str, GlossaryTerm] = {}
        for row in rows:
            if any(cell.strip() for cell in row):
                place = f"{path}, line {rows.line_num}"
                terms[place] = _term(place, columns, row)
    except csv.Error as error:
        raise UsageError(f"{path}, line {rows.line_num}: {error}; check the quotes") from error
    if not terms:
        raise UsageError(f"{path} has no terms; give a line such as राम,Ram below the header")
    return _checked(str(path), terms)


def of_messages(messages: Sequence[translate_pb2.GlossaryTerm]) -> tuple[GlossaryTerm, ...]:
    """The terms of a message, checked as those of a file. Raises UsageError."""
    columns = [*_REQUIRED, *_FLAGS]
    terms: dict[str, GlossaryTerm] = {}
    for number, message in enumerate(messages, 1):
        flags = [getattr(message, name) for name in _FLAGS]
        row = [message.source, message.target, *("yes" if flag else "no" for flag in flags)]
        terms[f"term {number}"] = _term(f"term {number}", columns, row)
    return _checked("the glossary", terms)


def _checked(what: str, terms: Mapping[str, GlossaryTerm]) -> tuple[GlossaryTerm, ...]:
    if len(terms) > MAX_TERMS:
        raise UsageError(f"{what} has {len(terms)} terms; give at most {MAX_TERMS}")
    _check_unique(terms)
    return tuple(terms.values())


def to_messages(terms: Iterable[GlossaryTerm]) -> list[translate_pb2.GlossaryTerm]:
    """The terms as the contract sends them."""
    return [
        translate_pb2.GlossaryTerm(
            source=term.source,
            target=term.target,
            case_sensitive=term.case_sensitive,
            do_not_translate=term.do_not_translate,
        )
        for term in terms
    ]


def hotwords(terms: Iterable[GlossaryTerm]) -> tuple[str, ...]:
    """The terms as they are spoken, each once: words for the recogniser to prefer."""
    return tuple(dict.fromkeys(term.source for term in terms))


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the terms that stood in the segments of one translation."""

    applied: int
    """Segments' terms whose wanted translation stands in the result."""
    missed: Mapping[str, tuple[int, ...]]
    """Terms that did not come to stand somewhere, with the ids of those segments."""

    def lines(self, language: str, *, first_id: int = 0) -> list[str]:
        """Sentences for a summary, none where no term stood in a segment.

        `first_id` is added to the ids, for cues that people count from 1.
        """
        missed = sum(map(len, self.missed.values()))
        if not self.applied and not missed:
            return []
        lines = [
            f"  {language}: glossary terms applied {self.applied} times, missed {missed} times"
        ]
        for term, ids in self.missed.items():
            places = ", ".join(str(number + first_id) for number in ids)
            lines.append(f'    missed "{term}" in {places}')
        return lines


def tally(segments: Iterable[TranslatedSegment]) -> Tally:
    """The count over the segments of one translation."""
    applied, missed = 0, dict[str, tuple[int, ...]]()
    for segment in segments:
        for use in segment.glossary:
            if use.applied:
                applied += 1
            else:
                before = missed.get(use.term, ())
                if segment.segment_id not in before[-1:]:  # turns of a cue come one by one
                    missed[use.term] = (*before, segment.segment_id)
    return Tally(applied, missed)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"there is no glossary {path}; check the path") from error
    except OSError as error:
        raise UsageError(f"the glossary {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line} is not UTF-8; save the file as UTF-8") from error


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in header]
    while columns and not columns[-1]:
        columns.pop()  # spreadsheets leave empty columns behind
    known = [*_REQUIRED, *_FLAGS]
    unknown = [column for column in columns if column not in known]
    twice = len(set(columns)) < len(columns)
    if unknown or twice or not set(_REQUIRED) <= set(columns):
        raise UsageError(
            f"{path}, line 1 must name the columns source,target and, if wanted,"
            f" case_sensitive,do_not_translate, with commas between; it is {','.join(header)!r}"
        )
    return columns


def _term(place: str, columns: Sequence[str], row: Sequence[str]) -> GlossaryTerm:
    cells = [unicodedata.normalize("NFC", " ".join(cell.split())) for cell in row]
    if any(cells[len(columns) :]):
        raise UsageError(
            f"{place} has {len(cells)} cells for {len(columns)} columns; put a cell with a comma"
            " in it in double quotes"
        )
    values = dict(zip(columns, cells, strict=False))
    source, target = values.get("source", ""), values.get("target", "")
    flags = {name: _flag(place, name, values.get(name, "")) for name in _FLAGS}
    for name, text in (("source", source), ("target", target)):
        if len(text) > MAX_TERM_CHARACTERS:
            raise UsageError(
                f"{place}: the {name} has {len(text)} characters; give at most"
                f" {MAX_TERM_CHARACTERS}"
            )
    if not any(map(str.isalnum, source)):
        raise UsageError(f"{place} has no source; give the term in the source language")
    if flags["do_not_translate"] and target not in ("", source):
        raise UsageError(
            f'{place}: "{source}" has a target and do_not_translate; leave one of them out'
        )
    if not flags["do_not_translate"] and not any(map(str.isalnum, target)):
        raise UsageError(
            f'{place}: "{source}" has no target; give one, or yes under do_not_translate'
        )
    if flags["do_not_translate"]:
        target = ""
    return GlossaryTerm(source, target, **flags)


def _flag(place: str, name: str, cell: str) -> bool:
    value = cell.lower()
    if value not in _YES | _NO:
        raise UsageError(f"{place}: {name} is {cell!r}; write yes or no")
    return value in _YES


def _check_unique(terms: Mapping[str, GlossaryTerm]) -> None:
    seen: dict[tuple[str, bool], str] = {}
    for place, term in terms.items():
        source = term.source if term.case_sensitive else term.source.casefold()
        earlier = seen.setdefault((source, term.case_sensitive), place)
        if earlier != place:
            before = earlier.rpartition(", ")[2]
            raise UsageError(f'{place}: "{term.source}" stands in {before} too; keep one')
