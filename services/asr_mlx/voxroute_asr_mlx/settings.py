"""What this service takes on top of every speech service's settings."""

from pydantic import Field, TypeAdapter, field_validator

from voxroute_serving.process.settings import AsrSettings, ListenAddress, MetricsAddress, StringList

_ADDRESSES = TypeAdapter(list[ListenAddress])


class MlxSettings(AsrSettings):
    """The flags and variables of the MLX service."""

    listen: StringList = Field(
        default=["127.0.0.1:50052"],
        min_length=1,
        description=AsrSettings.model_fields["listen"].description,
    )
    metrics_listen: MetricsAddress = Field(
        default="127.0.0.1:9152",
        description=AsrSettings.model_fields["metrics_listen"].description,
    )
    model_dirs: StringList = Field(
        default=[],
        description="local directories of further models that a request may name by their last"
        " part, with commas; other directories of this machine are out of a client's reach",
    )
    cpu_threads: int = Field(
        default=0,
        ge=0,
        description="threads that share a batch on the CPU; 0 for all processors. More than there"
        " are processors makes it slower",
    )

    @field_validator("listen")
    @classmethod
    def _addresses(cls, listen: list[str]) -> list[str]:
        return _ADDRESSES.validate_python(listen)
