"""The errors that the job service answers with, beside those of `voxroute_serving.errors`.

ServingError
+-- InvalidJobError       INVALID_ARGUMENT      a bad field, a message out of order, a used key
+-- JobNotFoundError      NOT_FOUND             no such job
+-- MediaNotFoundError    NOT_FOUND             no such file below a media root
+-- ArtifactNotFoundError NOT_FOUND             no such file of the job
+-- JobStateError         FAILED_PRECONDITION   the job's state does not allow it
+-- UploadTooLargeError   RESOURCE_EXHAUSTED    over the limit of an upload
+-- DiskFullError         RESOURCE_EXHAUSTED    the disk of the data folder is full
+-- StoreBusyError        UNAVAILABLE           another process holds the store
+-- StoreError            INTERNAL              the store is damaged or cannot be read
"""

import grpc

from voxroute_serving.errors import InvalidInputError, LimitExceededError, ServingError


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


class MediaNotFoundError(ServingError):
    """No such file below a media root; outside of them there is nothing either."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "MEDIA_NOT_FOUND"


class ArtifactNotFoundError(ServingError):
    """The job has no such file."""

    status = grpc.StatusCode.NOT_FOUND
    reason = "ARTIFACT_NOT_FOUND"


class JobStateError(ServingError):
    """The state of the job does not allow the call."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    reason = "JOB_STATE"


class UploadTooLargeError(LimitExceededError):
    """The media file is larger than an upload may be."""

    reason = "UPLOAD_TOO_LARGE"


class DiskFullError(LimitExceededError):
    """The disk of the data folder is full."""

    reason = "DISK_FULL"


class StoreBusyError(ServingError):
    """Another process holds the store's lock."""

    status = grpc.StatusCode.UNAVAILABLE
    reason = "STORE_BUSY"


class StoreError(ServingError):
    """The store is damaged, or cannot be read or written."""

    reason = "STORE"
