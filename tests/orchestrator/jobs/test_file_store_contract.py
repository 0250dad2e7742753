"""What every store of files promises, whatever keeps them; what those elsewhere do, too."""

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.orchestrator.jobs.engines import claimed
from tests.orchestrator.jobs.nats_server import (
    Cluster,
    NatsServer,
    cluster,
    nats_server,
    newest_server,
    running,
)
from tests.orchestrator.jobs.s3_server import S3Server, s3_running, variables, without_aws
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.link import Link
from voxroute_orchestrator.jetstream.setup import FILES, ON_SERVER
from voxroute_orchestrator.jobs.editing.revisions import KEPT, Revisions
from voxroute_orchestrator.jobs.errors import (
    DiskFullError,
    JobNotFoundError,
    RevisionConflictError,
    RevisionNotFoundError,
    StoreBusyError,
    StoreError,
)
from voxroute_orchestrator.jobs.files import DataFolder, JobFiles
from voxroute_orchestrator.jobs.store import SUCCEEDED, JobStore, OnThreads
from voxroute_orchestrator.jobs.stores import bucket as bucket_module
from voxroute_orchestrator.jobs.stores.bucket import Bucket
from voxroute_orchestrator.jobs.stores.embedded import EmbeddedJobs
from voxroute_orchestrator.jobs.stores.file_store import FileStore, FolderFiles
from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs
from voxroute_orchestrator.jobs.stores.parts import FileName, Kept, Remote
from voxroute_orchestrator.jobs.stores.remote_files import RemoteFiles
from voxroute_orchestrator.jobs.stores.server_files import ServerFiles, subject
from voxroute_orchestrator.jobs.stores.sqlite import SqliteStore
from voxroute_orchestrator.transcript import Media, Transcript

PART = 512 * 1024  # of files on a server
FILM = jobs_pb2.JobConfig(upload_name="film.mp4")
NAME = "Der Film (1) हिन्दी.mp4"


@dataclass
class Service:
    """One of two."""

    jobs: JobStore
    folder: DataFolder
    files: FileStore

    async def submit(self, content: bytes = b"film") -> tuple[str, JobFiles]:
        """A job and its files, its recording among them."""
        job_id, _ = self.folder.new_job()
        files = self.folder.job(job_id, 1)
        self.write(files.media / NAME, content)
        await self.files.share(files.media / NAME)
        await self.jobs.submit(job_id, "", FILM)
        return job_id, files

    def write(self, path: Path, content: bytes) -> Path:
        """A file at its place."""
        path.parent.parent.mkdir(exist_ok=True)
        with self.folder.upload(1 << 30) as upload:
            upload.write(content)
            upload.take(path)
        return path

    async def read(self, path: Path) -> bytes:
        """The same file of a job as another has it; raises FileNotFoundError."""
        own = self.folder.path / path.relative_to(path.parents[3])
        await self.files.fetch(own)
        return own.read_bytes()

    def revisions(self) -> Revisions:
        """Those of all jobs."""
        return Revisions(OnThreads(self.jobs), self.folder, self.files)


@dataclass
class Pair:
    """Two services with the same jobs."""

    here: Service
    there: Service
    server: NatsServer | Cluster | None = None

    async def kept(self) -> int:
        """How many parts and records of files there are; 0 of a folder."""
        remote = _remote(self.here)
        if isinstance(remote, Bucket):
            return len([*await remote._listed("files"), *await remote._listed("parts")])
        if isinstance(remote, ServerFiles):
            return (await _link(self.here).call(f"STREAM.INFO.{FILES}"))["state"]["messages"]
        return 0

    async def succeeded(self) -> str:
        """A job that was done by the first, with a transcript."""
        job_id, files = await self.here.submit()
        attempt = await claimed(self.here.jobs, job_id)
        files = self.here.folder.job(job_id, attempt.epoch)
        text = TRANSCRIPT.to_json().encode()
        path = self.here.write(files.results / "film.transcript.json", text)
        await self.here.files.share(path)
        digest = hashlib.sha256(text).hexdigest()
        artifact = jobs_pb2.Artifact(name=path.name, bytes=len(text), sha256=digest)
        await attempt.end(SUCCEEDED, artifacts=[artifact])
        return job_id


