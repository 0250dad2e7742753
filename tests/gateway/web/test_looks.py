"""Each view for everybody: with a screen reader, on a telephone, in the dark, by keys alone."""

import re
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Page, expect

from tests.gateway.test_jobs import ended
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


def _tab_to(page: Page, name: str) -> None:
    """Goes on until something of that name has the focus; at most once around the page."""
    seen: list[str] = []
    for _ in range(400):
        page.keyboard.press("Tab")
        found: str = page.evaluate(
            "() => { const e = document.activeElement;"
            " return e.getAttribute('aria-label') || e.labels?.[0]?.textContent"
            " || (e === document.body ? '' : e.textContent); }"
        )
        if name in found:
            return
        seen.append(found)
    raise AssertionError(f"no way to {name}: {seen}")


def _made_by_keys(page: Page, client: httpx.Client, short: Path) -> str:
    """The id of a job that was made from the first Tab on, once it has ended."""
    # from the beginning: the browser asks for what is listened to only some time after that is said
    page.on("filechooser", lambda chooser: chooser.set_files(short))
    _tab_to(page, "New")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New job")).to_be_visible()
    _tab_to(page, "Choose files")
    page.keyboard.press("Enter")
    expect(page.get_by_role("list", name="Chosen files")).to_contain_text(short.name)
    _tab_to(page, "Spoken")
    page.keyboard.type("English")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Without English")).to_be_visible()
    _tab_to(page, "Start")
    with page.expect_response(lambda told: told.url.endswith("/api/jobs") and told.ok) as made:
        page.keyboard.press("Enter")
    # an engine on a busy machine takes its time, which is none of the page's
    return ended(client, made.value.json()["job"]["id"])["id"]


def test_a_job_is_made_and_corrected_by_keys_alone(
    opened: Opened, client: httpx.Client, short: Path
) -> None:
    """From the first Tab to the text that is saved and the file that is taken along."""
    page = opened("help")
    expect(page.get_by_role("heading", name="Help", level=1)).to_be_visible()
    job_id = _made_by_keys(page, client, short)
    expect(page.get_by_role("link", name="See it in Jobs")).to_be_visible()
    _tab_to(page, "See it in Jobs")
    page.keyboard.press("Enter")
    newest = page.get_by_role("list", name="Jobs").get_by_role("listitem").first
    expect(newest.get_by_role("link", name="Open")).to_be_visible()
    expect(newest.get_by_role("link", name="Open")).to_have_attribute("href", f"#/job/{job_id}")
    _tab_to(page, "Open")
    page.keyboard.press("Enter")
    shown(page, "job")
    assert page.url.endswith(job_id)
    _tab_to(page, "Text at")
    page.keyboard.press("End")
    page.keyboard.type(" By keys.")
    page.keyboard.press("Control+s")
    saved(page)
    assert any(text.endswith(" By keys.") for text in texts(client, job_id))
    page.keyboard.press("Alt+ArrowDown")
    expect(segment_texts(page).nth(1)).to_be_focused()
    page.keyboard.press("Escape")  # plays, as in oTranscribe
    page.wait_for_function("() => !document.querySelector('video').paused")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelector('video').paused")
    page.evaluate("document.querySelector('video').currentTime = 0")
    page.keyboard.press("F2")
    page.wait_for_function("() => document.querySelector('video').currentTime > 1")
    _tab_to(page, "Export")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Export")).to_be_visible()
    _tab_to(page, "SubRip")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert "By keys." in download.value.path().read_text(encoding="utf-8")
