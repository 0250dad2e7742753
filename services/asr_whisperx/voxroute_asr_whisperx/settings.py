"""What this service takes on top of every speech service's settings."""

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from voxroute_serving.asr.whisper.settings import WhisperSettings
from voxroute_serving.process.settings import (
    ListenAddresses,
    MetricsAddress,
    StringList,
    listen_on,
    metrics_on,
)

DEVICES = r"^(auto|cpu|mps|cuda(:(all|\d+(,\d+)*))?)$"


class WhisperXSettings(WhisperSettings):
    """The flags and variables of the WhisperX service."""

    listen: ListenAddresses = listen_on(50051)
    metrics_listen: MetricsAddress = metrics_on(9151)
    device: Annotated[str, StringConstraints(pattern=DEVICES)] = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - wider than the base's, and frozen
        default="auto",
        description="the hardware that runs the models: auto, cpu, cuda (the first GPU), cuda:1,"
        " cuda:0,2 or cuda:all: several GPUs work on one queue",
    )
    align_models: StringList = Field(
        default=[],
        description="wav2vec2 models that give words their times, LANGUAGE=DIR or LANGUAGE=HUB_ID"
        " with commas; a language that is not named takes WhisperX's own model for it",
    )
    align_downloads: bool = Field(
        default=False,
        description="whether WhisperX's own alignment models may be downloaded when they are first"
        " needed (0.4 to 4 GB for each language); otherwise only those that are here count",
    )
    diarization_model: str = Field(
        default="",
        description="the pyannote pipeline that tells speakers apart: a local directory, or a hub"
        " id (pyannote/speaker-diarization-community-1; gated, so with HF_TOKEN). Empty for none."
        " It takes some 0.5 GB beside the recogniser and, for a recording at a time, all of the"
        " device",
    )

    @field_validator("align_models")
    @classmethod
    def _pairs(cls, pairs: list[str]) -> list[str]:
        for pair in pairs:
            language, _, model = pair.partition("=")
            if not (language and model):
                raise ValueError(
                    f"{pair!r}: write LANGUAGE=DIR or LANGUAGE=HUB_ID, as in hi=/models/align-hi"
                )
        return pairs

    @property
    def align_model_of(self) -> dict[str, str]:
        """Language to directory or hub id."""
        return dict(pair.split("=", 1) for pair in self.align_models)
