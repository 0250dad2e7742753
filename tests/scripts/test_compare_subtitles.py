"""Comparing subtitles with a reference."""

from pathlib import Path

import pytest

from scripts import compare_subtitles as compare
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue

REFERENCE = [
    Cue(0, 2000, "Hello, how are you?"),
    Cue(2500, 4000, "I am fine."),
    Cue(5000, 7000, "See you tomorrow!"),
]


def test_equal_words_match_whatever_their_case_and_signs() -> None:
    """Case, punctuation, line breaks and small shifts do not count."""
    produced = [
        Cue(100, 2100, "hello\nhow are you"),
        Cue(2400, 4100, "I am fine"),
        Cue(5200, 7100, "See you tomorrow"),
    ]
    result = compare.compare(produced, REFERENCE)
    assert result.share == 1.0
    assert result.word_error_rate == 0.0


@pytest.mark.parametrize(
    ("produced", "matched"),
    [
        ([Cue(0, 4000, "Hello, how are you? I am fine."), REFERENCE[2]], 3),
        ([Cue(0, 1000, "Hello,"), Cue(1000, 2000, "how are you?"), *REFERENCE[1:]], 3),
        ([Cue(0, 2000, "Hello, how are you, you?"), *REFERENCE[1:]], 2),
        ([REFERENCE[0], Cue(8000, 9000, "I am fine."), REFERENCE[2]], 2),
        ([], 0),
    ],
)
def test_merged_and_split_cues_match_and_wrong_ones_do_not(
    produced: list[Cue], matched: int
) -> None:
    """How the words are cut into cues does not count; other words, or another time, do."""
    assert compare.compare(produced, REFERENCE).matched == matched


def test_the_word_error_rate_is_known() -> None:
    """One wrong word and one missing of ten make 20 %."""
    produced = [REFERENCE[0], Cue(2500, 4000, "I am wrong."), Cue(5000, 7000, "See you!")]
    assert compare.compare(produced, REFERENCE).word_error_rate == pytest.approx(0.2)


def test_the_command_fails_below_the_share_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints what differs and the figures; --min-share decides the exit code."""
    reference, produced = tmp_path / "ref.srt", tmp_path / "out.srt"
    reference.write_text(subtitles.to_srt(REFERENCE))
    produced.write_text(subtitles.to_srt([*REFERENCE[:2], Cue(5000, 7000, "No.")]))
    assert compare.main([str(produced), str(reference)]) == 0
    assert compare.main([str(produced), str(reference), "--min-share", "0.85"]) == 1
    assert "2 of 3 cues match (66.7%)" in capsys.readouterr().out
    assert compare.main([str(tmp_path / "none.srt"), str(reference)]) == 2
