"""Real media files, made with PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

from tests.orchestrator.stand_in import STEP

RATE = 16_000

Samples = npt.NDArray[np.int16]


def steps(seconds: int) -> Samples:
    """Samples whose size tells their second: k times STEP in second k, counted from 0.

    Around zero, as sound is: every other one is negative.
    """
    return _held(np.arange(seconds, dtype=np.int16) * STEP)


def mixed(seconds: int) -> Samples:
    """As steps, in no order, so that seconds beside each other differ; the same each time."""
    return _held(np.random.default_rng(0).integers(1, 90, seconds).astype(np.int16) * STEP)


def _held(sizes: Samples) -> Samples:
    samples = np.repeat(sizes, RATE)
    samples[1::2] *= -1
    return samples


def write(
    path: Path,
    samples: Samples,
    *,
    codec: str = "pcm_s16le",
    start_s: float = 0.0,
    languages: tuple[str, ...] = ("",),
    gap: tuple[float, float] | None = None,
    rate: int = RATE,
) -> Path:
    """Writes the samples into a container of the path's kind; one stream for each language.

    `gap` is (at, length): from that second on, timestamps are later by that much.
    """
    with av.open(str(path), "w") as container:
        for language in languages:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            if language:
                stream.metadata["language"] = language
        for stream in container.streams.audio:
            size = stream.codec_context.frame_size or 1024
            for begin in range(0, len(samples), size):
                piece = samples[begin : begin + size]
                frame = AudioFrame.from_ndarray(piece[None, :], format="s16", layout="mono")
                frame.sample_rate = rate
                at = begin / rate + start_s
                if gap is not None and begin / rate >= gap[0]:
                    at += gap[1]
                frame.pts = round(at * rate)
                frame.time_base = Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def speech_like(seconds: float, rate: int = RATE) -> Samples:
    """A tone that changes, for lossy codecs."""
    t = np.arange(int(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * (200 + 40 * t) * t)).astype(np.int16)
