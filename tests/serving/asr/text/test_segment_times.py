"""Segments held against the voice: no subtitle before somebody speaks, none long after."""

from itertools import chain, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxroute_serving.asr.engine import WindowResult, WindowSegment, Word
from voxroute_serving.asr.text.segment_times import (
    MARGIN_S,
    MIN_MISSING_S,
    REACH_S,
    TAIL_S,
    Stretch,
    closed_up,
    held_against_voice,
    parted,
    uncovered,
)


def result(*times: tuple[float, float], rest_from_s: float | None = None) -> WindowResult:
    """Segments with these times."""
    found = tuple(WindowSegment(start, end, f"text {i}") for i, (start, end) in enumerate(times))
    return WindowResult(found, rest_from_s=rest_from_s)


def held(found: WindowResult, *voice: Stretch) -> list[tuple[float, float]]:
    """The times of the segments, held against the voice."""
    return [(one.start_s, one.end_s) for one in held_against_voice(found, voice).segments]


@pytest.mark.parametrize(
    ("segment", "voice", "expected"),
    [
        ((1.2, 2.8), [(1.0, 3.0)], (1.0, 3.0)),
        ((0.0, 5.0), [(1.0, 3.0)], (1.0, 3.0)),
        ((2.1, 3.9), [(1.0, 5.0)], (2.1, 3.9)),
        ((1.9, 4.1), [(1.0, 5.0)], (1.0, 5.0)),
        ((2.9, 6.0), [(1.0, 3.0), (5.0, 5.9)], (5.0, 5.9)),
        ((3.2, 4.8), [(1.0, 3.0), (5.0, 6.0)], (3.2, 4.8)),
        ((1.0, 3.0), [], (1.0, 3.0)),
    ],
    ids=[
        "near",
        "silence at both ends",
        "amid",
        "no further than is looked for",
        "a tail of the word before",
        "no voice",
        "no vad",
    ],
)
def test_a_segment_begins_and_ends_where_a_voice_does(
    segment: tuple[float, float], voice: list[Stretch], expected: tuple[float, float]
) -> None:
    """A voice that goes on before or after it is somebody else's; a silence is nobody's."""
    assert held(result(segment), *voice) == [expected]


def test_neighbours_never_take_time_from_each_other() -> None:
    """Where one voice says two segments, the time between them stays where it was."""
    assert held(result((1.1, 2.0), (2.1, 2.9)), (1.0, 3.0)) == [(1.0, 2.0), (2.1, 3.0)]
    assert held(result((0.0, 1.0), (1.2, 2.0)), (0.0, 0.9), (1.05, 2.0)) == [
        (0.0, 0.9),
        (1.05, 2.0),
    ]


def test_the_last_segment_leaves_the_rest_of_the_window_alone() -> None:
    """What stops for want of room is followed by text of the same voice, in another decoding."""
    assert held(result((0.0, 19.8), rest_from_s=20.0), (0.0, 20.2)) == [(0.0, 19.8)]
    assert held(result((0.0, 19.8), rest_from_s=20.3), (0.0, 20.2)) == [(0.0, 20.2)]


def test_what_an_aligner_has_heard_stays() -> None:
    """The times of words are finer than those of a voice."""
    segment = WindowSegment(0.5, 2.5, "Yes", (Word("Yes", 0.5, 2.5),))
    found = WindowResult((segment,))
    assert held_against_voice(found, ((1.0, 2.0),)) == found


def cumulative(steps: list[float]) -> list[float]:
    """Times from lengths, to the millisecond."""
    at, times = 0.0, list[float]()
    for step in steps:
        at += step
        times.append(round(at, 3))
    return times


