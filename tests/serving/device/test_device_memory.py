"""What is asked of the host and of the driver for the gauges of the device's memory."""

import shutil

import pytest

from voxroute_serving.device.memory import with_memory
from voxroute_serving.device.nvidia import cuda_memory
from voxroute_serving.domain import DeviceInfo


def test_what_the_engine_knows_stays() -> None:
    """Numbers of the engine are not asked for again."""
    device = DeviceInfo("cuda", "GPU", "float16", 10, 4)
    assert with_memory(device) is device


def test_a_processor_has_the_hosts_memory() -> None:
    """Free is at most all of it."""
    device = with_memory(DeviceInfo("cpu", "CPU", "int8"))
    assert device.memory_total_bytes is not None
    assert device.memory_free_bytes is None or device.memory_free_bytes < device.memory_total_bytes


def test_nobody_but_the_engine_knows_what_metal_may_take() -> None:
    """Nothing is guessed for it."""
    device = DeviceInfo("mps", "M4", "float16")
    assert with_memory(device) is device


def test_cuda_memory_is_that_of_the_driver_or_nothing() -> None:
    """With a driver both numbers are there and make sense; without one neither is."""
    total, free = cuda_memory()
    if shutil.which("nvidia-smi") is None:
        assert (total, free) == (None, None)
    else:
        assert total is not None
        assert free is not None
        assert 0 < free <= total


@pytest.mark.parametrize("known", [None, 7])
def test_a_size_that_the_engine_knows_is_kept_beside_what_the_driver_says(
    known: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is missing is filled in."""
    monkeypatch.setattr("voxroute_serving.device.memory.cuda_memory", lambda: (9, 3))
    device = with_memory(DeviceInfo("cuda", "GPU", "float16", known))
    assert (device.memory_total_bytes, device.memory_free_bytes) == (known or 9, 3)
