# pyright: basic
"""The hardware that MLX runs on."""

import mlx.core as mx

from voxroute_serving.device.host import host_memory, processor_name
from voxroute_serving.domain import DeviceInfo
from voxroute_serving.errors import ModelUnavailableError

FLOAT_TYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
QUANTIZED_BITS = {"int8": 8, "int4": 4}
"""Numeric types of which only the matrices are stored; activations stay floating-point."""


def device_kind(wanted: str) -> str:
    """The device of a setting: "cpu", "cuda" or "mps". Raises ModelUnavailableError."""
    if wanted in ("auto", "mps") and mx.metal.is_available():
        return "mps"
    if wanted in ("auto", "cuda") and mx.cuda.is_available():
        return "cuda"
    if wanted in ("auto", "cpu"):
        return "cpu"
    if wanted == "mps":
        raise ModelUnavailableError(
            "MLX finds no Metal device; Metal is there on Apple silicon, outside of containers and"
            " virtual machines: run this service natively on the Mac, or use --device cpu"
        )
    raise ModelUnavailableError(
        "MLX finds no CUDA device; install voxroute-asr-mlx[cuda13] and check the NVIDIA driver,"
        " or use --device cpu"
    )


def compute_type(wanted: str, kind: str) -> str:
    """The numeric type of a setting; auto is float16 on a GPU. Raises ModelUnavailableError."""
    if wanted in ("", "auto"):
        return "float32" if kind == "cpu" else "float16"
    if wanted not in FLOAT_TYPES and wanted not in QUANTIZED_BITS:
        known = ", ".join([*FLOAT_TYPES, *QUANTIZED_BITS])
        raise ModelUnavailableError(f"{wanted!r} is no compute type of MLX; use one of {known}")
    return wanted


def smaller_types(compute: str) -> tuple[str, ...]:
    """A numeric type and those that take less memory: quantized ones, whatever the device."""
    smaller = tuple(QUANTIZED_BITS)  # the larger first
    return smaller[smaller.index(compute) :] if compute in smaller else (compute, *smaller)


def activations(kind: str) -> mx.Dtype:
    """The type in which a device computes: half precision is slow on a CPU."""
    return mx.float32 if kind == "cpu" else mx.float16


def device_info(kind: str, compute: str) -> DeviceInfo:
    """The device's name and memory. Touches no array, so any thread may ask."""
    total, free = host_memory()
    if kind == "cpu":
        return DeviceInfo("cpu", processor_name(), compute, total, free)
    info = mx.device_info(mx.gpu)  # type: ignore[arg-type] - a device type is a device here
    name = str(info.get("device_name", "GPU"))
    if kind == "cuda":
        size = info.get("total_memory") or info.get("memory_size")
        rest = info.get("free_memory")
        return DeviceInfo(
            "cuda", name, compute, int(size) if size else None, int(rest) if rest else None
        )
    # Metal shares the host's memory, of which it takes so much without swapping
    size = int(info.get("max_recommended_working_set_size") or info.get("memory_size") or 0)
    return DeviceInfo(
        "mps", name, compute, size or total, max(0, size - mx.get_active_memory()) if size else free
    )
