"""The files of a job."""

from pathlib import Path

import pytest

from voxroute_orchestrator.errors import OutputError
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles import results
from voxroute_orchestrator.subtitles.results import ResultForm, prepare_results, result_names
from voxroute_orchestrator.transcript import (
    Media,
    Recognition,
    Segment,
    Transcript,
    TranslatedSegment,
    Translation,
)

ALL = tuple(subtitles.FORMATS)
MARK = "film.transcript.json"


def transcript(*, error: str | None = None) -> Transcript:
    """A finished job in two languages with two speakers; `error` is the translation's."""
    media = Media(
        path="film.mp4", title="film", duration_s=9, audio_start_s=0, format="mp4",
        audio_codec="aac", audio_stream=0,
    )  # fmt: skip
    segments = [
        Segment(id=0, start_s=0, end_s=3, text="एक", language="hi", speaker="Asha"),
        Segment(id=1, start_s=3, end_s=6, text="दो", language="hi", speaker="Ravi"),
    ]
    items = [
        TranslatedSegment(segment_id=n, text=t, status="OK") for n, t in enumerate(["one", "two"])
    ]
    return Transcript(
        voxroute_version="1", complete=error is None, media=media, language="hi",
        recognition=Recognition(complete=True), segments=segments,
        translations={"en": Translation(items=items, error=error)},
    )  # fmt: skip


def test_every_format_that_is_asked_for_is_written(tmp_path: Path) -> None:
    """The names are those that were checked before the work; speakers are where they belong."""
    written: list[Path] = []
    form = ResultForm(formats=ALL)
    results.write_results(transcript(), tmp_path, written.append, form)
    names = {path.name for path in written}
    assert set(result_names("film", ["hi", "en"], ALL)) <= names
    for kind in ALL:
        cues = subtitles.read(tmp_path / f"film.en.{kind}")
        assert [cue.text for cue in cues] == ["one", "two"]
        if kind in {"vtt", "ass", "json"}:
            assert [cue.speaker for cue in cues] == ["Asha", "Ravi"]
    assert 'lang="en"' in (tmp_path / "film.en.ttml").read_text()


def test_srt_names_speakers_only_where_that_is_asked_for(tmp_path: Path) -> None:
    """The names are in its texts, and in no other format's."""
    form = ResultForm(speaker_prefix=True)
    results.write_results(transcript(), tmp_path, lambda _: None, form)
    texts = [cue.text for cue in subtitles.read(tmp_path / "film.hi.srt")]
    assert texts == ["Asha: एक", "Ravi: दो"]
    assert [c.text for c in subtitles.read(tmp_path / "film.hi.vtt")] == ["एक", "दो"]


def test_what_is_not_complete_is_partial_and_in_no_copy_of_the_film(tmp_path: Path) -> None:
    """A translation that broke off is a partial SRT, whatever formats were asked for."""
    job = transcript(error="broken")
    results.write_results(job, tmp_path, lambda _: None, ResultForm(formats=("ass",)))
    assert {p.name for p in tmp_path.iterdir()} >= {"film.hi.ass", "film.en.partial.srt"}
    assert not (tmp_path / "film.en.ass").exists()
    assert [track.language for track in results.tracks_of(job)] == ["hi"]
    assert [track.language for track in results.tracks_of(transcript())] == ["hi", "en"]


def test_only_files_that_are_ours_are_replaced(tmp_path: Path) -> None:
    """An earlier run vouches for the default formats; others have to say that they are ours."""
    names = [*result_names("film", ["hi", "en"], ALL), "film.subtitled.mp4"]
    results.write_results(transcript(), tmp_path, lambda _: None, ResultForm(formats=ALL))
    prepare_results(tmp_path, names, overwrite=False, mark=MARK)
    (tmp_path / "film.en.ass").write_text("made by hand")
    with pytest.raises(OutputError, match=r"film\.en\.ass already"):
        prepare_results(tmp_path, names, overwrite=False, mark=MARK)
    prepare_results(tmp_path, names, overwrite=True, mark=MARK)
    (tmp_path / "film.en.ass").unlink()
    (tmp_path / "film.subtitled.mp4").write_bytes(b"\xff\xfe a film")
    with pytest.raises(OutputError, match=r"film\.subtitled\.mp4 already"):
        prepare_results(tmp_path, names, overwrite=False, mark=MARK)
