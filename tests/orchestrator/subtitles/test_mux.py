"""Soft subtitles in a copy of the recording."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.orchestrator import recordings
from voxroute_orchestrator.errors import MediaError, OutputError
from voxroute_orchestrator.subtitles.cues import Cue, Track
from voxroute_orchestrator.subtitles.mux import mux, plan
from voxroute_orchestrator.subtitles.muxed_streams import iso_639_2
from voxroute_serving.audio.media import MediaStoppedError, Watch

FILM = Path(__file__).resolve().parents[3] / "examples" / "lost-key.mp4"
HINDI = [Cue(1500, 3238, "मीरा, चाबी {कहाँ} है?\n<b> & \\N"), Cue(66_375, 67_500, "धन्यवाद।")]
ENGLISH = [Cue(1500, 3238, "Meera, where is the key?"), Cue(66_375, 67_500, "Thank you.")]
TRACKS = [Track("hi", HINDI), Track("en", ENGLISH)]


def packets(path: Path, kind: str) -> list[bytes]:
    """What the packets of the first stream of a kind hold."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def shown(path: Path, number: int) -> list[tuple[int, int, str]]:
    """The cues of the subtitles with that number, counted from 0, in milliseconds."""
    found: list[tuple[int, int, str]] = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[number]
        header = 2 if stream.codec_context.name == "mov_text" else 0
        for packet in container.demux(stream):
            if packet.size > header and packet.pts is not None:
                to_ms = 1000 * packet.time_base
                found.append(
                    (
                        round(packet.pts * to_ms),
                        round((packet.duration or 0) * to_ms),
                        bytes(packet)[header:].decode(),
                    )
                )
    return found


def remuxed(path: Path, muxer: str, kinds: tuple[str, ...] = ("video", "audio")) -> Path:
    """The film in another kind of file."""
    with av.open(str(FILM)) as source, av.open(str(path), "w", format=muxer) as target:
        copies = {
            stream.index: target.add_stream_from_template(stream, opaque=True)
            for stream in source.streams
            if stream.type in kinds
        }
        for packet in source.demux():
            if packet.size and packet.stream.index in copies:
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "muxer", "codec", "german"),
    [
        ("film.mp4", "mp4", "mov_text", "deu"),
        ("film.m4v", "mp4", "mov_text", "deu"),
        ("film.mov", "mov", "mov_text", "ger"),
        ("film.mkv", "matroska", "srt", "ger"),
    ],
)
def test_a_copy_has_the_same_packets_and_soft_subtitles(
    name: str, muxer: str, codec: str, german: str, tmp_path: Path
) -> None:
    """Video and audio byte for byte; each language with its codec, its tag and its texts."""
    film = remuxed(tmp_path / name, muxer)
    target = tmp_path / plan(film).name_for("film")
    assert target.name == f"film.subtitled{film.suffix}"
    assert mux(film, target, [*TRACKS, Track("de", ENGLISH)]) == []
    for kind in ("video", "audio"):
        assert packets(target, kind) == packets(film, kind)
    with av.open(str(target)) as container:
        streams = container.streams.subtitles
        assert [s.codec_context.name for s in streams] == [codec] * 3
        assert [s.metadata.get("language") for s in streams] == ["hin", "eng", german]
        titles = [s.metadata.get("title") or s.metadata.get("name") for s in streams]
        assert titles == ["Hindi", "English", "German"]
        default = [bool(s.disposition & Disposition.default) for s in streams]
        assert default == [False, True, False]
        moved_ms = round((container.start_time or 0) / 1000)
    with av.open(str(film)) as container:
        moved_ms -= round((container.start_time or 0) / 1000)
    for number, cues in enumerate((HINDI, ENGLISH)):
        # Matroska has no times below zero: all streams begin later by the audio's lead-in
        told = [
            (start - max(0, moved_ms), length, text)
            for start, length, text in shown(target, number)
        ]
        assert told == [(c.start_ms, c.end_ms - c.start_ms, c.text) for c in cues]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_ffprobe_finds_the_same_streams(name: str, tmp_path: Path) -> None:
    """FFmpeg's own tool sees the subtitles too."""
    film = remuxed(tmp_path / name, "mp4" if name.endswith("4") else "matroska")
    target = tmp_path / f"out-{name}"
    mux(film, target, TRACKS)
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(target)],
        check=True,
        capture_output=True,
    )
    streams = json.loads(done.stdout)["streams"]
    assert [s["codec_type"] for s in streams] == ["video", "audio", "subtitle", "subtitle"]
    assert [s["tags"]["language"] for s in streams[2:]] == ["hin", "eng"]


