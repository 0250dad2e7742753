"""Workers beside translation services, over a real server: what they do is what called ones do."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.jobs.nats_server import NatsServer, running
from tests.orchestrator.stand_in import Break, Speech, Translation, serving
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.fleet.connect import Connected
from voxroute_orchestrator.jetstream import calls
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.beside import Beside
from voxroute_orchestrator.jetstream.link import Link, RefusedError
from voxroute_orchestrator.jetstream.setup import SPANS, hand_out, set_up
from voxroute_orchestrator.jetstream.worker import Worker
from voxroute_orchestrator.jetstream.worker_metrics import WorkerMetrics
from voxroute_orchestrator.jetstream.workers import JobWorkers
from voxroute_orchestrator.media import PcmReader, probe
from voxroute_orchestrator.pipeline import workers as handing
from voxroute_orchestrator.pipeline.journal import SqliteJournal
from voxroute_orchestrator.pipeline.run import Run
from voxroute_orchestrator.pipeline.workers import NO_WORKER
from voxroute_orchestrator.spec import JobSpec
from voxroute_orchestrator.transcript import Media, TranslatedSegment
from voxroute_serving.testing.served import until

SECONDS = 120
POLICY = CallPolicy(retry_s=5.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The server that all jobs here use."""
    with running(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def media(tmp_path: Path) -> Media:
    """A film with a word in each second."""
    return probe(recordings.write(tmp_path / "film.wav", recordings.mixed(SECONDS)))


@dataclass
class Going:
    """A worker that goes on until it is told to end, or is gone without a word."""

    worker: Worker
    link: Link
    metrics: WorkerMetrics
    task: "asyncio.Task[None]"

    async def vanish(self) -> None:
        """Ends as if it were killed."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.link.close()

    async def leave(self) -> None:
        """Ends as it was told to."""
        self.worker.stop()
        await self.task

    def count(self, name: str, **labels: str) -> float:
        """A metric of it."""
        return self.metrics.registry.get_sample_value(f"voxroute_worker_{name}", labels) or 0.0


@dataclass
class Place:
    """Where jobs are done, and workers come to."""

    server: NatsServer
    stack: contextlib.AsyncExitStack
    media: Media
    link: Link
    n_runs: int = field(default=0)

    async def called(self, translation: Translation | str) -> TranslateClient:
        """A service that is called, or the one at an address."""
        address = translation
        if isinstance(address, Translation):
            address = await self.stack.enter_async_context(serving(translation=address))
        there = Endpoint("translation service", address)
        channel = await self.stack.enter_async_context(connect(there, POLICY))
        return TranslateClient(there, channel, POLICY)

    async def worker(self, translation: Translation | str, name: str = "worker") -> Going:
        """A worker beside a service, begun."""
        client = await self.called(translation)
        channel = await self.stack.enter_async_context(connect(client.endpoint, POLICY))
        link = await Link.open(Access([self.server.url]))
        metrics = WorkerMetrics("0")
        worker = Worker(link, Beside(client, channel), name, metrics)
        going = Going(worker, link, metrics, asyncio.create_task(worker.run()))
        self.stack.push_async_callback(going.vanish)
        return going

    async def job(
        self,
        *targets: str,
        called: Translation | None = None,
        workers: bool = True,
        model: str = "",
    ) -> Run:
        """A job whose speech is recognised by a service that is called; it has not begun."""
        self.n_runs += 1
        address = await self.stack.enter_async_context(serving(speech=Speech()))
        there = Endpoint("speech service", address)
        speech = AsrClient(
            there, await self.stack.enter_async_context(connect(there, POLICY)), POLICY
        )
        translators = () if called is None else (await self.called(called),)
        coming = JobWorkers(self.link, f"{id(self)}{self.n_runs}", "", model) if workers else None
        if coming is not None:
            self.stack.push_async_callback(coming.close)
        return Run(
            JobSpec(source_languages=("hi",), target_languages=targets or ("en",)),
            self.media,
            Connected((speech,), translators),
            LineReporter(sys.stderr, quiet=True),
            SqliteJournal.begin(Path(self.media.path).with_suffix(f".{self.n_runs}")),
            reader=PcmReader(self.media),
            workers=coming,
        )


@pytest.fixture
async def place(server: NatsServer, media: Media) -> AsyncIterator[Place]:
    """Nobody has come yet."""
    async with contextlib.AsyncExitStack() as stack:
        link = await Link.open(Access([server.url]))
        stack.push_async_callback(link.close)
        await set_up(link)
        yield Place(server, stack, media, link)


async def items(run: Run, target: str = "en") -> list[TranslatedSegment]:
    """What came out of a whole job: a translation of each segment, in their order."""
    await asyncio.wait_for(run.execute(), 60)
    assert run.transcript.complete, run.errors
    found = run.transcript.translations[target].items
    assert [one.segment_id for one in found] == [one.id for one in run.transcript.segments]
    for one, segment in zip(found, run.transcript.segments, strict=True):
        assert one.text == ("" if segment.text == "word5" else f"{target}:{segment.text}")
    return found


async def test_a_worker_alone_translates_a_film_as_a_called_service_does(place: Place) -> None:
    """In several turns, each text once."""
    expected = await items(await place.job(called=Translation(), workers=False))
    translation = Translation()
    worker = await place.worker(translation)
    run = await place.job()
    assert await items(run) == expected
    assert len(translation.seen) == len(set(translation.seen)) == len(expected)
    await worker.leave()
    assert worker.count("translated_texts_total") == len(expected)
    assert worker.count("spans_total", outcome="done") > 1
    stats = run.transcript.translations["en"].run.stats
    assert stats.items == len(expected)


async def test_what_a_worker_held_that_is_gone_is_done_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had told is kept, and not done again."""
    monkeypatch.setattr(calls, "SILENT_S", 1.0)
    monkeypatch.setattr(calls, "_LOOK_S", 0.1)
    slow, other = Translation(delay_s=0.02), Translation()
    first = await place.worker(slow, "first")
    run = await place.job()
    going = asyncio.create_task(items(run))
    assert await until(lambda: len(slow.seen) > 30)
    await first.vanish()
    kept = {("en", str(one.segment_id)) for one in run.transcript.translations["en"].items}
    assert len(kept) > 20
    await place.worker(other, "next")
    await going
    assert not kept & set(other.seen)
    assert len(other.seen) == len(set(other.seen))


async def test_a_worker_that_is_told_to_end_gives_back_what_it_has_not_begun(place: Place) -> None:
    """Nothing is translated twice, and the language has not failed."""
    slow, other = Translation(delay_s=0.02), Translation()
    first = await place.worker(slow, "first")
    going = asyncio.create_task(items(await place.job()))
    assert await until(lambda: len(slow.seen) > 30)
    await first.leave()
    assert first.count("spans_total", outcome="left") > 0
    assert first.count("spans_total", outcome="lost") == 0
    await place.worker(other, "next")
    done = await going
    assert len(slow.seen) + len(other.seen) == len(done)


async def test_a_called_service_and_a_worker_share_a_translation(place: Place) -> None:
    """Each text is translated once, by one of them; both do some."""
    called, own = Translation(delay_s=0.1), Translation(delay_s=0.02)  # the worker comes later
    going = await place.worker(own)
    assert await until(lambda: bool(going.worker._made))  # it looks for work
    done = await items(await place.job(called=called))
    shares = len(called.seen), len(own.seen)
    assert sum(shares) == len(done)
    assert min(shares) > 0, shares


async def test_workers_go_on_where_a_called_service_has_not_the_languages(place: Place) -> None:
    """Which is told; the job is not refused."""
    await place.worker(Translation())
    await items(await place.job(called=Translation(pairs=(("en", "hi"),))))


async def test_languages_are_for_the_workers_that_have_them(place: Place) -> None:
    """The other one's tickets go back, and come to it."""
    tamil, english = Translation(pairs=(("hi", "ta"),)), Translation(pairs=(("hi", "en"),))
    await place.worker(tamil, "tamil")
    await place.worker(english, "english")
    run = await place.job("en", "ta")
    done = await items(run)
    assert len(run.transcript.translations["ta"].items) == len(done)
    assert {target for target, _ in tamil.seen} == {"ta"}
    assert {target for target, _ in english.seen} == {"en"}


async def test_a_language_that_workers_cannot_do_fails_with_the_reason(place: Place) -> None:
    """After three calls in turn without a translation; what is there is kept."""
    gone = [Break(0, message="the engine is gone") for _ in range(20)]
    broken = Translation(breaks=[Break(3), *gone])
    await place.worker(broken)
    run = await place.job()
    await asyncio.wait_for(run.execute(), 60)
    assert not run.transcript.complete
    [error] = run.errors
    assert "hi to en cannot be translated: 3 times in turn a worker gave it up" in str(error)
    assert "the engine is gone" in str(error)
    assert run.transcript.recognition.complete
    assert run.transcript.translations["en"].items


async def test_what_a_worker_has_whose_service_hangs_is_done_by_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is there and says so, but nothing comes of it."""
    monkeypatch.setattr(calls, "STALLED_S", 1.0)
    hangs, other = Translation(delay_s=1000), Translation()
    stuck = await place.worker(hangs, "hangs")
    going = asyncio.create_task(items(await place.job()))
    assert await until(lambda: stuck.count("spans_in_flight") > 0)
    stuck.worker.stop()  # it takes nothing else
    await place.worker(other, "other")
    done = await going
    assert len(other.seen) == len(done)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "no worker translates hi to en; it waits for one"),
        ("steps", "no worker translates hi to en with the model steps; it waits for one"),
    ],
)
async def test_that_no_worker_translates_is_told_and_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, model: str, said: str
) -> None:
    """After a minute, once; the job goes on when one comes."""
    monkeypatch.setattr(handing, "_NO_WORKER_S", 0.5)
    monkeypatch.setattr(handing, "_OFFER_AGAIN_S", 0.2)
    run = await place.job(model=model)
    going = asyncio.create_task(items(run))
    assert await until(lambda: bool(run.transcript.warnings))
    await asyncio.sleep(1)
    [note] = run.transcript.warnings
    assert (note.code, note.message) == (NO_WORKER, said)
    await place.worker(Translation())
    await going


def test_a_worker_stands_beside_one_service() -> None:
    """Beside two of them there are two workers; which is told."""
    command = [sys.executable, "-m", "voxroute_orchestrator", "worker", "--engine", "nats://a:1"]
    both = ["--asr-endpoint", "127.0.0.1:1", "--translate-endpoint", "127.0.0.1:2"]
    done = subprocess.run([*command, *both], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "a worker stands beside one service" in done.stderr


@dataclass
class Odd(Translation):
    """Leaves all but five texts of a call without an answer, or answers what nobody asked."""

    short: bool = False
    n_odd: int = 1_000_000
    """Calls that are odd; then it does as others do."""

    async def Translate(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[translate_pb2.TranslateRequest], context: Any
    ) -> AsyncIterator[translate_pb2.TranslateResponse]:
        odd, self.n_odd, n_results = self.n_odd > 0, self.n_odd - 1, 0
        async for reply in super().Translate(request_iterator, context):
            n_results += reply.HasField("result")
            if odd and reply.HasField("result") and n_results > 5:
                if self.short:
                    continue
                reply.result.id = "1000000"
            yield reply


@pytest.mark.parametrize("short", [True, False])
async def test_a_service_that_answers_what_nobody_asked_or_less_costs_a_turn(
    place: Place, *, short: bool
) -> None:
    """What it has not answered is asked again, and nothing is lost or twice."""
    odd = Odd(short=short, n_odd=3)
    worker = await place.worker(odd)
    done = await items(await place.job())
    assert len(done) == len({one.segment_id for one in done})
    assert worker.count("spans_total", outcome="done") > 0


@pytest.mark.parametrize("short", [True, False])
async def test_a_worker_whose_service_is_odd_leaves_the_texts_to_the_others(
    place: Place, *, short: bool
) -> None:
    """For a while it is given some again and again; those that it has answered well count."""
    await place.worker(Odd(short=short), "odd")
    other = Translation()
    await place.worker(other, "other")
    done = await items(await place.job())
    assert len(done) == len({one.segment_id for one in done})


async def test_two_workers_may_stand_beside_one_service(place: Place) -> None:
    """Each text is translated once all the same."""
    translation = Translation(delay_s=0.01)
    address = await place.stack.enter_async_context(serving(translation=translation))
    for name in ("one", "two"):
        await place.worker(address, name)
    done = await items(await place.job())
    assert len(translation.seen) == len(set(translation.seen)) == len(done)


async def test_a_worker_makes_its_queue_again_where_it_was_taken_away(place: Place) -> None:
    """By a server that has lost its disk, say, or an operator; it needs no new start.

    Meanwhile it is told what one is told that has come before every job service.
    """
    worker = await place.worker(Translation())
    assert await until(lambda: bool(worker.worker._made))
    await place.link.call(f"STREAM.DELETE.{SPANS}")
    with pytest.raises(RefusedError, match="no job service has been on this NATS server yet"):
        await hand_out(place.link, SPANS, "any", 1.0, "vr.span.any.>")
    assert await until(lambda: not worker.worker._made)
    await set_up(place.link)
    await items(await place.job())
