"""The first command that a newcomer types."""

import subprocess
import sys

from tests.e2e import processes


def test_the_demo_writes_and_translates_what_is_said() -> None:
    """It ends with 0, which it does where the cues in both languages match their references."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts.demo"],
        cwd=processes.ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("cues match (100.0%)") == 2, done.stdout
