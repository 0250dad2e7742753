"""Subtitles that grow: whole after every cue, in order, and nobody's file is lost."""

import errno
import os
import resource
from pathlib import Path

import pytest

from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2
from voxroute_orchestrator.client.messages import duration
from voxroute_orchestrator.errors import OutputError, VoxrouteError
from voxroute_orchestrator.live.files import SubtitleFiles
from voxroute_orchestrator.subtitles import formats as subtitles
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES
from voxroute_orchestrator.transcript import TranslatedSegment


def _utterance(text: str, start_s: float, end_s: float, language: str = "hi") -> asr_pb2.Utterance:
    segment = asr_pb2.Segment(text=text, start=duration(start_s), end=duration(end_s))
    return asr_pb2.Utterance(language=language, segments=[segment])


def _files(folder: Path, *, overwrite: bool = False) -> SubtitleFiles:
    return SubtitleFiles(folder, "talk", ("srt", "vtt"), DEFAULT_RULES, overwrite=overwrite)


def _read(folder: Path, name: str) -> list[Cue]:
    return subtitles.read(folder / name)


def test_files_are_whole_after_every_cue(tmp_path: Path) -> None:
    """A cue stays as long as it takes to read, unless another comes earlier."""
    files = _files(tmp_path)
    with files.opened("hi", ["en"]):
        assert (tmp_path / "talk.hi.vtt").read_text() == "WEBVTT\n\n"
        for number in range(3):
            files.utterance(_utterance(f"utterance {number}", number, number + 0.5))
            for kind in ("srt", "vtt"):
                cues = _read(tmp_path, f"talk.hi.{kind}")
                assert [cue.text for cue in cues] == [f"utterance {n}" for n in range(number + 1)]
                assert cues[-1].end_ms == number * 1000 + DEFAULT_RULES.min_ms
    starts = [(cue.start_ms, cue.end_ms) for cue in _read(tmp_path, "talk.hi.srt")]
    assert starts == [(0, 917), (1000, 1917), (2000, 3000)]
    assert (tmp_path / "talk.hi.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:00,917\n")
    assert "\n3\n00:00:02,000 --> " in (tmp_path / "talk.hi.srt").read_text()


def test_a_failed_translation_shows_the_source_marked(tmp_path: Path) -> None:
    """As in the files of a recording."""
    files = _files(tmp_path)
    sentence = live_pb2.Sentence(sentence=1, text="ek.", start=duration(1), end=duration(2))
    with files.opened("hi", ["en"]):
        failed = TranslatedSegment(segment_id=1, text="", status="FAILED", detail="away")
        files.translated("en", sentence, failed)
    assert [cue.text for cue in _read(tmp_path, "talk.en.srt")] == ["[untranslated: ek.]"]


def test_a_language_that_is_detected_names_the_file(tmp_path: Path) -> None:
    """Once there is text in it."""
    files = _files(tmp_path)
    with files.opened(None, []):
        assert not list(tmp_path.glob("talk*"))
        files.utterance(_utterance("ek", 0, 1))
    assert [path.name for path in files.paths] == ["talk.hi.srt", "talk.hi.vtt"]


def test_speech_in_a_language_that_is_wanted_is_in_its_file(tmp_path: Path) -> None:
    """Once, as the translation that it is; that of the speech begins with the first other one."""
    files = _files(tmp_path)
    sentence = live_pb2.Sentence(sentence=1, text="One.", start=duration(0), end=duration(1))
    with files.opened(None, ["en"]):
        files.utterance(_utterance("One.", 0, 1, "en"))
        passed = TranslatedSegment(segment_id=1, text="One.", status="PASSTHROUGH")
        files.translated("en", sentence, passed)
        files.utterance(_utterance("do", 9, 10))
    assert [cue.text for cue in _read(tmp_path, "talk.en.srt")] == ["One."]
    assert [cue.text for cue in _read(tmp_path, "talk.hi.srt")] == ["do"]


def test_files_without_text_go_where_it_fails(tmp_path: Path) -> None:
    """Empty would say that nothing was spoken."""
    files = _files(tmp_path)

    def run() -> None:
        with files.opened("hi", ["en"]):
            files.utterance(_utterance("ek", 0, 1))
            raise VoxrouteError("the service is away")

    with pytest.raises(VoxrouteError):
        run()
    assert sorted(path.name for path in tmp_path.glob("talk*")) == ["talk.hi.srt", "talk.hi.vtt"]
    assert len(files.paths) == 2


def test_a_full_disk_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even its first line has room."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    files = _files(tmp_path)
    with pytest.raises(OutputError, match="No space"), files.opened("hi", []):
        pass
    assert not list(tmp_path.glob("talk*"))


def test_a_disk_that_is_full_within_a_cue_leaves_the_file_whole(tmp_path: Path) -> None:
    """What of the cue had room would be half a cue."""
    files = _files(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with files.opened("hi", []):
        files.utterance(_utterance("ek", 0, 1))
        whole = (tmp_path / "talk.hi.srt").read_text()
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, before[1]))
        try:
            with pytest.raises(OutputError):
                files.utterance(_utterance("do", 9, 10))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "talk.hi.srt").read_text() == whole


def test_files_of_others_are_kept(tmp_path: Path) -> None:
    """Unless they may be replaced; those of an earlier run may."""
    (tmp_path / "talk.hi.srt").write_text("mine")
    with pytest.raises(OutputError), _files(tmp_path).opened("hi", []):
        pass
    assert (tmp_path / "talk.hi.srt").read_text() == "mine"
    for overwrite in (True, False):
        with _files(tmp_path, overwrite=overwrite).opened("hi", []):
            pass
    assert (tmp_path / "talk.hi.srt").read_text() == ""
