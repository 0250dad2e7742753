"""The job service over HTTP: its messages as JSON, its streams as events and as files."""

import asyncio
import contextlib
import uuid
from collections.abc import Generator
from functools import partial
from typing import Any, cast

from aiohttp import web
from google.protobuf.json_format import MessageToDict, MessageToJson, ParseDict, ParseError
from google.protobuf.message import Message

from voxroute.jobs.v1 import jobs_pb2
from voxroute_gateway.answers import (
    JSON,
    Answer,
    File,
    as_json,
    broken,
    comments,
    ended,
    patient,
    response,
    sent,
)
from voxroute_gateway.description import (
    BINARY,
    BOOLEAN,
    EVENTS,
    INTEGER,
    SERVICES,
    STRING,
    Operation,
    array,
    fields,
    message,
    one_of,
)
from voxroute_gateway.errors import RequestError, bad_field, of_failure
from voxroute_gateway.gateway import Gateway
from voxroute_gateway.interfaces.resumable import ResumableUploads
from voxroute_gateway.uploads import json_object, whole_number
from voxroute_orchestrator.client.jobs import JobClient, state_name
from voxroute_orchestrator.errors import UsageError, VoxrouteError

_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
_ENDED = frozenset(_STATES[2:])
_MAX_PAGE = 1000

_JOB = {200: {JSON: message(jobs_pb2.Job)}}
_ERRORS = (404, *SERVICES)
_FILE = {200: {"*/*": BINARY}, 206: {"*/*": BINARY}}
_FILE_ERRORS = (416, *_ERRORS)
_RANGE = {"Range": STRING, "If-Range": STRING}


