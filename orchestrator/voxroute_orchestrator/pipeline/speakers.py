"""Whose words a transcript's are: pure functions from segments and speaker turns to segments."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from voxroute_orchestrator.transcript import Segment, Turn, Word


def assign(segments: Sequence[Segment], turns: Sequence[Turn]) -> list[Segment]:
    """The segments with their speakers, in the same order.

    The speaker of a stretch is the one whose turns overlap it longest, the first of the turns
    where two do equally; "" where no turn does. A segment with words is split where its speaker
    changes; a word that no turn overlaps goes with the words before it, or those after it at the
    segment's start. The first part begins where the segment began, the last one ends where it
    ended; the parts between meet their words. Each part takes the segment's other values, `id`
    too, so that ids are no longer unique: `renumbered` makes them so.

    The text of a segment that is split is that of its words; one that is not split keeps its own.
    """
    lookup = _Lookup(turns)
    return [part for segment in segments for part in _parts(segment, lookup)]


def renumbered(segments: Iterable[Segment], first: int = 1) -> list[Segment]:
    """The segments with ids that count from `first`."""
    return [
        segment.model_copy(update={"id": number}) for number, segment in enumerate(segments, first)
    ]


class _Lookup:
    """Turns by time, so that a long recording takes no longer for each of its words."""

    _BIN_S = 10.0

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._bins: defaultdict[int, list[Turn]] = defaultdict(list)
        for turn in sorted(turns, key=lambda turn: (turn.start_s, turn.end_s, turn.speaker)):
            for number in self._numbers(turn.start_s, turn.end_s):
                self._bins[number].append(turn)

    def _numbers(self, start_s: float, end_s: float) -> range:
        return range(int(start_s // self._BIN_S), int(end_s // self._BIN_S) + 1)

    def speaker(self, start_s: float, end_s: float) -> str:
        """Who speaks longest between two times; "" for nobody."""
        near = dict.fromkeys(
            turn
            for number in self._numbers(start_s, end_s)
            if number in self._bins
            for turn in self._bins[number]
        )
        spoken_s: defaultdict[str, float] = defaultdict(float)
        for turn in near:
            overlap_s = min(end_s, turn.end_s) - max(start_s, turn.start_s)
            # a word that takes no time belongs to the turn that it stands in
            if overlap_s > 0 or (start_s == end_s and overlap_s == 0):
                spoken_s[turn.speaker] += overlap_s
        return max(spoken_s, key=lambda speaker: spoken_s[speaker], default="")


def _parts(segment: Segment, lookup: _Lookup) -> Iterator[Segment]:
    speakers = _of_words(segment.words, lookup)
    if len(set(speakers)) <= 1:
        whole = speakers[0] if speakers and speakers[0] else ""
        speaker = whole or lookup.speaker(segment.start_s, segment.end_s)
        yield segment.model_copy(update={"speaker": speaker})
        return
    runs = [
        (speaker, tuple(word for _, word in pairs))
        for speaker, pairs in groupby(
            zip(speakers, segment.words, strict=True), key=lambda pair: pair[0]
        )
    ]
    for number, (speaker, words) in enumerate(runs):
        yield segment.model_copy(
            update={
                "speaker": speaker,
                "words": words,
                "text": " ".join(word.text for word in words),
                "start_s": segment.start_s if number == 0 else words[0].start_s,
                "end_s": segment.end_s if number == len(runs) - 1 else words[-1].end_s,
            }
        )


def _of_words(words: Sequence[Word], lookup: _Lookup) -> list[str]:
    """The speaker of each word; "" for all where no turn overlaps any."""
    heard = [lookup.speaker(word.start_s, word.end_s) for word in words]
    current = next((speaker for speaker in heard if speaker), "")
    found: list[str] = []
    for speaker in heard:
        current = speaker or current
        found.append(current)
    return found