MEDIA = Media(
    path="film.mp4", title="film", duration_s=1.0, audio_start_s=0.0, format="mp4",
    audio_codec="aac", audio_stream=0,
)  # fmt: skip
TRANSCRIPT = Transcript(voxroute_version="1", media=MEDIA, language="hi")


async def _folder_pair(path: Path) -> AsyncIterator[Pair]:
    sqlite = SqliteStore(path)
    jobs = EmbeddedJobs(sqlite)
    folders = [DataFolder(path / "shared", shared=True) for _ in range(2)]
    here, there = (Service(jobs, one, FolderFiles(sqlite, one)) for one in folders)
    yield Pair(here, there)
    await jobs.close()
    for folder in folders:
        folder.close()


async def _remote_pair(
    path: Path, server: NatsServer | Cluster, url: str = ""
) -> AsyncIterator[Pair]:
    """With the files on the server, or in the bucket at the URL."""
    services: list[Service] = []
    for name in ("one", "two"):
        bucket = Bucket(url) if url else None
        jobs = JetStreamJobs(
            lambda: Link.open(Access(server.servers)),
            folder_id=ON_SERVER if bucket is None else await bucket.open(),
            replicas=len(server.servers),
        )
        await jobs.start()
        folder = DataFolder(path / name, copies=True)
        remote = bucket or ServerFiles(lambda jobs=jobs: jobs.link)
        services.append(Service(jobs, folder, RemoteFiles(jobs, folder, remote)))
    yield Pair(services[0], services[1], server)
    for service in services:
        await service.files.close()
        await service.jobs.close()
        service.folder.close()


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of S3 that all tests here have together; each has a prefix of its own."""
    with s3_running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The URL of a prefix of its bucket, which is empty."""
    without_aws(monkeypatch, tmp_path, **variables())
    server: S3Server = request.getfixturevalue("s3")
    return server.url(f"tests/{os.urandom(6).hex()}")


def _servers(kind: str, path: Path) -> AbstractContextManager[NatsServer | Cluster]:
    """One server or three, of the usual program or of the newest."""
    program = newest_server() if kind.startswith("newest") else nats_server()
    return (cluster if kind.endswith("cluster") else running)(path, program=program)


_NEWEST = pytest.param("newest-server", marks=pytest.mark.slow)
_CLUSTERS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("cluster", "newest-cluster")]


async def _pair(request: pytest.FixtureRequest, path: Path, kind: str) -> AsyncIterator[Pair]:
    if kind == "folder":
        async for pair in _folder_pair(path):
            yield pair
        return
    url = request.getfixturevalue("bucket") if kind == "bucket" else ""
    with _servers(kind, path) as server:
        async for pair in _remote_pair(path, server, url):
            yield pair


@pytest.fixture(params=["folder", "server", "bucket", _NEWEST, *_CLUSTERS])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """Both, with files in a folder, on a server or in a bucket."""
    async for pair in _pair(request, tmp_path, request.param):
        yield pair


@pytest.fixture(params=["server", "bucket", _NEWEST])
async def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """Both, with a folder of copies each."""
    async for pair in _pair(request, tmp_path, request.param):
        yield pair