class Jobs:
    """The routes below /api/jobs."""

    def __init__(self, gateway: Gateway, uploads: ResumableUploads) -> None:
        self._gateway = gateway
        self._uploads = uploads
        self._watching: set[asyncio.Task[Any]] = set()

    def routes(self) -> list[web.RouteDef]:
        """What is answered."""
        one = "/api/jobs/{job_id}"
        return [
            web.post("/api/jobs", self.submit),
            web.get("/api/jobs", self.page),
            web.get(one, self.job),
            web.delete(one, self.delete),
            web.post(f"{one}/cancel", self.cancel),
            web.post(f"{one}/resume", self.resume),
            web.post(f"{one}/retry", self.retry),
            web.get(f"{one}/events", self.events, allow_head=False),
            web.get(f"{one}/artifacts/{{name}}", self.artifact),
            web.get(f"{one}/media", self.media),
            web.get(f"{one}/sound", self.sound),
        ]

    async def leave(self, app: web.Application) -> None:
        """Ends the streams of those who watch jobs; they go on elsewhere, or later."""
        del app
        for task in self._watching:
            task.cancel()

    @Operation(
        {200: {JSON: message(jobs_pb2.SubmitJobResponse)}},
        _ERRORS,
        body={
            JSON: fields(
                ("job",),
                job=message(jobs_pb2.JobConfig),
                upload_id=STRING,
                idempotency_key={**STRING, "maxLength": 128},
            )
        },
    )
    async def submit(self, request: web.Request) -> web.StreamResponse:
        """A job; the same key, or the same upload, makes no second one."""
        client = self._gateway.jobs
        asked = await json_object(request)
        key, upload_id = _text(asked, "idempotency_key"), _text(asked, "upload_id")
        config = _config(asked.get("job"))
        if bool(config.upload_name) != bool(upload_id):
            raise bad_field("upload_id", "it goes with job.upload_name, and only with that")
        work = self._submitted(client, config, key or upload_id or uuid.uuid4().hex, upload_id)
        return await patient(request, work, content_type="application/json")

    async def _submitted(
        self, client: JobClient, config: jobs_pb2.JobConfig, key: str, upload_id: str
    ) -> Answer:
        async with self._uploads.whole(upload_id) as spool:
            media = None if spool is None else spool.chunks
            try:
                reply = await client.submit(config, key=key, media=media)
            except VoxrouteError as error:
                failure = of_failure(error)
                # an upload that has become a job is gone, but that job has its key
                if spool is None and upload_id and failure.param == "data":
                    raise RequestError(
                        404, "there is no such upload; begin again", "upload_not_found", "upload_id"
                    ) from error
                raise
        return as_json(_dict(reply))

    @Operation(
        {200: {JSON: message(jobs_pb2.ListJobsResponse)}},
        _ERRORS,
        query={
            "state": array(one_of(*_STATES)),
            "page_size": {**INTEGER, "minimum": 0, "maximum": _MAX_PAGE},
            "page_token": STRING,
        },
    )
    async def page(self, request: web.Request) -> web.Response:
        """A page of the jobs, the newest first."""
        states = request.query.getall("state", [])
        if not set(states) <= set(_STATES):
            raise bad_field("state", f"write {', '.join(_STATES)}")
        asked = jobs_pb2.ListJobsRequest(
            states=[f"JOB_STATE_{state.upper()}" for state in states],
            page_size=whole_number(request.query.get("page_size") or "0", "page_size", _MAX_PAGE),
            page_token=request.query.get("page_token", ""),
        )
        return response(as_json(_dict(await self._gateway.jobs.page(asked))))

    @Operation(_JOB, _ERRORS)
    async def job(self, request: web.Request) -> web.Response:
        """What a job is and how far."""
        return _told(await self._gateway.jobs.get(request.match_info["job_id"]))

    @Operation({204: {}}, _ERRORS)
    async def delete(self, request: web.Request) -> web.Response:
        """Removes a job that has ended."""
        await self._gateway.jobs.delete(request.match_info["job_id"])
        return web.Response(status=204)

    @Operation(_JOB, _ERRORS)
    async def cancel(self, request: web.Request) -> web.Response:
        """Ends a job; what is finished is kept."""
        return _told(await self._gateway.jobs.cancel(request.match_info["job_id"]))

    @Operation(_JOB, _ERRORS, body={JSON: fields(restart=BOOLEAN)}, body_required=False)
    async def resume(self, request: web.Request) -> web.Response:
        """Queues a job that has ended; `restart` throws away what is finished."""
        client = self._gateway.jobs
        asked = await json_object(request) if request.can_read_body else {}
        restart = asked.get("restart", False)
        if not isinstance(restart, bool):
            raise bad_field("restart", "write true or false")
        return _told(await client.resume(request.match_info["job_id"], restart=restart))

    @Operation(_JOB, _ERRORS)
    async def retry(self, request: web.Request) -> web.Response:
        """Queues a job that has failed."""
        try:
            return _told(await self._gateway.jobs.retry(request.match_info["job_id"]))
        except UsageError as error:
            raise RequestError(422, str(error), "job_state") from error

    @Operation(
        {200: EVENTS, 204: {}},
        _ERRORS,
        query={"after": {**INTEGER, "minimum": 0}},
        headers={"Last-Event-ID": STRING},
    )
    async def events(self, request: web.Request) -> web.StreamResponse:
        """What happens to a job, as server-sent events, until it has ended.

        Each has its number for an id: a client that comes with the last one goes on behind it, and
        gets 204 where nothing follows.
        """
        client, job_id = self._gateway.jobs, request.match_info["job_id"]
        text = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        after = whole_number(text or "0", "after")
        job = await client.get(job_id)
        if state_name(job.state) in _ENDED and after >= job.last_sequence:
            return web.Response(status=204)
        stream = web.StreamResponse(headers={"Cache-Control": "no-cache"})
        stream.content_type, stream.charset = "text/event-stream", "utf-8"
        await stream.prepare(request)
        heartbeat_s = self._gateway.settings.heartbeat_s
        try:
            with self._watched():
                async with (
                    comments(stream, lambda: "waiting", heartbeat_s),
                    contextlib.aclosing(client.watch(job_id, after)) as events,
                ):
                    async for event in events:
                        data = MessageToJson(event, preserving_proto_field_name=True, indent=None)
                        name = event.WhichOneof("event") or "unknown"
                        lines = f"id: {event.sequence}\nevent: {name}\ndata: {data}\n\n"
                        await stream.write(lines.encode())
        except VoxrouteError as error:
            raise broken(request, error) from error
        await ended(request, stream)
        return stream

    @contextlib.contextmanager
    def _watched(self) -> Generator[None]:
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._watching.add(task)
        try:
            yield
        finally:
            self._watching.discard(task)

    @Operation(_FILE, _FILE_ERRORS, headers=_RANGE)
    async def artifact(self, request: web.Request) -> web.StreamResponse:
        """A file of a job's results, or the range of it that is asked for."""
        client, job_id = self._gateway.jobs, request.match_info["job_id"]
        name = request.match_info["name"]
        job = await client.get(job_id)
        found = next((one for one in job.artifacts if one.name == name), None)
        if found is None:
            raise RequestError(404, f"the job has no file {name!r}", "artifact_not_found")
        file = File(name, int(found.bytes), found.sha256)
        return await sent(request, file, partial(client.read, job_id, found))

    @Operation(_FILE, _FILE_ERRORS, headers=_RANGE)
    async def media(self, request: web.Request) -> web.StreamResponse:
        """The job's recording, or the range of it that is asked for."""
        return await self._media(request, sound=False)

    @Operation(_FILE, _FILE_ERRORS, headers=_RANGE)
    async def sound(self, request: web.Request) -> web.StreamResponse:
        """What every browser plays of the recording: its sound, made once, as Opus in WebM."""
        return await self._media(request, sound=True)

    async def _media(self, request: web.Request, *, sound: bool) -> web.StreamResponse:
        client, job_id = self._gateway.jobs, request.match_info["job_id"]
        found = await client.media(job_id, sound=sound)
        file = File(found.name, int(found.bytes), found.version, inline=True, sound=sound)
        return await sent(request, file, partial(client.read_media, job_id, found, sound=sound))


def _told(job: jobs_pb2.Job) -> web.Response:
    return response(as_json(_dict(job)))


def _dict(message: Message) -> dict[str, Any]:
    """The contract's JSON: 64-bit numbers and durations are texts."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _config(content: object) -> jobs_pb2.JobConfig:
    """Reads the contract's JSON. Raises RequestError."""
    if not isinstance(content, dict):
        raise bad_field("job", "send an object")
    try:
        return ParseDict(cast("dict[str, Any]", content), jobs_pb2.JobConfig())
    except (ParseError, TypeError, ValueError, AttributeError) as error:
        raise bad_field("job", str(error)) from error


def _text(asked: dict[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise bad_field(name, "write a text")
    return value
