# pyright: basic
"""How good and how fast the segments of a recording came: one row of a table."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.films import samples_of
from benchmarks.peers import Outcome, Segment
from benchmarks.recordings import Sentence, SpeechSet, normalised, word_error_rate
from benchmarks.table import table
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.audio.vad import N_FRAME_SAMPLES, SpeechProbabilities

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
    "untold %",
)
LEGEND = """\
WER: word error rate; in Chinese and Japanese, of characters. a minute, longest: segments.
start, 95 %: how far a segment begins from its voice, median and 95th percentile.
missed: voice that no segment covers. untold: of the voice, what has no text and is not told."""
MIN_PAUSE_S = 0.3
"""A shorter silence is part of a stretch of voice."""
CONTINUES_S = 1.0
"""Where the segment before covers so much of a stretch, the next one goes on with it."""
TAIL_S = 0.2
"""A segment that meets no more than that of a stretch's end belongs to the next one."""
NEAR_S = 1.0
"""Words so near to the time of a sentence are its own."""
_TOLD = 0.4  # of a sentence's time, its edges and pauses included, in which its voice is told

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
    return _outside_s(voice, [(one[0], one[1]) for one in segments if one[2].strip()])


def untold_share(outcome: Outcome, voice: Sequence[Stretch]) -> float:
    """Of the voice, the share that has no text and is not said to have none: lost silently."""
    with_text = [(one[0], one[1]) for one in outcome.segments if one[2].strip()]
    length_s = sum(end - begin for begin, end in voice)
    return _outside_s(voice, [*with_text, *outcome.told]) / length_s if length_s else 0.0


def _outside_s(voice: Sequence[Stretch], covering: Sequence[Stretch]) -> float:
    missing = 0.0
    ordered = sorted(covering)
    for begin, end in voice:
        at = begin
        for start_s, end_s in ordered:
            if end_s > at and start_s < end:
                missing += max(0.0, start_s - at)
                at = max(at, end_s)
        missing += max(0.0, end - at)
    return missing


def inside_s(start_s: float, end_s: float, stretches: Iterable[Stretch]) -> float:
    """Seconds of a time that lie in stretches, which do not overlap."""
    return sum(max(0.0, min(end_s, end) - max(start_s, begin)) for begin, end in stretches)


def lost_lines(
    speech: SpeechSet, outcome: Outcome, alone: Mapping[str, str] | None = None
) -> list[Sentence]:
    """The sentences that are lost silently.

    There are less than half of their words near their time, nor a word of doubt: no flag, and the
    time is not told as one without text. `alone` is what a model writes for a sentence alone, by
    its text: half of those words are as good, for a text may be wrong and a model may be weak.
    Words that run together, as digits do, are there all the same.
    """

    def is_lost(sentence: Sentence) -> bool:
        start_s, end_s = sentence.start_s - NEAR_S, sentence.end_s + NEAR_S
        near = [i for i, one in enumerate(outcome.segments) if one[1] > start_s and one[0] < end_s]
        written = normalised(" ".join(outcome.segments[i][2] for i in near)).split()
        for text in (sentence.text, (alone or {}).get(sentence.text, "")):
            words = normalised(text).split()
            if words and "".join(words) in "".join(written):
                return False
            if words and len(set(words) & set(written)) >= len(set(words)) / 2:
                return False
        own = [i for i in near if inside_s(*outcome.segments[i][:2], [_time(sentence)]) > TAIL_S]
        if any(outcome.flags[i] for i in own):
            return False
        return inside_s(*_time(sentence), outcome.told) < _TOLD * (
            sentence.end_s - sentence.start_s
        )

    return [sentence for sentence in speech.sentences if is_lost(sentence)]


def _time(sentence: Sentence) -> Stretch:
    return sentence.start_s, sentence.end_s


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
        f"{100 * untold_share(outcome, against.voice):.1f}",
    ]


def printed(rows: Sequence[Sequence[str]]) -> str:
    """The table and what its columns mean."""
    return f"{table(HEADINGS, rows)}\n\n{LEGEND}"
