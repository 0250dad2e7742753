"""What the gateway says of its routes is what they do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.gateway.conftest import Gateway, gateway
from tests.gateway.test_jobs import ended, submit, upload
from voxroute_gateway import app
from voxroute_gateway.gateway import Gateway as Parts
from voxroute_gateway.metrics import GatewayMetrics
from voxroute_gateway.settings import GatewaySettings
from voxroute_gateway.upstream import Upstream, WaitingRoom
from voxroute_orchestrator.settings import Settings
from voxroute_orchestrator.spec import JobSpec

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)
HOOKS = """
import schemathesis

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
"""
CONFIG = """
hooks = "hooks.py"

[parameters]
"path.job_id" = "%s"
"path.name" = "evening.hi.vtt"
"path.upload_id" = "%s"

[[operations]]
include-name = "DELETE /api/jobs/{job_id}"
parameters = { job_id = "none" }

[[operations]]
include-name = "DELETE /api/uploads/{upload_id}"
parameters = { upload_id = "none" }
"""


@pytest.fixture(scope="module")
def whole(all_three: list[str]) -> Iterator[Gateway]:
    """A gateway whose answers all have their status, however busy this machine is."""
    with gateway(*all_three, "--heartbeat-s", "600") as running:
        yield running


@pytest.fixture(scope="module")
def description(whole: Gateway) -> dict[str, Any]:
    """As it is served."""
    answer = httpx.get(f"{whole.url}/openapi.json")
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


def test_each_route_is_described(description: dict[str, Any]) -> None:
    """With its method and the names in its path, and nothing else is."""
    metrics = GatewayMetrics("1")
    room = WaitingRoom(metrics, 1, 1.0)
    settings = Settings()
    parts = Parts(GatewaySettings(), Upstream(settings, JobSpec(), room), settings.subtitles, "1")
    routes = list(app.build(parts, metrics, None).router.routes())
    there = {(r.resource.canonical, r.method.lower()) for r in routes if r.resource is not None}
    assert len(there) == len(routes)
    told = {(path, one) for path, methods in description["paths"].items() for one in methods}
    assert told == there
    for path, methods in description["paths"].items():
        for one in methods.values():
            named = [p["name"] for p in one["parameters"] if p["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)
            assert one["summary"]


@pytest.mark.slow  # a minute of made-up requests
def test_whatever_is_asked_is_answered_as_described(
    whole: Gateway, short: Path, tmp_path: Path
) -> None:
    """No status, content type or field that the description has not, and no 5xx."""
    with httpx.Client(base_url=whole.url, timeout=120) as client:
        job = ended(client, submit(client, short)["id"])
        upload_id = upload(client, b"x")
    (tmp_path / "hooks.py").write_text(HOOKS)
    (tmp_path / "schemathesis.toml").write_text(CONFIG % (job["id"], upload_id))
    done = subprocess.run(
        [Path(sys.executable).with_name("st"), "run", f"{whole.url}/openapi.json",
         "--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "25",
         "--seed", "1", "--continue-on-failure", "--no-color", "--no-shrink",
         "--suppress-health-check", "all"],
        check=False, capture_output=True, text=True, cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
