"""From words to segments: the rules, without a model."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxroute_serving.asr.text.segments import (
    MAX_SEGMENT_S,
    MIN_SILENCE_S,
    TIME_PRECISION_S,
    Piece,
    ends_sentence,
    grouped,
    joined,
    next_sound_s,
    proportional,
    sentences,
    sounding,
    tidy,
    whole_words,
)


def test_sentences_end_at_full_stops_of_every_script_and_not_within_numbers() -> None:
    """Danda, full-width stops and question marks end a sentence; 3.14 and U.S. do not."""
    assert sentences("वह आया। क्यों? 3.14 is pi. Go!") == [
        "वह आया।",
        " क्यों?",
        " 3.14 is pi.",
        " Go!",
    ]
    assert sentences("The U.S. team won. Yes.") == ["The U.S. team won.", " Yes."]
    assert sentences("你好。再见。") == ["你好。", "再见。"]
    assert ends_sentence("कहाँ हो?")
    assert not ends_sentence("कहाँ हो")


@given(st.text(alphabet="ab .?!।\n3", max_size=60))
def test_sentences_keep_every_character_but_blanks(given: str) -> None:
    """Splitting never changes the text."""
    assert "".join(sentences(given)).split() == given.split()


def from_words(words: Sequence[Piece], sound: npt.NDArray[np.bool_]) -> list[Piece]:
    """The segments of words."""
    return [joined(group) for group in grouped(words, sound)]


def words_of(*timed: tuple[float, float, str]) -> list[Piece]:
    """Words with their times."""
    return [Piece(*word) for word in timed]


def sound(*stretches: tuple[float, float], seconds: float = 30.0) -> npt.NDArray[np.bool_]:
    """Frames with sound in these stretches of a window; everywhere where there are none."""
    frames = np.full(round(seconds / TIME_PRECISION_S), not stretches)
    for start_s, end_s in stretches:
        frames[round(start_s / TIME_PRECISION_S) : round(end_s / TIME_PRECISION_S)] = True
    return frames


def test_words_become_segments_at_sentence_ends_and_pauses() -> None:
    """A segment ends with its sentence, or where nobody speaks for a while."""
    words = words_of((0, 1, " one"), (1, 2, " third."), (2.1, 3, " two"), (4, 5, " four"))
    assert [piece.text for piece in from_words(words, sound())] == [" one third.", " two", " four"]
    assert from_words([], sound()) == []


def test_a_title_ends_no_sentence_unless_a_pause_follows() -> None:
    """One person in "Mr. Bell", two sentences in "No. Go!": the pause tells one from the other."""
    together = words_of((0, 0.4, " Mr."), (0.4, 1, " Bell"), (1, 1.5, " came."))
    assert [piece.text for piece in from_words(together, sound())] == [" Mr. Bell came."]
    apart = words_of((0, 0.4, " No."), (0.8, 1.2, " Go!"))
    assert [piece.text for piece in from_words(apart, sound())] == [" No.", " Go!"]


def test_long_speech_without_sentences_is_cut_at_its_longest_pause() -> None:
    """No segment of several words is longer than a reader can hold."""
    words = [Piece(float(i), i + 0.9, f" w{i}") for i in range(29)]
    words[13] = Piece(13.0, 13.5, " w13")
    segments = from_words(words, sound())
    assert max(piece.end_s - piece.start_s for piece in segments) <= MAX_SEGMENT_S
    assert "".join(piece.text for piece in segments) == "".join(word.text for word in words)
    assert 13.5 in [piece.end_s for piece in segments]


def test_a_word_has_none_of_the_silence_that_the_attention_gives_it() -> None:
    """The first word of a sentence ends where it is heard to, any other begins there."""
    heard = sound((2.0, 2.6), (2.7, 3.2), (6.0, 6.5))
    words = words_of((0, 2.6, " one"), (2.6, 5.0, " two."), (5.0, 6.5, " three."))
    assert from_words(words, heard) == [Piece(2.0, 3.2, " one two."), Piece(6.0, 6.5, " three.")]


def test_a_word_that_dwells_through_what_was_left_out_is_cut_short() -> None:
    """Where others sing on after the last word, or long before the first, nobody reads it yet."""
    heard = sound()
    words = words_of((0, 9, " one"), (9, 9.5, " two"), (9.5, 10, " three."), (10, 28, " Four."))
    first, second = from_words(words, heard)
    assert first.start_s > 7
    assert first.end_s == 10
    assert (second.start_s, second.end_s) == pytest.approx((26.6, 28))
    dragged = from_words(words_of((0, 1, " a"), (1, 20, " b"), (20, 21, " c")), heard)
    assert [piece.text for piece in dragged] == [" a b", " c"]
    assert dragged[0].end_s < 3


@st.composite
def attended(draw: st.DrawFn) -> tuple[list[Piece], npt.NDArray[np.bool_]]:
    """Words one after the other, as the attention gives them, and where there is sound."""
    lengths = draw(st.lists(st.integers(0, 600), min_size=1, max_size=12))
    ends = np.minimum(np.cumsum(lengths), 1500)
    texts = draw(
        st.lists(
            st.sampled_from([" a", " bb.", " Mr.", " c?", "字"]),
            min_size=len(ends),
            max_size=len(ends),
        )
    )
    words = [
        Piece(start * TIME_PRECISION_S, end * TIME_PRECISION_S, text)
        for start, end, text in zip([0, *ends[:-1]], ends, texts, strict=True)
    ]
    runs = draw(st.lists(st.integers(1, 200), max_size=20))
    frames = [index % 2 == 0 for index, n in enumerate(runs) for _ in range(n)]
    return words, np.array((frames + 1500 * [False])[:1500], np.bool_)


def frames_of(piece: Piece, heard: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The frames of a piece."""
    return heard[round(piece.start_s / TIME_PRECISION_S) : round(piece.end_s / TIME_PRECISION_S)]


