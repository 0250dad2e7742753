# pyright: basic
# ruff: noqa: PLC0415 - ML libraries are imported by the fixtures that need them
"""A tiny Hugging Face Whisper checkpoint with random weights and no tokenizer of its own."""

import warnings
from pathlib import Path
from typing import Any


def save_whisper(directory: Path, generation: dict[str, Any], **more: Any) -> Path:
    """Fills the directory; `generation` is its generation config, `more` is of its own config."""
    import torch
    from transformers import (
        GenerationConfig,  # pyright: ignore[reportPrivateImportUsage] - its documented place
        WhisperConfig,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 51865, "d_model": 64}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 128}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = WhisperForConditionalGeneration(WhisperConfig(**sizes | more))
        model.generation_config = GenerationConfig(**generation)
        model.save_pretrained(directory)
    return directory
