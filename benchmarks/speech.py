# pyright: basic
"""The audio that benchmarks run on, and a stopwatch."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.films import samples_of
from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, SAMPLE_RATE, Samples

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "asr-tiny-hi-en"
EXAMPLES = ROOT / "examples"
CLIP = EXAMPLES / "lost-key.mp4"
CLIP_S = 69.0
N_WINDOWS = 8
_AAC_SAMPLES = 1024  # of a packet


@dataclass(slots=True)
class Runs:
    """What a program took, seconds, and the texts that came out, with single spaces."""

    times_s: list[float] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)


def by_turns(
    *programs: Callable[[], str], n_turns: int, begins_within_s: float = math.inf
) -> list[Runs]:
    """Runs programs one after the other, again and again; no turn begins after that time."""
    found = [Runs() for _ in programs]
    began = time.perf_counter()
    for _ in range(n_turns):
        if time.perf_counter() - began >= begins_within_s:
            break
        for run, runs in zip(programs, found, strict=True):
            started = time.perf_counter()
            text = run()
            runs.times_s.append(time.perf_counter() - started)
            runs.texts.add(" ".join(text.split()))
    return found


def looped(path: Path, seconds: int) -> Path:
    """The example's sound repeated to a length; its packets are copied, not encoded again."""
    import av  # noqa: PLC0415 - seconds

    with av.open(str(CLIP)) as source, av.open(str(path), "w") as opened:
        target: Any = opened  # its types know no packets without a stream
        stream = source.streams.audio[0]
        copy = target.add_stream_from_template(stream)
        packets = [bytes(packet) for packet in source.demux(stream) if packet.size]
        for index in range(seconds * stream.rate // _AAC_SAMPLES):
            packet = av.Packet(packets[index % len(packets)])
            packet.stream = copy
            packet.pts = packet.dts = index * _AAC_SAMPLES
            packet.time_base = Fraction(1, stream.rate)
            target.mux(packet)
    return path


def speech_windows() -> list[Samples]:
    """Windows of the example, cut between subtitles, each padded to 30 s with silence."""
    import pysubs2  # noqa: PLC0415 - seconds

    media = min(EXAMPLES.glob("*.mp4"))
    cues = pysubs2.load(str(media.with_suffix(".hi.srt")))
    samples = samples_of(media).astype(np.float32) / 32768
    groups: list[list[tuple[float, float]]] = [[]]
    for cue in cues:
        start_s, end_s = cue.start / 1000 - 0.2, cue.end / 1000 + 0.2
        if groups[-1] and end_s - groups[-1][0][0] > 25:  # noqa: PLR2004 - leaves silence to end in
            groups.append([])
        groups[-1].append((start_s, end_s))
    windows: list[Samples] = []
    for group in groups:
        begin, end = (int(max(0.0, at) * SAMPLE_RATE) for at in (group[0][0], group[-1][1]))
        window = np.zeros(N_WINDOW_SAMPLES, np.float32)
        part = samples[begin:end]
        window[: len(part)] = part
        windows.append(window)
    return [windows[i % len(windows)] for i in range(N_WINDOWS)]
