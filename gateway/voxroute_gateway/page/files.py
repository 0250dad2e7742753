"""The files of the page, as they are in the package, and what a browser may do with them."""

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web

from voxroute_gateway.answers import TEXT
from voxroute_gateway.description import STRING, Operation
from voxroute_gateway.errors import RequestError

FOLDER = "/ui/"
_KINDS = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "txt": TEXT,
}
_POLICY = (
    "default-src 'self'; "
    "media-src 'self' blob:; "  # a film that the person has on a disk
    "connect-src 'self'; "
    "object-src 'none'; "
    "base-uri 'none'; "
    "form-action 'self'; "
    "frame-ancestors 'none'"
)
_SURE = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    # asked each time, and answered in a line: a new version is seen at once
    "Cache-Control": "no-cache",
}
_CONTENTS = dict.fromkeys(sorted(set(_KINDS.values())), STRING)


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    kind: str
    tag: str


class PageFiles:
    """The routes of the page's files; those are few, and are kept in memory."""

    def __init__(self) -> None:
        root = resources.files("voxroute_gateway") / "web"
        self._files = dict(_found(root, ""))

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        return [web.get("/", self.start), web.get(FOLDER + "{path:.+}", self.file)]

    @Operation({200: {"text/html": STRING}, 304: {}}, headers={"If-None-Match": STRING})
    async def start(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        return _told(request, self._files["index.html"])

    @Operation({200: _CONTENTS, 304: {}}, (404,), headers={"If-None-Match": STRING})
    async def file(self, request: web.Request) -> web.StreamResponse:
        """A file of the page."""
        found = self._files.get(request.match_info["path"])
        if found is None:
            raise RequestError(404, "the page has no such file", "file_not_found")
        return _told(request, found)


def _found(folder: Traversable, path: str) -> "list[tuple[str, _File]]":
    files: list[tuple[str, _File]] = []
    for one in folder.iterdir():
        if one.is_dir():
            files += _found(one, f"{path}{one.name}/")
        elif (kind := _KINDS.get(one.name.rpartition(".")[2])) is not None:
            data = one.read_bytes()
            tag = hashlib.sha256(data).hexdigest()[:32]
            files.append((path + one.name, _File(data, kind, tag)))
    return files


def _told(request: web.Request, file: _File) -> web.Response:
    known = request.if_none_match or ()
    same = any(one.value in {file.tag, "*"} for one in known)
    answer = web.Response(status=304) if same else web.Response(body=file.data)
    if not same:
        answer.content_type, answer.charset = file.kind, "utf-8"
    answer.headers.update(_SURE)
    answer.etag = file.tag
    return answer
