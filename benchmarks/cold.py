# pyright: basic
"""From nothing to a transcript: the command's first and second time against a six-line script.

    python -m benchmarks cold

11 s of English with whisper-base on this machine's CPU. The command starts its own service; the
second time it may find it still there. Its folders for running services and caches are the
benchmark's own, so that nothing of the user's is found or ended. Every program runs twice and the
better time counts, except the first command.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.films import excerpt
from benchmarks.product import COMMAND
from benchmarks.recordings import HOW_TO_GET, WHISPER_BASE, speech_sets
from benchmarks.table import table

CLIP_S = 11.0
PROMISED = {"first": 2.0, "version": 2.0}
"""At most so many times the script's time; `--version` against typer's import."""
SCRIPT = """\
import sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8")
segments, _ = model.transcribe(sys.argv[2], language="en")
for segment in segments:
    print(segment.start, segment.end, segment.text)
"""


def main(arguments: Sequence[str]) -> bool:
    """Prints the table; whether a first command and `--version` keep what is promised."""
    argparse.ArgumentParser(prog="python -m benchmarks cold", description=__doc__).parse_args(
        arguments
    )
    sets = speech_sets("en")
    if not sets or not WHISPER_BASE.is_dir():
        raise SystemExit(f"no recordings or no model: {HOW_TO_GET}")
    longest = max(sets, key=lambda one: one.sentences[-1].end_s)
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        clip = excerpt(folder / "en-clip.flac", longest, CLIP_S)
        own = {name: str(folder / name.lower()) for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME")}
        for path in own.values():
            Path(path).mkdir(mode=0o700)
        transcribe = [*COMMAND, "transcribe", str(clip.path), "-s", "en", "--overwrite", "--quiet"]
        transcribe += ["--model", str(WHISPER_BASE), "--offline", "-o", str(folder / "out")]
        transcribe += ["--backend", "whisperx", "--device", "cpu"]
        script = [sys.executable, "-c", SCRIPT, str(WHISPER_BASE), str(clip.path)]
        environment = os.environ | own
        script_s = _best_s(script, environment)
        try:
            first_s = _seconds(transcribe, environment)
            second_s = _seconds(transcribe, environment)
        finally:  # a version that keeps no services knows no such command
            stop = [*COMMAND, "services", "stop"]
            subprocess.run(stop, env=environment, capture_output=True, check=False)
        typer_s = _best_s([sys.executable, "-c", "import typer"], environment)
        version_s = _best_s([*COMMAND, "--version"], environment)
    ratios = {"first": first_s / script_s, "version": version_s / typer_s}
    rows = [
        ("faster-whisper script", script_s, 1.0),
        ("voxroute transcribe, first", first_s, ratios["first"]),
        ("voxroute transcribe, second", second_s, second_s / script_s),
        ("import typer", typer_s, 1.0),
        ("voxroute --version", version_s, ratios["version"]),
    ]
    print(f"{CLIP_S:.0f} s of English, {WHISPER_BASE.name}, {os.cpu_count()} processors\n")
    print(table(("", "s", "ratio"), [(name, f"{s:.2f}", f"{r:.1f}") for name, s, r in rows]))
    print("\npromised: " + ", ".join(f"{key} at most {value}" for key, value in PROMISED.items()))
    return all(ratios[key] <= limit for key, limit in PROMISED.items())


def _best_s(command: Sequence[str], environment: dict[str, str]) -> float:
    return min(_seconds(command, environment) for _ in range(2))


def _seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began