@pytest.fixture(params=["server", _NEWEST])
async def apart(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """The same with files on the server."""
    async for pair in _pair(request, tmp_path, request.param):
        yield pair


@pytest.fixture(params=_CLUSTERS)
async def on_three(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    """The same on three servers."""
    async for pair in _pair(request, tmp_path, request.param):
        yield pair


def _link(service: Service) -> Link:
    assert isinstance(service.jobs, JetStreamJobs)
    return service.jobs.link


def _remote(service: Service) -> Remote | None:
    """Where its files are; None for a folder."""
    return service.files._remote if isinstance(service.files, RemoteFiles) else None


def _on_disk(service: Service) -> list[Path]:
    return [path for path in service.folder.jobs.rglob("*") if path.is_file()]


# --- of every one


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 7 * PART + 3, 50 * PART])
async def test_a_file_of_one_service_is_there_for_the_other(pair: Pair, size: int) -> None:
    """As a whole, by every name that a client may give; also for two who want it at once."""
    content = os.urandom(size)
    _, files = await pair.here.submit(content)
    path = files.media / NAME
    assert await asyncio.gather(*(pair.there.read(path) for _ in range(2))) == [content] * 2
    assert await pair.here.read(path) == content
    assert not list(pair.there.folder.uploads.iterdir())


async def test_a_file_that_nobody_has_written_is_not_found(pair: Pair) -> None:
    """Neither of a job that there is, nor of another."""
    _, files = await pair.here.submit()
    for path in (files.media / "other", files.path.parent / "f00" / "media" / NAME):
        with pytest.raises(FileNotFoundError):
            await pair.there.read(path)


async def test_a_file_that_is_shared_twice_stays(pair: Pair) -> None:
    """As by an attempt whose first try nobody has answered."""
    _, files = await pair.here.submit(b"film")
    before = await pair.kept()
    await pair.here.files.share(files.media / NAME)
    assert await pair.there.read(files.media / NAME) == b"film"
    assert await pair.kept() == before


async def test_what_was_removed_is_gone_everywhere(pair: Pair) -> None:
    """All places of the job, and nothing of another one."""
    job_id, files = await pair.here.submit()
    other, others = await pair.here.submit(b"other")
    await pair.here.files.share(pair.here.write(files.results / "film.srt", b"1"))
    assert other != job_id
    await pair.there.files.remove(job_id)
    await pair.here.files.remove(job_id)
    for path in (files.media / NAME, files.results / "film.srt"):
        for service in (pair.here, pair.there):
            with pytest.raises(FileNotFoundError):
                await service.read(path)
    assert await pair.there.read(others.media / NAME) == b"other"
    remote = _remote(pair.here)
    assert remote is None or await remote.places(job_id) == set()


async def test_each_attempt_has_results_of_its_own(pair: Pair) -> None:
    """A late one writes over nobody's; the earlier ones go."""
    job_id, _ = await pair.here.submit()
    first, second = (pair.here.folder.job(job_id, attempt).results for attempt in (1, 2))
    await pair.there.files.share(
        pair.there.write(pair.there.folder.job(job_id, 2).results / "film.srt", b"second")
    )
    await pair.here.files.share(pair.here.write(first / "film.srt", b"first"))
    assert await pair.here.read(second / "film.srt") == b"second"
    assert await pair.there.read(first / "film.srt") == b"first"
    for service in (pair.here, pair.there):
        await service.files.forget_earlier(service.folder.job(job_id, 2))
    with pytest.raises(FileNotFoundError):
        await pair.here.read(first / "film.srt")
    assert await pair.here.read(second / "film.srt") == b"second"


async def test_of_two_who_change_a_transcript_through_two_services_one_is_told(
    pair: Pair,
) -> None:
    """Ten times: each revision is one of theirs, and the other has to look at it first."""
    job_id = await pair.succeeded()
    both = [service.revisions() for service in (pair.here, pair.there)]

    def add(revisions: Revisions, base: int) -> str:
        name = "one" if revisions is both[0] else "two"
        revision = revisions.read(job_id).model_copy(update={"speakers": {"A": f"{name} {base}"}})
        try:
            assert revisions.add(job_id, base, revision) == base + 1
        except RevisionConflictError:
            return ""
        return name

    for base in range(1, 11):
        added = await asyncio.gather(*(asyncio.to_thread(add, one, base) for one in both))
        (winner,) = filter(None, added)
        for revisions in both:
            newest = await asyncio.to_thread(revisions.read, job_id)
            assert (newest.number, newest.speakers) == (base + 1, {"A": f"{winner} {base}"})


