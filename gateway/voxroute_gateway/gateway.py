"""What every interface works with: the settings, the services, the limits."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from aiohttp import web

from voxroute.asr.v1 import asr_pb2
from voxroute_gateway.errors import RequestError
from voxroute_gateway.live.places import LivePlaces
from voxroute_gateway.live.secrets import Secrets
from voxroute_gateway.live.session import TranscriptionSession
from voxroute_gateway.recognition import Call, recognise
from voxroute_gateway.settings import GatewaySettings
from voxroute_gateway.uploads import Fields, Pace, Spool, SpooledAudio, receive
from voxroute_gateway.upstream import Upstream
from voxroute_orchestrator.client.jobs import JobClient
from voxroute_orchestrator.subtitles.rules import CueRules


@dataclass(frozen=True, slots=True)
class Gateway:
    """The one of a process."""

    settings: GatewaySettings
    upstream: Upstream
    rules: CueRules
    version: str
    job_client: JobClient | None = None
    """None where no job service is set."""
    secrets: Secrets[TranscriptionSession] = field(default_factory=Secrets[TranscriptionSession])
    """Short-lived tokens for live speech."""
    live: LivePlaces = field(init=False)
    """Places of connections for it."""

    def __post_init__(self) -> None:
        most = self.settings.max_live_connections
        object.__setattr__(self, "live", LivePlaces(self.upstream.room.metrics, most))

    @property
    def jobs(self) -> JobClient:
        """The job service. Raises RequestError where there is none."""
        if self.job_client is None:
            raise RequestError(
                404,
                "this gateway has no job service; its operator sets --jobs-endpoint",
                "no_job_service",
            )
        return self.job_client

    @contextlib.asynccontextmanager
    async def received(
        self, request: web.Request, part_name: str, *, samples: bool = False
    ) -> AsyncGenerator[SpooledAudio]:
        """The form's file, all of it; it is gone at the end of the block. Raises RequestError."""
        spool = Spool(self.settings.max_upload_bytes)
        try:
            await receive(request, spool, part_name, self._pace(), lambda _: None)
            yield SpooledAudio(spool, samples)
        finally:
            spool.close()

    def _pace(self) -> Pace:
        return Pace(self.settings.idle_timeout_s, self.settings.min_bytes_per_s)

    @contextlib.asynccontextmanager
    async def hearing(
        self,
        request: web.Request,
        part_name: str,
        options: Callable[[Fields], asr_pb2.TranscribeConfig],
        *,
        samples: bool = False,
    ) -> AsyncGenerator[tuple[Fields, Call]]:
        """The form's fields, and a call for its file; it is cancelled at the end of the block.

        Where fields come in front of the file, the call begins with the file's first bytes, and
        begins again where what follows the file asks for something else. Raises RequestError.
        """
        spool = Spool(self.settings.max_upload_bytes)
        audio = SpooledAudio(spool, samples)
        calls: list[tuple[asr_pb2.TranscribeConfig, Call]] = []

        def call(asked: asr_pb2.TranscribeConfig) -> None:
            calls.append((asked, Call(recognise(self.upstream, audio, asked))))

        def began(fields: Fields) -> None:
            if fields or request.query_string:
                call(options(fields))

        try:
            fields = await receive(request, spool, part_name, self._pace(), began)
            asked = options(fields)
            if calls and calls[-1][0] != asked:
                await calls.pop()[1].stop()
            if not calls:
                call(asked)
            yield fields, calls[-1][1]
        finally:
            for _, one in calls:
                await one.stop()
            spool.close()
