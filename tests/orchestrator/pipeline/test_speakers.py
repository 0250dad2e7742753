"""Speakers to segments: who says which word, whatever the turns look like."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from voxroute_orchestrator.pipeline.speakers import assign, renumbered
from voxroute_orchestrator.transcript import Segment, Turn, Word

A, B = "SPEAKER_00", "SPEAKER_01"


def segment(
    start_s: float, end_s: float, *words: tuple[str, float, float], id_: int = 1
) -> Segment:
    """A segment; its text is that of its words, or "text"."""
    made = tuple(Word(text=text, start_s=start, end_s=end) for text, start, end in words)
    text = " ".join(word.text for word in made) or "text"
    return Segment(
        id=id_, start_s=start_s, end_s=end_s, text=text, language="en", words=made,
        avg_log_prob=-0.2, flags=("LOW_CONFIDENCE",),
    )  # fmt: skip


def test_a_segment_belongs_to_whoever_speaks_longest_in_it() -> None:
    """Overlaps of one speaker add up; the others of the segment's values stay."""
    turns = [Turn(0, 2, A), Turn(2, 5, B), Turn(5, 8, A)]
    (found,) = assign([segment(1.5, 7)], turns)
    assert found == segment(1.5, 7).model_copy(update={"speaker": B})
    (found,) = assign([segment(0, 8)], turns)
    assert found.speaker == A


def test_a_tie_goes_to_whoever_speaks_first() -> None:
    """The same input gives the same answer, in whatever order the turns come."""
    for turns in ([Turn(0, 1, B), Turn(1, 2, A)], [Turn(1, 2, A), Turn(0, 1, B)]):
        assert assign([segment(0, 2)], turns)[0].speaker == B


def test_nobody_speaks_where_no_turn_is() -> None:
    """No guess: the speaker is empty, with words and without."""
    for one in (segment(0, 2), segment(0, 2, ("hm", 0.5, 1.0))):
        assert assign([one], [Turn(3, 4, A)]) == [one]
    assert assign([segment(0, 2)], []) == [segment(0, 2)]


def test_a_segment_of_two_speakers_is_split_between_words() -> None:
    """The parts keep the segment's outer times and its id, and meet their words inside."""
    one = segment(0, 6, ("Where", 0.5, 1), ("is", 1, 1.5), ("Here", 3, 4), ("it", 4, 5), id_=7)
    first, second = assign([one], [Turn(0, 2, A), Turn(2.5, 6, B)])
    assert (first.text, first.speaker, first.start_s, first.end_s) == ("Where is", A, 0, 1.5)
    assert (second.text, second.speaker, second.start_s, second.end_s) == ("Here it", B, 3, 6)
    assert (first.id, second.id) == (7, 7)
    assert first.avg_log_prob == second.avg_log_prob == -0.2
    assert [part.id for part in renumbered([first, second], 7)] == [7, 8]


def test_a_word_in_a_pause_goes_with_its_neighbours() -> None:
    """With the words before it; at the start of a segment with those after it."""
    one = segment(0, 9, ("um", 0, 1), ("yes", 2, 3), ("so", 4, 4.5), ("no", 6, 7))
    parts = assign([one], [Turn(2, 3, A), Turn(6, 7, B)])
    assert [(part.text, part.speaker) for part in parts] == [("um yes so", A), ("no", B)]


def test_a_word_without_a_length_has_the_speaker_of_its_turn() -> None:
    """Aligners give such words; they are said by somebody all the same."""
    one = segment(0, 4, ("a", 1, 1), ("b", 3, 3))
    parts = assign([one], [Turn(0, 2, A), Turn(2, 4, B)])
    assert [(part.text, part.speaker) for part in parts] == [("a", A), ("b", B)]


def test_a_segment_of_one_speaker_keeps_its_text() -> None:
    """Chinese has no blanks between words, and a text may have marks that no word has."""
    one = segment(0, 4, ("你", 1, 2), ("好", 2, 3)).model_copy(update={"text": "你好!"})
    assert assign([one], [Turn(0, 4, A)])[0].text == "你好!"


TIMES = st.floats(0, 60, allow_nan=False).map(lambda value: round(value, 3))
TURNS = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, start + length, speaker),
        TIMES, st.floats(0.01, 15), st.sampled_from([A, B, "SPEAKER_02"]),
    ),
    max_size=12,
)  # fmt: skip


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    """Segments in order; their words are in order and inside them."""
    made: list[Segment] = []
    at = 0.0
    for number in range(draw(st.integers(0, 5))):
        start = at + draw(st.floats(0, 3))
        end = start + draw(st.floats(0.1, 12))
        cuts = sorted(draw(st.lists(st.floats(start, end), max_size=12)))
        pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
        words = [(f"w{number}.{k}", a, b) for k, (a, b) in enumerate(pairs)]
        made.append(segment(start, end, *words, id_=number + 1))
        at = end
    return made


@given(segments(), TURNS)
def test_no_word_is_lost_moved_or_said_twice(made: list[Segment], turns: list[Turn]) -> None:
    """Words, texts, outer times and order survive; every part has one speaker who does speak."""
    parts = assign(made, turns)
    assert [w for p in parts for w in p.words] == [w for s in made for w in s.words]
    assert " ".join(p.text for p in parts) == " ".join(s.text for s in made)
    assert list(dict.fromkeys(p.id for p in parts)) == [s.id for s in made]
    speakers = {turn.speaker for turn in turns} | {""}
    for one in made:
        mine = [part for part in parts if part.id == one.id]
        assert (mine[0].start_s, mine[-1].end_s) == (one.start_s, one.end_s)
        assert all(part.start_s <= part.end_s for part in mine)
        assert all(a.end_s <= b.start_s for a, b in pairwise(mine))
        assert all(a.speaker != b.speaker for a, b in pairwise(mine))
        assert {part.speaker for part in mine} <= speakers


@given(segments(), TURNS)
def test_assigning_again_changes_nothing(made: list[Segment], turns: list[Turn]) -> None:
    """A transcript that has its speakers already keeps them."""
    once = assign(made, turns)
    again = assign(once, turns)
    assert [(p.text, p.speaker) for p in again if p.words] == [
        (p.text, p.speaker) for p in once if p.words
    ]


def test_ids_count_from_where_the_caller_says() -> None:
    """Pieces of a stream are numbered on from those before."""
    assert [s.id for s in renumbered([segment(0, 1), segment(1, 2)], first=5)] == [5, 6]
    assert renumbered([]) == []
