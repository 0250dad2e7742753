"""Cues to sentences and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxroute_translate import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("तुम कहाँ हो? मैं आ रहा हूँ।", ["तुम कहाँ हो?", "मैं आ रहा हूँ।"]),
        ("वह आया।वह गया॥ बस।", ["वह आया।", "वह गया॥", "बस।"]),
        ("What?! No way!", ["What?!", "No way!"]),
        ("Wait... what?", ["Wait... what?"]),
        ("Wait... What?", ["Wait...", "What?"]),
        ("रुको… क्या?", ["रुको… क्या?"]),
        ("Mr. Smith met Dr. J. R. Jones.", ["Mr. Smith met Dr. J. R. Jones."]),
        ("डॉ. शर्मा आए। बैठिए।", ["डॉ. शर्मा आए।", "बैठिए।"]),
        ("No. I will not.", ["No.", "I will not."]),
        ('"Stop!" he said. "Now go."', ['"Stop!" he said.', '"Now go."']),
        ("“Yes.” “No.”", ["“Yes.”", "“No.”"]),
        ("It costs 3.50 today. Really.", ["It costs 3.50 today.", "Really."]),
        ("See example.com now.", ["See example.com now."]),
        ("你好。你是谁？", ["你好。", "你是谁？"]),  # noqa: RUF001 - Chinese
        ("آپ کہاں ہیں؟ میں یہاں ہوں۔", ["آپ کہاں ہیں؟", "میں یہاں ہوں۔"]),  # noqa: RUF001
        ("no end mark", ["no end mark"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    """End marks end sentences; abbreviations, initials, numbers and small letters do not."""
    assert sentences.split_sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "to_translate", "joined"),
    [
        ("<i>Hello there.\nGood day.</i>", ["Hello there.", "Good day."],
         "<i>HELLO THERE. GOOD DAY.</i>"),
        ("How are\nyou?", ["How are you?"], "HOW ARE YOU?"),
        ("- Hello.\n- Hi. Sit!", ["Hello.", "Hi.", "Sit!"], "- HELLO. - HI. SIT!"),
        ("-Hello.\n-Hi!", ["Hello.", "Hi!"], "-HELLO. -HI!"),
        ("–Hello.\r\n–Hi!", ["Hello.", "Hi!"], "–HELLO. –HI!"),  # noqa: RUF001 - a dash
        ("well-\nknown", ["well- known"], "WELL- KNOWN"),
        ("-5 degrees", ["-5 degrees"], "-5 DEGREES"),
        ("[door slams] Who is there?", ["door slams", "Who is there?"],
         "[DOOR SLAMS] WHO IS THERE?"),
        ("(laughs)", ["laughs"], "(LAUGHS)"),
        ("He (John) left.", ["He (John) left."], "HE (JOHN) LEFT."),
        ("♪ la la la ♪", ["la la la"], "♪ LA LA LA ♪"),
        ("{\\an8}Top line", ["Top line"], "{\\an8}TOP LINE"),
        ("I <b>love</b> you.", ["I love you."], "I LOVE YOU."),
        ("One<br>two\\Nthree", ["One two three"], "ONE TWO THREE"),
        ("12:30", [], "12:30"),
        ("♪ ♪", [], "♪ ♪"),
        ("...", [], "..."),
        ("", [], ""),
        (" \n ", [], ""),
    ],
)  # fmt: skip
def test_what_is_no_speech_stays_around_it(text: str, to_translate: list[str], joined: str) -> None:
    """Tags, dashes, brackets and notes keep their place; the text between goes to the model."""
    cue = sentences.parse_cue(text)
    assert cue.sentences == to_translate
    assert cue.join([sentence.upper() for sentence in cue.sentences]) == joined


def test_scripts_without_blanks_join_without_blanks() -> None:
    """Translations into Chinese or Japanese follow each other directly."""
    cue = sentences.parse_cue("Hello. Who is it?")
    assert cue.join(["你好。", "是谁？"], between="") == "你好。是谁？"  # noqa: RUF001 - Chinese


@given(st.text(alphabet=st.sampled_from("ab .!?…।-[]()<i>/♪\n\"'A1"), max_size=60))
def test_no_text_is_lost_or_invented(text: str) -> None:
    """Untouched sentences give the cue's own letters and digits back, in order, on one line."""
    cue = sentences.parse_cue(text)
    joined = cue.join(cue.sentences)
    plain = sentences._TAGS.sub("", text)
    assert [c for c in sentences._TAGS.sub("", joined) if c.isalnum()] == [
        c for c in plain if c.isalnum()
    ]
    assert "\n" not in joined
    assert all(sentence.strip() for sentence in cue.sentences)


def test_a_long_sentence_is_cut_at_clauses_first() -> None:
    """Parts end after commas where they can, else between words; all of them fit."""
    text = "one two three, four five six seven eight nine"
    parts = sentences.split_to_fit(text, lambda part: len(part) <= 20)
    assert parts[0] == "one two three,"
    assert all(len(part) <= 20 for part in parts)
    assert " ".join(parts) == text


def test_a_word_that_does_not_fit_comes_back_whole() -> None:
    """What cannot be cut is left to the caller."""
    assert sentences.split_to_fit("a" * 50, lambda part: len(part) < 10) == ["a" * 50]
