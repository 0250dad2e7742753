"""Kills the processes of a job at random moments, and checks that nothing is lost or done twice.

For each round a job is begun; after a random time the command, its speech service or its
translation service is killed with SIGKILL. A command whose service was killed goes on by itself;
one that was killed itself, or that gave up because its service died while starting, is resumed. In
the end the files are compared, byte for byte, with those of an undisturbed run. Exits 1 where one
differs, or where more than one finished window was transcribed again.

    make kill-test
"""

import argparse
import difflib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.speech import CLIP_S, looped
from voxroute_orchestrator.pipeline.journal import SqliteJournal

VICTIMS = ("the command", "voxroute_asr_whisperx", "voxroute_translate")
RESULTS = ("film.hi.srt", "film.en.srt", "film.transcript.json")


def start(media: Path, folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """The command, with the bundled models."""
    arguments = ["run", str(media), "-s", "hi", "-t", "en", "-o", str(folder), "--offline"]
    return subprocess.Popen(
        [sys.executable, "-m", "voxroute_orchestrator", *arguments, "--quiet", *more],
        env=os.environ | {"VOXROUTE_LOCAL_IDLE_S": "0"},  # a round must not meet the last one's
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill(command: "subprocess.Popen[bytes]", victim: str) -> bool:
    """Whether the victim was there to be killed."""
    if victim == VICTIMS[0]:
        command.send_signal(signal.SIGKILL)
        return True
    for child in psutil.Process(command.pid).children(recursive=True):
        try:
            if any(victim in part for part in child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
                return True
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return False


@dataclass
class Outcome:
    """What became of one round."""

    victim: str
    after_s: float
    killed: bool
    """False where the job was done before."""
    took_s: float
    kept: int
    """Segments that were in the journal when the command had ended early."""
    repeated: int
    identical: bool


def kept_segments(folder: Path) -> int:
    """Segments in the journal of an interrupted job."""
    path = folder / ".film.voxroute-journal"
    if not path.exists():
        return 0
    with SqliteJournal(path) as journal:
        return sum(len(span.segments) for span in journal.spans().values())


def differs(found: Path, wanted: Path) -> bool:
    """Whether a result is not what it is to be; tells how."""
    if not found.exists():
        print(f"{found.name} is missing", file=sys.stderr)
        return True
    ours, theirs = (path.read_text().splitlines() for path in (found, wanted))
    sys.stderr.writelines(
        f"{line}\n" for line in difflib.unified_diff(theirs, ours, wanted.name, "after the kill")
    )
    return ours != theirs


def one_round(media: Path, reference: Path, victim: str, after_s: float) -> Outcome:
    """A job whose victim is killed after that time."""
    folder = Path(tempfile.mkdtemp(prefix="voxroute-kill-"))
    try:
        began = time.monotonic()
        command = start(media, folder)
        until = began + after_s
        while time.monotonic() < until and command.poll() is None:
            time.sleep(0.02)
        killed = command.poll() is None and kill(command, victim)
        kept = 0
        _, said = command.communicate(timeout=1800)
        if command.returncode != 0:
            kept = kept_segments(folder)
            command = start(media, folder, "--resume")
            _, said = command.communicate(timeout=1800)
        if command.returncode != 0:
            sys.stderr.write(said.decode(errors="replace"))
        report = folder / "film.run.json"
        repeated = (
            json.loads(report.read_text())["recognition"]["repeated_windows"]
            if report.exists()
            else -1
        )
        identical = not [name for name in RESULTS if differs(folder / name, reference / name)]
        took_s = time.monotonic() - began
        return Outcome(victim, after_s, killed, took_s, kept, repeated, identical)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Runs the rounds and prints a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--loops", type=int, default=4, help="length of the recording, in clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--earliest", type=float, default=0.1, help="as a share of a job's time")
    options = parser.parse_args()
    chance = random.Random(options.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory(prefix="voxroute-kill-") as folder:
        media = looped(Path(folder) / "film.mka", round(options.loops * CLIP_S))
        reference = Path(folder) / "reference"
        began = time.monotonic()
        undisturbed = start(media, reference)
        _, said = undisturbed.communicate(timeout=1800)
        if undisturbed.returncode != 0:
            sys.stderr.write(said.decode(errors="replace"))
            return 1
        took_s = time.monotonic() - began
        outcomes: list[Outcome] = []
        table = Table("killed", "after s", "segments kept", "windows repeated", "identical")
        while len(outcomes) < options.rounds:
            victim = VICTIMS[len(outcomes) % len(VICTIMS)]
            outcome = one_round(
                media, reference, victim, chance.uniform(options.earliest, 1.0) * took_s
            )
            if not outcome.killed:  # the machine was busier when the time was taken
                took_s = min(took_s, outcome.took_s)
                continue
            outcomes.append(outcome)
            cells = (f"{outcome.after_s:.1f}", str(outcome.kept), str(outcome.repeated))
            table.add_row(outcome.victim, *cells, "yes" if outcome.identical else "NO")
            print(f"{len(outcomes)} of {options.rounds}: {outcome}", file=sys.stderr)
        Console(width=100).print(table)
        print(f"an undisturbed run took {took_s:.1f} s")
        good = all(one.identical and 0 <= one.repeated <= 1 for one in outcomes)
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
