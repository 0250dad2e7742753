"""What every journal promises, whatever keeps it: `pipeline/journal.py` says it."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.orchestrator.jobs.nats_server import NatsServer, running
from tests.orchestrator.pipeline.journals import Files, Keeper, OnServer
from voxroute_orchestrator.errors import OutputError, TakenError
from voxroute_orchestrator.jetstream.journal import JetStreamJournal, remove
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.jetstream.setup import JOURNAL
from voxroute_orchestrator.pipeline.journal import Journal
from voxroute_orchestrator.transcript import AsrStats, Segment, TranslatedSegment, Untranscribed

BOUNDS = (0.0, 240.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server without journals."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture
async def on_server(server: NatsServer) -> AsyncIterator[OnServer]:
    """A journal on it."""
    keeper = OnServer(server)
    await keeper.start()
    yield keeper
    await keeper.close()


@pytest.fixture(params=["sqlite", "nats"])
async def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Keeper]:
    """Whoever keeps the journal of a job."""
    if request.param == "sqlite":
        keeper: Keeper = Files(tmp_path)
        yield keeper
        await keeper.close()
        return
    with running(tmp_path) as server:
        keeper = OnServer(server)
        await keeper.start()
        yield keeper
        await keeper.close()


def _segment(number: int, text: str = "") -> Segment:
    return Segment(
        id=number, start_s=number, end_s=number + 1, text=text or f"शब्द {number}", language="hi"
    )


async def _window(journal: Journal, span: int, end_s: int, *texts: str) -> None:
    segments = [_segment(end_s - 30, text) for text in texts or ("",)]
    await journal.keep_window(span, BOUNDS, segments, [], end_s)


def _texts(journal: Journal, span: int) -> list[str]:
    return [one.text for one in journal.spans()[span].segments]


async def test_what_was_kept_is_read_by_whoever_opens_the_journal_next(keeper: Keeper) -> None:
    """Windows in their order, what a span cost, and what is in none of them; here as well."""
    journal = await keeper.open()
    assert journal.spans() == {}
    assert journal.fact("language") is None
    assert journal.translations("en") == []
    gap = Untranscribed(start_s=31, end_s=32, reason="NO_TEXT")
    await _window(journal, 3, 30, "one", "two")
    await journal.keep_window(3, BOUNDS, [], [gap], 60)
    await _window(journal, 3, 90, "three")
    await _window(journal, 0, 30)
    await journal.keep_span(0, BOUNDS, AsrStats(windows=1))
    await journal.keep_span(5, BOUNDS, AsrStats(windows=0))
    await journal.keep_fact("language", [{"language": "hi", "probability": 0.5}])
    here = journal.spans()
    await journal.close()
    later = await keeper.open()
    assert later.spans() == here
    assert sorted(here) == [0, 3, 5]
    assert _texts(later, 3) == ["one", "two", "three"]
    assert (here[3].start_s, here[3].end_s, here[3].done_s, here[3].stats) == (0, 240, 90, None)
    assert here[3].untranscribed == [gap]
    assert here[0].segments == [_segment(0)]
    assert here[0].stats == AsrStats(windows=1)
    assert (here[5].done_s, here[5].segments, here[5].stats) == (0, [], AsrStats(windows=0))
    assert later.fact("language") == [{"language": "hi", "probability": 0.5}]


async def test_of_facts_and_translations_the_last_one_counts(keeper: Keeper) -> None:
    """A translation is read in its segment's place, whenever it came."""
    journal = await keeper.open()
    for number, text in ((2, "two"), (10, "ten"), (1, "one"), (2, "TWO")):
        item = TranslatedSegment(segment_id=number, text=text, status="OK")
        await journal.keep_translation("en", item)
    await journal.keep_translation("de", TranslatedSegment(segment_id=2, text="zwei", status="OK"))
    for value in (None, {"a": 1}, ["warning"]):
        await journal.keep_fact("warnings", value)
    await journal.close()
    later = await keeper.open()
    assert [item.text for item in later.translations("en")] == ["one", "TWO", "ten"]
    assert [item.text for item in later.translations("de")] == ["zwei"]
    assert later.fact("warnings") == ["warning"]


