"""Services towards a NATS server that asks for TLS, for credentials, and lets them do little."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nkeys
import pytest

from scripts.make_certs import Authority
from tests.deploy.test_compose import DEPLOY
from tests.orchestrator import recordings
from tests.orchestrator.daemon import (
    Services,
    artifact,
    config,
    ended,
    messages,
    stand_in_services,
    wait,
)
from tests.orchestrator.jobs.engines import claimed, say, texts
from tests.orchestrator.jobs.nats_server import NatsServer, running
from tests.orchestrator.jobs.test_two_services import Sharing
from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream import link as link_module
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.journal import JetStreamJournal
from voxroute_orchestrator.jetstream.link import (
    AwayError,
    Link,
    LinkError,
    RefusedError,
)
from voxroute_orchestrator.jetstream.presence import be_there, look
from voxroute_orchestrator.jetstream.setup import FILES, JOBS, ON_SERVER, SPANS, hand_out, set_up
from voxroute_orchestrator.jobs.errors import StoreError
from voxroute_orchestrator.jobs.store import SUCCEEDED
from voxroute_orchestrator.jobs.stores.file_store import ThereError
from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs
from voxroute_orchestrator.jobs.stores.parts import FileName
from voxroute_orchestrator.jobs.stores.server_files import ServerFiles
from voxroute_serving.errors import InvalidInputError

FILM = jobs_pb2.JobConfig(upload_name="film.wav")


@dataclass
class Guarded:
    """A server with TLS and with the accounts of deploy/nats, and what lets a service in."""

    server: NatsServer
    folder: Path

    def access(self, who: str = "jobs", **named: Path) -> Access:
        """How a user of it gets in."""
        files = {
            "ca": self.folder / "ca.pem",
            "cert": self.folder / "client.pem",
            "key": self.folder / "client.key",
            "credentials": self.folder / who,
        }
        return Access.read(self.server.servers, **(files | named))


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    """One that verifies clients as well."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.cert)
    authority.issue("127.0.0.1", common_name="nats").write(tmp_path, "server")
    authority.issue("client", common_name="client").write(tmp_path, "client")
    shutil.copy(DEPLOY / "nats" / "accounts.conf", tmp_path)
    for user in ("jobs", "worker", "operator", "admin"):
        monkeypatch.setenv(f"{user.upper()}_PASSWORD", f"{user}-secret")
        (tmp_path / user).write_text(f"# of a test\n{user}:{user}-secret\n")
    lines = (
        f'tls {{ cert_file: "{tmp_path}/server.pem", key_file: "{tmp_path}/server.key",'
        f' ca_file: "{tmp_path}/ca.pem", verify: true }}\ninclude "accounts.conf"'
    )
    with running(tmp_path, lines) as server:
        server.scheme = "tls"
        yield Guarded(server, tmp_path)


async def test_a_service_needs_no_more_than_what_the_accounts_allow(guarded: Guarded) -> None:
    """All that a store does, and nothing of it is refused."""
    links = [await Link.open(guarded.access()) for _ in range(2)]
    stores = [
        JetStreamJobs(partial(_ready, link), lease_s=1.0, folder_id=ON_SERVER) for link in links
    ]
    for store in stores:
        await store.start()
    here, there = stores
    for job_id in ("a", "b"):
        await here.submit(job_id, f"k{job_id}", FILM)
    attempt = await claimed(there, "a")
    await say(attempt, "working")
    await attempt.give_back("the service stops")
    attempt = await claimed(here, "a")
    await attempt.end(SUCCEEDED)
    assert (await texts(there, "a"))[-1] == "SUCCEEDED"
    await here.resume("a", restart=True)
    await here.cancel("a")
    await here.delete("a")
    await claimed(there, "b")
    await _files(links[0], guarded.folder / "ca.pem")
    await _journals_and_workers(links[0], await Link.open(guarded.access("worker")))
    await _who_is_there(guarded, links[0])
    for store in stores:
        await store.close()
    for link in links:
        assert not link._forbidden
    assert "Violation" not in (guarded.folder / "nats.log").read_text()


async def _files(link: Link, path: Path) -> None:
    """How files come and go."""
    files, file = ServerFiles(lambda: link), FileName("d", "media", "film.mp4")
    kept = await files.put(file, path)
    with pytest.raises(ThereError):  # and its parts are removed again
        await files.put(file, path)
    found: list[bytes] = []
    await files.get(file, await files.look(file), found.append)
    assert b"".join(found) == await asyncio.to_thread(path.read_bytes)
    await link.delete(FILES, kept.parts[0])
    with pytest.raises(FileNotFoundError):
        await files.get(file, kept, found.append)
    assert await files.names("d", "media") == ["film.mp4"]
    await files.remove("d")


