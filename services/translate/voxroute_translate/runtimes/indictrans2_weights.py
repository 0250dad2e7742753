# pyright: basic
"""IndicTrans2's weights, read from its safetensors with no code from the model's repository.

The architecture (arXiv:2305.16307) is that of M2M100 with four differences: separate source and
target vocabularies, separate output weights, a layer norm after the embeddings, and a decoder that
starts with `</s>` and no language token. Both runtimes are therefore built from what they have for
M2M100 and Bart.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch

from voxroute_serving.errors import ModelUnavailableError

POSITION_OFFSET = 2  # positions count from the padding's number (1) on, as in fairseq


def read(directory: Path) -> tuple[SimpleNamespace, dict[str, Any]]:
    """The config, and the tensors by name. Raises ModelUnavailableError."""
    config = SimpleNamespace(**json.loads((directory / "config.json").read_text("utf-8")))
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ModelUnavailableError(
            "this IndicTrans2 checkpoint has no safetensors file; other formats can carry code and"
            " are not read"
        )
    state: dict[str, Any] = {}
    for file in files:
        state.update(safetensors.torch.load_file(str(file)))
    if not getattr(config, "encoder_normalize_before", False) or not getattr(
        config, "decoder_normalize_before", False
    ):
        raise ModelUnavailableError("only pre-norm IndicTrans2 checkpoints are known")
    # safetensors stores tied weights once
    state.setdefault("lm_head.weight", state["model.decoder.embed_tokens.weight"])
    return config, state


def vocabulary(directory: Path, side: str, size: int) -> list[str]:
    """The tokens of a side ("SRC", "TGT") in order, filled up to the embedding's size."""
    numbers = json.loads((directory / f"dict.{side}.json").read_text("utf-8"))
    tokens = [f"madeupword{number:04d}" for number in range(size)]
    for token, number in numbers.items():
        if number < size:
            tokens[number] = token
    return tokens


def sinusoidal_positions(positions: int, width: int) -> Any:
    """Position encodings as fairseq computes them, shape (positions, width), from the offset on."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half).float() * (-math.log(10000) / (half - 1)))
    numbers = torch.arange(POSITION_OFFSET, positions + POSITION_OFFSET).float()
    angles = numbers.unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def tree(state: dict[str, Any]) -> SimpleNamespace:
    """The tensors as nested attributes, numbered parts as lists, as in the modules they are of."""
    root: dict[str, Any] = {}
    for name, tensor in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = tensor

    def build(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if all(key.isdigit() for key in node):
            return [build(node[key]) for key in sorted(node, key=int)]
        return SimpleNamespace(**{key: build(value) for key, value in node.items()})

    return build(root)
