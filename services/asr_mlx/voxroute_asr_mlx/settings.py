"""What this service takes on top of every speech service's settings."""

from voxroute_serving.asr.whisper.settings import WhisperSettings
from voxroute_serving.process.settings import (
    ListenAddresses,
    MetricsAddress,
    listen_on,
    metrics_on,
)


class MlxSettings(WhisperSettings):
    """The flags and variables of the MLX service."""

    listen: ListenAddresses = listen_on(50052)
    metrics_listen: MetricsAddress = metrics_on(9152)
