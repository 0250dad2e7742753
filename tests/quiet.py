"""For tests with the libraries of engines."""

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet_libraries() -> Iterator[None]:
    """Third-party libraries warn while they are imported; only our own warnings count."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(?!voxroute).*")
        yield


def never() -> bool:
    """What stops no work: the caller waits."""
    return False
