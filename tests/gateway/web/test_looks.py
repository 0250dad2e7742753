"""Each view for everybody: with a screen reader, on a telephone, in the dark, by keys alone."""

import re
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.gateway.web.conftest import Opened, texts
from tests.gateway.web.test_editing import segment_texts
from tests.gateway.web.test_film import saved

pytestmark = pytest.mark.slow

VIEWS = ("jobs", "new", "live", "services", "help", "job")
KEPT = {
    "spoken": ["en"],
    "targets": ["hi", "ar"],
    "lines": [{"id": "a", "text": "Good night.", "done": True, "start": 0.3, "end": 1.4}],
    "translations": {"a": {"hi": {"text": "शुभ रात्रि।"}}},
}
NARROW = {"width": 360, "height": 740}
WIDE = {"width": 1920, "height": 1080}
AXE = """
async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.map((one) =>
    [one.id, one.nodes.slice(0, 3).map((node) => node.html + " " + node.failureSummary)]);
}
"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def axe(clients: Path) -> str:
    """The program that looks for what keeps people out."""
    return (clients / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def shown(page: Page, view: str) -> None:
    """Returns once the view has what it shows."""
    if view == "job":
        expect(segment_texts(page).first).to_have_value(re.compile("."))
    elif view == "services":
        expect(page.get_by_role("status").filter(has_text="There")).to_have_count(4)
    else:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    if view == "jobs":
        expect(page.get_by_text("Done").first).to_be_visible()


@pytest.mark.parametrize("view", VIEWS)
def test_nobody_is_kept_out(opened: Opened, axe: str, job_id: str, view: str) -> None:
    """By axe-core, light and dark, narrow and wide; and nothing is wider than the screen."""
    place = f"job/{job_id}" if view == "job" else view
    for scheme in ("light", "dark"):
        for size in (NARROW, WIDE):
            page = opened(place, viewport=size, color_scheme=scheme)
            shown(page, view)
            page.evaluate(axe)
            assert page.evaluate(AXE) == [], (scheme, size)
            assert page.evaluate(SIDEWAYS) <= 0, (scheme, size)
            page.close()


def test_nobody_is_kept_out_of_what_was_said(opened: Opened, axe: str) -> None:
    """Live text with its translations, one that failed, and sound that is kept."""
    page = opened("live", viewport=NARROW)
    page.evaluate("(kept) => localStorage.setItem('voxroute:live', JSON.stringify(kept))", KEPT)
    page.route("**/translate", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("Not translated to Arabic")).to_be_visible()
    page.evaluate(
        "async () => { const { live } = await import('/ui/live/live.js');"
        " live.recording.add(new ArrayBuffer(480_000)); }"
    )
    expect(page.get_by_role("button", name="Save as a job")).to_be_enabled()
    page.evaluate(axe)
    assert page.evaluate(AXE) == []
    assert page.evaluate(SIDEWAYS) <= 0
    page.get_by_role("button", name="Clear").press("Enter")
    expect(page.get_by_role("dialog", name="Clear all of it?")).to_be_visible()
    page.evaluate(axe)
    assert page.evaluate(AXE) == []
    page.get_by_role("dialog").get_by_role("button", name="Clear").press("Enter")
    expect(page.get_by_role("region", name="What is said")).to_contain_text("is written here")


@pytest.mark.parametrize("name", ["Export", "Speakers"])
def test_nobody_is_kept_out_of_a_dialog(opened: Opened, axe: str, job_id: str, name: str) -> None:
    """It has a name, takes the focus and gives it back."""
    page = opened(f"job/{job_id}")
    shown(page, "job")
    button = page.get_by_role("button", name=name)
    button.press("Enter")
    dialog = page.get_by_role("dialog", name=name)
    expect(dialog).to_be_visible()
    page.evaluate(axe)
    assert page.evaluate(AXE) == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_a_job_is_made_and_corrected_by_keys_alone(
    opened: Opened, client: httpx.Client, short: Path
) -> None:
    """From the first Tab to the text that is saved."""
    page = opened("help")
    expect(page.get_by_role("heading", name="Help", level=1)).to_be_visible()

    def tab_to(name: str, most: int = 40) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            found: Any = page.evaluate(
                "() => { const e = document.activeElement;"
                " return e.getAttribute('aria-label') || e.labels?.[0]?.textContent"
                " || (e === document.body ? '' : e.textContent); }"
            )
            if name in (found or ""):
                return
        raise AssertionError(f"no way to {name}")

    tab_to("New")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    tab_to("Choose files")
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(short)
    tab_to("Spoken")
    page.keyboard.type("English")
    page.keyboard.press("Enter")
    tab_to("Start")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="See it in Jobs")).to_be_visible()
    page.evaluate("document.activeElement.blur()")
    tab_to("See it in Jobs")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Open").first).to_be_visible(timeout=60_000)
    tab_to("Open")
    page.keyboard.press("Enter")
    shown(page, "job")
    tab_to("Text at")
    page.keyboard.press("End")
    page.keyboard.type(" By keys.")
    page.keyboard.press("Control+s")
    saved(page)
    assert any(text.endswith(" By keys.") for text in texts(client, page.url.rpartition("/")[2]))
    page.keyboard.press("Alt+ArrowDown")
    expect(segment_texts(page).nth(1)).to_be_focused()
    page.keyboard.press("Escape")  # plays, as in oTranscribe
    page.wait_for_function("() => !document.querySelector('video').paused")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelector('video').paused")
    before = page.evaluate("document.querySelector('video').currentTime")
    page.keyboard.press("F2")
    page.wait_for_function(f"() => document.querySelector('video').currentTime > {before} + 1")
