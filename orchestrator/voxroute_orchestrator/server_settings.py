"""What servers that let the services work are told of them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.errors import UsageError
from voxroute_orchestrator.settings import Settings, load
from voxroute_serving.errors import InvalidInputError
from voxroute_serving.process.settings import ProcessSettings, StringList


class ClientServerSettings(ProcessSettings):
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
