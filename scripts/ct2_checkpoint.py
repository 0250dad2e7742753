# pyright: basic
"""A CTranslate2 Whisper model as a Hugging Face checkpoint: the way back of its converter.

Turns around what ctranslate2.converters.transformers.WhisperLoader does: fused projections are
split, norms and convolutions keep their values, 8- and 16-bit integers are multiplied out.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from voxroute_asr_whisperx.runtimes.weights import floating, n_layers, read_variables

_LAYER = re.compile(r"(encoder|decoder)/layer_(\d+)/(.+)/([^/]+)")
_PARTS = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
"""A layer's modules; where there are several on the right, the left has their rows in turn."""
_OUTSIDE_LAYERS = {
    "encoder/conv1/weight": "encoder.conv1.weight",
    "encoder/conv1/bias": "encoder.conv1.bias",
    "encoder/conv2/weight": "encoder.conv2.weight",
    "encoder/conv2/bias": "encoder.conv2.bias",
    "encoder/position_encodings/encodings": "encoder.embed_positions.weight",
    "encoder/layer_norm/gamma": "encoder.layer_norm.weight",
    "encoder/layer_norm/beta": "encoder.layer_norm.bias",
    "decoder/embeddings/weight": "decoder.embed_tokens.weight",
    "decoder/position_encodings/encodings": "decoder.embed_positions.weight",
    "decoder/layer_norm/gamma": "decoder.layer_norm.weight",
    "decoder/layer_norm/beta": "decoder.layer_norm.bias",
}
_LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def write_checkpoint(source: Path, target: Path) -> None:
    """Fills `target` with the checkpoint of the CTranslate2 model in `source`.

    `source` holds model.bin, config.json and tokenizer.json. Floating-point weights keep their
    type. Raises ValueError where model.bin is no Whisper of this format.
    """
    variables = read_variables(source / "model.bin")
    target.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": array for name, array in _tensors(variables).items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    ct2_config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    documents = {
        "config.json": _config(variables, special),
        "generation_config.json": _generation_config(ct2_config, special),
        "preprocessor_config.json": _preprocessor_config(variables["encoder/conv1/weight"]),
        "tokenizer_config.json": _tokenizer_config(tokenizer),
        "vocab.json": tokenizer["model"]["vocab"],
    }
    for name, document in documents.items():
        text = json.dumps(document, ensure_ascii=False, indent=None if name == "vocab.json" else 2)
        (target / name).write_text(text + "\n", encoding="utf-8")
    pairs = tokenizer["model"]["merges"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]
    (target / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8"
    )
    shutil.copy(source / "tokenizer.json", target)


def _tensors(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for name in variables:
        if variables[name].ndim == 0 or name.endswith("_scale"):
            continue
        array = floating(variables, name)
        if name in _OUTSIDE_LAYERS:
            tensors[_OUTSIDE_LAYERS[name]] = array
        elif match := _LAYER.fullmatch(name):
            side, layer, module, leaf = match.groups()
            parts = _PARTS[module]
            for part, rows in zip(parts, np.split(array, len(parts)), strict=True):
                if part.endswith("k_proj") and leaf == "bias":
                    continue  # keys have none; the converter fills in zeros
                tensors[f"{side}.layers.{layer}.{part}.{_LEAVES[leaf]}"] = rows.copy()
        elif name != "decoder/projection/weight":
            raise ValueError(f"a Whisper model has no {name}")
    return tensors


def _ends(special: Mapping[str, int]) -> dict[str, int]:
    end = special["<|endoftext|>"]
    start = {"decoder_start_token_id": special["<|startoftranscript|>"]}
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end, **start}


def _config(variables: Mapping[str, np.ndarray], special: Mapping[str, int]) -> dict[str, Any]:
    n_vocab, width = variables["decoder/embeddings/weight"].shape
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        "d_model": width,
        "vocab_size": n_vocab,
        "num_mel_bins": variables["encoder/conv1/weight"].shape[1],
        "max_source_positions": len(variables["encoder/position_encodings/encodings"]),
        "max_target_positions": len(variables["decoder/position_encodings/encodings"]),
        "num_hidden_layers": n_layers(variables, "encoder"),
        **{
            f"{side}_{key}": value
            for side in ("encoder", "decoder")
            for key, value in (
                ("layers", n_layers(variables, side)),
                ("attention_heads", int(variables[f"{side}/num_heads"])),
                ("ffn_dim", len(variables[f"{side}/layer_0/ffn/linear_0/bias"])),
            )
        },
        "scale_embedding": False,
        "torch_dtype": str(variables["decoder/layer_norm/gamma"].dtype),
        **_ends(special),
    }


def _generation_config(ct2_config: dict[str, Any], special: Mapping[str, int]) -> dict[str, Any]:
    tasks = {task: special[f"<|{task}|>"] for task in ("transcribe", "translate")}
    languages = {
        token: number
        for token, number in special.items()
        if special["<|startoftranscript|>"] < number < min(tasks.values())
    }
    # the languages stand in English tokenizers too, at places that mean nothing
    multilingual = special["<|endoftext|>"] == 50257  # noqa: PLR2004 - 50256 in English ones
    return {
        "alignment_heads": ct2_config["alignment_heads"],
        "begin_suppress_tokens": ct2_config["suppress_ids_begin"],
        "suppress_tokens": ct2_config["suppress_ids"],
        "is_multilingual": multilingual,
        **({"lang_to_id": languages, "task_to_id": tasks} if multilingual else {}),
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "no_timestamps_token_id": special["<|notimestamps|>"],
        "prev_sot_token_id": special["<|startofprev|>"],
        "return_timestamps": False,
        **_ends(special),
    }


def _preprocessor_config(first_convolution: np.ndarray) -> dict[str, Any]:
    """Whisper's features: 30 s of 16 kHz, a frame each 10 ms."""
    return {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": first_convolution.shape[1],
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16000,
    }


def _tokenizer_config(tokenizer: dict[str, Any]) -> dict[str, Any]:
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"}
        for token in tokenizer["added_tokens"]
    }
    roles = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {
        "added_tokens_decoder": added,
        "additional_special_tokens": [
            token["content"] for token in tokenizer["added_tokens"] if token["special"]
        ],
        **dict.fromkeys(roles, "<|endoftext|>"),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 1024,
        "processor_class": "WhisperProcessor",
        "tokenizer_class": "WhisperTokenizer",
    }
