"""Subtitle files: what is written, and what is read."""

import json
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pysubs2
import pytest

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue

HARD = [
    Cue(0, 1500, "a & b < c > d"),
    Cue(1500, 61_001, "two\nlines"),
    Cue(3_661_999, 36_000_000, "नमस्ते, आप कैसे हैं?"),
    Cue(36_000_001, 36_000_500, "rechts → links שלום"),
]


@pytest.mark.parametrize(("write", "kind"), [(subtitles.to_srt, "srt"), (subtitles.to_vtt, "vtt")])
def test_files_read_by_pysubs2_say_what_was_written(write: object, kind: str) -> None:
    """An independent parser finds the same number, times and texts."""
    text = write(HARD)  # type: ignore[operator]
    read = pysubs2.SSAFile.from_string(text, format_=kind, keep_html_tags=True)
    assert [(e.start, e.end) for e in read] == [(c.start_ms, c.end_ms) for c in HARD]
    assert [e.text.replace("\\N", "\n") for e in read][1:3] == [c.text for c in HARD[1:3]]


SPOKEN = [
    Cue(0, 1500, "a {b} c & <d>\nC:\\new \\N {\\b1}", "Asha & Co, <1>"),
    Cue(1600, 3000, "नमस्ते", "Ravi"),
    Cue(3100, 4000, "nobody"),
]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_our_own_files_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    """Braces and angle brackets that are no markup survive writing and reading."""
    cues = [*HARD, Cue(36_001_000, 36_002_000, "a {b} c <d> [e]")]
    path = tmp_path / f"a.{kind}"
    path.write_text(subtitles.to_srt(cues) if kind == "srt" else subtitles.to_vtt(cues))
    assert subtitles.read(path) == cues


@pytest.mark.parametrize("kind", ["vtt", "ass", "json"])
def test_speakers_and_markup_in_texts_come_back(kind: str, tmp_path: Path) -> None:
    """What only looks like markup is text, also in a name; ASS names take no comma."""
    path = tmp_path / f"a.{kind}"
    spoken = list(SPOKEN)
    if kind == "vtt":  # pysubs2's parser writes a line break as \N, so one in a text looks the same
        spoken[0] = replace(spoken[0], text="a {b} c & <d>\n{b1}")
    path.write_text(subtitles.FORMATS[kind](spoken, "hi"))
    read = subtitles.read(path)
    names = [cue.speaker for cue in spoken]
    if kind == "ass":
        names[0] = names[0].replace(",", ";")
    assert [cue.speaker for cue in read] == names
    assert [(c.start_ms, c.end_ms, c.text) for c in read] == [
        (c.start_ms, c.end_ms, c.text) for c in spoken
    ]


def test_voices_are_tagged_in_webvtt_only_where_they_are_known() -> None:
    """A voice tag around the whole text of a cue; SRT has no place for it."""
    text = subtitles.to_vtt(SPOKEN)
    assert "\n<v Ravi>नमस्ते</v>\n" in text
    assert "\nnobody\n" in text
    assert "Ravi" not in subtitles.to_srt(SPOKEN)


def test_pysubs2_reads_our_ass() -> None:
    """An independent parser finds times in hundredths, names, and escaped texts."""
    read = pysubs2.SSAFile.from_string(subtitles.to_ass(SPOKEN, "hi"), format_="ass")
    assert [(e.start, e.end, e.name) for e in read] == [
        (0, 1500, "Asha & Co; <1>"), (1600, 3000, "Ravi"), (3100, 4000, ""),
    ]  # fmt: skip
    assert read[0].text == "a \\{b\\} c & <d>\\NC:\\\u2060new \\\u2060N \\{\\\u2060b1\\}"
    assert read.info["Language"] == "hi"


def test_ttml_is_xml_with_its_language_times_and_agents() -> None:
    """A parser finds the cues; each agent that is named is declared; control characters go."""
    cues = [*SPOKEN, Cue(3_661_999, 3_662_999, "bell\x07 & <br/>", "Ravi")]
    root = ET.fromstring(subtitles.to_ttml(cues, "hi"))  # noqa: S314 - our own text
    tt, ttm = "{http://www.w3.org/ns/ttml}", "{http://www.w3.org/ns/ttml#metadata}"
    xml = "{http://www.w3.org/XML/1998/namespace}"
    assert root.tag == f"{tt}tt"
    assert root.get(f"{xml}lang") == "hi"
    agents = {
        agent.get(f"{xml}id"): agent.findtext(f"{ttm}name") for agent in root.iter(f"{ttm}agent")
    }
    paragraphs = list(root.iter(f"{tt}p"))
    assert [agents.get(p.get(f"{ttm}agent")) for p in paragraphs] == [
        "Asha & Co, <1>", "Ravi", None, "Ravi",
    ]  # fmt: skip
    assert (paragraphs[3].get("begin"), paragraphs[3].get("end")) == (
        "01:01:01.999",
        "01:01:02.999",
    )
    assert paragraphs[3].text == "bell & <br/>"
    lines = [paragraphs[0].text, *(line.tail for line in paragraphs[0].iter(f"{tt}br"))]
    assert "\n".join(line or "" for line in lines) == SPOKEN[0].text
    ids = {element.get(f"{xml}id") for element in root.iter()}
    assert {root.find(f"{tt}body").get("region"), root.find(f"{tt}body").get("style")} <= ids  # type: ignore[union-attr]


