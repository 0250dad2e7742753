"""The locked dependencies: their licences, and what is known against them."""

import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from scripts import audit

ADVISORY = {
    "id": "PYSEC-0000-1",
    "summary": "numbers may be wrong",
    "affected": [
        {
            "package": {"name": "numpy", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
        }
    ],
}


class Advisories(BaseHTTPRequestHandler):
    """OSV's one address: an advisory against numpy, none against anything else."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"vulns": [ADVISORY]} if query["package"]["name"] == "numpy" else {}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing."""


@pytest.fixture
def osv_url() -> Generator[str]:
    """The address of advisories on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def requirements() -> list[str]:
    """The locked runtime dependencies."""
    if not audit.UV.is_file():
        pytest.skip(f"{audit.UV} is missing; `make install` makes it")
    return audit.locked()


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("MIT AND Apache-2.0 WITH LLVM-exception", True),
        ("LGPL-2.1-or-later OR BSD-2-Clause", True),
        ("MIT AND (GPL-3.0-only OR LGPL-2.1-or-later)", False),
        ("AGPL-3.0-only", False),
        ("UNKNOWN", False),
        ("Other/Proprietary License", False),
        ("", False),
    ],
)
def test_a_licence_counts_as_its_parts_do(licence: str, allowed: bool) -> None:  # noqa: FBT001 - a parameter
    """All of several have to be allowed, one of a choice; what nobody knows is not."""
    assert audit.is_allowed(licence) is allowed


@pytest.mark.slow
def test_every_dependency_has_a_licence_that_is_allowed(requirements: list[str]) -> None:
    """Of what is installed here; a package that is new or has changed is looked at first."""
    wanted = audit.names(requirements)
    found = audit.licences(wanted)
    assert len(found) > 100
    assert [one for one in found if not one.allowed] == []
    assert set(audit.STATED) <= wanted, "packages that are no dependencies any more"


@pytest.mark.slow
def test_an_advisory_against_a_dependency_is_a_finding(
    requirements: list[str], osv_url: str
) -> None:
    """It is named with the version that mends it; without one there is no finding."""
    code, said = audit.advisories(requirements, osv_url)
    assert code == audit.EXIT_FINDING
    assert "PYSEC-0000-1" in said
    assert "numpy" in said
    others = [line for line in requirements if not line.startswith("numpy")]
    assert audit.advisories(others, osv_url)[0] == 0


@pytest.mark.slow
def test_nothing_is_known_against_the_dependencies(requirements: list[str]) -> None:
    """As OSV knows it today; skipped where OSV cannot be asked."""
    code, said = audit.advisories(requirements)
    if code == audit.EXIT_NOT_ASKED:
        pytest.skip(f"the advisory service {audit.OSV_URL} cannot be reached: {said[:200]}")
    assert code == 0, said
