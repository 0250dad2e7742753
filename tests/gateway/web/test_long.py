"""A transcript of many hours in a browser: how fast it is there, and how fast it answers."""

import logging
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import expect

from tests.gateway.web.conftest import Opened, finished_job, put, texts, transcript
from tests.gateway.web.test_editing import segment_texts
from tests.gateway.web.test_film import saved

pytestmark = pytest.mark.slow


def _long(n_segments: int, length_s: float) -> list[dict[str, Any]]:
    """Segments with words, as those of hours, in the time of the recording that there is."""
    said = "the doctor is sleeping in the garden and my brother has repaired it".split()  # noqa: SIM905
    segments: list[dict[str, Any]] = []
    at = 0.0
    for i in range(n_segments):
        words = [said[(i + j) % len(said)] for j in range(3 + i % 15)]
        timed = [
            {"start_s": at + 0.3 * j, "end_s": at + 0.3 * j + 0.25, "text": word}
            for j, word in enumerate(words)
        ]
        end = at + 0.3 * len(words)
        segments.append({
            "id": f"long-{i}", "start_s": at, "end_s": end, "text": " ".join(words), "words": timed,
            "language": "en", "speaker": f"SPEAKER_0{i % 3}",
            "translations": {"en": {"text": "यह दरवाज़ा क्यों खोला है"}},
        })  # fmt: skip
        at = end + 0.2
    for one in [*segments, *(word for segment in segments for word in segment["words"])]:
        for time in ("start_s", "end_s"):
            one[time] *= length_s / at
    return segments


TYPED = """
async () => {
  const took = [];
  for (let i = 0; i < 40; i += 1) {
    const began = performance.now();
    document.execCommand("insertText", false, "x");
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    took.push(performance.now() - began);
  }
  return took.sort((a, b) => a - b);
}
"""
SCROLLED = """
async () => {
  const list = document.querySelector(".list");
  const took = [];
  for (let i = 0; i < 100; i += 1) {
    const began = performance.now();
    list.scrollTop += 120;
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    took.push(performance.now() - began);
  }
  return took.sort((a, b) => a - b);
}
"""
OPENED = """
(id) => new Promise((resolve) => {
  const began = performance.now();
  const seen = [];
  const look = new MutationObserver(() => {
    const editor = document.querySelector(".editor");
    const whole = editor && !editor.inert;
    if (!document.querySelector(".segment") || seen.length === (whole ? 2 : 1)) return;
    seen.length = whole ? 2 : 1;
    // once it is painted
    requestAnimationFrame(() => setTimeout(() => {
      seen[0] ??= performance.now() - began;
      if (!whole) return;
      look.disconnect();
      resolve([seen[0], performance.now() - began]);
    }));
  });
  look.observe(document.body, { childList: true, subtree: true, attributes: true });
  location.hash = `#/job/${id}`;
})
"""


def test_five_thousand_segments_are_as_easy_as_five(
    opened: Opened, client: httpx.Client, clip: Path
) -> None:
    """The first view within a second, keys within 50 ms, few rows in the page."""
    asked = {"source_languages": ["hi"], "target_languages": ["en"], "upload_name": clip.name}
    job_id = finished_job(client, clip, **asked)["id"]
    length_s = transcript(client, job_id)["duration_s"]
    put(client, job_id, segments=_long(5000, length_s))
    page = opened("help")
    first_ms, whole_ms = page.evaluate(OPENED, job_id)
    rows = page.locator(".segment").count()
    segment_texts(page).nth(2).click()
    typed = page.evaluate(TYPED)
    saved(page)
    assert texts(client, job_id)[2].count("x") == 40
    scrolled = page.evaluate(SCROLLED)
    page.evaluate("document.querySelector('.list').scrollTop = 1e9")
    expect(page.get_by_role("listitem").last).to_have_attribute("aria-posinset", "5000")
    figures = f"first view {first_ms:.0f} ms after the click, the whole {whole_ms:.0f},"
    figures += f" {rows} rows; typing p50 {typed[20]:.0f},"
    figures += f" p95 {typed[37]:.0f} ms; scrolling"
    figures += f" p95 {scrolled[95]:.0f} ms"
    logging.getLogger(__name__).info(figures)
    assert rows < 60, figures
    assert first_ms < 1000, figures
    assert typed[20] < 50, figures
