"""Real weights and recordings, where `make real-models` has fetched them."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.recordings import HOW_TO_GET, REAL_MODELS, SpeechSet, speech_sets


@pytest.fixture(autouse=True)
def _quiet_libraries() -> Iterator[None]:
    """Third-party libraries warn while they are imported; only our own warnings count."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(?!voxroute).*")
        yield


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
