"""Short-lived tokens: for live speech alone, for a while, with the session's options."""

import asyncio
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx2 as httpx
import openai
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway
from tests.gateway.live.speaking import audio_input, connected
from voxroute_gateway.errors import RequestError
from voxroute_gateway.live.secrets import Secrets
from voxroute_gateway.live.session import TranscriptionSession

TOKEN = "a-token-that-is-long-enough-to-count"  # noqa: S105
SESSION: Any = audio_input(
    transcription={"model": "whisper-1", "language": "hi"}, turn_detection=None
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that asks for tokens, and lets one page in; its service is not needed."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"me:{TOKEN}\n")
    tokens.chmod(0o600)
    flags = ("--client-tokens", str(tokens), "--cors-origins", "https://page.example")
    with gateway("--asr-endpoint", "127.0.0.1:1", *flags) as running:
        yield running
        log = Path(f"/proc/self/fd/{running.output.fileno()}").read_text(encoding="utf-8")
        assert "ek_" not in log
        assert TOKEN not in log


def _secret(running: Gateway, **body: Any) -> dict[str, Any]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=TOKEN, max_retries=0) as client:
        return client.realtime.client_secrets.create(**body).model_dump()


async def _language(running: Gateway, **how: Any) -> Any:
    async with connected(running.url, **how) as socket:
        created = await socket.until("session.created")
    return created["session"]["audio"]["input"]["transcription"]["language"]


async def test_a_page_connects_with_a_token_and_its_options(guarded: Gateway) -> None:
    """As the bearer or, from a browser, among the subprotocols; only `realtime` comes back."""
    secret = await asyncio.to_thread(_secret, guarded, session=SESSION)
    assert secret["session"]["audio"]["input"]["turn_detection"] is None
    value = secret["value"]
    assert await _language(guarded, Authorization=f"Bearer {value}") == "hi"
    page: dict[str, Any] = {
        "protocols": ("realtime", f"openai-insecure-api-key.{value}"),
        "Origin": "https://page.example",
    }
    assert await _language(guarded, **page) == "hi"
    async with connected(guarded.url, **page) as socket:
        assert socket.socket.protocol == "realtime"
    for own in (("realtime", f"openai-insecure-api-key.{TOKEN}"),):
        assert await _language(guarded, protocols=own) is None


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"Authorization": "Bearer ek_0123456789abcdef_0123456789abcdef"},
        {"protocols": ("realtime", "openai-insecure-api-key.ek_1_2")},
        {"protocols": ("realtime",)},
    ],
)
async def test_nobody_connects_without_a_token(guarded: Gateway, how: dict[str, Any]) -> None:
    """401, before the connection is one."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await _language(guarded, **how)
    assert caught.value.status == 401


async def test_a_token_among_unknown_subprotocols_is_refused(guarded: Gateway) -> None:
    """A browser would end the connection anyway, and a library would log what it offers."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await _language(guarded, protocols=(f"openai-insecure-api-key.{TOKEN}",))
    assert caught.value.status == 400


def test_a_token_opens_nothing_else(guarded: Gateway) -> None:
    """Neither recordings nor tokens: who has one cannot make itself another."""
    value = _secret(guarded)["value"]
    headers = {"Authorization": f"Bearer {value}"}
    for method, path in (
        ("GET", "/v1/models"), ("POST", "/v1/realtime/client_secrets"), ("GET", "/languages"),
    ):  # fmt: skip
        assert httpx.request(method, guarded.url + path, headers=headers).status_code == 401


async def test_a_token_ends(guarded: Gateway) -> None:
    """And it is at most an hour that it is good for."""
    secret = _secret(guarded, expires_after={"anchor": "created_at", "seconds": 1})
    assert await _language(guarded, Authorization=f"Bearer {secret['value']}") is None
    await asyncio.sleep(2.1)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await _language(guarded, Authorization=f"Bearer {secret['value']}")
    long = _secret(guarded, expires_after={"anchor": "created_at", "seconds": 7200})
    short = _secret(guarded)
    assert 3500 < long["expires_at"] - short["expires_at"] <= 3541


async def test_a_token_ends_with_the_one_that_it_was_made_for(tmp_path: Path) -> None:
    """Who is no longer let in has no way left open."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"me:{TOKEN}\nother:{TOKEN[::-1]}\n")
    tokens.chmod(0o600)
    with gateway("--asr-endpoint", "127.0.0.1:1", "--client-tokens", str(tokens)) as running:
        value = _secret(running)["value"]
        assert await _language(running, Authorization=f"Bearer {value}") is None
        tokens.write_text(f"other:{TOKEN[::-1]}\n")

        async def is_refused() -> bool:
            try:
                await _language(running, Authorization=f"Bearer {value}")
            except aiohttp.WSServerHandshakeError as error:
                return error.status == 401
            return False

        deadline = time.monotonic() + 30
        while not await is_refused():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)


def test_clients_of_the_beta_ask_for_it_in_another_way(guarded: Gateway) -> None:
    """The body is the session, and the token stands in it."""
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=TOKEN, max_retries=0) as client:
        made = client.beta.realtime.transcription_sessions.create(
            input_audio_format="g711_alaw",
            input_audio_transcription={"model": "whisper-1", "language": "hi"},
        )
    assert made.input_audio_format == "g711_alaw"
    assert made.client_secret.value.startswith("ek_")


@pytest.mark.parametrize(
    "body",
    [
        {"expires_after": {"seconds": "7"}},
        {"expires_after": {"seconds": 0}},
        {"expires_after": []},
        {"session": {"type": "realtime"}},
        {"session": {"audio": {"input": {"transcription": {"prompt": "x" * 20_000}}}}},
    ],
)
def test_a_wrong_body_is_told(guarded: Gateway, body: dict[str, Any]) -> None:
    """With 400, and the field."""
    answer = httpx.post(
        f"{guarded.url}/v1/realtime/client_secrets",
        json=body, headers={"Authorization": f"Bearer {TOKEN}"},
    )  # fmt: skip
    assert answer.status_code == 400
    assert answer.json()["error"]["param"]


def test_tokens_are_bounded_in_number() -> None:
    """Until some of them have ended."""
    now = 0.0
    secrets = Secrets[TranscriptionSession](lambda: now)
    session = TranscriptionSession()
    first, _ = secrets.issue(session, 60)
    for _ in range(999):
        secrets.issue(session, 60)
    with pytest.raises(RequestError) as caught:
        secrets.issue(session, 60)
    assert caught.value.status == 429
    assert secrets.session_of(first) is session
    assert secrets.session_of(first[:-1]) is None
    now = 61.0
    assert secrets.session_of(first) is None
    secrets.issue(session, 60)


async def test_without_tokens_of_its_own_a_gateway_gives_them_too() -> None:
    """So that a page is written once."""
    with gateway("--asr-endpoint", "127.0.0.1:1") as running:
        value = (await asyncio.to_thread(_secret, running, session=SESSION))["value"]
        assert await _language(running, Authorization=f"Bearer {value}") == "hi"
        assert await _language(running, Authorization="Bearer whatever") is None


def test_the_command_of_the_page_works(guarded: Gateway) -> None:
    """As it stands there, with this host and token."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    page = (processes.ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    [command] = [
        one for one in page.replace("\\\n", " ").splitlines()
        if one.startswith("    curl") and "client_secrets" in one
    ]  # fmt: skip
    host = guarded.url.partition("//")[2]
    words = shlex.split(command.replace("HOST:8000", host).replace("TOKEN", TOKEN))
    done = subprocess.run([*words, "--silent"], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["value"].startswith("ek_")
