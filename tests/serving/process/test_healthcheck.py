"""The command that asks a service for its health, against a real server."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.serving.tiny_app import ASR_NAME
from voxroute_serving import healthcheck
from voxroute_serving.metrics import Metrics
from voxroute_serving.process.server import ServiceServer
from voxroute_serving.process.settings import ServerSettings


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[ServiceServer]:
    """A server on a port and on a socket, not serving yet."""
    listen = ["127.0.0.1:0", f"unix:{tmp_path}/s"]
    made = ServiceServer([ASR_NAME], ServerSettings(listen=listen, metrics_listen=""), Metrics())
    await made.start()
    yield made
    await made.stop()


async def check(*arguments: str, listen: str = "") -> int:
    """The exit code for these arguments."""
    environment = {healthcheck.LISTEN: listen}
    return await asyncio.to_thread(healthcheck.main, arguments, environment)


async def test_a_service_that_loads_is_not_healthy_and_one_that_serves_is(
    server: ServiceServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 for SERVING alone; otherwise 1 and the status."""
    for address in server.addresses:
        assert await check(address) == 1
        assert "NOT_SERVING" in capsys.readouterr().err
    server.open()
    for address in server.addresses:
        assert await check(address) == 0
        assert await check(address, "--service", ASR_NAME) == 0
    assert not capsys.readouterr().err
    assert await check(server.addresses[0], "--service", "voxroute.none.v1.None") == 1
    assert "NOT_FOUND" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_by_http_a_status_other_than_200_is_not_healthy(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is what does not answer."""
    status, asked = "200 OK", list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    if kind == "unix":
        address = f"unix:{tmp_path}/s"
        server = await asyncio.start_unix_server(answer, tmp_path / "s")
    else:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        assert await check(address, "--by", "http") == 0
        status = "503 Service Unavailable"
        assert await check(address, "--by", "http") == 1
        assert "status 503" in capsys.readouterr().err
    assert asked == [b"GET /health HTTP/1.1\r\n"] * 2
    assert await check(address, "--by", "http") == 1


async def test_the_address_comes_from_the_services_own_variable(server: ServiceServer) -> None:
    """A container names its address once."""
    server.open()
    assert await check(listen=",".join(server.addresses)) == 0
    assert await check("127.0.0.1:1", "--timeout-s", "1", listen=server.addresses[0]) == 1


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("0.0.0.0:50051, unix:/run/x", "unix:/run/x"),
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:50051", "[::1]:50051"),
        ("10.0.0.7:50051,127.0.0.1:1", "10.0.0.7:50051"),
        (" ,", None),
    ],
)
def test_a_socket_is_asked_before_a_port(listen: str, asked: str | None) -> None:
    """A socket speaks without TLS; what stands for all addresses is asked by the loopback."""
    assert healthcheck.target(listen) == asked


def test_without_an_address_the_usage_is_told() -> None:
    """Exit code 2, as for every command."""
    command = [sys.executable, "-m", "voxroute_serving.healthcheck"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={}, timeout=60)
    assert done.returncode == 2
    assert healthcheck.LISTEN in done.stderr
