"""The live view with the sound of another tab, by the browser's own capture."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.gateway.web.conftest import Opened, started_browser

pytestmark = pytest.mark.slow

TAB = "An evening"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One whose person chooses the tab of that name; there is no microphone."""
    flag = f"--auto-select-tab-capture-source-by-title={TAB}"
    with started_browser(flag, muted=False) as running:
        yield running


def test_what_a_tab_plays_is_written_down(opened: Opened, short: Path) -> None:
    """Until the tab is closed."""
    page = opened("live")
    tab = page.context.new_page()
    tab.route(
        "**/evening.wav",
        lambda route: route.fulfill(body=short.read_bytes(), content_type="audio/wav"),
    )
    tab.goto(page.url)
    tab.evaluate(f"() => {{ document.title = '{TAB}'; window.sound = new Audio('/evening.wav'); }}")
    page.bring_to_front()
    page.get_by_label("Spoken").fill("English")
    page.get_by_role("button", name="Start a tab or screen").click()
    expect(page.get_by_text("Listening")).to_be_visible()
    tab.evaluate("() => window.sound.play()")
    said = page.get_by_role("region", name="What is said")
    expect(said).to_contain_text("repaired this radio", timeout=60_000)
    tab.close()
    expect(page.get_by_role("button", name="Start the microphone")).to_be_visible()
