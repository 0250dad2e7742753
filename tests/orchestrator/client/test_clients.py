"""Calls over real connections that break: nothing lost, nothing twice, and clear errors."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
import pytest

from tests.orchestrator import recordings
from tests.orchestrator.stand_in import Break, Speech, Translation, serving
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import RefusedError, ServiceUnavailableError, VoxrouteError
from voxroute_orchestrator.fleet.connect import Connected
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_orchestrator.pipeline.journal import SqliteJournal
from voxroute_orchestrator.pipeline.run import Run
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.subtitles.results import write_results
from voxroute_orchestrator.transcript import Media, Transcript
from voxroute_serving.testing.served import until

SECONDS = 30
POLICY = CallPolicy(retry_s=5.0, stall_timeout_s=20.0)


@pytest.fixture
def media(tmp_path: Path) -> Media:
    """Half a minute whose every second has its own value."""
    return probe(recordings.write(tmp_path / "film.wav", recordings.steps(SECONDS)))


Asked = tuple[JobSpec, Media]


def asked(media: Media, language: str | None, targets: tuple[str, ...] = ()) -> Asked:
    """What a run is asked for."""
    spoken = (language,) if language else ()
    return JobSpec(source_languages=spoken, target_languages=targets), media


@contextlib.asynccontextmanager
async def _run(
    speech: Speech, translation: Translation, of: Asked, policy: CallPolicy = POLICY
) -> AsyncGenerator[Run]:
    async with serving(speech, translation) as address:
        endpoint = Endpoint("test service", address)
        async with connect(endpoint, policy) as channel:
            asr = AsrClient(endpoint, channel, policy)
            translate = TranslateClient(endpoint, channel, policy)
            reporter = LineReporter(sys.stderr, quiet=True)
            spec, media = of
            with SqliteJournal.begin(Path(media.path).with_suffix(".journal")) as journal:
                connected = Connected((asr,), (translate,))
                yield Run(spec, media, connected, reporter, journal, reader=PcmReader(media))


async def _execute(
    speech: Speech, translation: Translation, of: Asked, policy: CallPolicy = POLICY
) -> Run:
    async with _run(speech, translation, of, policy) as run:
        await run.execute()
        return run


def _check_whole(transcript: Transcript) -> None:
    assert [s.text for s in transcript.segments] == [f"word{k}" for k in range(SECONDS)]
    assert [s.id for s in transcript.segments] == list(range(1, SECONDS + 1))
    assert [s.start_s for s in transcript.segments] == pytest.approx(list(range(SECONDS)))


async def test_a_recording_becomes_a_transcript_and_several_translations(media: Media) -> None:
    """One pass gives all languages; options, models, flags and failures are kept."""
    speech, translation = Speech(), Translation()
    run = await _execute(speech, translation, asked(media, "hi", ("en", "ta", "hi")))
    transcript = run.transcript
    assert not run.errors
    assert transcript.complete
    _check_whole(transcript)
    assert transcript.segments[3].flags == ("LOW_CONFIDENCE",)
    assert set(transcript.translations) == {"en", "ta"}
    statuses = transcript.translations["en"].statuses()
    assert (statuses["OK"], statuses["FAILED"], statuses["SUSPECT"]) == (SECONDS - 2, 1, 1)
    assert transcript.recognition.ignored_options[0].field == "decoding.beam_size"
    assert transcript.recognition.options["language"] == "hi"
    assert speech.configs[0].expected_duration.seconds == SECONDS
    assert speech.first_segment_before_finish
    assert translation.contexts["5"] == ["word2", "word3"]
    assert len(speech.request_ids[0]) == 16
    again = Transcript.model_validate_json(transcript.to_json())
    assert again.to_json() == transcript.to_json()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
@pytest.mark.parametrize("language", ["hi", None])
async def test_a_stream_that_breaks_goes_on_from_the_last_segment(
    code: grpc.StatusCode, language: str | None, media: Media
) -> None:
    """After three breaks every second is there once; the language and model are kept."""
    speech = Speech(breaks=[Break(7, code), Break(1, code), Break(0, code)])
    translation = Translation()
    run = await _execute(speech, translation, asked(media, language, ("en",)))
    assert not run.errors
    _check_whole(run.transcript)
    assert [config.resume_from.seconds for config in speech.configs] == [0, 7, 8, 8]
    assert {config.language for config in speech.configs[1:]} == {"hi"}
    assert [note.code for note in run.transcript.notes].count("RESUMED") >= 2
    assert len(run.transcript.translations["en"].items) == SECONDS


async def test_a_translation_that_breaks_repeats_and_loses_nothing(media: Media) -> None:
    """What had no answer is sent again; what had one is not."""
    translation = Translation(breaks=[Break(4), Break(9)])
    run = await _execute(Speech(), translation, asked(media, "hi", ("en",)))
    assert not run.errors
    items = run.transcript.translations["en"].items
    assert [item.segment_id for item in items] == list(range(1, SECONDS + 1))
    assert len(set(translation.seen)) == SECONDS


@pytest.mark.parametrize(("probability", "times"), [(0.9, 0), (0.54, 1)])
async def test_a_language_that_is_a_guess_is_told(
    probability: float, times: int, media: Media, capfd: pytest.CaptureFixture[str]
) -> None:
    """A recording of several languages is written in one otherwise, and nobody knows why."""
    run = await _execute(Speech(sure_of_language=probability), Translation(), asked(media, None))
    assert not run.errors
    assert capfd.readouterr().err.count("name all of them, as in -s en,es") == times


async def test_the_advice_of_a_full_service_is_followed(media: Media) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo is tried again after that time, not before."""
    full = Break(0, grpc.StatusCode.RESOURCE_EXHAUSTED, 1.5, "all places are taken")
    started = time.monotonic()
    run = await _execute(Speech(breaks=[full]), Translation(), asked(media, "hi"))
    assert not run.errors
    assert time.monotonic() - started >= 1.5


