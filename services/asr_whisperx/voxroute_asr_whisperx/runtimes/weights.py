"""The file that CTranslate2 keeps a model's weights in.

Version 6 of the format; ctranslate2/specs/model_spec.py writes it.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

FORMAT_VERSION = 6
_KINDS = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by their code in the file

Array = npt.NDArray[Any]


def read_variables(path: Path) -> dict[str, Array]:
    """The arrays of a model.bin by name, as they are stored. Raises ValueError."""
    with path.open("rb") as file:
        version, spec = _number(file, "I"), _text(file)
        if version != FORMAT_VERSION or spec != "WhisperSpec":
            raise ValueError(
                f"{path} is version {version} of a {spec}; version {FORMAT_VERSION} of a"
                " WhisperSpec can be read"
            )
        _number(file, "I")  # the spec's revision
        variables: dict[str, Array] = {}
        for _ in range(_number(file, "I")):
            name, rank = _text(file), _number(file, "B")
            shape = [_number(file, "I") for _ in range(rank)]
            kind, n_bytes = _KINDS[_number(file, "B")], _number(file, "I")
            variables[name] = np.frombuffer(file.read(n_bytes), kind).reshape(shape)
        for _ in range(_number(file, "I")):  # arrays that are equal are kept once
            alias, name = _text(file), _text(file)
            for suffix in ("", "_scale"):
                if name + suffix in variables:
                    variables[alias + suffix] = variables[name + suffix]
    return variables


def floating(variables: Mapping[str, Array], name: str) -> Array:
    """An array as floating-point numbers; a quantized one has a scale for each row, or one."""
    array = variables[name]
    if np.issubdtype(array.dtype, np.floating):
        return array
    scale = np.asarray(variables[f"{name}_scale"], np.float32)
    return array / scale.reshape(-1, *[1] * (array.ndim - 1))


def n_layers(variables: Mapping[str, Array], side: str) -> int:
    """How many layers the "encoder" or the "decoder" has."""
    return sum(
        name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/bias")
        for name in variables
    )


def _number(file: BinaryIO, code: str) -> int:
    return struct.unpack(code, file.read(struct.calcsize(code)))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode()
