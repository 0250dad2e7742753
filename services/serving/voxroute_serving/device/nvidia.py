# pyright: basic
"""NVIDIA's GPUs, as the driver's own libraries tell.

No framework is imported, which takes seconds, and no CUDA context made: one would take some hundred
megabytes of the memory that is asked about.
"""

import contextlib
import ctypes
from dataclasses import dataclass

_BUS_ID_BYTES = 64
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU; bytes are 0 where the driver does not tell them."""

    name: str = "NVIDIA GPU"
    memory_bytes: int = 0
    free_bytes: int = 0


def shown_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that the driver shows, or what is wrong with it; neither where there is none."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return (), ""
    import pynvml  # noqa: PLC0415 - 0.1 s, for which hosts without a GPU need not wait

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), f"the NVIDIA driver does not work ({error})"
    try:
        return tuple(_nvml_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())), ""
    except pynvml.NVMLError as error:
        return (), f"the NVIDIA driver shows no GPU ({error})"
    finally:
        pynvml.nvmlShutdown()


def _nvml_gpu(index: int) -> Gpu:
    import pynvml  # noqa: PLC0415 - as above

    gpu = Gpu()
    with contextlib.suppress(pynvml.NVMLError):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        gpu = Gpu(pynvml.nvmlDeviceGetName(handle))
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        gpu = Gpu(gpu.name, int(memory.total), int(memory.free))
    return gpu


def cuda_memory() -> tuple[int | None, int | None]:
    """The memory of the first visible CUDA device in bytes, total and free, of all processes.

    (None, None) without a driver, or where NVML does not tell.
    """
    import pynvml  # noqa: PLC0415 - as above

    bus_id = ctypes.create_string_buffer(_BUS_ID_BYTES)
    try:
        driver, device = _first_visible()
        # CUDA_VISIBLE_DEVICES renumbers CUDA's devices and not NVML's; the bus id is the same in
        # both. Where CUDA does not tell it, NVML knows no GPU of that name
        driver.cuDeviceGetPCIBusId(bus_id, len(bus_id), device)
        pynvml.nvmlInit()
        memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.value))
    except (OSError, pynvml.NVMLError):
        return None, None
    return int(memory.total), int(memory.free)


def cuda_name_and_memory() -> tuple[str, int | None]:
    """The name of the first visible CUDA device and its memory in bytes.

    CUDA is asked, not NVML: of a GPU that is cut up (MIG) NVML tells the whole.
    """
    name, total = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    with contextlib.suppress(OSError):
        driver, device = _first_visible()
        if not (
            driver.cuDeviceGetName(name, len(name), device)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
        ):
            return name.value.decode(errors="replace"), total.value
    return "CUDA device", None


def _first_visible() -> tuple[ctypes.CDLL, ctypes.c_int]:
    """The driver and its first device. Raises OSError where it is not there or does not work."""
    driver, device = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        raise OSError("CUDA has no device")
    return driver, device
