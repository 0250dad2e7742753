"""A transcript under work in a browser: edited, cut, named, undone, by two at once."""

import itertools
import re
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.gateway.web.conftest import Opened, put, texts, transcript
from tests.gateway.web.test_film import saved

pytestmark = pytest.mark.slow

REASON = re.compile(r"speech: \S+ \(whisperx on cpu, \d+ of \d+ places taken[,)]")
SCRIPT = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


def segment_texts(page: Page) -> Locator:
    """The texts in the spoken language."""
    return page.get_by_role("textbox", name=re.compile("^Text at"))


def test_text_is_cut_joined_and_taken_back(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """By keys, as revisions of the service; the translation says that it is of another text."""
    before = texts(client, job_id)
    page = opened(f"job/{job_id}")
    first = segment_texts(page).first
    expect(first).to_have_value(before[0])
    offset = before[0].index(" ") + 1
    first.focus()
    first.evaluate("(text, at) => text.setSelectionRange(at, at)", offset)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Enter")
    expect(segment_texts(page).nth(1)).to_be_focused()
    saved(page)
    cut = [before[0][:offset].strip(), before[0][offset:].strip()]
    assert texts(client, job_id) == [*cut, *before[1:]]
    now = transcript(client, job_id)["segments"]
    assert now[0]["end_s"] <= now[1]["start_s"]
    assert [one["text"] for one in now[1]["words"]] == cut[1].split()
    expect(page.get_by_text("text changed since").first).to_be_visible()

    page.keyboard.press("Backspace")  # at the beginning of the second one
    expect(segment_texts(page).first).to_have_value(before[0])
    saved(page)
    assert texts(client, job_id) == before
    page.keyboard.press("Control+z")
    expect(segment_texts(page).first).to_have_value(cut[0])
    page.keyboard.press("Control+Shift+Z")
    expect(segment_texts(page).first).to_have_value(before[0])
    saved(page)


def test_speakers_get_names(opened: Opened, client: httpx.Client, job_id: str) -> None:
    """And a segment another speaker."""
    segments = transcript(client, job_id)["segments"]
    for i, one in enumerate(segments):
        one["speaker"] = f"SPEAKER_0{i % 2}"
    put(client, job_id, segments=segments)
    page = opened(f"job/{job_id}")
    page.get_by_role("button", name="Speakers").click()
    page.get_by_label("Speaker 1").fill("Anna")
    page.get_by_role("button", name="Rename").click()
    who = page.get_by_label(re.compile("^Speaker at")).first
    expect(who).to_contain_text("Anna")
    page.get_by_label(re.compile("^Speaker at")).nth(1).select_option("SPEAKER_00")
    saved(page)
    now = transcript(client, job_id)
    assert now["speakers"] == {"SPEAKER_00": "Anna"}
    assert [one["speaker"] for one in now["segments"][:2]] == ["SPEAKER_00", "SPEAKER_00"]


def test_two_tabs_lose_nothing(opened: Opened, client: httpx.Client, job_id: str) -> None:
    """What each has changed elsewhere is put together; where both wrote, the person is asked."""
    page = opened(f"job/{job_id}")
    other = opened(f"job/{job_id}", context=page.context)
    for one in (page, other):
        expect(segment_texts(one).first).to_have_value(re.compile("."))
    segment_texts(page).nth(0).fill("Written in the first tab.")
    saved(page)
    segment_texts(other).nth(1).fill("Written in the second tab.")
    saved(other)
    expect(segment_texts(other).nth(0)).to_have_value("Written in the first tab.")
    assert texts(client, job_id)[:2] == ["Written in the first tab.", "Written in the second tab."]

    segment_texts(page).nth(1).fill("The first tab was slower.")
    told = page.get_by_role("alert", name="Conflicts")
    expect(told).to_contain_text("Somebody was faster")
    expect(told).to_contain_text("The first tab was slower.")
    expect(told).to_contain_text("Written in the second tab.")
    page.reload()  # it is kept until it is settled
    told = page.get_by_role("alert", name="Conflicts")
    told.get_by_role("button", name="Keep what I wrote").click()
    expect(told).to_be_hidden()
    saved(page)
    assert texts(client, job_id)[1] == "The first tab was slower."


def test_a_cut_of_what_another_tab_has_corrected_is_asked_about(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """As a whole: no half of it stands beside theirs, whichever side stays."""
    before = texts(client, job_id)
    page = opened(f"job/{job_id}")
    first = segment_texts(page).first
    expect(first).to_have_value(before[0])
    segments = transcript(client, job_id)["segments"]
    segments[0]["text"] = f"{before[0]} Really."
    put(client, job_id, segments=segments)
    first.focus()
    page.keyboard.press("Home")
    for _ in before[0].split()[0]:
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Enter")
    told = page.get_by_role("alert", name="Conflicts")
    expect(told).to_contain_text("Cut, joined or removed")
    expect(first).to_have_value(f"{before[0]} Really.")
    saved(page)
    assert texts(client, job_id) == [f"{before[0]} Really.", *before[1:]]
    told.get_by_role("button", name="Keep what I wrote").click()
    saved(page)
    word, _, rest = before[0].partition(" ")
    assert texts(client, job_id) == [word, rest, *before[1:]]


def test_times_are_set_by_hand(opened: Opened, client: httpx.Client, job_id: str) -> None:
    """By fields, arrows, keys and in the strip; what cannot be is told and not saved."""
    before = transcript(client, job_id)["segments"]
    page = opened(f"job/{job_id}")
    expect(segment_texts(page).first).to_have_value(before[0]["text"])
    row = page.get_by_role("listitem").nth(1)
    segment_texts(page).nth(1).focus()
    row.get_by_role("button", name=re.compile("^Times of")).press("Enter")
    begins = row.get_by_label("Begins", exact=True)
    expect(begins).to_be_focused()
    begins.fill("0:00.001")
    begins.press("Enter")
    expect(row.get_by_role("alert")).to_have_text("The segment before begins later than that.")
    begins.fill(str(before[1]["start_s"]))
    for key in ("ArrowUp", "ArrowUp", "Shift+ArrowUp"):
        begins.press(key)
    saved(page)
    start_s = transcript(client, job_id)["segments"][1]["start_s"]
    assert start_s == pytest.approx(before[1]["start_s"] + 0.21, abs=2e-3)

    at_s = (start_s + before[1]["end_s"]) / 2
    page.wait_for_function("() => document.querySelector('video').readyState > 0")
    page.evaluate("(s) => { document.querySelector('video').currentTime = s; }", at_s)
    segment_texts(page).nth(1).focus()
    page.keyboard.press("F9")
    saved(page)
    now = transcript(client, job_id)["segments"][1]
    assert now["end_s"] == pytest.approx(at_s, abs=0.05)
    assert all(word["end_s"] <= now["end_s"] for word in now["words"])
    page.keyboard.press("Control+z")
    saved(page)
    assert transcript(client, job_id)["segments"][1]["end_s"] == before[1]["end_s"]

    strip = page.locator("canvas.timeline")
    box = strip.bounding_box()
    assert box is not None
    per_s = box["width"] / 20  # seconds that it shows, from the beginning of so short a recording
    edge = box["x"] + before[1]["end_s"] * per_s
    page.mouse.move(edge, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(edge - 0.5 * per_s, box["y"] + 20, steps=5)
    page.mouse.up()
    saved(page)
    end_s = transcript(client, job_id)["segments"][1]["end_s"]
    assert end_s == pytest.approx(before[1]["end_s"] - 0.5, abs=0.1)


def test_what_is_written_without_a_gateway_is_saved_once_it_is_back(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """Also where the page is loaded again in between, and another program has saved meanwhile."""
    page = opened(f"job/{job_id}")
    away: list[bool] = [True]

    def answer(route: Route) -> None:
        if away[0] and route.request.method == "PUT":
            route.abort()
        else:
            route.continue_()

    page.route("**/transcript*", answer)
    segment_texts(page).first.fill("Written while nobody answered.")
    expect(page.locator(".saving")).to_contain_text("Kept in this browser")
    page.reload()
    expect(segment_texts(page).first).to_have_value("Written while nobody answered.")
    segments = transcript(client, job_id)["segments"]
    segments[1]["text"] = "Written by another program."
    put(client, job_id, segments=segments)
    away[0] = False
    saved(page)
    assert texts(client, job_id)[:2] == [
        "Written while nobody answered.",
        "Written by another program.",
    ]
    expect(segment_texts(page).nth(1)).to_have_value("Written by another program.")


def test_a_duplicated_tab_writes_over_nothing(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """And what tabs have not saved is there as soon as they are closed."""
    before = texts(client, job_id)
    page = opened(f"job/{job_id}")
    page.context.route(
        "**/transcript",
        lambda route: route.abort() if route.request.method == "PUT" else route.continue_(),
    )
    expect(segment_texts(page).first).to_have_value(before[0])
    with page.expect_popup() as found:
        page.evaluate("window.open(location.href)")
    other = found.value
    expect(segment_texts(other).first).to_have_value(before[0])
    for i, one in enumerate((page, other)):
        segment_texts(one).nth(i).fill(f"Written in tab {i}.")
        expect(one.locator(".saving")).to_contain_text("Kept in this browser")
    page.close()
    other.close()
    after = opened(f"job/{job_id}", context=page.context)
    for i in range(2):
        expect(segment_texts(after).nth(i)).to_have_value(f"Written in tab {i}.")
    after.context.unroute_all()
    saved(after)
    assert texts(client, job_id)[:2] == ["Written in tab 0.", "Written in tab 1."]


def test_what_was_written_is_timed_and_translated_again(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """By the services; what is written while they work stays."""
    before = transcript(client, job_id)["segments"]
    page = opened(f"job/{job_id}")
    text = segment_texts(page).nth(1)
    expect(text).to_have_value(before[1]["text"])
    text.fill(f"{before[1]['text']} My brother is sleeping.")
    saved(page)
    assert transcript(client, job_id)["segments"][1]["translations"]["hi"]["stale"] is True
    page.get_by_role("button", name="Re-translate 1").click()
    segment_texts(page).nth(0).fill("Written meanwhile.")
    expect(page.get_by_text("Re-translate: 1 segment done.")).to_be_visible()
    saved(page)
    after = transcript(client, job_id)["segments"]
    assert after[1]["translations"]["hi"]["stale"] is False
    assert after[1]["translations"]["hi"]["text"] != before[1]["translations"]["hi"]["text"]
    assert after[0]["text"] == "Written meanwhile."
    page.get_by_role("button", name=re.compile("^Re-time")).click()
    expect(page.get_by_text("Re-time:").or_(page.get_by_text("stayed as"))).to_be_visible()
    words = transcript(client, job_id)["segments"][1]["words"]
    assert " ".join(word["text"] for word in words) == after[1]["text"]
    assert all(a["end_s"] <= b["start_s"] + 1e-6 for a, b in itertools.pairwise(words))


def test_a_job_tells_why_it_chose_its_services(opened: Opened, job_id: str) -> None:
    """In the job, and of the newest one under Services, where models are loaded and unloaded."""
    page = opened(f"job/{job_id}")
    page.get_by_role("button", name="Export").press("Enter")
    page.get_by_text("What the job told").click()
    told = page.get_by_role("dialog").locator(".history")
    expect(told).to_contain_text(REASON)
    page.goto(page.url.partition("#")[0] + "#/services")
    page.get_by_text("The newest one that is done").click()
    expect(page.locator(".history")).to_contain_text(REASON)
    speech = page.get_by_role("region", name="Speech")
    speech.get_by_role("button", name=re.compile("^Unload")).first.click()
    expect(speech.get_by_text("on the disk").first).to_be_visible()
    speech.get_by_role("button", name=re.compile("^Load")).first.click()
    expect(speech.get_by_role("button", name=re.compile("^Unload")).first).to_be_enabled()


def test_doubts_and_silent_stretches_are_found(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """As filters, and by what is searched."""
    segments = transcript(client, job_id)["segments"]
    page = opened(f"job/{job_id}")
    expect(segment_texts(page)).to_have_count(len(segments))
    word = segments[1]["text"].split()[-1]
    page.get_by_label("Search in the text").fill(word)
    expected = sum(word.lower() in one["text"].lower() for one in segments)
    expect(segment_texts(page)).to_have_count(expected)
    page.get_by_label("Search in the text").fill("")
    segment_texts(page).nth(1).fill("Changed.")
    page.get_by_role("button", name="Edited").click()
    expect(segment_texts(page)).to_have_count(1)


def test_the_row_that_is_written_in_stays(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """Also once it is no longer what is searched or shown; it goes when the focus has gone."""
    segments = transcript(client, job_id)["segments"]
    segments[1] |= {"text": "Doubtful text.", "flags": ["LOW_CONFIDENCE"]}
    put(client, job_id, segments=segments)
    page = opened(f"job/{job_id}")
    search = page.get_by_label("Search in the text")
    search.fill("doubtful text")
    text = segment_texts(page)
    expect(text).to_have_count(1)
    text.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("Certain now")
    expect(text).to_be_focused()
    expect(text).to_have_value("Certain now")
    page.keyboard.press("Home")
    for _ in "Certain":
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+Enter")  # its second half has never been what is searched
    expect(text).to_have_value("now")
    expect(text).to_be_focused()
    saved(page)
    assert [one for one in texts(client, job_id) if one in ("Certain", "now")] == ["Certain", "now"]
    search.press("End")
    search.press_sequentially("!")
    expect(text).to_have_count(0)


def test_all_formats_of_all_languages_are_taken_along(
    opened: Opened, client: httpx.Client, job_id: str
) -> None:
    """From what is saved, with what was just written in it."""
    page = opened(f"job/{job_id}")
    segment_texts(page).first.fill("Last words.")
    page.get_by_role("button", name="Export").click()
    for language in ("English (spoken)", "Hindi"):
        page.get_by_label(language, exact=True).check()
        for name, suffix in (("SubRip", "srt"), ("WebVTT", "vtt"), ("ASS", "ass"), ("TTML", "ttml"),
                             ("JSON", "json"), ("Text", "txt")):  # fmt: skip
            link = page.get_by_role("link", name=name, exact=True)
            answer = client.get(link.get_attribute("href") or "")  # a dozen at once is too much
            content = answer.content.decode("utf-8")
            assert answer.headers["content-disposition"].endswith(f".{suffix}"), answer.headers
            assert ("Last words." in content) == (language != "Hindi"), (language, suffix)


def test_whatever_is_written_is_shown_as_text(
    opened: Opened, client: httpx.Client, short: Path
) -> None:
    """Titles, speakers and texts that look like a page of their own."""
    from tests.gateway.web.conftest import finished_job  # noqa: PLC0415 - of this alone

    job = finished_job(client, short, upload_name=f"{SCRIPT.replace('/', '')}.wav")
    segments = transcript(client, job["id"])["segments"]
    segments[0] |= {"text": SCRIPT, "speaker": "SPEAKER_00"}
    put(client, job["id"], segments=segments, speakers={"SPEAKER_00": SCRIPT})
    page = opened("jobs")
    expect(page.get_by_text("onerror").first).to_be_visible()
    page.goto(page.url.partition("#")[0] + f"#/job/{job['id']}")
    expect(segment_texts(page).first).to_have_value(SCRIPT)
    page.get_by_role("button", name="Spoken only").click()
    page.get_by_role("button", name="Play from").first.click()
    expect(page.locator(".captions")).to_contain_text("<script>")
    page.get_by_role("button", name="Speakers").click()
    page.wait_for_timeout(300)
    assert page.locator("main img, main script, dialog img").count() == 0
    assert "hacked" not in page.title().replace(SCRIPT.replace("/", ""), "")
