"""Files of other makers: what people who see them on a screen read, when, where and by whom."""

import subprocess
import sys
from pathlib import Path

import pysubs2
import pytest
import webvtt

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue

TWO = "1\n00:00:01,000 --> 00:00:02,000\n{}\n\n2\n00:00:03,000 --> 00:00:04,000\n{}\n"


@pytest.fixture
def read(tmp_path: Path):
    """Reads a text as a file; returns the cues and what was told."""

    def reader(text: str, *, encoding: str = "utf-8") -> tuple[list[Cue], list[str]]:
        path = tmp_path / "film.sub"
        path.write_bytes(text.encode(encoding))
        told: list[str] = []
        return subtitles.read(path, tell=told.append), told

    return reader


def brief(cues: list[Cue]) -> list[tuple[int, int, str]]:
    """Times and texts."""
    return [(cue.start_ms, cue.end_ms, cue.text) for cue in cues]


def texts(cues: list[Cue]) -> list[str]:
    """The texts alone."""
    return [cue.text for cue in cues]


SRT = {
    "the last line is a number": (TWO.format("We were", "5"), ["We were", "5"]),
    "numbers end texts": (TWO.format("Room\n12", "Bus\n\n7"), ["Room\n12", "Bus\n7"]),
    "an arrow of one dash": (
        TWO.format("We were", "here").replace("-->", "->"),
        ["We were", "here"],
    ),
    "cut off in the last times": (
        TWO.format("We were", "here") + "\n3\n00:00:05,000 -->",
        ["We were", "here"],
    ),
    "cut off behind a time": (
        TWO.format("We were", "here") + "\n3\n00:00:05,000 ",
        ["We were", "here"],
    ),
    "no cue has a number": (
        "00:00:01,000 --> 00:00:02,000\nFive\n5\n\n00:00:03,000 --> 00:00:04,000\n2001\n",
        ["Five\n5", "2001"],
    ),
    "no numbers, no empty lines": (
        (
            "00:00:01,000 --> 00:00:02,000\na\n7\n00:00:03,000 --> 00:00:04,000\nb\n"
            "00:00:05,000 --> 00:00:06,000\n8"
        ),
        ["a\n7", "b", "8"],
    ),
    "numbers, no empty lines": (
        (
            "1\n00:00:01,000 --> 00:00:02,000\na\n2\n00:00:03,000 --> 00:00:04,000\n9\n"
            "3\n00:00:05,000 --> 00:00:06,000\nc"
        ),
        ["a", "9", "c"],
    ),
    "an empty line after each line": (TWO.replace("\n", "\n\n").format("a", "1999"), ["a", "1999"]),
    "the beginning is lost": (
        "so far\n\n" + TWO.replace("2\n", "3\n", 1).format("b", "c") + "\n4\n00:00:05,000 -->"
        " 00:00:06,000\nd",
        ["b", "c", "d"],
    ),
    "arrows in texts": (TWO.format("5 --> 6\nx", "a --> b: c"), ["5 --> 6\nx", "a --> b: c"]),
    "a cue is empty": (TWO.format("", "b"), ["b"]),
    "times are sloppy": (
        (
            "1\n0:00:01.5 --> 0:00:02\na\n\n2\n00:03,000-->00:04,000\nb\n\n"
            "3\n00 : 00 : 05 , 000 --> 00:00:06:000 X1:1 X2:2 Y1:3 Y2:4\nc\n"
        ),
        ["a", "b", "c"],
    ),
    "numbers of another script": (TWO.format("a\n१२", "b"), ["a\n१२", "b"]),
}


@pytest.mark.parametrize("name", SRT)
def test_every_line_of_subrip_is_text_or_a_cue_number_and_never_the_wrong_one(
    read, name: str
) -> None:
    """A number is a cue's where it stands before its times in a file that numbers its cues."""
    text, expected = SRT[name]
    cues, told = read(text)
    assert (texts(cues), told) == (expected, [])


