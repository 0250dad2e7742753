"""What no honest client sends ends in a status or an end, and nothing of the gateway comes out."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import psutil
import pytest

from tests.e2e import processes
from tests.gateway import hostile
from tests.gateway.conftest import Gateway, gateway

SEED = 20_261
N_REQUESTS = 1000
AT_ONCE = 16
N_SLOW = 100
WAIT_S = 30.0
LEAVES_AFTER_S = 3.0  # a client that has not sent all that it said
LEAKS = re.compile(
    rb"Traceback|\.py\b|site-packages|aiohttp|asyncio|python|voxroute_|grpc"
    rb"|/(?:usr|home|root|tmp|work|opt|var|app)/|Error\(|0x[0-9a-f]{6}",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def strict(asr: processes.Service, translation: processes.Service) -> Iterator[Gateway]:
    """A gateway that waits two seconds for a client."""
    asr.wait_until_serving()
    with gateway(
        "--asr-endpoint", asr.target, "--translate-endpoint", translation.target,
        "--idle-timeout-s", "2", "--min-bytes-per-s", "1000",
    ) as running:  # fmt: skip
        yield running


def _answer(address: tuple[str, int], request: hostile.Request) -> bytes:
    """All that comes back until the gateway, or this client, ends the connection."""
    data, more_to_come = request
    found = b""
    ends = (ConnectionError, TimeoutError) if more_to_come else (ConnectionError,)
    with (
        contextlib.suppress(*ends),
        socket.create_connection(address, timeout=WAIT_S) as connection,
    ):
        connection.sendall(data)
        if more_to_come:
            connection.settimeout(LEAVES_AFTER_S)
        while more := connection.recv(65_536):
            found += more
    return found


def _statuses(answer: bytes) -> set[int]:
    return {int(found) for found in re.findall(rb"^HTTP/1\.[01] (\d{3}) ", answer, re.MULTILINE)}


def _wrong(request: hostile.Request, answer: bytes) -> str:
    """What an answer must not be, or tell; "" where all is well."""
    about = f"{request[0][:200]!r}: {answer[:300]!r}"
    if _statuses(answer) & {500, 502, 504}:
        return about
    leak = LEAKS.search(answer)
    return f"{about}: {leak[0]!r}" if leak else ""


def test_a_sender_that_is_too_slow_is_told_so(strict: Gateway) -> None:
    """Whatever it sends slowly; a fast one with a pause is no slow one."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    form = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    file = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    for begun in (form, form + b"Content-Dis", form + file, form + file + b"RIFF"):
        answer = b""
        with socket.create_connection(strict.address, timeout=WAIT_S) as connection:
            connection.sendall(head % b"/v1/audio/transcriptions" + begun)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b"too slowly" in answer


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_hostile_requests(strict: Gateway) -> None:
    """No 500, nothing internal, and the gateway is as it was before."""
    process = psutil.Process(strict.process.pid)
    all_of_them = hostile.requests(SEED, N_REQUESTS)
    # what is loaded and held for good by the first ones is no leak
    warm = hostile.requests(SEED + 1, N_REQUESTS // 4)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: _answer(strict.address, one), warm))
        _settle(strict, 0)
        fds, memory = process.num_fds(), strict.resident_bytes()
        slow = [socket.create_connection(strict.address) for _ in range(N_SLOW)]
        for number, one in enumerate(slow):
            one.sendall(b"GET /health HTTP/1.1\r\nX: "[: number % 25])
        answered = pool.map(lambda one: (one, _answer(strict.address, one)), all_of_them)
        statuses: set[int] = set()
        wrong: list[str] = []
        for request, answer in answered:
            wrong.append(_wrong(request, answer))
            statuses |= _statuses(answer)
            assert httpx.get(f"{strict.url}/health").json() == {"status": "ok"}
    assert not list(filter(None, wrong))
    assert {200, 400, 404, 405, 408, 413, 415, 422} <= statuses
    log = strict.log()
    assert not [line for line in log if line["level"] == "error" or "exception" in line]
    for one in slow:  # those that never end their headers are not waited for
        one.settimeout(2 * 75)
        one.recv(1)
        one.close()
    _settle(strict, fds)
    assert process.num_fds() <= fds
    assert strict.resident_bytes() - memory < 30e6


def _settle(running: Gateway, fds: int) -> None:
    """Returns once no request is left, and no more than so many descriptors where they count."""
    process, until = psutil.Process(running.process.pid), time.monotonic() + WAIT_S
    while time.monotonic() < until:
        idle = "requests_in_flight 0.0" in httpx.get(running.metrics).text
        if idle and (not fds or process.num_fds() <= fds):
            return
        time.sleep(0.2)
