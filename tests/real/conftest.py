"""Real weights and recordings, where `make real-models` has fetched them."""

from pathlib import Path

import pytest

from benchmarks.recordings import HOW_TO_GET, REAL_MODELS, SpeechSet, speech_sets
from tests.quiet import quiet_libraries

__all__ = ["quiet_libraries"]


def real_model(name: str) -> Path:
    """The directory of a real model; skips where there is none."""
    if not (REAL_MODELS / name).is_dir():
        pytest.skip(f"models/real/{name} is missing; {HOW_TO_GET}")
    return REAL_MODELS / name


@pytest.fixture(scope="session")
def english() -> SpeechSet:
    """Short English recordings; skips where there are none."""
    sets = [one for one in speech_sets("en") if one.name == "en-short"]
    if not sets:
        pytest.skip(f"models/real/speech is missing; {HOW_TO_GET}")
    return sets[0]