@pytest.mark.parametrize("ending", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize(
    "text", [TWO.format("a\nb", "c"), "WEBVTT\n\n00:01.000 --> 00:02.000\na\nb\n"]
)
def test_lines_end_as_the_maker_ends_them(read, text: str, ending: str) -> None:
    """Old Macs end them by a carriage return alone."""
    assert texts(read(text.replace("\n", ending))[0])[0] == "a\nb"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("word", ["Hello", "नमस्ते", "你好你好你好你好你好"])
def test_utf_16_is_known_with_and_without_its_mark(read, word: str, encoding: str) -> None:
    """By the zero bytes that numbers and line ends have in it."""
    assert texts(read(TWO.format(word, word), encoding=encoding)[0]) == [word, word]


def test_what_ends_before_it_begins_is_told_and_mended(read) -> None:
    """It keeps its beginning, until it is read or the next begins; before 0 there is nothing."""
    cues, told = read(
        "1\n00:00:05,000 --> 00:00:03,000\nreversed\n\n2\n00:00:05,500 --> 00:00:06,000\nnext\n\n"
        "3\n-00:00:01,000 --> 00:00:02,000\nearly\n\n4\n-00:00:03,000 --> -00:00:02,000\ngone\n\n"
        "5\n00:00:08,000 --> 00:00:08,000\nflash\n\n6\n00:00:0x,000 --> 00:00:09,000\nlost\n"
    )
    assert brief(cues) == [
        (0, 2000, "early"), (5000, 5500, "reversed"), (5500, 6000, "next"), (8000, 9000, "flash"),
    ]  # fmt: skip
    assert [sentence.partition(": ")[0] for sentence in told] == ["film.sub"] * 5
    for place, word, what in (
        ("line 2", "reversed", "ends (00:00:03.000) before it begins (00:00:05.000)"),
        ("line 10", "early", "begins before the film (-00:00:01.000)"),
        ("line 14", "gone", "left out"),
        ("line 18", "flash", "ends as it begins"),
        ("line 22", "lost", "no time that can be read; it is left out"),
    ):
        assert any(place in s and word in s and what in s for s in told), (place, told)


def test_of_many_mended_cues_a_few_are_told_and_the_rest_is_counted(read) -> None:
    """A file that is wrong throughout is no flood."""
    _, told = read(
        "".join(f"{k}\n00:00:{k:02},500 --> 00:00:00,000\nx{k}\n\n" for k in range(1, 30))
    )
    assert len(told) == 6
    assert "24 more" in told[-1]


def test_a_file_without_anything_to_show_says_why(read) -> None:
    """The reason stands in the refusal."""
    with pytest.raises(UsageError, match="before the film"):
        read("1\n-00:00:05,000 --> -00:00:03,000\na\n")


def test_entities_of_subrip_are_letters_and_what_is_none_stays(read) -> None:
    """Only with a semicolon: "AT&T" and "R&copy" are texts."""
    cues, _ = read(
        TWO.format("Good&nbsp;night &amp; &quot;bye&quot; &#39;x&#39; &lt;i&gt;", "AT&T R&copy")
    )
    assert texts(cues) == ["Good night & \"bye\" 'x' <i>", "AT&T R&copy"]


@pytest.mark.parametrize(
    ("text", "italic", "position"),
    [
        ("<i>a\nb</i>", True, ""),
        ("<i>a</i>\n<I>b</I>", True, ""),
        ("- <i>a</i>\n- <i>b</i>", True, ""),
        ("♪ <em>a</em> ♪", True, ""),
        ("{\\i1}a{\\i0}", True, ""),
        ("<i>a</i> b", False, ""),
        ("{\\an8}a", False, "line:0"),
        ("{\\an8}<i>a</i>", True, "line:0"),
        ("<i>{\\an1}a</i>", True, "align:left"),
        ("{\\a6}a", False, "line:0"),
        ("<font color='red'><b>a</b></font>", False, ""),
    ],
)
def test_places_and_italics_of_whole_cues_of_subrip_are_kept(
    read, text: str, *, italic: bool, position: str
) -> None:
    """Where they hold for a part only, they go."""
    cue = read(TWO.format(text, "x"))[0][0]
    assert (cue.italic, cue.position) == (italic, position)
    assert not {"<", ">", "{", "}"} & {*cue.text}


VTT = """WEBVTT - a meeting
Kind: captions

STYLE
::cue { color: yellow }

REGION
id:above
width:40%
regionanchor:0%,0%
viewportanchor:30%,10%

NOTE made for a test

a4c1-0001/7-0
00:00:01.000 --> 00:00:03.000 align:start position:10% line:84%
<v Asha Rao>Where is the <c.loud>key</c>?</v>

NOTE
is this right?
00:00 no time

intro
00:03.500 --> 00:05.500 region:above
<v.first Ravi>On the table &amp; <00:04.000>here.</v>

3
00:06.000 --> 00:08.000 line:0
<v Asha>Hi.</v>
<v Ravi><i>Hello.</i></v>
"""


def test_webvtt_is_read_as_browsers_read_it(read) -> None:
    """Identifiers, comments, styles and regions are no text; no cue has two voices."""
    cues, told = read(VTT)
    assert told == []
    assert cues == [
        Cue(1000, 3000, "Where is the key?", "Asha Rao", "line:84% position:10% align:start"),
        Cue(3500, 5500, "On the table & here.", "Ravi", "line:0"),
        Cue(6000, 8000, "Hi.", "Asha", "line:0"),
        Cue(6000, 8000, "Hello.", "Ravi", "line:0"),
    ]


SEGMENT = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{},LOCAL:00:00:00.000\n\nSTYLE\n::cue {{}}\n\n{}\n"


def test_text_that_begins_with_a_blank_line_is_no_text_of_nobody(read) -> None:
    """As YouTube writes it: the line holds a blank, so the cue goes on."""
    cues, told = read(
        "WEBVTT\n\n00:00.000 --> 00:02.000\n \nhello<00:00:00.500><c> world</c>\n"
        "\n00:02.000 --> 00:04.000\nhello world\nagain\n"
    )
    assert texts(cues)[0].split() == ["hello", "world"]
    assert not told


@pytest.mark.parametrize(
    "text", ["", "\ufeff", "\n \n", "WEBVTT\n", subtitles.to_srt([]), subtitles.to_vtt([])]
)
def test_a_file_without_cues_has_none_and_that_is_told(read, text: str) -> None:
    """As the command itself writes it where nobody speaks."""
    cues, told = read(text)
    assert not cues
    assert [sentence for sentence in told if "has no cue" in sentence] == told
    assert told


@pytest.mark.parametrize(
    "text", ["WEBVTT\n\n00:01,000 -> 00:02\n", "[Script Info]\nDialogue: 0,0:00:01.00,0:00:02.00\n"]
)
def test_a_file_whose_cues_cannot_be_read_is_not_one_without_cues(read, text: str) -> None:
    """It is refused, as there was to be something."""
    with pytest.raises(UsageError, match="has no cues"):
        read(text)


def test_segments_that_were_joined_are_one_file(read) -> None:
    """Headers are no text; what was cut or repeated where they meet is there once."""
    first = "00:01.000 --> 00:03.000\na\n\n00:04.000 --> 00:06.000\ncut"
    second = (
        "00:04.000 --> 00:06.000\ncut\n\n00:06.000 --> 00:07.000\ncut\n\n00:08.000 --> 00:09.000\nb"
    )
    cues, _ = read(SEGMENT.format(900_000, first) + SEGMENT.format(900_000, second))
    assert brief(cues) == [(1000, 3000, "a"), (4000, 7000, "cut"), (8000, 9000, "b")]


@pytest.mark.parametrize(
    ("ticks", "shift_ms"), [(1_440_000, 6000), (900_000, 0), (2**33 - 450_000, 0)]
)
def test_the_maps_of_segments_count(read, ticks: int, shift_ms: int) -> None:
    """Times are those of the first segment's clock, which begins anew after 26 hours."""
    first, second = 900_000, ticks
    if ticks > 2**32:
        first, second, shift_ms = ticks, 90_000, 6000
    text = SEGMENT.format(first, "00:01.000 --> 00:02.000\na")
    cues, _ = read(text + SEGMENT.format(second, "00:01.500 --> 00:02.000\nb"))
    assert brief(cues)[1] == (1500 + shift_ms, 2000 + shift_ms, "b")


def test_webvtt_that_is_nearly_right_is_read_and_what_is_not_is_told(read) -> None:
    """Commas, hours without a zero, times before 0; a time that is none has a place."""
    cues, told = read(
        "WEBVTT\n\n00:00:01,000 --> 00:00:02,000\na\n\n0:00:03.000 --> 0:00:04.000\nb\n\n"
        "-00:01.000 --> 00:00.500\nc\n\n00:x --> 00:09.000\nd\n\nstray\n"
    )
    assert brief(cues) == [(0, 500, "c"), (1000, 2000, "a"), (3000, 4000, "b")]
    assert "line 9" in told[0]
    assert "line 12" in told[1]
    assert 'line 15: "stray" belongs to no cue' in told[2]
    assert len(told) == 3


ROLLING = {
    "of a video site": (
        (
            "WEBVTT\nKind: captions\n\n"
            "00:00.000 --> 00:02.000 align:start position:0%\n \n"
            "so<00:00.500><c> we</c><00:01.000><c> meet</c>\n\n"
            "00:02.000 --> 00:02.010\nso we meet\n \n\n"
            "00:02.010 --> 00:04.000\nso we meet\nat<00:02.500><c> noon</c>\n\n"
            "00:04.000 --> 00:04.010\nat noon\n \n\n"
            "00:04.010 --> 00:06.000\nat noon\nor not\n"
        ),
        [(0, 2010, "so we meet"), (2010, 4010, "at noon"), (4010, 6000, "or not")],
    ),
    "of a broadcast, two lines": (
        "".join(
            f"{k}\n00:00:0{k},000 --> 00:00:0{k},990\n{text}\n\n"
            for k, text in enumerate(["ONE", "ONE\nTWO", "TWO\nTHREE", "THREE\nFOUR"], start=1)
        ),
        [(1000, 1990, "ONE"), (2000, 2990, "TWO"), (3000, 3990, "THREE"), (4000, 4990, "FOUR")],
    ),
    "of a broadcast, with pauses": (
        "".join(
            f"{k}\n00:00:{2 * k:02},000 --> 00:00:{2 * k + 1:02},500\n{text}\n\n"
            for k, text in enumerate(["ONE\nTWO", "TWO\nTHREE", "THREE\nFOUR"], start=1)
        ),
        [(2000, 3500, "ONE\nTWO"), (4000, 5500, "THREE"), (6000, 7500, "FOUR")],
    ),
    "three lines": (
        "".join(
            f"{k}\n00:00:0{k},000 --> 00:00:0{k + 1},000\n{text}\n\n"
            for k, text in enumerate(["a\nb\nc", "b\nc\nd", "c\nd\ne"], start=1)
        ),
        [(1000, 2000, "a\nb\nc"), (2000, 3000, "d"), (3000, 4000, "e")],
    ),
    "word by word": (
        "".join(
            f"{k}\n00:00:0{k},000 --> 00:00:0{k + 1},000\n{text}\n\n"
            for k, text in enumerate(["We", "We meet", "We meet here.", "Then go."], start=1)
        ),
        [(1000, 4000, "We meet here."), (4000, 5000, "Then go.")],
    ),
}


@pytest.mark.parametrize("name", ROLLING)
def test_captions_that_roll_are_what_was_said_once(read, name: str) -> None:
    """Each line from when it appears until the next one does, wherever it has moved."""
    text, expected = ROLLING[name]
    cues, _ = read(text)
    assert brief(cues) == expected
    assert {cue.position for cue in cues} == {""}


def test_what_is_said_again_is_no_roll(read) -> None:
    """The same words three times, or a line of the cue before once, stay as they are."""
    said = ["No.", "No.", "No.", "Run!", "Run!\nThey come!", "Yes."]
    cues, _ = read(
        "".join(
            f"{k}\n00:00:{k:02},000 --> 00:00:{k:02},900\n{t}\n\n"
            for k, t in enumerate(said, start=1)
        )
    )
    assert texts(cues) == said


TTML = (
    '<?xml version="1.0" encoding="UTF-8"?><tt xmlns="http://www.w3.org/ns/ttml"'
    ' xmlns:ttp="http://www.w3.org/ns/ttml#parameter" xmlns:tts="http://www.w3.org/ns/ttml#styling"'
    ' xmlns:ttm="http://www.w3.org/ns/ttml#metadata" xml:lang="en" {}><head><metadata>'
    '<ttm:agent xml:id="a1" type="person"><ttm:name type="full">Asha</ttm:name></ttm:agent>'
    "</metadata>"
    '<styling><style xml:id="base" tts:color="white"/><style xml:id="it" style="base"'
    ' tts:fontStyle="italic"/></styling><layout><region xml:id="top" tts:displayAlign="before"'
    ' tts:origin="10% 10%" tts:extent="80% 10%"/></layout></head><body><div>{}</div></body></tt>'
)
RATE_25 = 'ttp:frameRate="25"'
NTSC = 'ttp:frameRate="30" ttp:frameRateMultiplier="1000 1001"'
SMPTE = 'ttp:timeBase="smpte"'
TIMES = {
    "clock": ("", "00:00:01.5", "00:01:02.25", (1500, 62_250)),
    "clock with frames": (RATE_25, "00:00:01:05", "00:00:03:00", (1200, 3000)),
    "frames of NTSC": (NTSC, "30f", "00:00:03:15", (1001, 3500)),
    "old multiplier": (NTSC.replace("1000 1001", "1000:1001"), "30f", "3s", (1001, 3000)),
    "sub-frames": (RATE_25 + ' ttp:subFrameRate="2"', "00:00:01:10.1", "3s", (1420, 3000)),
    "ticks": ('ttp:tickRate="10000000"', "12500000t", "30000000t", (1250, 3000)),
    "ticks of frames": ('ttp:frameRate="50"', "50t", "100t", (1000, 2000)),
    "offsets": ("", "0.5m", "0.01h", (30_000, 36_000)),
    "milliseconds": ("", "500ms", "1500ms", (500, 1500)),
    "bare numbers": ("", "1", "2.5", (1000, 2500)),
    "commas": ("", "00:00:04,500", "00:00:06,000", (4500, 6000)),
    "no hours": ("", "01:02.5", "01:03", (62_500, 63_000)),
    "SMPTE": (f"{SMPTE} {RATE_25}", "00:00:01:05", "00:00:02:00", (1200, 2000)),
    "SMPTE, drop frame": (
        f'{SMPTE} {NTSC} ttp:dropMode="dropNTSC"', "00:01:00;02", "00:10:00;00", (60_060, 599_999),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_times_of_ttml_are_read_in_every_expression(read, name: str) -> None:
    """Clock, offset, ticks and frames, with the rates that the document tells."""
    told, begin, end, expected = TIMES[name]
    cues, sentences = read(TTML.format(told, f'<p begin="{begin}" end="{end}">x</p>'))
    assert (brief(cues), sentences) == ([(*expected, "x")], [])


def test_times_of_ttml_count_from_what_they_are_in(read) -> None:
    """`div` in `div`, `dur`, sequences, and spans that have times instead of their paragraph."""
    cues, told = read(
        TTML.format(
            "",
            '<div begin="10s"><div begin="5s"><p begin="1s" dur="2s">in\n  two<br/> divs</p></div>'
            "</div>"
            '<div timeContainer="seq" begin="20s"><p dur="1s">one</p>'
            '<p begin="1s" dur="2s">two</p></div>'
            '<p><span begin="30s" end="31s">by</span> <span begin="31s" end="32s">span</span></p>'
            '<p timeContainer="seq" begin="40s"><span dur="1s">a</span><span dur="1s">b</span></p>'
            '<p begin="50s">no end</p><p begin="never" end="60s">no time</p>',
        )
    )
    assert brief(cues) == [
        (16_000, 18_000, "in two\ndivs"),
        (20_000, 21_000, "one"), (22_000, 24_000, "two"),
        (30_000, 31_000, "by"), (31_000, 32_000, "span"),
        (40_000, 41_000, "a"), (41_000, 42_000, "b"),
        (50_000, 51_000, "no end"),
    ]  # fmt: skip
    assert len(told) == 3
    assert '"never" is no time' in told[0]


def test_places_italics_and_agents_of_ttml_are_kept(read) -> None:
    """From regions, styles that refer to styles, and names; ruby and metadata are not said."""
    cues, _ = read(
        TTML.format(
            "",
            '<p begin="1s" end="2s" region="top" style="it" ttm:agent="a1">a'
            "<metadata>m</metadata></p>"
            '<p begin="3s" end="4s"><span style="it">b</span> <span style="it">c</span></p>'
            '<p begin="5s" end="6s"><span style="it">d</span> e</p>'
            '<p begin="7s" end="8s"><span tts:ruby="container"><span tts:ruby="base">f</span>'
            '<span tts:ruby="text">g</span></span></p>',
        )
    )
    assert cues == [
        Cue(1000, 2000, "a", "Asha", "line:0", italic=True),
        Cue(3000, 4000, "b c", italic=True),
        Cue(5000, 6000, "d e"),
        Cue(7000, 8000, "f"),
    ]


@pytest.mark.parametrize(
    "namespace", ["http://www.w3.org/2006/10/ttaf1", "http://www.w3.org/2006/04/ttaf1"]
)
def test_older_ttml_and_its_declared_encoding_are_read(read, namespace: str) -> None:
    """DFXP, and XML that says in what it is written."""
    text = f'<tt xmlns="{namespace}"><body><div><p begin="1s" end="2s">café</p></div></body></tt>'
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>'
    assert texts(read(head + text, encoding="iso-8859-1")[0]) == ["café"]


ASS = """[Script Info]
PlayResX: 640
PlayResY: 480

[V4+ Styles]
Format: Name, Italic, Alignment
Style: Default,0,2
Style: Thought,-1,2
Style: Sign,0,8

[Events]
Format: Layer, Start, End, Style, Name, Text
"""


def test_events_of_ass_are_read_in_order_and_what_is_drawn_twice_once(read) -> None:
    """Layers, signs drawn anew for each picture, comments, drawings; `Format:` tells the fields."""
    moving = "".join(
        f"Dialogue: 0,0:00:{20 + k * 0.04:05.2f},0:00:{20.04 + k * 0.04:05.2f},Sign,,"
        f"{{\\pos({k},9)}}Bus\n"
        for k in range(20)
    )
    cues, told = read(
        ASS + "Dialogue: 0,0:00:10.00,0:00:12.00,Default,Asha,Good, night.\n"
        "Dialogue: 0,0:00:01.00,0:00:03.00,Thought,,Where?\n"
        "Dialogue: 1,0:00:05.00,0:00:06.00,Sign,,{\\pos(320,120)\\fad(9,9)}Station\n"
        "Dialogue: 0,0:00:05.00,0:00:06.04,Sign,,{\\pos(320,120)\\bord4}Station\n"
        "Comment: 0,0:00:08.00,0:00:09.00,Default,,no\n"
        "Dialogue: 0,0:00:08.00,0:00:09.00,Sign,,{\\p1}m 0 0 l 9 9{\\p0}\n"
        "Dialogue: 0,0:00:13.00,0:00:14.00,Thought,,{\\i0}up{\\an4}\\Nright{said}\n"
        "Dialogue: 0,0:00:15.00,0:00:16.00,Default,,{\\k9}ka{\\k9}ra{\\i1}\\hoke\n" + moving
    )
    assert told == []
    assert cues == [
        Cue(1000, 3000, "Where?", italic=True),
        Cue(5000, 6040, "Station", position="line:25%"),
        Cue(10_000, 12_000, "Good, night.", "Asha"),
        Cue(13_000, 14_000, "up\nright", position="line:50%,center align:left"),
        Cue(15_000, 16_000, "kara oke"),
        Cue(20_000, 20_800, "Bus", position="line:1.88% align:left"),
    ]


def test_events_that_cannot_be_read_have_a_place_and_the_others_stay(read) -> None:
    """One that lacks its times, one shown for no time, one that ends before it begins."""
    cues, told = read(
        ASS + "Dialogue: broken\nDialogue: 0,0:00:01.00,0:00:01.00,Default,,never\n"
        "Dialogue: 0,0:00:05.00,0:00:04.00,Default,,reversed\n"
    )
    assert texts(cues) == ["reversed"]
    assert "line 13" in told[0]
    assert len(told) == 3


def test_sbv_and_formats_of_frames_and_tenths_are_read(read) -> None:
    """SBV, MicroDVD with and without its rate, MPL2, SAMI: texts, times and italics."""
    sbv = "0:00:01.000,0:00:02.000\n>> Hi[br]you\n10\n\n0:00:03.000,0:00:04.000\nb\n"
    assert brief(read(sbv)[0]) == [
        (1000, 2000, ">> Hi\nyou\n10"), (3000, 4000, "b"),
    ]  # fmt: skip
    for head in ("{1}{1}25\n", "{0}{0}25.000\n"):
        cues, told = read(head + "{25}{50}a|b\n{75}{100}{y:i}c{c:$00ff00}\n")
        assert (cues, told) == ([Cue(1000, 2000, "a\nb"), Cue(3000, 4000, "c", italic=True)], [])
    cues, told = read("{24}{48}a\n")
    assert brief(cues) == [(1001, 2002, "a")]
    assert "23.976" in told[0]
    assert brief(read("{1}{1}25\n{25}{}a\n{75}{}b\n")[0])[0] == (1000, 3000, "a")
    assert read("[10][20]/a|/b\n")[0] == [Cue(1000, 2000, "a\nb", italic=True)]
    sami = "<SAMI><BODY><SYNC Start=1000><P>a<br>b\n<SYNC Start=3000><P>&nbsp;\n</BODY></SAMI>"
    assert brief(read(sami)[0]) == [(1000, 3000, "a\nb")]
    assert texts(read("{1}{1}25\n{25}{50}a {b} {c:$00ff00}c\n")[0]) == ["a {b} c"]


def test_the_languages_of_sami_stand_apart_each_until_its_own_next(read) -> None:
    """In one moment, in turns, or one after the other; a blank without a class clears both."""
    both = (
        "<sami><body><sync start=1000><p class=ENCC>Hi<p class=KRCC>\uc548\ub155"
        "<sync start=2000><p class=ENCC>Go<sync start=3000><p class=encc>&nbsp;<p class=KRCC>&nbsp;"
    )
    cues, told = read(both)
    assert brief(cues) == [
        (1000, 2000, "Hi"), (1000, 3000, "\uc548\ub155"), (2000, 3000, "Go"),
    ]  # fmt: skip
    assert len(told) == 1
    assert "encc, krcc" in told[0]
    after = (
        "<SAMI><BODY><SYNC Start=1000><P Class=A>one<SYNC Start=2000><P Class=A>&nbsp;"
        "<SYNC Start=1000><P Class=B><i>eins</i><SYNC Start=2500>&nbsp;</BODY></SAMI>"
    )
    assert brief(read(after)[0]) == [(1000, 2000, "one"), (1000, 2500, "eins")]
    named = "<SAMI><SYNC Start=1000><P Class=A>a<P Class=A>b<SYNC Start=2000><P Class=None>&nbsp;"
    assert read(named) == ([Cue(1000, 2000, "a\nb")], [])


def test_captions_of_codes_are_refused(tmp_path: Path) -> None:
    """Their times look like those of another format, whose texts they would be."""
    path = tmp_path / "film.scc"
    path.write_text("Scenarist_SCC V1.0\n\n00:00:01:00\t9420 9420 94ad 94ad\n")
    with pytest.raises(UsageError, match="codes of a decoder"):
        subtitles.read(path)


@pytest.mark.parametrize("arrow", ["->", "\u2014>", "\u2013 >", "\u2192"])
def test_arrows_of_word_processors_part_times(read, arrow: str) -> None:
    """They make one sign of two, and the cue would be text of the one before."""
    cues, told = read(TWO.format("a", "b") + TWO.format("c", "d").replace("-->", arrow))
    assert sorted(texts(cues)) == ["a", "b", "c", "d"]
    assert not told


def test_the_libraries_that_are_not_used_would_lose_cues(tmp_path: Path) -> None:
    """Why some formats are read here; where a newer library reads them, it may take over."""
    last = pysubs2.SSAFile.from_string(TWO.format("We were", "at\n5"), format_="srt")
    assert last[1].plaintext == "at"
    both = pysubs2.SSAFile.from_string("<SAMI><SYNC Start=1><P Class=A>a<P Class=B>b</SAMI>")
    assert both[0].plaintext == "ab"
    path = tmp_path / "film.srt"
    path.write_text("00:00:01,000 --> 00:00:02,000\na\n")
    with pytest.raises(webvtt.errors.MalformedFileError):
        webvtt.from_srt(str(path))
    line = "Dialogue: 0:00:01.00,0:00:02.00,Hello\n"
    with pytest.raises((ValueError, RuntimeWarning)):
        pysubs2.SSAFile.from_string(
            f"[V4+ Styles]\n[Events]\nFormat: Start, End, Text\n{line}", format_="ass"
        )


def test_readers_are_imported_by_those_who_read() -> None:
    """The command's start does not pay for them."""
    script = "import sys; from voxroute_orchestrator.cli import run; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"webvtt", "pysubs2", "voxroute_orchestrator.subtitles.reading.subrip"}
