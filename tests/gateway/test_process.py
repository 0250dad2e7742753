"""The gateway's process: certificates, services that go and come, requests that fail late."""

import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
import trustme

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway

SURROGATE = b'{"q": "\\ud800", "source": "hi", "target": "en"}'


def _asr(target: str) -> "subprocess.Popen[bytes]":
    """A speech service at an address; it has to be waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "voxroute_asr_whisperx", "--listen", target,
         "--metrics-listen", "", "--model", str(processes.ASR_MODEL), "--device", "cpu"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
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


def test_it_serves_with_a_certificate(tmp_path: Path) -> None:
    """HTTPS at the addresses where there is one."""
    authority = trustme.CA()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with gateway(
        "--tls-cert", str(cert), "--tls-key", str(key), "--asr-endpoint", "127.0.0.1:1"
    ) as running:
        url = running.url.replace("http://", "https://")
        assert httpx.get(f"{url}/health", verify=trusting).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/v1/audio/transcriptions", {"Content-Type": "multipart/form-data"}, b"no form"),
        ("/translate", {"Content-Type": "multipart/form-data"}, b"no form"),
        ("/translate", {"Content-Type": "application/json; charset=none"}, b"{}"),
        ("/translate", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, b"{}"),
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


def test_an_address_that_is_taken_is_told() -> None:
    """With exit code 1 and a sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "voxroute_gateway", "--metrics-listen", "",
             "--listen", f"127.0.0.1:{taken.getsockname()[1]}"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert "cannot listen on" in done.stderr
