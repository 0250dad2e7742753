"""Many clients at once, and uploads that are larger than the memory they may take."""

import os
from pathlib import Path

import pytest

from benchmarks import gateway

LOAD_S = float(os.environ.get("VOXROUTE_TEST_LOAD_S", "60"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_300_megabytes_do_not_grow_the_memory(tmp_path: Path) -> None:
    """They go through the disk, while the service takes them."""
    with gateway.running(places=2) as setup:
        growth = gateway.upload_growth(setup, gateway.silence(tmp_path / "silence.wav"))
    assert growth < gateway.PROMISED["upload_bytes"]


@pytest.mark.slow
@pytest.mark.timeout(LOAD_S + 600)
def test_no_call_is_lost_among_many() -> None:
    """64 clients of every kind with 8 places: all are answered, and the memory stays flat."""
    with gateway.running(gateway.PLACES) as setup:
        found = gateway.load(setup, LOAD_S)
    assert not found.lost
    assert {"json", "stream", "bazarr", "language", "translation", "models"} <= set(found.calls)
    assert found.left > 0
    assert found.memory_growth < gateway.PROMISED["load_bytes"]
