"""A browser, and pages of a real gateway: bundled models do the jobs of a real job service."""

import contextlib
import json
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.gateway.conftest import Gateway
from tests.gateway.test_jobs import ended, submit

WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)


def chromium() -> str:
    """Where the system's browser is. Skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip("chromium: apt-get install chromium")


@contextlib.contextmanager
def started_browser(*flags: str, muted: bool = True) -> Generator[Browser]:
    """A browser without a window, which ends with the block; a muted one gives no tab's sound."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", *flags],
            ignore_default_args=None if muted else ["--mute-audio"],
        )
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for the tests of a module: while there is one, no test may have a loop of its own."""
    with started_browser() as running:
        yield running


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, whole: Gateway) -> Iterator[Opened]:
    """Opens the gateway's page at a view, in a browser that knows nothing yet.

    With `context` it is another tab of the same browser. What a page says of errors in its scripts,
    or of what its policy forbids, fails the test.
    """
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def heard(message: Any) -> None:
        # a status of 4xx is told there too, and tests have some on purpose; Chromium says of a
        # tab's picture that it is a camera's, and gives it
        known = ("Failed to load resource", "violation: camera is not allowed")
        if message.type == "error" and not any(one in message.text for one in known):
            wrong.append(message.text)

    def opening(view: str = "jobs", *, context: BrowserContext | None = None, **how: Any) -> Page:
        if context is None:
            context = browser.new_context(**how)
            context.set_default_timeout(WAIT_MS)
            contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{whole.url}/#/{view}")
        return page

    yield opening
    for context in contexts:
        context.close()
    assert not wrong, wrong


@pytest.fixture(scope="session")
def client(whole: Gateway) -> Iterator[httpx.Client]:
    """What asks without a browser."""
    with httpx.Client(base_url=whole.url, timeout=120) as made:
        yield made


def finished_job(client: httpx.Client, recording: Path, **more: Any) -> dict[str, Any]:
    """A new job of a recording, once it has succeeded."""
    job = ended(client, submit(client, recording, word_timestamps=True, **more)["id"])
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    return job


@pytest.fixture
def job_id(client: httpx.Client, short: Path) -> str:
    """A new job that has succeeded: some seconds of English, translated to Hindi."""
    return finished_job(client, short)["id"]


def transcript(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """As it is at the service."""
    answer = client.get(f"/api/jobs/{job_id}/transcript")
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(client: httpx.Client, job_id: str) -> list[str]:
    """The texts of its segments."""
    return [one["text"] for one in transcript(client, job_id)["segments"]]


def put(client: httpx.Client, job_id: str, **changes: Any) -> int:
    """Writes a revision as another program would; its number."""
    now = transcript(client, job_id)
    asked = {"segments": now["segments"], "speakers": now["speakers"], **changes}
    answer = client.put(
        f"/api/jobs/{job_id}/transcript", json={"base_revision": now["revision"], **asked}
    )
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)["revision"]
