"""The page's files: what is served, with which headers, and what stands in them."""

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from tests.e2e import processes
from tests.gateway.conftest import Gateway, gateway

WEB = processes.ROOT / "gateway" / "voxroute_gateway" / "web"
VENDORED = "756e871dd819ea8ed78d5751eeb75b76161208087a73460d6d1896a0c458cfd6"
FILES = sorted(str(path.relative_to(WEB)) for path in WEB.rglob("*") if path.is_file())
OURS = [name for name in FILES if not name.startswith("vendor/")]
KINDS = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


@pytest.fixture(scope="module")
def bare() -> Iterator[Gateway]:
    """A gateway without services, which the page's files do not need."""
    with gateway("--asr-endpoint", "127.0.0.1:1") as running:
        yield running


def test_each_file_is_served_as_what_it_is(bare: Gateway) -> None:
    """With a policy that lets in nothing of another host, and nothing that stands in the page."""
    with httpx.Client(base_url=bare.url) as client:
        for path in ["/", *(f"/ui/{name}" for name in FILES)]:
            answer = client.get(path)
            kind = KINDS.get(Path(path).suffix, "text/html")
            assert answer.status_code == 200, path
            assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
        assert client.get("/").content == (WEB / "index.html").read_bytes()


def test_what_a_browser_has_is_not_sent_again(bare: Gateway) -> None:
    """It asks each time, by the ETag."""
    with httpx.Client(base_url=bare.url) as client:
        first = client.get("/ui/app.js")
        assert first.headers["cache-control"] == "no-cache"
        again = client.get("/ui/app.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = client.get("/ui/app.js", headers={"If-None-Match": '"another"'})
        assert other.status_code == 200


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "lib", "vendor/", "none.js"])
def test_nothing_else_is_served(bare: Gateway, path: str) -> None:
    """No folder, and nothing beside the page's own."""
    answer = httpx.get(f"{bare.url}/ui/{path}")
    assert answer.status_code == 404


def test_what_is_no_page_runs_no_script(bare: Gateway) -> None:
    """A recording that is called film.html, for example, is opened without rights."""
    answer = httpx.get(f"{bare.url}/health")
    assert answer.headers["content-security-policy"].endswith("sandbox")


def test_the_file_of_other_makers_is_the_one_that_was_looked_at() -> None:
    """scripts/vendor_page.py makes it; its licences lie beside it."""
    data = (WEB / "vendor" / "preact-htm.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == VENDORED
    assert {path.name for path in (WEB / "vendor").iterdir()} == {
        "preact-htm.js", "preact.LICENSE.txt", "htm.LICENSE.txt",
    }  # fmt: skip


def test_no_file_names_another_host() -> None:
    """Nothing is fetched from elsewhere; the icon's namespace is no address."""
    for name in OURS:
        text = (WEB / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), name


def test_modules_import_what_is_there() -> None:
    """A browser finds out only once it opens the view."""
    for name in OURS:
        path = WEB / name
        for found in re.findall(r'from "(\..+?)"', path.read_text(encoding="utf-8")):
            assert (path.parent / found).resolve().is_file(), (name, found)


def test_no_folder_and_no_file_is_more_than_a_person_keeps_in_mind() -> None:
    """As in the rest of the product: fifteen modules, six hundred lines, a sentence about each."""
    scripts = [WEB / name for name in OURS if name.endswith((".js", ".css"))]
    counts = [sum(one.parent == path.parent for one in scripts) for path in scripts]
    assert max(counts) <= 15
    for path in scripts:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 600, path
        assert lines[0].startswith(("// ", "/* ")), path


@pytest.mark.slow
def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    """All files, at their places."""
    uv = processes.ROOT / ".tools" / "bin" / "uv"
    subprocess.run(
        [uv, "build", "--wheel", "--package", "voxroute-gateway", "--python", sys.executable,
         "--out-dir", tmp_path],
        check=True, capture_output=True, cwd=processes.ROOT,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"voxroute_gateway/web/{name}" for name in FILES} <= names
