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


def test_models_are_loaded_and_unloaded(server: Gateway, translation: processes.Service) -> None:
    """Of the services that the gateway knows, and of no others."""

    def states() -> dict[str, str]:
        answer = httpx.get(f"{server.url}/api/services/models", timeout=60)
        assert answer.status_code == 200, answer.text
        models = answer.json()["models"]
        return {one["model"]: one["state"] for one in models if one["address"] == address}

    def ask(**more: Any) -> httpx.Response:
        asked = {"address": address, "model": model, "loaded": True, **more}
        return httpx.post(f"{server.url}/api/services/models", json=asked, timeout=120)

    address = translation.target
    (model, *_) = states()
    for loaded, state in ((True, "loaded"), (False, "available"), (True, "loaded")):
        answer = ask(loaded=loaded)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["model"], answer.json()["state"]) == (model, state)
        assert states()[model] == state
    assert ask(address=AWAY).json()["error"]["code"] == "service_not_found"
    assert ask(model="no-such-model").status_code == 404
    assert ask(loaded="yes").status_code == 400
    assert ask(model="/etc").status_code == 400
    foreign = httpx.post(
        f"{server.url}/api/services/models",
        json={"address": address, "model": model, "loaded": False},
        headers={"Origin": "https://other.example"},
    )
    assert foreign.status_code == 403


def test_a_service_that_is_away_is_told_and_none_is_started() -> None:
    """With a sentence; and where nothing is configured the list is empty."""
    with gateway("--asr-endpoint", AWAY) as running:
        (away,) = _services(running)
        assert (away["address"], away["serving"]) == (AWAY, False)
        assert "cannot be reached" in away["error"]
        assert "models" not in away
    with gateway() as running:
        assert _services(running) == []
