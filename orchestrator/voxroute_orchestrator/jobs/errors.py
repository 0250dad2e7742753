"""The errors that the job service answers with, beside those of `voxroute_serving.errors`.

ServingError
+-- InvalidJobError       INVALID_ARGUMENT      a bad field, a message out of order, a used key
+-- JobNotFoundError      NOT_FOUND             no such job
+-- MediaNotFoundError    NOT_FOUND             no such file below a media root
+-- ArtifactNotFoundError NOT_FOUND             no such file of the job
+-- RevisionNotFoundError NOT_FOUND             no such revision of the transcript
+-- JobStateError         FAILED_PRECONDITION   the job's state does not allow it
+-- RevisionConflictError FAILED_PRECONDITION   somebody else has changed the transcript
+-- MediaUnreadableError  FAILED_PRECONDITION   the recording has no sound that can be read
+-- ServiceRefusedError   FAILED_PRECONDITION   a service cannot do what the job asks for
+-- UploadTooLargeError   RESOURCE_EXHAUSTED    over the limit of an upload
+-- SoundTooLongError     RESOURCE_EXHAUSTED    the recording is too long for a sound of its own
+-- DiskFullError         RESOURCE_EXHAUSTED    the disk of the data folder is full
+-- StoreBusyError        UNAVAILABLE           another process holds the store, or it is away
|   +-- OutcomeUnknownError UNAVAILABLE         it has gone away within a write
+-- StoreError            INTERNAL              the store is damaged or cannot be read

LeaseLostError is none of them: no client hears of it.
"""

import grpc

from voxroute_orchestrator import errors
from voxroute_serving.errors import (
    EngineError,
    InvalidInputError,
    LimitExceededError,
    NotReadyError,
    ServingError,
)


class InvalidJobError(InvalidInputError):
    """A field of the job is wrong, or a message comes out of order."""

    reason = "INVALID_JOB"


class JobNotFoundError(ServingError):
    """No such job."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "JOB_NOT_FOUND"

    @classmethod
    def of(cls, job_id: str) -> "JobNotFoundError":
        """The error for one id."""
        return cls(f"there is no job {job_id[:64]!r}; ListJobs tells those that there are")


class LeaseLostError(Exception):
    """An attempt at a job is over, and has nothing more to write about it."""

    @classmethod
    def of(cls, job_id: str, epoch: int) -> "LeaseLostError":
        """The error for one attempt."""
        return cls(f"attempt {epoch} at job {job_id} is over")


class MediaNotFoundError(ServingError):
    """No such file below a media root; outside of them there is nothing either."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "MEDIA_NOT_FOUND"


class ArtifactNotFoundError(ServingError):
    """The job has no such file."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "ARTIFACT_NOT_FOUND"


class RevisionNotFoundError(ServingError):
    """The transcript has no such revision, or not any more."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "REVISION_NOT_FOUND"


class JobStateError(ServingError):
    """The state of the job does not allow the call."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "JOB_STATE"


class RevisionConflictError(ServingError):
    """The transcript has a newer revision than the one that was worked on."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "REVISION_CONFLICT"

    @classmethod
    def of(cls, base: int, newest: int) -> "RevisionConflictError":
        """The error for a base that is not the newest revision; its metadata has that."""
        return cls(
            f"the transcript is at revision {newest} by now, and not at {base}; get that one, and"
            " make the changes again",
            metadata={"revision": str(newest)},
        )


class MediaUnreadableError(ServingError):
    """The recording has no sound that can be read."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "MEDIA_UNREADABLE"


class ServiceRefusedError(ServingError):
    """A service cannot do what the job asks for."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "SERVICE_REFUSED"


class UploadTooLargeError(LimitExceededError):
    """The media file is larger than an upload may be."""

    reason = "UPLOAD_TOO_LARGE"


class SoundTooLongError(LimitExceededError):
    """The recording is longer than what a sound is made of."""


class DiskFullError(LimitExceededError):
    """The disk of the data folder is full."""

    reason = "DISK_FULL"


class StoreBusyError(ServingError):
    """Another process holds the store's lock, or the server that has the store does not answer."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "STORE_BUSY"


class OutcomeUnknownError(StoreBusyError):
    """The store has gone away within a write, which may have been kept."""


class StoreError(ServingError):
    """The store is damaged, or cannot be read or written."""

    reason = "STORE"


_OF_FAILURES: tuple[tuple[type[errors.VoxrouteError], type[ServingError]], ...] = (
    (errors.MediaNotFoundError, MediaNotFoundError),
    (errors.MediaStalledError, MediaNotFoundError),
    (errors.MediaError, MediaUnreadableError),
    (errors.ServiceUnavailableError, NotReadyError),
    (errors.RefusedError, ServiceRefusedError),
    (errors.UsageError, ServiceRefusedError),
)


def of_failure(failure: errors.VoxrouteError, sentence: str) -> ServingError:
    """What a client is told where something fails that is done within its call."""
    for kind, told in _OF_FAILURES:
        if isinstance(failure, kind):
            return told(sentence)
    return EngineError(sentence)
