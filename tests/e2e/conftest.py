"""Services that a whole module's tests share, and the example's bytes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import processes


@pytest.fixture(scope="session")
def clip() -> Path:
    """The bundled example: about a minute of Hindi, H.264 and AAC in mp4."""
    (path,) = (processes.ROOT / "examples").glob("*.mp4")
    return path


@pytest.fixture(scope="session")
def asr() -> Iterator[processes.Service]:
    """The WhisperX service with the bundled model, for tests that leave it as they found it."""
    with processes.asr_service() as running:
        yield running


@pytest.fixture(scope="session")
def translation() -> Iterator[processes.Service]:
    """The translation service with the bundled model."""
    with processes.translate_service() as running:
        yield running
