"""What servers that let the services work are told of them."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.settings import Settings, load
from voxroute_serving.errors import InvalidInputError
from voxroute_serving.process.settings import ListeningSettings, LogSettings, StringList


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


class EngineSettings(LogSettings):
    """What a process is told of the NATS servers on which several services share their jobs."""

    engine: Annotated[StringList, AfterValidator(_servers)] = Field(
        default=[],
        description="nats://HOST:PORT or tls://HOST:PORT of the NATS server that keeps the jobs of"
        " several services, which share the folder of their data; of a cluster, several of its"
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
