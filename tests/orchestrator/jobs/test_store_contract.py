"""What every store of jobs promises, whatever keeps them: `jobs/store.py` says it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.orchestrator.jobs.engines import Engine, Nats, Sqlite, claimed, events, say, texts
from tests.orchestrator.jobs.nats_server import (
    Cluster,
    cluster,
    nats_server,
    newest_server,
    running,
)
from voxroute.jobs.v1 import jobs_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.jobs.errors import (
    InvalidJobError,
    JobNotFoundError,
    JobStateError,
    LeaseLostError,
)
from voxroute_orchestrator.jobs.store import (
    CANCELLED,
    FAILED,
    KILLED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Event,
    JobStore,
    message_event,
)

FILM = jobs_pb2.JobConfig(upload_name="film.wav")
OTHER = jobs_pb2.JobConfig(upload_name="other.wav")
RESULT = jobs_pb2.Artifact(name="film.srt", bytes=7, sha256="f" * 64)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three that keep the same."""
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture(
    params=[
        "sqlite",
        "nats",
        pytest.param("newest-nats", marks=pytest.mark.slow),
        pytest.param("cluster", marks=pytest.mark.slow),
    ]
)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """An engine without jobs, and one service on it."""
    if request.param == "sqlite":
        engine: Engine = Sqlite(tmp_path)
        await engine.open()
        yield engine
        await engine.store.close()
        return
    if request.param == "cluster":
        engine = Nats(request.getfixturevalue("servers"))
        await engine.open()
        yield engine
        await engine.store.close()
        await engine.forget()
        return
    program = newest_server() if request.param == "newest-nats" else nats_server()
    with running(tmp_path, program=program) as server:
        engine = Nats(server)
        await engine.open()
        yield engine
        await engine.store.close()


@pytest.fixture
def store(engine: Engine) -> JobStore:
    """The store of that service."""
    return engine.store


def _stage(name: str, done_s: int, *, finished: bool = False) -> Event:
    stage = jobs_pb2.JobStage(name=name, finished=finished)
    stage.done.seconds = done_s
    return Event("stage", jobs_pb2.WatchJobResponse(stage=stage), 1)


async def _in_order(store: JobStore, count: int) -> list[str | None]:
    attempts = [await store.claim() for _ in range(count)]
    return [one.job_id if one else None for one in attempts]


# --- submitting


async def test_a_submitted_job_waits_and_is_found(store: JobStore) -> None:
    """As it was submitted; with its first event."""
    job, created = await store.submit("a", "", FILM)
    assert created
    assert (job.id, job.config, job.state, job.attempts) == ("a", FILM, QUEUED, 0)
    assert job.create_time.seconds
    assert await store.get("a") == job
    assert await texts(store, "a") == ["QUEUED"]
    for ask in (store.get, store.cancel, store.delete):
        with pytest.raises(JobNotFoundError):
            await ask("none")
    with pytest.raises(JobNotFoundError):
        await store.events("none", 0)
    with pytest.raises(JobNotFoundError):
        await store.resume("none", restart=True)


async def test_a_key_makes_one_job_of_submissions_at_once(store: JobStore) -> None:
    """Twelve: one of them has made it, and all are told the same job; one that comes later, too."""
    assert await store.find_submission("k", FILM) is None
    assert await store.find_submission("", FILM) is None
    told = await asyncio.gather(*(store.submit(f"job{n}", "k", FILM) for n in range(12)))
    assert len({job.id for job, _ in told}) == 1
    assert [created for _, created in told].count(True) == 1
    job = told[0][0]
    assert (await store.submit("late", "k", FILM))[0].id == job.id
    found = await store.find_submission("k", FILM)
    assert found is not None
    assert found.id == job.id
    assert [one.id for one in (await store.page([], 50, None))[0]] == [job.id]
    assert await _in_order(store, 2) == [job.id, None]