async def test_retries_end(media: Media) -> None:
    """A service that stays away is given up after `retry_s`, with a sentence."""
    away = [Break(0, grpc.StatusCode.UNAVAILABLE, 0.3, "draining") for _ in range(100)]
    policy = CallPolicy(retry_s=1.5)
    run = await _execute(Speech(breaks=away), Translation(), asked(media, "hi"), policy)
    (error,) = run.errors
    assert isinstance(error, ServiceUnavailableError)
    assert "draining" in str(error)
    assert not run.transcript.complete


@pytest.mark.parametrize(
    ("breaking", "kind", "words"),
    [
        (
            Break(0, grpc.StatusCode.INVALID_ARGUMENT, message="bad", violation="no such one"),
            RefusedError,
            "language: no such one",
        ),
        (Break(0, grpc.StatusCode.NOT_FOUND, message="no model x"), RefusedError, "no model x"),
        (
            Break(3, grpc.StatusCode.RESOURCE_EXHAUSTED, message="too long"),
            RefusedError,
            "too long",
        ),
        (Break(0, grpc.StatusCode.INTERNAL, message="defect"), VoxrouteError, "its log says why"),
        (Break(0, grpc.StatusCode.UNIMPLEMENTED, message=""), RefusedError, "right service"),
    ],
)
async def test_refusals_are_not_repeated_and_say_what_is_wrong(
    breaking: Break, kind: type[VoxrouteError], words: str, media: Media
) -> None:
    """One call, one error, with what the status's details say."""
    speech = Speech(breaks=[breaking])
    run = await _execute(speech, Translation(), asked(media, "hi"))
    assert [type(error) for error in run.errors] == [kind]
    assert words in str(run.errors[0])
    assert len(speech.configs) == 1
    assert len(run.transcript.segments) == breaking.after


async def test_a_service_that_falls_silent_is_given_up(media: Media) -> None:
    """A call without any message for `stall_timeout_s` is cancelled; nobody waits for ever."""
    policy = CallPolicy(retry_s=0.5, stall_timeout_s=0.8)
    run = await _execute(Speech(delay_s=60), Translation(), asked(media, "hi"), policy)
    assert "has sent nothing" in str(run.errors[0])


async def test_a_pair_that_is_not_offered_keeps_the_other_languages(media: Media) -> None:
    """One language fails with the pairs that there are; the transcript and the rest are whole."""
    run = await _execute(Speech(), Translation(), asked(media, None, ("fr", "en")))
    (error,) = run.errors
    assert isinstance(error, RefusedError)
    assert "hi to fr" in str(error)
    assert "hi-en" in str(error)
    _check_whole(run.transcript)
    assert len(run.transcript.translations["en"].items) == SECONDS


async def test_a_cancelled_run_keeps_what_is_finished(media: Media, tmp_path: Path) -> None:
    """The transcript holds every finished segment, and is written as a partial one."""
    async with _run(Speech(delay_s=0.1), Translation(), asked(media, "hi", ("en",))) as run:
        task = asyncio.create_task(run.execute())
        assert await until(lambda: len(run.transcript.segments) >= 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    written: list[Path] = []
    write_results(run.transcript, tmp_path, written.append)
    assert {path.name for path in written} == {
        "film.hi.partial.srt",
        "film.en.partial.srt",
        "film.transcript.partial.json",
        "film.run.json",
    }


async def test_translations_begin_before_the_recognition_ends(media: Media) -> None:
    """Segments are translated while later ones are still being recognised."""
    async with _run(Speech(delay_s=0.05), Translation(), asked(media, "hi", ("en",))) as run:
        task = asyncio.create_task(run.execute())
        assert await until(lambda: any(one.items for one in run.transcript.translations.values()))
        assert len(run.transcript.segments) < SECONDS
        await task


async def test_an_address_that_stands_for_many_servers_uses_all_of_them() -> None:
    """As the pods behind a name of Kubernetes."""
    async with (
        serving(Speech(languages=("hi",))) as one,
        serving(Speech(languages=("en",))) as other,
    ):
        endpoint = Endpoint("test service", f"ipv4:{one},{other}")
        async with connect(endpoint, POLICY) as channel:
            client = AsrClient(endpoint, channel, POLICY)
            heard: set[str] = set()
            async with asyncio.timeout(30):
                while heard != {"hi", "en"}:
                    heard.update((await client.capabilities()).languages)
