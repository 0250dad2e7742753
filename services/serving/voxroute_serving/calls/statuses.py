"""Failures to gRPC statuses with google.rpc details."""

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from voxroute_serving.errors import ERROR_DOMAIN, ServingError

RETRY_S = 1.0  # advice where a status asks for a retry and the error says no time
# gRPC peers accept 8 KiB of metadata by default; the message is in it twice, once percent-encoded
_MESSAGE_WIRE_BYTES = 2000
_VIOLATION_BYTES = 300
_MAX_VIOLATIONS = 8


def status_of(error: ServingError, request_id: str) -> status_pb2.Status:
    """The status of an error: its message, ErrorInfo, and BadRequest or RetryInfo where it has one.

    ErrorInfo's metadata holds the request id. Over-long texts are cut, because a client whose
    limit of metadata is exceeded sees no status at all.
    """
    status = status_pb2.Status(code=_number(error.status), message=_shortened(error.message))
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(
            domain=ERROR_DOMAIN,
            reason=error.reason,
            metadata={**error.metadata, "request_id": request_id},
        )
    ]
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field,
                        description=_cut(violation.description, _VIOLATION_BYTES),
                    )
                    for violation in error.violations[:_MAX_VIOLATIONS]
                ]
            )
        )
    retry_s = error.retry_after_s
    if retry_s is None and error.status is grpc.StatusCode.UNAVAILABLE:
        retry_s = RETRY_S
    if retry_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(retry_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def defect_status(request_id: str) -> status_pb2.Status:
    """The status of a failure that nobody foresaw: the request id and nothing of the exception."""
    return status_of(
        ServingError(f"internal error; the service's log has it under request id {request_id}"),
        request_id,
    )


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number


def _shortened(text: str) -> str:
    """The text, cut so that it fits percent-encoded: 3 bytes for each but printable ASCII."""
    used = 0
    for index, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        used += 1 if plain else 3 * len(character.encode("utf-8", "replace"))
        if used > _MESSAGE_WIRE_BYTES:
            return text[:index] + "…"
    return text


def _cut(text: str, limit_bytes: int) -> str:
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    return encoded[:limit_bytes].decode(errors="ignore") + "…"
