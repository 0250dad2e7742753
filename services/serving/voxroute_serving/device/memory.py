"""How much memory the device has and how much of it is free, for the metrics."""

import ctypes
from dataclasses import replace

from voxroute_serving.device.host import host_memory
from voxroute_serving.domain import DeviceInfo

_BUS_ID_BYTES = 64


class _Memory(ctypes.Structure):
    """nvmlMemory_t; bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


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


def cuda_memory() -> tuple[int | None, int | None]:
    """The memory of the first visible CUDA device in bytes, total and free, of all processes.

    Asks NVML, which needs no CUDA context: one would take some hundred megabytes of what is asked
    about. (None, None) without a driver, or where NVML does not tell.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None, None
    # CUDA_VISIBLE_DEVICES renumbers CUDA's devices and not NVML's; the bus id is the same in both
    device, bus_id = ctypes.c_int(), ctypes.create_string_buffer(_BUS_ID_BYTES)
    handle, memory = ctypes.c_void_p(), _Memory()
    asked = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetPCIBusId(bus_id, len(bus_id), device)
        or nvml.nvmlInit_v2()
        or nvml.nvmlDeviceGetHandleByPciBusId_v2(bus_id, ctypes.byref(handle))
        or nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    )
    return (None, None) if asked else (int(memory.total), int(memory.free))
