"""Files in a bucket: who may come in, what is told, and what is tried again.

SeaweedFS where it can; what a good server never does, a small one of the test's own.
"""

import http.server
import itertools
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from tests.orchestrator.jobs.s3_server import S3Server, s3_running, variables, without_aws
from voxroute_orchestrator.jobs.errors import DiskFullError, StoreBusyError, StoreError
from voxroute_orchestrator.jobs.stores import aws
from voxroute_orchestrator.jobs.stores import bucket as bucket_module
from voxroute_orchestrator.jobs.stores.bucket import Bucket
from voxroute_orchestrator.jobs.stores.file_store import ThereError
from voxroute_orchestrator.jobs.stores.parts import FileName

FILE = FileName("a1", "media", "film.mp4")
SECRET = "s3cr3t-of-nobody"  # noqa: S105 - it opens nothing


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real one."""
    with s3_running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets AWS's variables, and no others, in a home of its own."""

    def named(**values: str) -> None:
        without_aws(monkeypatch, tmp_path, **values)

    return named


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a start end after a second where nobody answers."""
    monkeypatch.setattr(bucket_module, "START_S", 1.0)


class Simple(http.server.BaseHTTPRequestHandler):
    """A server of S3 that holds what it was given, and answers first what it was told to."""

    objects: dict[str, bytes]
    first: list[Callable[["Simple"], bool]]
    """Each has answered a request where it says so, and is asked until then."""
    honours = True
    """Whether it keeps what is there from a put on condition."""
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - its name there
        """Says nothing."""
        del format

    def handle_one_request(self) -> None:
        """A client that goes is no defect."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def answer(self, status: int, body: bytes = b"", code: str = "") -> bool:
        """Answers."""
        if code:
            body = f"<Error><Code>{code}</Code></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)
        return True

    def _told(self) -> bool:
        if self.first and self.first[0](self):
            self.first.pop(0)
            return True
        return False

    def do_PUT(self) -> None:
        self.data = self.rfile.read(int(self.headers["Content-Length"]))
        if self._told():
            return
        if self.honours and self.headers.get("If-None-Match") and self.path in self.objects:
            self.answer(412, code="PreconditionFailed")
            return
        self.objects[self.path] = self.data
        self.answer(200)

    def do_POST(self) -> None:
        keys = re.findall(
            r"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode()
        )
        for key in keys:
            self.objects.pop(f"/b/{key}", None)
        told = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{told}</DeleteResult>".encode())

    def do_GET(self) -> None:
        if self._told():
            return
        asked = parse_qs(urlsplit(self.path).query)
        if "list-type" in asked:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            found = (key.removeprefix("/b/") for key in self.objects)
            listed = "".join(
                f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>{now}</LastModified></Contents>"
                for key in found
                if key.startswith(asked["prefix"][0])
            )
            self.answer(200, f"<ListBucketResult>{listed}</ListBucketResult>".encode())
        elif self.path in self.objects:
            self.answer(200, self.objects[self.path])
        else:
            self.answer(404, code="NoSuchKey")


