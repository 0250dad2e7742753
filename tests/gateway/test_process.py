"""The gateway's process: certificates, services that go and come, requests that fail late."""

import contextlib
import gzip
import os
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
import trustme

from tests import forking
from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway
from voxroute_serving.security.watched import SETTLE_S

SURROGATE = b'{"q": "\\ud800", "source": "hi", "target": "en"}'


@pytest.fixture(scope="module")
def lonely() -> Iterator[Gateway]:
    """A gateway whose services are not there."""
    nowhere = "127.0.0.1:1"
    with gateway("--asr-endpoint", nowhere, "--jobs-endpoint", nowhere) as running:
        yield running


def _asr(target: str) -> forking.Process:
    """A speech service at an address; it has to be waited for."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        return forking.start(
            "voxroute_asr_whisperx", "--listen", target, "--metrics-listen", "",
            "--model", str(processes.ASR_MODEL), "--device", "cpu", stdout=nowhere, stderr=nowhere,
        )  # fmt: skip


def test_a_service_that_was_restarted_is_found_again() -> None:
    """A request that comes while it is away waits for it."""
    target = f"127.0.0.1:{processes.free_port()}"
    first = _asr(target)
    try:
        with gateway("--asr-endpoint", target) as running:
            url = f"{running.url}/v1/models"
            assert httpx.get(url, timeout=120).status_code == 200
            first.send_signal(signal.SIGKILL)
            first.wait()
            second = _asr(target)
            try:
                wave = (processes.ROOT / "examples" / "evening.wav").read_bytes()
                answer = httpx.post(
                    f"{running.url}/v1/audio/transcriptions",
                    data={"language": "en"},
                    files={"file": ("a.wav", wave)},
                    timeout=120,
                )
                assert answer.status_code == 200, answer.text
                assert answer.json()["text"]
            finally:
                second.terminate()
                second.wait()
    finally:
        first.kill()
        first.wait()


def _issue(folder: Path, authority: trustme.CA) -> list[str]:
    """The flags for a certificate, which is written into the folder."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return ["--tls-cert", str(cert), "--tls-key", str(key)]


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_new_certificate_is_read_while_it_serves(tmp_path: Path) -> None:
    """Open connections go on, new ones get the new one; a broken one changes nothing."""
    old, new = trustme.CA(), trustme.CA()
    flags = _issue(tmp_path, old)
    with gateway(*flags, "--asr-endpoint", "127.0.0.1:1") as running:
        url = running.url.replace("http://", "https://") + "/health"
        with httpx.Client(verify=_trusting(old)) as before:
            assert before.get(url).json() == {"status": "ok"}
            _issue(tmp_path, new)
            time.sleep(SETTLE_S)
            with httpx.Client(verify=_trusting(new)) as after:
                assert after.get(url).json() == {"status": "ok"}
            assert before.get(url).json() == {"status": "ok"}  # on the connection that it has
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(url, verify=_trusting(old))
        (tmp_path / "key.pem").write_text("no key")
        time.sleep(SETTLE_S)
        assert httpx.get(url, verify=_trusting(new)).json() == {"status": "ok"}
        events = [line["event"] for line in running.log()]
    assert "certificates read again" in events
    assert "the certificates stay as they were" in events


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/v1/audio/transcriptions", {"Content-Type": "multipart/form-data"}, b"no form"),
        ("/translate", {"Content-Type": "multipart/form-data"}, b"no form"),
        ("/translate", {"Content-Type": "application/json; charset=none"}, b"{}"),
        ("/translate", {"Content-Type": "application/json"}, b"[" * 100_000),
        ("/translate", {"Content-Type": "application/json"}, SURROGATE),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    server: Gateway, path: str, headers: dict[str, str], body: bytes
) -> None:
    """With 400: it is no defect of the gateway."""
    answer = httpx.post(f"{server.url}{path}", content=body, headers=headers, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/audio/transcriptions", "multipart/form-data; boundary=x"),
        ("POST", "/translate", "application/json"),
        ("POST", "/translate", "application/x-www-form-urlencoded"),
        ("POST", "/api/translate/content", "application/json"),
        ("POST", "/api/jobs", "application/json"),
        ("POST", "/api/uploads", "application/offset+octet-stream"),
        ("PATCH", "/api/uploads/x", "application/offset+octet-stream"),
    ],
)
def test_a_compressed_body_is_refused(lonely: Gateway, method: str, path: str, kind: str) -> None:
    """Also one that is not compressed at all, or not as it says."""
    for encoding in ("gzip", "br", "x"):
        answer = httpx.request(
            method,
            f"{lonely.url}{path}",
            content=gzip.compress(b"{}"),
            headers={"Content-Type": kind, "Content-Encoding": encoding, "Upload-Length": "100"},
        )
        assert answer.status_code == 415, answer.text
        assert "Content-Encoding" in answer.text


