"""What a person should know of a recording, in sentences."""

from collections.abc import Iterator
from typing import NamedTuple

NAMED = 3  # places that are named one by one


class Remark(NamedTuple):
    """What a person should know of a recording: a stable code and a sentence."""

    code: str
    message: str


class Event(NamedTuple):
    """Something that was found at a media time; `length_s` where it has one."""

    at_s: float
    length_s: float


def told_holes(holes: list[Event]) -> Iterator[Remark]:
    """What is told of stretches without audio."""
    for hole in holes[:NAMED]:
        yield Remark(
            "AUDIO_GAP",
            f"the file has no audio between {hole.at_s:.1f} and {hole.at_s + hole.length_s:.1f} s,"
            " by design or by damage; it is taken as silence",
        )
    if len(holes) > NAMED:
        total_s = sum(hole.length_s for hole in holes)
        yield Remark(
            "AUDIO_GAP",
            f"the file has no audio in {len(holes)} places, {total_s:.1f} s in all; they are taken"
            " as silence",
        )


def told_places(times: list[float]) -> str:
    """Places of a recording, the first of them by their times."""
    named = ", ".join(f"{at_s:.1f} s" for at_s in times[:NAMED])
    more = len(times) - NAMED
    return named if more <= 0 else f"{named} and {more} more place{'s' * (more > 1)}"
