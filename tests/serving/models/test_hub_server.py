"""What the hub answers, and what a person is told: a real HTTP server in the hub's place."""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.serving.hub_stand_in import CONFIG, TOKEN, Hub, hub_server

LOOK = """
import json, sys
from voxroute_serving import errors
from voxroute_serving.models import hub
said = {}
for name, revision, token in json.loads(sys.argv[1]):
    try:
        path = hub.local_directory(
            name, offline=sys.argv[2] == "offline", revision=revision, token=token
        )
        files = sorted(file.name for file in path.iterdir())
        said[token or name] = ["", files, (path / "config.json").read_text()]
    except errors.ServingError as error:
        said[token or name] = [type(error).__name__, str(error), ""]
print(json.dumps(said))
"""


def look(
    hub: Hub,
    cache: Path,
    *models: tuple[str, str | None],
    mode: str = "online",
    tokens: Sequence[str] = (),
) -> dict[str, list[Any]]:
    """What a service is told of each model: error and message, or the files.

    The first model once more with each token, by the token.
    """
    asked = [(*model, None) for model in models] + [(*models[0], token) for token in tokens]
    done = subprocess.run(
        [sys.executable, "-c", LOOK, json.dumps(asked), mode],
        env=hub.environment(cache),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_the_hub_refuses_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Gated, missing, without that revision, and out of order are four different sentences."""
    with hub_server() as hub:
        said = look(
            hub,
            tmp_path,
            ("shop/gated", None),
            ("shop/nothing", None),
            ("shop/old", "v9"),
            ("shop/broken", None),
        )
    for name, kind, words in (
        ("shop/gated", "ModelGatedError", "accept its licence"),
        ("shop/nothing", "ModelNotFoundError", "the hub has no model"),
        ("shop/old", "ModelNotFoundError", "no revision 'v9'"),
        ("shop/broken", "ModelUnavailableError", "the hub gives no answer"),
    ):
        assert said[name][0] == kind, said[name]
        assert words in said[name][1]


def test_a_gated_model_says_where_to_go_and_what_to_set(tmp_path: Path) -> None:
    """The page, the token, the variable; to a stranger's token, that its account has no access."""
    with hub_server() as hub:
        said = look(hub, tmp_path, ("shop/gated", None), tokens=["hf_stranger", TOKEN])
    page = f"{hub.address}/shop/gated"
    kind, message, _ = said["shop/gated"]
    assert kind == "ModelGatedError"
    assert message == (
        f"the model shop/gated is gated: accept its licence at {page}, create a token at"
        f" {hub.address}/settings/tokens and start the service with HF_TOKEN set to it"
    )
    kind, message, _ = said["hf_stranger"]
    assert kind == "ModelGatedError"
    assert "the account of the token has no access" in message
    assert page in message
    assert said[TOKEN][:2] == ["", ["config.json", "model.bin"]]


def test_a_model_is_downloaded_once_and_then_served_offline(tmp_path: Path) -> None:
    """The second look needs no hub; a model that was never fetched is told as offline."""
    with hub_server() as hub:
        fetched = look(hub, tmp_path, ("shop/whisper", None))
    assert fetched["shop/whisper"] == ["", ["config.json"], CONFIG.decode()]
    said = look(hub, tmp_path, ("shop/whisper", None), ("shop/other", None), mode="offline")
    assert said["shop/whisper"] == fetched["shop/whisper"]
    assert said["shop/other"][0] == "ModelUnavailableError"
    assert "--offline" in said["shop/other"][1]


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    """Nobody listens there: the message says so and names a way without the hub."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        hub = Hub(f"http://127.0.0.1:{taken.getsockname()[1]}")
        kind, message, _ = look(hub, tmp_path, ("shop/whisper", None))["shop/whisper"]
    assert kind == "ModelUnavailableError"
    assert "the hub gives no answer" in message
    assert "directory" in message
