# pyright: basic
"""One film over one, two and three equal speech services of this machine, and one that dies.

The recording is half an hour of the example. Each service decodes on one processor, so two of them
are two equal machines as far as this one has processors; the command is the one that people run.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from benchmarks.product import COMMAND, Service, service
from benchmarks.speech import MODEL, looped
from benchmarks.table import table

MINUTES = 30
SERVICES = 3
PROMISED_SPEEDUP = 1.5  # of two services, where there are two processors


def main() -> bool:
    """Prints the table; whether all transcripts are equal and two services are faster than one."""
    with tempfile.TemporaryDirectory(prefix="vx") as name, ExitStack() as stack:
        folder = Path(name)
        media = looped(folder / "film.mka", MINUTES * 60)
        services = [
            stack.enter_context(_on_one_processor(folder / str(number)))
            for number in range(SERVICES)
        ]
        rows, texts, times = [], [], []
        for number in range(1, SERVICES + 1):
            took_s, text = _transcribe(media, folder / f"by-{number}", services[:number])
            times.append(took_s)
            texts.append(text)
            rows.append((str(number), f"{took_s:.1f}", f"{times[0] / took_s:.2f}"))
        took_s, text = _transcribe(
            media, folder / "killed", services, last_killed_after_s=times[-1] / 2
        )
        texts.append(text)
        rows.append((f"{SERVICES}, one killed", f"{took_s:.1f}", f"{times[0] / took_s:.2f}"))
    same = len(set(texts)) == 1
    print(f"{MINUTES} minutes, {MODEL.name}, {os.cpu_count()} processors, one for each service\n")
    print(table(("services", "s", "speed-up"), rows))
    print(f"\nidentical transcripts: {'yes' if same else 'NO'}")
    enough = (os.cpu_count() or 1) < 2 or times[0] / times[1] >= PROMISED_SPEEDUP  # noqa: PLR2004
    print(f"two services of two processors: at least {PROMISED_SPEEDUP} promised")
    return same and enough


def _on_one_processor(folder: Path) -> AbstractContextManager[Service]:
    """A speech service with the bundled model."""
    folder.mkdir()
    flags = ("--cpu-threads", "1")
    return service("whisperx", MODEL, "cpu", folder, flags, OMP_NUM_THREADS="1")


def _transcribe(
    media: Path, folder: Path, services: Sequence[Service], last_killed_after_s: float = 0.0
) -> tuple[float, str]:
    """How long it took, seconds, and the transcript; the last service may be killed on the way."""
    endpoints = [part for one in services for part in ("--asr-endpoint", one.target)]
    arguments = ["transcribe", str(media), "-s", "hi", "-o", str(folder), "--quiet", *endpoints]
    began = time.perf_counter()
    command = subprocess.Popen([*COMMAND, *arguments])
    if last_killed_after_s:
        time.sleep(last_killed_after_s)
        services[-1].process.kill()
    if command.wait():
        raise RuntimeError("the command failed")
    return time.perf_counter() - began, (folder / "film.transcript.json").read_text()
