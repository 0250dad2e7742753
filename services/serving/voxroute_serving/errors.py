"""The errors that a service answers with, and the gRPC status of each.

    ServingError                      (never raised itself)
    +-- InvalidInputError             INVALID_ARGUMENT      an option or a message is wrong
    |   +-- InvalidAudioError                               the audio cannot be read
    |   +-- AbandonedStreamError                            the client left without `finish`
    +-- ModelNotFoundError            NOT_FOUND             no such model
    +-- ModelUnavailableError         FAILED_PRECONDITION   no network, conversion failed
    |   +-- ModelGatedError                                 a licence or a token is missing
    +-- ModelInUseError               FAILED_PRECONDITION   a call uses it
    +-- NoSpeechError                 FAILED_PRECONDITION   nothing to detect a language from
    +-- UnsupportedError              UNIMPLEMENTED         this engine has no such thing
    +-- QueueFullError                RESOURCE_EXHAUSTED    come back later (RetryInfo)
    |   +-- ClientLimitError                                this client has its share
    +-- NoRoomError                   RESOURCE_EXHAUSTED    other models are in use (RetryInfo)
    +-- LimitExceededError            RESOURCE_EXHAUSTED    too long, too large
    +-- OutOfMemoryError              RESOURCE_EXHAUSTED    the device, after every fallback
    +-- UnauthenticatedError          UNAUTHENTICATED       no token, or not one that is known
    +-- IdleStreamError               DEADLINE_EXCEEDED     the client did nothing for too long
    +-- NotReadyError                 UNAVAILABLE           loading or draining (RetryInfo)
    +-- EngineError                   INTERNAL              the engine failed

Everything else that escapes a handler is a defect: INTERNAL, with the request id and nothing of
the exception. The message of a ServingError goes to the client, so it is a sentence that says
what to do; what only an operator may see belongs in the log.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc

ERROR_DOMAIN = "voxroute"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request and what is wrong with it, for google.rpc.BadRequest."""

    field: str
    description: str


class ServingError(Exception):
    """A failure that the client is told about.

    `reason` is the stable UPPER_SNAKE_CASE identifier that goes into google.rpc.ErrorInfo.
    """

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        self.metadata = dict(metadata or {})


class InvalidInputError(ServingError):
    """An option or a message is wrong."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_INPUT"

    @classmethod
    def of_field(cls, field: str, description: str) -> "InvalidInputError":
        """The error for one field, named by its path in the request."""
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])


class InvalidAudioError(InvalidInputError):
    """The audio cannot be read."""

    reason = "INVALID_AUDIO"


class AbandonedStreamError(InvalidInputError):
    """The client's messages ended without `finish`.

    A client that was killed looks like this too (grpc.aio ends the request iterator normally), so
    whoever raises it has stopped working on the call.
    """

    reason = "ABANDONED_STREAM"


class ModelNotFoundError(ServingError):
    """No such model."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class ModelUnavailableError(ServingError):
    """The model exists but cannot be had: no network, conversion failed, gated."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_UNAVAILABLE"


class ModelGatedError(ModelUnavailableError):
    """The model is for those who have accepted its licence, and the hub knows of nobody here."""

    reason = "MODEL_GATED"


class ModelInUseError(ServingError):
    """A call uses the model."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MODEL_IN_USE"


class NoSpeechError(ServingError):
    """The recording holds no speech to detect a language from."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "NO_SPEECH"


class UnsupportedError(ServingError):
    """The engine has no such thing."""

    status = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNSUPPORTED"


class QueueFullError(ServingError):
    """No further call is admitted now."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class ClientLimitError(QueueFullError):
    """A client has as many calls open as one client may."""

    reason = "CLIENT_LIMIT"


class NoRoomError(ServingError):
    """A model has no place beside those that calls use."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "NO_ROOM"


class LimitExceededError(ServingError):
    """The request is larger than this service takes."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "LIMIT_EXCEEDED"


class OutOfMemoryError(ServingError):
    """The device's memory does not hold the work, after every fallback."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OUT_OF_MEMORY"


class UnauthenticatedError(ServingError):
    """The call has no token, or not one that is known."""

    status = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class IdleStreamError(ServingError):
    """The client neither sent nor read anything for too long."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "IDLE_STREAM"


class NotReadyError(ServingError):
    """The service is loading its model or draining."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "NOT_READY"


class EngineError(ServingError):
    """The engine failed on valid input."""

    status = grpc.StatusCode.INTERNAL
    reason = "ENGINE_FAILED"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what came before it, each once: exceptions may come before each other."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
