"""What the speakers of one cue say in turn: lines that begin with a dash, a name or a bracket.

- Where is the key?        ASHA: Where is the key?       [Asha] Where is the key?
- On the table.            RAVI: On the table.           [Ravi] On the table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from voxroute_orchestrator.subtitles.linebreaks import ends_sentence, flat

# A minus is no dash, and who breaks off ("--and then") needs no blank.
_DASHED = re.compile(
    r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]*"
    r"(?:(?:[-–—‐‑]{1,2}|>{2,3})(?:\s+(?=\S)|(?=[^\s\d\-–—>])))"  # noqa: RUF001 - dashes of subtitles
)
_NAMED = re.compile(r"(?P<name>[^\W\d_][^:\[\]?!,;\"]{0,30}):(?:\s+(?=\S)|$)")
_BRACKETED = re.compile(r"\[[^\[\]]{1,40}\]|\([^()]{1,40}\)")
_NAME_WORDS = 3
_ENDS_TURN = "♪♫-–—…)]\"'”’»"  # noqa: RUF001 - as texts have them


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says, on one line, and the mark before it: a dash with its blank, a name."""

    mark: str
    text: str

    def __str__(self) -> str:
        return self.mark + self.text


def turns_of(text: str) -> list[Turn]:
    """The turns of a cue's text; one without a mark where nothing tells speakers apart.

    A name in capitals is a mark, and no part of what is said; any other name counts where two lines
    have one, and stays in the text.
    """
    lines = [line for part in text.split("\n") if (line := flat(part))]
    plainly_named = sum(_plain_name(line) for line in lines) > 1
    bracketed = sum(_BRACKETED.match(line) is not None for line in lines) > 1
    turns: list[tuple[str, list[str]]] = []
    for line in lines:
        mark = _mark(line)
        new = (
            not turns
            or (mark and _may_begin(mark, turns))
            or (plainly_named and _plain_name(line))
            or (bracketed and _BRACKETED.match(line))
        )
        if new:
            turns.append((mark, [line[len(mark) :]]))
        else:
            turns[-1][1].append(line)
    return [
        Turn(mark, said) if (said := " ".join(texts).strip()) else Turn("", flat(mark))
        for mark, texts in turns
    ]  # a mark with nothing after it is what is said


def _mark(line: str) -> str:
    dashed = _DASHED.match(line)
    if dashed:
        return dashed[0]
    named = _NAMED.match(line)
    if (
        named is not None
        and named["name"].isupper()
        and sum(map(str.isalpha, named["name"])) > 1
        and not line[named.end() :].isupper()  # where all is in capitals, they tell nothing
    ):
        return f"{named['name']}: " if named.end() == len(line) else named[0]
    return ""


def _may_begin(mark: str, turns: Sequence[tuple[str, list[str]]]) -> bool:
    """Whether a marked line begins a turn; a dash within a sentence may open a line as well."""
    before = turns[-1][1][-1]
    return (
        not _DASHED.match(mark + "x")
        or bool(turns[0][0])
        or ends_sentence(before)
        or before[-1:] in _ENDS_TURN
    )


def _plain_name(line: str) -> bool:
    named = _NAMED.match(line)
    return (
        named is not None
        and not named["name"][0].islower()
        and len(named["name"].split()) <= _NAME_WORDS
        and named.end() < len(line)
    )
