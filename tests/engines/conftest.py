# pyright: basic
# ruff: noqa: PLC0415 - ML libraries are imported by the fixtures that need them
"""Engines and models for the tests: the bundled ones, and tiny random ones made on the spot."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests.quiet import quiet_libraries
from tests.random_whisper import save_whisper
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings

__all__ = ["quiet_libraries"]
ROOT = Path(__file__).parents[2]
BUNDLED_ASR = ROOT / "models" / "asr-tiny-hi-en"
BUNDLED_ALIGNER = ROOT / "models" / "align-tiny-hi-en"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")


def settings_of(cache: Path, **fields: object) -> WhisperXSettings:
    """Settings of a service without network, its caches in a directory of the test."""
    return WhisperXSettings.model_validate(
        {"offline": True, "device": "cpu", "model_cache_dir": cache, **fields}
    )


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face Whisper checkpoint with Whisper's tokenizer and random weights."""
    if not (BUNDLED_ASR / "tokenizer.json").is_file():
        pytest.skip("models/asr-tiny-hi-en/tokenizer.json is missing")
    from transformers import WhisperFeatureExtractor

    generation = {
        "suppress_tokens": [1, 2, 7],
        "begin_suppress_tokens": [220, 50257],
        "lang_to_id": {"<|en|>": 50259, "<|hi|>": 50276, "<|jw|>": 50356},
    }
    directory = save_whisper(tmp_path_factory.mktemp("models") / "random-whisper", generation)
    WhisperFeatureExtractor().save_pretrained(directory)
    for name in TOKENIZER_FILES:
        shutil.copy(BUNDLED_ASR / name, directory)
    return directory


@pytest.fixture(scope="session")
def bundled_aligner() -> Path:
    """The bundled Wav2Vec2ForCTC model, for Hindi and English."""
    if not (BUNDLED_ALIGNER / "model.safetensors").is_file():
        pytest.skip("models/align-tiny-hi-en/model.safetensors is missing")
    return BUNDLED_ALIGNER


@pytest.fixture(scope="session")
def engine(random_checkpoint: Path, cache: Path) -> WhisperXEngine:
    """WhisperX on the CPU with the random checkpoint as its default."""
    return WhisperXEngine(settings_of(cache, model=str(random_checkpoint)))


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None
