"""Uploads that go on where a connection was lost, by tus 1.0 (creation, with upload, termination).

They wait here for the job that is to have them; see jobs.py.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from voxroute_gateway.answers import JSON, as_json, response
from voxroute_gateway.description import (
    BINARY,
    INTEGER,
    STRING,
    Operation,
    Schema,
    one_of,
    required,
    whole,
)
from voxroute_gateway.errors import RequestError, bad_field
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.uploads import CHUNK_BYTES, Spool, check_encoding, whole_number

_VERSION = "1.0.0"
_BYTES = "application/offset+octet-stream"

_TOLD = {JSON: whole(upload_id=STRING, offset=INTEGER, length=INTEGER)}
_TUS: Schema = {"Tus-Resumable": one_of(_VERSION)}
_COUNT = required({**INTEGER, "minimum": 0})


@dataclass(slots=True)
class _Upload:
    """One that is kept."""

    spool: Spool
    length: int
    """Bytes of the whole."""
    expiry: asyncio.TimerHandle | None = None
    users: int = 0
    writer: "asyncio.Task[Any] | None" = None
    """The request that adds bytes."""


class ResumableUploads:
    """The routes below /api/uploads, and what has come by them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._settings = gateway.settings
        self._uploads: dict[str, _Upload] = {}

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        one = "/api/uploads/{upload_id}"
        return [
            web.options("/api/uploads", self.offer),
            web.post("/api/uploads", self.create),
            web.get(one, self.tell),
            web.patch(one, self.go_on),
            web.delete(one, self.remove),
        ]

    @Operation({204: {}}, (404, 412), headers=_TUS)
    async def offer(self, request: web.Request) -> web.Response:
        """What of tus there is."""
        self._check(request)
        headers = {
            "Tus-Resumable": _VERSION,
            "Tus-Version": _VERSION,
            "Tus-Extension": "creation,creation-with-upload,termination",
            "Tus-Max-Size": str(self._settings.max_upload_bytes),
        }
        return web.Response(status=204, headers=headers)

    @Operation(
        {201: _TOLD},
        (403, 404, 408, 412, 415, 429, 503),
        headers={**_TUS, "Upload-Length": _COUNT},
        body={_BYTES: BINARY},
        body_required=False,
    )
    async def create(self, request: web.Request) -> web.Response:
        """A new upload of `Upload-Length` bytes; those of the body are its first."""
        self._check(request)
        length = whole_number(request.headers.get("Upload-Length", ""), "Upload-Length")
        if not length:
            raise bad_field("Upload-Length", "the file is empty")
        limit = self._settings.max_upload_bytes
        if length > limit:
            raise RequestError(413, f"an upload has at most {limit} bytes", "limit_exceeded")
        if request.can_read_body:
            _check_type(request)
        if len(self._uploads) >= self._settings.max_uploads:
            raise RequestError(429, "all places for uploads are taken", "uploads_full")
        upload_id = uuid.uuid4().hex
        upload = self._uploads[upload_id] = _Upload(Spool(limit), length)
        async with self._using(upload_id, upload):
            try:
                if request.can_read_body:
                    await self._add(upload, request)
            except BaseException:
                self._uploads.pop(upload_id, None)  # nobody was told its id
                raise
        answer = response(as_json(_content(upload_id, upload), _headers(upload)), 201)
        answer.headers["Location"] = f"/api/uploads/{upload_id}"
        return answer

    @Operation({200: _TOLD}, (404, 412), headers=_TUS)
    async def tell(self, request: web.Request) -> web.Response:
        """How much of it is here.

        A PATCH on its way ends: a client that asks has lost its connection.
        """
        self._check(request)
        upload_id, upload = self._named(request)
        async with self._using(upload_id, upload):
            await _stop_adding(upload)
        headers = {**_headers(upload), "Cache-Control": "no-store"}
        return response(as_json(_content(upload_id, upload), headers))

    @Operation(
        {204: {}},
        (403, 404, 408, 409, 412, 415, 503),
        headers={**_TUS, "Upload-Offset": _COUNT},
        body={_BYTES: BINARY},
    )
    async def go_on(self, request: web.Request) -> web.Response:
        """The next bytes, from `Upload-Offset` on. Raises RequestError where they are others."""
        self._check(request)
        _check_type(request)
        offset = whole_number(request.headers.get("Upload-Offset", ""), "Upload-Offset")
        upload_id, upload = self._named(request)
        async with self._using(upload_id, upload):
            await _stop_adding(upload)
            if offset != upload.spool.size:
                raise RequestError(
                    409, f"go on with byte {upload.spool.size}", "offset", "Upload-Offset"
                )
            await self._add(upload, request)
        return web.Response(status=204, headers=_headers(upload))

    @Operation({204: {}}, (403, 404, 412), headers=_TUS)
    async def remove(self, request: web.Request) -> web.Response:
        """Forgets it."""
        self._check(request)
        upload_id, upload = self._named(request)
        await _stop_adding(upload)
        self._drop(upload_id)
        return web.Response(status=204, headers={"Tus-Resumable": _VERSION})

    @contextlib.asynccontextmanager
    async def whole(self, upload_id: str) -> AsyncGenerator[Spool | None]:
        """The bytes of an upload for a job, forgotten after a block that went well.

        None where there is no such upload. Raises RequestError for one that is not complete.
        """
        upload = self._uploads.get(upload_id)
        if upload is None:
            yield None
            return
        if not upload.spool.complete:
            n = upload.spool.size
            raise bad_field("upload_id", f"only {n} of {upload.length} bytes are here")
        async with self._using(upload_id, upload):
            yield upload.spool
            self._uploads.pop(upload_id, None)

    async def close(self, app: web.Application) -> None:
        """Forgets all."""
        del app
        for upload_id in list(self._uploads):
            self._drop(upload_id)

    async def _add(self, upload: _Upload, request: web.Request) -> None:
        """Adds the body. Raises RequestError where it is longer than the rest, or stops coming."""
        spool, idle_s = upload.spool, self._settings.upload_idle_s
        upload.writer = asyncio.current_task()
        try:
            async with asyncio.timeout(idle_s) as patience:
                async for data in request.content.iter_chunked(CHUNK_BYTES):
                    if spool.size + len(data) > upload.length:
                        raise RequestError(
                            413,
                            f"more bytes than the {upload.length} of Upload-Length",
                            "limit_exceeded",
                        )
                    await spool.write(data)
                    patience.reschedule(asyncio.get_running_loop().time() + idle_s)
        except TimeoutError as error:
            raise RequestError(408, "no more bytes have come", "timeout") from error
        finally:
            upload.writer = None
        if spool.size == upload.length:
            spool.finish()

    def _check(self, request: web.Request) -> None:
        """Raises RequestError for another version of tus, and where no job could have the bytes."""
        self._gateway.jobs  # noqa: B018 - raises
        if request.headers.get("Tus-Resumable", _VERSION) != _VERSION:
            raise RequestError(
                412, f"this is tus {_VERSION}", "tus_version", "Tus-Resumable",
                more={"Tus-Version": _VERSION},
            )  # fmt: skip

    def _named(self, request: web.Request) -> tuple[str, _Upload]:
        upload_id = request.match_info["upload_id"]
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise RequestError(
                404, "there is no such upload; begin again", "upload_not_found", "upload_id"
            )
        return upload_id, upload

    @contextlib.asynccontextmanager
    async def _using(self, upload_id: str, upload: _Upload) -> AsyncGenerator[None]:
        """Keeps the upload for the block, and for its time after it."""
        if upload.expiry is not None:
            upload.expiry.cancel()
        upload.users += 1
        try:
            yield
        finally:
            upload.users -= 1
            if self._uploads.get(upload_id) is not upload:
                self._close(upload)
            elif not upload.users:
                loop = asyncio.get_running_loop()
                idle_s = self._settings.upload_idle_s
                upload.expiry = loop.call_later(idle_s, self._drop, upload_id)

    def _drop(self, upload_id: str) -> None:
        upload = self._uploads.pop(upload_id, None)
        if upload is not None:
            self._close(upload)

    def _close(self, upload: _Upload) -> None:
        """Gives the disk back once nobody reads or writes it."""
        if upload.expiry is not None:
            upload.expiry.cancel()
        if not upload.users:
            upload.spool.close()


async def _stop_adding(upload: _Upload) -> None:
    """Ends the request that adds bytes, if there is one."""
    while upload.writer is not None:
        upload.writer.cancel()
        await asyncio.wait([upload.writer])


def _headers(upload: _Upload) -> dict[str, str]:
    return {
        "Tus-Resumable": _VERSION,
        "Upload-Offset": str(upload.spool.size),
        "Upload-Length": str(upload.length),
    }


def _content(upload_id: str, upload: _Upload) -> dict[str, object]:
    return {"upload_id": upload_id, "offset": upload.spool.size, "length": upload.length}


def _check_type(request: web.Request) -> None:
    if request.content_type != _BYTES:
        raise RequestError(415, f"send the bytes as {_BYTES}", "content_type", "Content-Type")
    check_encoding(request)
