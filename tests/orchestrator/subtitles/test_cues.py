"""Cues: what stands on the screen when; the rules are those of the module's docstring."""

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxroute_orchestrator.subtitles import cues as cues_module
from voxroute_orchestrator.subtitles.cues import (
    Cue,
    GrowingCues,
    rewrapped,
    source_cues,
    translated_cues,
    with_speakers,
)
from voxroute_orchestrator.subtitles.linebreaks import ends_sentence, pieces_of, reading_ms, wrap
from voxroute_orchestrator.subtitles.rules import CueRules
from voxroute_orchestrator.transcript import Segment, TranslatedSegment, Translation, Word

RULES = CueRules()

LATIN = [
    "a",
    "to",
    "the",
    "cat",
    "because",
    "opened,",
    "extraordinary",
    "don't",
    "(well)",
    "e\u0301",
]
HINDI = ["है", "में", "राम", "क्योंकि", "चाबी,", "इंतज़ार", "छिपाई", "विश्वविद्यालय"]
CHINESE = ["我", "昨天", "去了", "北京,", "看見", "「朋友」"]
JAPANESE = ["私は", "昨日", "東京へ", "行きました", "ちょっと", "コーヒーを", "「また」"]
KOREAN = ["저는", "어제", "서울에", "갔습니다", "친구를", "만나서"]
ARABIC = ["أين", "المفتاح؟", "على", "الطاولة،", "نعم"]
LONG = ["x" * 50, "www.example.org/" + "path/" * 20, "ख" * 45, "漢" * 40]


@dataclass(frozen=True)
class Said:
    """A word of a stream, times in milliseconds."""

    text: str
    start_ms: int
    end_ms: int
    speaker: str
    last: bool
    """Whether it ends its segment."""


