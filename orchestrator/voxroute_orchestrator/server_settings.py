"""What servers that let the services work are told of them."""

import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

import platformdirs
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.engines import backend_name
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.settings import Settings, load
from voxroute_serving.errors import InvalidInputError
from voxroute_serving.process.settings import (
    Device,
    ListeningSettings,
    LogSettings,
    ServerSettings,
    StringList,
)

_MOST_PREFIX = 200  # of the 1024 bytes of a key
_COPIES = 3  # of a cluster: one server may go, and the others agree


def _server(address: str) -> str:
    if "@" in address:  # which is not repeated: it may hold a password
        raise ValueError("an address tells nobody's name; name a file with --engine-credentials")
    if not re.fullmatch(r"(nats|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}", address):
        raise ValueError(f"{address!r} is no address; write nats://HOST:PORT, or tls://HOST:PORT")
    return address


def _servers(addresses: list[str]) -> list[str]:
    """The addresses; the scheme of the first is that of those that have none."""
    scheme, slashes, _ = addresses[0].partition("://") if addresses else ("", "", "")
    found = [
        _server(one if "://" in one or not slashes else f"{scheme}://{one}") for one in addresses
    ]
    if len({one.partition("://")[0] for one in found}) > 1:
        raise ValueError("the addresses begin with nats:// or with tls://, all of them alike")
    return found


def _files(where: str) -> str:
    if where in {"folder", "server"}:
        return where
    url = urlsplit(where)
    if "@" in where:  # which is not repeated: it may hold a password
        raise ValueError("an address tells nobody's name; AWS_ACCESS_KEY_ID does, and its like")
    asked = dict(parse_qsl(url.query, keep_blank_values=True))
    endpoint = asked.get("endpoint", "https://")
    if (
        url.scheme != "s3"
        or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", url.netloc)
        or len(url.path) > _MOST_PREFIX
        or not re.fullmatch(r"(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?", url.path)
        or asked.keys() - {"endpoint", "region"}
        or not endpoint.startswith(("https://", "http://"))
        or url.fragment
    ):
        raise ValueError(
            f"{where!r} is none of folder, server, and s3://BUCKET/PREFIX, which may end with"
            " ?endpoint=URL and &region=NAME"
        )
    return where


class EngineSettings(LogSettings):
    """What a process is told of the NATS servers on which several services share their jobs."""

    engine: Annotated[StringList, AfterValidator(_servers)] = Field(
        default=[],
        description="nats://HOST:PORT or tls://HOST:PORT of the NATS server that keeps the jobs of"
        " several services; of a cluster, several of its"
        " servers with commas (nats://a:4222,b:4222,c:4222). A service without it keeps its jobs in"
        " its folder, alone",
    )
    engine_credentials: Path | None = Field(
        default=None,
        description="file that says who the service is there: the seed of an NKey, USER:PASSWORD,"
        " or a credentials file of NATS. Read again for every connection",
    )
    engine_tls_ca: Path | None = Field(
        default=None,
        description="PEM file of the CAs of those servers, and TLS towards them; with tls:// alone,"
        " those of this host",
    )
    engine_tls_cert: Path | None = Field(
        default=None,
        description="PEM file with the certificate that the service shows them, for servers that"
        " verify clients",
    )
    engine_tls_key: Path | None = Field(default=None, description="PEM file with its private key")

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if (self.engine_tls_cert is None) != (self.engine_tls_key is None):
            raise ValueError("--engine-tls-cert and --engine-tls-key go together; one is missing")
        if not self.engine and (self.engine_credentials or self.engine_tls_ca):
            raise ValueError("--engine-credentials and --engine-tls-ca are for --engine; name it")
        return self


