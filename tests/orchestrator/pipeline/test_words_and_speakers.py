"""Jobs that ask for words and speakers, over real services around fake engines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.orchestrator import recordings
from tests.orchestrator.pipeline.test_second_passes import serving
from tests.orchestrator.stand_in import Translation
from tests.orchestrator.stand_in import serving as translating
from tests.serving.recordings import silence, tone
from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.cli.terminal.progress import reporter
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.errors import RefusedError, VoxrouteError
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.pipeline.journal import SqliteJournal
from voxroute_orchestrator.pipeline.recording import transcribe_media
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec
from voxroute_serving.asr.engine import Feature, WindowSegment, Word
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.errors import EngineError
from voxroute_serving.testing.fake_diarizer import FakeDiarizer
from voxroute_serving.testing.fake_engine import FakeEngine, tones

SECONDS = [(0.5, 1.5), (2.5, 3.5)]  # of the two voices
PLAIN = frozenset({Feature.LANGUAGE_DETECTION})


def one_segment(window: Samples) -> tuple[WindowSegment, ...]:
    """What an engine writes that does not hear the voice change within a sentence."""
    found = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in tones(window)]
    words = tuple(Word(f"word{k}", *times, 1.0) for k, times in enumerate(found))
    text = " ".join(word.text for word in words)
    return (WindowSegment(found[0][0], found[-1][1], text, words, -0.1),) if found else ()


def wordless(window: Samples) -> tuple[WindowSegment, ...]:
    """The same of an engine that times no words."""
    return tuple(replace(segment, words=()) for segment in one_segment(window))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job on a recording of two voices, a second each."""
    talk = np.concatenate([silence(0.5), tone(1, 300), silence(1), tone(1, 500), silence(0.5)])
    media = recordings.write(tmp_path / "film.wav", (talk * 32767).astype(np.int16))
    spec = JobSpec(source_languages=("hi",), target_languages=("en",), vad_disabled=True)
    return Job(spec=spec, media=media, folder=tmp_path / "out", overwrite=True)


def asking(job: Job, **fields: Any) -> Job:
    """The same job with more asked for."""
    return replace(job, spec=replace(job.spec, **fields))


async def done(job: Job, *asr: str) -> dict[str, Any]:
    """The transcript of the job, done by services at the addresses."""
    async with translating(translation=Translation()) as address:
        settings = Settings(asr_endpoints=asr, translate_endpoints=(address,), retry_s=1.0)
        only = replace(job, only_asr_endpoints=True, only_translate_endpoints=True)
        with reporter(quiet=False) as told:
            await transcribe_media(only, settings, told)
    return json.loads((job.folder / "film.transcript.json").read_text())


async def test_a_segment_is_split_where_the_speaker_changes(job: Job) -> None:
    """Each part has its speaker, its own number and its own translation; subtitles show them."""
    wanted = asking(job, speakers=True, max_speakers=3, speaker_prefix=True)
    diarizer = FakeDiarizer()
    async with serving(FakeEngine(segments=one_segment), diarizer) as service:
        found = await done(wanted, service.endpoint.target)
    parts = [(s["id"], s["text"], s["speaker"]) for s in found["segments"]]
    assert parts == [(1, "word0", "SPEAKER_00"), (2, "word1", "SPEAKER_01")]
    items = found["translations"]["en"]["items"]
    assert [(item["segment_id"], item["text"]) for item in items] == [
        (1, "en:word0"),
        (2, "en:word1"),
    ]
    assert [asked[1:] for asked in diarizer.asked] == [(None, 3)]
    assert "<v SPEAKER_01>" in (job.folder / "film.en.vtt").read_text()
    assert "SPEAKER_01: en:word1" in (job.folder / "film.en.srt").read_text()


async def test_another_service_times_the_words_and_tells_the_speakers(job: Job) -> None:
    """An engine without words, such as MLX with `--align`, beside one that can do both."""
    plain = FakeEngine(segments=wordless, features=PLAIN, alignable_languages=())
    able, diarizer = FakeEngine(segments=wordless), FakeDiarizer()
    settings = asking(job, align=True, speakers=True)
    async with serving(plain) as first, serving(able, diarizer) as second:
        found = await done(settings, first.endpoint.target, second.endpoint.target)
    words = [word["text"] for segment in found["segments"] for word in segment["words"]]
    assert words == ["word0", "word1"]
    assert len({segment["speaker"] for segment in found["segments"]}) == 2
    assert len(diarizer.asked) == 1
    assert found["warnings"] == []


async def test_words_that_the_engine_cannot_time_come_from_another(job: Job) -> None:
    """With `--words` alone, where the service that transcribes has no word times."""
    plain = FakeEngine(segments=wordless, features=PLAIN, alignable_languages=())
    able = FakeEngine(segments=wordless)
    async with serving(plain) as first, serving(able) as second:
        found = await done(asking(job, words=True), first.endpoint.target, second.endpoint.target)
    assert [len(segment["words"]) for segment in found["segments"]] == [2]


