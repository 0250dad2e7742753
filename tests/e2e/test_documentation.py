"""The programs in the documentation run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pysubs2

from tests.e2e import processes

GUIDE = processes.ROOT / "docs" / "integrating.md"


def _run(number: int, *arguments: str) -> str:
    program = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[
        number
    ]
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


def test_the_transcription_program_prints_the_example(asr: processes.Service, clip: Path) -> None:
    """The guide's first program names the model and prints a line for each segment."""
    lines = _run(0, asr.target, str(clip)).splitlines()
    assert lines[0].startswith("model ")
    assert lines[-1].startswith("real-time factor ")
    cues = len(pysubs2.load(str(clip.with_suffix(".hi.srt"))))
    assert len(lines) - 2 >= cues * 0.8


def test_the_translation_program_prints_the_english(
    translation: processes.Service, clip: Path
) -> None:
    """The guide's second program prints status and text for each sentence that it is given."""
    hindi = [cue.plaintext for cue in pysubs2.load(str(clip.with_suffix(".hi.srt")))][:5]
    english = [cue.plaintext for cue in pysubs2.load(str(clip.with_suffix(".en.srt")))][:5]
    lines = _run(1, translation.target, *hindi).splitlines()
    assert len(lines) == 5
    assert sum(expected in line for expected, line in zip(english, lines, strict=True)) >= 4
    assert all("ITEM_STATUS_OK" in line for line in lines)


def test_the_tests_that_hold_the_promises_of_security_are_there() -> None:
    """Each promise of the threat model names tests, and each of those exists."""
    page = (processes.ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:serving|orchestrator|e2e)/(?:\w+/)*test_\w+\.py)(?:::(\w+))?`", page)
    assert len(named) > 20
    for file, name in named:
        source = (processes.ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not name or f"def {name}(" in source, f"{file}::{name}"
