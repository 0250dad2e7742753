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
from collections.abc import Generator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "page.png"
SHOWN_AT_S = 8.6
JOB_MS = 300_000
SIZES = {"narrow": (360, 740), "wide": (1920, 1080)}
VIEWS = ("jobs", "new", "live", "services", "help", "job")


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
    folder.mkdir(parents=True, exist_ok=True)
    for view in VIEWS:
        place = f"job/{job_id}" if view == "job" else view
        for name, size in SIZES.items():
            for scheme in ("light", "dark"):
                page = _opened(browser, f"{url}#/{place}", size, scheme)
                page.screenshot(path=folder / f"{view}-{name}-{scheme}.png")
                page.close()


if __name__ == "__main__":
    sys.exit(main())