async def test_a_key_with_another_config_is_refused(store: JobStore) -> None:
    """The sentence names the job that has it."""
    await store.submit("a", "k", FILM)
    with pytest.raises(InvalidJobError, match="job a with another config"):
        await store.find_submission("k", OTHER)
    with pytest.raises(InvalidJobError, match="job a with another config"):
        await store.submit("b", "k", OTHER)
    with pytest.raises(JobNotFoundError):
        await store.get("b")


# --- the queue


async def test_jobs_are_claimed_in_the_order_in_which_they_were_queued(store: JobStore) -> None:
    """One that is given back keeps its place; one that is resumed goes to the end."""
    for job_id in ("a", "b", "c"):
        await store.submit(job_id, "", FILM)
    first = await claimed(store, "a")
    await first.give_back("the service stops")
    await store.cancel("b")
    await store.resume("b", restart=False)
    assert await _in_order(store, 4) == ["a", "c", "b", None]


async def _of_clients(store: JobStore, **jobs: str) -> None:
    """Submits jobs, each by its client."""
    for job_id, tenant in jobs.items():
        await store.submit(job_id, "", FILM, tenant)


async def test_clients_take_turns_whatever_they_have_waiting(store: JobStore) -> None:
    """One with many jobs does not hold up one with a single job that came later."""
    await _of_clients(store, a1="a", a2="a", a3="a", a4="a", b1="b", c1="c", b2="b")
    assert await _in_order(store, 8) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4", None]


async def test_the_client_with_the_fewest_running_jobs_is_next(store: JobStore) -> None:
    """So that one with short jobs has as many places as one with long ones."""
    await _of_clients(store, a1="a", a2="a", a3="a", b1="b", b2="b", b3="b")
    assert await _in_order(store, 1) == ["a1"]
    await (await claimed(store, "b1")).end(SUCCEEDED)
    await (await claimed(store, "b2")).end(SUCCEEDED)
    assert await _in_order(store, 3) == ["b3", "a2", "a3"]


async def test_turns_go_on_where_jobs_have_ended(store: JobStore) -> None:
    """With one place: whose last job began the longest ago is next."""
    await _of_clients(store, a1="a", a2="a", a3="a", b1="b", b2="b", c1="c")
    order: list[str] = []
    for _ in range(6):
        attempt = await claimed(store)
        order.append(attempt.job_id)
        await attempt.end(SUCCEEDED)
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_of_a_clients_own_jobs_high_ones_go_first_and_low_ones_last(store: JobStore) -> None:
    """Priority takes nobody else's turn."""
    for job_id, priority, tenant in (
        ("a1", jobs_pb2.JOB_PRIORITY_LOW, "a"),
        ("a2", jobs_pb2.JOB_PRIORITY_UNSPECIFIED, "a"),
        ("a3", jobs_pb2.JOB_PRIORITY_HIGH, "a"),
        ("b1", jobs_pb2.JOB_PRIORITY_LOW, "b"),
        ("a4", jobs_pb2.JOB_PRIORITY_HIGH, "a"),
    ):
        config = jobs_pb2.JobConfig(upload_name="film.wav", priority=priority)
        await store.submit(job_id, "", config, tenant)
    assert await _in_order(store, 5) == ["a3", "b1", "a4", "a2", "a1"]


async def test_turns_outlive_the_service(engine: Engine) -> None:
    """Clients, priorities, and whose turn was last."""
    await _of_clients(engine.store, a1="a", b1="b", a2="a", b2="b")
    config = jobs_pb2.JobConfig(upload_name="film.wav", priority=jobs_pb2.JOB_PRIORITY_HIGH)
    await engine.store.submit("b3", "", config, "b")
    await (await claimed(engine.store, "a1")).end(SUCCEEDED)
    await engine.kill()
    await engine.open()
    assert await _in_order(engine.store, 5) == ["b3", "a2", "b1", "b2", None]


async def test_a_job_is_claimed_once_however_many_claim(store: JobStore) -> None:
    """Eight at a time, thirty jobs."""
    for number in range(30):
        await store.submit(f"{number}", "", FILM)
    found: list[str] = []

    async def claim_all() -> None:
        while (attempt := await store.claim()) is not None:
            found.append(attempt.job_id)

    await asyncio.gather(*(claim_all() for _ in range(8)))
    assert sorted(found, key=int) == [f"{number}" for number in range(30)]


