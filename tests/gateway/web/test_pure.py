"""What of the page needs no browser, by node's own test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.gateway.web.test_files import WEB

TESTS = Path(__file__).parent / "pure"


@pytest.mark.parametrize("name", sorted(path.name for path in TESTS.glob("*.test.js")))
def test_pure_logic(name: str, tmp_path: Path) -> None:
    """Each file of tests, beside a copy of the page that node takes for modules."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node: there is none; `make install` brings one for pyright")
    shutil.copytree(WEB, tmp_path / "web")
    shutil.copytree(TESTS, tmp_path / "pure")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(
        [node, "--test", f"pure/{name}"], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
