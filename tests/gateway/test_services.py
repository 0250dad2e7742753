"""What the gateway tells of the services behind it."""

from typing import Any

import httpx2 as httpx

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway, place_taken

AWAY = "127.0.0.1:1"


def _services(running: Gateway) -> list[dict[str, Any]]:
    answer = httpx.get(f"{running.url}/api/services", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["services"]


def test_each_service_is_told_with_its_places(
    server: Gateway, asr: processes.Service, translation: processes.Service, samples: bytes
) -> None:
    """Before the gateway has used it and after, in the order of kinds."""
    for _ in range(2):
        speech, translator = _services(server)
        assert (speech["kind"], speech["address"]) == ("speech", asr.target)
        assert (translator["kind"], translator["address"]) == ("translation", translation.target)
        for one in (speech, translator):
            assert one["serving"] is True
            assert one["error"] == ""
            assert one["device"].startswith("cpu")
            assert one["models"]
            assert one["version"]
            assert one["calls_capacity"] > one["calls_in_flight"] >= 0
        for path in ("/v1/models", "/languages"):
            assert httpx.get(f"{server.url}{path}", timeout=60).status_code == 200
    before = _services(server)[0]["calls_in_flight"]
    with place_taken(asr, samples):
        assert _services(server)[0]["calls_in_flight"] == before + 1


def test_a_service_that_is_away_is_told_and_none_is_started() -> None:
    """With a sentence; and where nothing is configured the list is empty."""
    with gateway("--asr-endpoint", AWAY) as running:
        (away,) = _services(running)
        assert (away["address"], away["serving"]) == (AWAY, False)
        assert "cannot be reached" in away["error"]
        assert "models" not in away
    with gateway() as running:
        assert _services(running) == []
