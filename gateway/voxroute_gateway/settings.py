"""What the gateway can be told, by flags and VOXROUTE_ variables."""

from typing import Self

from pydantic import Field, model_validator

from voxroute_orchestrator.server_settings import ClientServerSettings
from voxroute_serving.process.settings import (
    ListenAddresses,
    MetricsAddress,
    StringList,
    is_local,
    listen_on,
    metrics_on,
)


class GatewaySettings(ClientServerSettings):
    """What the gateway takes on top of that."""

    listen: ListenAddresses = listen_on(8000)
    metrics_listen: MetricsAddress = metrics_on(9155)
    wyoming_listen: MetricsAddress = Field(
        default="",
        description="HOST:PORT where Wyoming's protocol is spoken, for Home Assistant; empty for"
        " none. It knows neither tokens nor TLS",
    )
    wyoming_insecure: bool = Field(
        default=False,
        description="whether others may reach wyoming_listen: all of them may then use it, and"
        " what is said can be read on the way. For networks that are trusted",
    )
    jobs_endpoint: str = Field(
        default="", description="the job service that is offered over HTTP; none: there are no jobs"
    )
    model: str = Field(default="", description="speech model of requests that name none of ours")
    translate_model: str = Field(default="", description="translation model, likewise")
    cors_origins: StringList = Field(
        default=[],
        description="origins of web pages whose scripts may use the gateway, such as"
        " https://example.org, several with commas; * for all. None by default",
    )
    allowed_hosts: StringList = Field(
        default=[],
        description="host names by which the gateway may be called, several with commas; any by"
        " default. Where no token is asked for they keep pages out that give their own name this"
        " host's address",
    )
    max_upload_bytes: int = Field(
        default=20 * 1024**3,
        ge=1,
        description="largest upload, bytes; it is kept in the folder for temporary files (TMPDIR)"
        " while it is worked on. Too low refuses films, too high lets one client fill the disk",
    )
    max_uploads: int = Field(
        default=16,
        ge=0,
        description="resumable uploads that may be kept at once for jobs to come; one more gets"
        " 429. Too low turns clients away, too high fills the disk",
    )
    upload_idle_s: float = Field(
        default=3600.0,
        gt=0,
        description="seconds that a resumable upload is kept without a request for it. Too low"
        " loses what a client with a bad connection has sent, too high keeps the disk full",
    )
    max_waiting: int = Field(
        default=64,
        ge=0,
        description="requests that may wait at once while the services are full; one more gets"
        " 429. Too low sends programs away that take a 429 for the end, too high fills the disk"
        " with uploads",
    )
    max_live_connections: int = Field(
        default=64,
        ge=0,
        description="connections for live speech that may be open at once, WebSockets and Wyoming's"
        " together; one more is refused. Too low turns people away, too high lets them fill the"
        " memory",
    )
    max_live_message_bytes: int = Field(
        default=15 * 1024**2,
        ge=64 * 1024,
        description="largest event of a WebSocket for live speech, bytes; a larger one ends its"
        " connection. Too low refuses clients that send long pieces, too high lets a few"
        " connections fill the memory",
    )
    heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        description="seconds after which a client that waits for its answer, or for a place, is"
        " sent a blank line, again and again, so that its time-out does not end the wait. Too high"
        " for clients with short time-outs; too low takes the status from errors of short"
        " recordings",
    )

    @model_validator(mode="after")
    def _wyoming_protected(self) -> Self:
        address = self.wyoming_listen
        if address and not is_local(address) and not self.wyoming_insecure:
            raise ValueError(
                f"{address} can be reached by others, and Wyoming's protocol has neither tokens nor"
                " encryption; listen on 127.0.0.1, or say --wyoming-insecure where the network is"
                " trusted"
            )
        return self
