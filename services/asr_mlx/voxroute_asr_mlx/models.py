"""Names of speech models, and what the files of a model say about it. No ML library is imported."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from voxroute_serving.asr.whisper_family import TRANSCRIBE_ONLY, bcp47
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

Task = Literal["transcribe", "translate"]


@dataclass(frozen=True, slots=True)
class ModelTraits:
    """What a model can be asked for."""

    languages: tuple[str, ...]
    """BCP-47."""
    tasks: tuple[Task, ...]
    keeps_pauses: bool = False
    """Whether it is to hear speech with its pauses, as it was trained."""


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
    """What a model can be asked for.

    `codes` are Whisper's language codes in the order of their tokens. The `voxroute.json` of
    `source`, where there is one, decides: {"languages": ["hi", "en"], "tasks": ["transcribe"],
    "keeps_pauses": true}, each key optional.
    """
    own = read_json(source / "voxroute.json", needed=False)
    multilingual = n_vocab >= N_VOCAB_MULTILINGUAL
    languages = tuple(str(tag) for tag in cast("Sequence[object]", own.get("languages") or ()))
    if not languages:
        languages = tuple(bcp47(code) for code in codes) if multilingual else ("en",)
    tasks: tuple[Task, ...] = ("transcribe",)
    if own.get("tasks"):
        tasks = tuple(task for task in ("transcribe", "translate") if task in own["tasks"])
    elif multilingual and not any(part in name for part in TRANSCRIBE_ONLY):
        tasks = ("transcribe", "translate")
    return ModelTraits(languages, tasks, keeps_pauses=own.get("keeps_pauses") is True)


def cached_revision(hub_id: str) -> str | None:
    """The commit of a hub's model that is on this machine with its weights; None for none."""
    for weights in (*MLX_WEIGHTS, "model.safetensors"):
        path = hub.cached_file(hub_id, weights)
        if path is not None:
            return path.parent.name
    return None


def read_json(path: Path, *, needed: bool) -> dict[str, Any]:
    """The object in a JSON file; empty where it is missing and not needed.

    Raises ModelUnavailableError.
    """
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        if not needed:
            return {}
        raise ModelUnavailableError(
            f"the directory of model {path.parent.name!r} has no {path.name}; it holds no model"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"{path.name} of model {path.parent.name!r} cannot be read as JSON; get it again"
        ) from error
