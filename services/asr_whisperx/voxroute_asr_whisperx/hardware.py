"""The GPU that CTranslate2 runs on."""

import ctypes
from typing import Literal

Kind = Literal["cpu", "cuda"]


def cuda_name_and_memory() -> tuple[str, int | None]:
    """The name of the first visible CUDA device and its memory in bytes.

    Asks the driver itself, which takes milliseconds where torch takes seconds to import.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "CUDA device", None
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    asked = (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, len(name), device),
        driver.cuDeviceTotalMem_v2(ctypes.byref(total), device),
    )
    if any(asked):  # a CUresult other than CUDA_SUCCESS
        return "CUDA device", None
    return name.value.decode(errors="replace"), total.value
