"""Recordings of beeps whose times are known, in many containers, and what a decoder heard of them.

Each beep has a pitch of its own, so that what is lost, comes twice or changes places shows.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av
import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
BEEP_S = 0.12
LOWEST_HZ = 500
STEP_HZ = 75
PITCHES = 36  # up to 3,200 Hz, which every codec here keeps

FAST = {"aac_coder": "fast"}
"""For encoders: AAC in a third of the time, which is half of the time of tests; others pass it."""
_FRAME_S = 0.01


class Beep(NamedTuple):
    """When it begins, seconds, and its pitch."""

    at_s: float
    pitch: int


@dataclass(frozen=True)
class Kind:
    """A container and its codec; how its clock is shown."""

    container: str
    codec: str
    rate: int = 48_000
    layout: str = "stereo"
    from_zero: bool = False
    """Whether players count from the first packet, wherever the file's clock begins."""
    keeps_clock: bool = True
    """Whether it has times at all; else samples follow each other."""
    holes: bool = True
    """Whether its muxer keeps a hole where it is."""
    shifts: bool = True
    """Whether its demuxer reads a late start as it was written."""
    joins: bool = True
    """Whether two of them, one behind the other, are a recording of both."""
    suffix: str = ".bin"
    options: dict[str, str] = field(default_factory=dict[str, str])


KINDS = {
    "ts-aac": Kind("mpegts", "aac", from_zero=True, suffix=".ts"),
    "ts-mp2": Kind("mpegts", "mp2", from_zero=True, suffix=".ts"),
    "ts-opus": Kind("mpegts", "libopus", from_zero=True, suffix=".ts"),
    "vob": Kind("vob", "mp2", from_zero=True, suffix=".vob"),
    "flv": Kind("flv", "aac", from_zero=True, suffix=".flv"),
    "flv-mp3": Kind("flv", "mp3", rate=44_100, from_zero=True, suffix=".flv"),
    "mp4": Kind("mp4", "aac", suffix=".mp4"),
    "mp4-in-fragments": Kind(
        "mp4",
        "aac",
        from_zero=True,  # as its muxer writes it
        suffix=".mp4",
        options={"movflags": "frag_keyframe+empty_moov"},
    ),
    "mov": Kind("mov", "pcm_s16le", holes=False, suffix=".mov"),
    "mkv": Kind("matroska", "aac", suffix=".mkv"),
    "mkv-flac": Kind("matroska", "flac", rate=44_100, suffix=".mkv"),
    "webm": Kind("webm", "libopus", suffix=".webm"),
    "ogg-opus": Kind("ogg", "libopus", from_zero=True, holes=False, suffix=".opus"),
    "ogg-flac": Kind("ogg", "flac", from_zero=True, holes=False, shifts=False, suffix=".oga"),
    "avi": Kind("avi", "mp3", rate=44_100, keeps_clock=False, suffix=".avi"),
    "wav": Kind("wav", "pcm_s16le", rate=22_050, layout="mono", keeps_clock=False, suffix=".wav"),
    "mp3": Kind("mp3", "mp3", rate=44_100, keeps_clock=False, suffix=".mp3"),
    "adts": Kind("adts", "aac", keeps_clock=False, suffix=".aac"),
    "flac": Kind("flac", "flac", rate=16_000, layout="mono", keeps_clock=False, suffix=".flac"),
    "ac3": Kind("ac3", "ac3", keeps_clock=False, suffix=".ac3"),
    "caf": Kind("caf", "pcm_s16le", keeps_clock=False, suffix=".caf"),
    "w64": Kind("w64", "pcm_s16le", keeps_clock=False, suffix=".w64"),
    "aiff": Kind("aiff", "pcm_s16be", keeps_clock=False, suffix=".aiff"),
    "au": Kind("au", "pcm_s16be", keeps_clock=False, suffix=".au"),
    "tta": Kind("tta", "tta", keeps_clock=False, suffix=".tta"),
    "wavpack": Kind("wv", "wavpack", keeps_clock=False, suffix=".wv"),
    "wma": Kind("asf", "mp3", rate=44_100, keeps_clock=False, suffix=".wma"),
}


def dice(seed: object) -> random.Random:
    """Choices that are the same in every run."""
    return random.Random(str(seed))  # noqa: S311 - no secret


