"""Recordings that tests make: tones, speech-like sound, and media files around them."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from scipy.signal import lfilter

from tests.serving.beeps import FAST
from voxroute_serving.audio.pcm import Law, expanded
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

_VOWELS_HZ = (
    (700, 1200, 2600),
    (300, 2200, 3000),
    (400, 800, 2500),
    (500, 1800, 2500),
    (350, 900, 2300),
)


def tone(seconds: float, hz: float = 440.0, rate: int = SAMPLE_RATE) -> Samples:
    """A sine at 0.3 of full scale."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def silence(seconds: float, rate: int = SAMPLE_RATE) -> Samples:
    """Zeros."""
    return np.zeros(round(seconds * rate), np.float32)


def speech(seconds: float, seed: int = 0) -> Samples:
    """A buzz through moving formants, four syllables a second: Silero takes it for speech."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    parts: list[Any] = []
    n_made = 0
    while n_made < n:
        length = int(rng.uniform(0.15, 0.3) * SAMPLE_RATE)
        pitch_hz = rng.uniform(100, 160) * np.linspace(1, rng.uniform(0.8, 1.2), length)
        pulses = np.diff(np.floor(np.cumsum(pitch_hz / SAMPLE_RATE)), prepend=0)
        sound: Any = pulses + rng.normal(0, 0.01, length)
        for hz, width_hz in zip(_VOWELS_HZ[rng.integers(5)], (80, 100, 150), strict=True):
            r = np.exp(-np.pi * width_hz / SAMPLE_RATE)
            poles = [1, -2 * r * np.cos(2 * np.pi * hz / SAMPLE_RATE), r * r]
            sound = lfilter([1 - r], poles, sound)
        sound = sound * np.hanning(length) ** 0.5
        breath = 0.02 * rng.normal(0, 1, SAMPLE_RATE // 20)
        parts += [sound / np.abs(sound).max() * 0.3, breath]
        n_made += length + len(breath)
    return np.concatenate(parts)[:n].astype(np.float32)


def s16le(samples: Samples) -> bytes:
    """The bytes of samples as a client sends them."""
    return (samples * 32767).round().astype("<i2").tobytes()


def law_bytes(samples: Samples, law: Law) -> bytes:
    """The bytes of samples in G.711: for each the one whose own sample is the nearest."""
    levels = np.frombuffer(expanded(bytes(range(256)), law), "<i2").astype(np.int32)
    order = np.argsort(levels, kind="stable")
    wanted = np.rint(samples * 32767).astype(np.int32)
    right = np.clip(np.searchsorted(levels[order], wanted), 1, 255)
    nearer = wanted - levels[order][right - 1] <= levels[order][right] - wanted
    return order[np.where(nearer, right - 1, right)].astype(np.uint8).tobytes()


def chunks(data: bytes, size: int = 16_000) -> Iterator[bytes]:
    """The data in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@dataclass(frozen=True)
class Media:
    """How to make a media file."""

    container: str
    codec: str
    rate: int = 44_100
    layout: str = "stereo"
    seconds: float = 5.0
    start_s: float = 0.0
    video: bool = False
    tones_hz: Sequence[float] = (440.0,)
    options: dict[str, str] = field(default_factory=dict[str, str])


def media(spec: Media) -> bytes:
    """The bytes of a file with one audio stream for each tone."""
    file = io.BytesIO()
    with av.open(file, "w", format=spec.container, options=spec.options) as container:
        frames: list[tuple[float, Any, Any]] = []
        streams: list[Any] = []
        for hz in spec.tones_hz:
            stream = cast("Any", container).add_stream(
                spec.codec, rate=spec.rate, layout=spec.layout, options=FAST
            )
            streams.append(stream)
            samples = tone(spec.seconds, hz, spec.rate)
            for start in range(0, len(samples), 1024):
                block = samples[start : start + 1024]
                channels = np.ascontiguousarray(np.tile(block, (len(stream.layout.channels), 1)))
                frame = av.AudioFrame.from_ndarray(
                    cast("Any", channels), format="fltp", layout=spec.layout
                )
                frame.sample_rate = spec.rate
                frame.pts = start + round(spec.start_s * spec.rate)
                frame.time_base = Fraction(1, spec.rate)
                frames.append((start / spec.rate, stream, frame))
        if spec.video:
            stream = cast("Any", container).add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            streams.append(stream)
            for index in range(round(spec.seconds * 25)):
                picture = av.VideoFrame(64, 64, "yuv420p")
                picture.pts = index
                frames.append((index / 25, stream, picture))
        for _, stream, frame in sorted(frames, key=lambda entry: entry[0]):
            container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return file.getvalue()


def faststart(mp4: bytes) -> bytes:
    """The same mp4 with its index in front, as FFmpeg's `-movflags +faststart` makes it."""
    boxes: dict[bytes, bytes] = {}
    at = 0
    while at < len(mp4):
        size = int.from_bytes(mp4[at : at + 4], "big")
        boxes[mp4[at + 4 : at + 8]] = mp4[at : at + size]
        at += size
    assert list(boxes)[-1] == b"moov", "the index is expected at the end"
    index = bytearray(boxes.pop(b"moov"))
    moved, at = len(index), 0
    while (at := index.find(b"stco", at)) >= 0:  # chunk offsets: absolute, so they move along
        for entry in range(int.from_bytes(index[at + 8 : at + 12], "big")):
            where = slice(at + 12 + 4 * entry, at + 16 + 4 * entry)
            index[where] = (int.from_bytes(index[where], "big") + moved).to_bytes(4, "big")
        at += 4
    first = boxes.pop(b"ftyp")
    return first + bytes(index) + b"".join(boxes.values())


class Source:
    """Bytes that arrive in small pieces, as a decoder reads them."""

    def __init__(self, data: bytes, piece: int = 5_000) -> None:
        self._file = io.BytesIO(data)
        self._piece = piece
        self.n_read = 0

    def read(self, n: int, /) -> bytes:
        """At most a piece."""
        data = self._file.read(min(n, self._piece))
        self.n_read += len(data)
        return data
