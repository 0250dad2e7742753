"""Turns of several speakers in one cue stay turns; places and italics pass through translation."""

import pytest

from tests.orchestrator.cli.test_command import Sandbox, sandbox
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue, rewrapped
from voxroute_orchestrator.subtitles.rules import CueRules
from voxroute_orchestrator.subtitles.turns import turns_of

__all__ = ["sandbox"]


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("- Hi.\n- Hello.", [("- ", "Hi."), ("- ", "Hello.")]),
        ("-Hi\n-Hello", [("-", "Hi"), ("-", "Hello")]),
        ("– Hi\n— Hello", [("– ", "Hi"), ("— ", "Hello")]),  # noqa: RUF001
        ("- I was\ngoing to\n- What?", [("- ", "I was going to"), ("- ", "What?")]),
        ("Hi.\n- Hello.", [("", "Hi."), ("- ", "Hello.")]),
        (">> Hi.\n>> Hello.", [(">> ", "Hi."), (">> ", "Hello.")]),
        ("He said\n- and meant it - no.", [("", "He said - and meant it - no.")]),
        ("It is\n-5 degrees.", [("", "It is -5 degrees.")]),
        ("- Five?\n- 5.", [("- ", "Five?"), ("- ", "5.")]),
        ("ASHA: Hi.\nRAVI: Hello.", [("ASHA: ", "Hi."), ("RAVI: ", "Hello.")]),
        ("DR. RAO (O.S.): Hi.", [("DR. RAO (O.S.): ", "Hi.")]),
        ("HE TOLD ME: RUN.\nNOW", [("", "HE TOLD ME: RUN. NOW")]),
        ("ASHA: HI.\nRAVI: HO.", [("", "ASHA: HI."), ("", "RAVI: HO.")]),
        ("ASHA: नमस्ते", [("ASHA: ", "नमस्ते")]),
        ("ASHA:\nHi.\nyou", [("ASHA: ", "Hi. you")]),
        ("Asha: Hi.\nRavi: Hello.", [("", "Asha: Hi."), ("", "Ravi: Hello.")]),
        ("मीरा: नमस्ते\nरवि: हाँ", [("", "मीरा: नमस्ते"), ("", "रवि: हाँ")]),
        ("I know: it is\nlate", [("", "I know: it is late")]),
        ("At 10:30\nI left", [("", "At 10:30 I left")]),
        ("[Asha] Hi.\n[Ravi] Hello.", [("", "[Asha] Hi."), ("", "[Ravi] Hello.")]),
        ("one\ntwo", [("", "one two")]),
        ("-", [("", "-")]),
        ("ASHA:", [("", "ASHA:")]),
    ],
)
def test_a_line_opens_a_turn_where_a_speaker_is_marked(
    text: str, turns: list[tuple[str, str]]
) -> None:
    """By a dash that is no minus and in no sentence, or by names; marks are not what is said."""
    assert [(turn.mark, turn.text) for turn in turns_of(text)] == turns


def test_turns_begin_lines_and_share_a_cue_that_is_too_small() -> None:
    """Two lines hold two turns; a third goes into a cue of its own, with its share of the time."""
    cue = Cue(1000, 4000, "- One.\n- Two.", italic=True, position="line:0")
    assert rewrapped(cue) == [cue]
    cues = rewrapped(Cue(1000, 4000, "- One.\n- Two.\n- Three, and it is longer.", "", "line:0"))
    assert [cue.text for cue in cues] == ["- One.\n- Two.", "- Three, and it is longer."]
    assert {cue.position for cue in cues} == {"line:0"}
    assert (cues[0].start_ms, cues[-1].end_ms) == (1000, 4000)
    assert cues[0].end_ms < cues[1].start_ms
    long = "- " + "I told you not to go there. " * 8 + "\n- No."
    parts = rewrapped(Cue(0, 9000, long), CueRules())
    assert all(part.text.count("\n") <= 1 for part in parts)
    assert parts[-1].text.split("\n")[-1] == "- No."


SOURCE = """1
00:00:01,000 --> 00:00:02,000
{\\an8}- word1
- word2

2
00:00:03,000 --> 00:00:04,000
<i>one &amp;
two</i>

3
00:00:05,000 --> 00:00:06,000
RAVI: word5
ASHA: word6

4
00:00:08,000 --> 00:00:07,000
late
"""


def test_turns_places_and_italics_pass_through_translation(sandbox: Sandbox) -> None:
    """Each turn goes to the model on its own, and comes back to its line with its mark."""
    path = sandbox.folder / "film.hi.srt"
    path.write_text(SOURCE)
    job = ["translate", str(path), "-s", "hi", "-t", "en", "-o", str(sandbox.out)]
    done = sandbox.run(*job, "--format", "srt,vtt,ass,ttml,json")
    assert done.returncode == 0, done.stderr
    expected = [
        Cue(1000, 2000, "- en:word1\n- en:word2", position="line:0"),
        Cue(3000, 4000, "en:one & two", italic=True),
        Cue(5000, 6000, "RAVI: [untranslated: word5]\nASHA: en:word6"),
        Cue(8000, 9000, "en:late"),
    ]
    for kind in subtitles.FORMATS:
        assert subtitles.read(sandbox.out / f"film.en.{kind}") == expected
    assert "en: 4 cues translated" in done.stdout
    assert "en: 1 could not be translated" in done.stdout
    assert "line 17" in done.stderr
    assert "before it begins" in done.stderr


def test_subtitles_of_a_film_without_speech_are_translated_to_none(sandbox: Sandbox) -> None:
    """In each format, with a word about it and without a service."""
    path = sandbox.folder / "film.hi.vtt"
    path.write_text(subtitles.to_vtt([]))
    done = sandbox.run("translate", str(path), "-s", "hi", "-t", "en", "-o", str(sandbox.out))
    assert done.returncode == 0, done.stderr
    assert "film.hi.vtt has no cue" in done.stderr
    assert "en: no cue to translate" in done.stdout
    assert subtitles.read(sandbox.out / "film.en.srt") == []
    assert subtitles.read(sandbox.out / "film.en.vtt") == []


def test_a_glossary_names_cues_and_not_turns(sandbox: Sandbox) -> None:
    """A term that two turns of a cue miss is missed in that cue."""
    path, terms = sandbox.folder / "film.hi.srt", sandbox.folder / "terms.csv"
    path.write_text(subtitles.to_srt([Cue(0, 900, "- x"), Cue(1000, 1900, "- a\n- a b\n- a")]))
    terms.write_text("source,target\na,b\n")
    options = ["-s", "hi", "-t", "en", "-o", str(sandbox.out), "--glossary", str(terms)]
    done = sandbox.run("translate", str(path), *options)
    assert done.returncode == 0, done.stderr
    assert 'missed "a" in 2' in done.stdout
    assert "in 2, 2" not in done.stdout