def samples(seconds: float, beeps: Sequence[Beep], rate: int) -> npt.NDArray[np.float32]:
    """Faint noise, and the beeps in it."""
    rng = np.random.default_rng(int(seconds * 1000))
    sound = rng.normal(0, 0.0005, round(seconds * rate)).astype(np.float32)
    t = np.arange(round(BEEP_S * rate)) / rate
    for beep in beeps:
        tone = 0.4 * np.sin(2 * np.pi * (LOWEST_HZ + STEP_HZ * beep.pitch) * t)
        begin = round(beep.at_s * rate)
        sound[begin : begin + len(tone)] += tone[: len(sound) - begin].astype(np.float32)
    return sound


def recording(
    kind: Kind,
    seconds: float,
    beeps: Sequence[Beep],
    *,
    start_s: float = 0.0,
    holes: Sequence[tuple[float, float]] = (),
    video: bool = False,
) -> bytes:
    """The bytes of a file whose clock begins at `start_s`.

    `holes` are (from, to), seconds after that: no audio between them is in the file.
    """
    sound = samples(seconds, beeps, kind.rate)
    file = io.BytesIO()
    with av.open(file, "w", format=kind.container, options=kind.options) as container:
        stream = cast("Any", container).add_stream(
            kind.codec, rate=kind.rate, layout=kind.layout, options=FAST
        )
        codec = {"flv": "flv", "mpegts": "mpeg2video", "vob": "mpeg2video"}.get(kind.container)
        picture = cast("Any", container).add_stream(codec or "mpeg4", rate=25) if video else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        size = stream.codec_context.frame_size or 1024
        packets: list[tuple[float, Any]] = []
        for begin in range(0, len(sound), size):
            piece = sound[begin : begin + size]
            if len(piece) < size and kind.codec in {"aac", "ac3", "mp2"}:
                piece = np.pad(piece, (0, size - len(piece)))
            channels = np.ascontiguousarray(np.tile(piece, (len(stream.layout.channels), 1)))
            frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=kind.layout)
            frame.sample_rate, frame.time_base = kind.rate, Fraction(1, kind.rate)
            frame.pts = begin + round(start_s * kind.rate)
            packets += [(begin / kind.rate, one) for one in stream.encode(frame)]
        packets += [(seconds, one) for one in stream.encode(None)]
        for number in range(int(seconds * 25) if picture is not None else 0):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.time_base, frame.pts = Fraction(1, 25), number + round(start_s * 25)
            packets += [(number / 25, one) for one in picture.encode(frame)]
        packets.sort(key=lambda one: one[0])
        for at_s, packet in packets:
            if packet.stream is picture or not any(a <= at_s < b for a, b in holes):
                container.mux(packet)
    return file.getvalue()


def rewrapped(data: bytes, kind: Kind) -> bytes:
    """The same packets in another container, at the same times after the first one's."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(data)) as source,
        av.open(file, "w", format=kind.container, options=kind.options) as target,
    ):
        stream = source.streams.audio[0]
        copy = cast("Any", target).add_stream_from_template(stream)
        begin: int | None = None
        for packet in source.demux(stream):
            if packet.size:
                begin = packet.pts or 0 if begin is None else begin
                packet.pts, packet.dts = (packet.pts or 0) - begin, (packet.dts or 0) - begin
                packet.stream = copy
                target.mux(packet)
    return file.getvalue()


def heard(sound: npt.NDArray[Any], start_s: float = 0.0) -> list[Beep]:
    """The beeps in 16 kHz samples of int16's range, whose first is at `start_s`."""
    size = round(_FRAME_S * SAMPLE_RATE)
    frames = sound[: len(sound) // size * size].astype(np.float64).reshape(-1, size)
    loud = np.sqrt((frames**2).mean(axis=1)) > 1500  # beeps have 9,000, noise 20
    found: list[Beep] = []
    n = 0
    while n < len(loud):
        if not loud[n]:
            n += 1
            continue
        end = n
        while end < len(loud) and loud[end]:
            end += 1
        found += _pitches(sound, n * size, end * size, start_s)
        n = end
    return found


def _pitches(sound: npt.NDArray[Any], begin: int, end: int, start_s: float) -> list[Beep]:
    if end - begin < SAMPLE_RATE * BEEP_S / 3:  # a click
        return []
    middle = sound[begin:end].astype(np.float64) * np.hanning(end - begin)
    spectrum = np.abs(np.fft.rfft(middle, 1 << 14))
    hz = spectrum.argmax() * SAMPLE_RATE / (1 << 14)
    return [Beep(start_s + begin / SAMPLE_RATE, round((hz - LOWEST_HZ) / STEP_HZ))]
