"""Uploads that outlive their connection, their gateway and their page; and signing in."""

import re
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e import processes
from tests.gateway.conftest import gateway
from tests.gateway.web.conftest import WAIT_MS, Opened
from tests.orchestrator.daemon import Daemon

pytestmark = pytest.mark.slow

TOKEN = "a-token-that-is-long-enough-to-count"  # noqa: S105


def _start(page: Page, recording: Path) -> None:
    page.locator("input[type=file]").set_input_files(recording)
    page.get_by_label("Spoken").fill("en")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Start").click()


def _sent(page: Page) -> None:
    expect(page.get_by_role("link", name="See it in Jobs")).to_be_visible()


def test_an_upload_goes_on_after_its_connection_was_lost(
    opened: Opened, client: httpx.Client, short: Path
) -> None:
    """By itself, from the byte where it was."""
    page = opened("new")
    tried: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "PATCH":
            tried.append(route.request.headers["upload-offset"])
            if len(tried) == 1:
                # what the gateway has of it: a third
                data = short.read_bytes()
                client.patch(
                    route.request.url,
                    content=data[: len(data) // 3],
                    headers={
                        "Content-Type": "application/offset+octet-stream",
                        "Upload-Offset": "0",
                    },
                )
                route.abort()
                return
        route.continue_()

    page.route("**/api/uploads/*", answer)
    _start(page, short)
    _sent(page)
    assert tried == ["0", str(len(short.read_bytes()) // 3)]


def test_an_upload_outlives_its_gateway(
    browser: Browser, job_service: Daemon, asr: processes.Service, short: Path
) -> None:
    """One that was killed has forgotten it: it is sent again, and becomes one job."""
    port = processes.free_port()
    flags = (
        "--asr-endpoint", asr.target, "--jobs-endpoint", job_service.target,
        "--listen", f"127.0.0.1:{port}",
    )  # fmt: skip
    context = browser.new_context()
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    with gateway(*flags):
        page.goto(f"http://127.0.0.1:{port}/#/new")
        expect(page.get_by_role("heading", name="New job")).to_be_visible()
        # the upload has begun, and its job is not asked for before the gateway is gone
        page.route("**/api/jobs", lambda route: route.abort())
        _start(page, short)
        expect(page.get_by_text("Waiting for the connection")).to_be_visible()
    page.unroute("**/api/jobs")
    with gateway(*flags):
        _sent(page)
    context.close()


def test_an_upload_that_is_cancelled_frees_its_place(
    opened: Opened, client: httpx.Client, short: Path
) -> None:
    """At once: the gateway has few of them."""
    page = opened("new")
    page.route(
        "**/api/uploads/*", lambda r: r.abort() if r.request.method == "PATCH" else r.continue_()
    )
    with page.expect_response("**/api/uploads") as made:
        _start(page, short)
    upload = f"/api/uploads/{made.value.json()['upload_id']}"
    expect(page.get_by_text("Waiting for the connection")).to_be_visible()
    assert client.head(upload).status_code == 200
    with page.expect_response(f"**{upload}"):
        page.get_by_role("button", name=f"Stop {short.name}").click()
    assert client.head(upload).status_code in {404, 410}


def test_a_file_that_is_chosen_again_goes_on(opened: Opened, short: Path) -> None:
    """After a reload, by its name, size and time."""
    page = opened("new")
    page.route("**/api/jobs", lambda route: route.abort())
    _start(page, short)
    expect(page.get_by_text("Waiting for the connection")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.unroute("**/api/jobs")
    begun: list[str] = []
    page.on("request", lambda r: begun.append(r.method) if "/api/uploads" in r.url else None)
    _start(page, short)
    _sent(page)
    assert begun == ["GET"]  # it is asked for, and all of it is there


def test_jobs_are_cancelled_resumed_and_deleted(opened: Opened, clip: Path) -> None:
    """From the list, which follows by itself."""
    page = opened("new")
    _start(page, clip)
    _sent(page)
    page.get_by_role("link", name="See it in Jobs").click()
    card = page.get_by_role("listitem").filter(has_text=clip.name).first
    expect(card.get_by_role("progressbar").first).to_be_visible()
    card.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(card).to_contain_text("Cancelled")
    card.get_by_role("button", name=re.compile("^Resume")).click()
    expect(card).to_contain_text(re.compile("Running|Waiting"))
    card.get_by_role("button", name=re.compile("^Cancel")).click()
    expect(card).to_contain_text("Cancelled")
    before = page.get_by_role("listitem").filter(has_text=clip.name).count()
    card.get_by_role("button", name=re.compile("^Delete")).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("listitem").filter(has_text=clip.name)).to_have_count(before - 1)


def test_a_token_is_asked_for_once(browser: Browser, job_service: Daemon, tmp_path: Path) -> None:
    """A person signs in, is known after a reload, and signs out."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"person:{TOKEN}\n")
    tokens.chmod(0o600)
    flags = ("--asr-endpoint", "127.0.0.1:1", "--jobs-endpoint", job_service.target)
    with gateway(*flags, "--client-tokens", str(tokens)) as guarded:
        context = browser.new_context()
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.goto(guarded.url)
        dialog = page.get_by_role("dialog", name="Sign in")
        dialog.get_by_label("Token").fill("not this one")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("This token is not known here.")
        dialog.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        page.reload()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert page.evaluate("document.cookie") == ""  # no script reads it
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
        context.close()
