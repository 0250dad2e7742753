# pyright: basic
"""How good and how fast the segments of a recording came: one row of a table."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.films import samples_of
from benchmarks.peers import Outcome, Segment
from benchmarks.recordings import SpeechSet, word_error_rate
from benchmarks.table import table
from voxroute_serving.engine import SAMPLE_RATE
from voxroute_serving.windows import N_FRAME_SAMPLES, SpeechProbabilities

HEADINGS = (
    "recording",
    "",
    "s",
    "real time",
    "CPU s",
    "GPU %",
    "WER %",
    "a minute",
    "longest s",
    "start ms",
    "95 % ms",
    "missed s",
)
LEGEND = """\
WER: word error rate; in Chinese and Japanese, of characters. a minute, longest: segments.
start, 95 %: how far a segment begins from its voice, median and 95th percentile.
missed: voice that no segment covers."""
MIN_PAUSE_S = 0.3
"""A shorter silence is part of a stretch of voice."""
CONTINUES_S = 1.0
"""Where the segment before covers so much of a stretch, the next one goes on with it."""
TAIL_S = 0.2
"""A segment that meets no more than that of a stretch's end belongs to the next one."""

N_OFFSETS = 4
N_STEP_SAMPLES = N_FRAME_SAMPLES // N_OFFSETS
THRESHOLD = 0.5

Stretch = tuple[float, float]
"""Start and end of uninterrupted voice, seconds."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording, its length and where its voice is."""

    speech: SpeechSet
    length_s: float
    voice: tuple[Stretch, ...]


def reference(speech: SpeechSet) -> Reference:
    """Finds the voice with Silero at four offsets of its frames, without margins.

    On a telephone line the onset of one voice moves by up to half a second with the offset, so the
    mean of the four is taken, to 8 ms.
    """
    samples = samples_of(speech.path).astype("float32") / 32768
    n_steps = len(samples) // N_STEP_SAMPLES + 1
    total = np.zeros(n_steps, np.float32)
    for offset in range(N_OFFSETS):
        before = np.zeros(offset * N_STEP_SAMPLES, np.float32)
        silero = SpeechProbabilities()
        found = np.concatenate([silero.push(np.concatenate([before, samples])), silero.finish()])
        total += np.repeat(found, N_OFFSETS)[offset : offset + n_steps]
    step_s = N_STEP_SAMPLES / SAMPLE_RATE
    voice = stretches_of(total / N_OFFSETS, round(MIN_PAUSE_S / step_s))
    return Reference(
        speech,
        len(samples) / SAMPLE_RATE,
        tuple((begin * step_s, end * step_s) for begin, end in voice),
    )


def stretches_of(probabilities: np.ndarray, n_pause: int) -> list[tuple[int, int]]:
    """Where it is likelier than not that there is a voice: indices, ends exclusive.

    A pause of fewer than `n_pause` is none.
    """
    voiced = np.flatnonzero(probabilities >= THRESHOLD)
    if not len(voiced):
        return []
    runs = np.split(voiced, np.flatnonzero(np.diff(voiced) > n_pause) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


def start_errors(segments: Sequence[Segment], voice: Sequence[Stretch]) -> list[float]:
    """How far from its voice's onset each segment begins, seconds.

    Of segments that begin a stretch of voice: where one splits a stretch there is no truth.
    """
    errors: list[float] = []
    covered_to = 0.0
    for start_s, end_s, _ in segments:
        met = [stretch for stretch in voice if stretch[1] > start_s + TAIL_S and stretch[0] < end_s]
        if met and covered_to <= met[0][0] + CONTINUES_S:
            errors.append(abs(start_s - met[0][0]))
        covered_to = max(covered_to, end_s)
    return errors


def missed_s(segments: Sequence[Segment], voice: Sequence[Stretch]) -> float:
    """Seconds of voice that no segment covers."""
    missing = 0.0
    covering = sorted(segment for segment in segments if segment[2].strip())
    for begin, end in voice:
        at = begin
        for start_s, end_s, _ in covering:
            if end_s > at and start_s < end:
                missing += max(0.0, start_s - at)
                at = max(at, end_s)
        missing += max(0.0, end - at)
    return missing


def row(system: str, outcome: Outcome, against: Reference, n_recordings: int = 1) -> list[str]:
    """A row of the table; `n_recordings` of this length were decoded in the time."""
    reading, segments = outcome.reading, outcome.segments
    text = " ".join(text.strip() for _, _, text in segments)
    errors = sorted(start_errors(segments, against.voice)) or [float("nan")]
    length_s = against.length_s
    return [
        against.speech.name,
        system,
        f"{reading.wall_s:.1f}",
        f"{n_recordings * length_s / reading.wall_s:.1f}x",
        f"{reading.cpu_s:.1f}",
        "-" if reading.gpu_percent is None else f"{reading.gpu_percent:.0f}",
        f"{100 * word_error_rate(against.speech.text, text):.1f}",
        f"{60 * len(segments) / length_s:.1f}",
        f"{max((end_s - start_s for start_s, end_s, _ in segments), default=0.0):.1f}",
        f"{1000 * statistics.median(errors):.0f}",
        f"{1000 * errors[math.ceil(0.95 * len(errors)) - 1]:.0f}",
        f"{missed_s(segments, against.voice):.1f}",
    ]


def printed(rows: Sequence[Sequence[str]]) -> str:
    """The table and what its columns mean."""
    return f"{table(HEADINGS, rows)}\n\n{LEGEND}"
