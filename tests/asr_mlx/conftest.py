# pyright: basic
# ruff: noqa: PLC0415 - ML libraries are imported by the fixtures that need them
"""Engines and models for the tests: the bundled one, and a tiny random one made on the spot."""

from pathlib import Path

import pytest

from tests.quiet import quiet_libraries
from tests.random_whisper import save_whisper
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.settings import MlxSettings

__all__ = ["quiet_libraries"]


def settings_of(cache: Path, **fields: object) -> MlxSettings:
    """Settings of a service without network, its caches in a directory of the test."""
    return MlxSettings.model_validate(
        {"offline": True, "device": "cpu", "model_cache_dir": cache, **fields}
    )


def save_checkpoint(directory: Path, *, vocab_size: int = 51865) -> Path:
    """A Hugging Face Whisper checkpoint with random weights and no tokenizer of its own."""
    generation = {"alignment_heads": [[1, 0], [1, 1]]}
    ffn = {"encoder_ffn_dim": 256, "decoder_ffn_dim": 256}
    context = {"max_target_positions": 128}  # such weights write until there is no room left
    own = {"vocab_size": vocab_size, "init_std": 0.2, **ffn, **context}
    return save_whisper(directory, generation, **own)


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny multilingual checkpoint with random weights."""
    return save_checkpoint(tmp_path_factory.mktemp("models") / "random-whisper")


@pytest.fixture(scope="session")
def random_mlx(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the format of mlx-whisper."""
    from voxroute_asr_mlx.convert import convert

    directory = tmp_path_factory.mktemp("models") / "random-whisper-mlx"
    directory.mkdir()
    convert(random_checkpoint, directory)
    return directory


@pytest.fixture(scope="session")
def engine(random_mlx: Path, cache: Path) -> MlxWhisperEngine:
    """mlx-whisper on the CPU with the random model as its default."""
    return MlxWhisperEngine(settings_of(cache, model=str(random_mlx)))
