"""Characters, line breaks and lines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxroute_orchestrator.subtitles.linebreaks import (
    fits_line,
    graphemes,
    joined,
    lines_of,
    pieces_of,
    reading_ms,
    wrap,
)
from voxroute_orchestrator.subtitles.rules import CueRules

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Co", "Cn"]), max_size=200
)
WORDS = st.lists(st.sampled_from(["a", "of", "cat,", "opened.", "extraordinary", "है", "में"]),
                 min_size=1, max_size=16)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "count"),
    [("की", 1), ("चाबी", 2), ("e\u0301", 1), ("가", 1), ("\u1100\u1161\u11a8", 1),
     ("👨\u200d👩\u200d👧", 1), ("👍🏽", 1), ("ab c", 4)],
)  # fmt: skip
def test_characters_are_counted_as_a_person_does(text: str, count: int) -> None:
    """Marks, joined emoji and letters of a Hangul syllable are no characters of their own."""
    assert len(graphemes(text)) == count
    assert "".join(graphemes(text)) == text


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_lines_hold_the_whole_text_and_fit(text: str) -> None:
    """No character is lost and no line is longer than allowed, whatever the text is."""
    pieces = pieces_of(text)
    assert joined(pieces) == " ".join(text.split())
    lines = lines_of(pieces)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(fits_line(line) for line in lines)


@settings(max_examples=100, deadline=None)
@given(WORDS)
def test_a_word_stands_alone_on_the_last_line_only_where_it_must(words: list[str]) -> None:
    """Of all the breaks that fit, one with more on the last line is taken."""
    lines = wrap(" ".join(words)).split("\n")
    if len(lines) != 2 or len(lines[1].split()) > 1:
        return
    others = [
        index
        for index in range(1, len(words) - 1)
        if fits_line(" ".join(words[:index])) and fits_line(" ".join(words[index:]))
    ]
    assert not others


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        ("short", "short"),
        (
            "I told you not to go there, but you never listen to me",
            "I told you not to go there,\nbut you never listen to me",
        ),
        (
            "My brother has already repaired the radio of our neighbour",
            "My brother has already repaired\nthe radio of our neighbour",
        ),
        (
            "मेरे भाई ने कल रात बहुत देर तक बैठकर हमारे पड़ोसी का पुराना रेडियो ठीक कर दिया था",
            "मेरे भाई ने कल रात बहुत देर तक बैठकर\nहमारे पड़ोसी का पुराना रेडियो ठीक कर दिया था",
        ),
        (
            "そこで友達に会って、一緒に映画を見ました。",
            "そこで友達に会って、\n一緒に映画を見ました。",
        ),
    ],
)
def test_lines_break_where_the_sense_does(text: str, wrapped: str) -> None:
    """After clauses and before what leads in; never between that and what it leads in."""
    assert wrap(text) == wrapped


def test_punctuation_stays_with_its_ideograph() -> None:
    """No line begins with a closing mark or a small kana, none ends with an opening one."""
    texts = [piece.text for piece in pieces_of("「東京、ちょっと」『笑』")]
    assert texts == ["「東", "京、", "ちょっ", "と」", "『笑』"]


def test_lines_are_measured_in_the_script_that_they_have() -> None:
    """42 characters, or 16 of full width as soon as one is Chinese, Japanese or Korean."""
    assert fits_line("x" * 42)
    assert not fits_line("x" * 43)
    assert fits_line("क" * 42)
    assert fits_line("漢" * 16)
    assert not fits_line("漢" * 17)
    assert fits_line("漢" * 10 + "x" * 12)
    assert not fits_line("漢" * 10 + "x" * 13)
    assert not fits_line("x" * 11, CueRules(line_characters=10))


@pytest.mark.parametrize(
    ("text", "speed"), [("x" * 40, 17), ("क" * 40, 17), ("漢" * 40, 9), ("가" * 40, 12),
                        ("カ" * 40, 4), ("漢カ" * 20, 4)],
)  # fmt: skip
def test_reading_takes_the_time_of_its_script(text: str, speed: float) -> None:
    """Characters a second as the guides have them; kanji beside kana are Japanese."""
    assert reading_ms(text) == pytest.approx(40_000 / speed, abs=1)
