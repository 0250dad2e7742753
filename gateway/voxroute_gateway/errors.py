"""What is wrong with a request, as a status and a sentence that holds nothing internal."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import grpc
import grpc.aio

from voxroute_orchestrator.client.failures import Details, details_of
from voxroute_orchestrator.errors import (
    LocalServiceError,
    RefusedError,
    ServiceUnavailableError,
    UsageError,
)

_RETRY_AFTER_S = 5.0  # where a service gives no advice
CLIENT_LEFT = 499  # as nginx counts it
_REPEATABLE = frozenset({408, 429, 503, 504})
_BAD = 400
_TOLD = frozenset({_BAD, 404, 422})
"""Statuses that are about the request, so that the service's own sentence is for the client."""
_FAILED = (500, "the service failed; its log says why", "internal")
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: (_BAD, "the request is wrong", ""),
    grpc.StatusCode.OUT_OF_RANGE: (_BAD, "the request is wrong", ""),
    grpc.StatusCode.NOT_FOUND: (404, "there is no such thing at the service", ""),
    # a service that does not let the gateway in: the client can do as little as its own token can
    grpc.StatusCode.UNAUTHENTICATED: (401, "a service does not know this gateway", ""),
    grpc.StatusCode.PERMISSION_DENIED: (403, "a service does not allow this", ""),
    grpc.StatusCode.FAILED_PRECONDITION: (422, "the service cannot do this", ""),
    grpc.StatusCode.UNIMPLEMENTED: (422, "the service cannot do this", ""),
    grpc.StatusCode.UNAVAILABLE: (503, "no service can take the request now", "unavailable"),
    grpc.StatusCode.CANCELLED: (503, "no service can take the request now", "unavailable"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "the service did not finish in time", ""),
}
"""gRPC's status as HTTP's, a sentence, and a code where the service's reason is not to go out."""


class Wording(Enum):
    """How errors are told."""

    TEXT = "text"
    SENTENCE = "sentence"
    """As JSON, the value of `error`."""
    OPENAI = "openai"
    """As JSON, with what a program can go by."""


def wording(path: str) -> Wording:
    """How a route tells its errors."""
    if path in {"/asr", "/detect-language"}:
        return Wording.TEXT
    coded = path.startswith(("/v1/", "/api/jobs", "/api/uploads", "/api/services", "/ui/"))
    return Wording.OPENAI if coded else Wording.SENTENCE


@dataclass(eq=False)
class RequestError(Exception):
    """Ends a request. Each interface puts it into its own words."""

    status: int
    message: str
    code: str = ""
    """For programs, in lower case."""
    param: str | None = None
    """Which field is wrong."""
    retry_after_s: float | None = None
    more: dict[str, str] = field(default_factory=dict[str, str])
    """Further headers."""
    current_revision: int | None = None
    """The newest revision of the transcript, where another was worked on."""

    @property
    def kind(self) -> str:
        """What OpenAI calls the type of an error."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "server_error" if self.is_own else "invalid_request_error")

    @property
    def is_own(self) -> bool:
        """Whether it is not the client's doing."""
        return self.status >= 500  # noqa: PLR2004 - as HTTP has it

    def headers(self) -> dict[str, str]:
        """When to come again, or that this is of no use."""
        if self.status not in _REPEATABLE:
            return {"x-should-retry": "false", **self.more}
        after_s = max(1, round(self.retry_after_s or _RETRY_AFTER_S))
        return {"Retry-After": str(after_s), **self.more}

    def openai(self) -> dict[str, object]:
        """The body that OpenAI's clients read."""
        newest = self.current_revision
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code or None,
                **({} if newest is None else {"current_revision": newest}),
            }
        }


def bad_field(field: str, why: str) -> RequestError:
    """A field that cannot be meant."""
    return RequestError(400, f"{field}: {why}", "invalid_value", field)


def of_failure(error: BaseException) -> RequestError:
    """A failure of what the gateway calls; the log has the rest of it."""
    for cause in _causes(error):
        if isinstance(cause, RequestError):
            return cause
        if isinstance(cause, grpc.aio.AioRpcError):
            return _of_status(cause)
    if isinstance(error, RefusedError):
        return RequestError(422, "no service here can do this", "refused")
    # a model that is not there, say: the gateway's own settings name it
    if isinstance(error, (ServiceUnavailableError, LocalServiceError, UsageError)):
        return RequestError(503, "no service can take the request now", "unavailable")
    return RequestError(500, "the request failed; the gateway's log says why", "internal")


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _of_status(error: grpc.aio.AioRpcError) -> RequestError:
    told, said = details_of(error), (error.details() or "").strip()
    code = error.code()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(told, said)
    if told.reason == "REVISION_CONFLICT":
        newest = int(told.metadata.get("revision", "0"))
        return RequestError(
            409, said, "revision_conflict", "base_revision", current_revision=newest
        )
    number, sentence, name = _STATUSES.get(code, _FAILED)
    wrong = told.violations[0][0] if told.violations and number == _BAD else ""
    spoken = said if number in _TOLD and said else sentence
    param = wrong.removeprefix("config.") or None  # HTTP's requests have no such message
    return RequestError(number, spoken, name or told.reason.lower(), param, told.retry_after_s)


def _exhausted(told: Details, said: str) -> RequestError:
    reason = told.reason.lower()
    if told.reason in {"LIMIT_EXCEEDED", "UPLOAD_TOO_LARGE"}:
        return RequestError(413, said or "the recording is too long", reason)
    if told.reason == "DISK_FULL":
        return RequestError(503, "the service has no room on its disk now", reason)
    if told.retry_after_s is not None:
        return RequestError(429, "the services are full", reason, None, told.retry_after_s)
    return RequestError(422, "the service's device is too small for this", reason)