@dataclass(frozen=True)
class Stream:
    """A random recording: its words and its segments."""

    said: list[Said]
    segments: list[Segment]
    blank: str


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Words of one script at any speed, with pauses, long words, sentence ends and speakers."""
    words, blank = draw(
        st.sampled_from(
            [
                (LATIN, " "), (HINDI, " "), (KOREAN, " "), (ARABIC, " "), (JAPANESE, ""),
                (CHINESE, ""), (LATIN + JAPANESE + HINDI, " "), (LATIN + LONG, " "),
                (JAPANESE + LONG[-1:], ""),
            ]
        )
    )  # fmt: skip
    ends = ["", "", "", ".", "!"] if blank else ["", "", "", "。", "…"]
    longest_ms = draw(st.sampled_from([0, 60, 300, 900, 9000]))
    pauses = draw(st.sampled_from([[0], [0, 0, 0, 40, 250], [0, 0, 700, 1300, 4000]]))
    speakers = draw(st.sampled_from([[""], ["A", "B"]]))
    said: list[Said] = []
    segments: list[Segment] = []
    now_ms = draw(st.sampled_from([0, 1500]))
    for number in range(draw(st.integers(1, 6))):
        speaker = draw(st.sampled_from(speakers))
        count = draw(st.integers(1, 25))
        first = len(said)
        for index in range(count):
            end_ms = now_ms + draw(st.integers(0, longest_ms))
            text = draw(st.sampled_from(words)) + draw(st.sampled_from(ends))
            said.append(Said(text, now_ms, end_ms, speaker, index == count - 1))
            now_ms = end_ms + draw(st.sampled_from(pauses))
        mine = said[first:]
        segments.append(
            Segment(
                id=number,
                start_s=mine[0].start_ms / 1000,
                end_s=mine[-1].end_ms / 1000,
                text=blank.join(s.text for s in mine),
                language="und",
                speaker=speaker,
                words=tuple(
                    Word(text=s.text, start_s=s.start_ms / 1000, end_s=s.end_ms / 1000)
                    for s in mine
                ),
            )
        )
    return Stream(said, segments, blank)


def bare(text: str) -> str:
    """The text without blanks."""
    return "".join(text.split())


def line_fits(line: str) -> bool:
    """An own count: 42 characters, marks not counted, or 16 of full width where one is CJK."""
    seen = [c for c in line if unicodedata.category(c) not in {"Mn", "Mc", "Me", "Cf"}]
    wide = [unicodedata.east_asian_width(c) in {"W", "F"} for c in seen]
    return len(seen) + sum(wide) <= 32 if any(wide) else len(seen) <= 42


@dataclass(frozen=True)
class Placed:
    """A cue with the words that it is made of, by number; `whole` where none of them is cut."""

    cue: Cue
    first: int
    last: int
    whole: bool
    text: str


def placed(cues: list[Cue], stream: Stream) -> list[Placed]:
    """The words of each cue, found by counting characters."""
    owners = [n for n, said in enumerate(stream.said) for _ in said.text]
    assert bare("".join(c.text for c in cues)) == "".join(s.text for s in stream.said)
    found: list[Placed] = []
    at = 0
    for cue in cues:
        end = at + len(bare(cue.text))
        first, last = owners[at], owners[end - 1]
        whole = (at == 0 or owners[at - 1] != first) and (end == len(owners) or owners[end] != last)
        text = text_of(stream, first, last)
        found.append(Placed(cue, first, last, whole, text))
        at = end
    return found


def check(stream: Stream) -> None:
    """Asserts every rule, in its order, on the cues of the stream."""
    cues = source_cues(stream.segments, RULES)
    assert grown(stream.segments).of(stream.segments) == cues
    parts = placed(cues, stream)  # rule 1
    for part in parts:
        cue = part.cue
        assert cue.end_ms > cue.start_ms >= 0  # rule 2
        assert {s.speaker for s in stream.said[part.first : part.last + 1]} == {cue.speaker}
        lines = cue.text.split("\n")
        assert len(lines) <= RULES.lines
        assert all(line_fits(line) for line in lines)  # rule 4
        assert cue.end_ms - cue.start_ms <= RULES.max_ms  # rule 6
        if part.whole:
            assert wrap(part.text) == cue.text
        for before, after in itertools.pairwise(stream.said[part.first : part.last + 1]):
            assert after.start_ms - before.end_ms <= RULES.max_pause_ms  # rule 7
    for before, after in itertools.pairwise(cues):
        assert after.start_ms - before.end_ms >= RULES.min_gap_ms  # rules 2 and 5
    check_times(stream, parts)
    for one, other in itertools.pairwise(parts):
        check_tail(stream, one, other)


def grown(segments: Sequence[Segment]) -> GrowingCues:
    """The cues of segments that came one by one."""
    growing = GrowingCues(RULES)
    for segment in segments:
        growing.add(segment)
    return growing


def text_of(stream: Stream, first: int, last: int) -> str:
    """The words from first to last as one text; segments are always joined with a blank."""
    said = stream.said[first : last + 1]
    return "".join(s.text + (" " if s.last else stream.blank) for s in said).rstrip()


def begin_ms(stream: Stream, part: Placed) -> int:
    """When the first word is said."""
    return stream.said[part.first].start_ms


def check_times(stream: Stream, parts: list[Placed]) -> None:
    """Rules 8, 9 and 11, for cues of whole words; the time within a word is a guess."""
    for number, part in enumerate(parts):
        cue = part.cue
        before = parts[number - 1] if number else None
        after = parts[number + 1] if number + 1 < len(parts) else None
        if not part.whole or (after is not None and not after.whole):
            continue
        late_ms = cue.start_ms - begin_ms(stream, part)
        pushed = before is not None and (cue.start_ms == before.cue.start_ms + 1 + RULES.min_gap_ms)
        assert late_ms >= 0
        if late_ms and not pushed:
            assert late_ms <= RULES.max_delay_ms
            assert before is not None
            assert before.cue.end_ms - before.cue.start_ms <= RULES.min_ms
        limit_ms = cue.start_ms + RULES.max_ms
        if after is not None:
            limit_ms = min(limit_ms, after.cue.start_ms - RULES.min_gap_ms)
        lasts_ms = cue.end_ms - cue.start_ms
        if lasts_ms < max(RULES.min_ms, reading_ms(cue.text)):
            assert cue.end_ms == limit_ms  # rule 11
        assert cue.end_ms >= min(limit_ms, stream.said[part.last].end_ms)
        if lasts_ms < RULES.min_ms and not pushed:
            assert after is not None
            assert may_not_join(stream, part, after)
            assert before is None or not before.whole or may_not_join(stream, before, part)


def may_not_join(stream: Stream, one: Placed, other: Placed) -> bool:
    """Whether a rule forbids a cue with the words of both (rule 9)."""
    first, last = stream.said[one.last], stream.said[other.first]
    text = text_of(stream, one.first, other.last)
    return (
        one.cue.speaker != other.cue.speaker
        or last.start_ms - first.end_ms > RULES.max_pause_ms
        or stream.said[other.last].end_ms - begin_ms(stream, one) > RULES.max_ms
        or len(wrap(text).split("\n")) > RULES.lines
    )


def check_tail(stream: Stream, one: Placed, other: Placed) -> None:
    """Rule 10: a word alone that goes on with a sentence could not be given another one."""
    words = stream.said[one.first : one.last + 1]
    if (
        not (one.whole and other.whole)
        or other.first != other.last
        or len(pieces_of(other.text)) > 1
        or any(len(pieces_of(word.text)) > 1 for word in words)
        or one.cue.speaker != other.cue.speaker
        or ends_sentence(words[-1].text)
        or words[-1].last
        or len(words) < 3
    ):
        return
    tail = stream.said[other.first]
    moved = words[-1]
    assert (
        tail.start_ms - moved.end_ms > RULES.max_pause_ms
        or tail.end_ms - moved.start_ms > RULES.max_ms
        # the cue before would become a short one
        or moved.start_ms - RULES.min_gap_ms - words[0].start_ms < RULES.min_ms
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams())
def test_cues_of_any_speech_keep_the_rules(stream: Stream) -> None:
    """Whatever is said in whatever script at whatever speed, only rules that may yield do."""
    check(stream)


@pytest.mark.slow  # thousands of recordings, minutes; the default tier takes sixty
@pytest.mark.timeout(3600)
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams())
def test_cues_of_very_much_speech_keep_the_rules(stream: Stream) -> None:
    """As above, with many more recordings."""
    check(stream)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 40_000),
            st.floats(-1, 60),
            st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn", "Co"]),
                    max_size=200),
            st.sampled_from(["", "A"]),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_segments_of_any_kind_are_shown_whole_and_in_order(
    drawn: list[tuple[float, float, str, str]],
) -> None:
    """Texts without word times, overlapping and backward times: rules 1 to 6 hold all the same."""
    segments = [
        Segment(id=n, start_s=start, end_s=start + length, text=text, language="und", speaker=who)
        for n, (start, length, text, who) in enumerate(drawn)
    ]
    cues = source_cues(segments)
    ordered = sorted(segments, key=lambda s: round(s.start_s * 1000))
    assert bare("".join(c.text for c in cues)) == bare("".join(s.text for s in ordered))
    for cue in cues:
        assert 0 < cue.end_ms - cue.start_ms <= RULES.max_ms
        assert len(cue.text.split("\n")) <= RULES.lines
        assert wrap(cue.text.replace("\n", " ")).count("\n") < RULES.lines
    for before, after in itertools.pairwise(cues):
        assert after.start_ms - before.end_ms >= RULES.min_gap_ms


def segment(number: int, start_s: float, end_s: float, text: str, **more: object) -> Segment:
    """A segment in Hindi."""
    return Segment(id=number, start_s=start_s, end_s=end_s, text=text, language="hi", **more)  # type: ignore[arg-type]


def translation(*texts: str) -> Translation:
    """A translation of segments that count from 0; an empty text is one that failed."""
    return Translation(
        items=[
            TranslatedSegment(segment_id=number, text=text, status="OK" if text else "FAILED")
            for number, text in enumerate(texts)
        ]
    )


def test_a_long_segment_is_cut_at_its_sentences_and_words() -> None:
    """Where words have times, a cue begins with its first word."""
    text = (
        "यह पहला वाक्य है जो काफ़ी लम्बा है और चलता ही जाता है। यह दूसरा वाक्य है और यह भी उतना ही"
        " लम्बा है जितना पहला। और यह तीसरा वाक्य है।"
    )
    words = tuple(
        Word(text=word, start_s=index * 0.5, end_s=index * 0.5 + 0.4)
        for index, word in enumerate(text.split())
    )
    cues = source_cues([segment(0, 0, 20, text, words=words)])
    assert [cue.text.split()[-1] for cue in cues if cue.text.endswith("।")] == [
        "है।", "पहला।", "है।",
    ]  # fmt: skip
    index = len(cues[0].text.split())
    assert cues[1].start_ms == index * 500


def test_tiny_neighbours_become_one_cue_and_voices_stay_apart() -> None:
    """Cues too short to read are joined, unless two people speak."""
    texts = [(0, 0.4, "हाँ।"), (0.4, 0.8, "नहीं।"), (0.8, 2.4, "मुझे नहीं पता।")]
    cues = source_cues([segment(n, *t) for n, t in enumerate(texts)])
    assert [cue.text for cue in cues] == ["हाँ। नहीं। मुझे नहीं पता।"]
    voices = ["A", "B", "A"]
    cues = source_cues([segment(n, *t, speaker=voices[n]) for n, t in enumerate(texts)])
    assert [(cue.speaker, cue.text) for cue in cues] == [
        ("A", "हाँ।"), ("B", "नहीं।"), ("A", "मुझे नहीं पता।"),
    ]  # fmt: skip


def test_a_short_cue_is_relieved_by_a_later_beginning_of_the_next() -> None:
    """The next cue waits, by no more than the delay that is allowed."""
    cues = source_cues(
        [
            segment(0, 0, 0.9, "हाँ।", speaker="A"),
            segment(1, 0.9, 4, "नहीं, कभी नहीं।", speaker="B"),
        ]
    )
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(0, 1000), (1083, 4000)]


def test_a_failed_translation_is_seen_in_the_subtitles() -> None:
    """The source's text stands in brackets that say so; it never passes for a translation."""
    segments = [segment(0, 0, 0.5, "एक"), segment(1, 0.5, 1, "दो"), segment(2, 1, 3, "तीन")]
    cues = translated_cues(segments, translation("one", "", "three"))
    assert [cue.text for cue in cues] == ["one", "[untranslated: दो]", "three"]


