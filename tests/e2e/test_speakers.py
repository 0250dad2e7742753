"""Who speaks in the example: the command, a service that it starts, a real pyannote pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT
from tests.engines.pipelines import write_pipeline


@pytest.mark.slow  # pyannote takes half a minute to be imported on two processors
def test_the_example_has_two_voices(tmp_path: Path) -> None:
    """They take turns, sentence for sentence; SRT names them and WebVTT has their tags."""
    pipeline = write_pipeline(tmp_path / "pipeline")
    arguments = ["transcribe", str(ROOT / "examples" / "evening.wav"), "-s", "en", "--offline"]
    wanted = ["--speakers", "--diarization-model", str(pipeline), "--speaker-prefix"]
    done = subprocess.run(
        [sys.executable, "-m", "voxroute_orchestrator", *arguments, *wanted, "-o", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    transcript = json.loads((tmp_path / "evening.transcript.json").read_text())
    voices = [segment["speaker"] for segment in transcript["segments"]]
    assert set(voices) == {"SPEAKER_00", "SPEAKER_01"}
    assert voices[0] == "SPEAKER_00"
    assert "SPEAKER_01: " in (tmp_path / "evening.en.srt").read_text()
    assert "<v SPEAKER_01>" in (tmp_path / "evening.en.vtt").read_text()
    assert "2 speakers" in done.stdout