async def test_a_claim_is_a_running_job(store: JobStore) -> None:
    """Its attempt is counted, and when it began is told."""
    await store.submit("a", "", FILM)
    attempt = await claimed(store)
    assert (attempt.config, attempt.epoch, attempt.fresh, attempt.why) == (FILM, 1, False, "")
    assert not attempt.stopped.is_set()
    job = await store.get("a")
    assert (job.state, job.attempts) == (RUNNING, 1)
    assert job.start_time.seconds


async def test_whoever_waits_for_a_job_is_woken(store: JobStore) -> None:
    """By a submission, by one that is given back, and by one that is resumed."""

    async def woken() -> None:
        await asyncio.wait_for(store.waiting.wait(), 10)
        store.waiting.clear()

    store.waiting.clear()
    await store.submit("a", "", FILM)
    await woken()
    attempt = await claimed(store)
    await attempt.give_back("the service stops")
    await woken()
    attempt = await claimed(store)
    await attempt.end(FAILED, error="no film")
    await store.resume("a", restart=False)
    await woken()
    await claimed(store, "a")


async def test_a_restart_is_remembered_until_it_has_begun(store: JobStore) -> None:
    """A service that is gone between the call and the run throws away what is finished later."""
    await store.submit("a", "", FILM)
    await store.cancel("a")
    await store.resume("a", restart=True)
    for _ in range(2):
        attempt = await claimed(store)
        assert attempt.fresh
        await attempt.give_back("the service stops")
    attempt = await claimed(store)
    await attempt.began_afresh()
    await attempt.give_back("the service stops")
    assert not (await claimed(store)).fresh


async def test_the_job_of_a_killed_service_goes_on(engine: Engine) -> None:
    """As another attempt, and its watchers are told."""
    await engine.store.submit("a", "", FILM)
    await say(await claimed(engine.store, "a"), "working")
    await engine.kill()
    await engine.open()
    attempt = await claimed(engine.store, "a")
    assert attempt.epoch == 2
    assert await texts(engine.store, "a") == [
        "QUEUED", "RUNNING", "working", KILLED, "QUEUED", "RUNNING"
    ]  # fmt: skip


# --- attempts


async def test_an_attempt_that_another_has_followed_changes_nothing(store: JobStore) -> None:
    """Whatever it writes; it hears of it."""
    await store.submit("a", "", FILM)
    old = await claimed(store)
    await old.give_back("the service stops")
    new = await claimed(store)
    assert (old.epoch, new.epoch) == (1, 2)
    before = await store.get("a")
    for write in (
        old.append([message_event("late")]),
        old.began_afresh(),
        old.end(FAILED, error="late", artifacts=[RESULT]),
        old.give_back("late"),
    ):
        with pytest.raises(LeaseLostError):
            await write
    assert (old.why, old.stopped.is_set()) == ("lost", True)
    assert await store.get("a") == before
    await say(new, "on time")
    await new.end(SUCCEEDED, artifacts=[RESULT])
    with pytest.raises(LeaseLostError):
        await say(new, "after the end")
    assert (await texts(store, "a"))[-2:] == ["on time", "SUCCEEDED"]


async def test_a_job_ends_with_what_it_leaves(store: JobStore) -> None:
    """State, error, files; the stages as they were told last, in the order of their beginnings."""
    await store.submit("a", "", FILM)
    attempt = await claimed(store)
    await attempt.append([_stage("decoding", 1), _stage("writing", 2)])
    await attempt.append([_stage("decoding", 9, finished=True)])
    await attempt.end(SUCCEEDED, artifacts=[RESULT])
    job = await store.get("a")
    assert (job.state, job.error, list(job.artifacts)) == (SUCCEEDED, "", [RESULT])
    assert [(one.name, one.done.seconds) for one in job.stages] == [("decoding", 9), ("writing", 2)]
    assert job.end_time.seconds
    assert job.last_sequence == 6


