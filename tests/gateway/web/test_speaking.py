"""The live view, with a microphone that plays a recording."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.gateway.live.speaking import SAID
from tests.gateway.web.conftest import Opened, started_browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(short: Path) -> Iterator[Browser]:
    """One whose microphone hears the bundled monologue once, and then nothing."""
    with started_browser(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={short}%noloop",
    ) as running:
        yield running


def test_what_is_said_is_written_down(opened: Opened) -> None:
    """Settled text, kept over a reload, to be saved as a file."""
    page = opened("live", permissions=["microphone"])
    page.get_by_label("Spoken").fill("English")
    page.get_by_role("button", name="Start the microphone").click()
    expect(page.get_by_text("Listening")).to_be_visible()
    said = page.get_by_role("region", name="What is said")
    expect(said).to_contain_text("repaired this radio", timeout=60_000)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Start the microphone")).to_be_visible()
    heard = re.sub(r"\s+", " ", said.inner_text()).strip()
    assert heard == SAID
    assert page.locator(".tentative").count() == 0
    page.reload()
    expect(page.get_by_role("region", name="What is said")).to_contain_text("repaired this radio")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as text").click()
    assert "repaired this radio" in download.value.path().read_text(encoding="utf-8")


def test_a_microphone_that_is_not_allowed_is_told(opened: Opened) -> None:
    """In a sentence, and it can be tried again."""
    page = opened("live")
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = () =>"
        " Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    page.get_by_role("button", name="Start the microphone").click()
    expect(page.get_by_role("alert")).to_contain_text("does not let this page hear")
    expect(page.get_by_role("button", name="Start the microphone")).to_be_visible()
