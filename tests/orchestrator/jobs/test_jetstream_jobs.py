"""Several services on one nats-server, and what happens between them."""

import asyncio
import json
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats.errors
import nkeys
import pytest

from tests.orchestrator.jobs.engines import Nats, claimed, events, say, texts, two_services
from tests.orchestrator.jobs.nats_server import NatsServer, running
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.link import (
    AwayError,
    FullError,
    Link,
    LinkError,
    RefusedError,
)
from voxroute_orchestrator.jetstream.setup import JOBS, JOURNAL, SPANS, set_up
from voxroute_orchestrator.jobs.errors import (
    DiskFullError,
    JobNotFoundError,
    LeaseLostError,
    OutcomeUnknownError,
    StoreBusyError,
    StoreError,
)
from voxroute_orchestrator.jobs.store import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Attempt,
    message_event,
)
from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs
from voxroute_orchestrator.jobs.stores.leases import Lease
from voxroute_orchestrator.pipeline.journal import Journal

pytestmark = pytest.mark.slow  # half a minute; what every store promises is asked in the other tier

FILM = jobs_pb2.JobConfig(upload_name="film.wav")


@pytest.fixture
async def services(server: NatsServer) -> AsyncIterator[list[JetStreamJobs]]:
    """Two services."""
    async with two_services(server) as started:
        yield started


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - another process has to see it
            await asyncio.sleep(0.02)


# --- servers that will not do


async def test_a_server_that_loses_jobs_is_refused() -> None:
    """By what it says of itself; the sentence names the version that will do."""

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": "2.9.10", "max_payload": 1 << 20, "headers": True}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(old, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(LinkError, match=r"2\.9\.10; install 2\.10\.27 or newer"):
            await Link.open(Access([f"nats://127.0.0.1:{port}"]))


async def test_a_server_that_takes_small_messages_alone_is_refused(tmp_path: Path) -> None:
    """Told at the start what to set; where it is set later, what is too large is told at once."""
    with running(tmp_path, "max_payload: 64KB") as server:
        with pytest.raises(LinkError, match=r"65536 bytes at most; set its max_payload to 1048576"):
            await Link.open(Access([server.url]))
        server.config = ""
        server.end()
        server.start()
        link = await Link.open(Access([server.url]))
        await set_up(link)
        server.config = "max_payload: 64KB"
        server.end()
        server.start()
        await link.call("INFO", patience_s=20.0)
        began = time.monotonic()
        with pytest.raises(RefusedError, match="takes 65536 bytes at most, not 70000"):
            await link.append(JOBS, "vr.conf.a.0", b"x" * 70_000, 0, math.inf)
        with pytest.raises(RefusedError, match="not 70000"):
            await link.ask("vr.work.a", b"x" * 70_000)
        assert time.monotonic() - began < 1
        await link.append(JOBS, "vr.conf.a.0", b"x", 0)
        await link.close()


async def test_streams_of_another_layout_are_left_alone(server: NatsServer) -> None:
    """A newer voxroute has made them, or somebody else."""
    link = await Link.open(Access([server.url]))
    await link.call(
        f"STREAM.CREATE.{JOBS}",
        {"name": JOBS, "subjects": ["vr.job.*"], "metadata": {"voxroute": "9"}},
    )
    service = Nats(server).service()
    with pytest.raises(StoreError, match="its layout is 9"):
        await service.start()
    await service.close()
    await link.close()


