"""Cues: what stands on the screen when, made of what is said when.

Which rule yields where not all can be kept, the last first:

    never     1 text            every word is shown once, in the order in which it is said
              2 order           a cue lasts at least 1 ms and ends before the next begins
              3 voices          a cue has one speaker; a marked failure stands alone
              4 lines           no more, and none longer, than the rules allow; a word that is
                                longer than a line is cut
              5 gap             the least gap stands between any two cues
              6 longest time    also where a single word is longer
              7 pause           between its words a cue holds no longer silence than allowed
    yields    8 beginning       a cue begins with its first word; later by no more than the delay
                                allowed where the cue before needs it for its least time, and
                                where it does not itself fall below that; and by whatever rules 2
                                and 5 need where words have (nearly) the same time
              9 least time      a shorter cue is one whose next begins too soon, and that cannot
                                be joined to a neighbour under rules 3, 4, 6 and 7
             10 one-word tails  a word alone goes on with a sentence only where giving it another
                                one breaks a rule above
             11 reading speed   a cue is faster only where the longest time, or the next cue, ends
                                it
             12 good breaks     at ends of sentences, clauses and phrases

Rules 9, 10 and 12 are solved for the best of all ways to cut (`cut`), in this order: fewest short
cues, fewest one-word tails, best breaks, in which fast cues count too. Rules 8 and 11 follow from
the cut (`timed`).
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from voxroute_orchestrator.subtitles.linebreaks import (
    SENTENCE,
    Piece,
    Ruler,
    break_kind,
    flat,
    lines_of,
    pieces_of,
    reading_ms,
)
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules
from voxroute_orchestrator.subtitles.turns import turns_of
from voxroute_orchestrator.transcript import Segment, Translation, Word

# What a cut costs, in points; three of them weigh as much as 100 ms too few to read a cue.
_CUE_COST = 20  # of every cue: no more of them than the breaks are worth
_BREAK_COST = (0, 25, 45, 60, 90, 150)  # after a sentence, a clause, ...; see `break_kind`
_SEGMENT_END_COST = 10  # at most, where a segment ends: speech pauses there
_SENTENCE_INSIDE_COST = 35  # of a sentence that ends within a cue
_SEGMENT_INSIDE_COST = 40  # of a segment that ends within a cue
_LENGTH_COST = 40  # of a full cue; by the square, so that two halves are better than 9 to 1
_FAST_COST_PER_MS = 0.03


@dataclass(frozen=True, slots=True)
class Cue:
    """A text on the screen, its lines with line feeds between, and its time in milliseconds."""

    start_ms: int
    end_ms: int
    text: str
    speaker: str = ""
    position: str = ""
    """Where on the picture, as WebVTT cue settings; "" is below, in the middle."""
    italic: bool = False


@dataclass(frozen=True, slots=True)
class Track:
    """The subtitles of one language, BCP-47."""

    language: str
    cues: Sequence[Cue]


@dataclass(frozen=True, slots=True)
class TimedPiece:
    """A piece of the text and when it is said."""

    piece: Piece
    start_ms: int
    end_ms: int
    ends_segment: bool = False


@dataclass(slots=True)
class Block:
    """What may stand in one cue: one voice, without a long pause; `next_ms` is what follows."""

    speaker: str
    pieces: list[TimedPiece] = field(default_factory=list[TimedPiece])
    next_ms: int | None = None
    """When the next block begins; None after the last."""


@dataclass(frozen=True, slots=True)
class _Passage:
    """A stretch of text with its time, and its words where they are known."""

    text: str
    start_ms: int
    end_ms: int
    speaker: str = ""
    words: tuple[Word, ...] = ()
    alone: bool = False
    stretch: bool = False
    """Whether a text that is too long for its time may go on in the pause after it."""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A block in cues: where each begins, as indices of its pieces, and their texts."""

    block: Block
    bounds: list[int]
    """And the end of the last."""
    texts: list[str]


