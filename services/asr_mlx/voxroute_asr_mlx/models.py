"""Names of speech models, and what the files of a model say about it. No ML library is imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from voxroute_serving.asr.whisper import files
from voxroute_serving.asr.whisper.family import bcp47
from voxroute_serving.asr.whisper.files import ModelTraits, read_json
from voxroute_serving.errors import ModelUnavailableError
from voxroute_serving.models import hub

MLX_WEIGHTS = ("weights.safetensors", "weights.npz")
FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "voxroute.json",
    *MLX_WEIGHTS,
    *hub.SAFETENSORS,
    "model.safetensors.index.json",
)
N_VOCAB_MULTILINGUAL = 51865  # tokens of the first multilingual models; English-only has one less


def format_of(directory: Path) -> Literal["mlx", "hugging-face"]:
    """The format of the Whisper model in a directory.

    Raises ModelUnavailableError where there is none that can be read without torch.
    """
    config = read_json(directory / "config.json", needed=True)
    if "n_mels" in config and any((directory / name).is_file() for name in MLX_WEIGHTS):
        return "mlx"
    if config.get("model_type") == "whisper" and any(directory.glob("model*.safetensors")):
        return "hugging-face"
    if any(directory.glob("pytorch_model*.bin")):
        raise ModelUnavailableError(
            f"the model {directory.name!r} has its weights as a pickle (pytorch_model.bin), which"
            " this service does not open; save it as safetensors (save_pretrained with"
            " safe_serialization=True)"
        )
    raise ModelUnavailableError(
        f"the directory of model {directory.name!r} holds no Whisper model: an MLX one has"
        " weights.safetensors or weights.npz and n_mels in config.json, a Hugging Face one has"
        ' model.safetensors and "model_type": "whisper" in config.json'
    )


def traits_of(source: Path, name: str, n_vocab: int, codes: Sequence[str]) -> ModelTraits:
    """What a model can be asked for; `source` may have a `voxroute.json`, which decides.

    `codes` are Whisper's language codes in the order of their tokens.
    """
    multilingual = n_vocab >= N_VOCAB_MULTILINGUAL
    return files.traits_of(source, name, [bcp47(code) for code in codes] if multilingual else [])
