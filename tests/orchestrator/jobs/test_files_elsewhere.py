"""Two job services as processes on one nats-server, each with a folder of copies.

Their files are on the server, or in a bucket of S3.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.orchestrator import recordings
from tests.orchestrator.daemon import (
    Daemon,
    Services,
    artifact,
    ended,
    job,
    media,
    messages,
    stand_in_services,
    texts_of,
    wait,
)
from tests.orchestrator.jobs.nats_server import NatsServer, running
from tests.orchestrator.jobs.s3_server import S3Server, s3_running, variables, without_aws
from tests.orchestrator.jobs.test_data_folder import mounted
from tests.orchestrator.jobs.test_transcripts import exported, got, put, refused
from tests.orchestrator.jobs.test_two_services import FILM, LEASE_S, SECONDS, _watched
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.jetstream.setup import FILES
from voxroute_orchestrator.jobs.stores import bucket as bucket_module
from voxroute_orchestrator.jobs.stores.bucket import Bucket
from voxroute_orchestrator.jobs.stores.parts import FileName
from voxroute_orchestrator.jobs.stores.server_files import ServerFiles

pytestmark = pytest.mark.slow  # five minutes

WORDS = [f"word{k}" for k in range(SECONDS)]


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """The stand-ins that all jobs here use."""
    with stand_in_services() as running:
        yield running


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording whose seconds tell their number."""
    path = tmp_path_factory.mktemp("film") / "film.wav"
    return recordings.write(path, recordings.steps(SECONDS)).read_bytes()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server without jobs."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of S3 that all tests here have together."""
    with s3_running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["server", "bucket"])