@given(attended())
def test_segments_of_words_are_ordered_readable_and_begin_and_end_with_sound(
    given: tuple[list[Piece], npt.NDArray[np.bool_]],
) -> None:
    """All of the text, in order, none longer than MAX_SEGMENT_S, none with silence at its ends."""
    words, heard = given
    found = from_words(words, heard)
    assert "".join(piece.text for piece in found) == "".join(word.text for word in words)
    floor_s = 0.0
    for piece in found:
        assert floor_s <= piece.start_s <= piece.end_s <= 30.0
        assert piece.end_s - piece.start_s <= MAX_SEGMENT_S + 1e-6
        floor_s = piece.end_s
        inside = [w for w in words if w.end_s > piece.start_s and w.start_s < piece.end_s]
        if inside and frames_of(inside[0], heard).any() and frames_of(inside[-1], heard).any():
            within = frames_of(piece, heard)
            silent = np.flatnonzero(within)[[0, -1]] - [0, len(within) - 1]
            assert np.abs(silent).max() <= MIN_SILENCE_S / TIME_PRECISION_S


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([" one", " two.", " three", " fo"], 3),
        ([" one", " two", " three", " four.", " fi"], 4),
        ([" one.", " two.", " three", " four", " fi"], 4),
        ([" one", " tw"], 1),
    ],
)
def test_text_that_was_cut_off_is_kept_up_to_its_last_sentence(texts: list[str], kept: int) -> None:
    """One of the second half; else all but the last word, which may be half of one."""
    words = [Piece(float(i), i + 1.0, text) for i, text in enumerate(texts)]
    assert list(whole_words(words)) == words[:kept]


def tone(*, seconds: float, before_s: float, after_s: float) -> np.ndarray:
    """A tone between two silences."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    silence = [np.zeros(int(length * 16_000), np.float32) for length in (before_s, after_s)]
    return np.concatenate([silence[0], np.sin(2000 * time).astype(np.float32), silence[1]])


def test_sentences_share_the_sound_in_proportion_to_their_length() -> None:
    """Without any times from the model, long sentences get longer times, all within the sound."""
    heard = sounding(tone(seconds=8, before_s=1, after_s=1))
    short, long = proportional("Aaaa. Bbbbbbbbbbbbbb.", heard, 10.0)
    assert (short.start_s, long.end_s) == pytest.approx((1.0, 9.0), abs=0.05)
    assert short.end_s - short.start_s == pytest.approx(8 * 5 / 21, abs=0.1)


@given(
    st.lists(st.tuples(st.floats(-5, 40), st.floats(-5, 40)), max_size=12),
    st.floats(0.01, 30),
)
def test_tidy_segments_lie_in_the_window_in_order_and_last(
    times: list[tuple[float, float]], duration_s: float
) -> None:
    """Whatever a model writes, segments are inside the window, ordered, and longer than zero."""
    done = tidy([Piece(a, b, "x") for a, b in times], duration_s)
    assert len(done) == len(times)
    for piece in done:
        assert 0 <= piece.start_s < piece.end_s <= duration_s
    assert [p.start_s for p in done] == sorted(p.start_s for p in done)


def test_the_rest_of_a_window_begins_shortly_before_its_next_sound() -> None:
    """A pause in front is skipped but for 0.2 s; a rest without sound for a word is none."""
    tone = np.sin(np.arange(16_000) / 16_000 * 440 * 2 * np.pi).astype(np.float32)
    silence = np.zeros(2 * 16_000, np.float32)
    samples = np.concatenate([tone, silence, tone])
    found = next_sound_s(samples, 1.0)
    assert found is not None
    assert abs(found - 2.8) < 0.03
    assert next_sound_s(np.concatenate([tone, silence, tone[:1600]]), 1.0) is None
