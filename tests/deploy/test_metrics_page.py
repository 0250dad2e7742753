"""docs/metrics.md and the metrics themselves."""

import re

import pytest

from scripts import metrics_page

REGISTRIES = metrics_page.registries()
BASE_UNITS = ("_seconds", "_bytes", "_ratio", "_info", "_size", "_factor")


def test_the_page_lists_every_metric_as_it_is() -> None:
    """A metric that is new, gone or changed fails here until scripts/metrics_page.py has run."""
    page = metrics_page.PAGE.read_text(encoding="utf-8")
    assert page == metrics_page.rendered(page)


@pytest.mark.parametrize("name", REGISTRIES)
def test_names_follow_the_conventions_of_prometheus(name: str) -> None:
    """A prefix, base units, help that is a sentence; a histogram's name ends with its unit."""
    for metric in metrics_page.families(REGISTRIES[name]):
        exposed = metrics_page.exposed_name(metric)
        assert re.fullmatch(r"(voxroute|grpc_server)_[a-z_]+", exposed), exposed
        assert metric.documentation.endswith("."), exposed
        if metric.type == "histogram":
            assert exposed.endswith(BASE_UNITS), exposed
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)\b", exposed), exposed


def test_parts_of_the_product_do_not_share_names() -> None:
    """A speech service and a job server on one page would otherwise clash."""
    names = [m.name for r in REGISTRIES.values() for m in metrics_page.families(r)]
    assert len(names) == len(set(names))
