"""From tokens and words to segments: the rules, without a model."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxroute_serving.segments import (
    MAX_SEGMENT_S,
    Piece,
    ends_sentence,
    from_timestamps,
    from_words,
    next_sound_s,
    proportional,
    refine,
    sentences,
    sounding,
    tidy,
    within_sound,
)

BEGIN = 1000  # the id of <|0.00|> in these tests; below it a token is a letter


def at(time_s: float) -> int:
    """The timestamp token of a time."""
    return BEGIN + round(time_s / 0.02)


def text(words: str) -> list[int]:
    """Text tokens: one for each character."""
    return [ord(character) for character in words]


def decode(tokens: Sequence[int]) -> str:
    """The text of text tokens."""
    return "".join(map(chr, tokens))


def parse(tokens: list[int], duration_s: float = 10.0) -> list[Piece] | None:
    """The segments of a window's tokens."""
    return from_timestamps(tokens, timestamp_begin=BEGIN, decode=decode, duration_s=duration_s)


def test_pairs_of_timestamps_bound_segments() -> None:
    """Each text between two timestamps is a segment with their times."""
    tokens = [at(0.2), *text("one"), at(1.5), at(2.0), *text("two"), at(3.5)]
    assert parse(tokens) == [Piece(0.2, 1.5, "one"), Piece(2.0, 3.5, "two")]


def test_text_after_the_last_timestamp_is_kept_to_the_end_of_the_window() -> None:
    """A window is decoded once, so its unfinished last segment is not dropped."""
    tokens = [at(0), *text("one"), at(1.5), at(1.5), *text("two")]
    assert parse(tokens) == [Piece(0.0, 1.5, "one"), Piece(1.5, 10.0, "two")]


@pytest.mark.parametrize("tokens", [text("one"), [at(0), *text("one")]])
def test_text_without_a_closing_timestamp_has_no_times(tokens: list[int]) -> None:
    """A model that does not write timestamps gives nothing to take a time from."""
    assert parse(tokens) is None


def test_a_window_without_text_has_no_segments() -> None:
    """Timestamps alone are silence, not a failure."""
    assert parse([at(0), at(3)]) == []


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


def words_of(*timed: tuple[float, float, str]) -> list[Piece]:
    """Words with their times."""
    return [Piece(*word) for word in timed]


def test_words_become_segments_at_sentence_ends_and_pauses() -> None:
    """A segment ends with its sentence, or where nobody speaks for a while."""
    words = words_of((0, 1, " one"), (1, 2, " two."), (2.1, 3, " three"), (4, 5, " four"))
    assert [piece.text for piece in from_words(words)] == [" one two.", " three", " four"]


def test_long_speech_without_sentences_is_cut_at_its_longest_pause() -> None:
    """No segment of several words is longer than a reader can hold."""
    words = [Piece(float(i), i + 0.9, f" w{i}") for i in range(29)]
    segments = from_words(words)
    assert max(piece.end_s - piece.start_s for piece in segments) <= MAX_SEGMENT_S
    assert "".join(piece.text for piece in segments) == "".join(word.text for word in words)


def test_only_long_segments_are_cut_by_their_words() -> None:
    """A segment whose own timestamps are fine keeps them."""
    pieces = [Piece(0, 2, " a b"), Piece(2, 28, " c d. e f.")]
    words = words_of(
        (0, 1, " a"), (1, 2, " b"), (2, 8, " c"), (8, 10, " d."), (20, 21, " e"), (21, 28, " f.")
    )
    assert refine(pieces, words, np.ones(1500, np.bool_)) == [
        Piece(0, 2, " a b"),
        Piece(2, 10, " c d."),
        Piece(20, 28, " e f."),
    ]


def test_a_word_across_two_segments_is_not_written_twice() -> None:
    """Where the words do not make up the text of a long segment, the text itself is divided."""
    pieces = [Piece(0, 14, "Ab. cd. e"), Piece(14, 15, "f")]
    words = words_of((0, 5, "Ab."), (5, 9, " cd."), (9, 15, " ef"))
    done = refine(pieces, words, np.ones(1500, np.bool_))
    assert "".join(piece.text for piece in done) == "Ab. cd. ef"
    assert done[-1] == pieces[-1]
    assert max(piece.end_s - piece.start_s for piece in done) <= MAX_SEGMENT_S


def tone(*, seconds: float, before_s: float, after_s: float) -> np.ndarray:
    """A tone between two silences."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    silence = [np.zeros(int(length * 16_000), np.float32) for length in (before_s, after_s)]
    return np.concatenate([silence[0], np.sin(2000 * time).astype(np.float32), silence[1]])


def test_silence_at_the_ends_of_a_piece_is_cut_off() -> None:
    """A subtitle appears with the voice, not before it."""
    sound = sounding(tone(seconds=2, before_s=1, after_s=1))
    trimmed = within_sound(Piece(0.0, 4.0, "x"), sound)
    assert (trimmed.start_s, trimmed.end_s) == pytest.approx((1.0, 3.0), abs=0.05)


def test_sentences_share_the_sound_in_proportion_to_their_length() -> None:
    """Without any times from the model, long sentences get longer times, all within the sound."""
    sound = sounding(tone(seconds=8, before_s=1, after_s=1))
    short, long = proportional("Aaaa. Bbbbbbbbbbbbbb.", sound, 10.0)
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


def test_text_behind_the_last_mark_is_left_to_the_rest_where_tokens_are_cut_off() -> None:
    """At the limit of tokens only finished segments count; otherwise the open one counts too."""
    tokens = [at(0.0), 1, at(1.0), at(2.0), 2]

    def pieces(*, is_cut_off: bool) -> list[Piece] | None:
        return from_timestamps(
            tokens,
            timestamp_begin=BEGIN,
            decode=lambda ids: " ".join(map(str, ids)),
            duration_s=10.0,
            is_cut_off=is_cut_off,
        )

    assert pieces(is_cut_off=True) == [Piece(0.0, 1.0, "1")]
    assert pieces(is_cut_off=False) == [Piece(0.0, 1.0, "1"), Piece(2.0, 10.0, "2")]


def test_the_rest_of_a_window_begins_shortly_before_its_next_sound() -> None:
    """A pause in front is skipped but for 0.2 s; a rest without sound for a word is none."""
    tone = np.sin(np.arange(16_000) / 16_000 * 440 * 2 * np.pi).astype(np.float32)
    silence = np.zeros(2 * 16_000, np.float32)
    samples = np.concatenate([tone, silence, tone])
    found = next_sound_s(samples, 1.0)
    assert found is not None
    assert abs(found - 2.8) < 0.03
    assert next_sound_s(np.concatenate([tone, silence, tone[:1600]]), 1.0) is None
