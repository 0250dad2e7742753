"""What every test has in common."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_hub() -> None:
    """Nothing in a test may ask a model hub; here in case a library tries."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