async def test_the_newest_revisions_are_there_at_both_and_the_oldest_at_none(pair: Pair) -> None:
    """Their bytes are gone, too; a number is never given again."""
    job_id = await pair.succeeded()
    here, there = pair.here.revisions(), pair.there.revisions()
    revision = await asyncio.to_thread(here.read, job_id)
    for base in range(1, KEPT + 3):
        assert await asyncio.to_thread(here.add, job_id, base, revision) == base + 1
    for number in (1, 4, KEPT + 3):
        assert (await asyncio.to_thread(there.read, job_id, number)).number == number
    for revisions in (here, there):
        for number in (2, 3, KEPT + 4):
            with pytest.raises(RevisionNotFoundError):
                await asyncio.to_thread(revisions.read, job_id, number)
    with pytest.raises(RevisionConflictError):
        await asyncio.to_thread(there.add, job_id, 2, revision)


async def test_a_revision_of_a_job_that_is_deleted_meanwhile_leaves_nothing(pair: Pair) -> None:
    """Whoever writes it is told that there is no such job."""
    job_id = await pair.succeeded()
    revisions = pair.there.revisions()
    revision = await asyncio.to_thread(revisions.read, job_id)
    with pair.there.folder.upload(1 << 20) as upload:
        upload.write(revision.model_dump_json(by_alias=True).encode())
        await pair.here.jobs.delete(job_id)
        await pair.here.files.remove(job_id)
        target = pair.there.folder.job(job_id, 1).revisions / "2.json"
        with pytest.raises(JobNotFoundError):
            await asyncio.to_thread(pair.there.files.keep, job_id, upload, target)
    assert await pair.kept() == 0
    assert _on_disk(pair.there) == []


async def test_a_job_that_begins_anew_has_neither_results_nor_revisions(pair: Pair) -> None:
    """Its recording stays."""
    job_id = await pair.succeeded()
    revisions = pair.there.revisions()
    revision = await asyncio.to_thread(revisions.read, job_id)
    await asyncio.to_thread(revisions.add, job_id, 1, revision)
    await pair.there.jobs.resume(job_id, restart=True)
    attempt = await claimed(pair.there.jobs, job_id)
    files = pair.there.folder.job(job_id, attempt.epoch)
    await pair.there.files.forget(files)
    await pair.there.files.forget_earlier(files)
    remote = _remote(pair.here)
    if remote is not None:
        assert await remote.places(job_id) == {"media"}
    else:
        assert [path.name for path in files.path.iterdir()] == ["media"]


# --- elsewhere


async def _broken(pair: Pair, path: Path, breaking: str) -> None:
    remote, file = _remote(pair.here), FileName(path.parts[-3], path.parts[-2], path.name)
    assert remote is not None
    kept = await remote.look(file)
    if isinstance(remote, Bucket):
        await _broken_in_bucket(remote, file, kept, breaking)
        return
    link = _link(pair.here)
    if breaking == "a part removed":
        await link.delete(FILES, kept.parts[1])
        return
    parts = list(kept.parts)
    if breaking == "another file's part":
        _, files = await pair.here.submit(os.urandom(PART))
        other = FileName(files.path.name, "media", NAME)
        parts[1] = (await remote.look(other)).parts[0]
    else:  # parts in another order
        parts[0], parts[1] = parts[1], parts[0]
    await link.purge(FILES, f"vr.file.{subject(file)}")
    dumped = Kept(kept.n_bytes, kept.sha256, parts).dumped()
    await link.append(FILES, f"vr.file.{subject(file)}", dumped, 0)