async def _journals_and_workers(link: Link, worker: Link) -> None:
    """What a job keeps, and how a worker takes a part of it."""
    journal = await JetStreamJournal.open(link, "c", 0, 1)
    await journal.keep_fact("language", "hi")
    await link.append(SPANS, "vr.span.any.c.1", b"", 0)
    subject = "vr.work.c"

    async def answer(asked: bytes) -> bytes:
        return asked + b", yes"

    stop = await link.serve(subject, answer)
    await hand_out(worker, SPANS, "any", 5.0, "vr.span.any.>")
    ticket = await worker.pull(SPANS, "any", 2.0)
    assert ticket is not None
    await worker.put_back(ticket, 0.1)
    ticket = await worker.pull(SPANS, "any", 2.0)
    assert ticket is not None
    assert await worker.ask(subject, b"me?") == b"me?, yes"
    await worker.done(ticket)
    await stop()
    await link.purge(SPANS, "vr.span.*.c.*")
    assert not worker._forbidden
    await worker.close()


async def _who_is_there(guarded: Guarded, link: Link) -> None:
    """How an operator looks at a fleet."""
    worker = await Link.open(guarded.access("worker"))
    operator = await Link.open(guarded.access("operator"))
    await be_there(worker, "worker", "one", "1", lambda: {"models": ["large"]})
    doing = [{"job": "a", "attempt": 1}, {"job": "b", "attempt": 2}]
    jobs = {"jobs": {"queued": 2}, "oldest_s": 3.0, "max_jobs": 2, "doing": doing}
    await be_there(link, "jobs", "two", "1", lambda: jobs)
    found = await look(guarded.access("operator"), operator)
    assert [one["name"] for one in (*found.workers, *found.job_services)] == ["one", "two"]
    assert (found.jobs, found.leases) == ({"queued": 2}, {"held": 2, "again": 1})
    assert found.servers[0].reachable
    assert not worker._forbidden
    assert not operator._forbidden
    await worker.close()
    await operator.close()


async def _ready(link: Link) -> Link:
    return link


async def test_what_the_accounts_do_not_allow_is_refused_with_its_subject(
    guarded: Guarded,
) -> None:
    """Streams are not deleted, others' not looked at, and workers read no jobs."""
    link = await Link.open(guarded.access())
    with pytest.raises(RefusedError, match=rf"may not use \$JS.API.STREAM.DELETE.{JOBS}"):
        await link.call(f"STREAM.DELETE.{JOBS}")
    with pytest.raises(RefusedError, match="may not use other"):
        await link.append("OTHER", "other", b"x", 0)
    with pytest.raises(RefusedError, match=r"may not use vr\.>"):
        await link.listen("vr.>", lambda _: None)
    await link.close()
    for who in ("worker", "operator"):
        link = await Link.open(guarded.access(who))
        with pytest.raises(RefusedError, match=rf"may not use \$JS.API.STREAM.MSG.GET.{JOBS}"):
            await link.last(JOBS, "vr.job.a")
        with pytest.raises(RefusedError, match=rf"may not use \$JS.API.DIRECT.GET.{FILES}"):
            await link.call(f"DIRECT.GET.{FILES}", {"seq": 1})
        await link.close()


async def test_a_service_that_may_too_little_does_not_start(guarded: Guarded) -> None:
    """The operator reads which subject is missing, and where all are listed."""
    accounts = guarded.folder / "accounts.conf"
    text = accounts.read_text()
    assert text.count(f'"$JS.API.STREAM.CREATE.{JOBS}"') == 1
    accounts.write_text(text.replace(f'"$JS.API.STREAM.CREATE.{JOBS}"', ""))
    guarded.server.end()
    guarded.server.start()
    store = JetStreamJobs(lambda: Link.open(guarded.access()))
    with pytest.raises(StoreError, match=rf"STREAM.CREATE.{JOBS}; deploy/nats/accounts.conf"):
        await store.start()
    await store.close()


