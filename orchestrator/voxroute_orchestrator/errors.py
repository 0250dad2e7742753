"""The errors that end a command, and the exit code of each.

    VoxrouteError                        1    a defect, here or in a service (also anything else)
    +-- UsageError                       2    a wrong option, setting or subtitle file
    +-- MediaError                       3    the media file cannot be used
    |   +-- MediaNotFoundError                no such file, or no permission
    |   +-- NoAudioError                      it has no audio
    |   +-- CorruptMediaError                 it cannot be decoded
|   +-- MediaStalledError                 nothing more of it could be read, for a long time
    +-- ServiceUnavailableError          4    a service is down, busy or unreachable
    |   +-- LocalServiceError                 one that was started here does not run
    +-- RefusedError                     5    a service refused the request
    |   +-- DeviceMemoryError                 its device is too small, and so is every other's
    |   +-- JobFailedError                    a job of a job service has failed or was cancelled
    +-- OutputError                      6    a result, or standard output, cannot be written
    |   +-- TakenError                        another run writes it
    +-- JobInterruptedError            130    Ctrl-C; 143 after SIGTERM, 129 after SIGHUP

0 is success. The message of each is a sentence that says what to do.
"""

import signal
from typing import ClassVar

EXIT_OK = 0

EXIT_CODES = """\
Exit codes: 0 done; 1 a defect; 2 wrong usage; 3 the media file cannot be used;
4 a service is unavailable; 5 a service refused the request; 6 a result, or standard
output, cannot be written; 130 interrupted (143 by SIGTERM)."""


class VoxrouteError(Exception):
    """A failure that a person is told about. Raised itself for a defect."""

    exit_code: ClassVar[int] = 1

    @property
    def code(self) -> int:
        """The exit code of the command."""
        return self.exit_code


class UsageError(VoxrouteError):
    """An option, a setting or a subtitle file is wrong."""

    exit_code = 2


class MediaError(VoxrouteError):
    """The media file cannot be used."""

    exit_code = 3


class MediaNotFoundError(MediaError):
    """There is no such file, or it may not be read."""


class NoAudioError(MediaError):
    """The file has no audio."""


class CorruptMediaError(MediaError):
    """The file cannot be decoded."""


class MediaStalledError(MediaError):
    """Nothing more of the file could be read, for a long time."""


class ServiceUnavailableError(VoxrouteError):
    """A service is down, busy or unreachable, after every retry."""

    exit_code = 4


class LocalServiceError(ServiceUnavailableError):
    """A service that was started here does not run."""


class RefusedError(VoxrouteError):
    """A service understood the request and refused it."""

    exit_code = 5


class DeviceMemoryError(RefusedError):
    """The device of a service does not hold the work, after every fallback of the service."""


class JobFailedError(RefusedError):
    """A job of a job service has failed, or was cancelled."""


class OutputError(VoxrouteError):
    """A result cannot be written."""

    exit_code = 6


class TakenError(OutputError):
    """Another run writes the result."""


class JobInterruptedError(VoxrouteError):
    """A signal ended the job."""

    exit_code = 130

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    @property
    def code(self) -> int:
        """128 and the signal's number, as shells count."""
        return 128 + self.signal_number