async def _broken_in_bucket(bucket: Bucket, file: FileName, kept: Kept, breaking: str) -> None:
    keys = [bucket_module._part(file, kept.by, number) for number in kept.parts]
    parts = [await bucket._read(key) or b"" for key in keys[:2]]
    if breaking == "a part removed":
        await bucket._delete(keys[1:2])
    elif breaking == "another file's part":
        await bucket._put(keys[1], os.urandom(len(parts[1])))
    else:
        await bucket._put(keys[0], parts[1])
        await bucket._put(keys[1], parts[0])


@pytest.mark.parametrize("breaking", ["a part removed", "another file's part", "parts exchanged"])
async def test_a_file_that_is_damaged_where_it_is_kept_is_told_and_not_served(
    elsewhere: Pair, breaking: str
) -> None:
    """Nothing of it gets a name; who has a copy of before has it still."""
    apart = elsewhere
    content = os.urandom(40 * PART)
    _, files = await apart.here.submit(content)
    path = files.media / NAME
    await _broken(apart, path, breaking)
    with pytest.raises(FileNotFoundError, match="is damaged"):
        await apart.there.read(path)
    assert _on_disk(apart.there) == []
    assert not list(apart.there.folder.uploads.iterdir())
    assert await apart.here.read(path) == content


async def test_a_full_server_refuses_a_file_and_has_nothing_of_it(apart: Pair) -> None:
    """Told as a full disk is; a smaller one still finds room."""
    link = _link(apart.here)
    info = await link.call(f"STREAM.INFO.{FILES}")
    await link.call(f"STREAM.UPDATE.{FILES}", info["config"] | {"max_bytes": 5 * PART})
    with pytest.raises(DiskFullError):
        await apart.here.submit(os.urandom(9 * PART))
    assert await apart.kept() == 0
    content = os.urandom(3 * PART)
    _, files = await apart.here.submit(content)
    assert await apart.there.read(files.media / NAME) == content


async def test_an_account_that_is_full_is_told_as_a_full_disk(tmp_path: Path) -> None:
    """Its limit is for all streams; the server tells it by another error than that of a stream."""
    account = "A { jetstream { max_file: 2MB }, users: [{ user: u, password: p }] }"
    with running(tmp_path, f"accounts {{ {account} }}\nno_auth_user: u") as server:
        async for pair in _remote_pair(tmp_path, server):
            with pytest.raises(DiskFullError):
                await pair.here.submit(os.urandom(9 * PART))
            assert await pair.kept() == 0
            content = os.urandom(PART)
            _, files = await pair.here.submit(content)
            assert await pair.there.read(files.media / NAME) == content