class GrowingCues:
    """The cues of a transcript in its own language, laid out while its segments come.

    What stands before a pause that no cue holds is laid out as soon as something is said behind it,
    so that little is left to do when the last segment is there.
    """

    def __init__(self, rules: CueRules = DEFAULT_RULES) -> None:
        self._rules = rules
        self._segments: list[Segment] = []
        self._laid_out: list[LaidOut] = []
        self._open: list[_Passage] = []  # since the last pause
        self._start_ms = self._end_ms = 0  # of what was said last, and of all that was said
        self._in_order = True

    def add(self, segment: Segment) -> None:
        """Takes the next segment."""
        self._segments.append(segment)
        passage = _passage(segment)
        if not flat(passage.text):
            return
        if self._open and passage.start_ms - self._end_ms > self._rules.max_pause_ms:
            (first, *_) = _timed_pieces(passage, None, self._rules)
            self._laid_out += self._of_open(first.start_ms)
            self._open = []
        self._in_order &= self._start_ms <= passage.start_ms
        self._open.append(passage)
        self._start_ms = passage.start_ms
        self._end_ms = max(self._end_ms, passage.start_ms, passage.end_ms)

    def of(self, segments: Sequence[Segment]) -> list[Cue]:
        """What `source_cues` makes of the segments; at once where they are those that came."""
        if not self._in_order or list(map(id, segments)) != list(map(id, self._segments)):
            return source_cues(segments, self._rules)
        return timed([*self._laid_out, *self._of_open(None)], self._rules)

    def _of_open(self, next_ms: int | None) -> list[LaidOut]:
        blocks = list(_blocks(self._open, self._rules))
        for block in blocks[-1:]:
            block.next_ms = next_ms
        return [_laid_out(block, self._rules) for block in blocks]


def source_cues(
    segments: Iterable[Segment], rules: CueRules = DEFAULT_RULES, *, speaker_prefix: bool = False
) -> list[Cue]:
    """The cues of a transcript in its own language.

    A word's time is its own where the segment has words that make up its text, else its share of
    the segment's. With `speaker_prefix` the text names each new speaker ("Asha: Hello").
    """
    return _cues(map(_passage, segments), rules, speaker_prefix=speaker_prefix)


def translated_cues(
    segments: Iterable[Segment],
    translation: Translation,
    rules: CueRules = DEFAULT_RULES,
    *,
    speaker_prefix: bool = False,
) -> list[Cue]:
    """The cues of a translation; one that failed shows the source's text, marked as such.

    Where a translation takes longer to read than its segment lasts, its words are spread into the
    pause that follows. Segments without an item are left out: the translation is then not
    complete.
    """
    items = {item.segment_id: item for item in translation.items}
    passages: list[_Passage] = []
    for segment in segments:
        item = items.get(segment.id)
        if item is None:
            continue
        failed = item.status == "FAILED"
        passages.append(
            _Passage(
                f"[untranslated: {flat(segment.text)}]" if failed else item.text,
                _ms(segment.start_s),
                _ms(segment.end_s),
                segment.speaker,
                alone=failed,
                stretch=True,
            )
        )
    return _cues(passages, rules, speaker_prefix=speaker_prefix)


def rewrapped(cue: Cue, rules: CueRules = DEFAULT_RULES) -> list[Cue]:
    """A cue of another maker in lines that keep the rules, its time as it is.

    Each speaker's turn begins a line. Where it has too much text for one, several share its time by
    their texts' lengths, and begin with a turn where they can.
    """
    turns = [pieces_of(str(turn), rules) for turn in turns_of(cue.text)]
    length_ms = max(cue.end_ms - cue.start_ms, 0)
    spread = iter(_spread([piece for turn in turns for piece in turn], 0, length_ms))
    parts: list[tuple[int, list[str]]] = []  # when they begin in the cue, and their lines
    for turn in turns:
        timed_pieces = list(itertools.islice(spread, len(turn)))
        for begin_ms, lines in _parts(timed_pieces, rules):
            if parts and len(parts[-1][1]) + len(lines) <= rules.lines:
                parts[-1][1].extend(lines)
            else:
                parts.append((begin_ms, lines))
    return _shared(cue, parts, rules)


def _parts(turn: Sequence[TimedPiece], rules: CueRules) -> Iterator[tuple[int, list[str]]]:
    """A turn in parts that a cue can hold: when each begins, and its lines."""
    pieces = [timed_piece.piece for timed_piece in turn]
    lines = lines_of(pieces, rules)
    if len(lines) <= rules.lines:
        yield turn[0].start_ms, lines
        return
    for first, last in itertools.pairwise(cut(Block("", list(turn)), rules)):
        yield turn[first].start_ms, lines_of(pieces[first:last], rules)


