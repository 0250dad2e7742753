"""Pictures of the web page: the README's, or those of all views to look at.

    python -m scripts.page_pictures             # docs/page.png
    python -m scripts.page_pictures FOLDER      # each view, narrow and wide, light and dark

Runs `voxroute ui` with the bundled models, makes a job of the bundled clip as a person does, and
takes pictures with the system's chromium (apt-get install chromium; fonts-noto-core for Hindi).
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "page.png"
SHOWN_AT_S = 8.6
JOB_MS = 300_000
SIZES = {"narrow": (360, 740), "wide": (1920, 1080)}
SPOKEN = {
    "spoken": ["en"],
    "targets": ["hi", "ur"],
    "lines": [{"id": "a", "text": "Good night.", "done": True, "start": 0.3, "end": 1.4}],
    "translations": {"a": {"hi": {"text": "शुभ रात्रि।"}, "ur": {"text": "شب بخیر"}}},
}
"""What the live view keeps in the browser."""
Act = Callable[[Page], None]


def main() -> int:
    """The exit code of the process."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("there is no chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory() as folder,
        _page(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--mute-audio"]
        )
        job_id = _job(browser, url)
        if sys.argv[1:]:
            _failed_job(browser, url, Path(folder))
            _all(browser, url, job_id, Path(sys.argv[1]))
        else:
            page = _opened(browser, f"{url}#/job/{job_id}", (1360, 800), "light")
            page.screenshot(path=PICTURE)
        browser.close()
    return 0


@contextlib.contextmanager
def _page(folder: Path) -> Generator[str]:
    """Where the page is while the block lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "voxroute_orchestrator", "ui", "--no-browser", "--offline",
         "--port", "0", "--data-dir", str(folder / "data")],
        stdout=subprocess.PIPE, text=True, cwd=folder,
        env=os.environ | {"VOXROUTE_LOCAL_IDLE_S": "0"},
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        found = re.search(r"http://\S+/", process.stdout.readline())
        if found is None:
            raise SystemExit("voxroute ui did not start")
        yield found[0]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _job(browser: Browser, url: str) -> str:
    """The id of a job of the bundled clip, once it is done."""
    page = browser.new_page()
    page.goto(f"{url}#/new")
    page.locator("input[type=file]").set_input_files(next((ROOT / "examples").glob("*.mp4")))
    for label, language in (("Spoken", "Hindi"), ("Subtitles in", "English")):
        page.get_by_label(label).fill(language)
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="See it in Jobs").click(timeout=JOB_MS)
    page.get_by_role("link", name="Open").click(timeout=JOB_MS)
    page.wait_for_selector(".segment")
    job_id = page.url.rpartition("/")[2]
    page.close()
    return job_id


def _failed_job(browser: Browser, url: str, folder: Path) -> None:
    """A job of what is no recording."""
    path = folder / "A film with a long name that nobody can play, part 2 (1080p).mp4"
    path.write_bytes(b"no film at all" * 100)
    page = browser.new_page()
    page.goto(f"{url}#/new")
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Start").click()
    page.get_by_role("link", name="See it in Jobs").click(timeout=JOB_MS)
    page.get_by_text("Failed", exact=True).last.wait_for(timeout=JOB_MS)
    page.close()


def _opened(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Page:
    width, height = size
    dark = "dark" if scheme == "dark" else "light"
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=dark)
    page.goto(url)
    page.wait_for_timeout(1500)
    if "/job/" in url:
        page.wait_for_function("() => document.querySelector('video').readyState > 1")
        page.evaluate("(s) => { document.querySelector('video').currentTime = s; }", SHOWN_AT_S)
        page.wait_for_timeout(1000)
    return page


def _all(browser: Browser, url: str, job_id: str, folder: Path) -> None:
    """Each view, and what opens in it."""
    folder.mkdir(parents=True, exist_ok=True)
    job = f"job/{job_id}"
    pictures: dict[str, tuple[str, Act]] = {
        "jobs": ("jobs", _as_it_is),
        "new": ("new", _more),
        "live": ("live", _spoken),
        "services": ("services", _there),
        "help": ("help", _as_it_is),
        "job": (job, _as_it_is),
        "job-times": (job, _times),
        "job-export": (job, _named("Export")),
        "job-speakers": (job, _named("Speakers")),
        "job-conflict": (job, _conflict),
        "sign-in": ("jobs", _signed_out),
    }
    for view, (place, act) in pictures.items():
        for name, size in SIZES.items():
            for scheme in ("light", "dark"):
                page = _opened(browser, f"{url}#/{place}", size, scheme)
                act(page)
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"{view}-{name}-{scheme}.png")
                page.context.close()


def _as_it_is(page: Page) -> None:
    del page


def _there(page: Page) -> None:
    page.locator(".services dl").nth(1).wait_for()
    page.get_by_text("The newest one that is done").click()


def _named(name: str) -> Act:
    def act(page: Page) -> None:
        page.get_by_role("button", name=name, exact=True).click()

    return act


def _more(page: Page) -> None:
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Tell speakers apart").check()
    page.locator("input[type=file]").set_input_files(next((ROOT / "examples").glob("*.mp4")))


def _spoken(page: Page) -> None:
    page.evaluate("(kept) => localStorage.setItem('voxroute:live', JSON.stringify(kept))", SPOKEN)
    page.reload()
    page.wait_for_timeout(500)


def _times(page: Page) -> None:
    page.get_by_role("textbox", name=re.compile("^Text at")).nth(1).focus()
    page.get_by_role("button", name=re.compile("^Times of")).nth(1).click()
    page.get_by_label("Ends").fill("0:00")
    page.keyboard.press("Enter")


def _conflict(page: Page) -> None:
    """What another program saves, and then the page in the same place; and put back as it was."""
    made = """async (text) => {
      const path = `/api/jobs/${location.hash.split("/").at(-1)}/transcript`;
      const now = await (await fetch(path)).json();
      now.segments[0].text = text || window.before;
      window.before ??= (await (await fetch(`${path}?revision=1`)).json()).segments[0].text;
      const body = { base_revision: now.revision, segments: now.segments, speakers: now.speakers };
      const headers = { "Content-Type": "application/json" };
      await fetch(path, { method: "PUT", headers, body: JSON.stringify(body) });
    }"""
    page.evaluate(made, "Saved by another program.")
    page.get_by_role("textbox", name=re.compile("^Text at")).first.fill("Written in this tab.")
    page.get_by_role("alert", name="Conflicts").wait_for()
    page.get_by_role("alert", name="Conflicts").scroll_into_view_if_needed()
    page.evaluate(made, "")


def _signed_out(page: Page) -> None:
    told = '{"asked": true, "signed_in": false}'
    page.route("**/ui/session", lambda r: r.fulfill(body=told, content_type="application/json"))
    page.reload()
    page.get_by_role("dialog", name="Sign in").wait_for()


if __name__ == "__main__":
    sys.exit(main())
