"""Requests as programs put them on the wire, and their answers."""

import http.client
import json
import re
import socket
from dataclasses import dataclass
from typing import Any

from tests.gateway.conftest import Gateway

FILE, LENGTH = b"<FILE>", b"<LENGTH>"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        """The body, where a strict reader takes it for JSON."""
        assert self.content_type.split(";")[0] == "application/json", self.body
        return json.loads(self.body)


def recorded(text: str, file: bytes = b"") -> bytes:
    """A request from its text: line feeds are CR LF, <FILE> and <LENGTH> are filled in.

    A body after `Transfer-Encoding: chunked` is cut behind the lines of its boundary and behind
    its headers, as aiohttp and undici write forms, and a file into pieces of 64 KiB.
    """
    head, _, body = text.lstrip("\n").partition("\n\n")
    content = _crlf(body).replace(FILE, file)
    if "Transfer-Encoding: chunked" in head:
        return _crlf(head + "\n\n") + _chunked(content)
    return _crlf(head + "\n\n").replace(LENGTH, str(len(content)).encode()) + content


def _crlf(text: str) -> bytes:
    return text.encode().replace(b"\n", b"\r\n")


def _chunked(content: bytes) -> bytes:
    n = 64 * 1024
    pieces = [
        part[at : at + n]
        for part in re.split(rb"(?<=\r\n\r\n)|(?<=BOUNDARY\r\n)", content)
        for at in range(0, len(part), n)
    ]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in [*pieces, b""])


def send(server: Gateway, request: bytes) -> Answer:
    """The answer to a request. Raises OSError or HTTPException where there is no whole one."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        with response:
            content_type = response.getheader("Content-Type") or ""
            return Answer(response.status, content_type, response.read())
