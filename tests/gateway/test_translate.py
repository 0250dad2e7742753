"""The clients of LibreTranslate, unchanged, and Bazarr's request to Lingarr."""

from pathlib import Path
from typing import Any, cast

import httpx2 as httpx
import pytest
from deep_translator import LibreTranslator
from libretranslatepy import LibreTranslateAPI

from tests.gateway.conftest import Gateway, gateway

HINDI = "मैं घर जाता हूँ।"


@pytest.fixture(scope="module")
def english(server: Gateway) -> str:
    """The sentence as the service has it."""
    answer = httpx.post(
        f"{server.url}/translate", json={"q": HINDI, "source": "hi", "target": "en"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["translatedText"]


def test_the_client_of_libretranslate_is_served(server: Gateway, english: str) -> None:
    """By forms: a text, the languages, the language of a text."""
    client: Any = LibreTranslateAPI(f"{server.url}/")
    assert client.translate(HINDI, "hi", "en") == english
    assert {"hi", "en"} <= {one["code"] for one in client.languages()}
    assert client.detect(HINDI)[0]["language"] == "hi"


def test_all_may_stand_in_the_query_string(server: Gateway, english: str) -> None:
    """As deep-translator sends it, with an empty body."""
    client = cast("Any", LibreTranslator)(
        source="hi", target="en", custom_url=f"{server.url}/", api_key="x"
    )
    assert client.translate(HINDI) == english


def test_a_list_comes_back_as_a_list_and_its_language_is_told(
    server: Gateway, english: str
) -> None:
    """With `auto`, the letters tell it."""
    answer = httpx.post(
        f"{server.url}/translate",
        json={"q": [HINDI, HINDI], "source": "auto", "target": "en"},
        timeout=60,
    ).json()
    assert answer["translatedText"] == [english] * 2
    assert [one["language"] for one in answer["detectedLanguage"]] == ["hi", "hi"]


def test_lines_stay_lines(server: Gateway, english: str) -> None:
    """Each is translated alone, as LibreTranslate does it; empty ones stay too."""
    answer = httpx.post(
        f"{server.url}/translate",
        data={"q": f"{HINDI}\n\n{HINDI}", "source": "hi", "target": "en"},
        timeout=60,
    ).json()
    assert answer["translatedText"] == f"{english}\n\n{english}"


def test_tags_stay_where_they_are(server: Gateway, english: str) -> None:
    """Mastodon sends HTML."""
    answer = httpx.post(
        f"{server.url}/translate",
        data={"q": f"<p>{HINDI}</p>", "source": "hi", "target": "en", "format": "html"},
        timeout=60,
    ).json()
    assert answer["translatedText"] == f"<p>{english}</p>"


@pytest.mark.parametrize(
    "asked",
    [
        {"q": HINDI, "source": "hi"},
        {"source": "hi", "target": "en"},
        {"q": HINDI, "source": "ta", "target": "en"},
        {"q": "12 + 30", "source": "auto", "target": "en"},
        {"q": HINDI, "source": "hi", "target": "en", "format": "pdf"},
    ],
)
def test_what_is_wrong_is_a_sentence(server: Gateway, asked: dict[str, str]) -> None:
    """With 400, as the value of `error`."""
    answer = httpx.post(f"{server.url}/translate", json=asked, timeout=60)
    assert answer.status_code == 400, answer.text
    assert isinstance(answer.json()["error"], str)


def test_clients_learn_what_there_is(server: Gateway) -> None:
    """Before they translate anything."""
    assert httpx.get(f"{server.url}/frontend/settings").json()["keyRequired"] is False
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def test_the_lines_of_a_film_come_back_under_their_positions(server: Gateway) -> None:
    """As Bazarr sends them to Lingarr; in the film's order, whatever that of the request."""
    lines = [{"position": 2, "line": HINDI}, {"position": 1, "line": "हाँ।"}]
    answer = httpx.post(
        f"{server.url}/api/translate/content",
        json={
            "arrMediaId": 1,
            "title": "A film",
            "sourceLanguage": "hi",
            "targetLanguage": "en",
            "mediaType": "Movie",
            "lines": lines,
        },
        headers={"X-Api-Key": "any"},
        timeout=60,
    ).json()
    assert [one["position"] for one in answer] == [1, 2]
    assert all(one["line"] for one in answer)


def test_a_key_may_stand_in_the_request(tmp_path: Path) -> None:
    """As clients of LibreTranslate send it, in any form of the request."""
    key = "0123456789abcdef0123"
    (tmp_path / "tokens").write_text(f"me:{key}\n")
    (tmp_path / "tokens").chmod(0o600)
    flags = ("--asr-endpoint", "127.0.0.1:1", "--client-tokens", str(tmp_path / "tokens"))
    with gateway(*flags) as running, httpx.Client(base_url=running.url) as client:

        def statuses(offered: str) -> list[int]:
            asked = {"q": HINDI, "source": "hi", "api_key": offered}
            parts = {name: (None, value) for name, value in asked.items()}
            return [
                client.post("/translate", params=asked).status_code,
                client.post("/translate", json=asked).status_code,
                client.post("/translate", data=asked).status_code,
                client.post("/translate", files=parts).status_code,
            ]

        assert statuses(key) == [400] * 4  # for want of a target
        assert statuses("another") == [401] * 4