async def test_a_watcher_finds_every_event_from_any_number_on(store: JobStore) -> None:
    """Numbered from 1 without a gap over all attempts; the end is told with the last of them."""
    await store.submit("a", "", FILM)
    for number in range(3):
        attempt = await claimed(store)
        await asyncio.gather(*(say(attempt, f"{number} {n}", "and") for n in range(5)))
        await attempt.give_back("the service stops")
    attempt = await claimed(store)
    await attempt.end(FAILED, error="no film")
    found = await events(store, "a")
    job = await store.get("a")
    assert [event.sequence for event in found] == list(range(1, job.last_sequence + 1))
    assert all(event.time.seconds for event in found)
    assert sum(event.message.startswith("1 ") for event in found) == 5
    for after in range(job.last_sequence + 1):
        batch = await store.events("a", after)
        assert batch.events == found[after:]
        assert batch.ended
    assert not (await store.events("a", job.last_sequence + 5)).events


async def test_many_events_come_in_several_batches(store: JobStore) -> None:
    """None is told to be the last that is not."""
    await store.submit("a", "", FILM)
    attempt = await claimed(store)
    for number in range(4):
        await say(attempt, *(f"{number * 300 + n}" for n in range(300)))
    await attempt.end(SUCCEEDED)
    first = await store.events("a", 0)
    assert not first.ended
    told = await texts(store, "a")
    assert told[2:-1] == [f"{n}" for n in range(1200)]


async def test_a_watcher_is_woken(store: JobStore) -> None:
    """By every change of its job, and by no other job's."""
    await store.submit("a", "", FILM)
    bell = store.bells.listen("a")

    async def rung() -> None:
        await asyncio.wait_for(bell.wait(), 10)
        bell.clear()

    attempt = await claimed(store)
    await rung()
    await say(attempt, "working")
    await rung()
    await attempt.end(SUCCEEDED)
    await rung()
    await store.resume("a", restart=True)
    await rung()
    store.bells.leave("a", bell)


# --- what people do


async def test_a_cancelled_job_ends(store: JobStore) -> None:
    """At once where it waits; else its attempt is stopped, and the call returns with its end."""
    for job_id in ("a", "b"):
        await store.submit(job_id, "", FILM)
    await store.cancel("a")
    assert (await store.get("a")).state == CANCELLED
    attempt = await claimed(store, "b")
    cancelling = asyncio.ensure_future(store.cancel("b"))
    await asyncio.wait_for(attempt.stopped.wait(), 10)
    assert attempt.why == "cancelled"
    assert not cancelling.done()
    await say(attempt, "stopping")
    await attempt.end(CANCELLED)
    await asyncio.wait_for(cancelling, 10)
    assert (await texts(store, "b"))[-2:] == ["stopping", "CANCELLED"]
    await store.cancel("b")
    assert (await store.get("b")).state == CANCELLED
    assert await store.claim() is None


async def test_a_job_is_resumed_once_it_has_ended(store: JobStore) -> None:
    """One that has succeeded with `restart` only; nothing of the last run is told of it then."""
    await store.submit("a", "", FILM)
    with pytest.raises(JobStateError, match="has not ended"):
        await store.resume("a", restart=True)
    attempt = await claimed(store)
    with pytest.raises(JobStateError, match="has not ended"):
        await store.resume("a", restart=True)
    await attempt.append([_stage("decoding", 1)])
    await attempt.end(SUCCEEDED, artifacts=[RESULT])
    with pytest.raises(JobStateError, match="has succeeded"):
        await store.resume("a", restart=False)
    last = (await store.get("a")).last_sequence
    job = await store.resume("a", restart=True)
    assert (job.state, job.error, job.last_sequence) == (QUEUED, "", last + 1)
    assert not job.artifacts
    assert not job.stages
    assert not job.HasField("end_time")
    attempt = await claimed(store)
    assert (attempt.epoch, attempt.fresh) == (2, True)
    await attempt.append([_stage("decoding", 1)])
    await attempt.end(FAILED, error="no film")
    job = await store.resume("a", restart=False)
    assert [stage.name for stage in job.stages] == ["decoding"]


