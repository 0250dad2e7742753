"""Values that several contracts share, to and from messages."""

from google.protobuf.duration_pb2 import Duration

from voxroute.common.v1 import common_pb2
from voxroute_serving.domain import DeviceInfo, ModelRef

_DEVICE_KINDS = {
    "cpu": common_pb2.DEVICE_KIND_CPU,
    "cuda": common_pb2.DEVICE_KIND_CUDA,
    "mps": common_pb2.DEVICE_KIND_MPS,
}


def duration(seconds: float) -> Duration:
    """The message of a length or a media time, to the microsecond."""
    whole, micros = divmod(microseconds(seconds), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1_000)


def microseconds(seconds: float) -> int:
    """A length or a media time as messages carry it."""
    return round(seconds * 1_000_000)


def seconds(message: Duration) -> float:
    """The seconds of a message."""
    return message.seconds + message.nanos / 1e9


def model_ref(ref: ModelRef) -> common_pb2.ModelRef:
    """The message of a model's name."""
    return common_pb2.ModelRef(engine=ref.engine, id=ref.id, revision=ref.revision)


def device(info: DeviceInfo) -> common_pb2.Device:
    """The message of the hardware."""
    return common_pb2.Device(
        kind=_DEVICE_KINDS[info.kind],
        name=info.name,
        compute_type=info.compute_type,
        memory_total_bytes=info.memory_total_bytes,
        memory_free_bytes=info.memory_free_bytes,
    )