@pytest.mark.parametrize("n_bytes", [10, 100_000])
@pytest.mark.parametrize(
    ("path", "came", "said"),
    [
        ("/v1/audio/transcriptions", 'name="audio"; filename="a.wav"', "as the part 'audio'"),
        ("/v1/audio/transcriptions", 'filename="a.wav"', "in a part without a name"),
        ("/v1/audio/transcriptions", 'name=""', "in a part without a name"),
        ("/asr", 'name="file"; filename="a.wav"', "as the part 'file'"),
    ],
)
def test_a_file_in_another_part_is_told(
    lonely: Gateway, path: str, came: str, said: str, n_bytes: int
) -> None:
    """With the name that the part has here, however large it is."""
    name = "audio_file" if path == "/asr" else "file"
    head = f"--x\r\nContent-Disposition: form-data; {came}\r\n\r\n"
    answer = httpx.post(
        f"{lonely.url}{path}",
        content=head.encode() + bytes(n_bytes) + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 400
    assert f"a file came {said}; here its part is called {name!r}" in answer.text


def test_a_field_that_is_too_long_is_told(lonely: Gateway) -> None:
    """It might be a file that came as a field."""
    form = {"audio": (None, "x" * 100_000)}
    answer = httpx.post(f"{lonely.url}/v1/audio/transcriptions", files=form)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "audio: it is too long; the file is the part 'file'"


def _refused(*arguments: str, **variables: str) -> str:
    """What a gateway says that ends with exit code 1 instead of listening."""
    done = forking.run(
        "voxroute_gateway", "--metrics-listen", "", *arguments,
        environment=os.environ | variables, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_folder_for_uploads_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """With exit code 1 and a sentence; uploads do not go to another one instead."""
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        said = _refused("--listen", "127.0.0.1:0", TMPDIR=str(tmp_path / name))
        assert said.startswith("cannot start: uploads cannot be kept in")
        assert name in said


def test_a_folder_for_uploads_that_is_lost_is_no_defect(tmp_path: Path) -> None:
    """It is answered as a full disk is, and the bytes go nowhere else."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    with gateway("--asr-endpoint", "127.0.0.1:1", TMPDIR=str(folder)) as running:
        folder.rmdir()
        answer = httpx.post(
            f"{running.url}/v1/audio/transcriptions", files={"file": ("a.wav", b"RIFF")}
        )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "disk_full"
    assert answer.headers["retry-after"]


def test_an_address_that_is_taken_is_told() -> None:
    """With exit code 1 and a sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = _refused("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "cannot listen on" in said


def test_a_socket_that_is_served_stays_with_its_gateway() -> None:
    """Another one does not start there; a file that a dead one has left is replaced."""
    with tempfile.TemporaryDirectory(prefix="vx") as directory:
        path = Path(directory) / "s.sock"
        flags = ("--asr-endpoint", "127.0.0.1:1", "--listen", f"127.0.0.1:0,unix:{path}")

        def served() -> None:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                assert client.get("http://x/health").json() == {"status": "ok"}

        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with gateway(*flags):
            served()
            assert not path.stat().st_mode & 0o077, "others could connect"
            assert "another process serves there" in _refused(*flags)
            served()
        with gateway(*flags):
            served()
        path.unlink(missing_ok=True)
        path.write_text("precious")
        assert "no socket" in _refused(*flags)
        assert path.read_text() == "precious"


def test_a_gateway_that_ends_leaves_the_socket_of_another() -> None:
    """Which began there after the file was removed."""
    with tempfile.TemporaryDirectory(prefix="vx") as directory:
        path = Path(directory) / "s.sock"
        flags = ("--asr-endpoint", "127.0.0.1:1", "--listen", f"127.0.0.1:0,unix:{path}")
        with contextlib.ExitStack() as later:
            with gateway(*flags):
                path.unlink()
                later.enter_context(gateway(*flags))
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
                assert client.get("http://x/health").json() == {"status": "ok"}
