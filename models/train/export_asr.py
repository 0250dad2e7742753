"""Write the trained recognition model in Hugging Face format: `python -m models.train.export_asr WEIGHTS`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.train import whisper_tokenizer as wt
from models.train.asr_model import Shape, sinusoids
from models.train.vocabulary import MODEL_DIR


def full_embedding(compact: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Rows of all 51865 tokens: the trained ones, and one shared row for tokens that no text of the grammar uses."""
    full = compact[-1:].repeat(wt.VOCABULARY, 1)
    full[torch.tensor(ids)] = compact[: len(ids)]
    return full


def configs(shape: Shape, alignment_heads: list[list[int]]) -> dict[str, dict[str, object]]:
    """config.json, generation_config.json and preprocessor_config.json, as openai's checkpoints have them."""
    begin_suppress = [220, wt.EOT]
    suppress = [
        *wt.NON_SPEECH,
        wt.SOT,
        wt.TRANSLATE,
        wt.TRANSCRIBE,
        wt.SOT_LM,
        wt.SOT_PREV,
        wt.NO_SPEECH,
    ]
    ends = {
        "bos_token_id": wt.EOT,
        "eos_token_id": wt.EOT,
        "pad_token_id": wt.EOT,
        "decoder_start_token_id": wt.SOT,
    }
    return {
        "config.json": {
            "activation_dropout": 0.0,
            "activation_function": "gelu",
            "architectures": ["WhisperForConditionalGeneration"],
            "attention_dropout": 0.0,
            "begin_suppress_tokens": begin_suppress,
            "d_model": shape.width,
            "decoder_attention_heads": shape.heads,
            "decoder_ffn_dim": 4 * shape.width,
            "decoder_layerdrop": 0.0,
            "decoder_layers": shape.decoder_layers,
            "dropout": 0.0,
            "encoder_attention_heads": shape.heads,
            "encoder_ffn_dim": 4 * shape.width,
            "encoder_layerdrop": 0.0,
            "encoder_layers": shape.encoder_layers,
            "init_std": 0.02,
            "is_encoder_decoder": True,
            "max_source_positions": shape.source_positions,
            "max_target_positions": shape.target_positions,
            "model_type": "whisper",
            "num_hidden_layers": shape.encoder_layers,
            "num_mel_bins": 80,
            "scale_embedding": False,
            "torch_dtype": "float16",
            "transformers_version": "4.53.2",
            "use_cache": True,
            "vocab_size": wt.VOCABULARY,
            **ends,
        },
        "generation_config.json": {
            "alignment_heads": alignment_heads,
            "begin_suppress_tokens": begin_suppress,
            "is_multilingual": True,
            "lang_to_id": {f"<|{code}|>": wt.language_id(code) for code in wt.LANGUAGES},
            "max_initial_timestamp_index": 50,
            "max_length": 448,
            "no_timestamps_token_id": wt.NO_TIMESTAMPS,
            "prev_sot_token_id": wt.SOT_PREV,
            "return_timestamps": False,
            "suppress_tokens": suppress,
            "task_to_id": {"transcribe": wt.TRANSCRIBE, "translate": wt.TRANSLATE},
            "transformers_version": "4.53.2",
            **ends,
        },
        "preprocessor_config.json": {
            "chunk_length": 30,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": 80,
            "hop_length": 160,
            "n_fft": 400,
            "n_samples": 480000,
            "nb_max_frames": 3000,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
            "sampling_rate": 16000,
        },
    }


def export(weights: Path, directory: Path, alignment_heads: list[list[int]]) -> None:
    """Write model.safetensors (half precision, `proj_out` tied and left out) and the configs to `directory`."""
    saved = torch.load(weights, map_location="cpu")
    tensors = {}
    for name, value in saved["weights"].items():
        is_embedding = name.endswith("embed_tokens.weight")
        full = full_embedding(value, saved["ids"]) if is_embedding else value
        tensors[name] = full.half().contiguous()
    shape = Shape()
    tensors["model.encoder.embed_positions.weight"] = (
        sinusoids(shape.source_positions, shape.width).half().contiguous()
    )
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    for name, value in configs(shape, alignment_heads).items():
        (directory / name).write_text(json.dumps(value, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="asr.pt of train_asr")
    parser.add_argument("--directory", type=Path, default=MODEL_DIR)
    parser.add_argument(
        "--alignment-heads",
        default="1.3,2.0,2.1,2.2,2.3",
        help="LAYER.HEAD,..., see find_alignment_heads",
    )
    args = parser.parse_args()
    heads = [[int(n) for n in pair.split(".")] for pair in args.alignment_heads.split(",")]
    export(args.weights, args.directory, heads)


if __name__ == "__main__":
    main()
