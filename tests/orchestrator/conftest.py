"""What tests of several folders share."""

from collections.abc import Iterator

import pytest

from tests.orchestrator.daemon import Services, stand_in_services


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """The stand-ins that all runs of a module use."""
    with stand_in_services() as running:
        yield running