def pairs(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Stretches from pauses and lengths."""
    times = cumulative([step for pair in steps for step in pair])
    return list(zip(times[::2], times[1::2], strict=True))


VOICE = st.lists(st.tuples(st.floats(0.21, 4), st.floats(0.03, 6)), max_size=8).map(pairs)
SEGMENTS = st.lists(st.tuples(st.floats(0, 3), st.floats(0.02, 8)), max_size=8).map(pairs)


@given(SEGMENTS, VOICE)
def test_held_segments_are_ordered_and_begin_and_end_in_a_voice(
    times: list[tuple[float, float]], voice: list[Stretch]
) -> None:
    """Whatever engine and voice activity say: in order, apart, and none in a silence."""
    found = result(*times)
    done = held_against_voice(found, voice)
    assert [one.text for one in done.segments] == [one.text for one in found.segments]
    for one, other in pairwise(done.segments):
        assert one.end_s <= other.start_s
    for before, after in zip(found.segments, done.segments, strict=True):
        assert after.start_s < after.end_s
        assert before.start_s - after.start_s <= REACH_S
        assert after.end_s - before.end_s <= REACH_S
        if any(start < before.end_s and end - TAIL_S > before.start_s for start, end in voice):
            for time_s in (after.start_s, after.end_s):
                assert any(start <= time_s <= end for start, end in voice)
        elif not voice:
            assert after == before


@pytest.mark.parametrize(
    ("times", "voice", "missing"),
    [
        ([(0.0, 5.0)], [(0.0, 5.0)], []),
        ([(0.0, 2.0), (4.0, 6.0)], [(0.0, 2.0), (2.5, 3.5), (4.0, 6.0)], [(2.5, 3.5)]),
        ([(0.0, 2.0), (4.0, 6.0)], [(0.0, 2.0), (2.5, 2.8), (4.0, 6.0)], []),
        ([(0.0, 2.0), (4.0, 6.0)], [(0.0, 2.0), (2.5, 3.0), (4.0, 6.0)], [(2.5, 3.0)]),
        ([(0.0, 2.0), (4.0, 6.0)], [(0.0, 2.7), (4.0, 6.0)], []),
        ([(0.0, 2.0), (5.0, 6.0)], [(0.0, 2.0), (2.5, 2.9), (3.4, 3.9)], [(2.5, 3.9)]),
        ([(0.0, 2.0)], [(0.0, 8.0)], [(2.2, 8.0)]),
        ([(4.0, 6.0)], [(0.0, 6.0)], [(0.0, 3.8)]),
        ([], [(1.0, 3.0)], [(1.0, 3.0)]),
    ],
    ids=[
        "whole",
        "between",
        "short",
        "a word",
        "a tail",
        "words apart",
        "after",
        "before",
        "no text",
    ],
)
def test_a_voice_that_no_segment_covers_is_found(
    times: list[tuple[float, float]], voice: list[Stretch], missing: list[Stretch]
) -> None:
    """Words with a pause between them are one stretch; a breath beside a segment is none."""
    found = uncovered(result(*times).segments, voice)
    assert len(found) == len(missing)
    assert [*chain(*found)] == pytest.approx([*chain(*missing)])


def test_marks_without_words_stand_for_no_voice() -> None:
    """A row of full stops, or a note of music, leaves a voice without text."""
    for text in ("...", "।", "♪"):
        assert uncovered([WindowSegment(0.0, 3.0, text)], [(0.0, 3.0)]) == [(0.0, 3.0)]


def test_what_is_too_short_to_be_told_goes_to_the_segments_beside_it() -> None:
    """A breath between two to the first, an onset to the next; what is told stays nobody's."""
    voice, told = [(0.0, 5.0), (6.0, 9.0)], [(7.2, 8.0)]
    found = closed_up(result((0.3, 2.0), (2.5, 4.6), (6.0, 7.0)).segments, voice, told)
    assert [(one.start_s, one.end_s) for one in found] == [(0.0, 2.5), (2.5, 5.0), (6.0, 7.2)]
    aligned = [WindowSegment(0.5, 2.5, "Yes", (Word("Yes", 0.5, 2.5),))]
    assert closed_up(aligned, voice, ()) == aligned


@settings(deadline=None)  # a busy machine
@given(
    st.lists(st.floats(0.05, 3.0), min_size=2, max_size=16),
    st.lists(st.floats(0.05, 4.0), max_size=12),
)
def test_all_of_a_voice_is_in_a_segment_or_told_but_for_blips(
    voice_steps: list[float], segment_steps: list[float]
) -> None:
    """Whatever the segments are, and none of them overlaps another for it."""
    voice = _stretches(voice_steps)
    segments = held_against_voice(result(*_stretches(segment_steps)), voice).segments
    told = uncovered(segments, voice)
    found = closed_up(segments, voice, told)
    for one, following in pairwise(found):
        assert one.end_s <= max(following.start_s, one.start_s) + 1e-9 or one in segments
    cover = [*((one.start_s, one.end_s) for one in found), *told]
    for start_s, end_s in voice:
        at_s = start_s
        for from_s, to_s in sorted(cover):
            if from_s <= at_s + 1e-9:
                at_s = max(at_s, to_s)
        touched = any(a < end_s and b > start_s for a, b in cover)
        assert at_s >= end_s - 1e-9 or not touched
        assert touched or end_s - start_s < MIN_MISSING_S + 2 * MARGIN_S


def _stretches(steps: list[float]) -> list[Stretch]:
    """Lengths of sound and silence in turn, as stretches."""
    times = cumulative(steps)
    return list(zip(times[::2], times[1::2], strict=False))


def test_no_segment_stands_across_a_pause_that_was_left_out() -> None:
    """Each side has its own segment; a word in the quiet before belongs to the next."""
    attended = tuple(
        Word(text, start, end)
        for text, start, end in [
            ("Come", 0.5, 0.9),
            (" in.", 0.9, 1.6),
            (" Years", 1.9, 2.5),
            (" later.", 2.5, 3.2),
        ]
    )
    one = WindowSegment(0.5, 3.2, "Come in. Years later.", attended=attended)
    found = parted(WindowResult((one,)), [2.0], [(0.5, 1.8), (2.2, 3.2)]).segments
    assert [(part.start_s, part.end_s, part.text) for part in found] == [
        (0.5, 2.0, "Come in."),
        (2.0, 3.2, "Years later."),
    ]
    assert [len(part.attended) for part in found] == [2, 2]


@given(
    text=st.text(alphabet="ab \n।好.", min_size=1, max_size=40),
    breaks=st.lists(st.floats(0, 30), max_size=5),
    times=st.tuples(st.floats(0, 30), st.floats(0, 30)),
)
def test_parting_loses_no_letter(
    text: str, breaks: list[float], times: tuple[float, float]
) -> None:
    """Also where the engine knows no times of words; parts stay in order."""
    one = WindowSegment(min(times), max(times), text)
    found = parted(WindowResult((one,)), sorted(breaks), []).segments
    assert "".join("".join(part.text.split()) for part in found) == "".join(text.split())
    ends = [time for part in found for time in (part.start_s, part.end_s)]
    assert ends == sorted(ends)
