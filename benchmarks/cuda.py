# pyright: basic
"""The command and the service against the libraries on an NVIDIA GPU: real weights, real speech.

    python -m benchmarks cuda MODEL LANGUAGE-FILM.json [...] [--batches 16,32] [--together 4]

MODEL is the folder of a CTranslate2 model; each film is a recording beside its JSON, half an hour
or more (`python -m benchmarks.films` makes them). Every system runs in the same run on the same
GPU in float16 with a beam of 5; CTranslate2 alone, with features made before and two workers, is
the limit. Rows are printed as they come.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from benchmarks import product
from benchmarks.films import excerpt
from benchmarks.judging import Reference, printed, reference, row
from benchmarks.peers import WARM_UP_S, decoded_by
from benchmarks.recordings import read_set

LIMIT_BATCH = 32
BATCHED = ("whisperx", "faster-whisper batched")
ONES = ("faster-whisper", "ctranslate2 alone")
OURS = ("voxroute", "service", "together")
SYSTEMS = (*BATCHED, *ONES, *OURS)


def main(arguments: Sequence[str]) -> bool:
    """Prints the table; True, for it promises nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks cuda", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("films", type=Path, nargs="+", help="LANGUAGE-NAME.json of each")
    parser.add_argument("--batches", default="16,32", help="windows in a batch of the libraries")
    parser.add_argument("--together", type=int, default=4, help="films at once over one service")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="those to measure")
    parser.add_argument("--service-flag", action="append", default=[], help="--service-flag=--x=1")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    given = parser.parse_args(arguments)
    systems = given.systems.split(",")
    if unknown := set(systems) - set(SYSTEMS):
        parser.error(f"no system {', '.join(sorted(unknown))}; there are: {', '.join(SYSTEMS)}")
    references = [reference(read_set(path)) for path in given.films]
    rows: list[list[str]] = []
    for cells in chain(_peers(given, systems, references), _ours(given, systems, references)):
        rows.append(cells)
        print(" ".join(cells), flush=True)
    rows.sort(key=lambda cells: cells[0])
    print(f"\n{_gpu()}, {given.model.name}, beam 5\n\n{printed(rows)}")
    return True


def _peers(
    given: argparse.Namespace, systems: Sequence[str], references: Sequence[Reference]
) -> Iterator[list[str]]:
    runs = [(name, int(size)) for name in BATCHED for size in given.batches.split(",")]
    runs += [("faster-whisper", 1), ("ctranslate2 alone", LIMIT_BATCH)]
    for one in references:
        for name, batch in runs:
            if name in systems:
                outcome = decoded_by(name, given.model, given.device, one.speech, batch)
                yield row(name if batch == 1 else f"{name}, {batch}", outcome, one)


def _ours(
    given: argparse.Namespace, systems: Sequence[str], references: Sequence[Reference]
) -> Iterator[list[str]]:
    if not set(OURS) & set(systems):
        return
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        flags = given.service_flag
        with product.service("whisperx", given.model, given.device, folder, flags) as running:
            for one in references:
                film = one.speech
                warm = folder / f"{film.language}-warm.flac"
                product.called(running, excerpt(warm, film, WARM_UP_S))
                if "voxroute" in systems:
                    outcome = product.transcribed(running, film, folder / film.name)
                    yield row("voxroute", outcome, one)
                if "service" in systems:
                    outcome = product.called(running, film)
                    yield row("voxroute, its service alone", outcome, one)
                if "together" in systems:
                    into = folder / f"{film.name}-together"
                    outcome = product.transcribed(running, film, into, given.together)
                    label = f"voxroute, {given.together} films at once"
                    yield row(label, outcome, one, given.together)


def _gpu() -> str:
    try:
        import pynvml  # type: ignore[import-not-found]  # noqa: PLC0415 - on GPU hosts only

        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except Exception:  # noqa: BLE001 - its errors cannot be named without it
        return "no GPU"
