"""The commands of the workflow on the example, with the real services and the bundled models."""

import os
import subprocess
from pathlib import Path

import pytest

from scripts.compare_subtitles import compare
from tests.orchestrator.cli.test_command import ROOT
from voxroute_orchestrator.subtitles.formats import read

EXAMPLE = ROOT / "examples" / "lost-key.mp4"
LEAST_SHARE = 0.85


def _type(folder: Path, line: list[str]) -> str:
    environment = os.environ | {
        "VOXROUTE_WORK_DIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:1",
    }
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("backend", ["whisperx", "mlx"])
def test_the_workflow_makes_the_subtitles_of_the_example(backend: str, tmp_path: Path) -> None:
    """Prepare and run as typed; the English matches the reference, on the backend of the file."""
    if backend == "mlx":
        pytest.importorskip("mlx_whisper")
    said = _type(
        tmp_path,
        ["./prepare-job.sh", str(EXAMPLE), "--translate", "--source-language", "hi",
         "--target-language", "en"],
    )  # fmt: skip
    job_id = said.split("Job: ")[1].split()[0]
    folder = tmp_path / "jobs" / job_id
    file = folder / f".{job_id}.env"
    text = file.read_text()
    for line in text.splitlines():
        if line.startswith("WHISPER_BACKEND="):
            text = text.replace(line, f"WHISPER_BACKEND={backend}")
        if line.startswith("WHISPERX_DEVICE="):
            text = text.replace(line, "WHISPERX_DEVICE=cpu")
        if line.startswith("WHISPER_COMPUTE_TYPE="):
            text = text.replace(line, "WHISPER_COMPUTE_TYPE=auto")
    file.write_text(text)
    said = _type(tmp_path, ["./run-pipeline.sh", "-j", job_id])
    assert f"Configured backend: {backend} (from job config)" in said
    assert f"voxroute_asr_{backend} on cpu" in said
    for language in ("hi", "en"):
        produced = read(folder / f"lost-key.{language}.srt")
        result = compare(produced, read(EXAMPLE.with_suffix(f".{language}.srt")))
        assert result.share >= LEAST_SHARE, result
