"""What the gateway can be told, by flags and VOXROUTE_ variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from voxroute_serving.process.settings import (
    ListenAddresses,
    MetricsAddress,
    ServerSettings,
    StringList,
    listen_on,
    metrics_on,
)


class GatewaySettings(ServerSettings):
    """What the gateway takes on top of what every service takes."""

    model_config = SettingsConfigDict(
        # as the command calls them
        cli_shortcuts={
            "asr-endpoints": "asr-endpoint",
            "translate-endpoints": "translate-endpoint",
        }
    )

    listen: ListenAddresses = listen_on(8000)
    metrics_listen: MetricsAddress = metrics_on(9155)
    asr_endpoints: StringList = Field(
        default=[],
        description="running speech services, several with commas; none: the first request that"
        " needs one starts a local one",
    )
    translate_endpoints: StringList = Field(
        default=[], description="running translation services; likewise"
    )
    model: str = Field(default="", description="speech model of requests that name none of ours")
    translate_model: str = Field(default="", description="translation model, likewise")
    config: Path | None = Field(
        default=None, description="settings file of the command; else voxroute.yaml"
    )
    max_upload_bytes: int = Field(
        default=20 * 1024**3,
        ge=1,
        description="largest upload, bytes; it is kept in the folder for temporary files (TMPDIR)"
        " while it is worked on. Too low refuses films, too high lets one client fill the disk",
    )
    max_waiting: int = Field(
        default=64,
        ge=0,
        description="requests that may wait at once while the services are full; one more gets"
        " 429. Too low sends programs away that take a 429 for the end, too high fills the disk"
        " with uploads",
    )
    heartbeat_s: float = Field(
        default=15.0,
        gt=0,
        description="seconds after which a client that waits for JSON is sent a blank line, again"
        " and again, so that its time-out does not end a long recording. Too high for clients with"
        " short time-outs; too low takes the status from errors of short recordings",
    )
