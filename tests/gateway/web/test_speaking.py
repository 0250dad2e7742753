"""The live view, with a microphone that plays a recording."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Dialog, expect

from tests.gateway.live.speaking import LENGTH_S, SAID
from tests.gateway.test_jobs import ended
from tests.gateway.web.conftest import Opened, started_browser, transcript

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


def test_what_is_said_is_translated(opened: Opened) -> None:
    """Below each utterance; what a translator fails at is told there, and can be tried again."""
    page = opened("live", permissions=["microphone"])
    page.get_by_label("Spoken").fill("English")
    page.get_by_label("Translated into").fill("Hindi")
    page.route("**/translate", lambda route: route.abort())
    page.get_by_role("button", name="Start the microphone").click()
    said = page.get_by_role("region", name="What is said")
    expect(said).to_contain_text("repaired this radio", timeout=60_000)
    expect(said.get_by_text("Not translated to Hindi: The gateway")).to_have_count(4)
    page.unroute("**/translate")
    page.get_by_role("button", name="Translate again what failed").click()
    translated = said.locator("p[lang=hi]")
    expect(translated).to_have_text([re.compile("[\u0900-\u097f]")] * 4)
    expect(page.get_by_role("button", name="Translate again what failed")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    before = translated.all_inner_texts()
    page.reload()
    assert said.locator("p[lang=hi]").all_inner_texts() == before


def test_what_was_heard_becomes_a_job(opened: Opened, client: httpx.Client) -> None:
    """With the same languages; who leaves before that is asked, and the text is there at once."""
    page = opened("live", permissions=["microphone"])
    page.get_by_label("Spoken").fill("English")
    page.get_by_label("Translated into").fill("Hindi")
    page.get_by_role("button", name="Start the microphone").click()
    said = page.get_by_role("region", name="What is said")
    expect(said).to_contain_text("repaired this radio", timeout=60_000)
    expect(said.locator("p[lang=hi]")).to_have_count(4)
    for name, words in (
        ("Save as SRT", "brother has already"),
        ("SRT in Hindi", "[\u0900-\u097f]"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        cues = download.value.path().read_text(encoding="utf-8").strip().split("\n\n")
        assert len(cues) == 4
        times = [re.findall(r"00:00:(\d\d),(\d\d\d)", one) for one in cues]
        seconds = [int(whole) + int(ms) / 1000 for cue in times for whole, ms in cue]
        assert seconds == sorted(seconds)
        assert 8 < seconds[-1] - seconds[0] < LENGTH_S + 1
        assert re.search(words, cues[-1])
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("of sound kept in this page, of 2:00:00 at most")).to_be_visible()

    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.evaluate("() => { setTimeout(() => location.reload(), 0); }")
    page.wait_for_timeout(1000)
    assert asked == ["beforeunload"]
    page.get_by_role("link", name="Help").click()
    page.get_by_role("link", name="Live").click()
    expect(said).to_contain_text("repaired this radio")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("dialog")).to_contain_text("is in no job")
    page.get_by_role("button", name="Cancel").click()

    page.get_by_role("button", name="Save as a job").click()
    expect(page.get_by_role("link", name="See it in Jobs")).to_be_visible()
    expect(page.get_by_text("it is in a job")).to_be_visible()
    expect(page.get_by_role("button", name="Save as a job")).to_be_disabled()
    page.reload()
    expect(said).to_contain_text("repaired this radio")
    assert asked == ["beforeunload"]
    job = ended(client, client.get("/api/jobs?page_size=1").json()["jobs"][0]["id"])
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["config"]["upload_name"].startswith("live-")
    made = transcript(client, job["id"])
    assert (made["source_languages"], made["target_languages"]) == (["en"], ["hi"])
    assert "repaired this radio" in " ".join(one["text"] for one in made["segments"])


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


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("() => Promise.reject(new DOMException('', 'NotAllowedError'))", "No tab or screen was"),
        ("async () => new MediaStream()", "a picture without sound"),
        ("undefined", "gives a page no sound of a tab"),
    ],
)
def test_a_tab_without_sound_is_told(opened: Opened, answer: str, sentence: str) -> None:
    """In a sentence, and another may be chosen."""
    page = opened("live")
    page.evaluate(f"() => {{ navigator.mediaDevices.getDisplayMedia = {answer}; }}")
    page.get_by_role("button", name="Start a tab or screen").click()
    expect(page.get_by_role("alert")).to_contain_text(sentence)
    expect(page.get_by_role("button", name="Start a tab or screen")).to_be_enabled()