def test_subtitles_of_a_broadcast_follow_its_clock(tmp_path: Path) -> None:
    """An MPEG stream starts anywhere: cues are as far from its first packet as they are in SRT."""
    film = remuxed(tmp_path / "film.ts", "mpegts")
    target = tmp_path / plan(film).name_for("film")
    assert target.suffix == ".mkv"
    mux(film, target, TRACKS)
    with av.open(str(target)) as container:
        start_ms = (container.start_time or 0) / 1000
    assert shown(target, 0)[0][0] - start_ms == pytest.approx(1500, abs=25)
    assert len(packets(target, "video")) == len(packets(film, "video"))


def test_an_avi_without_presentation_times_becomes_matroska(tmp_path: Path) -> None:
    """Pictures that are not stored in their order of showing are copied all the same."""
    film = tmp_path / "film.avi"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for number in range(25):
            picture = np.full((64, 64, 3), number * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    target = tmp_path / plan(film).name_for("film")
    assert mux(film, target, TRACKS) == []
    assert target.suffix == ".mkv"
    assert packets(target, "video") == packets(film, "video")


@pytest.mark.parametrize(
    ("name", "muxer", "suffix"), [("talk.m4a", "ipod", ".m4a"), ("talk.mka", "matroska", ".mka")]
)
def test_recordings_without_pictures_stay_recordings(
    name: str, muxer: str, suffix: str, tmp_path: Path
) -> None:
    """M4A keeps its kind, others become Matroska audio; both hold subtitles."""
    talk = remuxed(tmp_path / name, muxer, ("audio",))
    target = tmp_path / plan(talk).name_for("talk")
    assert target.suffix == suffix
    mux(talk, target, TRACKS[:1])
    assert packets(target, "audio") == packets(talk, "audio")
    with av.open(str(target)) as container:
        (stream,) = container.streams.subtitles
        assert stream.metadata["language"] == "hin"
        assert stream.disposition & Disposition.default
    wave = recordings.write(tmp_path / "talk.wav", recordings.steps(3))
    assert plan(wave).name_for("talk") == "talk.subtitled.mka"


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_subtitles_that_are_there_stay(name: str, tmp_path: Path) -> None:
    """A copy of a copy has all tracks, the newest last, and one that is shown by default."""
    once, twice = tmp_path / name, tmp_path / f"twice-{name}"
    mux(
        remuxed(tmp_path / f"bare-{name}", "mp4" if name.endswith("4") else "matroska"),
        once,
        TRACKS,
    )
    mux(once, twice, [Track("fr", ENGLISH)])
    with av.open(str(twice)) as container:
        streams = container.streams.subtitles
        assert [s.metadata["language"] for s in streams][:2] == ["hin", "eng"]
        assert [bool(s.disposition & Disposition.default) for s in streams] == [False, False, True]
    assert shown(twice, 1) == shown(once, 1)
    assert packets(twice, "video") == packets(FILM, "video")


LIMITED = """
import resource, sys
from pathlib import Path
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.errors import OutputError
from voxroute_orchestrator.subtitles.mux import Track, mux

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    mux(Path(sys.argv[1]), Path(sys.argv[2]), [Track("en", [Cue(0, 1000, "a")])])
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("missing", [1, 600_000])  # the last byte, and nearly all
def test_a_copy_that_cannot_be_written_whole_is_not_there(missing: int, tmp_path: Path) -> None:
    """When the disk takes no more, the old file stays and no temporary one is left."""
    target = tmp_path / "film.mp4"
    mux(FILM, target, [Track("en", [Cue(0, 1000, "a")])])
    size = target.stat().st_size
    target.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(FILM), str(target), str(size - missing)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_copy_can_be_stopped(tmp_path: Path) -> None:
    """Nothing of it is left."""
    watch = Watch()
    watch.stop()
    with pytest.raises(MediaStoppedError):
        mux(FILM, tmp_path / "film.mp4", TRACKS, watch)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    """No such film, no such folder: errors of the tree, with a sentence."""
    with pytest.raises(MediaError):
        mux(tmp_path / "none.mp4", tmp_path / "out.mp4", TRACKS)
    with pytest.raises(OutputError, match="-o"):
        mux(FILM, tmp_path / "none" / "out.mp4", TRACKS)


def test_languages_have_three_letters() -> None:
    """ISO 639-2, the terminological code unless the bibliographic one is asked for."""
    assert [iso_639_2(tag) for tag in ("hi", "en", "de", "pt-BR", "und")] == [
        "hin", "eng", "deu", "por", "und",
    ]  # fmt: skip
    assert iso_639_2("de", bibliographic=True) == "ger"
    assert iso_639_2("fr", bibliographic=True) == "fre"
