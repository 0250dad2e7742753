"""What is around picture and sound is in the copy too, or is named before any work is done."""

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from tests.orchestrator.cli.test_command import Sandbox, sandbox
from tests.orchestrator.films import Film, jpeg
from voxroute_orchestrator.subtitles.cues import Cue, Track
from voxroute_orchestrator.subtitles.mux import Plan, mux, plan

__all__ = ["sandbox"]

CUES = [Cue(100, 900, "नमस्ते")]
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
TRACKS = [Track("hi", CUES), Track("en", [Cue(100, 900, "Hello")])]


def copied(path: Path, film: Film) -> tuple[Plan, Path]:
    """The plan for a film and its copy."""
    film.write(path)
    found = plan(path)
    target = path.parent / found.name_for(path.stem)
    assert mux(path, target, TRACKS, None, found) == list(found.left_out)
    return found, target


def cover_of(container: Any) -> bytes:
    """The picture that a reader finds as the cover."""
    (stream,) = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
    return next(bytes(packet) for packet in container.demux(stream) if packet.size)


@pytest.mark.parametrize(
    ("name", "film"),
    [
        ("talk.m4a", Film("ipod", None, "aac", n_chapters=2)),
        ("talk.m4a", Film("mp4", None, "alac", cover=True, n_chapters=3)),
        ("talk.m4a", Film("mp4", None, "flac", cover=True)),
        ("book.m4b", Film("mp4", None, "aac", cover=True, n_chapters=3)),
        ("film.mp4", Film("mp4", cover=True, n_chapters=2)),
        ("film.mkv", Film("matroska", cover=True, font=b"\0\1\0\0font", n_chapters=2)),
        ("talk.mp3", Film("mp3", None, "mp3", cover=True)),
        ("talk.flac", Film("flac", None, "flac", cover=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_covers_chapters_and_fonts_are_in_the_copy(name: str, film: Film, tmp_path: Path) -> None:
    """With its picture byte for byte where there is one; nothing is left out."""
    found, target = copied(tmp_path / name, film)
    assert found.left_out == ()
    if name.startswith(("talk.m4a", "book", "film")):
        assert target.suffix == Path(name).suffix
    with av.open(str(target)) as copy, av.open(str(tmp_path / name)) as source:
        titles = [chapter["metadata"]["title"] for chapter in copy.chapters()]
        assert titles == [f"Part {number}" for number in range(film.n_chapters)]
        assert [s.metadata["language"] for s in copy.streams.subtitles] == ["hin", "eng"]
        if film.font:
            fonts = [s for s in copy.streams if s.type == "attachment"]
            assert [(s.name, s.data) for s in fonts] == [("font.ttf", film.font)]
        if film.cover:
            assert cover_of(copy) == cover_of(source)


@pytest.mark.parametrize(
    ("name", "film"),
    [
        ("film.mp4", Film("mp4", "libx265", sample_entry="hvc1", rotation=90)),
        ("film.mp4", Film("mp4", "libx265", sample_entry="hev1", rotation=180)),
        ("film.mov", Film("mov", "libx265", sample_entry="hvc1", rotation=-90)),
        ("film.mp4", Film("mp4", "libx264", sample_entry="avc3")),
        ("film.mkv", Film("matroska", "libx264", rotation=270)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.sample_entry,
)
def test_the_sample_entry_and_the_rotation_stay(name: str, film: Film, tmp_path: Path) -> None:
    """Apple's players want hvc1; FFmpeg's own choice is hev1. A telephone's film stays upright."""
    found, target = copied(tmp_path / name, film)
    assert found.left_out == ()
    with av.open(str(target)) as container:
        picture = container.streams.video[0]
        if film.sample_entry:
            assert picture.codec_context.codec_tag == film.sample_entry
        frame = next(container.decode(picture))
        assert (frame.rotation - (film.rotation or 0)) % 360 == 0


@pytest.mark.parametrize(("name", "muxer"), [("film.mp4", "mp4"), ("film.mkv", "matroska")])
def test_marks_languages_and_titles_of_tracks_stay(name: str, muxer: str, tmp_path: Path) -> None:
    """A commentary stays one, in its language and under its name; so does the film's own title."""
    marks = Disposition.comment | Disposition.hearing_impaired
    film = Film(
        muxer, marks=marks, title="Kommentar <b>", language="fra", metadata={"title": "Ein Film"}
    )
    found, target = copied(tmp_path / name, film)
    assert found.left_out == ()
    with av.open(str(target)) as container:
        sound = container.streams.audio[0]
        assert sound.disposition & marks == marks
        assert sound.metadata["language"] == "fra"
        assert "Kommentar <b>" in sound.metadata.values()
        assert container.metadata["title"] == "Ein Film"


@pytest.mark.parametrize(
    ("name", "muxer", "codec", "body"),
    [
        ("film.mkv", "matroska", "ass", b"0,0,Default,,0,0,0,,Sign"),
        ("film.mkv", "matroska", "webvtt", b"Sign"),
        ("film.mp4", "mp4", "mov_text", b"\0\4Sign"),
        ("film.f4v", "mp4", "mov_text", b"\0\4Sign"),
    ],
)
def test_subtitles_of_the_film_stay_with_their_marks(
    name: str, muxer: str, codec: str, body: bytes, tmp_path: Path
) -> None:
    """Those for signs are shown although they were not asked for; none but ours is the default."""
    path, plain = tmp_path / name, tmp_path / "plain.mkv"
    Film("matroska").write(plain)
    with av.open(str(plain)) as source, av.open(str(path), "w", format=muxer) as container:
        copies = [container.add_stream_from_template(s, opaque=True) for s in source.streams]
        subtitles: Any = container.add_stream(codec)
        subtitles.codec_context.subtitle_header = ASS_HEADER
        subtitles.codec_context.time_base = subtitles.time_base = Fraction(1, 1000)
        subtitles.metadata.update({"language": "jpn", "title": "Signs"})
        subtitles.disposition = Disposition.forced | Disposition.default
        packet = av.Packet(body)
        packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
        packet.pts = packet.dts = packet.duration = 100
        container.mux(packet)
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                container.mux(packet)
    found = plan(path)
    assert found.left_out == ()
    target = tmp_path / found.name_for("copy")
    mux(path, target, TRACKS, None, found)
    with av.open(str(target)) as container:
        first, *ours = container.streams.subtitles
        assert first.disposition == Disposition.forced
        assert first.metadata["language"] == "jpn"
        assert "Signs" in first.metadata.values()
        assert [bool(s.disposition & Disposition.default) for s in ours] == [False, True]
        assert next(bytes(p) for p in container.demux(first) if p.size > 2).startswith(body)


def test_chapter_tracks_do_not_grow_from_copy_to_copy(tmp_path: Path) -> None:
    """QuickTime's chapters are a track of text, which the copy's own takes the place of."""
    film = tmp_path / "film.mov"
    Film("mov", n_chapters=3).write(film)
    kinds: list[list[str]] = []
    for number in range(2):
        target = tmp_path / f"copy{number}.mov"
        assert mux(film, target, TRACKS) == []
        with av.open(str(target)) as container:
            kinds.append(sorted(stream.type for stream in container.streams))
            assert len(container.chapters()) == 3
        film = target
    assert len(kinds[1]) == len(kinds[0]) + len(TRACKS)


def test_what_the_copy_cannot_hold_is_named_before(tmp_path: Path) -> None:
    """Teletext of a broadcast has no place in Matroska; all else is copied."""
    found, target = copied(tmp_path / "film.ts", Film("mpegts", "mpeg2video", teletext=True))
    (told,) = found.left_out
    assert told.startswith("the copy has no subtitle stream 2 of the source: ")
    with av.open(str(target)) as container:
        assert [s.type for s in container.streams] == ["video", "audio", "subtitle", "subtitle"]


@pytest.mark.parametrize(
    ("name", "film", "suffix"),
    [
        ("call.wav", Film("wav", None, "pcm_mulaw"), ".mov"),
        ("film.mp4", Film("mov", "mpeg4", "pcm_mulaw"), ".mov"),
        ("film.mp4", Film("mov", "mpeg4", "adpcm_ima_qt"), ".mov"),
        ("book.m4a", Film("mov", None, "pcm_s16le"), ".m4a"),
    ],
)
def test_another_kind_of_file_is_taken_where_the_own_one_does_not_hold_the_sound(
    name: str, film: Film, suffix: str, tmp_path: Path
) -> None:
    """A call in mu-law, say, which Matroska does not hold; the sentence says why."""
    found, target = copied(tmp_path / name, film)
    assert target.suffix == suffix
    if suffix != Path(name).suffix:
        assert f"the copy is a {suffix} file, because of audio stream" in found.left_out[0]


def test_what_no_copy_can_hold_is_refused_before_the_work(sandbox: Sandbox) -> None:
    """With a sentence and exit code 2, and without any service; so is preparing such a job."""
    call = sandbox.folder / "call.wav"
    Film("wav", None, "adpcm_yamaha").write(call)
    done = sandbox.run("transcribe", str(call), "-s", "hi", "--mux", "-o", str(sandbox.out))
    assert done.returncode == 2
    assert "adpcm_yamaha" in done.stderr
    assert "leave out --mux" in done.stderr
    assert "Traceback" not in done.stderr
    assert not sandbox.pids()
    prepared = sandbox.run("prepare", str(call), "--mux", "--transcribe", "--offline")
    assert prepared.returncode == 2
    assert "leave out --mux" in prepared.stderr


def test_what_is_left_out_is_told_before_the_work(sandbox: Sandbox) -> None:
    """Once, as a warning, also where the rest is quiet; the cover is in the copy."""
    book = sandbox.folder / "book.m4a"
    Film("mp4", None, "aac", cover=True, n_chapters=2).write(book)
    call = sandbox.folder / "call.wav"
    Film("wav", None, "pcm_mulaw").write(call)
    done = sandbox.run(
        "run", str(book), str(call), "-s", "hi", "-t", "en", "--mux", "-q",
        "-o", str(sandbox.out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("call: the copy is a .mov file, because of audio stream") == 1
    assert (sandbox.out / "call.subtitled.mov").is_file()
    with av.open(str(sandbox.out / "book.subtitled.m4a")) as container:
        assert cover_of(container) == jpeg()
        assert len(container.chapters()) == 2


ODD_TITLES = ["", " ", "a\nb", "\t", "\x1b[31m", "é\u0301", "🎬" * 50, "x" * 5000, "%s%d", "a=b;c"]
ODD_LANGUAGES = ["", "und", "xx", "english", "hin", "e", "zh-Hans", "\n", "日本語", "x" * 100]


@pytest.mark.parametrize(
    "times", [40, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_any_title_and_language_of_a_track_ends_in_a_copy(times: int, tmp_path: Path) -> None:
    """What a file says of its tracks may be anything; the sound of the copy is there."""
    chance = random.Random(11)  # noqa: S311 - the same ones each time
    alphabet = "aZ09 \t\n\r\x01\x1b\x7f\"'<>&{}[]%\\/:;=\u200d\u0301नि日🎬\u202e\ufeff"
    kinds = [("mp4", "t.mp4"), ("mov", "t.mov"), ("matroska", "t.mkv"), ("ipod", "t.m4a")]
    for number in range(times):
        odd = "".join(chance.choices(alphabet, k=chance.randrange(40)))
        title = chance.choice([odd, *ODD_TITLES])
        language = chance.choice([odd[:5], *ODD_LANGUAGES])
        muxer, name = chance.choice(kinds)
        film = Film(muxer, None, "aac", title=title, language=language, metadata={"title": title})
        path = tmp_path / name
        film.write(path)
        found = plan(path)
        target = tmp_path / found.name_for(f"t{number}")
        left_out = mux(path, target, TRACKS, None, found)
        assert all(len(sentence.splitlines()) == 1 for sentence in left_out)
        with av.open(str(target), metadata_errors="replace") as container:
            assert len(container.streams.audio) == 1
        target.unlink()
