"""`python -m voxroute_serving.healthcheck [ADDRESS]`: whether a service takes calls.

For container engines and supervisors, which ask by a command. Exit codes: 0 SERVING, 1 anything
else, with a line on stderr that says what; 2 for wrong arguments.

Without ADDRESS it asks the first unix socket of VOXROUTE_LISTEN, else its first address: a socket
speaks without TLS whatever the ports do. It takes 0.2 s, most of it the import of grpc. `--by http`
asks the gateway, by GET /health.
"""

import argparse
import http.client
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LISTEN = "VOXROUTE_LISTEN"
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - to be replaced, not bound
_Status = health_pb2.HealthCheckResponse


def target(addresses: str) -> str | None:
    """The address to ask of those that a service listens on, with commas; None of none.

    An address that stands for all of the host's is asked by way of the host itself.
    """
    parts = [part.strip() for part in addresses.split(",") if part.strip()]
    chosen = next((part for part in parts if part.startswith("unix:")), next(iter(parts), None))
    if chosen is None or chosen.startswith("unix:"):
        return chosen
    host, _, port = chosen.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}:{port}"


def problem(address: str, service: str, timeout_s: float) -> str | None:
    """Why the service takes no calls, as a few words; None where it does."""
    with grpc.insecure_channel(address) as channel:
        # Any: the published types know no stub of the health service
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    status = _Status.ServingStatus.Name(answer.status)
    return None if answer.status == _Status.SERVING else status


class _OverUnix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


def http_problem(address: str, timeout_s: float) -> str | None:
    """As `problem`, of the gateway."""
    path = address.removeprefix("unix:")
    kind = http.client.HTTPConnection if path == address else _OverUnix
    connection = kind(path, timeout=timeout_s)
    try:
        connection.request("GET", "/health", headers={"Host": "localhost"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return None if status == http.HTTPStatus.OK else f"status {status}"


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> int:
    """Asks once; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m voxroute_serving.healthcheck", description="Whether a service takes calls."
    )
    parser.add_argument("address", nargs="?", help=f"HOST:PORT or unix:/PATH; else from {LISTEN}")
    parser.add_argument("--service", default="", help="a service's full name; all of them without")
    parser.add_argument("--by", choices=["grpc", "http"], default="grpc", help="http: the gateway")
    parser.add_argument("--timeout-s", type=float, default=4.0, help="seconds to wait (4)")
    given = parser.parse_args(arguments)
    address = given.address or target(environment.get(LISTEN, ""))
    if address is None:
        parser.error(f"name an address, or set {LISTEN}")
    if given.by == "http":
        found = http_problem(address, given.timeout_s)
    else:
        found = problem(address, given.service, given.timeout_s)
    if found is not None:
        sys.stderr.write(f"{address}: {found}\n")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
