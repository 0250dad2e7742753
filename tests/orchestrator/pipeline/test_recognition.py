"""A recording over several services: the same text as from one, whatever happens on the way."""

import asyncio
import contextlib
import itertools
import sqlite3
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest

from tests.orchestrator import recordings
from tests.orchestrator.stand_in import Break, Speech, serve
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.errors import RefusedError, UsageError
from voxroute_orchestrator.fleet.connect import Connected
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_orchestrator.pipeline import transcription as recognition
from voxroute_orchestrator.pipeline.journal import SqliteJournal
from voxroute_orchestrator.pipeline.parts import Span, spans, target_s
from voxroute_orchestrator.pipeline.run import Run
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.transcript import Media, Segment
from voxroute_serving.testing.served import until

POLICY = CallPolicy(retry_s=5.0, stall_timeout_s=60.0)
SECONDS = 200


@pytest.fixture
def media(tmp_path: Path) -> Media:
    """Two hundred seconds, each of its own loudness, in several spans."""
    return probe(recordings.write(tmp_path / "film.wav", recordings.mixed(SECONDS)))


@dataclass
class Fleet:
    """Speech services on this machine, some of which may be stopped."""

    speech: Sequence[Speech]
    servers: list[grpc.aio.Server] = field(default_factory=list[grpc.aio.Server])
    clients: list[AsrClient] = field(default_factory=list[AsrClient])

    def run(self, media: Media, journal: SqliteJournal | None = None, **more: Any) -> Run:
        """A run that shares the recording among them, with a journal of its own if need be."""
        reporter = LineReporter(sys.stderr, quiet=True)
        journal = journal or SqliteJournal.begin(Path(media.path).with_suffix(".journal"))
        connected = Connected(tuple(self.clients))
        return Run(JobSpec(**more), media, connected, reporter, journal, reader=PcmReader(media))


@contextlib.asynccontextmanager
async def _fleet(*speech: Speech) -> AsyncGenerator[Fleet]:
    fleet = Fleet(speech)
    async with contextlib.AsyncExitStack() as stack:
        for one in speech:
            server, port = await serve("127.0.0.1:0", speech=one)
            stack.push_async_callback(server.stop, 0)
            endpoint = Endpoint("speech service", f"127.0.0.1:{port}")
            channel = await stack.enter_async_context(connect(endpoint, POLICY))
            fleet.servers.append(server)
            fleet.clients.append(AsrClient(endpoint, channel, POLICY))
        yield fleet


async def _transcribed(media: Media, *speech: Speech, **more: Any) -> Run:
    async with _fleet(*speech) as fleet:
        run = fleet.run(media, **more)
        await run.execute()
        return run


def _texts(segments: Sequence[Segment]) -> list[tuple[int, float, float, str]]:
    return [(one.id, one.start_s, one.end_s, one.text) for one in segments]


def _offsets(speech: Speech) -> list[float]:
    return [config.audio.start_offset.ToMilliseconds() / 1000 for config in speech.configs]


def test_spans_make_up_the_recording_and_are_cut_where_it_is_quiet(tmp_path: Path) -> None:
    """Without gaps, within a quarter of the target, in the middle of the pause that is there."""
    rng = np.random.default_rng(1)
    samples = (rng.normal(0, 3000, 300 * recordings.RATE)).astype(np.int16)
    for pause_s in (66, 121, 186, 240):
        samples[pause_s * recordings.RATE : (pause_s + 1) * recordings.RATE] = 0
    media = probe(recordings.write(tmp_path / "film.wav", samples))
    found: list[Span] = list(spans(PcmReader(media), media.duration_s))
    assert b"".join(span.pcm for span in found) == samples.tobytes()
    assert [span.index for span in found] == list(range(len(found)))
    for before, after in itertools.pairwise(found):
        assert after.start_s == pytest.approx(before.end_s)
        assert 0.75 * 60 <= before.end_s - before.start_s <= 1.25 * 60
    assert [round(span.end_s - 0.5) for span in found[:3]] == [66, 121, 186]


def test_spans_are_long_enough_for_windows_and_short_enough_for_memory() -> None:
    """A minute to four minutes, a sixteenth of the recording in between."""
    assert [target_s(s) for s in (None, 30, 1800, 7200)] == [120, 60, 112.5, 240]


async def test_several_services_give_what_one_gives(media: Media) -> None:
    """Each does a part; segments come in order, numbered through, with the same times and texts."""
    alone = await _transcribed(media, Speech(), source_languages=("hi",))
    services = [Speech(delay_s=0.01) for _ in range(3)]
    shared = await _transcribed(media, *services, source_languages=("hi",))
    assert not shared.errors
    assert _texts(shared.transcript.segments) == _texts(alone.transcript.segments)
    assert shared.transcript.to_json() == alone.transcript.to_json()
    assert len(shared.transcript.recognition.run.endpoints) > 1
    covered = sorted({offset for one in services for offset in _offsets(one)})
    assert len(covered) >= 3
    assert sum(len(one.configs) for one in services) == len(covered)  # none was done twice


async def test_a_service_that_dies_midway_gives_its_span_back(media: Media) -> None:
    """Another goes on after the last window that was finished; nothing is lost or twice."""
    alone = await _transcribed(media, Speech(), source_languages=("hi",))
    doomed, other = Speech(delay_s=0.1), Speech(delay_s=0.02)
    async with _fleet(doomed, other) as fleet:
        run = fleet.run(media, source_languages=("hi",))
        task = asyncio.create_task(run.execute())
        assert await until(lambda: doomed.sent >= 10)  # of a minute
        await fleet.servers[0].stop(0)
        await task
    assert not run.errors
    assert run.transcript.to_json() == alone.transcript.to_json()
    resumed = [config for config in other.configs if config.resume_from.seconds]
    assert resumed


