# pyright: basic
"""Text where nobody speaks: films of speech, music and noise, with real weights on a CPU.

    python -m benchmarks soundtracks [--minutes 60] [--films english,hindi,several] [--seed 0]

Recordings of `make real-models` and of VOXROUTE_SPEECH, in scenes that are all of the same
loudness, some over music or noise; between them scenes of music, noise, applause or silence, from
6 dB above the speech to 45 dB below it. "several" has seven languages and is told so. One service
decodes film after film. The benchmark fails where text without a flag stands where nobody speaks.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import product
from benchmarks.films import Scene, Soundtrack, soundtrack
from benchmarks.judging import inside_s, reference, untold_share
from benchmarks.peers import Outcome
from benchmarks.recordings import HOW_TO_GET, WHISPER_BASE, Sentence, speech_sets
from benchmarks.table import table
from voxroute_serving.device.host import usable_processors

FILMS = {
    "english": ("en",),
    "hindi": ("hi",),
    "several": ("es", "fr", "it", "pt", "ja", "zh", "pl"),
}
NO_FLAG, TOLD = "no flag", "(told as without text)"
_EDGE_S = 0.5  # s of a scene's ends; a word fades out, and a cue may begin before its word
_MIN_INVENTED_S = 0.2  # s of a scene under a text; less is the edge of a word
HEADINGS = ("film", "flag", "segments", "s", "s of speech", "s of no voice")
LEGEND = """\
s: of text with the flag; a text with two flags counts for each. s of speech, of no voice: what of
it is where somebody speaks, and amid a scene in which nobody does."""


@dataclass(frozen=True, slots=True)
class Invented:
    """A text without a flag where nobody speaks, and what sounds there."""

    start_s: float
    text: str
    scene: Scene


def invented(film: Soundtrack, outcome: Outcome) -> list[Invented]:
    """The texts that stand amid scenes without a voice, and bear no flag."""
    return [
        Invented(start_s, text, scene)
        for (start_s, end_s, text), flags in zip(outcome.segments, outcome.flags, strict=True)
        for scene in film.scenes
        if not flags and inside_s(start_s, end_s, [_inner(scene)]) > _MIN_INVENTED_S
    ]


def rows(name: str, film: Soundtrack, outcome: Outcome) -> list[list[str]]:
    """A row for each flag, one for text without, and one for what is told as without text."""
    stretches: dict[str, list[tuple[float, float]]] = {NO_FLAG: []}
    for (start_s, end_s, _), flags in zip(outcome.segments, outcome.flags, strict=True):
        for flag in flags or (NO_FLAG,):
            stretches.setdefault(flag, []).append((start_s, end_s))
    stretches[TOLD] = list(outcome.told)
    spoken = [(one.start_s, one.end_s) for one in film.speech.sentences]
    silent = [_inner(scene) for scene in film.scenes]
    return [
        [
            name,
            flag.lower().replace("_", " "),
            str(len(found)),
            *(
                f"{seconds:.1f}"
                for seconds in (
                    sum(end_s - start_s for start_s, end_s in found),
                    sum(inside_s(*one, spoken) for one in found),
                    sum(inside_s(*one, silent) for one in found),
                )
            ),
        ]
        for flag, found in stretches.items()
    ]


def _inner(scene: Scene) -> tuple[float, float]:
    return scene.start_s + _EDGE_S, scene.end_s - _EDGE_S


def _length_s(sentences: Sequence[Sentence]) -> float:
    return sum(one.end_s - one.start_s for one in sentences)


def main(arguments: Sequence[str]) -> bool:
    """Prints the table; whether no text without a flag stands where nobody speaks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks soundtracks", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--films", default=",".join(FILMS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, default=WHISPER_BASE, help="a CTranslate2 model")
    given = parser.parse_args(arguments)
    names = given.films.split(",")
    if not given.model.is_dir() or not all(speech_sets(*FILMS[name]) for name in names):
        raise SystemExit(f"no recordings or no {given.model}: {HOW_TO_GET}")
    print(f"{given.model.name}, {usable_processors()} processors, {given.minutes:g} min a film\n")
    cells: list[list[str]] = []
    fine = True
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        with product.service("whisperx", given.model, "cpu", folder) as running:
            for name in names:
                sets = speech_sets(*FILMS[name])
                path = folder / f"{name}.flac"
                film = soundtrack(path, sets, given.minutes * 60, given.seed)
                languages = FILMS[name] if len(FILMS[name]) > 1 else ()
                outcome = product.called(running, film.speech, languages)
                cells += rows(name, film, outcome)
                found = invented(film, outcome)
                fine = fine and not found
                _report(name, film, outcome, found)
    print(f"\n{table(HEADINGS, cells)}\n\n{LEGEND}")
    return fine


def _report(name: str, film: Soundtrack, outcome: Outcome, found: Sequence[Invented]) -> None:
    heard = reference(film.speech)
    print(
        f"{name}: {_length_s(film.speech.sentences):.0f} s of sentences in {heard.length_s:.0f} s,"
        f" {heard.length_s / outcome.reading.wall_s:.1f}x real time,"
        f" untold {100 * untold_share(outcome, heard.voice):.2f} % of the voice,"
        f" {len(found)} texts without a voice or a flag",
        flush=True,
    )
    for one in found:
        scene = f"{one.scene.sound} at {one.scene.level_db:g} dB"
        print(f"  {one.start_s:.1f} s, {scene}: {one.text}", file=sys.stderr)
