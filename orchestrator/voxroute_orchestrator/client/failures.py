"""What a failed call means: whether to try again, and a sentence for a person."""

from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from voxroute_orchestrator.errors import (
    DeviceMemoryError,
    RefusedError,
    ServiceUnavailableError,
    VoxrouteError,
)

_IDLE_STREAM = "IDLE_STREAM"
_OUT_OF_MEMORY = "OUT_OF_MEMORY"  # ErrorInfo's reason; see docs/operating.md
_DETAILS_KEY = "grpc-status-details-bin"  # grpc's convention for google.rpc.Status

# What grpc says when a connection breaks in the middle, where that is not UNAVAILABLE.
# "Internal error from Core" is grpc.aio's own (1.85) when a call ends while a message is on its
# way out; the real status is then lost, and the next attempt meets it again if it is for good.
_BROKEN = (
    "Internal error from Core",
    "RST_STREAM",
    "Stream removed",
    "Socket closed",
    "GOAWAY",
    "Connection reset",
)


# What grpc 1.85 says of a handshake that failed, the more precise signs first.
_TLS_REASONS = (
    (
        "certificate has expired",
        "shows a certificate that has expired; renew it there, and check this host's clock",
    ),
    (
        "certificate is not yet valid",
        "shows a certificate that is not valid yet; check this host's clock",
    ),
    (
        "Hostname Verification",
        "shows a certificate for another name; use one of its own, or set tls_server_name to it",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "shows a certificate of a CA that is not known here; set tls_ca to that CA's certificate",
    ),
    ("WRONG_VERSION_NUMBER", "does not speak TLS; write grpc://HOST:PORT, or turn TLS on there"),
)
_CLOSED = (
    "closed the connection; does it ask for TLS (grpcs://HOST:PORT, or tls_ca), or for a client's"
    " certificate (tls_cert, tls_key)?"
)


def tls_reason(said: str) -> str | None:
    """What is wrong with TLS, said of the service; None where grpc's text speaks of no such thing.

    A service that misses TLS, or a client's certificate, says nothing: it closes the connection.
    """
    for sign, reason in _TLS_REASONS:
        if sign in said:
            return reason
    return _CLOSED if "failed to connect" in said and "Socket closed" in said else None


def brief(said: str) -> str:
    """The reason alone of grpc's text of a lost connection, which tells twice that it failed."""
    reason = said.rpartition("Failed to connect to remote host: ")[2].rstrip(" .")
    while reason.endswith(")") and reason.count(")") > reason.count("("):
        reason = reason[:-1].rstrip(" .")
    return reason


def is_lasting(said: str) -> bool:
    """Whether grpc's text tells of a certificate, or a lack of TLS, that no restart mends."""
    return tls_reason(said) not in (None, _CLOSED)


class CallFailedError(Exception):
    """A call that ended without its result, in the orchestrator's own terms.

    `retryable` is true where the same call may succeed later, and `retry_after_s` is the service's
    advice when. `error` is what the command ends with if it is not tried again.
    """

    def __init__(
        self, error: VoxrouteError, *, retryable: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.retryable = retryable
        self.retry_after_s = retry_after_s


def broken_stream(service: str, what: str) -> CallFailedError:
    """The failure of a stream that ended, or stopped, without saying why."""
    return CallFailedError(ServiceUnavailableError(f"{service} {what}"), retryable=True)


def of_rpc_error(error: grpc.aio.AioRpcError, service: str, request_id: str) -> CallFailedError:
    """The failure behind a gRPC error; `service` names the service and its address."""
    code, said = error.code(), (error.details() or "").strip().rstrip(".")
    told = details_of(error)
    reason, retry_after_s = told.reason, told.retry_after_s
    status = grpc.StatusCode
    lost = not reason and any(sign in said for sign in _BROKEN)
    if code in {status.UNAVAILABLE, status.CANCELLED} or lost:
        away = ServiceUnavailableError(_unavailable(service, said, reason))
        # a restart closes connections too; what is wrong with a certificate stays wrong
        lasting = is_lasting(said)
        return CallFailedError(away, retryable=not lasting, retry_after_s=retry_after_s)
    if code is status.DEADLINE_EXCEEDED and reason == _IDLE_STREAM:
        return broken_stream(service, f"ended a call in which nothing happened: {said}")
    exhausted = code is status.RESOURCE_EXHAUSTED and reason != _OUT_OF_MEMORY
    if exhausted and retry_after_s is not None:
        busy = ServiceUnavailableError(f"{service} is busy: {said}")
        return CallFailedError(busy, retryable=True, retry_after_s=retry_after_s)
    request = f"request {told.request_id or request_id}"
    if code is status.RESOURCE_EXHAUSTED and reason == _OUT_OF_MEMORY:
        full = DeviceMemoryError(f"{service} is out of memory: {said}")
        return CallFailedError(full, retryable=False)
    violations = [f"{field}: {why}" for field, why in told.violations if why not in said]
    return CallFailedError(_final(code, said, violations, service, request), retryable=False)


def _final(
    code: grpc.StatusCode, said: str, violations: list[str], service: str, request: str
) -> VoxrouteError:
    """The error of a status that no retry mends."""
    status = grpc.StatusCode
    if code is status.DEADLINE_EXCEEDED:
        return ServiceUnavailableError(
            f"{service} did not finish within the deadline; use a smaller model or a faster"
            " device, or raise VOXROUTE_DEADLINE_FACTOR"
        )
    if code in {status.UNAUTHENTICATED, status.PERMISSION_DENIED}:
        return RefusedError(
            f"{service} does not allow the call: {said or 'no reason given'}; set token_file"
            " (VOXROUTE_TOKEN_FILE) to a file that holds the token of this client"
        )
    if code is status.UNIMPLEMENTED:
        return RefusedError(
            f"{service} cannot do this ({said or 'no such method'}); is the address that of the"
            " right service, and is its version recent?"
        )
    if code in {status.INTERNAL, status.UNKNOWN, status.DATA_LOSS}:
        return VoxrouteError(
            f"{service} failed on {request}: {said or code.name}; its log says why"
        )
    sentence = said or code.name
    extra = [violation for violation in violations if violation not in sentence]
    if extra:
        sentence = f"{sentence} ({'; '.join(extra)})"
    return RefusedError(f"{service} refused {request}: {sentence}")


def _unavailable(service: str, said: str, reason: str) -> str:
    if reason:
        return f"{service} is not available: {said}"
    tls = tls_reason(said)
    if tls is not None:
        return f"{service} {tls}"
    return (
        f"{service} cannot be reached ({brief(said) or 'no answer'}); is it running, and is the"
        " address right?"
    )


@dataclass(slots=True)
class Details:
    """What a service says of a failure beside its status and sentence."""

    reason: str = ""
    """ErrorInfo's."""
    retry_after_s: float | None = None
    """RetryInfo's."""
    violations: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """BadRequest's: which field, and why."""
    request_id: str = ""
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    """ErrorInfo's."""


def details_of(error: grpc.aio.AioRpcError) -> Details:
    """What the error tells beside its status; what is not told stays empty."""
    found = Details()
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:  # not ours; the code and the text remain
                status.Clear()
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(info):
            found.reason = info.reason
            found.request_id = info.metadata.get("request_id", "")
            found.metadata = dict(info.metadata)
        elif detail.Unpack(retry):
            found.retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Unpack(bad):
            found.violations += [(v.field, v.description) for v in bad.field_violations]
    return found
