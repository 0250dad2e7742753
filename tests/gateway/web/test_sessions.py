"""Signing in to the page: a cookie that is as good as its token, for the gateway's own page."""

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2 as httpx
import pytest

from tests.gateway.conftest import Gateway, gateway
from tests.orchestrator.daemon import wait
from voxroute_gateway.errors import RequestError
from voxroute_gateway.page.sessions import LONGEST_S, Sessions
from voxroute_serving.security.tokens import TokenFile

TOKEN = "a-token-that-is-long-enough-to-count"  # noqa: S105
OTHER = "another-token-that-is-long-enough-too"
ACTS = [
    ("POST", "/api/jobs/x/cancel"),
    ("PUT", "/api/jobs/x/transcript"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/translate"),
]
OWN = {"Sec-Fetch-Site": "same-origin"}


def _tokens(folder: Path, *tokens: str) -> Path:
    path = folder / "tokens"
    path.write_text("".join(f"person-{i}:{one}\n" for i, one in enumerate(tokens)))
    path.chmod(0o600)
    return path


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that asks for tokens; its job service is not there."""
    flags = ("--client-tokens", str(_tokens(tmp_path, TOKEN, OTHER)))
    with gateway("--asr-endpoint", "127.0.0.1:1", *flags) as running:
        yield running
        log = Path(f"/proc/self/fd/{running.output.fileno()}").read_text(encoding="utf-8")
        assert TOKEN not in log


@contextlib.contextmanager
def _signed_in(running: Gateway) -> Generator[httpx.Client]:
    with httpx.Client(base_url=running.url) as client:
        answer = client.post("/ui/session", json={"token": f" {TOKEN}\n"}, headers=OWN)
        assert answer.json() == {"asked": True, "signed_in": True}
        yield client


def test_the_cookie_is_taken_as_the_token_is(guarded: Gateway) -> None:
    """Once somebody has signed in, and until that person signs out."""
    with httpx.Client(base_url=guarded.url) as client:
        assert client.get("/").status_code == client.get("/ui/app.js").status_code == 200
        assert client.get("/ui/session").json() == {"asked": True, "signed_in": False}
        assert client.get("/api/jobs").status_code == 401
        wrong = client.post("/ui/session", json={"token": "wrong"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
    with _signed_in(guarded) as client:
        assert client.get("/ui/session").json() == {"asked": True, "signed_in": True}
        assert client.get("/api/jobs").json()["error"]["code"] == "no_job_service"
        assert client.delete("/ui/session", headers=OWN).json()["signed_in"] is False
        assert client.get("/api/jobs").status_code == 401


def test_a_transcript_of_many_hours_is_taken_with_the_cookie(guarded: Gateway) -> None:
    """As with the token; and without either it is said that somebody has to sign in."""
    long = {"base_revision": 1, "segments": [], "speakers": {}, "more": "x" * 12_000_000}
    path = "/api/jobs/x/transcript"
    with _signed_in(guarded) as client:
        answer = client.put(path, json=long, headers=OWN)
        assert answer.json()["error"]["code"] == "no_job_service"  # it was let in
    by_token = httpx.put(
        f"{guarded.url}{path}", json=long, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert by_token.json()["error"]["code"] == "no_job_service"
    assert httpx.put(f"{guarded.url}{path}", json=long).status_code == 401
    in_body = httpx.put(f"{guarded.url}{path}", json={"api_key": TOKEN})
    assert in_body.json()["error"]["code"] == "no_job_service"


def test_the_cookie_is_kept_from_scripts_and_from_other_hosts(guarded: Gateway) -> None:
    """And from connections without TLS, where there is TLS in front of the gateway."""
    body = {"token": TOKEN}
    plain = httpx.post(f"{guarded.url}/ui/session", json=body).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(plain.split("; "))
    assert "Secure" not in plain
    assert TOKEN not in plain
    headers = {"Origin": "https://films.example", **OWN}
    behind = httpx.post(f"{guarded.url}/ui/session", json=body, headers=headers)
    assert "Secure" in behind.headers["set-cookie"].split("; ")


def test_who_is_signed_in_acts_from_the_gateways_own_page_alone(guarded: Gateway) -> None:
    """A browser adds the cookie by itself, whichever page it is that asks."""
    with _signed_in(guarded) as client:
        for proof in (OWN, {"Origin": guarded.url}):
            answer = client.post("/api/jobs/x/cancel", headers=proof)
            assert answer.json()["error"]["code"] == "no_job_service"
        for other in ({}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
                      {"Origin": "http://127.0.0.1:1"}, {"Origin": "null"}):  # fmt: skip
            for method, path in ACTS:
                answer = client.request(method, path, headers=other)
                assert answer.status_code == 403, (method, path, other)
        # a token is sent by who has it: it needs no such proof
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/api/jobs/x/cancel", headers=bearer).status_code == 404


async def test_live_speech_takes_the_cookie_from_its_own_page(guarded: Gateway) -> None:
    """A WebSocket is opened by a GET, and any page may open one."""
    with _signed_in(guarded) as client:
        cookies = dict(client.cookies)
    url = f"{guarded.url}/v1/realtime"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        session.cookie_jar.update_cookies(cookies)
        async with session.ws_connect(url, origin=guarded.url) as socket:
            assert (await socket.receive_json())["type"] == "session.created"
        for origin in (None, "https://a.example"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url, origin=origin)
            assert refused.value.status == 403


def test_a_token_that_is_taken_away_ends_its_sessions(guarded: Gateway, tmp_path: Path) -> None:
    """At the latest when the file counts as written."""
    with _signed_in(guarded) as client:
        assert client.get("/api/jobs").status_code == 404
        path = _tokens(tmp_path, OTHER)
        os.utime(path, (time.time() - 60, time.time() - 60))
        wait(lambda: client.get("/api/jobs").status_code == 401, 20)


def test_without_tokens_nobody_signs_in() -> None:
    """And nobody is asked to."""
    with gateway("--asr-endpoint", "127.0.0.1:1") as running:
        told = httpx.get(f"{running.url}/ui/session").json()
        posted = httpx.post(f"{running.url}/ui/session", json={"token": "any"})
        assert told == posted.json() == {"asked": False, "signed_in": True}
        assert "set-cookie" not in posted.headers
        foreign = {"Origin": "https://a.example"}
        refused = httpx.post(f"{running.url}/ui/session", json={"token": "any"}, headers=foreign)
        assert refused.status_code == 403


class _Request:
    def __init__(self, secret: str) -> None:
        self.host = "127.0.0.1:8000"
        self.cookies = {"voxroute_session_8000": secret}


def test_sessions_are_few_and_end(tmp_path: Path) -> None:
    """A week at most, and a thousand: the oldest makes room."""
    now = [0.0]
    sessions = Sessions(TokenFile(_tokens(tmp_path, TOKEN)), lambda: now[0])
    with pytest.raises(RequestError):
        sessions.begin("unknown")

    def good(secret: str) -> bool:
        request: Any = _Request(secret)
        return sessions.token_of(request) is not None

    first = sessions.begin(TOKEN)
    others = [sessions.begin(TOKEN) for _ in range(999)]
    assert good(first)
    last = sessions.begin(TOKEN)
    assert not good(first)
    assert good(others[0])
    assert good(last)
    now[0] = LONGEST_S
    assert not good(last)
    assert not good("")
