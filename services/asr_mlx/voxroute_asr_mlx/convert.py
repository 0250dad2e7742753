# pyright: basic
"""Whisper checkpoints of Hugging Face to mlx-whisper's format, without torch; and loading them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_whisper.tokenizer import get_encoding
from mlx_whisper.whisper import ModelDimensions, Whisper, sinusoids

from voxroute_asr_mlx.models import MLX_WEIGHTS, N_VOCAB_MULTILINGUAL
from voxroute_serving.asr.whisper.files import read_json
from voxroute_serving.errors import ModelUnavailableError

DIMENSIONS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
"""mlx-whisper's dimensions and the keys of a Hugging Face config.json."""

_RENAMES = (
    (r"^model\.", ""),
    (r"\.layers\.", ".blocks."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.self_attn\.", ".attn."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.fc1\.", ".mlp1."),
    (r"\.fc2\.", ".mlp2."),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"^decoder\.embed_tokens\.", "decoder.token_embedding."),
    (r"^decoder\.embed_positions\.weight$", "decoder.positional_embedding"),
)
_POSITIONS = "encoder.embed_positions.weight"
_OUTPUT = "proj_out.weight"
QUANTIZATION_GROUP = 64  # weights that share a scale; MLX's default
_MAX_POSITION_ERROR = 1e-2  # half precision rounds sinusoids to within 5e-4


def convert(source: Path, target: Path) -> None:
    """Fills `target` with config.json and weights.safetensors from a Hugging Face checkpoint.

    Raises ModelUnavailableError where it is no Whisper that mlx-whisper can run.
    """
    config = read_json(source / "config.json", needed=True)
    _check_config(config, source.name)
    dimensions = {ours: int(config[theirs]) for ours, theirs in DIMENSIONS.items()}
    check_tokenizer(source, dimensions["n_vocab"])
    weights = renamed(_tensors(source), source.name)
    generation = read_json(source / "generation_config.json", needed=False)
    if heads := generation.get("alignment_heads"):
        weights["alignment_heads"] = mx.array(heads, dtype=mx.int32)
    (target / "config.json").write_text(
        json.dumps({"model_type": "whisper", **dimensions}), encoding="utf-8"
    )
    mx.save_safetensors(str(target / "weights.safetensors"), weights)


def renamed(tensors: Mapping[str, mx.array], name: str) -> dict[str, mx.array]:
    """The tensors of a checkpoint under mlx-whisper's names and in its layout."""
    weights: dict[str, mx.array] = {}
    for key, tensor in tensors.items():
        short = key.removeprefix("model.")
        if short == _POSITIONS:
            # mlx-whisper computes these; a model that learned its own would run wrong, not fail
            error: Any = mx.abs(tensor.astype(mx.float32) - sinusoids(*tensor.shape)).max().item()
            if error > _MAX_POSITION_ERROR:
                raise ModelUnavailableError(
                    f"the model {name!r} has encoder positions of its own, which mlx-whisper does"
                    " not take; serve it with the WhisperX service"
                )
        elif short != _OUTPUT:  # the output layer is the embedding of the tokens
            for pattern, replacement in _RENAMES:
                short = re.sub(pattern, replacement, short)
            # convolutions: (out, in, width) to (out, width, in)
            weights[short] = (
                tensor.swapaxes(1, 2) if re.search(r"conv\d\.weight$", short) else tensor
            )
    return weights


def load(directory: Path, dtype: mx.Dtype) -> Whisper:
    """The model of a directory in mlx-whisper's format, its weights as `dtype`.

    They are not in memory before `read`. Quantized matrices stay as they are. Raises
    ModelUnavailableError.
    """
    name = directory.name
    config = read_json(directory / "config.json", needed=True)
    missing = [key for key in DIMENSIONS if key not in config]
    if missing:
        raise ModelUnavailableError(
            f"config.json of model {name!r} lacks {', '.join(missing)}; convert the model again"
        )
    dimensions = ModelDimensions(**{key: int(config[key]) for key in DIMENSIONS})
    check_tokenizer(directory, dimensions.n_vocab)
    path = next(directory / weights for weights in MLX_WEIGHTS if (directory / weights).is_file())
    weights: dict[str, mx.array] = mx.load(str(path))  # type: ignore[assignment] - a file with names
    model = Whisper(dimensions, dtype)
    if quantization := config.get("quantization"):
        nn.quantize(
            model,
            group_size=int(quantization["group_size"]),
            bits=int(quantization["bits"]),
            class_predicate=lambda path, module: (
                isinstance(module, nn.Linear | nn.Embedding) and f"{path}.scales" in weights
            ),
        )
    heads = weights.pop("alignment_heads", None)
    if heads is not None:
        model.alignment_heads = heads.astype(mx.int32)
    expected = {
        key: tuple(value.shape)
        for key, value in cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))
    }
    expected.pop("alignment_heads", None)
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if found != expected:
        wrong = min(set(expected.items()) ^ set(found.items()))[0]
        raise ModelUnavailableError(
            f"the weights of model {name!r} do not match its config.json (first: {wrong!r}); get or"
            " convert it again"
        )
    floats = (mx.float16, mx.bfloat16, mx.float32)
    model.update(
        tree_unflatten(
            [(k, w.astype(dtype) if w.dtype in floats else w) for k, w in weights.items()]
        )
    )
    model.eval()
    return model