async def test_a_server_that_wants_credentials_is_given_them(tmp_path: Path) -> None:
    """An NKey, from a file; nobody comes in without."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    (tmp_path / "seed").write_bytes(seed)
    user = nkeys.from_seed(seed).public_key.decode()
    with running(tmp_path, f"authorization {{ users: [{{ nkey: {user} }}] }}") as server:
        link = await Link.open(Access.read([server.url], credentials=tmp_path / "seed"))
        assert link.most_bytes == 1 << 20
        await link.close()
        with pytest.raises(LinkError, match="uthorization"):
            await Link.open(Access([server.url]))


# --- between services


async def test_what_one_service_takes_another_one_does_and_shows(
    services: list[JetStreamJobs],
) -> None:
    """Submitted here, watched there, listed on both, claimed once."""
    here, there = services
    bell = there.bells.listen("a")
    await here.submit("a", "k", FILM)
    await asyncio.wait_for(bell.wait(), 10)
    assert await texts(there, "a") == ["QUEUED"]
    assert (await there.submit("b", "k", FILM))[0].id == "a"
    assert [job.id for job in (await there.page([], 10, None))[0]] == ["a"]
    attempt = await claimed(there, "a")
    assert await here.claim() is None
    await say(attempt, "working")
    assert await texts(here, "a") == ["QUEUED", "RUNNING", "working"]
    await attempt.end(SUCCEEDED)
    await _until(lambda: _states(here, [SUCCEEDED], ["a"]))
    there.bells.leave("a", bell)


async def test_a_journal_is_kept_for_whoever_goes_on_and_for_nobody_else(
    services: list[JetStreamJobs],
) -> None:
    """A job that failed has it, one that is begun anew another one; with success it goes."""
    here, there = services
    await here.submit("a", "", FILM)

    async def opened(store: JetStreamJobs) -> tuple[Attempt, Journal]:
        attempt = await claimed(store, "a")
        assert attempt.open_journal is not None
        return attempt, await attempt.open_journal()

    first, journal = await opened(here)
    await journal.keep_fact("n", 1)
    await first.end(FAILED)
    await there.resume("a", restart=False)
    second, journal = await opened(there)
    assert journal.fact("n") == 1
    await second.end(FAILED)
    await there.resume("a", restart=True)
    third, journal = await opened(there)
    assert journal.fact("n") is None
    await journal.keep_fact("n", 3)
    await third.end(SUCCEEDED)
    assert await here.link.last(JOURNAL, "vr.journal.a.1") is None
    assert await here.link.last(JOURNAL, "vr.journal.a.0") is not None
    await _until(lambda: _states(here, [SUCCEEDED], ["a"]))
    await here.delete("a")
    assert await here.link.last(JOURNAL, "vr.journal.a.0") is None


async def _states(store: JetStreamJobs, states: list[int], ids: list[str]) -> bool:
    return [job.id for job in (await store.page(states, 10, None))[0]] == ids


async def test_a_job_is_cancelled_through_any_service(services: list[JetStreamJobs]) -> None:
    """The one that does it stops, and the call returns with its end."""
    here, there = services
    await here.submit("a", "", FILM)
    attempt = await claimed(here)
    cancelling = asyncio.ensure_future(there.cancel("a"))
    await asyncio.wait_for(attempt.stopped.wait(), 10)
    assert attempt.why == "cancelled"
    await attempt.end(CANCELLED)
    await asyncio.wait_for(cancelling, 10)
    assert (await there.get("a")).state == CANCELLED


async def test_a_job_that_was_cancelled_while_its_service_died_ends(
    services: list[JetStreamJobs],
) -> None:
    """By the next service that looks at it; nobody runs it again."""
    here, there = services
    await here.submit("a", "", FILM)
    await claimed(here)
    await here.close()
    cancelling = asyncio.ensure_future(there.cancel("a"))
    while not cancelling.done():
        assert await there.claim() is None
        await asyncio.sleep(0.05)
    job = await there.get("a")
    assert (job.state, job.attempts) == (CANCELLED, 1)


async def test_a_job_stays_with_a_service_that_does_it(services: list[JetStreamJobs]) -> None:
    """However long it takes and says nothing: here three times its lease. It is asked."""
    here, there = services
    await here.submit("a", "", FILM)
    attempt = await claimed(here)
    until = asyncio.get_running_loop().time() + 3.0
    while asyncio.get_running_loop().time() < until:
        assert await there.claim() is None
        await asyncio.sleep(0.05)
    await attempt.end(SUCCEEDED)
    assert (await there.get("a")).attempts == 1


async def _fall_silent(attempt: Attempt) -> None:
    """Has the attempt answer nobody."""
    assert isinstance(attempt, Lease)
    assert attempt._unanswer is not None
    await attempt._unanswer()


async def test_a_service_that_was_taken_for_dead_writes_nothing_more(
    services: list[JetStreamJobs],
) -> None:
    """It hears that the job is another's, and whatever it writes is refused."""
    here, there = services
    await here.submit("a", "", FILM)
    old = await claimed(here)
    await say(old, "working")
    await _fall_silent(old)
    new = await claimed(there, "a")
    await asyncio.wait_for(old.stopped.wait(), 10)
    assert old.why == "lost"
    for write in (say(old, "late"), old.end(FAILED, error="late"), old.give_back("late")):
        with pytest.raises(LeaseLostError):
            await write
    await new.end(SUCCEEDED)
    job = await there.get("a")
    assert (job.state, job.attempts) == (SUCCEEDED, 2)
    found = await events(there, "a")
    assert [event.sequence for event in found] == list(range(1, len(found) + 1))
    assert "late" not in await texts(there, "a")