async def test_a_file_that_is_deleted_while_it_is_fetched_is_not_found(
    apart: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays at the one who has asked, neither under its name nor as half a copy."""
    job_id, files = await apart.here.submit(os.urandom(20 * PART))
    at, begun = Link.at, asyncio.Event()

    async def slow(self: Link, *rest: Any) -> Any:
        found = await at(self, *rest)
        begun.set()
        await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(Link, "at", slow)
    reading = asyncio.ensure_future(apart.there.read(files.media / NAME))
    await begun.wait()
    await apart.here.jobs.cancel(job_id)
    await apart.here.jobs.delete(job_id)
    await apart.here.files.remove(job_id)
    with pytest.raises(FileNotFoundError):
        await reading
    assert _on_disk(apart.there) == []
    assert not list(apart.there.folder.uploads.iterdir())
    assert await apart.kept() == 0


async def test_parts_whose_answers_are_lost_are_kept_again(
    apart: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole and has each of them once."""
    lost: set[str] = set()
    request = Link._request

    async def forgetful(self: Link, subject: str, data: bytes, *rest: Any, **named: Any) -> Any:
        answer = await request(self, subject, data, *rest, **named)
        digest = hashlib.sha256(data).hexdigest()
        if subject.startswith("vr.") and digest not in lost:
            lost.add(digest)
            raise TimeoutError
        return answer

    monkeypatch.setattr(Link, "_request", forgetful)
    content = os.urandom(3 * PART)
    _, files = await apart.here.submit(content)
    assert await apart.there.read(files.media / NAME) == content
    assert await apart.kept() == 2 * 3 + 1


async def test_a_server_that_is_away_is_told_after_five_seconds(apart: Pair) -> None:
    """Whoever submits tries again; the rest of what was sent is removed a day later."""
    assert isinstance(apart.server, NatsServer)
    job_id, _ = apart.here.folder.new_job()
    path = apart.here.write(apart.here.folder.job(job_id).media / NAME, os.urandom(PART))
    apart.server.end(signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(StoreBusyError):
        await apart.here.files.share(path)
    assert 4 < time.monotonic() - began < 9
    apart.server.start()
    await apart.here.files.share(path)


async def test_what_is_nobodys_is_removed_once_it_is_old(elsewhere: Pair) -> None:
    """Files of no job, and parts that never became a file; all else stays, and what is new."""
    here = elsewhere.here
    _, files = await here.submit()
    deleted, gone = await here.submit()
    await here.jobs.cancel(deleted)
    await here.jobs.delete(deleted)
    remote, added = _remote(here), 1
    for file in (FileName(files.path.name, "sound", "x.webm"), FileName("f00", "media", "x")):
        if isinstance(remote, Bucket):
            await remote._put(bucket_module._part(file, "by", 0), b"part")
        else:
            await _link(here).add(f"vr.part.{subject(file)}", b"part")
    if isinstance(remote, Bucket):  # of whoever was too late, and killed
        film = FileName(files.path.name, "media", NAME)
        await remote._put(bucket_module._part(film, "by", 0), b"part")
        added = 2
    assert remote is not None
    assert isinstance(here.files, RemoteFiles)
    known = here.files._is_known
    assert await remote.sweep(known) == 0
    assert await remote.sweep(known, older_s=-1.0) == 2 + added
    assert await remote.sweep(known, older_s=-1.0) == 0
    assert await elsewhere.there.read(files.media / NAME) == b"film"
    with pytest.raises(FileNotFoundError):
        await elsewhere.there.read(gone.media / NAME)
    assert await elsewhere.kept() == 2


async def test_copies_go_when_nobody_needs_them(elsewhere: Pair) -> None:
    """Those of a job that runs stay; one that went comes back when it is asked for."""
    apart = elsewhere
    job_id, files = await apart.here.submit()
    store = apart.there.files
    assert isinstance(store, RemoteFiles)
    await apart.there.read(files.media / NAME)
    await store.tidy([])
    await store.tidy([job_id], unused_s=0.0)
    assert len(_on_disk(apart.there)) == 1
    await store.tidy([], unused_s=0.0)
    assert _on_disk(apart.there) == []
    assert await apart.there.read(files.media / NAME) == b"film"
    await apart.here.jobs.cancel(job_id)
    await apart.here.jobs.delete(job_id)
    store._used[job_id] -= 301
    await store.tidy([])
    assert _on_disk(apart.there) == []


def test_a_folder_of_copies_is_emptied_and_nobody_elses(tmp_path: Path) -> None:
    """One with jobs of its own, or that services share, is refused as it is, and the other way."""
    folder = DataFolder(tmp_path / "copies", copies=True)
    job_id, files = folder.new_job()
    with folder.upload(10) as upload:
        upload.write(b"film")
        upload.take(files.media / "film")
    foreign = folder.uploads / "film.part"
    foreign.write_bytes(b"x")
    folder.empty()
    assert not (folder.jobs / job_id).exists()
    assert list(folder.uploads.iterdir()) == [foreign]
    folder.close()
    DataFolder(tmp_path / "own").close()
    DataFolder(tmp_path / "shared", shared=True).close()
    refused: tuple[tuple[str, Collection[Any], str], ...] = (
        ("own", {"copies": True}.items(), "leave out --engine"),
        ("shared", {"copies": True}.items(), "--engine-files folder"),
        ("copies", {}.items(), "--engine-files server"),
        ("copies", {"shared": True}.items(), "--engine-files server"),
    )
    for name, how, said in refused:
        with pytest.raises(StoreError, match=said):
            DataFolder(tmp_path / name, **dict(how))


async def test_services_with_files_elsewhere_do_not_share_jobs(apart: Pair) -> None:
    """Told at the start what to write instead, in both directions."""
    assert apart.server is not None
    access = Access(apart.server.servers)
    stranger = JetStreamJobs(lambda: Link.open(access), folder_id="f" * 32)
    with pytest.raises(StoreError, match="--engine-files server"):
        await stranger.start()
    await stranger.close()
    link = _link(apart.here)
    await link.purge("VR_JOBS", "vr.fact.folder")
    stranger = JetStreamJobs(lambda: Link.open(access), folder_id="f" * 32)
    await stranger.start()
    await stranger.close()
    late = JetStreamJobs(lambda: Link.open(access), folder_id=ON_SERVER)
    with pytest.raises(StoreError, match="--engine-files folder"):
        await late.start()
    await late.close()


async def test_services_with_files_in_another_bucket_do_not_share_jobs(tmp_path: Path) -> None:
    """Nor with files on the server or in a folder; a bucket is told by its id."""
    with running(tmp_path) as server:
        access = Access(server.servers)

        async def begun(where: str) -> None:
            jobs = JetStreamJobs(lambda: Link.open(access), folder_id=where)
            try:
                await jobs.start()
            finally:
                await jobs.close()

        for _ in range(2):
            await begun("s3://bucket/p#1")
        with pytest.raises(StoreError, match="another bucket s3://bucket/p; name the endpoint"):
            await begun("s3://bucket/p#2")
        for where in ("s3://other/p#1", ON_SERVER, "f" * 32):
            with pytest.raises(StoreError, match="start with --engine-files s3://bucket/p and"):
                await begun(where)


async def test_the_room_that_files_take_is_told(apart: Pair) -> None:
    """Of a service whose files are there, and how much there may be."""
    assert apart.server is not None
    access, registry = Access(apart.server.servers), CollectorRegistry()
    jobs = JetStreamJobs(lambda: Link.open(access), folder_id=ON_SERVER, registry=registry)
    await jobs.start()
    await apart.here.submit(os.urandom(3 * PART))
    info = await jobs.link.call(f"STREAM.INFO.{FILES}")
    await jobs.link.call(f"STREAM.UPDATE.{FILES}", info["config"] | {"max_bytes": 100 * PART})
    await jobs._measure()
    told = registry.get_sample_value
    assert 3 * PART < (told("voxroute_engine_bytes", {"of": FILES}) or 0) < 4 * PART
    assert told("voxroute_engine_limit_bytes", {"of": FILES}) == 100 * PART
    await jobs.close()


# --- servers that go


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the server has to take a part
            await asyncio.sleep(0.01)


async def test_a_file_is_whole_although_the_leader_is_killed_meanwhile(
    on_three: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With some of its parts kept: the others wait for the next leader, and none is lost."""
    assert isinstance(on_three.server, Cluster)
    link, sent = _link(on_three.here), list[int]()
    add = Link.add

    async def counted(self: Link, *rest: Any) -> int:
        sent.append(await add(self, *rest))
        return sent[-1]

    monkeypatch.setattr(Link, "add", counted)
    content = os.urandom(40 * PART)
    job_id, _ = on_three.here.folder.new_job()
    path = on_three.here.write(on_three.here.folder.job(job_id).media / NAME, content)
    sharing = asyncio.ensure_future(on_three.here.files.share(path, 20.0))
    await _until(lambda: len(sent) > 8)
    leader = await asyncio.to_thread(on_three.server.leader, FILES)
    await asyncio.to_thread(leader.end, signal.SIGKILL)
    assert not sharing.done()
    await sharing
    assert await on_three.there.read(path) == content
    assert len(sent) == 40
    assert link.connected