@pytest.fixture
def simple(environment: Callable[..., None]) -> Iterator[type[Simple]]:
    """Such a server, whose bucket `b` is where the environment says."""
    handler = type("_Simple", (Simple,), {"objects": {}, "first": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    environment(**variables(), AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def film(path: Path, parts: int = 3) -> Path:
    """A recording of so many parts."""
    path /= "film.mp4"
    with path.open("wb") as file:
        for number in range(parts):
            file.write(bytes([number]) * bucket_module._PART_BYTES)
    return path


async def read(bucket: Bucket) -> bytes:
    """The recording."""
    found: list[bytes] = []
    await bucket.get(FILE, await bucket.look(FILE), found.append)
    return b"".join(found)


# --- the start


@pytest.mark.parametrize(
    ("who", "bucket", "said"),
    [
        (("writer", "secret"), "another", "is not there; make it"),
        (("reader", "secret"), "voxroute", "does not let the service's credentials"),
        (("nobody", SECRET), "voxroute", "does not know the service's credentials"),
        (("writer", SECRET), "voxroute", "does not know the service's credentials"),
    ],
)
async def test_a_bucket_that_will_not_do_is_told_at_the_start(
    s3: S3Server, environment: Callable[..., None], who: tuple[str, str], bucket: str, said: str
) -> None:
    """With its address and what to do, and nothing of a secret."""
    environment(**variables(*who))
    with pytest.raises(StoreError, match=said) as told:
        await Bucket(s3.url("p", bucket)).open()
    assert f"s3://{bucket}/p at {s3.endpoint}" in str(told.value)
    assert SECRET not in f"{told.value!r} {told.value.__cause__!r}"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:9", "does not answer"),
        ("https://{s3}", "does not answer"),
        ("http://{filer}/nothing", "see to its address"),
    ],
)
async def test_an_address_where_no_s3_answers_is_told(
    s3: S3Server, environment: Callable[..., None], endpoint: str, said: str
) -> None:
    """Also of a server that speaks something else."""
    at = {name: f"127.0.0.1:{s3.ports[f'{name}.port']}" for name in ("s3", "filer")}
    environment(**variables(), AWS_ENDPOINT_URL=endpoint.format(**at))
    with pytest.raises(StoreError, match=said):
        await Bucket("s3://voxroute/p").open()


@pytest.mark.usefixtures("soon")
async def test_without_credentials_it_is_told_how_to_give_them(
    s3: S3Server, environment: Callable[..., None]
) -> None:
    """Once AWS's own machines were asked for them."""
    environment(AWS_METADATA_ENDPOINT="http://127.0.0.1:9")
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID"):
        await Bucket(s3.url("p")).open()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "RequestTimeTooSkewed", "set the clock of this host"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
        (403, "", "s3:PutObject"),
        (403, "ExpiredToken", "not any more"),
        (507, "XMinioStorageFull", "is full"),
        (503, "SlowDown", "is overloaded"),
    ],
)
async def test_what_a_bucket_refuses_is_told_as_what_to_do(
    simple: type[Simple], status: int, code: str, said: str
) -> None:
    """Whatever the server's own words are."""
    simple.first += [lambda self: self.answer(status, code=code)] * 100
    with pytest.raises(StoreError, match=said):
        await Bucket("s3://b/p").open()


async def test_a_bucket_without_conditional_writes_is_refused(simple: type[Simple]) -> None:
    """Of two who change a transcript one would lose a change; nothing stays of the trial."""
    simple.honours = False
    with pytest.raises(StoreError, match=r"conditional writes \(If-None-Match\) are needed"):
        await Bucket("s3://b/p").open()
    assert simple.objects == {}


async def test_all_services_see_one_id_and_those_of_another_prefix_another(
    s3: S3Server, environment: Callable[..., None]
) -> None:
    """By which services that have their files elsewhere are told apart."""
    environment(**variables())
    told = [await Bucket(s3.url(prefix)).open() for prefix in ("ids/a", "ids/a/", "ids/b", "")]
    assert told[0] == told[1]
    assert re.fullmatch(r"s3://voxroute/ids/a#[0-9a-f]{32}", told[0])
    assert len(set(told)) == 3


# --- credentials


async def test_credentials_come_from_a_file_by_their_profile(
    s3: S3Server, environment: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is read again, so that others can take their place; AWS's config has the endpoint."""
    secrets, config = tmp_path / "credentials", tmp_path / "config"
    config.write_text(f"[profile vox]\nendpoint_url = {s3.endpoint}\nregion = eu-central-1\n")
    written = "[vox]\naws_access_key_id = {}\naws_secret_access_key = secret\n"
    secrets.write_text(written.format("nobody"))
    environment(
        AWS_SHARED_CREDENTIALS_FILE=str(secrets), AWS_CONFIG_FILE=str(config), AWS_PROFILE="vox"
    )
    monkeypatch.setattr(aws, "_FRESH_S", 0.0)
    bucket = Bucket("s3://voxroute/profile")
    with pytest.raises(StoreError, match="does not know the service's credentials"):
        await bucket.open()
    secrets.write_text(written.format("writer"))
    assert await bucket.open()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "AWS_SHARED_CREDENTIALS_FILE .* cannot be read"),
        (f"aws_secret_access_key = {SECRET}", "no file of AWS's form"),
        (f"[other]\naws_secret_access_key = {SECRET}", "has no aws_access_key_id"),
    ],
)
def test_a_file_of_credentials_that_will_not_do_is_told(
    environment: Callable[..., None], tmp_path: Path, text: str | None, said: str
) -> None:
    """By the variable that names it, and without what is in it."""
    path = tmp_path / "credentials"
    if text is not None:
        path.write_text(text)
    environment(AWS_SHARED_CREDENTIALS_FILE=str(path))
    with pytest.raises(StoreError, match=said) as told:
        Bucket("s3://b/p")
    assert SECRET not in str(told.value)


