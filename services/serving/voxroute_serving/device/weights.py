"""How much memory a model's weights will take, from its files alone."""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from voxroute_serving.device.nvidia import cuda_memory

BYTES_OF: Mapping[str, float] = {
    "float32": 4,
    "default": 4,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "int8": 1,
    "int8_float32": 1,
    "int8_float16": 1,
    "int8_bfloat16": 1,
    "int4": 0.5,
}
"""Bytes of a weight by compute type; the few that a type leaves in floating point do not count."""

_LENGTH = struct.Struct("<Q")  # of a safetensors file's header
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_FLOATS = {"F64", "F32", "F16", "BF16"}

# What else holds weights, and the bytes of each in the file: conversions of Whisper come in half
# precision, PyTorch's pickles (NLLB, M2M100) in single.
_OTHER_FILES = (("model.bin", 2), ("weights.npz", 2), ("pytorch_model*.bin", 4))


def expected_bytes(directory: Path, compute_type: str) -> int:
    """About how many bytes the weights in a directory take in a compute type; 0 where it has none.

    Of safetensors the headers are read: tensors that are quantized already keep their size. Other
    formats are taken by the sizes of their files.
    """
    each = BYTES_OF.get(compute_type, 4)
    tensors = sorted(directory.glob("*.safetensors"))
    if tensors:
        return round(sum(_tensor_bytes(path, each) for path in tensors))
    for pattern, stored in _OTHER_FILES:
        files = list(directory.glob(pattern))
        if files:
            return round(sum(path.stat().st_size for path in files) / stored * each)
    return 0


def taken_bytes(expected: int, cuda_free_before: int | None) -> int:
    """What a model takes now that it is loaded.

    On CUDA that is what has gone from the free memory since before the load, but no less than its
    weights: another process may have given some back meanwhile.
    """
    if cuda_free_before is None:
        return expected
    free = cuda_memory()[1]
    return expected if free is None else max(expected, cuda_free_before - free)


def _tensor_bytes(path: Path, each: float) -> float:
    """Bytes of the tensors of a file, `each` for every number of a floating-point one."""
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            if length > _MAX_HEADER_BYTES:
                return 0
            header = cast("dict[str, dict[str, Any]]", json.loads(file.read(length)))
        return sum(
            math.prod(tensor["shape"]) * each
            if tensor["dtype"] in _FLOATS
            else _span(tensor["data_offsets"])
            for name, tensor in header.items()
            if name != "__metadata__"
        )
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return 0  # damaged: the load will say so


def _span(offsets: Iterable[int]) -> int:
    begin, end = offsets
    return end - begin
