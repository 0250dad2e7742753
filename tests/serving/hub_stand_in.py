"""A model hub on loopback: the few addresses that huggingface_hub asks, with the hub's headers.

huggingface_hub reads its settings from the environment when it is imported, and the tests run with
its offline switch on: whoever is to ask this hub is a process of its own, with `environment`.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_somebody_with_access"  # noqa: S105 - a name for it
CONFIG = b'{"model_type": "whisper"}'
LARGE_BYTES = 100_000  # from this size on a file has a SHA-256, as those of Git LFS
# status and X-Error-Code as the hub sends them, at any address of a model
REFUSALS = {
    "shop/nothing": (401, "RepoNotFound"),
    "shop/old": (404, "RevisionNotFound"),
    "shop/broken": (500, ""),
}


@dataclass
class Hub:
    """What the hub has and how it behaves; and what it was asked."""

    address: str = ""
    models: dict[str, dict[str, bytes]] = field(
        default_factory=lambda: {
            "shop/whisper": {"config.json": CONFIG},
            "shop/gated": {"config.json": CONFIG, "model.bin": b"weights"},
        }
    )
    gated: set[str] = field(default_factory=lambda: {"shop/gated"})
    """Models whose files are given to TOKEN only."""
    cut_at: int | None = None
    """Bytes of a large file after which the connection breaks, once."""
    spoil: bool = False
    """Whether a byte of every large file is changed on its way."""
    asked: list[str] = field(default_factory=list[str])
    """Method, path and range of every request for a file's content."""

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a process that asks this hub and keeps what it gets in a folder."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and not name.startswith(("VOXROUTE_", "HF_"))
        }
        return inherited | {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            **more,
        }


def digest(content: bytes) -> str:
    """What the hub calls the ETag: SHA-256 of a large file, git's SHA-1 of another."""
    if len(content) >= LARGE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return cast("_Server", self.server).hub

    def do_GET(self) -> None:
        """The listing of a model at a revision, or its file."""
        path = self.path.partition("?")[0]
        listing = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models").lstrip("/").split("/")
        name = "/".join(parts[:2])
        if name in REFUSALS:
            self._refuse(*REFUSALS[name])
        elif name not in self.hub.models:
            self._refuse(404, "RepoNotFound")
        elif listing:
            self._list(name)
        elif name in self.hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        else:
            self._file(self.hub.models[name]["/".join(parts[4:])])

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _list(self, name: str) -> None:
        siblings: list[dict[str, Any]] = []
        for file, content in self.hub.models[name].items():
            sibling: dict[str, Any] = {"rfilename": file, "size": len(content)}
            if len(content) >= LARGE_BYTES:
                lfs = {"sha256": digest(content), "size": len(content), "pointerSize": 134}
                siblings.append({**sibling, "blobId": "0" * 40, "lfs": lfs})
            else:
                siblings.append({**sibling, "blobId": digest(content)})
        body = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
        self._answer(200, body, {"Content-Type": "application/json"})

    def _file(self, content: bytes) -> None:
        headers = {
            "ETag": f'"{digest(content)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        status, start = 200, 0
        wanted = self.headers.get("Range", "")
        if self.command == "GET":
            self.hub.asked.append(f"{self.path.rpartition('/')[2]} {wanted}".strip())
        if wanted:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        large = len(content) >= LARGE_BYTES
        if large and self.hub.spoil:
            content = content[:-1] + bytes([content[-1] ^ 1])
        body = content[start:]
        if large and self.command == "GET" and self.hub.cut_at is not None:
            cut, self.hub.cut_at = self.hub.cut_at, None
            self._answer(status, body, headers, cut)
            self.close_connection = True
        else:
            self._answer(status, body, headers)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


@contextlib.contextmanager
def hub_server() -> Generator[Hub]:
    """A running hub."""
    hub = Hub()
    with _Server(hub) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
