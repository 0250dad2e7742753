"""Doubts about a translation."""

import pytest

from voxroute_translate import languages
from voxroute_translate.quality import NO_DOUBT, Severity, doubt

HINDI, ENGLISH, SPANISH = map(languages.parse, ("hi", "en", "es"))


@pytest.mark.parametrize(
    ("source_text", "text"),
    [
        ("तुम कहाँ जा रहे हो?", "Where are you going?"),
        ("ठीक है।", "All right, that is fine."),
        ("नहीं, नहीं, नहीं!", "No, no, no!"),
        ("हा हा हा हा हा हा हा", "Ha ha ha ha ha ha ha"),
        ("राम", "Ram"),
        ("उसने NASA कहा।", "He said NASA."),
    ],
)
def test_good_translations_raise_no_doubt(source_text: str, text: str) -> None:
    """Short words, names and repetitions that the source has too are not suspect."""
    assert doubt(source_text, text, HINDI, ENGLISH) == NO_DOUBT


@pytest.mark.parametrize(
    ("source_text", "text", "reason"),
    [
        ("तुम कहाँ हो?", "", "no text"),
        ("तुम कहाँ हो?", "तुम कहाँ हो?", "source text back"),
        ("तुम कहाँ हो?", "तुम कहाँ हो।", "source text back"),
        ("तुम कहाँ हो?", "तुम वहाँ हो।", "not in the script"),
        (
            "दरवाज़ा खोलो और पानी लाओ।",
            "Open the दरवाज़ा and bring water.",
            "untranslated in it: दरवाज़ा",
        ),
        ("तुम कहाँ हो?", "where " * 12, "repeats"),
        ("तुम कहाँ हो?", "I know a very long story about it " * 3, "much longer"),
        ("मैं कल सुबह अपने भाई के साथ नदी के पास वाले पुराने घर में जाऊँगा और " * 2, "Go.", "shorter"),
    ],
)
def test_bad_translations_are_doubted(source_text: str, text: str, reason: str) -> None:
    """Nothing, the source, loops, the wrong script and odd lengths each have their reason."""
    assert reason in doubt(source_text, text, HINDI, ENGLISH).reason


def test_names_may_stay_the_same_within_one_script() -> None:
    """A name is the same in two languages of one script; a whole sentence is not."""
    assert doubt("Star Wars!", "Star Wars!", ENGLISH, SPANISH) == NO_DOUBT
    assert "source" in doubt("We will meet again.", "We will meet again.", ENGLISH, SPANISH).reason


def test_only_words_that_nobody_borrows_count_as_left_behind() -> None:
    """Latin names and abbreviations stand in Hindi as they are; two plain words do not."""
    assert doubt("He sold his iPhone 5S to NASA.", "उसने अपना iPhone 5S NASA को बेच दिया।",
                 ENGLISH, HINDI) == NO_DOUBT  # fmt: skip
    assert doubt("Send me an email.", "मुझे एक email भेज दीजिए।", ENGLISH, HINDI) == NO_DOUBT
    left = doubt("Please open the old door now.", "कृपया अब पुराना दरवाज़ा open door कीजिए।",
                 ENGLISH, HINDI)  # fmt: skip
    assert left.severity is Severity.PARTLY_COPIED
    assert "open door" in left.reason


def test_the_worst_doubt_is_the_one_that_is_told() -> None:
    """No text is worse than the source's own, that than a loop, and that than an odd length."""
    texts = ["", "तुम कहाँ हो?", "where " * 12, "I know a very long story about it " * 3,
             "Where are you?"]  # fmt: skip
    severities = [doubt("तुम कहाँ हो?", text, HINDI, ENGLISH).severity for text in texts]
    assert severities == sorted(severities, reverse=True)
    assert len(set(severities)) == len(severities)