async def test_a_deleted_job_is_gone_and_its_key_is_free(store: JobStore) -> None:
    """One that has not ended is not deleted."""
    await store.submit("a", "k", FILM)
    with pytest.raises(JobStateError, match="cancel it first"):
        await store.delete("a")
    await store.cancel("a")
    await store.delete("a")
    for ask in (store.get("a"), store.events("a", 0), store.delete("a")):
        with pytest.raises(JobNotFoundError):
            await ask
    assert await store.find_submission("k", OTHER) is None
    assert await store.page([], 50, None) == ([], None)
    job, created = await store.submit("b", "k", OTHER)
    assert (job.id, created) == ("b", True)
    assert await _in_order(store, 2) == ["b", None]


async def test_a_page_tells_the_newest_jobs_first(store: JobStore) -> None:
    """In the states that are asked for; all pages together are the whole list."""
    for number in range(7):
        await store.submit(f"{number}", "", FILM)
    for _ in range(3):
        await (await claimed(store)).end(SUCCEEDED)
    pages: list[list[str]] = []
    before: int | None = None
    while True:
        jobs, before = await store.page([], 3, before)
        pages.append([job.id for job in jobs])
        if before is None:
            break
    assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    jobs, _ = await store.page([SUCCEEDED, FAILED], 50, None)
    assert [job.id for job in jobs] == ["2", "1", "0"]


async def test_what_a_client_has_waiting_is_counted(store: JobStore) -> None:
    """Neither what runs or has ended, nor what others have."""
    await _of_clients(store, a1="a", a2="a", a3="a", b1="b", n1="")
    await claimed(store, "a1")
    await store.cancel("a2")
    assert [await store.waiting_of(client) for client in ("a", "b", "", "none")] == [1, 1, 1, 0]
    await store.resume("a2", restart=False)
    assert await store.waiting_of("a") == 2


async def test_jobs_that_have_ended_before_a_time_are_found(store: JobStore) -> None:
    """Not those that run or wait, nor one that was resumed."""
    for job_id in ("a", "b", "c", "d"):
        await store.submit(job_id, "", FILM)
    await (await claimed(store, "a")).end(SUCCEEDED)
    await claimed(store, "b")
    for job_id in ("c", "d"):
        await store.cancel(job_id)
    await store.resume("d", restart=False)
    now = time.time()
    assert sorted(await store.ended_before(now + 2)) == ["a", "c"]
    assert await store.ended_before(now - 60) == []


async def test_large_jobs_end_a_page_early(store: JobStore) -> None:
    """A page stays below what a client takes of one message."""
    term = translate_pb2.GlossaryTerm(source="ब" * 200, target="ब" * 200)
    large = jobs_pb2.JobConfig(upload_name="film.wav", glossary=[term] * 400)
    for number in range(6):
        await store.submit(f"{number}", "", large)
    jobs, before = await store.page([], 50, None)
    assert sum(job.ByteSize() for job in jobs) < 4 * 1024 * 1024
    rest, _ = await store.page([], 50, before)
    assert [job.id for job in (*jobs, *rest)][:5] == ["5", "4", "3", "2", "1"]


async def test_everything_outlives_the_service(engine: Engine) -> None:
    """Jobs, events, keys, the order of the queue."""
    for job_id in ("a", "b", "c"):
        await engine.store.submit(job_id, f"key of {job_id}", FILM)
    attempt = await claimed(engine.store, "a")
    await attempt.append([_stage("decoding", 1)])
    await attempt.end(SUCCEEDED, artifacts=[RESULT])
    jobs, _ = await engine.store.page([], 50, None)
    told = await events(engine.store, "a")
    await engine.kill()
    await engine.open()
    assert (await engine.store.page([], 50, None))[0] == jobs
    assert await events(engine.store, "a") == told
    assert (await engine.store.submit("d", "key of b", FILM))[1] is False
    assert await _in_order(engine.store, 3) == ["b", "c", None]