async def test_what_no_service_can_is_told(job: Job) -> None:
    """The job is done without, and says so; a strict one is refused before any work."""
    engine = FakeEngine(segments=wordless, features=PLAIN, alignable_languages=())
    wanted = asking(job, align=True, speakers=True)
    async with serving(engine) as service:
        found = await done(wanted, service.endpoint.target)
        assert sorted(note["code"] for note in found["warnings"]) == ["NO_ALIGNER", "NO_DIARIZER"]
        engine.batches.clear()
        with pytest.raises(RefusedError, match="--diarization-model"):
            await done(asking(wanted, strict=True), service.endpoint.target)
    assert not engine.batches


async def test_a_diarization_that_fails_is_gone_on_with(job: Job) -> None:
    """The transcript is kept, and `--resume` does the rest only."""
    engine, diarizer = FakeEngine(segments=one_segment), FakeDiarizer(failure=EngineError("broken"))
    wanted = asking(job, speakers=True)
    async with serving(engine, diarizer) as service:
        with pytest.raises(VoxrouteError, match="broken"):
            await done(wanted, service.endpoint.target)
        assert (job.folder / "film.hi.partial.srt").exists()
        transcribed = len(engine.batches)
        diarizer.failure = None
        found = await done(replace(wanted, resume=True), service.endpoint.target)
    assert len(engine.batches) == transcribed
    assert [s["speaker"] for s in found["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert len(found["translations"]["en"]["items"]) == 2


async def test_words_and_speakers_that_were_found_are_not_asked_for_again(
    job: Job,
) -> None:
    """What is in the journal of an interrupted job counts."""
    engine, diarizer = FakeEngine(segments=wordless), FakeDiarizer()
    journal = job.folder / "j"
    wanted = replace(asking(job, align=True, speakers=True), journal=journal)
    async with serving(engine, diarizer) as service:
        first = await done(wanted, service.endpoint.target)
    assert len(diarizer.asked) == 1
    assert not journal.exists()
    with SqliteJournal(journal) as kept:
        await kept.keep_fact("turns", [[0.0, 5.0, "SPEAKER_07"]])
    async with serving(engine, diarizer) as service:
        second = await done(replace(wanted, resume=True), service.endpoint.target)
    assert len(diarizer.asked) == 1
    assert {segment["speaker"] for segment in second["segments"]} == {"SPEAKER_07"}
    assert [w for s in first["segments"] for w in s["words"]] == [
        w for s in second["segments"] for w in s["words"]
    ]


async def test_a_job_that_had_only_to_be_written_gives_the_same_result(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answered and what was warned of is in the journal too; no service is asked again."""
    monkeypatch.setattr(SqliteJournal, "discard", SqliteJournal.close)  # as if killed then
    engine = FakeEngine(segments=one_segment, warnings=(("ODD", "this sounds odd"),))
    async with serving(engine, FakeDiarizer()) as service:
        for speakers in (False, True):
            wanted = replace(asking(job, speakers=speakers), journal=job.folder / f"j{speakers}")
            first = await done(wanted, service.endpoint.target)
            engine.batches.clear()
            (job.folder / "film.transcript.json").unlink()
            second = await done(replace(wanted, resume=True), service.endpoint.target)
            assert second == first
            assert not engine.batches
    assert [note["code"] for note in first["warnings"]] == ["ODD"]
    assert first["translations"]["en"]["model"]


async def test_doubtful_segments_are_left_out_where_that_is_asked_for(job: Job) -> None:
    """Of the subtitles; the transcript has them with their flags, and the summary counts them."""

    def doubtful(window: Samples) -> tuple[WindowSegment, ...]:
        if len(tones(window)) < 2:
            return ()  # the noise of the warm-up
        first, second = tones(window)
        return (
            WindowSegment(first[0] / SAMPLE_RATE, first[1] / SAMPLE_RATE, "clear", (), -0.1),
            WindowSegment(second[0] / SAMPLE_RATE, second[1] / SAMPLE_RATE, "murmur", (), -3.0),
        )

    async with serving(FakeEngine(segments=doubtful)) as service:
        shown = await done(job, service.endpoint.target)
        assert "murmur" in (job.folder / "film.hi.srt").read_text()
        wanted = asking(job, drop_flagged=True)
        dropped = await done(wanted, service.endpoint.target)
    assert [s["flags"] for s in dropped["segments"]] == [[], ["LOW_CONFIDENCE"]]
    assert shown["segments"] == dropped["segments"]
    assert "murmur" not in (job.folder / "film.hi.srt").read_text()
    assert "murmur" not in (job.folder / "film.en.srt").read_text()
    assert "clear" in (job.folder / "film.en.srt").read_text()


def test_a_flag_of_a_newer_service_is_a_doubt_all_the_same() -> None:
    """A client that does not know it tells its number, beside those that it knows."""
    known = asr_pb2.SEGMENT_FLAG_WRONG_SCRIPT
    message = asr_pb2.Segment.FromString(asr_pb2.Segment(flags=[known]).SerializeToString())
    message.MergeFromString(b"\x58\x63")  # field 11, 99
    assert convert.segment(message, 1).flags == ("WRONG_SCRIPT", "FLAG_99")
