# pyright: basic
"""The command and the services against the libraries on a CPU: real weights, real speech.

    python -m benchmarks cpu [--systems NAME,...] [--recordings NAME.json ...] [--no-mlx]

Every recording of `make real-models` in English and Hindi, and all of VOXROUTE_SPEECH, with
whisper-base: int8 in CTranslate2, float32 in MLX, which gets the shortest recording alone, for it
has no fast matrix products on a processor.
"""

import argparse
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import product
from benchmarks.judging import Reference, printed, reference, row
from benchmarks.peers import decoded_by
from benchmarks.recordings import HOW_TO_GET, WHISPER_BASE, read_set, speech_sets
from voxroute_serving.device.host import usable_processors

BATCH = 8  # windows; faster-whisper's and whisperx' own default
LIBRARIES = ("whisperx", "faster-whisper", "faster-whisper batched")
COMMAND, SERVICE = "voxroute", "voxroute service alone"


def main(arguments: Sequence[str]) -> bool:
    """Prints the table; True, for it promises nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cpu", description=__doc__)
    parser.add_argument("--systems", default=",".join((*LIBRARIES, COMMAND, SERVICE)))
    parser.add_argument("--recordings", type=Path, nargs="+", default=[], help="NAME.json of each")
    parser.add_argument("--model", type=Path, default=WHISPER_BASE, help="a CTranslate2 model")
    parser.add_argument("--no-mlx", action="store_true")
    given = parser.parse_args(arguments)
    chosen = [read_set(path) for path in given.recordings] or speech_sets("en", "hi")
    if not chosen or not given.model.is_dir():
        raise SystemExit(f"no recordings or no {given.model}: {HOW_TO_GET}")
    systems = given.systems.split(",")
    references = [reference(one) for one in chosen]
    rows: list[list[str]] = []
    for library in LIBRARIES:
        if library in systems:
            for one in references:
                outcome = decoded_by(library, given.model, "cpu", one.speech, BATCH)
                rows.append(row(library, outcome, one))
    if {COMMAND, SERVICE} & set(systems):
        rows += _by_services("whisperx", given.model, references, systems)
    checkpoint = given.model.with_name(f"{given.model.name}-hf")
    if not given.no_mlx and checkpoint.is_dir():
        shortest = min(references, key=lambda one: one.length_s)
        outcome = decoded_by("mlx_whisper", checkpoint, "cpu", shortest.speech)
        rows.append(row("mlx_whisper", outcome, shortest))
        rows += _by_services("mlx", checkpoint, [shortest], systems)
    rows.sort(key=lambda cells: cells[0])  # by recording; the systems stay in order
    print(f"{given.model.name}, {usable_processors()} processors ({platform.machine()}), beam 5\n")
    print(printed(rows))
    return True


def _by_services(
    engine: str, model: Path, references: Sequence[Reference], systems: Sequence[str]
) -> list[list[str]]:
    rows: list[list[str]] = []
    name = {"whisperx": "", "mlx": " (MLX)"}[engine]
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        with product.service(engine, model, "cpu", folder) as running:
            shortest = min(references, key=lambda one: one.length_s).speech
            product.called(running, shortest)  # warms up
            for one in references:
                speech = one.speech
                if COMMAND in systems:
                    into = folder / speech.name
                    outcome = product.transcribed(running, speech, into)
                    rows.append(row(f"{COMMAND}{name}", outcome, one))
                if SERVICE in systems:
                    outcome = product.called(running, speech)
                    rows.append(row(f"{SERVICE}{name}", outcome, one))
    return rows