def test_a_translation_longer_than_its_time_goes_on_in_the_pause() -> None:
    """It stays until it can be read, or until the gap before the next cue."""
    text = "This is much more to read than a second allows."
    segments = [segment(0, 0, 1, "एक"), segment(1, 9, 10, "दो")]
    first, _ = translated_cues(segments, translation(text, "two"))
    assert (first.start_ms, first.end_ms) == (0, reading_ms(text))
    segments = [segment(0, 0, 1, "एक"), segment(1, 1.9, 4, "दो")]
    first, second = translated_cues(segments, translation(text, "two"))
    assert (first.end_ms, second.start_ms) == (1900 - RULES.min_gap_ms, 1900)


def test_a_translation_is_wrapped_in_its_own_script() -> None:
    """Japanese lines have at most 16 characters of full width, whatever the source has."""
    text = "昨日の夜、ラームは鍵を隠しましたが、誰もそれに気がつきませんでした。"
    cues = translated_cues([segment(0, 0, 9, "क" * 80)], translation(text))
    assert "".join(bare(cue.text) for cue in cues) == text
    assert all(len(line) <= 16 for cue in cues for line in cue.text.split("\n"))


def test_speakers_are_named_in_the_text_where_that_is_asked_for() -> None:
    """Each time that another speaks, within the rules."""
    segments = [
        segment(0, 0, 2, "एक", speaker="Asha"),
        segment(1, 4, 6, "दो", speaker="Asha"),
        segment(2, 6, 8, "तीन", speaker="Ravi"),
    ]
    cues = source_cues(segments, speaker_prefix=True)
    assert [cue.text for cue in cues] == ["Asha: एक", "दो", "Ravi: तीन"]
    plain = source_cues(segments)
    assert [cue.text for cue in with_speakers(plain)] == [cue.text for cue in cues]