def files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Where files are, as services are told it."""
    if request.param == "server":
        return "server"
    without_aws(monkeypatch, tmp_path, **variables())
    s3: S3Server = request.getfixturevalue("s3")
    return s3.url(f"tests/{os.urandom(6).hex()}")


@pytest.fixture
def pair(
    tmp_path: Path, server: NatsServer, services: Services, files: str
) -> Iterator[list[Daemon]]:
    """Both of them."""
    services.speech.delay_s = 0.0
    daemons: list[Daemon] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            daemons.append(Daemon(tmp_path / name, _flags(services, server, files)))
            daemons[-1].start()
        yield daemons
    finally:
        for daemon in daemons:
            daemon.close()


def _flags(services: Services, server: NatsServer, files: str) -> tuple[str, ...]:
    return (
        "--asr-endpoints", services.asr, "--translate-endpoints", services.translate,
        "--engine", server.url, "--engine-lease-s", str(LEASE_S), "--engine-files", files,
    )  # fmt: skip


def _submit(daemon: Daemon, film: bytes, key: str = "") -> str:
    return daemon.stub().SubmitJob(messages(FILM, film, key=key), timeout=60).job.id


def _elsewhere(pair: list[Daemon], services: Services, film: bytes) -> tuple[str, Daemon, Daemon]:
    """A job, the service that it was submitted to, and the other one, which does it.

    The first is busy with another job, which came before.
    """
    services.speech.delay_s = 0.3
    here, there = pair
    there.end()
    _submit(here, film)
    wait(lambda: services.speech.open_calls == 1)
    job_id = _submit(here, film)
    there.start()
    wait(lambda: services.speech.open_calls == 2)
    return job_id, here, there


def _asked(
    server: NatsServer, files: str, ask: Callable[[Any, Any], Coroutine[Any, Any, Any]]
) -> Any:
    """What something answers that asks where the files are; its second argument is the link."""

    async def asked() -> Any:
        link = await Link.open(Access(server.servers))
        try:
            remote = ServerFiles(lambda: link) if files == "server" else Bucket(files)
            return await ask(remote, link)
        finally:
            await link.close()

    return asyncio.run(asked())


async def _count(remote: Any, link: Link) -> int:
    """How many parts and records of files there are."""
    if isinstance(remote, Bucket):
        return len([*await remote._listed("files"), *await remote._listed("parts")])
    return (await link.call(f"STREAM.INFO.{FILES}"))["state"]["messages"]


async def _damage(remote: Any, link: Link, *names: FileName) -> None:
    """Removes the last part of files."""
    for file in names:
        kept = await remote.look(file)
        if isinstance(remote, Bucket):
            await remote._delete([bucket_module._part(file, kept.by, kept.parts[-1])])
        else:
            await link.delete(FILES, kept.parts[-1])


def _files(daemon: Daemon, job_id: str) -> list[str]:
    folder = daemon.data / "jobs" / job_id
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_job_is_done_by_a_service_that_has_nothing_of_it(
    pair: list[Daemon], services: Services, film: bytes
) -> None:
    """The recording comes to it, and all that is made of it to whichever service is asked."""
    job_id, here, there = _elsewhere(pair, services, film)
    services.speech.delay_s = 0.0
    assert ended(here.stub(), job_id).state == jobs_pb2.JOB_STATE_SUCCEEDED
    told = [event.message for event in _watched(here.stub(), job_id)]
    assert [text for text in told if text.startswith("film.wav is fetched, 0.6 MB")]
    assert "results-1/film.transcript.json" in _files(there, job_id)
    assert _files(here, job_id) == ["media/film.wav"]
    stubs = [daemon.stub() for daemon in pair]
    for stub in stubs:
        assert texts_of(stub, job_id) == WORDS
    # parts of one file, whichever service they come from
    assert len({media(stub, job_id)[0].version for stub in stubs}) == 1
    assert media(stubs[0], job_id)[1] == media(stubs[1], job_id)[1] == film
    with ThreadPoolExecutor(2) as threads:  # both begin to make it, and one is faster
        sounds = list(threads.map(lambda stub: media(stub, job_id, sound=True), stubs))
    assert sounds[0] == sounds[1]
    subtitles = [exported(stub, job_id, "srt", "hi") for stub in stubs]
    assert subtitles[0] == subtitles[1]
    done = job(stubs[0], job_id)
    for one in done.artifacts:
        assert artifact(stubs[0], job_id, one.name) == artifact(stubs[1], job_id, one.name)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_job_of_a_service_that_ends_goes_on_where_its_recording_was_not(
    pair: list[Daemon], services: Services, film: bytes, end: int
) -> None:
    """With the same text, and no more than the window that was under way decoded again."""
    services.speech.delay_s, services.speech.decoded = 0.3, 0
    here, there = pair
    there.end()
    job_id = _submit(here, film)
    wait(lambda: job(here.stub(), job_id).last_sequence > 3)
    there.start()
    assert _files(there, job_id) == []
    here.end(end)
    stub = there.stub()
    done = ended(stub, job_id)
    assert (done.state, done.attempts) == (jobs_pb2.JOB_STATE_SUCCEEDED, 2)
    assert SECONDS <= services.speech.decoded <= SECONDS + 1
    assert texts_of(stub, job_id) == WORDS
    here.start()  # which has no file any more
    assert texts_of(here.stub(), job_id) == WORDS


def test_two_people_change_a_transcript_through_two_services(
    pair: list[Daemon], film: bytes
) -> None:
    """At the same moment, eight times: one is told, and no change is lost."""
    job_id = _submit(pair[0], film)
    stubs = [daemon.stub() for daemon in pair]
    ended(stubs[0], job_id)

    def change(number: int, base: int) -> bool:
        _, segments = got(stubs[number], job_id)
        segments[0].text = f"{number} {base}"
        try:
            return put(stubs[number], job_id, base, segments) == base + 1
        except grpc.RpcError:
            _, reason, told = refused(lambda: put(stubs[number], job_id, base, segments))
            return (reason, told["revision"]) != ("REVISION_CONFLICT", str(base + 1))

    with ThreadPoolExecutor(2) as threads:
        for base in range(1, 9):
            kept = list(threads.map(change, (0, 1), (base, base)))
            assert sorted(kept) == [False, True]
            for stub in stubs:
                head, segments = got(stub, job_id)
                assert head.revision == base + 1
                assert segments[0].text == f"{kept.index(True)} {base}"


def test_a_job_that_is_deleted_leaves_no_bytes(
    pair: list[Daemon], server: NatsServer, files: str, film: bytes
) -> None:
    """Neither where files are kept nor at the service that was asked to."""
    job_id = _submit(pair[0], film)
    here, there = (daemon.stub() for daemon in pair)
    ended(here, job_id)
    _, segments = got(there, job_id)
    put(there, job_id, 1, segments)
    media(there, job_id, sound=True)
    there.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id), timeout=60)
    assert not (pair[1].data / "jobs" / job_id).exists()
    assert _asked(server, files, _count) == 0


@pytest.mark.parametrize("files", ["server"], indirect=True)
def test_what_finds_no_room_on_the_server_leaves_nothing(
    pair: list[Daemon], server: NatsServer, files: str, film: bytes
) -> None:
    """Told as a full disk is."""

    async def limit(_: Any, link: Link) -> None:
        info = await link.call(f"STREAM.INFO.{FILES}")
        await link.call(f"STREAM.UPDATE.{FILES}", info["config"] | {"max_bytes": 600_000})

    _asked(server, files, limit)
    status, reason, _ = refused(lambda: _submit(pair[0], film))
    assert (status, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
    assert _asked(server, files, _count) == 0
    assert not list((pair[0].data / "uploads").iterdir())


def test_what_is_damaged_where_it_is_kept_is_told(
    pair: list[Daemon], services: Services, server: NatsServer, files: str, film: bytes
) -> None:
    """A result as not found, a recording as the reason why the job has failed."""
    services.speech.delay_s = 0.3
    here, there = pair
    done = _submit(here, film)
    ended(here.stub(), done)
    there.end()
    here.end()
    here.start()  # without copies
    _submit(here, film)
    job_id = _submit(here, film)

    result = FileName(done, "results-1", "film.transcript.json")
    names = (result, FileName(job_id, "media", "film.wav"))
    _asked(server, files, lambda remote, link: _damage(remote, link, *names))
    stub = here.stub()
    status, reason, _ = refused(lambda: artifact(stub, done, "film.transcript.json"))
    assert (status, reason) == (grpc.StatusCode.NOT_FOUND, "ARTIFACT_NOT_FOUND")
    assert refused(lambda: got(stub, done))[:2] == (status, reason)
    there.start()
    failed = ended(there.stub(), job_id)
    assert failed.state == jobs_pb2.JOB_STATE_FAILED
    assert "is gone, or damaged" in failed.error


def test_a_job_waits_while_there_is_no_room_for_its_recording(
    pair: list[Daemon], services: Services, film: bytes
) -> None:
    """It says so once; a result is refused as on any full disk, and both go on with room."""
    here, there = pair
    assert there.end() == 0
    with mounted(there.data, "size=500k"):
        services.speech.delay_s = 0.3
        done = _submit(here, film)
        ended(here.stub(), done)
        _submit(here, film)
        job_id = _submit(here, film)
        there.start()
        wait(lambda: job(there.stub(), job_id).state == jobs_pb2.JOB_STATE_RUNNING)
        time.sleep(5)
        status, reason, _ = refused(lambda: media(there.stub(), done))
        assert (status, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        subprocess.run(["mount", "-o", "remount,size=50m", str(there.data)], check=True)
        services.speech.delay_s = 0.0
        assert texts_of(there.stub(), job_id) == WORDS
        told = [event.message for event in _watched(there.stub(), job_id)]
        assert sum("waits for its recording: the disk" in text for text in told) == 1
        assert media(there.stub(), done)[1] == film
        assert there.end() == 0


@pytest.mark.parametrize("files", ["server"], indirect=True)
def test_a_job_whose_results_find_no_room_waits_until_there_is(
    pair: list[Daemon], services: Services, server: NatsServer, files: str, film: bytes
) -> None:
    """It has not ended meanwhile, and is not done again."""
    services.speech.delay_s, services.speech.decoded = 0.3, 0
    job_id = _submit(pair[0], film)
    wait(lambda: services.speech.open_calls == 1)

    async def limit(link: Link, spare: int | None) -> None:
        info = await link.call(f"STREAM.INFO.{FILES}")
        most = info["state"]["bytes"] + spare if spare is not None else -1
        await link.call(f"STREAM.UPDATE.{FILES}", info["config"] | {"max_bytes": most})

    _asked(server, files, lambda _, link: limit(link, 100))
    services.speech.delay_s = 0.0
    wait(lambda: any("cannot be kept" in (one.folder / "log").read_text() for one in pair))
    assert job(pair[1].stub(), job_id).state == jobs_pb2.JOB_STATE_RUNNING
    _asked(server, files, lambda _, link: limit(link, None))
    for daemon in pair:
        assert texts_of(daemon.stub(), job_id) == WORDS
    assert job(pair[0].stub(), job_id).attempts == 1
    assert services.speech.decoded == SECONDS


def test_a_service_with_files_elsewhere_does_not_start(
    pair: list[Daemon], services: Services, server: NatsServer, files: str, tmp_path: Path
) -> None:
    """Its sentence says with which flag it would."""
    del pair
    (tmp_path / "three").mkdir()
    stranger = Daemon(tmp_path / "three", _flags(services, server, "folder"))
    with pytest.raises((grpc.RpcError, AssertionError)):
        stranger.start()
    assert stranger.ended() == 1
    said = f"start with --engine-files {files.partition('?')[0]}"
    assert said in (tmp_path / "three" / "log").read_text()
    stranger.close()


@pytest.mark.parametrize("files", ["server"], indirect=True)
def test_a_submission_while_the_server_is_away_is_tried_again(
    pair: list[Daemon], server: NatsServer, files: str, film: bytes
) -> None:
    """Told as UNAVAILABLE; with its key it makes one job, and nothing else stays."""
    server.end(signal.SIGKILL)
    began = time.monotonic()
    status, _, _ = refused(lambda: _submit(pair[0], film, "key"))
    assert status is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < 10
    server.start()
    job_id = _submit(pair[0], film, "key")
    assert _submit(pair[1], film, "key") == job_id
    assert texts_of(pair[1].stub(), job_id) == WORDS

    async def jobs(_: Any, link: Link) -> set[str]:
        found = [one async for names in link.subjects(FILES, "vr.part.>") for one in names]
        return {one.split(".")[2] for one in found}

    assert _asked(server, files, jobs) == {job_id}


# --- a bucket


@pytest.mark.parametrize("files", ["bucket"], indirect=True)
def test_what_a_service_leaves_that_is_killed_amid_an_upload_is_swept(
    pair: list[Daemon], server: NatsServer, files: str, tmp_path: Path
) -> None:
    """Its parts alone are there; once they are old, nothing is, and the film of another stays."""
    path = recordings.write(tmp_path / "long.wav", recordings.steps(SECONDS))
    kept = _submit(pair[1], path.read_bytes())
    ended(pair[1].stub(), kept)
    before = _asked(server, files, _count)
    content = path.read_bytes() + bytes(200 << 20)  # which takes seconds
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(_submit, pair[0], content)
        wait(lambda: _asked(server, files, _count) > before + 2)
        pair[0].end(signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            sending.result(60)

    async def swept(remote: Any, _: Link) -> int:
        async def known(job_id: str) -> bool:
            return job_id == kept

        assert await remote.sweep(known) == 0  # of which nobody knows yet what becomes
        return await remote.sweep(known, older_s=-1.0)

    assert _asked(server, files, swept) == 1
    assert texts_of(pair[1].stub(), kept) == WORDS


@pytest.mark.parametrize("files", ["bucket"], indirect=True)
def test_a_bucket_that_is_away_is_waited_for(
    pair: list[Daemon], services: Services, s3: S3Server, film: bytes
) -> None:
    """A submission is told UNAVAILABLE; a job says what it waits for, and goes on, and ends."""
    services.speech.delay_s = 0.3
    here, there = pair
    there.end()
    running_job = _submit(here, film)
    waiting = _submit(here, film)
    wait(lambda: services.speech.open_calls == 1)
    s3.end(signal.SIGKILL)
    try:
        began = time.monotonic()
        status, _, _ = refused(lambda: _submit(here, film, "key"))
        assert status is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 15
        services.speech.delay_s = 0.0
        time.sleep(10)  # the first is done by then, but has nowhere to put its results
        assert job(here.stub(), running_job).state == jobs_pb2.JOB_STATE_RUNNING
    finally:
        s3.start()
    there.start()
    for job_id in (running_job, waiting, _submit(here, film, "key")):
        assert texts_of(there.stub(), job_id) == WORDS
