"""Each member of the workspace is whole with the dependencies that it declares itself."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv", path=str(ROOT / ".tools" / "bin")) or shutil.which("uv")
HELP = {
    "services/serving": [["voxroute_serving.healthcheck", "--help"]],
    "services/asr_mlx": [["voxroute_asr_mlx", "--help"]],
    "services/asr_whisperx": [["voxroute_asr_whisperx", "--help"]],
    "services/translate": [["voxroute_translate", "--help"]],
    "gateway": [["voxroute_gateway", "--help"]],
    "orchestrator": [
        ["voxroute_orchestrator", *command, "--help"]
        for command in ([], ["run"], ["prepare"], ["serve"], ["jobs"], ["models", "convert"])
    ],
}


@pytest.mark.slow  # a virtual environment for each, with torch in two of them
@pytest.mark.timeout(900)
@pytest.mark.skipif(UV is None, reason="uv is not installed")
@pytest.mark.parametrize("member", HELP)
def test_a_member_alone_prints_its_help(member: str, tmp_path: Path) -> None:
    """What it imports from another one's dependencies would be missing."""
    assert UV is not None
    python = tmp_path / "venv" / "bin" / "python"
    for command in (
        [UV, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")],
        [UV, "pip", "install", "--quiet", "--python", str(python), str(ROOT / member)],
    ):
        subprocess.run(command, check=True, cwd=ROOT)
    for module, *arguments in HELP[member]:
        done = subprocess.run(
            [python, "-P", "-m", module, *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "usage" in done.stdout.lower()