def read(model: Whisper) -> None:
    """Reads the weights into memory, one by one: a matrix that is quantized leaves before the next.

    At once, the whole model would be there in `dtype` and quantized.
    """
    weights = cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))
    for _, weight in weights:
        mx.eval(weight)


def memory_bytes(model: Whisper) -> int:
    """What the weights of a model take, bytes."""
    weights = cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))
    return sum(weight.nbytes for _, weight in weights)


def quantize(model: Whisper, bits: int) -> None:
    """Stores the matrices with so many bits a weight, in groups with a scale each.

    A model that is quantized already stays as it is.
    """

    def fits(_: str, module: nn.Module) -> bool:
        matrix = isinstance(module, nn.Linear | nn.Embedding)
        return matrix and cast("Any", module).weight.shape[-1] % QUANTIZATION_GROUP == 0

    nn.quantize(model, group_size=QUANTIZATION_GROUP, bits=bits, class_predicate=fits)


def check_tokenizer(directory: Path, n_vocab: int) -> None:
    """Raises ModelUnavailableError where the model's own tokenizer is not Whisper's.

    mlx-whisper decodes with the tokenizer in its own package; a model with another vocabulary
    would come out as other words. A directory without tokenizer.json has Whisper's.
    """
    multilingual = n_vocab >= N_VOCAB_MULTILINGUAL
    n_languages = n_vocab - N_VOCAB_MULTILINGUAL + 99 + (0 if multilingual else 1)
    encoding = get_encoding("multilingual" if multilingual else "gpt2", n_languages)
    path = directory / "tokenizer.json"
    if encoding.n_vocab != n_vocab:
        raise ModelUnavailableError(
            f"the model {directory.name!r} has {n_vocab} tokens, and Whisper's vocabularies have"
            " 51864 (English), 51865 or 51866; serve it with the WhisperX service"
        )
    if not path.is_file():
        return
    document = read_json(path, needed=True)
    vocabulary: dict[str, int] = document.get("model", {}).get("vocab", {})
    special = {str(token["content"]): int(token["id"]) for token in document["added_tokens"]}
    # early exports call it by the older name
    special["<|nospeech|>"] = special.get("<|nospeech|>", special.get("<|nocaptions|>", -1))
    alike = all(
        special.get(token, vocabulary.get(token)) == encoding.encode_single_token(token)
        for token in ("<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|nospeech|>")
    )
    n_text = min(encoding.encode_single_token("<|endoftext|>"), 50256)  # one is empty in exports
    alike = alike and all(
        vocabulary.get(_byte_level(encoding.decode_single_token_bytes(rank))) == rank
        for rank in range(n_text)
    )
    if not alike:
        raise ModelUnavailableError(
            f"the tokenizer.json of model {directory.name!r} is not Whisper's, and mlx-whisper has"
            " no other; serve it with the WhisperX service"
        )


def _byte_level(token: bytes) -> str:
    """Bytes as GPT-2's vocabularies write them: each as a printable character."""
    return token.decode("latin-1").translate(_PRINTABLE)


def _printable() -> dict[int, int]:
    """GPT-2's table: printable bytes stand for themselves, the others move beyond U+0100."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {byte: 256 + index for index, byte in enumerate(moved)}


_PRINTABLE = _printable()


def _tensors(source: Path) -> dict[str, mx.array]:
    tensors: dict[str, mx.array] = {}
    for path in sorted(source.glob("model*.safetensors")):
        try:
            tensors.update(mx.load(str(path)))  # type: ignore[arg-type] - a file with names
        except (RuntimeError, OSError) as error:
            raise ModelUnavailableError(
                f"{path.name} of model {source.name!r} cannot be read; get it again"
            ) from error
    return tensors


def _check_config(config: Mapping[str, Any], name: str) -> None:
    missing = [key for key in DIMENSIONS.values() if key not in config]
    if missing:
        raise ModelUnavailableError(
            f"config.json of model {name!r} lacks {', '.join(missing)}; it is no Whisper model"
        )
    width = config["d_model"]
    traits = (
        config.get("activation_function", "gelu") == "gelu",
        config.get("encoder_ffn_dim", 4 * width) == 4 * width,
        config.get("decoder_ffn_dim", 4 * width) == 4 * width,
        not config.get("scale_embedding"),
        config.get("max_source_positions") == 1500,  # noqa: PLR2004 - 30 s at 20 ms
    )
    if not all(traits):
        raise ModelUnavailableError(
            f"the model {name!r} differs from Whisper (activation, layer widths or window), and"
            " mlx-whisper runs Whisper only; serve it with the WhisperX service"
        )