_ENDS = "cannot start: "
_WAITS = '"event": "the worker waits"'
_NO_ANSWER = '"event": "a job has no answer"'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("$JS.API.INFO", _ENDS),
        ("vr.who", _ENDS),
        ("$JS.API.CONSUMER.DURABLE.CREATE.VR_SPANS.*", _WAITS),
        ("$JS.API.CONSUMER.MSG.NEXT.VR_SPANS.*", _WAITS),
        ("vr.work.*", _NO_ANSWER),
    ],
)
def test_a_worker_that_may_too_little_says_so(guarded: Guarded, missing: str, told: str) -> None:
    """With the subject, in a sentence; what it can do without a start it tries again."""
    accounts = guarded.folder / "accounts.conf"
    before, worker, behind = re.split("(?=user: (?:worker|operator))", accounts.read_text())
    assert f'"{missing}"' in worker
    accounts.write_text(before + worker.replace(f'"{missing}"', '"nothing"') + behind)
    _reload(guarded)

    async def offer() -> None:
        link = await Link.open(guarded.access())
        await set_up(link)
        await link.append(SPANS, "vr.span.translation.a.1", b'["hi", "en"]', 0)
        await link.close()

    asyncio.run(offer())
    log = guarded.folder / "log"
    with stand_in_services() as services, log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "voxroute_orchestrator", "worker", "--metrics-listen", "",
                "--translate-endpoint", services.translate, *_way_in(guarded, "worker"),
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
        subject = re.escape(missing.removesuffix("*"))
        try:
            wait(lambda: re.search(f"{told}.*{subject}|{subject}.*{told}", log.read_text()))
            if told == _ENDS:
                assert process.wait(30) == 1
                assert f"\n{_ENDS}" in log.read_text()
            else:
                process.terminate()
                assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in "".join(
        line for line in log.read_text().splitlines() if not line.startswith("{")
    )


async def test_a_stranger_is_not_let_in_and_told_so_at_once(
    guarded: Guarded, tmp_path: Path
) -> None:
    """Without credentials, with wrong ones, without a certificate, with another CA."""
    (tmp_path / "wrong").write_text("jobs:guessed")
    (tmp_path / "other.pem").write_bytes(Authority().cert)
    files = {"ca": tmp_path / "ca.pem", "credentials": tmp_path / "jobs"}
    strangers = (
        (guarded.access("wrong"), "uthorization"),
        (Access(guarded.server.servers, guarded.access().tls), "uthorization"),
        (Access.read(guarded.server.servers, **files), "certificate"),
        (guarded.access(ca=tmp_path / "other.pem"), "certificate"),
    )
    for access, said in strangers:
        began = time.monotonic()
        with pytest.raises(LinkError, match=f"(?i)cannot be used .*{said}"):
            await Link.open(access)
        assert time.monotonic() - began < 2


async def test_a_server_that_hangs_up_is_not_taken_for_one_that_lets_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it may look where one refuses a client: its reason is lost with the connection."""
    monkeypatch.setattr(link_module, "_CONNECT_S", 1.0)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version": "2.10.27", "max_payload": 1048576}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AwayError, match="has ended the connection"):
            await Link.open(Access.read((f"nats://127.0.0.1:{port}",)))


async def test_nobody_is_told_who_calls_without_tls(tmp_path: Path) -> None:
    """A server that asks for none, or somebody in between: the address has said tls://."""
    with running(tmp_path) as server:
        server.scheme = "tls"
        (tmp_path / "jobs").write_text("jobs:secret")
        access = Access.read(server.servers, credentials=tmp_path / "jobs")
        with pytest.raises(LinkError, match="does not ask for TLS"):
            await Link.open(access)


@pytest.mark.slow
def test_jobs_are_done_over_tls_with_credentials(guarded: Guarded) -> None:
    """By `voxroute serve` with its flags; neither its log nor the process list has the secret."""
    film = recordings.write(guarded.folder / "film.wav", recordings.steps(3)).read_bytes()
    (guarded.folder / "one").mkdir()
    with stand_in_services() as services:
        daemon = Sharing(
            guarded.folder / "one",
            (*_flags(services, guarded), "--log-level", "debug"),
            shared=guarded.folder / "shared",
        )
        try:
            daemon.start()
            stub = daemon.stub()
            asked = messages(config(upload_name="film.wav"), film)
            job_id = stub.SubmitJob(asked, timeout=60).job.id
            done = ended(stub, job_id)
            assert done.state == SUCCEEDED, done.error
            assert artifact(stub, job_id, "film.transcript.json")
            with urllib.request.urlopen(f"http://{daemon.metrics}/metrics", timeout=10) as page:
                assert b"voxroute_engine_up" in page.read()
            assert daemon.process is not None
            line = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
            assert daemon.end() == 0
        finally:
            daemon.close()
    assert b"secret" not in line
    assert "secret" not in (daemon.folder / "log").read_text()