def test_times_of_a_file_stay_and_its_texts_are_wrapped() -> None:
    """A text that one cue cannot hold shares the cue's time."""
    assert rewrapped(Cue(5, 700, "short", "A")) == [Cue(5, 700, "short", "A")]
    assert rewrapped(Cue(5, 700, " ")) == []
    text = "I told you not to go there, but you never listen to me. " * 4
    cues = rewrapped(Cue(1000, 9000, text))
    assert len(cues) == 4
    assert (cues[0].start_ms, cues[-1].end_ms) == (1000, 9000)
    assert bare("".join(cue.text for cue in cues)) == bare(text)
    for before, after in itertools.pairwise(cues):
        assert after.start_ms - before.end_ms == RULES.min_gap_ms


def test_other_rules_make_other_cues() -> None:
    """The limits are those of the object that is given."""
    rules = CueRules(line_characters=20, lines=1, max_ms=3000, min_ms=500)
    text = "I told you not to go there, but you never listen to me"
    cues = source_cues([segment(0, 0, 8, text)], rules)
    assert all(len(cue.text) <= 20 and "\n" not in cue.text for cue in cues)
    assert all(cue.end_ms - cue.start_ms <= 3000 for cue in cues)


def spoken(number: int, start_s: float, text: str = "It goes on.") -> Segment:
    """A segment of a second."""
    return Segment(id=number, start_s=start_s, end_s=start_s + 1, text=text, language="en")