async def test_calls_for_several_spans_may_be_under_way_at_once(keeper: Keeper) -> None:
    """Each span has its windows in order, and each call returns when its own is kept."""
    journal = await keeper.open()

    async def lane(span: int) -> None:
        for end_s in range(30, 330, 30):
            await _window(journal, span, end_s)
        await journal.keep_span(span, BOUNDS, AsrStats(windows=10))

    await asyncio.gather(*(lane(span) for span in range(20)))
    await journal.close()
    kept = (await keeper.open()).spans()
    assert sorted(kept) == list(range(20))
    for span in kept.values():
        assert [segment.start_s for segment in span.segments] == list(range(0, 300, 30))
        assert (span.done_s, span.stats) == (300, AsrStats(windows=10))


async def test_what_is_larger_than_a_message_is_kept_as_a_whole(keeper: Keeper) -> None:
    """The words of a long film are one fact of some megabytes."""
    journal = await keeper.open()
    words = {str(number): [["शब्द" * 10, number]] * 20 for number in range(2000)}
    await journal.keep_fact("words", words)
    await _window(journal, 0, 30, "x" * 3_000_000)
    await journal.keep_fact("after", 1)
    await journal.close()
    later = await keeper.open()
    assert later.fact("words") == words
    assert _texts(later, 0) == ["x" * 3_000_000]
    assert later.fact("after") == 1


async def test_a_call_that_is_cancelled_has_kept_all_or_nothing(keeper: Keeper) -> None:
    """And what is kept behind it is whole."""
    journal = await keeper.open()
    for turn in range(20):
        call = asyncio.ensure_future(_window(journal, turn, 30, "x" * 200_000))
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await journal.keep_fact(str(turn), turn)
    await journal.close()
    later = await keeper.open()
    assert [later.fact(str(turn)) for turn in range(20)] == list(range(20))
    assert all(_texts(later, span) == ["x" * 200_000] for span in later.spans())


async def test_what_begins_anew_begins_with_nothing(keeper: Keeper) -> None:
    """A window that the run before still writes is in no journal any more."""
    before = await keeper.open()
    await _window(before, 0, 30, "old")
    await before.keep_fact("job", "old")
    journal = await keeper.restart()
    await _window(before, 0, 60, "late")  # to where nobody looks
    assert journal.spans() == {}
    assert journal.fact("job") is None
    await _window(journal, 0, 30, "new")
    await _window(before, 1, 30, "later")
    await journal.close()
    later = await keeper.open()
    assert _texts(later, 0) == ["new"]
    assert list(later.spans()) == [0]


async def test_a_journal_that_is_closed_or_discarded_keeps_nothing_more(keeper: Keeper) -> None:
    """Whoever tries is told."""
    for end in (Journal.close, Journal.discard):
        journal = await keeper.open()
        await journal.keep_fact("a", 1)
        await (journal.close() if end is Journal.close else journal.discard())
        with pytest.raises(OutputError):
            await journal.keep_fact("a", 2)


# --- on a server


async def test_an_attempt_that_was_followed_keeps_nothing_more(on_server: OnServer) -> None:
    """Whatever it was at, whichever span; and one that opens the journal too late has none."""
    first = await on_server.open()
    await _window(first, 0, 30, "first")
    second = await on_server.open()
    await _window(second, 0, 60, "second")
    for keep in (
        _window(first, 0, 60, "late"),
        _window(first, 7, 30, "late"),
        first.keep_fact("late", 1),
        first.keep_span(0, BOUNDS, AsrStats()),
    ):
        with pytest.raises(TakenError, match="another service"):
            await keep
    with pytest.raises(TakenError):
        await JetStreamJournal.open(on_server.link, "a", 0, 1)
    await _window(second, 0, 90, "third")
    later = await on_server.open()
    assert _texts(later, 0) == ["first", "second", "third"]
    assert list(later.spans()) == [0]
    assert later.fact("late") is None


async def test_of_attempts_at_once_the_last_one_has_what_the_others_have_kept(
    on_server: OnServer,
) -> None:
    """Each writes until it is refused: what was told to be kept is there, nothing else."""
    kept: list[str] = []

    async def attempt() -> None:
        number = on_server.attempt + 1
        with contextlib.suppress(TakenError):
            journal = await on_server.open()
            for end_s in range(30, 3000, 30):
                text = f"{number}:{end_s}"
                await journal.keep_fact(text, text)
                kept.append(text)

    attempts: list[asyncio.Future[None]] = []
    for _ in range(6):
        attempts.append(asyncio.ensure_future(attempt()))
        await asyncio.sleep(0.05)
    last = await on_server.open()
    await asyncio.gather(*attempts)
    later = await on_server.open()
    assert len(kept) > 10
    assert [last.fact(text) for text in kept] == kept
    assert [later.fact(text) for text in kept] == kept


