"""The times of a window's segments, held against the voice. Pure.

An engine tells to a tenth of a second or two where words are; voice activity, which does not know
words, tells to a frame where a voice begins and ends. A segment that begins near the onset of a
voice begins there, and none begins or ends in a silence.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from voxroute_serving.asr.engine import WindowResult, WindowSegment, Word

MIN_MISSING_S = 0.8  # s of voice without text that may hold words
MIN_ALONE_S = 0.4  # s of voice between two pauses that may hold words: "Hola" takes so long
MARGIN_S = 0.2  # s of voice beside a segment that are its own: words fade out
# s; an onset or an end that is nearer is that of the segment: what is too short to be looked for
# belongs to the text beside it
REACH_S = MIN_MISSING_S + MARGIN_S
_JOINED_S = 1.0  # s; voices without text that are nearer are one
_ROUNDING_S = 0.01
TAIL_S = 0.15  # s; what is left of a voice that short belongs to the word before
Stretch = tuple[float, float]


def parted(result: WindowResult, breaks: Sequence[float], voice: Sequence[Stretch]) -> WindowResult:
    """The result with no segment across a break, where a pause was left out of the window.

    The voice before a break ends `padding` earlier, so a word that begins after that end, to
    TAIL_S, is one of the next segment. `breaks` are seconds from the start of the window.
    """
    segments = list(result.segments)
    for at_s in breaks:
        ends = [end for start, end in voice if start < at_s and end <= at_s + TAIL_S]
        faded_s = min(at_s, ends[-1]) if ends and at_s - ends[-1] <= REACH_S else at_s
        segments = [
            part for segment in segments for part in _parts(segment, at_s, faded_s - TAIL_S)
        ]
    return replace(result, segments=tuple(segments))


def _parts(segment: WindowSegment, at_s: float, faded_s: float) -> list[WindowSegment]:
    """The segment, or what stands of it before and after a break in it."""
    if not segment.start_s < at_s < segment.end_s:
        return [segment]
    attended = segment.attended or evenly(segment)
    before = [word for word in attended if word.start_s < faded_s]
    after = [word for word in attended if word.start_s >= faded_s]
    if not before:
        return [replace(segment, start_s=at_s)]
    if not after:
        return [replace(segment, end_s=at_s)]
    n_before = sum(word.start_s < faded_s for word in segment.words)
    return [
        replace(
            segment,
            start_s=start_s,
            end_s=end_s,
            text="".join(word.text for word in words).strip(),
            words=aligned,
            attended=tuple(words),
        )
        for start_s, end_s, words, aligned in (
            (segment.start_s, at_s, before, segment.words[:n_before]),
            (at_s, segment.end_s, after, segment.words[n_before:]),
        )
    ]


def evenly(segment: WindowSegment) -> list[Word]:
    """The words of a segment, each with the share of its time that it has of its letters."""
    words = re.findall(r"\s*\S+\s*$|\s*\S+", segment.text)
    bounds = [0, *itertools.accumulate(map(len, words))]
    scale_s = (segment.end_s - segment.start_s) / max(1, bounds[-1])
    return [
        Word(word, segment.start_s + scale_s * begin, segment.start_s + scale_s * end)
        for word, (begin, end) in zip(words, pairwise(bounds), strict=True)
    ]


def held_against_voice(result: WindowResult, voice: Sequence[Stretch]) -> WindowResult:
    """The result with its segments begun and ended where a voice does.

    `voice` are stretches in seconds from the start of the window, in order. Without any, and for
    segments with words, whose times an aligner has heard, all stays as it is.
    """
    if not voice or not result.segments:
        return result
    segments: list[WindowSegment] = []
    floor_s = 0.0
    rest_s = float("inf") if result.rest_from_s is None else result.rest_from_s
    ceilings = [*(later.start_s for _, later in pairwise(result.segments)), rest_s]
    for segment, ceiling_s in zip(result.segments, ceilings, strict=True):
        held = segment if segment.words else _held(segment, voice, floor_s, ceiling_s)
        segments.append(held)
        floor_s = held.end_s
    return replace(result, segments=tuple(segments))


def _held(
    segment: WindowSegment, voice: Sequence[Stretch], floor_s: float, ceiling_s: float
) -> WindowSegment:
    start_s = _start(segment.start_s, voice, floor_s)
    end_s = _end(segment.end_s, voice, ceiling_s)
    if end_s <= start_s:  # all of it in one silence: nothing speaks for either side
        return segment
    return replace(segment, start_s=start_s, end_s=end_s)


def _start(time_s: float, voice: Sequence[Stretch], floor_s: float) -> float:
    """The onset that a start belongs to; the start itself amid a voice that goes on."""
    following = next(((start, end) for start, end in voice if end - TAIL_S > time_s), None)
    if following is None:
        return time_s
    onset_s = following[0]
    if onset_s >= time_s or (onset_s >= floor_s and time_s - onset_s <= REACH_S):
        return onset_s
    return time_s


def _end(time_s: float, voice: Sequence[Stretch], ceiling_s: float) -> float:
    """The end of the voice that an end belongs to; the end itself amid a voice that goes on."""
    before = [(start, end) for start, end in voice if start < time_s]
    if not before:
        return time_s
    fades_s = before[-1][1]
    if fades_s <= time_s or (fades_s <= ceiling_s and fades_s - time_s <= REACH_S):
        return fades_s
    return time_s


def uncovered(segments: Sequence[WindowSegment], voice: Sequence[Stretch]) -> list[Stretch]:
    """Stretches of MIN_MISSING_S or longer in which a voice sounds and no segment stands.

    Whisper leaves out what is said now and then, sure of itself; only the voice tells. A segment
    without a letter or a digit, a note of music or a row of dots, stands for no voice.
    """
    taken = [(one.start_s - MARGIN_S, one.end_s + MARGIN_S) for one in segments if _has_words(one)]
    free: list[Stretch] = []
    alone: set[Stretch] = set()
    for start_s, end_s in voice:
        met = [(a, b) for a, b in taken if b - MARGIN_S > start_s and a + MARGIN_S < end_s]
        if not met and end_s - start_s >= MIN_ALONE_S:
            alone.add((start_s, end_s))
        at_s = start_s
        for taken_from, taken_to in met:
            free.append((at_s, taken_from))
            at_s = max(at_s, taken_to)
        free.append((at_s, end_s))
    joined: list[list[Stretch]] = []
    for start_s, end_s in free:
        if end_s <= start_s:
            continue
        before = joined[-1][-1][1] if joined else -_JOINED_S
        apart = any(before <= a and b <= start_s for a, b in taken)
        if joined and start_s - before < _JOINED_S and not apart:
            joined[-1].append((start_s, end_s))
        else:
            joined.append([(start_s, end_s)])
    return [
        (parts[0][0], parts[-1][1])
        for parts in joined
        if parts[-1][1] - parts[0][0] >= MIN_MISSING_S or not alone.isdisjoint(parts)
    ]


def beside(segments: Sequence[WindowSegment], stretch: Stretch) -> list[int]:
    """The indices of segments that begin or end amid a voice that goes on without text there."""
    start_s, end_s = stretch
    near_s = MARGIN_S + _ROUNDING_S
    return [
        index
        for index, one in enumerate(segments)
        if abs(start_s - one.end_s) <= near_s or abs(one.start_s - end_s) <= near_s
    ]


def _has_words(segment: WindowSegment) -> bool:
    """Whether it has a letter or a digit: a note of music or a row of dots has not."""
    return any(map(str.isalnum, segment.text))


def closed_up(
    segments: Sequence[WindowSegment], voice: Sequence[Stretch], told: Sequence[Stretch]
) -> list[WindowSegment]:
    """The segments, and with them what is left of their voice but for stretches that are told.

    That is the edge of a word, a breath, a word too short to be looked for. It goes to the segment
    before, for people read more slowly than they hear; at an onset to the first one. Words that an
    aligner has heard stay where they are.
    """
    held = list(segments)
    for start_s, end_s in _without(voice, told):
        met = [
            i
            for i, one in enumerate(held)
            if one.start_s < end_s and one.end_s > start_s and _has_words(one)
        ]
        if not met:
            continue
        ceilings = [*(held[i].start_s for i in met[1:]), end_s]
        for i, ceiling_s in zip(met, ceilings, strict=True):
            one = held[i]
            from_s = min(one.start_s, start_s) if i == met[0] else one.start_s
            if not one.words:
                held[i] = replace(one, start_s=from_s, end_s=max(one.end_s, ceiling_s))
    return held


def _without(voice: Sequence[Stretch], told: Sequence[Stretch]) -> list[Stretch]:
    left = list(voice)
    for from_s, to_s in told:
        left = [
            part
            for start_s, end_s in left
            for part in ((start_s, min(end_s, from_s)), (max(start_s, to_s), end_s))
            if part[1] > part[0]
        ]
    return left