def _shared(cue: Cue, parts: Sequence[tuple[int, list[str]]], rules: CueRules) -> list[Cue]:
    """A cue for each of the parts, which share the cue's time."""
    starts = [
        # a later one at least 1 ms after the one before, whatever the file says
        cue.start_ms + max(begin_ms, number)
        for number, (begin_ms, _) in enumerate(parts)
    ]
    ends = [
        following - min(rules.min_gap_ms, (following - start) // 2)
        for start, following in itertools.pairwise(starts)
    ]
    return [
        replace(cue, start_ms=start, end_ms=max(end, start + 1), text="\n".join(lines))
        for start, end, (_, lines) in zip(starts, [*ends, cue.end_ms], parts, strict=bool(parts))
    ]


def with_speakers(cues: Iterable[Cue]) -> list[Cue]:
    """The cues, with the name of each new speaker before the text."""
    named: list[Cue] = []
    speaker = ""
    for cue in cues:
        new = cue.speaker and cue.speaker != speaker
        named.append(replace(cue, text=f"{cue.speaker}: {cue.text}") if new else cue)
        speaker = cue.speaker
    return named


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _cues(passages: Iterable[_Passage], rules: CueRules, *, speaker_prefix: bool) -> list[Cue]:
    blocks = list(_blocks(passages, rules))
    if speaker_prefix:
        _name_speakers(blocks, rules)
    return timed([_laid_out(block, rules) for block in blocks], rules)


def _passage(segment: Segment) -> _Passage:
    start_ms, end_ms = _ms(segment.start_s), _ms(segment.end_s)
    return _Passage(segment.text, start_ms, end_ms, segment.speaker, segment.words)


def _laid_out(block: Block, rules: CueRules) -> LaidOut:
    bounds = cut(block, rules)
    pieces = [timed_piece.piece for timed_piece in block.pieces]
    texts = ["\n".join(lines_of(pieces[a:b], rules)) for a, b in itertools.pairwise(bounds)]
    return LaidOut(block, bounds, texts)


def _blocks(passages: Iterable[_Passage], rules: CueRules) -> Iterator[Block]:
    """The passages in the order of their beginnings, cut at voices, failures and long pauses."""
    ordered = sorted((p for p in passages if flat(p.text)), key=lambda p: p.start_ms)
    block: Block | None = None
    alone = False
    heard_ms = 0  # the end of what is said, which is not that of a text that is stretched
    for number, passage in enumerate(ordered):
        following_ms = ordered[number + 1].start_ms if number + 1 < len(ordered) else None
        apart = passage.alone or alone
        alone = passage.alone
        for piece in _timed_pieces(passage, following_ms, rules):
            floor_ms = block.pieces[-1].start_ms if block is not None else 0
            placed = piece
            if min(piece.start_ms, piece.end_ms) < floor_ms:
                placed = replace(
                    piece,
                    start_ms=max(piece.start_ms, floor_ms),
                    end_ms=max(piece.end_ms, floor_ms),
                )
            pause_ms = placed.start_ms - heard_ms
            if (
                block is None
                or apart
                or block.speaker != passage.speaker
                or pause_ms > rules.max_pause_ms
            ):
                if block is not None:
                    block.next_ms = placed.start_ms
                    yield block
                block = Block(passage.speaker)
                apart = False
            block.pieces.append(placed)
            heard_ms = placed.end_ms
        heard_ms = min(heard_ms, max(passage.end_ms, passage.start_ms))
    if block is not None:
        yield block


def _timed_pieces(passage: _Passage, following_ms: int | None, rules: CueRules) -> list[TimedPiece]:
    pieces = pieces_of(passage.text, rules)
    start_ms, end_ms = passage.start_ms, max(passage.end_ms, passage.start_ms)
    timed_pieces = _by_words(pieces, passage.words, start_ms, end_ms)
    if timed_pieces is None:
        if passage.stretch:
            needed_ms = start_ms + reading_ms(flat(passage.text), rules)
            room_ms = needed_ms if following_ms is None else min(needed_ms, following_ms)
            end_ms = max(end_ms, room_ms)
        timed_pieces = _spread(pieces, start_ms, end_ms)
    timed_pieces[-1] = replace(timed_pieces[-1], ends_segment=True)
    return timed_pieces


def _spread(pieces: Sequence[Piece], start_ms: int, end_ms: int) -> list[TimedPiece]:
    """Each piece with its share of the time, by its length."""
    bounds = list(itertools.accumulate((len(piece.text) for piece in pieces), initial=0))
    if not pieces:
        return []
    times = [start_ms + round((end_ms - start_ms) * bound / bounds[-1]) for bound in bounds]
    return [
        TimedPiece(piece, start, end)
        for piece, (start, end) in zip(pieces, itertools.pairwise(times), strict=True)
    ]


def _by_words(
    pieces: Sequence[Piece], words: Sequence[Word], start_ms: int, end_ms: int
) -> list[TimedPiece] | None:
    """Each piece with the time of the words that it is made of; None where they do not fit.

    A piece that is a part of a word has its share of the word's time. Times outside the segment's
    are moved to its edge, and a word never begins before the one that it follows.
    """
    texts = ["".join(word.text.split()) for word in words]
    if not words or "".join(texts) != "".join(piece.text for piece in pieces):
        return None
    begins: list[int] = []  # of each character
    ends: list[int] = []
    for word, text in zip(words, texts, strict=True):
        first_ms, last_ms = _ms(word.start_s), _ms(word.end_s)
        share_ms = max(0, last_ms - first_ms) / max(1, len(text))
        begins += [first_ms + round(share_ms * index) for index in range(len(text))]
        ends += [first_ms + round(share_ms * (index + 1)) for index in range(len(text))]
    found: list[TimedPiece] = []
    at, earliest = 0, start_ms
    for piece in pieces:
        begin = min(max(begins[at], earliest), end_ms)
        at += len(piece.text)
        found.append(TimedPiece(piece, begin, min(max(ends[at - 1], begin), end_ms)))
        earliest = begin
    return found


def _name_speakers(blocks: Iterable[Block], rules: CueRules) -> None:
    """Puts the name of each new speaker before what they say."""
    speaker = ""
    for block in blocks:
        if block.speaker and block.speaker != speaker:
            at_ms = block.pieces[0].start_ms
            name = pieces_of(f"{block.speaker}:", rules)
            block.pieces[:0] = [TimedPiece(piece, at_ms, at_ms) for piece in name]
        speaker = block.speaker


def cut(block: Block, rules: CueRules = DEFAULT_RULES) -> list[int]:
    """Where the cues of the block begin, as indices of its pieces, and the end of the last.

    The cheapest of all ways, found from the front: the best way up to a piece is the best of the
    ways up to the beginning of the cue that ends there. Ways compare by their short cues, then by
    their one-word tails, then by their points.
    """
    costs = _Costs(block, rules)
    count = len(block.pieces)
    short, tails, points = [math.inf] * (count + 1), [0] * (count + 1), [0.0] * (count + 1)
    begins = [0] * (count + 1)  # of the last cue of the best way up to each piece
    short[0] = 0
    for first in range(count):
        so_far, now_tails = points[first], tails[first] + costs.is_tail(first)
        for end, (is_short, more) in enumerate(costs.of(first), first + 1):
            now_short, now_points = short[first] + is_short, so_far + more
            if now_short < short[end] or (
                now_short == short[end] and (now_tails, now_points) < (tails[end], points[end])
            ):
                short[end], tails[end], points[end] = now_short, now_tails, now_points
                begins[end] = first
            now_tails = tails[first]  # a longer cue is no tail
    bounds = [count]
    while bounds[-1]:
        bounds.append(begins[bounds[-1]])
    return bounds[::-1]


class _Costs:
    """What each possible cue of a block costs."""

    def __init__(self, block: Block, rules: CueRules) -> None:
        self._rules = rules
        self._pieces = block.pieces
        texts = [timed_piece.piece for timed_piece in block.pieces]
        self._line_ends = Ruler(texts, rules).line_ends()
        kinds = [break_kind(before, after) for before, after in itertools.pairwise(texts)]
        self._sentence_ends = [kind == SENTENCE for kind in kinds] + [True]
        self._segment_ends = [timed_piece.ends_segment for timed_piece in block.pieces]
        self._break_costs = [
            min(_BREAK_COST[kind], _SEGMENT_END_COST) if ends_segment else _BREAK_COST[kind]
            for kind, ends_segment in zip(kinds, self._segment_ends, strict=False)
        ] + [0]
        inside = [
            _SENTENCE_INSIDE_COST * sentence + _SEGMENT_INSIDE_COST * segment
            for sentence, segment in zip(self._sentence_ends, self._segment_ends, strict=True)
        ]
        self._inside = list(itertools.accumulate(inside, initial=0))
        # close enough: whether the characters beside a piece are Japanese is not asked
        reading = [reading_ms(" " * piece.blank + piece.text, rules) for piece in texts]
        self._reading = list(itertools.accumulate(reading, initial=0))
        full_ms = 1000 * rules.lines * rules.line_characters / rules.characters_per_s
        self._per_ms = _LENGTH_COST / full_ms**2
        following = [p.start_ms for p in block.pieces[1:]] + [block.next_ms]
        self._latest_ms = [
            math.inf if next_ms is None else next_ms - rules.min_gap_ms for next_ms in following
        ]
        self._points = [
            _CUE_COST + break_cost + inside
            for break_cost, inside in zip(self._break_costs, self._inside, strict=False)
        ]

    def reach(self, first: int) -> int:
        """The end of the longest cue that begins with the piece under rules 4 and 6."""
        end = first
        for _ in range(self._rules.lines):
            end = self._line_ends[end] if end < len(self._pieces) else end
        last_ms = self._pieces[first].start_ms + self._rules.max_ms
        while end > first + 1 and self._pieces[end - 1].end_ms > last_ms:
            end -= 1
        return end

    def of(self, first: int) -> list[tuple[bool, float]]:
        """Of each cue that begins with the piece, the shortest first: is it short; its points."""
        end = self.reach(first)
        start_ms, read_ms = self._pieces[first].start_ms, self._reading[first]
        inside = self._inside[first]
        min_ms, max_ms, per_ms = self._rules.min_ms, self._rules.max_ms, self._per_ms
        costs: list[tuple[bool, float]] = []
        for reading, latest_ms, points in zip(
            self._reading[first + 1 : end + 1],
            self._latest_ms[first:end],
            self._points[first:end],
            strict=True,
        ):
            needed_ms, room_ms = reading - read_ms, latest_ms - start_ms
            cost = points - inside + per_ms * needed_ms * needed_ms
            if needed_ms > room_ms or (needed_ms > max_ms and room_ms != math.inf):
                cost += _FAST_COST_PER_MS * (needed_ms - max(0, min(max_ms, room_ms)))
            costs.append((room_ms < min_ms, cost))
        return costs

    def is_tail(self, first: int) -> bool:
        """Whether the piece goes on with a sentence, so that it should not stand alone."""
        return (
            first > 0 and not self._sentence_ends[first - 1] and not self._segment_ends[first - 1]
        )


def timed(parts: Sequence[LaidOut], rules: CueRules = DEFAULT_RULES) -> list[Cue]:
    """The cues of the blocks as they are cut, with the time that each is on the screen."""
    spans = [
        (one.block, first, end, text)
        for one in parts
        for (first, end), text in zip(itertools.pairwise(one.bounds), one.texts, strict=True)
    ]
    begins = [block.pieces[first].start_ms for block, first, _, _ in spans]
    starts = _starts(begins, rules)
    cues: list[Cue] = []
    for number, (block, _, end, text) in enumerate(spans):
        start_ms = starts[number]
        wanted_ms = start_ms + max(rules.min_ms, reading_ms(text, rules))
        end_ms = min(
            max(block.pieces[end - 1].end_ms, wanted_ms),
            start_ms + rules.max_ms,
            *(start - rules.min_gap_ms for start in starts[number + 1 : number + 2]),
        )
        cues.append(Cue(start_ms, end_ms, text, block.speaker))
    return cues


def _starts(begins: Sequence[int], rules: CueRules) -> list[int]:
    """When each cue appears, given when its first word is said; rule 8."""
    starts: list[int] = []
    for number, begin_ms in enumerate(begins):
        start_ms = begin_ms
        if starts:
            spare_ms = rules.max_delay_ms
            if number + 1 < len(begins):
                own_ms = begins[number + 1] - rules.min_gap_ms - begin_ms
                spare_ms = min(spare_ms, max(0, own_ms - rules.min_ms))
            relief_ms = starts[-1] + rules.min_ms + rules.min_gap_ms
            start_ms = max(
                begin_ms,
                min(relief_ms, begin_ms + spare_ms),
                starts[-1] + 1 + rules.min_gap_ms,
            )
        starts.append(start_ms)
    return starts