def test_little_is_left_to_lay_out_when_the_last_segment_is_there() -> None:
    """What stands before a long pause is done by then."""
    segments = [spoken(n, 5.0 * n) for n in range(40)]
    growing = grown(segments)
    with mock.patch.object(cues_module, "cut", wraps=cues_module.cut) as cut:
        cues = growing.of(segments)
    assert cut.call_count == 1
    assert cues == source_cues(segments, RULES)


@pytest.mark.parametrize(
    "changed",
    [
        lambda segments: segments[1:],  # one is left out
        lambda segments: [segments[0].model_copy(update={"speaker": "A"}), *segments[1:]],
        lambda segments: [*segments, spoken(9, 90.0)],
        lambda _: [],
    ],
)
def test_segments_that_were_changed_since_are_laid_out_anew(
    changed: Callable[[list[Segment]], list[Segment]],
) -> None:
    """Speakers, words and languages may come at the end."""
    segments = [spoken(n, 5.0 * n) for n in range(4)]
    now = changed(segments)
    assert grown(segments).of(now) == source_cues(now, RULES)


@given(st.lists(st.tuples(st.sampled_from(range(12)), st.sampled_from(["So.", "", " "]))))
@settings(deadline=None)
def test_segments_may_come_in_any_order(said: list[tuple[int, str]]) -> None:
    """Or have no text."""
    segments = [spoken(n, 2.0 * at, text) for n, (at, text) in enumerate(said)]
    assert grown(segments).of(segments) == source_cues(segments, RULES)
