"""Jobs over HTTP: a real job service behind the gateway, whose work the bundled models do."""

import contextlib
import hashlib
import io
import itertools
import json
import signal
import socket
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import httpx2 as httpx
import psutil
import pytest
from tusclient.client import TusClient

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway
from tests.orchestrator.daemon import Daemon, wait

BYTES = {"Content-Type": "application/offset+octet-stream", "Tus-Resumable": "1.0.0"}
LENGTH = {"Upload-Length": "9"}
HALF = (
    b"POST /api/uploads HTTP/1.1\r\nHost: x\r\nUpload-Length: 9\r\nContent-Length: 9\r\n"
    b"Content-Type: application/offset+octet-stream\r\n\r\nhalf"
)
FILM = {"upload_name": "evening.wav", "source_languages": ["en"], "target_languages": ["hi"]}


@pytest.fixture(scope="module")
def client(whole: Gateway) -> Iterator[httpx.Client]:
    """What asks."""
    with httpx.Client(base_url=whole.url, timeout=120) as made:
        yield made


def upload(client: httpx.Client, data: bytes) -> str:
    """The id of an upload with these bytes, sent at once."""
    headers = {**BYTES, "Upload-Length": str(len(data))}
    answer = client.post("/api/uploads", content=data, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == str(len(data))
    return answer.json()["upload_id"]


def submit(client: httpx.Client, recording: Path, **more: Any) -> dict[str, Any]:
    """A job of a recording."""
    upload_id = upload(client, recording.read_bytes())
    asked = {"job": {**FILM, **more}, "upload_id": upload_id}
    answer = client.post("/api/jobs", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["created"] is True
    return answer.json()["job"]


def ended(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job, once it has ended."""
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(client.get(f"/api/jobs/{job_id}").json())
        return found["state"] not in {"JOB_STATE_QUEUED", "JOB_STATE_RUNNING"}

    wait(look, 120)
    return found


@pytest.fixture(scope="module")
def done(client: httpx.Client, short: Path) -> dict[str, Any]:
    """A job that has succeeded."""
    job = ended(client, submit(client, short)["id"])
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    return job


def watched(client: httpx.Client, job_id: str, last: int = 0) -> Generator[dict[str, Any]]:
    """The events behind one, as they come; the id of each is its number."""
    headers = {"Last-Event-ID": str(last)} if last else {}
    with client.stream("GET", f"/api/jobs/{job_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = [""] * 3
        for line in stream.iter_lines():
            lines = [*lines[-2:], line]
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                assert lines[0] == f"id: {event['sequence']}"
                assert lines[1].removeprefix("event: ") in event
                yield event


def test_an_upload_goes_on_where_its_connection_was_lost(
    client: httpx.Client, whole: Gateway, short: Path
) -> None:
    """What has come stays, another offset is refused, and the job has all of it."""
    data = short.read_bytes()
    headers = {**BYTES, "Upload-Length": str(len(data))}
    made = client.post("/api/uploads", headers={k: v for k, v in headers.items() if k[0] != "C"})
    assert made.status_code == 201
    place = made.headers["location"]
    half = len(data) // 2
    host, port = whole.url.removeprefix("http://").split(":")
    head = (
        f"PATCH {place} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nTus-Resumable: 1.0.0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:

        def begin() -> bool:
            # asking how far it is ends it, also before its first byte
            connection = stack.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(head.encode() + data[:half])
            time.sleep(0.1)
            return client.head(place).headers["upload-offset"] != "0"

        wait(begin)  # the lost connection is still open at the gateway
    told = client.head(place)
    offset = int(told.headers["upload-offset"])
    assert 0 < offset <= half
    assert told.headers["upload-length"] == str(len(data))
    early = client.post("/api/jobs", json={"job": FILM, "upload_id": made.json()["upload_id"]})
    assert early.status_code == 400
    assert early.json()["error"]["param"] == "upload_id"
    wrong = client.patch(place, content=b"x", headers={**BYTES, "Upload-Offset": str(offset + 1)})
    assert wrong.status_code == 409
    rest = {**BYTES, "Upload-Offset": str(offset)}
    long = client.patch(place, content=data[offset:] + b"more", headers=rest)
    assert long.status_code == 413
    rest["Upload-Offset"] = client.head(place).headers["upload-offset"]
    sent = client.patch(place, content=data[int(rest["Upload-Offset"]) :], headers=rest)
    assert sent.status_code == 204
    assert sent.headers["upload-offset"] == str(len(data))
    asked = {"job": FILM, "upload_id": made.json()["upload_id"]}
    first = client.post("/api/jobs", json=asked).json()
    assert first["created"] is True
    assert client.head(place).status_code == 404  # its bytes are the job's now
    again = client.post("/api/jobs", json=asked).json()
    assert (again["job"]["id"], again["created"]) == (first["job"]["id"], False)
    assert ended(client, first["job"]["id"])["state"] == "JOB_STATE_SUCCEEDED"


def test_the_client_of_tus_is_served(whole: Gateway, client: httpx.Client, short: Path) -> None:
    """In pieces, and on from where another one has stopped."""
    data = short.read_bytes()
    made: Any = TusClient(f"{whole.url}/api/uploads")
    first = made.uploader(file_stream=io.BytesIO(data), chunk_size=50_000)
    first.upload(stop_at=100_000)
    second = made.uploader(file_stream=io.BytesIO(data), chunk_size=50_000, url=first.url)
    assert second.offset == 100_000
    second.upload()
    assert int(client.head(first.url).headers["upload-offset"]) == len(data)


def test_events_go_on_behind_the_last_one(client: httpx.Client, short: Path) -> None:
    """Nothing is missed and nothing comes twice; at the end there is no content."""
    job_id = submit(client, short)["id"]
    with contextlib.closing(watched(client, job_id)) as begun:
        first = list(itertools.islice(begun, 2))
    rest = list(watched(client, job_id, last=int(first[-1]["sequence"])))
    numbers = [int(event["sequence"]) for event in first + rest]
    assert numbers == list(range(1, len(numbers) + 1))
    assert rest[-1]["state"] == "JOB_STATE_SUCCEEDED"
    over = client.get(f"/api/jobs/{job_id}/events", params={"after": numbers[-1]})
    assert over.status_code == 204


def test_files_come_whole_and_in_ranges(client: httpx.Client, done: dict[str, Any]) -> None:
    """With their checksum for a tag, so that a range of another version is none."""
    about = next(one for one in done["artifacts"] if one["name"] == "evening.hi.vtt")
    path = f"/api/jobs/{done['id']}/artifacts/{about['name']}"
    whole = client.get(path)
    assert whole.headers["content-type"] == "text/vtt; charset=utf-8"
    assert hashlib.sha256(whole.content).hexdigest() == about["sha256"]
    tag = whole.headers["etag"]
    assert tag == f'"{about["sha256"]}"'
    n = len(whole.content)
    for asked, begin, end in (
        ("0-9", 0, 10),
        ("10-", 10, n),
        ("-7", n - 7, n),
        ("5-9999999", 5, n),
    ):
        part = client.get(path, headers={"Range": f"bytes={asked}", "If-Range": tag})
        assert part.status_code == 206
        assert part.content == whole.content[begin:end]
        assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{n}"
    other = client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)
    behind = client.get(path, headers={"Range": f"bytes={n}-"})
    assert behind.status_code == 416
    assert behind.headers["content-range"] == f"bytes */{n}"
    head = client.head(path)
    assert head.headers["content-length"] == str(n)
    missing = client.get(path + "x")
    assert missing.json()["error"]["code"] == "artifact_not_found"


def test_a_recording_and_its_sound_come_in_ranges(
    client: httpx.Client, done: dict[str, Any], short: Path
) -> None:
    """As what a browser plays, to be shown by it; the sound is Opus, and made once."""
    path = f"/api/jobs/{done['id']}"
    whole = client.get(f"{path}/media")
    assert whole.content == short.read_bytes()
    sound = client.get(f"{path}/sound")
    with av.open(io.BytesIO(sound.content)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
    for one, kind in ((whole, "audio/wav"), (sound, "audio/webm")):
        assert one.status_code == 200
        assert one.headers["content-type"] == kind
        assert one.headers["content-disposition"].startswith("inline; filename*=UTF-8''evening.")
        assert one.headers["x-content-type-options"] == "nosniff"
        assert one.headers["accept-ranges"] == "bytes"
        n, tag = len(one.content), one.headers["etag"]
        for asked, begin, end in (("0-9", 0, 10), ("10-", 10, n), ("-7", n - 7, n)):
            headers = {"Range": f"bytes={asked}", "If-Range": tag}
            part = client.get(one.url, headers=headers)
            assert part.status_code == 206
            assert part.content == one.content[begin:end]
            assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{n}"
        assert client.get(one.url, headers={"Range": f"bytes={n}-"}).status_code == 416
        assert client.head(one.url).headers["content-length"] == str(n)
    assert client.get("/api/jobs/none/media").json()["error"]["code"] == "job_not_found"


def test_no_recording_is_a_page_of_the_gateways(client: httpx.Client, tmp_path: Path) -> None:
    """A client names its upload: what it calls a page is sent as bytes, which no browser runs."""
    (tmp_path / "evil.html").write_text("<script>alert(1)</script>")
    job = submit(client, tmp_path / "evil.html", upload_name="evil.html")
    answer = client.get(f"/api/jobs/{job['id']}/media")
    assert answer.headers["content-type"] == "application/octet-stream"
    ended(client, job["id"])
    silent = client.get(f"/api/jobs/{job['id']}/sound")
    assert (silent.status_code, silent.json()["error"]["code"]) == (422, "media_unreadable")


def test_a_job_is_cancelled_resumed_and_removed(client: httpx.Client, clip: Path) -> None:
    """Each state allows what the job service says."""
    job_id = submit(client, clip, source_languages=["hi"], target_languages=["en"])["id"]
    path = f"/api/jobs/{job_id}"
    wait(lambda: client.get(path).json()["state"] == "JOB_STATE_RUNNING")
    early = client.delete(path)
    assert (early.status_code, early.json()["error"]["code"]) == (422, "job_state")
    assert client.post(f"{path}/cancel").json()["state"] == "JOB_STATE_CANCELLED"
    retried = client.post(f"{path}/retry")
    assert (retried.status_code, retried.json()["error"]["code"]) == (422, "job_state")
    assert client.post(f"{path}/resume", json={"restart": True}).status_code == 200
    assert ended(client, job_id)["state"] == "JOB_STATE_SUCCEEDED"
    assert client.delete(path).status_code == 204
    for gone in (client.get(path), client.get(f"{path}/events")):
        assert gone.status_code == 404
        assert gone.json()["error"]["code"] == "job_not_found"


def test_a_failed_job_is_tried_again(client: httpx.Client, tmp_path: Path) -> None:
    """It says why it failed."""
    (tmp_path / "no.wav").write_bytes(b"no recording")
    job = ended(client, submit(client, tmp_path / "no.wav")["id"])
    assert job["state"] == "JOB_STATE_FAILED"
    assert "cannot be opened as media" in job["error"]
    assert client.post(f"/api/jobs/{job['id']}/retry").json()["state"] == "JOB_STATE_QUEUED"
    assert ended(client, job["id"])["attempts"] == 2


def test_jobs_are_listed_by_pages(client: httpx.Client, done: dict[str, Any]) -> None:
    """The newest first, also of one state."""
    everything = client.get("/api/jobs", params={"page_size": 1000}).json()["jobs"]
    page = client.get("/api/jobs", params={"page_size": 1}).json()
    assert [one["id"] for one in page["jobs"]] == [everything[0]["id"]]
    query = {"page_size": 1, "page_token": page["next_page_token"]}
    following = client.get("/api/jobs", params=query).json()
    assert [one["id"] for one in following["jobs"]] == [one["id"] for one in everything[1:2]]
    good = client.get("/api/jobs", params={"state": "succeeded"}).json()["jobs"]
    assert done["id"] in {one["id"] for one in good}
    assert {one["state"] for one in good} == {"JOB_STATE_SUCCEEDED"}


@pytest.mark.parametrize(
    ("asked", "status", "param"),
    [
        ({}, 400, "job"),
        ({"job": {"upload_name": "a.wav"}}, 400, "upload_id"),
        ({"job": {"media_path": "a.wav"}, "upload_id": "x"}, 400, "upload_id"),
        ({"job": {"upload_name": "a.wav"}, "upload_id": "x"}, 404, "upload_id"),
        ({"job": {"media_path": "a.wav"}}, 404, None),
        ({"job": {"media_path": "a.wav", "source_languages": ["?"]}}, 400, "job.source_languages"),
        ({"job": {"media_path": "a.wav", "loud": True}}, 400, "job"),
        ({"job": {"media_path": "a.wav", "start": "soon"}}, 400, "job"),
    ],
)
def test_what_is_wrong_with_a_job_is_told(
    client: httpx.Client, asked: dict[str, Any], status: int, param: str | None
) -> None:
    """With the field."""
    answer = client.post("/api/jobs", json=asked)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.slow  # a service has to start twice
def test_events_go_on_while_the_job_service_starts_again(
    asr: processes.Service, translation: processes.Service, clip: Path, tmp_path: Path
) -> None:
    """Killed in the middle: the stream stays open, and each event comes once."""
    endpoints = ("--asr-endpoint", asr.target, "--translate-endpoint", translation.target)
    service = Daemon(tmp_path, endpoints)
    try:
        service.start()
        (tmp_path / "voxroute.yaml").write_text(f"jobs_endpoint: {service.target}\n")
        with (
            gateway("--config", str(tmp_path / "voxroute.yaml")) as running,
            httpx.Client(base_url=running.url, timeout=120) as client,
        ):
            job_id = submit(client, clip, source_languages=["hi"])["id"]
            events: list[dict[str, Any]] = []
            for event in watched(client, job_id):
                events.append(event)
                if len(events) == 3:
                    service.end(signal.SIGKILL)
                    service.start()
        assert [int(one["sequence"]) for one in events] == list(range(1, len(events) + 1))
        assert events[-1]["state"] == "JOB_STATE_SUCCEEDED"
        states = [one["state"] for one in events if "state" in one]
        assert states.count("JOB_STATE_RUNNING") == 2
    finally:
        service.close()


@contextlib.contextmanager
def slow(client: httpx.Client, clip: Path) -> Generator[str]:
    """A job that waits behind another one, so that nothing happens to it."""
    first = submit(client, clip, source_languages=["hi"])["id"]
    second = submit(client, clip, source_languages=["hi"])["id"]
    try:
        yield second
    finally:
        for job_id in (second, first):
            client.post(f"/api/jobs/{job_id}/cancel")


def watchers(service: Daemon) -> int:
    """Calls of WatchJob that the job service has open."""
    lines = httpx.get(f"http://{service.metrics}/metrics").text.splitlines()

    def count(name: str) -> int:
        found = (x for x in lines if x.startswith(name) and 'grpc_method="WatchJob"' in x)
        return sum(int(float(line.split()[-1])) for line in found)

    return count("grpc_server_started_total") - count("grpc_server_handled_total")


def test_a_watcher_that_leaves_ends_its_call(
    client: httpx.Client, job_service: Daemon, clip: Path
) -> None:
    """Also while nothing happens to the job; comments keep the connection until then."""
    with slow(client, clip) as job_id:
        with client.stream("GET", f"/api/jobs/{job_id}/events") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith(":")) == ": waiting"
            assert watchers(job_service) == 1
        wait(lambda: watchers(job_service) == 0)


def test_a_gateway_that_stops_sends_watchers_away(
    client: httpx.Client, job_service: Daemon, clip: Path
) -> None:
    """At once, and not at the end of the time that requests get to finish."""
    with slow(client, clip) as job_id, contextlib.ExitStack() as stack:
        running = gateway("--jobs-endpoint", job_service.target, "--drain-s", "600")
        with running as other:
            url = f"{other.url}/api/jobs/{job_id}/events"
            stream = stack.enter_context(httpx.stream("GET", url, timeout=120))
            assert stream.status_code == 200


def test_a_large_upload_does_not_grow_the_memory(client: httpx.Client, whole: Gateway) -> None:
    """A hundred megabytes to the disk, and on to the job service."""
    before = most = whole.resident_bytes()
    n = 100

    def pieces() -> Iterator[bytes]:
        nonlocal most
        for _ in range(n):
            yield bytes(2**20)
            most = max(most, whole.resident_bytes())

    headers = {**BYTES, "Upload-Length": str(n * 2**20)}
    answer = client.post("/api/uploads", content=pieces(), headers=headers)
    assert answer.status_code == 201, answer.text
    asked = {"job": FILM, "upload_id": answer.json()["upload_id"]}
    job_id = client.post("/api/jobs", json=asked).json()["job"]["id"]
    most = max(most, whole.resident_bytes())
    assert most - before < 40e6
    assert ended(client, job_id)["state"] == "JOB_STATE_FAILED"


def test_uploads_are_limited_and_go_after_a_while(job_service: Daemon) -> None:
    """In size, in number, and in the time that they are kept unused."""
    with gateway(
        "--jobs-endpoint", job_service.target, "--max-uploads", "1", "--upload-idle-s", "0.5",
        "--max-upload-bytes", "10",
    ) as running, httpx.Client(base_url=running.url) as client:  # fmt: skip
        large = client.post("/api/uploads", headers={"Upload-Length": "11"})
        assert large.status_code == 413
        headers = {"Upload-Length": "10"}
        place = client.post("/api/uploads", headers=headers).headers["location"]
        full = client.post("/api/uploads", headers=headers)
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        wait(lambda: client.post("/api/uploads", headers=headers).status_code == 201)
        assert client.head(place).status_code == 404
        place = client.get("/api/uploads/x", headers={"Tus-Resumable": "0.2.2"})
        assert (place.status_code, place.headers["tus-version"]) == (412, "1.0.0")


def test_an_upload_that_stops_coming_ends(job_service: Daemon) -> None:
    """With 408, and its place is free."""
    with gateway(
        "--jobs-endpoint", job_service.target, "--max-uploads", "1", "--upload-idle-s", "0.3"
    ) as running:
        with socket.create_connection(running.address) as connection:
            connection.sendall(HALF)
            connection.settimeout(60)
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        headers = {"Upload-Length": "10"}
        wait(lambda: httpx.post(f"{running.url}/api/uploads", headers=headers).status_code == 201)


def test_an_upload_whose_creation_fails_is_forgotten(job_service: Daemon) -> None:
    """Its client never learned its id: the place is free at once, and so is the disk."""
    with gateway("--jobs-endpoint", job_service.target, "--max-uploads", "1") as running:
        fds = psutil.Process(running.process.pid).num_fds
        assert httpx.get(f"{running.url}/health").status_code == 200
        before = fds()
        headers = {**BYTES, "Upload-Length": "9"}
        for _ in range(3):
            long = httpx.post(f"{running.url}/api/uploads", content=b"ten bytes!", headers=headers)
            assert long.status_code == 413
        with socket.create_connection(running.address) as connection:
            connection.sendall(HALF)
            wait(lambda: "requests_in_flight 1.0" in httpx.get(running.metrics).text)
            assert httpx.post(f"{running.url}/api/uploads", headers=LENGTH).status_code == 429
        wait(lambda: httpx.post(f"{running.url}/api/uploads", headers=LENGTH).status_code == 201)
        wait(lambda: fds() <= before + 1)  # that of the upload which is there now


def test_without_a_job_service_the_routes_say_so() -> None:
    """And a route that there is not says another thing."""
    with gateway("--asr-endpoint", "127.0.0.1:1") as running:
        for path in ("/api/jobs", "/api/jobs/x", "/api/jobs/x/events", "/api/uploads/x"):
            answer = httpx.get(f"{running.url}{path}")
            assert answer.status_code == 404
            assert "--jobs-endpoint" in answer.json()["error"]["message"]
            assert answer.json()["error"]["code"] == "no_job_service"