@pytest.mark.parametrize("asked", [True, False])
async def test_an_answer_that_is_lost_is_looked_up(
    on_server: OnServer, monkeypatch: pytest.MonkeyPatch, *, asked: bool
) -> None:
    """Whether the message had been kept or not, it is there once."""
    journal = await on_server.open()
    request: Any = Link._request
    lost = 0

    async def losing(self: Link, subject: str, *rest: Any, **more: Any) -> Any:
        nonlocal lost
        if subject.startswith("vr.journal.") and lost % 3 == 0:
            lost += 1
            if asked:
                await request(self, subject, *rest, **more)
            raise TimeoutError
        lost += subject.startswith("vr.journal.")
        return await request(self, subject, *rest, **more)

    monkeypatch.setattr(Link, "_request", losing)
    for end_s in range(30, 330, 30):
        await _window(journal, 0, end_s)
    await journal.keep_fact("words", "x" * 2_000_000)
    assert lost > 10
    monkeypatch.undo()
    later = await on_server.open()
    assert [one.start_s for one in later.spans()[0].segments] == list(range(0, 300, 30))
    assert later.fact("words") == "x" * 2_000_000


async def test_a_server_that_is_away_is_waited_for(on_server: OnServer) -> None:
    """For ten seconds, and killed: what was kept is there, and what waits is kept then."""
    journal = await on_server.open()
    await _window(journal, 0, 30)
    on_server.server.end(signal.SIGKILL)
    began = time.monotonic()
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(_window(journal, span, 30)) for span in (1, 2)
    ]
    opening = asyncio.ensure_future(JetStreamJournal.open(on_server.link, "b", 0, 1))
    done, _ = await asyncio.wait([*waiting, opening], timeout=10)
    assert not done
    await asyncio.to_thread(on_server.server.start)
    await asyncio.wait_for(asyncio.gather(*waiting, opening), 20)
    assert time.monotonic() - began > 10
    await _window(journal, 0, 60)
    assert sorted((await on_server.open()).spans()) == [0, 1, 2]


async def test_a_journal_that_waits_for_a_server_is_closed_soon(on_server: OnServer) -> None:
    """Whoever waits for it is told; the job may stop."""
    journal = await on_server.open()
    on_server.server.end(signal.SIGKILL)
    waiting = asyncio.ensure_future(journal.keep_fact("a", 1))
    await asyncio.sleep(0)
    began = time.monotonic()
    await journal.close()
    with pytest.raises(OutputError):
        await waiting
    assert time.monotonic() - began < 5


async def test_a_full_server_is_told_and_goes_on_where_there_is_room(on_server: OnServer) -> None:
    """What was kept is there, half a message is not, and a window that fits then is kept."""
    info = await on_server.link.call(f"STREAM.INFO.{JOURNAL}")
    limited = info["config"] | {"max_bytes": 1_500_000}
    await on_server.link.call(f"STREAM.UPDATE.{JOURNAL}", limited)
    journal = await on_server.open()
    await _window(journal, 0, 30)
    with pytest.raises(OutputError, match=r"is full; delete jobs.*is kept"):
        await journal.keep_fact("words", "x" * 2_000_000)
    await on_server.link.call(f"STREAM.UPDATE.{JOURNAL}", limited | {"max_bytes": -1})
    await _window(journal, 0, 60)
    for reader in (journal, await on_server.open()):
        assert [one.start_s for one in reader.spans()[0].segments] == [0, 30]
        assert reader.fact("words") is None


async def test_a_journal_that_was_removed_is_gone_with_all_its_generations(
    on_server: OnServer,
) -> None:
    """The job was deleted; another one's stays."""
    for generation in range(3):
        await JetStreamJournal.open(on_server.link, "b", generation, 1)
    await on_server.open()
    await remove(on_server.link, "b")
    info = await on_server.link.call(f"STREAM.INFO.{JOURNAL}", {"subjects_filter": ">"})
    assert json.dumps(info["state"]["subjects"]) == '{"vr.journal.a.0": 1}'
