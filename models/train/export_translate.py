"""Write the trained translation model in Hugging Face format: `python -m models.train.export_translate WEIGHTS`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.train.train_translate import BOS, EOS, MODEL_DIR, PAD


def export(weights: Path, directory: Path) -> None:
    """Write model.safetensors (half precision, embeddings tied) and generation_config.json to `directory`."""
    saved = torch.load(weights, map_location="cpu")
    tied = (
        "lm_head.weight",
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
    )
    tensors = {n: t.half().contiguous() for n, t in saved.items() if n not in tied}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    generation = {
        "bos_token_id": BOS,
        "decoder_start_token_id": EOS,
        "eos_token_id": EOS,
        "max_length": 200,
        "num_beams": 1,
        "pad_token_id": PAD,
        "transformers_version": "4.53.2",
    }
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    config = json.loads((directory / "config.json").read_text())
    config.pop("max_length", None)
    config["torch_dtype"] = "float16"
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="translate.pt of train_translate")
    parser.add_argument("--directory", type=Path, default=MODEL_DIR)
    args = parser.parse_args()
    export(args.weights, args.directory)


if __name__ == "__main__":
    main()