def test_other_programs_read_our_ttml(tmp_path: Path) -> None:
    """pysubs2's parser, which `read` uses, finds times, lines and texts."""
    path = tmp_path / "a.ttml"
    path.write_text(subtitles.to_ttml(HARD, "en"))
    assert subtitles.read(path) == HARD
    path.write_text("<tt xmlns='http://www.w3.org/ns/ttml'><body>")
    with pytest.raises(UsageError, match="format"):
        subtitles.read(path)


def test_json_holds_the_cues_and_says_what_it_is(tmp_path: Path) -> None:
    """Times in milliseconds; a speaker only where there is one; a damaged file is refused."""
    content = json.loads(subtitles.to_json(SPOKEN, "hi"))
    assert (content["schema"], content["language"]) == ("voxroute.cues/1", "hi")
    assert content["cues"][1] == {
        "start_ms": 1600, "end_ms": 3000, "text": "नमस्ते", "speaker": "Ravi",
    }  # fmt: skip
    assert "speaker" not in content["cues"][2]
    path = tmp_path / "a.json"
    path.write_text('{"schema": "voxroute.cues/1", "cues": [{}]}')
    with pytest.raises(UsageError, match="no whole"):
        subtitles.read(path)


def test_formats_are_named_with_commas() -> None:
    """Each once, in their order; anything else is refused with the names that there are."""
    assert subtitles.formats_of("VTT, srt,vtt") == ("vtt", "srt")
    for text in ("srt,doc", "", ","):
        with pytest.raises(UsageError, match="srt,vtt,ass,ttml,json"):
            subtitles.formats_of(text)


def test_what_would_break_a_file_is_taken_out() -> None:
    """Empty lines and arrows in a text cannot end a cue or begin another."""
    cue = Cue(0, 1000, "one\n\n\ntwo --> three\r\rfour")
    assert subtitles.to_srt([cue]).endswith("one\ntwo -> three\nfour\n\n")
    assert "-->" not in subtitles.to_vtt([cue]).split("\n", 3)[3]


def test_styles_of_other_makers_go_and_texts_stay(tmp_path: Path) -> None:
    """Tags, positions, comments and drawings go; what only looks like a tag stays."""
    srt = tmp_path / "a.srt"
    srt.write_text(
        "1\n00:00:01,000 --> 00:00:02,000\n"
        "{\\an8}<i>Wait</i> <3 a {b}\n<font color='red'>x</font>\n\n"
    )
    assert subtitles.read(srt) == [Cue(1000, 2000, "Wait <3 a {b}\nx", position="line:0")]
    vtt = tmp_path / "a.vtt"
    vtt.write_text(
        "WEBVTT\n\nNOTE hello\n\nintro\n00:01.000 --> 00:02.000 line:0\n"
        "<v Asha>A &amp; B &lt;C&gt;</v>\n"
    )
    assert subtitles.read(vtt) == [Cue(1000, 2000, "A & B <C>", speaker="Asha", position="line:0")]
    ass = tmp_path / "a.ass"
    ass.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\b1}Hello,\\Nyou{\\b0}\n"
        "Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not shown\n"
        "Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\\p1}m 0 0 l 1 1{\\p0}\n"
    )
    assert subtitles.read(ass) == [Cue(1000, 2000, "Hello,\nyou")]


def test_files_that_are_no_subtitles_are_refused(tmp_path: Path) -> None:
    """Missing, other, or in an encoding that is not UTF-8: each has a sentence that helps."""
    with pytest.raises(UsageError, match="no file"):
        subtitles.read(tmp_path / "none.srt")
    path = tmp_path / "a.srt"
    path.write_text("just a text")
    with pytest.raises(UsageError, match=r"format|cues"):
        subtitles.read(path)
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,000\ncafé\n".encode("cp1252"))
    with pytest.raises(UsageError, match="--encoding"):
        subtitles.read(path)
    assert subtitles.read(path, encoding="cp1252")[0].text == "café"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\ncafé\n", encoding="utf-16")
    assert subtitles.read(path)[0].text == "café"


HOSTILE = {
    "deep.ttml": '<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="0s" end="1s">'
    + "<span>" * 50_000
    + "x"
    + "</span>" * 50_000
    + "</p></div></body></tt>",
    "deep.json": '{"schema": "voxroute.cues/1", "cues": ' + "[" * 50_000 + "]" * 50_000 + "}",
    "endless.json": '{"schema": "voxroute.cues/1", "cues": [{"start_ms": 1e400, "end_ms": 1}]}',
    "half.json": '{"schema": "voxroute.cues/1", "cues":'
    ' [{"start_ms": 0, "end_ms": 1, "text": "\\ud800"}]}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_reader_can_hold_is_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    """Depth, numbers and letters beyond Python's."""
    (tmp_path / name).write_text(HOSTILE[name])
    with pytest.raises(UsageError, match=name):
        subtitles.read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["undefined", "utf-8\0"])
def test_an_encoding_that_is_none_is_a_sentence(tmp_path: Path, encoding: str) -> None:
    """Python raises something else for each."""
    (tmp_path / "film.srt").write_text("1")
    with pytest.raises(UsageError, match="is no encoding"):
        subtitles.read(tmp_path / "film.srt", encoding=encoding)


def test_braces_that_nothing_closes_take_no_longer_than_other_letters(tmp_path: Path) -> None:
    """The square of their number would be minutes."""
    head = "1\n00:00:00,000 --> 00:00:01,000\n"
    (tmp_path / "film.srt").write_text(head + "{\\" * 300_000)
    started = time.monotonic()
    assert len(subtitles.read(tmp_path / "film.srt")) == 1
    assert time.monotonic() - started < 10
