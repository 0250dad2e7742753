"""Which audio track is taken, and how people see and choose it."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import pytest
from av.stream import Disposition

from tests import forking
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat

NONE = Disposition(0)


@dataclass(frozen=True)
class Made:
    """A track."""

    language: str = ""
    title: str = ""
    flags: Disposition = NONE
    layout: str = "stereo"


def _film(path: Path, *tracks: Made) -> Path:
    with av.open(str(path), "w") as container:
        streams: list[Any] = []
        for track in tracks:
            stream = cast("Any", container).add_stream("ac3", rate=48_000, layout=track.layout)
            stream.metadata["language"] = track.language or "und"
            if track.title:
                stream.metadata["title"] = track.title
            stream.disposition = track.flags
            streams.append(stream)
        for stream, track in zip(streams, tracks, strict=True):
            for number in range(40):
                frame = av.AudioFrame(format="fltp", layout=track.layout, samples=1536)
                for plane in frame.planes:
                    plane.update(bytes(plane.buffer_size))
                frame.sample_rate, frame.pts = 48_000, number * 1536
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


DEFAULT, COMMENT = Disposition.default, Disposition.comment
COMMENTARY = Made("eng", "Director's commentary", COMMENT)
MAIN = Made("eng", "Stereo", DEFAULT)


CHOICES = {
    "a commentary comes first": ([COMMENTARY, MAIN], "en", 1),
    "a commentary is the default": ([Made("eng", "", COMMENT | DEFAULT), Made("eng")], "en", 1),
    "a commentary by its title": ([Made("eng", "Audio commentary with the cast"), MAIN], "en", 1),
    "a German one": ([Made("ger", "Kommentar des Regisseurs"), Made("ger", "Stereo")], "de", 1),
    "a French one": ([Made("fre", "Commentaire du réalisateur"), Made("fre")], "fr", 1),
    "a Spanish one": ([Made("spa", "Comentarios del director"), Made("spa")], "es", 1),
    "a description by its flag": ([Made("eng", "", Disposition.visual_impaired), MAIN], "en", 1),
    "descriptions by their flag": ([Made("eng", "", Disposition.descriptions), MAIN], "en", 1),
    "a description by its title": ([Made("eng", "English (Audio Description)"), MAIN], "en", 1),
    "AD": ([Made("eng", "English AD"), Made("eng", "English")], "en", 1),
    "a German description": ([Made("deu", "Hörfilmfassung"), Made("deu")], "de", 1),
    "a French description": ([Made("fra", "Audiodescription"), Made("fra")], "fr", 1),
    "music and effects": ([Made("eng", "Music & Effects", DEFAULT), Made("eng")], "en", 1),
    "an isolated score": ([Made("", "Isolated Score", DEFAULT), Made("", "Main")], None, 1),
    "a title like one": ([Made("eng", "Adaptation, 5.1"), Made("eng", "Headphones")], "en", 0),
    "the language before the default": ([MAIN, Made("hin")], "hi", 1),
    "the default of the language": ([Made("hin"), Made("hin", "", DEFAULT), MAIN], "hi", 1),
    "the default": ([Made("hin"), Made("tam", "", DEFAULT)], None, 1),
    "the first": ([Made(), Made()], None, 0),
    "another language is better than a commentary": ([COMMENTARY, Made("hin")], "en", 1),
    "nothing else": ([COMMENTARY], "en", 0),
    "a region of it": ([Made("eng", "", DEFAULT), Made("pt-BR")], "pt", 1),
    "another region": ([Made("fre", "", DEFAULT), Made("en-GB")], "en-US", 1),
    "three letters or two": ([Made("ger"), Made("eng")], "en", 1),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_track_that_holds_what_the_film_says_is_taken(name: str, tmp_path: Path) -> None:
    """Language, then default; no commentary or description where there is anything else."""
    tracks, language, index = CHOICES[name]
    path = _film(tmp_path / "film.mkv", *tracks)
    media = probe(path, language=language)
    assert media.audio_stream == index
    assert media.audio_track.startswith(f"track {index + 1} of {len(tracks)}")
    assert probe(path, stream=0, language=language).audio_stream == 0  # what is asked for is taken
    container = ContainerFormat(None, languages=(language,) if language else ())
    decoder = ContainerDecoder(container, io.BytesIO(path.read_bytes()), 3600.0)
    assert sum(map(len, decoder))
    told = [one.message for one in decoder.remarks if one.code == "TRACK_CHOSEN"]
    assert told == ([f"heard: {media.audio_track}"] if len(tracks) > 1 else [])


def test_the_track_is_told_in_words(tmp_path: Path) -> None:
    """Its place, language, channels and kind."""
    path = _film(tmp_path / "film.mkv", COMMENTARY, Made("eng", "", DEFAULT, "5.1(side)"), Made())
    assert probe(path).audio_track == "track 2 of 3, eng, 5.1(side), default"
    assert probe(path, stream=0).audio_track == (
        'track 1 of 3, eng, stereo, commentary, "Director\'s commentary"'
    )


def _run(*arguments: str) -> forking.Done:
    return forking.run("voxroute_orchestrator", *arguments)


def test_the_command_lists_the_tracks(tmp_path: Path) -> None:
    """A line each, and which one would be taken."""
    path = _film(tmp_path / "film.mkv", COMMENTARY, MAIN, Made("hin"))
    done = _run("tracks", str(path), "-s", "hi")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert [row[-1] for row in rows] == ["", "", "taken"]
    assert rows[0][1:5] == ["eng", "stereo", "ac3", "commentary"]
    missing = _run("tracks", str(tmp_path / "none.mkv"))
    assert missing.returncode == 3
    assert "Traceback" not in missing.stderr


def test_what_else_may_have_the_voice_is_named(tmp_path: Path) -> None:
    """Other tracks and single channels, each with the option that takes it."""
    surround = Made("eng", "", DEFAULT, layout="5.1")
    media = probe(_film(tmp_path / "film.mkv", surround, Made("eng")))
    assert media.other_sound == [
        "another --audio-stream of its 2 (`voxroute tracks` lists them)",
        "each --channel of its 6 alone",
    ]
    assert not probe(_film(tmp_path / "one.mkv", Made(layout="mono"))).other_sound


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With how many there are, and the option that chose it."""
    media = probe(_film(tmp_path / "film.mkv", MAIN), channel=2)
    with pytest.raises(UsageError, match=r"2 channels, counted from 0; there is no 2.*--channel"):
        PcmReader(media).read()
