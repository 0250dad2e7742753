# pyright: basic
"""`voxroute live` with real weights and real speech: what it writes, and that it keeps up."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import product
from benchmarks.recordings import SpeechSet, normalised
from tests.real.conftest import real_model
from voxroute_orchestrator.subtitles import formats as subtitles


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--refine",), ("--update-interval", "0")])
def test_what_is_spoken_is_written_while_it_is_spoken(
    flags: tuple[str, ...], english: SpeechSet, tmp_path: Path
) -> None:
    """Its sentences are those that were said, and all is there soon after the last word."""
    with product.service("whisperx", real_model("whisper-tiny.en"), "cpu", tmp_path) as service:
        begun = time.monotonic()
        done = subprocess.run(
            [
                sys.executable, "-m", "voxroute_orchestrator", "live", str(english.path),
                "-s", "en", "-o", "out", "--format", "srt", "--endpoint", service.target, *flags,
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        took_s = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    cues = subtitles.read(tmp_path / "out" / f"{english.path.stem}.en.srt")
    written = " ".join(cue.text.replace("\n", " ") for cue in cues)
    assert written == " ".join(done.stdout.split("\n")).strip()
    for sentence in english.sentences[1:]:  # the first is of numbers, which have many spellings
        assert normalised(sentence.text) in normalised(written)
    assert took_s < english.sentences[-1].end_s + 15
