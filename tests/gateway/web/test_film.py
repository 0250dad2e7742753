"""The way of a person: a recording is dropped, becomes subtitles, is corrected and taken along."""

import re
from pathlib import Path

import httpx2 as httpx
from playwright.sync_api import Page, expect

from tests.gateway.web.conftest import Opened, texts

DROP = """
async ([name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.querySelector(".drop").dispatchEvent(
    new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
}
"""


def drop(page: Page, recording: Path, name: str) -> None:
    """Lets go of a file over the page."""
    import base64  # noqa: PLC0415 - of this alone

    page.locator(".drop").wait_for()
    page.evaluate(DROP, [name, base64.b64encode(recording.read_bytes()).decode()])


def choose_languages(page: Page, spoken: str, wanted: str) -> None:
    """By name and by code."""
    page.get_by_label("Spoken").fill(spoken)
    page.keyboard.press("Enter")
    page.get_by_label("Subtitles in").fill(wanted)
    page.keyboard.press("Enter")


def saved(page: Page) -> None:
    """Returns once what was written is saved."""
    expect(page.locator(".saving")).to_have_text("Saved")


def test_a_recording_becomes_subtitles_that_a_person_has_corrected(
    opened: Opened, client: httpx.Client, short: Path
) -> None:
    """From the drop to the file, without a word about how."""
    page = opened("new")
    drop(page, short, "An evening.wav")
    choose_languages(page, "English", "hi")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="See it in Jobs").click()
    card = page.get_by_role("listitem").filter(has_text="An evening.wav").first
    expect(card).to_contain_text("English → Hindi", use_inner_text=True)
    card.get_by_role("link", name="Open").click(timeout=60_000)

    text = page.get_by_role("textbox", name="Text at 0:0").first
    expect(text).to_have_value(re.compile("."))
    text.fill("Good evening, everybody.")
    saved(page)
    job_id = page.url.rpartition("/")[2]
    assert texts(client, job_id)[0] == "Good evening, everybody."

    page.get_by_role("button", name="Export").click()
    page.get_by_label("English (spoken)").check()
    with page.expect_download() as download:
        page.get_by_role("link", name="SubRip").click()
    content = download.value.path().read_text(encoding="utf-8")
    assert "Good evening, everybody." in content
    assert content.startswith("1\n00:00:0")
    assert download.value.suggested_filename.endswith(".srt")
