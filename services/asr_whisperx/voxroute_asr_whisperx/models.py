"""Names of speech models, and what the files of a model say about it. No ML library is imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from voxroute_serving.asr.whisper import files
from voxroute_serving.asr.whisper.family import bcp47
from voxroute_serving.asr.whisper.files import ModelTraits, cached_revision, read_json
from voxroute_serving.domain import Activity
from voxroute_serving.errors import ModelUnavailableError
from voxroute_serving.models import hub

CTRANSLATE2_FILES = (
    "config.json",
    "model.bin",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocabulary.*",
)
HUGGING_FACE_FILES = (
    "added_tokens.json",
    "generation_config.json",
    "merges.txt",
    *hub.SAFETENSORS,
    "model.safetensors.index.json",
    "normalizer.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
)
OWN_FILES = ("voxroute.json",)
WEIGHTS = ("model.bin", "model.safetensors", "pytorch_model.bin")
"""Of one file, as they are on this machine once they are downloaded."""


def format_of(directory: Path) -> Literal["ctranslate2", "hugging-face"]:
    """The format of the Whisper model in a directory.

    Raises ModelUnavailableError where there is none.
    """
    config = read_json(directory / "config.json", needed=True)
    if (directory / "model.bin").is_file():
        return "ctranslate2"
    if config.get("model_type") == "whisper" and _has_weights(directory):
        return "hugging-face"
    raise ModelUnavailableError(
        f"the directory of model {directory.name!r} holds no Whisper model: a CTranslate2 model"
        " has model.bin beside config.json, a Hugging Face one has model.safetensors and"
        ' "model_type": "whisper" in config.json'
    )


_ENGLISH_START = 50_257  # openai/whisper's vocabulary for English alone has one token less


def traits_of(directory: Path, source: Path, name: str) -> ModelTraits:
    """What the files of a CTranslate2 model say about it.

    `source` is the directory that it was converted from, or the same one, whose `voxroute.json`
    decides; see voxroute_serving.asr.whisper.files. `name` is what the model is called.

    Raises ModelUnavailableError where the tokenizer is missing or a file cannot be read.
    """
    vocabulary = special_tokens(directory, name)
    languages = _languages_of_config(directory, vocabulary) if is_multilingual(vocabulary) else ()
    return files.traits_of(source, name, languages)


def is_multilingual(vocabulary: Mapping[str, int]) -> bool:
    """Whether a model with these special tokens tells languages apart."""
    return (
        "<|translate|>" in vocabulary
        and len(_languages(vocabulary)) > 1
        # conversions of such models list languages all the same, by the other vocabulary's numbers
        and vocabulary["<|startoftranscript|>"] != _ENGLISH_START
    )


def _languages_of_config(directory: Path, vocabulary: Mapping[str, int]) -> tuple[str, ...]:
    """The languages that the converted model's own list names, else all of the tokenizer's."""
    ids = read_json(directory / "config.json", needed=True).get("lang_ids")
    listed = set(cast("list[int]", ids)) if isinstance(ids, list) else set[int]()
    languages = _languages(vocabulary)
    chosen = tuple(bcp47(code) for code, token in languages.items() if token in listed)
    return chosen or tuple(bcp47(code) for code in languages)


def _languages(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Language codes and token ids: what stands between the start token and the tasks."""
    first, last = vocabulary["<|startoftranscript|>"], vocabulary.get("<|translate|>", 0)
    return {
        token[2:-2]: number
        for token, number in sorted(vocabulary.items(), key=lambda item: item[1])
        if first < number < last and token not in ("<|transcribe|>", "<|translate|>")
    }


def special_tokens(directory: Path, name: str) -> dict[str, int]:
    """Whisper's own tokens and their numbers. Raises ModelUnavailableError."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelUnavailableError(
            f"model {name!r} has no tokenizer.json; copy the one of the model that it was made"
            " from into its directory"
        )
    added = read_json(path, needed=True).get("added_tokens", [])
    tokens = {str(token["content"]): int(token["id"]) for token in added}
    if "<|startoftranscript|>" not in tokens:
        raise ModelUnavailableError(f"the tokenizer.json of model {name!r} is not one of Whisper's")
    return tokens


def _has_weights(directory: Path) -> bool:
    return any(directory.glob("*.safetensors")) or any(directory.glob("pytorch_model*.bin"))


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a hub's model, and no path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def in_hub_cache(hub_id: str) -> bool:
    """Whether a hub's model, weights included, is on this machine."""
    return cached_revision(hub_id, WEIGHTS) is not None


def fetched(
    name: str,
    patterns: Sequence[str],
    *,
    offline: bool,
    token: str | None,
    activity: Activity | None = None,
) -> Path:
    """The directory of a model: a local one as it is, a hub id with its files downloaded.

    Weights that are pickled (`pytorch_model.bin`) are fetched only where there are no others.
    Raises ModelNotFoundError, ModelUnavailableError.
    """
    directory = hub.local_directory(
        name, offline=offline, token=token, allow_patterns=patterns, activity=activity
    )
    if not (directory / "model.bin").is_file() and not _has_weights(directory):
        directory = hub.local_directory(
            name,
            offline=offline,
            token=token,
            allow_patterns=[*patterns, *hub.PICKLED_FILES],
            activity=activity,
        )
    return directory
