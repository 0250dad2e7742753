"""Recordings with what is said in them, and the word error rate."""

import json
from pathlib import Path

import pytest

from benchmarks.recordings import normalised, read_set, speech_sets, word_error_rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  Hello, World -- it's 12\N{RIGHT SINGLE QUOTATION MARK}s!", "hello world its 12s"),
        ("घायलों को बीकानेर के अस्पताल में।", "घायलों को बीकानेर के अस्पताल में"),
        ("¡Hola! ¿Qué tal? ﬁn", "hola qué tal fin"),
        ("敏捷的狐狸。", "敏 捷 的 狐 狸"),
        ("カタカナ ひ", "カ タ カ ナ ひ"),
        ("1910年の十", "1 9 1 0 年 の 1 0"),
        ("♪ [music] ♪", "music"),
        ("One, two; ten. १२ एक 10", "1 2 10 12 1 10"),
    ],
)
def test_texts_are_compared_without_case_and_punctuation(text: str, words: str) -> None:
    """Marks stay, being vowels in Indian scripts; scripts without spaces are spread out."""
    assert normalised(text) == words


def test_the_word_error_rate_counts_wrong_missing_and_added_words() -> None:
    """Over all words of the references, after normalisation."""
    assert word_error_rate("One, two three. Four!", "one two three four") == 0
    assert word_error_rate(["one two", "three four"], ["one too", "three"]) == pytest.approx(0.5)


def test_a_folder_named_by_the_variable_adds_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each JSON with a recording beside it is a set; its name begins with its language."""
    rows = [[0.5, 1.0, " Bonjour"], [2.0, 3.5, "tout le monde "]]
    (tmp_path / "fr-own.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "fr-own.wav").touch()
    monkeypatch.setenv("VOXROUTE_SPEECH", str(tmp_path))
    own = next(one for one in speech_sets("fr") if one.name == "fr-own")
    assert (own.language, own.path) == ("fr", tmp_path / "fr-own.wav")
    assert own.text == "Bonjour tout le monde"
    assert [sentence.start_s for sentence in own.sentences] == [0.5, 2.0]
    assert "fr-own" not in [one.name for one in speech_sets("en")]


def test_a_text_without_its_recording_is_named(tmp_path: Path) -> None:
    """A set that lost its recording is an error, not a set less."""
    (tmp_path / "fr-own.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"beside .*fr-own\.json is no recording \(\.flac, \.wav"):
        read_set(tmp_path / "fr-own.json")