async def test_a_refused_writer_has_changed_nothing_even_if_it_has_heard_nothing(
    services: list[JetStreamJobs],
) -> None:
    """The number of the message before is what counts, not what a service believes."""
    here, there = services
    await here.submit("a", "", FILM)
    old = await claimed(here)
    here._leases.clear()  # so that it hears nothing
    await _fall_silent(old)
    await claimed(there, "a")
    assert not old.stopped.is_set()
    with pytest.raises(LeaseLostError):
        await old.end(FAILED, error="late")
    assert (await there.get("a")).state == RUNNING


# --- what is lost


async def test_the_job_of_a_service_that_is_gone_is_claimed_before_others(
    services: list[JetStreamJobs],
) -> None:
    """It has begun before them."""
    here, there = services
    await here.submit("a", "", FILM)
    await claimed(here, "a")
    await here.close()
    await asyncio.sleep(2.0)  # its lease is a second
    await there.submit("b", "", FILM)
    assert (await claimed(there, "a")).epoch == 2
    await claimed(there, "b")


async def test_only_what_was_not_said_is_read(
    services: list[JetStreamJobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service hears what becomes of jobs; of 60 messages it asks for a few, those it missed."""
    here, there = services
    asked, read = 0, there.link.next

    async def counted(*rest: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        return await read(*rest, **named)

    monkeypatch.setattr(there.link, "next", counted)
    await here.submit("a", "", FILM)
    attempt = await claimed(here)
    for number in range(60):
        await say(attempt, f"{number}")
    await here.submit("b", "", FILM)
    await _until(lambda: _states(there, [QUEUED], ["b"]))
    await there._read_on()
    assert asked < 10
    await here.submit("c", "", FILM)
    await _until(lambda: _states(there, [QUEUED], ["c", "b"]))
    kept = await here.link.last(JOBS, "vr.job.c")
    assert kept is not None
    there._forget("c")  # as if it had not been said
    there._heard.clear()
    there._seen = kept.sequence - 1
    await _until(lambda: _states(there, [QUEUED], ["c", "b"]))


async def test_a_job_that_was_deleted_unheard_is_forgotten(services: list[JetStreamJobs]) -> None:
    """Nobody is kept from the jobs behind it."""
    here, there = services
    await here.submit("a", "", FILM)
    await there.submit("b", "", FILM)
    await _until(lambda: _states(there, [QUEUED], ["b", "a"]))
    await here.link.purge(JOBS, "vr.job.a")
    await claimed(there, "b")
    assert await there.claim() is None


async def test_what_earlier_versions_have_kept_goes_on(server: NatsServer) -> None:
    """Jobs without a client, a priority and a place, in streams of the layout before."""
    link = await Link.open(Access([server.url]))
    earlier = {"metadata": {"voxroute": "1"}, "storage": "file", "discard": "new"}
    await link.call(
        f"STREAM.CREATE.{JOBS}",
        {"name": JOBS, "subjects": ["vr.job.*", "vr.conf.*.*", "vr.key.*", "vr.fact.*"]} | earlier,
    )
    for job_id in ("a", "b"):
        config = json.dumps({"uploadName": "film.wav"}).encode()
        await link.append(JOBS, f"vr.conf.{job_id}.0", config, 0)
        entry = {
            "number": 0,
            "parts": 1,
            "key": "",
            "turn": 1,
            "generation": 0,
            "fresh": False,
            "cancel": False,
            "deleted": False,
            "by": f"x.{job_id}",
            "events": [{"sequence": "1", "state": "JOB_STATE_QUEUED"}],
            "job": {"id": job_id, "state": "JOB_STATE_QUEUED", "lastSequence": "1"},
        }
        await link.append(JOBS, f"vr.job.{job_id}", json.dumps(entry).encode(), 0)
    service = Nats(server).service()
    await service.start()
    await service.submit("c", "", FILM)
    attempt = await claimed(service, "a")
    await attempt.end(FAILED)
    await service.resume("a", restart=False)
    for job_id in ("b", "c", "a"):
        await claimed(service, job_id)
    assert (await link.call(f"STREAM.INFO.{JOBS}"))["config"]["metadata"]["voxroute"] == "2"
    assert (await link.call(f"STREAM.INFO.{SPANS}"))["config"]["retention"] == "workqueue"
    await service.close()
    await link.close()


async def test_an_answer_that_is_lost_doubles_nothing(server: NatsServer) -> None:
    """What was kept is found, and told as kept."""
    link = await Link.open(Access([server.url]))
    client: Any = link._client
    ask, lose = client.request, True

    async def request(subject: str, *rest: Any, **named: Any) -> Any:
        nonlocal lose
        reply = await ask(subject, *rest, **named)
        if subject.startswith("vr.job.") and lose:
            lose = False
            raise nats.errors.TimeoutError
        return reply

    client.request = request
    store = JetStreamJobs(lambda: _ready(link), lease_s=5.0)
    await store.start()
    _, created = await store.submit("a", "", FILM)
    assert created
    lose = True
    attempt = await claimed(store)
    lose = True
    await say(attempt, "one", "two")
    assert await texts(store, "a") == ["QUEUED", "RUNNING", "one", "two"]
    await store.close()


async def _ready(link: Link) -> Link:
    return link


async def test_events_that_are_written_again_after_a_lost_answer_are_there_once(
    services: list[JetStreamJobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the log of a job does it, with more behind them."""
    here, _ = services
    await here.submit("a", "", FILM)
    attempt = await claimed(here)
    append = here.link.append

    async def lost(*rest: Any, **named: Any) -> int:
        await append(*rest, **named)
        raise AwayError("lost", unsure=True)

    first, second = message_event("one"), message_event("two")
    with monkeypatch.context() as patched:
        patched.setattr(here.link, "append", lost)
        with pytest.raises(OutcomeUnknownError):
            await attempt.append([first])
    await attempt.append([first, second])
    with monkeypatch.context() as patched:
        patched.setattr(here.link, "append", lost)
        with pytest.raises(OutcomeUnknownError):
            await attempt.end(SUCCEEDED)
    await attempt.end(SUCCEEDED)
    assert await texts(here, "a") == ["QUEUED", "RUNNING", "one", "two", "SUCCEEDED"]


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("kept", [False, True])
async def test_a_submission_that_was_cut_off_is_completed_by_the_next_with_its_key(
    services: list[JetStreamJobs],
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    kept: bool,  # noqa: FBT001
) -> None:
    """Config, key or job: one job in the end, which waits and is claimed once."""
    here, there = services
    append, count = here.link.append, 0

    async def cut(*rest: Any, **named: Any) -> int:
        nonlocal count
        count += 1
        if count < step:
            return await append(*rest, **named)
        if count == step and kept:
            await append(*rest, **named)
        raise AwayError("cut off", unsure=kept)

    with monkeypatch.context() as patched:
        patched.setattr(here.link, "append", cut)
        with pytest.raises(StoreBusyError):
            await here.submit("a", "k", FILM)
    job, created = await there.submit("b", "k", FILM)
    settled = step > 2 or (step == 2 and kept)
    assert (job.id, created) == (("a", False) if settled else ("b", True))
    assert job.state == QUEUED
    await claimed(there, job.id)
    assert [one.id for one in (await there.page([], 10, None))[0]] == [job.id]


@pytest.mark.parametrize("key", ["", "k"])
@pytest.mark.parametrize("error", [AwayError("no leader"), FullError("no room")])
async def test_a_submission_that_somebody_may_complete_is_told_as_unsure(
    services: list[JetStreamJobs], monkeypatch: pytest.MonkeyPatch, key: str, error: LinkError
) -> None:
    """Its recording is kept then: with its key kept, or the job and only the answer missing."""
    here, there = services
    append = here.link.append

    async def fail(stream: str, subject: str, *rest: Any, **named: Any) -> int:
        if subject.startswith("vr.job."):
            raise error
        return await append(stream, subject, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(here.link, "append", fail)
        with pytest.raises((StoreBusyError, DiskFullError)) as told:
            await here.submit("a", key, FILM)
    assert isinstance(told.value, OutcomeUnknownError) == bool(key)

    async def none(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(here, "_config", none)
        with pytest.raises(OutcomeUnknownError):
            await here.submit("b", "", FILM)
    assert (await there.get("b")).state == QUEUED


async def test_everything_outlives_a_server_that_is_killed(
    server: NatsServer, services: list[JetStreamJobs]
) -> None:
    """With -9, while events are written: none is lost or doubled, and the attempt goes on."""
    here, there = services
    await here.submit("a", "", FILM)
    attempt = await claimed(here)
    await say(attempt, "before")
    server.end(signal.SIGKILL)
    saying = asyncio.ensure_future(say(attempt, "meanwhile"))
    server.start()
    await saying
    await _until(lambda: _is_said(there, "meanwhile"))
    await attempt.end(SUCCEEDED)
    assert await texts(there, "a") == ["QUEUED", "RUNNING", "before", "meanwhile", "SUCCEEDED"]
    assert (await there.get("a")).attempts == 1


async def _is_said(store: JetStreamJobs, text: str) -> bool:
    try:
        return text in await texts(store, "a")
    except StoreBusyError:
        return False


async def test_a_server_that_is_away_is_told(
    server: NatsServer, services: list[JetStreamJobs]
) -> None:
    """UNAVAILABLE with advice, within some seconds; nothing of it was kept."""
    here, _ = services
    server.end()
    with pytest.raises(StoreBusyError) as error:
        await here.submit("a", "k", FILM)
    assert error.value.retry_after_s
    server.start()
    await _until(lambda: _is_away(here, "a"))


async def _is_away(store: JetStreamJobs, job_id: str) -> bool:
    try:
        await store.get(job_id)
    except JobNotFoundError:
        return True
    except StoreBusyError:
        pass
    return False


async def test_a_full_stream_takes_nothing_and_goes_on_when_there_is_room(
    services: list[JetStreamJobs],
) -> None:
    """DiskFullError; what was there is there."""
    here, there = services
    await here.submit("a", "", FILM)
    attempt = await claimed(here)
    info = await here.link.call(f"STREAM.INFO.{JOBS}")
    full = info["config"] | {"max_bytes": info["state"]["bytes"] + 100}
    await here.link.call(f"STREAM.UPDATE.{JOBS}", full)
    with pytest.raises(DiskFullError):
        await there.submit("b", "", FILM)
    with pytest.raises(DiskFullError):
        await say(attempt, "no room")
    await here.link.call(f"STREAM.UPDATE.{JOBS}", info["config"])
    await say(attempt, "room")
    assert await texts(there, "a") == ["QUEUED", "RUNNING", "room"]


async def test_an_id_that_is_a_pattern_of_subjects_finds_nothing(
    services: list[JetStreamJobs],
) -> None:
    """Nobody reads another job by it, or all of them."""
    here, _ = services
    await here.submit("a", "", FILM)
    for job_id in ("*", ">", "a.b", "", "a b", "\n"):
        with pytest.raises(JobNotFoundError):
            await here.get(job_id)