async def test_a_refusal_of_one_service_leaves_the_work_to_the_others(media: Media) -> None:
    """The job fails only where the last one refuses."""
    broken = Break(0, grpc.StatusCode.INVALID_ARGUMENT, message="not here")
    run = await _transcribed(
        media, Speech(breaks=[broken, broken]), Speech(), source_languages=("hi",)
    )
    assert not run.errors
    assert run.transcript.complete
    all_broken = [Speech(breaks=[broken] * 4) for _ in range(2)]
    failed = await _transcribed(media, *all_broken, source_languages=("hi",))
    assert [type(error) for error in failed.errors] == [RefusedError]


async def test_an_idle_service_helps_with_a_span_that_holds_up_the_end(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one is overtaken from where it is; its call is ended and the text is the same."""
    monkeypatch.setattr(recognition, "_SLOW_S", 0.5)
    alone = await _transcribed(media, Speech(), source_languages=("hi",))
    slow = Speech(delay_s=3600)
    run = await asyncio.wait_for(
        _transcribed(media, slow, Speech(), source_languages=("hi",)), timeout=60
    )
    assert not run.errors
    assert _texts(run.transcript.segments) == _texts(alone.transcript.segments)


async def test_the_language_is_settled_before_the_work_is_shared(media: Media) -> None:
    """The first span tells it; every other call names it."""
    services = [Speech(delay_s=0.01) for _ in range(2)]
    run = await _transcribed(media, *services)
    assert not run.errors
    assert run.transcript.language == "hi"
    configs = [config for one in services for config in one.configs]
    assert [config.audio.start_offset.seconds for config in configs if not config.language] == [0]


async def test_a_run_that_is_cancelled_at_any_window_goes_on_to_the_same_result(
    media: Media, tmp_path: Path
) -> None:
    """From the journal alone; no window that it holds is decoded again."""
    alone = await _transcribed(media, Speech(misses_every=9), source_languages=("hi",))
    assert len(alone.transcript.untranscribed) > 15
    path = tmp_path / "journal"
    n_finished = 0
    for stop_after in (1, 37, 120, None):
        services = [Speech(delay_s=0.002, misses_every=9) for _ in range(2)]
        async with _fleet(*services) as fleet:
            with SqliteJournal(path) as journal:
                kept = sum(len(span.segments) for span in journal.spans().values())
                assert kept >= n_finished
                run = fleet.run(media, journal, source_languages=("hi",))
                task = asyncio.create_task(run.execute())
                if stop_after is not None:
                    assert await until(
                        lambda n=stop_after, run=run: len(run.transcript.segments) >= n
                    )
                    task.cancel()
                await asyncio.wait([task])
                n_finished = sum(len(span.segments) for span in journal.spans().values())
    assert run.transcript.to_json() == alone.transcript.to_json()


async def test_a_journal_of_another_job_is_refused(media: Media, tmp_path: Path) -> None:
    """Other options or another recording would mix two texts; the sentence names what differs."""
    path = tmp_path / "journal"
    async with _fleet(Speech()) as fleet:
        with SqliteJournal(path) as journal:
            await fleet.run(media, journal, source_languages=("hi",)).execute()
            with pytest.raises(UsageError, match="source_language"):
                fleet.run(media, journal, source_languages=("en",))
            samples = np.repeat(np.full(SECONDS, 500, np.int16), recordings.RATE)
            samples[: 80 * recordings.RATE] = 0
            other = probe(recordings.write(tmp_path / "other.wav", samples))
            run = fleet.run(other, journal, source_languages=("hi",))
            await run.execute()
            assert [type(error) for error in run.errors] == [UsageError]
            assert "is not the one" in str(run.errors[0])


async def test_speech_without_text_is_in_the_transcript_in_order(media: Media) -> None:
    """Each stretch once with its place and reason, whoever has told it."""
    services = [Speech(misses_every=5), Speech(misses_every=5)]
    run = await _transcribed(media, *services, source_languages=("hi",))
    found = run.transcript.untranscribed
    assert len(found) > SECONDS // 5 - 10
    starts = [one.start_s for one in found]
    assert starts == sorted(set(starts))
    assert {(round(one.end_s - one.start_s, 3), one.reason) for one in found} == {(0.5, "NO_TEXT")}


def test_a_journal_of_the_version_before_goes_on(tmp_path: Path) -> None:
    """What it holds stays, and what it did not know is empty."""
    path = tmp_path / "journal"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(
            "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);"
            "CREATE TABLE spans (span INTEGER PRIMARY KEY, start_s REAL NOT NULL,"
            " end_s REAL NOT NULL, stats TEXT);"
            "CREATE TABLE windows (span INTEGER NOT NULL, resume_from_s REAL NOT NULL,"
            " segments TEXT NOT NULL, PRIMARY KEY (span, resume_from_s));"
            "CREATE TABLE translations (target TEXT NOT NULL, segment INTEGER NOT NULL,"
            " item TEXT NOT NULL, PRIMARY KEY (target, segment));"
            "INSERT INTO spans VALUES (0, 0.0, 60.0, NULL);"
            "INSERT INTO windows VALUES (0, 30.0, '[]');"
            "PRAGMA user_version = 1;"
        )
    for _ in range(2):
        with SqliteJournal(path) as journal:
            assert journal.spans()[0].done_s == 30.0
            assert journal.spans()[0].untranscribed == []
