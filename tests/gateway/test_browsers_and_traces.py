"""Pages of other hosts, and traces that go on through the gateway."""

import asyncio
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import gateway
from tests.serving.collector import collecting

ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("", "https://a.example", False),
        ("https://a.example, https://b.example", "https://b.example", True),
        ("https://a.example", "https://b.example", False),
        ("*", "https://b.example", True),
    ],
)
def test_a_page_may_use_the_gateway_only_where_it_is_named(
    origins: str, origin: str, *, allowed: bool, tmp_path: Path
) -> None:
    """The browser's question needs no token, the request itself does."""
    (tmp_path / "tokens").write_text("me:a-token-that-is-long-enough-to-count\n")
    (tmp_path / "tokens").chmod(0o600)
    flags = ["--cors-origins", origins] if origins else []
    with gateway(*flags, "--client-tokens", str(tmp_path / "tokens")) as running:
        path = f"{running.url}/api/jobs"
        asked = httpx.options(path, headers={"Origin": origin, **ASKED})
        refused = httpx.get(path, headers={"Origin": origin})
        open_to_all = httpx.get(f"{running.url}/health")
    assert asked.status_code == (204 if allowed else 401)
    assert refused.status_code == 401
    for answer in (asked, refused):
        told = answer.headers.get("Access-Control-Allow-Origin")
        assert told == (origin if allowed else None)
    assert ("authorization" in asked.headers.get("Access-Control-Allow-Headers", "").lower()) == (
        allowed
    )
    assert "Access-Control-Allow-Origin" not in open_to_all.headers


CHANGES = [
    ("POST", "/api/jobs"), ("DELETE", "/api/jobs/x"), ("POST", "/api/jobs/x/cancel"),
    ("POST", "/api/jobs/x/resume"), ("POST", "/api/jobs/x/retry"), ("POST", "/api/uploads"),
    ("PATCH", "/api/uploads/x"), ("DELETE", "/api/uploads/x"),
]  # fmt: skip


def test_a_page_that_is_not_named_changes_nothing() -> None:
    """Whatever a browser sends for it without asking first; other programs send no origin."""
    flags = ("--asr-endpoint", "127.0.0.1:1", "--cors-origins", "https://a.example")
    with gateway(*flags) as running, httpx.Client(base_url=running.url) as client:
        for method, path in CHANGES:
            for origin in ("https://b.example", "null", "http://a.example", "http://127.0.0.1:1"):
                refused = client.request(method, path, headers={"Origin": origin})
                assert refused.status_code == 403, (method, path, origin)
                assert refused.json()["error"]["param"] == "Origin"
            for origin in ("https://a.example", running.url, None):
                headers = {"Origin": origin} if origin else {}
                code = client.request(method, path, headers=headers).json()["error"]["code"]
                assert code in {"no_job_service", "content_type"}, (method, path, origin)
        read = client.get("/api/jobs", headers={"Origin": "https://b.example"})
        assert read.status_code == 404


def test_a_page_with_the_gateways_address_does_not_get_in() -> None:
    """A page may give its own name this host's address; a browser takes that for one origin."""
    flags = ("--asr-endpoint", "127.0.0.1:1", "--allowed-hosts", "127.0.0.1,localhost,[::1]")
    with gateway(*flags) as running, httpx.Client(base_url=running.url) as client:
        port = running.url.rpartition(":")[2]
        for path in ("/", "/health", "/api/jobs", "/v1/realtime"):
            for name in (
                f"evil.example:{port}",
                "evil.example",
                "127.0.0.1.evil.example",
                "x:y",
                "",
            ):
                refused = client.get(path, headers={"Host": name})
                assert refused.status_code == 403, (path, name)
            for name in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", "localhost", f"[::1]:{port}"):
                assert client.get(path, headers={"Host": name}).status_code != 403, (path, name)


@pytest.mark.parametrize("path", ["/api/jobs", "/api/translate/content"])
def test_json_is_taken_only_where_it_is_called_so(path: str) -> None:
    """A page of any host may send a text without the browser asking."""
    with gateway("--asr-endpoint", "127.0.0.1:1", "--jobs-endpoint", "127.0.0.1:1") as running:
        for kind, status in (
            ("text/plain", 415), ("application/x-www-form-urlencoded", 415), (None, 415),
            ("application/json", 400), ("application/json; charset=utf-8", 400),
            ("application/problem+json", 400),
        ):  # fmt: skip
            headers = {"Content-Type": kind} if kind else {}
            answer = httpx.post(f"{running.url}{path}", content=b"{}", headers=headers)
            assert answer.status_code == status, (kind, answer.text)


async def test_a_trace_goes_on_through_the_gateway(asr: processes.Service, short: Path) -> None:
    """From the client's own span to the call of the service; no name is in it."""
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    headers = {"traceparent": f"00-{trace}-{parent}-01"}

    def ask(variables: dict[str, str]) -> int:
        flags = ("--asr-endpoint", asr.target, "--tracing")
        with gateway(*flags, **variables) as running, short.open("rb") as file:
            answer = httpx.post(
                f"{running.url}/v1/audio/transcriptions",
                headers=headers, files={"file": ("a.wav", file)}, data={"language": "en"},
                timeout=120,
            )  # fmt: skip
        return answer.status_code

    async with collecting() as collector:
        assert await asyncio.to_thread(ask, collector.environment) == 200
        [request] = [one for one in collector.spans if one.name.startswith("POST ")]
        [call] = [one for one in collector.spans if one.name.endswith("/Transcribe")]
    assert (request.trace_id, request.parent_id) == (trace, parent)
    assert request.attributes["http.response.status_code"] == 200
    assert (call.trace_id, call.parent_id) == (trace, request.span_id)
    assert call.kind == "client"
    assert "evening" not in request.raw + call.raw
