# pyright: basic
"""One film over one, two and three equal speech services of this machine, and one that dies.

The recording is half an hour of the example. Each service decodes on one processor, so two of them
are two equal machines as far as this one has processors; the command is the one that people run.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.speech import MODEL, looped
from benchmarks.table import table

MINUTES = 30
SERVICES = 3
PROMISED_SPEEDUP = 1.5  # of two services, where there are two processors


def main() -> bool:
    """Prints the table; whether all transcripts are equal and two services are faster than one."""
    with tempfile.TemporaryDirectory(prefix="vx") as name:
        folder = Path(name)
        media = looped(folder / "film.mka", MINUTES * 60)
        services = [_start(folder / f"{number}.sock") for number in range(SERVICES)]
        targets = [f"unix:{folder / f'{number}.sock'}" for number in range(SERVICES)]
        try:
            for target in targets:
                _until_serving(target)
            rows, texts, times = [], [], []
            for number in range(1, SERVICES + 1):
                took_s, text = _transcribe(media, folder / f"by-{number}", targets[:number])
                times.append(took_s)
                texts.append(text)
                rows.append((str(number), f"{took_s:.1f}", f"{times[0] / took_s:.2f}"))
            took_s, text = _transcribe(
                media, folder / "killed", targets, victim=services[-1], after_s=times[-1] / 2
            )
            texts.append(text)
            rows.append((f"{SERVICES}, one killed", f"{took_s:.1f}", f"{times[0] / took_s:.2f}"))
        finally:
            for service in services:
                service.terminate()
            for service in services:
                service.wait()
    same = len(set(texts)) == 1
    print(f"{MINUTES} minutes, {MODEL.name}, {os.cpu_count()} processors, one for each service\n")
    print(table(("services", "s", "speed-up"), rows))
    print(f"\nidentical transcripts: {'yes' if same else 'NO'}")
    enough = (os.cpu_count() or 1) < 2 or times[0] / times[1] >= PROMISED_SPEEDUP  # noqa: PLR2004
    print(f"two services of two processors: at least {PROMISED_SPEEDUP} promised")
    return same and enough


def _start(socket: Path) -> subprocess.Popen:
    """A speech service with the bundled model on one processor."""
    arguments = ["--model", str(MODEL), "--device", "cpu", "--listen", f"unix:{socket}"]
    return subprocess.Popen(
        [sys.executable, "-m", "voxroute_asr_whisperx", *arguments, "--metrics-listen", ""],
        env=os.environ | {"OMP_NUM_THREADS": "1", "VOXROUTE_CPU_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "voxroute_orchestrator", *arguments]


def _until_serving(target: str) -> None:
    while subprocess.run(
        _command("services", "--asr-endpoint", target), capture_output=True, check=False
    ).returncode:
        time.sleep(0.5)


def _transcribe(
    media: Path,
    folder: Path,
    targets: Sequence[str],
    *,
    victim: subprocess.Popen | None = None,
    after_s: float = 0.0,
) -> tuple[float, str]:
    """How long it took, seconds, and the transcript; a service may be killed on the way."""
    endpoints = [part for target in targets for part in ("--asr-endpoint", target)]
    arguments = ["transcribe", str(media), "-s", "hi", "-o", str(folder), "--quiet", *endpoints]
    began = time.perf_counter()
    command = psutil.Popen(_command(*arguments))
    if victim is not None:
        time.sleep(after_s)
        victim.kill()
    if command.wait():
        raise RuntimeError("the command failed")
    return time.perf_counter() - began, (folder / "film.transcript.json").read_text()
