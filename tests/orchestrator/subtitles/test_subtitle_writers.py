"""What is written is valid: other programs read the same, in order, from whatever was read."""

import logging
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path

import av
import pysubs2
import pytest
import webvtt
from ttconv.imsc import reader as imsc
from ttconv.isd import ISD

from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.placements import canonical, keypad, of_keypad

UNSORTED = [
    Cue(10_000, 12_000, "last"),
    Cue(1000, 5000, "first & <second>\nline", italic=True),
    Cue(3000, 3000, "flash", position="line:0"),
    Cue(2000, 9000, "above, left", "Asha", "line:0 align:left"),
    Cue(36_000_000, 36_001_000, "after ten hours", position="line:50%,center"),
]
ORDER = [1000, 2000, 3000, 10_000, 36_000_000]


def test_a_strict_reader_of_webvtt_takes_what_is_written() -> None:
    """In order, each cue ending after it begins, with settings that are valid."""
    read = webvtt.from_string(subtitles.to_vtt(UNSORTED), strict=True)
    times = [(c.start_time.in_milliseconds(), c.end_time.in_milliseconds()) for c in read.captions]
    assert [start for start, _ in times] == ORDER
    assert all(start < end for start, end in times)
    assert [str(c.settings) for c in read.captions] == [
        "", "line:0 align:left", "line:0", "", "line:50%,center",
    ]  # fmt: skip
    for caption in read.captions:
        webvtt.models.CueSettings.from_string(str(caption.settings), strict=True)


@pytest.mark.parametrize("kind", ["srt", "vtt", "ass"])
def test_ffmpeg_reads_every_cue_in_order(tmp_path: Path, kind: str) -> None:
    """Its demuxers find the beginnings, to a hundredth of a second."""
    path = tmp_path / f"film.{kind}"
    path.write_text(subtitles.FORMATS[kind](UNSORTED, "en"), encoding="utf-8")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        starts = [round((packet.pts or 0) * (packet.time_base or 0) * 1000) for packet in packets]
    assert starts == ORDER


def test_pysubs2_finds_places_and_italics_in_subrip_and_ass() -> None:
    """The overrides that players know."""
    ass = pysubs2.SSAFile.from_string(subtitles.to_ass(UNSORTED), format_="ass")
    assert [event.start for event in ass][:4] == ORDER[:4]
    assert [event.text.partition("}")[0] for event in ass] == [
        "{\\i1", "{\\an7", "{\\an8", "last", "{\\an5",
    ]  # fmt: skip
    srt = pysubs2.SSAFile.from_string(
        subtitles.to_srt(UNSORTED), format_="srt", keep_html_tags=True
    )
    assert srt[0].text.startswith("<i>first & ")
    assert srt[1].text == "{\\an7}above, left"


def test_ttconv_shows_every_cue_of_ttml_in_its_region(caplog: pytest.LogCaptureFixture) -> None:
    """A renderer's model finds a snapshot for each, and nothing to complain of."""
    caplog.set_level(logging.WARNING)
    for cues in (UNSORTED[:4], UNSORTED[:2]):
        document = imsc.to_model(ET.ElementTree(ET.fromstring(subtitles.to_ttml(cues, "en"))))  # noqa: S314
        assert document is not None
        for cue in cues:
            snapshot = ISD.from_model(document, Fraction(cue.start_ms, 1000))
            shown = [region for region in snapshot.iter_regions() if region.has_children()]
            assert len(shown) >= 1
            letters = "".join(
                element.get_text()
                for region in shown
                for element in region.dfs_iterator()
                if hasattr(element, "get_text")
            )
            assert cue.text.split("\n")[0] in letters
    assert not caplog.records


def test_an_unsorted_file_becomes_a_valid_one_in_every_format(tmp_path: Path) -> None:
    """Through reading and writing, as `translate` does it."""
    source = tmp_path / "film.ass"
    lines = subtitles.to_ass(UNSORTED).splitlines(keepends=True)
    events = [line for line in lines if line.startswith("Dialogue")]
    source.write_text("".join([*lines[: -len(events)], *events[::-1]]), encoding="utf-8")
    cues = subtitles.read(source)
    assert [cue.start_ms for cue in cues] == ORDER
    read = webvtt.from_string(subtitles.to_vtt(cues), strict=True)
    starts = [caption.start_time.in_milliseconds() for caption in read.captions]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("settings", "kept", "place"),
    [
        ("line:auto position:50% align:center size:100%", "", 2),
        ("align:middle", "", 2),
        ("line:10.00%,start position:50.00%,center", "line:10%", 8),
        ("line:-1", "", 2),
        ("line:0%", "line:0", 8),
        ("line:10% position:20% align:left", "line:10% position:20% align:left", 7),
        ("align:start position:10% line:84.00%", "line:84% position:10% align:start", 1),
        ("line:85%,end", "line:85%,end", 2),
        ("line:45%", "line:45%", 5),
        ("line:-3 align:right", "line:-3 align:right", 3),
        ("line:2", "line:2", 8),
        ("position:90%,line-right size:30%", "position:90%,line-right size:30%", 3),
        ("vertical:rl line:3", "vertical:rl line:3", 2),
        ("line:200% position:x align:up foo:bar --> line:", "", 2),
    ],
)
def test_settings_are_kept_where_they_say_something(settings: str, kept: str, place: int) -> None:
    """In one order, without what is not valid; and each has the nearest of nine places."""
    assert canonical(settings) == kept
    assert canonical(kept) == kept
    assert keypad(kept) == place


def test_each_of_nine_places_has_settings() -> None:
    """And the settings have that place."""
    assert [keypad(of_keypad(place)) for place in range(1, 10)] == list(range(1, 10))


def test_what_two_say_at_the_same_time_is_one_cue_with_a_turn_for_each() -> None:
    """In SubRip with dashes, in WebVTT with voices, as it came."""
    cues = [Cue(0, 1000, "Hi.", "Asha"), Cue(0, 1000, "Hello.", "Ravi"), Cue(0, 1000, "sign")]
    assert "\n- Hi.\n- Hello.\n\n2\n" in subtitles.to_srt(cues)
    assert "\n<v Asha>Hi.</v>\n<v Ravi>Hello.</v>\n\n00:00:00.000" in subtitles.to_vtt(cues)
