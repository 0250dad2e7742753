"""From what a subtitle file shows to cues: mended, in order, and what was said once.

Nothing is mended or left out without a word: `Told` gets a sentence for each, with its place.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.linebreaks import flat, reading_ms
from voxroute_orchestrator.subtitles.markup import clean_lines
from voxroute_orchestrator.subtitles.placements import BELOW

_SHORTEST_MS = 1000  # of a cue whose end is made up
_SHOWN_CHARACTERS = 40
_TOUCHING_MS = 200  # captions that grow or are shown again follow each other within so much
_ROLLING_MS = 600  # and those that roll on within so much
_MOST_LINES = 8  # more of them do not roll
_LEAST_ROLLS = 2  # one line that is said again is a line that is said again
_MOST_MS = 10**12  # 31 years: a file that tells more tells nonsense


@dataclass(frozen=True, slots=True)
class Found:
    """What a file shows, before anything is mended; None for a time that is not told."""

    place: str
    start_ms: int | None
    end_ms: int | None
    text: str
    speaker: str = ""
    position: str = BELOW
    italic: bool = False
    shown_for_0_ms: bool = True
    """Whether what ends as it begins is meant to be shown."""

    def until(self, end_ms: int) -> "Found":
        """The same with another end."""
        return replace(self, end_ms=end_ms)


def ms_of(seconds: Fraction | None) -> int | None:
    """Seconds in milliseconds."""
    return None if seconds is None else round(seconds * 1000)


def clock(ms: int) -> str:
    """A time as people read it."""
    sign, ms = ("-", -ms) if ms < 0 else ("", ms)
    seconds, ms = divmod(ms, 1000)
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


def cues_of(found: Iterable[Found], tell: Callable[[str], None]) -> list[Cue]:
    """The cues in the order of their beginnings, each within 0 and its end after its beginning."""
    shown = [replace(one, text=text) for one in found if (text := clean_lines(one.text))]
    starts = sorted(one.start_ms for one in shown if one.start_ms is not None)
    cues = [cue for one in shown if (cue := _mended(one, starts, tell)) is not None]
    cues.sort(key=lambda cue: cue.start_ms)
    return said_once(list(dict.fromkeys(cues)))


def _mended(one: Found, starts: Sequence[int], tell: Callable[[str], None]) -> Cue | None:
    start, end = one.start_ms, one.end_ms
    if start is None or abs(start) > _MOST_MS or abs(end or 0) > _MOST_MS:
        return tell(f"{_named(one)} has no time that can be read; it is left out")
    if end is not None and end <= 0 and start < 0:
        return tell(f"{_named(one)} ends before the film begins ({clock(end)}); it is left out")
    if end == start and not one.shown_for_0_ms:
        return tell(f"{_named(one)} is shown for no time ({clock(start)}); it is left out")
    began = max(start, 0)
    if start < 0:
        tell(f"{_named(one)} begins before the film ({clock(start)}); it begins at 0 now")
    if end is None or end <= began:
        wanted = began + max(_SHORTEST_MS, reading_ms(flat(one.text)))
        following = bisect.bisect_right(starts, began)
        mended = min([wanted, *starts[following : following + 1]])
        if end is None:
            why = "has no end"
        elif end == start:
            why = f"ends as it begins ({clock(start)})"
        else:
            why = f"ends ({clock(end)}) before it begins ({clock(start)})"
        tell(f"{_named(one)} {why}; it is shown until {clock(mended)} now")
        end = mended
    return Cue(began, end, one.text, one.speaker, one.position, one.italic)


def _named(one: Found) -> str:
    text = flat(one.text)
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
    return f'{one.place}: the cue "{short}"'


@dataclass(slots=True)
class _Roll:
    """How a cue goes on from the one before: lines that are shown again, grown or new."""

    grown: str
    """The last line of the one before as it is now; "" where it is the same."""
    new: list[str]


def _roll(before: Cue, cue: Cue) -> _Roll | None:
    """How the cue repeats the one before; None where it does not, or comes too late for it."""
    pause_ms = cue.start_ms - before.end_ms
    if before.speaker != cue.speaker:
        return None
    old, lines = before.text.split("\n"), cue.text.split("\n")
    for count in range(min(len(old), len(lines), _MOST_LINES), 0, -1):
        if pause_ms > (_ROLLING_MS if lines[count:] else _TOUCHING_MS):
            continue
        if old[len(old) - count : -1] != lines[: count - 1]:
            continue
        last, now = old[-1], lines[count - 1]
        if now == last:
            return _Roll("", lines[count:])
        if now.startswith(f"{last} "):
            return _Roll(now, lines[count:])
    return None


def said_once(cues: Sequence[Cue]) -> list[Cue]:
    """The cues, of roll-up captions each line once: from when it appears, until the next does.

    Captions roll where at least three follow each other nearly without a pause, each of which
    repeats lines of the one before, and one of which adds something to them.
    """
    said: list[Cue] = []
    first = 0
    while first < len(cues):
        rolls: list[_Roll] = []
        while first + len(rolls) + 1 < len(cues):
            at = first + len(rolls)
            roll = _roll(cues[at], cues[at + 1])
            if roll is None:
                break
            rolls.append(roll)
        chain = cues[first : first + len(rolls) + 1]
        first += len(chain)
        added = any(roll.grown or roll.new for roll in rolls)
        said += _unrolled(chain, rolls) if len(rolls) >= _LEAST_ROLLS and added else chain
    return said


def _unrolled(chain: Sequence[Cue], rolls: Sequence[_Roll]) -> list[Cue]:
    # where rolling lines stand says nothing about a line on its own
    said = [replace(chain[0], position=BELOW)]
    for cue, roll in zip(chain[1:], rolls, strict=True):
        last = said[-1]
        if roll.grown:
            *others, _ = last.text.split("\n")
            last = replace(last, text="\n".join([*others, roll.grown]))
        if not roll.new:
            last = replace(last, end_ms=max(last.end_ms, cue.end_ms))
        elif roll.grown:
            last = replace(last, end_ms=max(last.end_ms, cue.start_ms))
        said[-1] = last
        if roll.new:
            said.append(replace(cue, text="\n".join(roll.new), position=BELOW))
    return said
