"""Timestamp tokens to segments: the answer is written down first, then recovered from tokens."""

from hypothesis import given
from hypothesis import strategies as st

from voxroute_asr_mlx.segments import TOKEN_S, Split, split, within

END, BEGIN = 50257, 50364  # <|endoftext|> and <|0.00|> of the multilingual vocabulary


def at(second: float) -> int:
    """The timestamp token of a second."""
    return BEGIN + round(second / TOKEN_S)


def split_of(*tokens: int, start_s: float = 0.0, duration_s: float = 30.0) -> Split:
    """The split of tokens that were decoded at `start_s`."""
    return split(
        tokens,
        timestamp_begin=BEGIN,
        end_of_text=END,
        start_s=start_s,
        duration_s=duration_s,
    )


def test_pairs_of_timestamps_separate_segments() -> None:
    """A closing timestamp at the end means that nothing follows in the window."""
    found = split_of(at(0), 1, 2, at(2), at(3), 3, at(5), start_s=10)
    assert [(s.start_s, s.end_s, s.tokens) for s in found.segments] == [
        (10, 12, (1, 2)),
        (13, 15, (3,)),
    ]
    assert found.rest_from_s is None


def test_unfinished_text_is_decoded_again_from_the_last_timestamp() -> None:
    """Text without an end was cut by the window; its audio is decoded anew, not guessed at."""
    found = split_of(at(0), 1, at(20), at(20), 2, 3)
    assert [s.tokens for s in found.segments] == [(1,)]
    assert found.rest_from_s == 20


def test_unfinished_text_without_audio_behind_it_is_kept() -> None:
    """Where too little audio is left to decode again the text must not be lost."""
    found = split_of(at(0), 1, at(20), at(20), 2, 3, duration_s=20.1)
    assert [(s.start_s, s.end_s, s.tokens) for s in found.segments] == [
        (0, 20, (1,)),
        (20, 20.1, (2, 3)),
    ]
    assert found.rest_from_s is None


def test_text_without_pairs_is_one_segment() -> None:
    """Its times are its own first and last timestamp, else the whole stretch."""
    only = split_of(at(1), 1, 2, at(4)).segments[0]
    assert (only.start_s, only.end_s, only.tokens) == (1, 4, (1, 2))
    bare = split_of(1, 2, duration_s=7).segments[0]
    assert (bare.start_s, bare.end_s) == (0, 7)


texts = st.lists(st.lists(st.integers(0, END - 1), min_size=1, max_size=4), min_size=1, max_size=5)


@given(texts, st.data())
def test_any_well_formed_text_comes_back(parts: list[list[int]], data: st.DataObject) -> None:
    """Whatever was written between timestamps is found again, in order and with its times."""
    marks = sorted(
        data.draw(
            st.lists(
                st.integers(0, 1500), min_size=2 * len(parts), max_size=2 * len(parts), unique=True
            )
        )
    )
    tokens: list[int] = []
    for index, part in enumerate(parts):
        tokens += [BEGIN + marks[2 * index], *part, BEGIN + marks[2 * index + 1]]
    found = split_of(*tokens)
    assert [list(s.tokens) for s in found.segments] == parts
    times = [round(t / TOKEN_S) for s in found.segments for t in (s.start_s, s.end_s)]
    assert times == marks
    assert found.rest_from_s is None


@given(
    st.floats(-1, 31),
    st.floats(-1, 31),
    st.floats(0, 30),
    st.floats(1 / 16000, 30),
)
def test_times_stay_in_the_window(start: float, end: float, earliest: float, length: float) -> None:
    """A model may place text in the padding; a segment ends after it starts, within the audio."""
    start_s, end_s = within(start, end, earliest_s=min(earliest, length), duration_s=length)
    assert 0 <= start_s < end_s <= length
