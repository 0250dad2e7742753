"""What a service of Whisper models takes on top of every speech service's settings."""

from pydantic import Field

from voxroute_serving.process.settings import AsrSettings, StringList


class WhisperSettings(AsrSettings):
    """The flags and variables of every engine of Whisper."""

    model_dirs: StringList = Field(
        default=[],
        description="local directories of further models that a request may name by their last"
        " part, with commas; other directories of this machine are out of a client's reach",
    )
    cpu_threads: int = Field(
        default=0,
        ge=0,
        description="threads of the recogniser on the CPU; 0 for all processors. More than there"
        " are processors makes it slower",
    )