def _flags(services: Services, guarded: Guarded) -> tuple[str, ...]:
    called = ("--asr-endpoints", services.asr, "--translate-endpoints", services.translate)
    return (*called, *_way_in(guarded, "jobs"))


def _way_in(guarded: Guarded, who: str) -> tuple[str, ...]:
    """The flags with which a user of it gets in."""
    folder = guarded.folder
    return (
        "--engine", guarded.server.url, "--engine-credentials", str(folder / who),
        "--engine-tls-ca", str(folder / "ca.pem"), "--engine-tls-cert", str(folder / "client.pem"),
        "--engine-tls-key", str(folder / "client.key"),
    )  # fmt: skip


def test_credentials_are_read_as_what_they_are(tmp_path: Path) -> None:
    """A password, the seed of an NKey, or a file of NATS; another one's content is not told."""
    path = tmp_path / "file"
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
    for text, identity in (
        ("# mine\njobs:pass:word\n", {"user": "jobs", "password": "pass:word"}),
        (f"{seed}\n", {"nkeys_seed_str": seed}),
        ("-----BEGIN NATS USER JWT-----\nx\n", {"user_credentials": str(path)}),
    ):
        path.write_text(text)
        assert Access.read([], credentials=path).identity == identity
    for text in ("hunter2", "", "jobs:"):
        path.write_text(text)
        with pytest.raises(InvalidInputError, match="--engine-credentials") as error:
            Access.read([], credentials=path)
        assert "hunter2" not in str(error.value)


def test_files_that_will_not_do_are_named_with_their_flag(tmp_path: Path) -> None:
    """At the start, before a server is asked."""
    (tmp_path / "junk").write_text("junk")
    for named in ({"ca": tmp_path / "junk"}, {"cert": tmp_path / "junk"}, {"ca": tmp_path / "no"}):
        (name,) = named
        with pytest.raises(InvalidInputError, match=f"--engine-tls-{name}"):
            Access.read(["tls://a:4222"], **named)
    with pytest.raises(InvalidInputError, match="--engine-credentials"):
        Access.read(["nats://a:4222"], credentials=tmp_path / "no")


async def test_a_service_whose_user_was_taken_out_comes_back_with_it(guarded: Guarded) -> None:
    """By itself, when the server lets it in again; what it is told is that nobody answers."""
    accounts = guarded.folder / "accounts.conf"
    text = accounts.read_text()
    link = await Link.open(guarded.access())
    accounts.write_text(text.replace("user: jobs\n", "user: another\n"))
    _reload(guarded)
    await _until(lambda: not link.connected)
    with pytest.raises(AwayError):
        await link.call("INFO", patience_s=0.5)
    accounts.write_text(text)
    _reload(guarded)
    await link.call("INFO", patience_s=20.0)
    assert link.reconnects == 1
    await link.close()


@pytest.mark.parametrize("kind", ["password", "nkey"])
async def test_credentials_are_read_again_when_the_server_wants_others(
    guarded: Guarded, kind: str
) -> None:
    """A password that has changed, or a key in its place; half a file is tried again."""
    accounts, credentials = guarded.folder / "accounts.conf", guarded.folder / "jobs"
    text = accounts.read_text()
    link = await Link.open(guarded.access())

    async def answer(_: bytes) -> bytes:
        return b"here"

    await link.serve("vr.own.a.1", answer)
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    if kind == "password":
        renewed, secret = text.replace("$JOBS_PASSWORD", "renewed"), "jobs:renewed"
    else:
        user = "user: jobs\n        password: $JOBS_PASSWORD\n"
        assert user in text
        renewed = text.replace(user, f"nkey: {pair.public_key.decode()}\n")
        secret = pair.seed.decode()
    accounts.write_text(renewed)
    _reload(guarded)
    await _until(lambda: not link.connected)
    credentials.write_text("")
    await asyncio.sleep(0.5)
    credentials.write_text(secret)
    await link.call("INFO", patience_s=20.0)
    # what it answered it answers again
    assert await link.ask("vr.own.a.1", b"") == b"here"
    await link.close()


def _reload(guarded: Guarded) -> None:
    assert guarded.server.process is not None
    guarded.server.process.send_signal(signal.SIGHUP)


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it did not happen")
