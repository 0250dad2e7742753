"""Damaged subtitle files: each ends in cues that every format can hold, or in a sentence."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue, rewrapped
from voxroute_orchestrator.subtitles.turns import turns_of

TALK = ["- Where is the key?\n- On the table.", "<i>Good night.</i>", "1984", "नमस्ते &amp; hello"]
ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "cp1252",
    "shift_jis",
]
HOSTILE = [
    "<i", "{\\", "{\\pos(", "&#", "&#xD800;", "-->", "\0", "\ufeff", "\u2028", "00:00:01,000",
    "9" * 400, "[", "]]>", "<p begin='1s'>", "<tt ", "WEBVTT\n", "NOTE\n", "STYLE\n", "-1", "\n\n",
    "REGION\nid:x\n", "X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:9", "{1}{2}", "[Events]\n", "<v ",
    "Dialogue: ", "Format: Text", "\ud800", "<SAMI>", "<SYNC Start=1>", "\x85", "\x0b",
    "ttp:frameRate='0'", "<!DOCTYPE x>",
]  # fmt: skip


def srt() -> str:
    """SubRip."""
    return "".join(
        f"{k + 1}\n00:00:0{k},000 --> 00:00:0{k},900\n{{\\an8}}{text}\n\n"
        for k, text in enumerate(TALK)
    )


def vtt() -> str:
    """WebVTT."""
    return "WEBVTT\n\nREGION\nid:fred\nwidth:40%\nviewportanchor:10%,90%\n\nNOTE x\n\n" + "".join(
        f"id-{k}\n00:0{k}.000 --> 00:0{k}.900 line:{k * 20}% region:fred\n<v Asha>{text}</v>\n\n"
        for k, text in enumerate(TALK)
    )


def ttml() -> str:
    """TTML."""
    body = "".join(
        f'<p begin="00:00:0{k}:12" dur="0.4s" region="r">{text.replace("&", "&amp;")}</p>'
        for k, text in enumerate(TALK)
    )
    return (
        (
            '<?xml version="1.0" encoding="UTF-8"?><tt xmlns="http://www.w3.org/ns/ttml"'
            ' xmlns:tts="http://www.w3.org/ns/ttml#styling"'
            ' xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:frameRate="25"><head><layout>'
            '<region xml:id="r" tts:origin="10% 10%" tts:extent="80% 10%"/></layout></head>'
            f'<body><div begin="1s">{body}</div></body></tt>'
        )
        .replace("<i>", "<span>")
        .replace("</i>", "</span>")
    )


def ass() -> str:
    """ASS."""
    return subtitles.to_ass([Cue(k * 1000, k * 1000 + 900, text) for k, text in enumerate(TALK)])


def ssa() -> str:
    """SSA."""
    return ass().replace("V4+ Styles", "V4 Styles").replace("Dialogue: 0", "Dialogue: Marked=0")


def sbv() -> str:
    """SBV."""
    return "".join(f"0:00:0{k}.000,0:00:0{k}.900\n{text}\n\n" for k, text in enumerate(TALK))


def microdvd() -> str:
    """MicroDVD."""
    lines = (f"{{{k * 25}}}{{{k * 25 + 20}}}{{y:i}}{t}" for k, t in enumerate(TALK))
    return "{1}{1}25\n" + "\n".join(line.replace("\n", "|") for line in lines)


def mpl2() -> str:
    """MPL2."""
    return "\n".join(f"[{k * 10}][{k * 10 + 9}]/{t}".replace("\n", "|") for k, t in enumerate(TALK))


def tmplayer() -> str:
    """TMPlayer."""
    return "\n".join(f"00:00:0{k}:{t}".replace("\n", "|") for k, t in enumerate(TALK))


def sami() -> str:
    """SAMI."""
    return "<SAMI><BODY>" + "".join(
        f"<SYNC Start={k}000><P>{t}\n<SYNC Start={k}900><P>&nbsp;\n" for k, t in enumerate(TALK)
    )


def own() -> str:
    """Our JSON."""
    return subtitles.to_json([Cue(k * 1000, k * 1000 + 900, text) for k, text in enumerate(TALK)])


MAKERS: list[Callable[[], str]] = [
    srt, vtt, ttml, ass, ssa, sbv, microdvd, mpl2, tmplayer, sami, own,
]  # fmt: skip


def damaged(chance: random.Random) -> bytes:
    """A file of some format, its text changed, encoded somehow, its bytes changed."""
    text = chance.choice(MAKERS)()
    for _ in range(chance.randrange(6)):
        at, until = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        match chance.randrange(7):
            case 0:
                text = text[:at] + chance.choice(HOSTILE) * chance.choice([1, 1, 3, 50]) + text[at:]
            case 1:
                text = text[:at] + text[until:]
            case 2:
                text = text[:until] + text[at:]
            case 3:
                text = text[:at] + chance.choice(MAKERS)()[at // 2 :] + text[until:]
            case 4:
                text = "".join(chance.choice("0123456789") if c.isdigit() else c for c in text)
            case 5:
                text = text.replace("\n", chance.choice(["\r", "\r\n", "\n\n", " ", "\n \n"]))
            case _:
                text = text[:until]
    data = bytearray(text.encode(chance.choice(ENCODINGS), errors="replace"))
    for _ in range(chance.choice([0, 0, 1, 5])):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def check(path: Path, chance: random.Random) -> bool:
    """Reads the file; what is read is written in every format. Whether there was anything."""
    encoding = chance.choice([None, None, None, "cp1252", "utf-16"])
    told: list[str] = []
    try:
        cues = subtitles.read(path, encoding=encoding, tell=told.append)
    except UsageError as error:
        if str(path) not in str(error):
            pytest.fail(f"no sentence about the file: {error}")
        return False
    assert all(told)
    if not cues:
        assert told
        return False
    assert all(0 <= cue.start_ms < cue.end_ms and cue.text for cue in cues)
    assert cues == sorted(cues, key=lambda cue: cue.start_ms)
    wrapped = [part for cue in cues for part in rewrapped(cue)]
    for kind, write in subtitles.FORMATS.items():
        written = path.with_name(f"written.{kind}")
        written.write_text(write(wrapped, "en"), encoding="utf-8", newline="\n")
        subtitles.read(written, tell=pytest.fail)
    return True


def fuzz(folder: Path, seeds: range) -> None:
    """Reads a file for each seed."""
    path = folder / "film.sub"
    read = 0
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311 - to be repeated
        path.write_bytes(damaged(chance))
        try:
            read += check(path, chance)
        except BaseException as error:
            error.add_note(f"seed {seed}: {path.read_bytes()!r}")
            raise
    assert read > len(seeds) // 4  # damage, not rubble


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_format_is_read_where_it_is_whole(tmp_path: Path, maker: Callable[[], str]) -> None:
    """The files that are damaged below say four things, in four cues."""
    path = tmp_path / "film.sub"
    path.write_text(maker(), encoding="utf-8")
    assert len(subtitles.read(path)) == len(TALK)


def test_damaged_files_end_in_cues_or_in_a_sentence(tmp_path: Path) -> None:
    """Never in anything else; and what is read can be written, in order, in every format."""
    fuzz(tmp_path, range(150))


@pytest.mark.slow
def test_a_thousand_damaged_files_end_in_cues_or_in_a_sentence(tmp_path: Path) -> None:
    """As above, with others."""
    fuzz(tmp_path, range(1000, 2000))


SRT = "1\n00:00:00,000 --> 00:00:01,000\n"
VTT = "WEBVTT\n\n00:00.000 --> 00:01.000"
ASS = "[Script Info]\n\n[Events]\n"
EVENT = "Dialogue: 0,0:00:00.00,0:00:01.00,,,0,0,0,,"
LONG = {
    "tags.srt": SRT + "<i " * 200_000,
    "overrides.srt": SRT + "{\\an8" * 100_000,
    "entities.srt": SRT + "&#1" * 200_000,
    "numbers.srt": SRT + "\n" * 300_000 + "7",
    "arrows.srt": SRT + "--> " * 200_000,
    "times.srt": "00:00:00,000 --> 00:00:01,000\n" * 20_000 + "x",
    "digits.srt": SRT + "x\n" + "1" * 500_000,
    "colons.srt": SRT + "x\n" + "1:" * 300_000,
    "rolling.srt": "".join(
        f"{k}\n00:00:{k % 60:02},000 --> 00:00:{k % 60:02},000\nsame\n\n" for k in range(3000)
    ),
    "turns.srt": SRT + "- a.\n" * 20_000,
    "lines.srt": SRT + "a\n" * 100_000 + SRT.replace("00,", "01,") + "a\n" * 99_999 + "b\n",
    "names.srt": SRT + "A" * 200_000 + "\n" + "A b:" * 100_000,
    "headers.vtt": VTT + "\nx\n\n" + "WEBVTT\n\n" * 20_000,
    "voices.vtt": VTT + "\n" + "<v A>x" * 20_000,
    "settings.vtt": VTT + " line:1" * 50_000 + "\nx\n",
    "comments.vtt": "WEBVTT\n\n" + "NOTE x\n\n" * 50_000 + "00:00.000 --> 00:01.000\nx\n",
    "segments.vtt": "".join(
        f"WEBVTT\n\n00:{k // 60:02}:{k % 60:02}.000 --> 00:{k // 60:02}:{k % 60:02}.900\nx{k}\n\n"
        for k in range(3000)
    ),
    "braces.ass": ASS + EVENT + "{" * 300_000,
    "styles.ass": "[V4+ Styles]\n" + "Style: a\n" * 50_000 + ASS + EVENT + "x",
    "heads.ass": "[" * 300_000 + f"\n[{'a' * 100_000}\n" + ASS + EVENT + "x",
    "signs.ass": ASS + "".join(f"{EVENT}x{k % 7}\n" for k in range(20_000)),
    "styles.ttml": '<tt xmlns="http://www.w3.org/ns/ttml"><head><styling>'
    + "".join(f'<style xml:id="s{k}" style="s{k + 1} s{k + 2} s{k + 3}"/>' for k in range(60))
    + '</styling></head><body><div><p style="s0" begin="0s" end="1s">x</p></div></body></tt>',
}


@pytest.mark.parametrize("name", LONG)
def test_no_file_takes_the_square_of_its_length(tmp_path: Path, name: str) -> None:
    """Seconds for the worst half megabyte, where the square would be minutes or worse."""
    path = tmp_path / name
    path.write_text(LONG[name])
    started = time.monotonic()
    try:
        cues = subtitles.read(path)
    except UsageError:
        cues = []
    for write in subtitles.FORMATS.values():
        write(cues, "en")
    for cue in cues:
        turns_of(cue.text)
    assert time.monotonic() - started < 15
