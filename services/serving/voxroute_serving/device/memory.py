"""How much memory the device has and how much of it is free, for the metrics."""

from dataclasses import replace

from voxroute_serving.device.host import host_memory
from voxroute_serving.device.nvidia import cuda_memory
from voxroute_serving.domain import DeviceInfo


def with_memory(device: DeviceInfo) -> DeviceInfo:
    """The device with what its engine does not know of its memory; None stays where nobody does."""
    if device.memory_total_bytes is not None and device.memory_free_bytes is not None:
        return device
    if device.kind == "cuda":
        total, free = cuda_memory()
    elif device.kind == "cpu":
        total, free = host_memory()
    else:  # only MLX knows what of the host's memory Metal may take
        return device
    return replace(
        device,
        memory_total_bytes=device.memory_total_bytes or total,
        memory_free_bytes=free if device.memory_free_bytes is None else device.memory_free_bytes,
    )