class ClientServerSettings(ListeningSettings):
    """What a server that is a client of the services takes on top of what every process takes."""

    model_config = SettingsConfigDict(
        # as the other commands call them
        cli_shortcuts={
            "asr-endpoints": "asr-endpoint",
            "translate-endpoints": "translate-endpoint",
        }
    )

    asr_endpoints: StringList = Field(
        default=[],
        description="running speech services, several with commas; none: a local one is started"
        " where one is needed",
    )
    translate_endpoints: StringList = Field(
        default=[], description="running translation services; likewise"
    )
    config: Path | None = Field(
        default=None, description="settings file of the command; else voxroute.yaml"
    )

    def of_command(self) -> Settings:
        """The command's settings with these. Raises InvalidInputError, which ends the process."""
        try:
            return load(
                offline=self.offline,
                asr_endpoints=",".join(self.asr_endpoints),
                translate_endpoints=",".join(self.translate_endpoints),
                config=self.config,
                tracing=self.tracing,
                log_text=self.log_text,
                **credentials.flags,
            )
        except UsageError as error:
            raise InvalidInputError(str(error)) from error


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, (str, Path)) else value


# the last one: its flags have shorter names too, and the last model_config is the one that counts
class JobServerSettings(ServerSettings, EngineSettings, ClientServerSettings):
    """What the job service is told."""

    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("voxroute"),
        description="folder of the jobs: the store, uploads, journals, results. Grows by every"
        " upload; only one job service at a time works in it",
    )
    max_jobs: int = Field(
        default=1,
        ge=1,
        description="jobs that run at once. Too low leaves services idle, too high lets jobs wait"
        " for each other in the services' queues",
    )
    engine_replicas: int = Field(
        default=0,
        ge=0,
        le=5,
        description="servers of the cluster that keep each job; 0 for 3 where --engine names"
        " several, else 1. Of 3, one may go. More are kept from the next start on, fewer never",
    )
    engine_files: Annotated[str, AfterValidator(_files)] = Field(
        default="folder",
        description="where uploads, results and revisions are with --engine: in the folder"
        " --data-dir, which all services share then; or on the server, or in s3://BUCKET/PREFIX, so"
        " that each service has a --data-dir of its own, for copies. The same for all services",
    )
    engine_lease_s: float = Field(
        default=30.0,
        ge=1,
        description="seconds without a word of a service after which its jobs are another one's."
        " Too low has jobs repeat a window on a slow network, too high lets them wait",
    )
    workers: bool = Field(
        default=False,
        description="let `voxroute worker` processes on the server of --engine come for parts of"
        " the jobs, beside the services of --asr-endpoint; without such, no local one is started",
    )
    media_root: Annotated[list[Path], NoDecode, BeforeValidator(_one_or_more)] = Field(
        default=[],
        description="folder whose files clients may name instead of uploading them; repeat it for"
        " several. Every client can have what is in it transcribed; none by default",
    )
    max_queued_per_client: int = Field(
        default=0,
        ge=0,
        description="jobs of one client that may wait, by the name of its token; 0 for any number."
        " Too low refuses whole folders of recordings, too high lets one client fill the disk",
    )
    keep_days: float = Field(
        default=0.0,
        ge=0,
        description="days after its end at which a job is deleted, with its files; 0 for never."
        " Too low loses results that nobody has fetched yet",
    )
    max_upload_bytes: int = Field(
        default=20 * 1024**3,
        ge=1,
        description="largest upload, bytes. Too low refuses films, too high lets one client fill"
        " the disk",
    )
    max_audio_s: float = Field(
        default=4 * 3600.0,
        gt=0,
        description="longest recording, seconds of the part that is wanted of it; a longer one"
        " fails. Too low refuses films, too high lets one job keep the others waiting for days",
    )
    drain_s: float = Field(
        default=10.0,
        ge=0,
        description="seconds that uploads get to finish after SIGTERM; jobs do not need them",
    )
    model: str = Field(default="", description="speech model of jobs that name none")
    translate_model: str = Field(default="", description="translation model, likewise")
    backend: Annotated[str, AfterValidator(backend_name)] = Field(
        default="auto", description="engine that recognises speech"
    )
    device: Device = Field(default="auto", description="hardware of jobs that name none")

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.copies and not self.engine:
            raise ValueError("--engine-files is for --engine; name the server with it")
        return self

    @property
    def copies(self) -> bool:
        """Whether `data_dir` has nothing that is not elsewhere as well."""
        return self.engine_files != "folder"

    @property
    def replicas(self) -> int:
        """How many servers keep each job."""
        return self.engine_replicas or (_COPIES if len(self.engine) > 1 else 1)