def test_a_secret_in_the_endpoint_is_refused_and_not_repeated(
    environment: Callable[..., None],
) -> None:
    """It would be in every line of the log."""
    environment(AWS_ENDPOINT_URL=f"https://key:{SECRET}@s3.example")
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as told:
        Bucket("s3://b/p")
    assert SECRET not in str(told.value)


# --- what goes wrong for a while


async def test_what_is_refused_for_a_while_is_tried_again(
    simple: type[Simple], tmp_path: Path
) -> None:
    """A bucket that asks for fewer requests gets them later, and has the file once."""
    bucket, path = Bucket("s3://b/p"), film(tmp_path)
    busy = [
        (503, "SlowDown"),
        (429, ""),
        (500, "InternalError"),
        (409, "OperationAborted"),
    ]
    simple.first += [lambda self, how=how: self.answer(how[0], code=how[1]) for how in busy]
    await bucket.put(FILE, path)
    assert await read(bucket) == path.read_bytes()
    assert len(simple.objects) == 4


async def test_a_record_whose_answer_is_lost_is_known_again(
    simple: type[Simple], tmp_path: Path
) -> None:
    """It is that writer's own; a second file of that name is another's, and leaves nothing."""

    def lost(self: Simple) -> bool:
        if "/files/" not in self.path:
            return False
        self.objects[self.path] = self.data
        self.close_connection = True
        self.connection.close()
        return True

    bucket, path = Bucket("s3://b/p"), film(tmp_path)
    simple.first.append(lost)
    await bucket.put(FILE, path)
    assert simple.first == []
    with pytest.raises(ThereError):
        await bucket.put(FILE, path)
    assert await read(bucket) == path.read_bytes()
    assert len(simple.objects) == 4


async def test_a_bucket_that_is_full_amid_a_file_has_nothing_of_it(
    simple: type[Simple], tmp_path: Path
) -> None:
    """The parts that it took are removed at once."""
    count = itertools.count()
    simple.first.append(lambda self: next(count) == 5 and self.answer(507, code="StorageFull"))
    with pytest.raises(DiskFullError):
        await Bucket("s3://b/p").put(FILE, film(tmp_path, 9))
    assert next(count) == 6
    assert simple.objects == {}


@pytest.mark.slow  # half a minute until the server is back
async def test_a_bucket_that_goes_amid_a_file_is_told_and_the_file_can_be_sent_again(
    s3: S3Server, environment: Callable[..., None], tmp_path: Path
) -> None:
    """After five seconds; what was sent is swept later."""
    environment(**variables())
    bucket, path = Bucket(s3.url("away")), film(tmp_path)
    await bucket.put(FileName("a0", "media", "film.mp4"), path)
    s3.end()
    began = time.monotonic()
    with pytest.raises(StoreBusyError, match="does not answer; try again"):
        await bucket.put(FILE, path)
    assert 2 < time.monotonic() - began < 15
    s3.start()
    await bucket.put(FILE, path, 60.0)
    assert await read(bucket) == path.read_bytes()


@pytest.mark.usefixtures("soon")
async def test_a_bucket_behind_a_ca_of_its_own_is_reached(
    simple: type[Simple], environment: Callable[..., None], tmp_path: Path
) -> None:
    """That AWS_CA_BUNDLE names; without, it is no bucket of ours."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), simple)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"s3://b/p?endpoint=https://127.0.0.1:{server.server_port}"
    try:
        environment(**variables(), AWS_CA_BUNDLE=str(tmp_path / "ca.pem"))
        assert await Bucket(url).open()
        environment(**variables())
        with pytest.raises(StoreError, match="does not answer"):
            await Bucket(url).open()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
