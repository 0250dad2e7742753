"""What tests of the device share."""

from collections.abc import AsyncGenerator

import pytest

from voxroute_serving.device.batcher import DeviceThread


@pytest.fixture
async def device() -> AsyncGenerator[DeviceThread]:
    """A device thread that has ended after the test."""
    thread = DeviceThread()
    yield thread
    assert await thread.close(5)
