# pyright: basic
"""Long recordings with what is said, made of short ones.

    python -m benchmarks.films en-film.flac 30 en-read.json en-short.json

writes 30 minutes, en-film.flac and en-film.json: the sentences of the sets again and again, in
another order each time, with pauses of 0.4 to 1.6 s. The name begins with the language.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.recordings import SpeechSet, read_set
from voxroute_serving.engine import SAMPLE_RATE

PAUSE_S = (0.4, 1.6)
_PER_FRAME = 60 * SAMPLE_RATE  # samples given to the encoder at once


def samples_of(path: Path) -> np.ndarray:
    """(samples,) of 16 kHz, 16-bit audio."""
    import av  # noqa: PLC0415 - seconds

    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def make_film(path: Path, sets: Sequence[SpeechSet], length_s: float) -> SpeechSet:
    """Writes the recording and its JSON; it ends with the first sentence beyond length_s."""
    audio = {one.path: samples_of(one.path) for one in sets}
    sentences = [(one.path, sentence) for one in sets for sentence in one.sentences]
    order = random.Random(0)  # noqa: S311 - the same film everywhere
    parts: list[np.ndarray] = []
    rows: list[tuple[float, float, str]] = []
    n_samples = 0
    while n_samples < length_s * SAMPLE_RATE:
        for source, sentence in order.sample(sentences, len(sentences)):
            pause = np.zeros(int(order.uniform(*PAUSE_S) * SAMPLE_RATE), np.int16)
            begin, end = (int(at * SAMPLE_RATE) for at in (sentence.start_s, sentence.end_s))
            spoken = audio[source][begin:end]
            start = n_samples + len(pause)
            n_samples = start + len(spoken)
            parts += [pause, spoken]
            rows.append((start / SAMPLE_RATE, n_samples / SAMPLE_RATE, sentence.text.strip()))
            if n_samples >= length_s * SAMPLE_RATE:
                break
    write_flac(path, np.concatenate(parts))
    reference = path.with_suffix(".json")
    reference.write_text(json.dumps(rows, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    return read_set(reference)


def excerpt(path: Path, source: SpeechSet, length_s: float) -> SpeechSet:
    """Writes the first seconds of a set, with the sentences that end in them."""
    write_flac(path, samples_of(source.path)[: int(length_s * SAMPLE_RATE)])
    rows = [(s.start_s, s.end_s, s.text) for s in source.sentences if s.end_s <= length_s]
    reference = path.with_suffix(".json")
    reference.write_text(json.dumps(rows, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_set(reference)


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Writes (samples,) of 16 kHz, 16-bit audio."""
    import av  # noqa: PLC0415 - seconds

    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        for begin in range(0, len(samples), _PER_FRAME):
            part = samples[None, begin : begin + _PER_FRAME]
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.rate = SAMPLE_RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a film; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.films", description=__doc__)
    parser.add_argument("target", type=Path, help="LANGUAGE-NAME.flac")
    parser.add_argument("minutes", type=float)
    parser.add_argument("references", type=Path, nargs="+", help="NAME.json of each set")
    given = parser.parse_args(arguments)
    film = make_film(given.target, [read_set(p) for p in given.references], given.minutes * 60)
    print(f"{film.path}: {film.sentences[-1].end_s:.0f} s, {len(film.sentences)} sentences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
