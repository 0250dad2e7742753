"""A recording cut at silences into spans, each of which one service can transcribe on its own.

Where the cuts fall depends on the audio alone, never on who transcribes it or on where an earlier
run has stopped. So one service and several, and a run that was interrupted, give the same text.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from voxroute_orchestrator.media import PcmReader
from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE

N_SPANS = 16  # wanted for a recording: enough to share, few enough to fill windows of 30 s
_MIN_TARGET_S = 60.0
_MAX_TARGET_S = 240.0  # 8 MB of samples; several of them are in memory at once
_UNKNOWN_TARGET_S = 120.0
# of the first spans: the voices in several are looked for at once, and a GPU waits for them
_FIRST_TARGET_S, _N_FIRST = 120.0, 8
_REACH = 0.25  # a cut is looked for within this share of the target around it
_N_FRAME_SAMPLES = 512  # 32 ms
_N_QUIET_FRAMES = 16  # half a second: a pause between sentences, not one between words

_AS_QUIET = 1.1  # times the energy of the quietest

_BYTES_PER_S = SAMPLE_RATE * SAMPLE_BYTES


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a recording: its place among the spans, its media time, and its samples."""

    index: int
    start_s: float
    pcm: bytes
    """16 kHz mono s16le."""

    @property
    def end_s(self) -> float:
        """Media time of its end, seconds."""
        return self.start_s + len(self.pcm) / _BYTES_PER_S


def target_s(duration_s: float | None) -> float:
    """The length of a span, seconds, for a recording of that length; None where it is not known."""
    if duration_s is None:
        return _UNKNOWN_TARGET_S
    return min(max(duration_s / N_SPANS, _MIN_TARGET_S), _MAX_TARGET_S)


def is_cut(duration_s: float | None) -> bool:
    """Whether a recording of that length, seconds, has several spans; so where it is not known."""
    return duration_s is None or duration_s >= (1 + _REACH) * target_s(duration_s)


def spans(reader: PcmReader, duration_s: float | None) -> Iterator[Span]:
    """The spans of a recording, in order and without gaps; blocking. Raises MediaError.

    A span ends in the middle of the quietest half second between 75 % and 125 % of the target.
    """
    buffer = bytearray()
    index = n_before = 0
    while chunk := reader.read():
        buffer += chunk
        while len(buffer) >= _bytes((1 + _REACH) * (length_s := _length_s(index, duration_s))):
            n_low, n_high = (_bytes(share * length_s) for share in (1 - _REACH, 1 + _REACH))
            n_bytes = _quietest(buffer, n_low, n_high)
            yield Span(index, reader.first_s + n_before / _BYTES_PER_S, bytes(buffer[:n_bytes]))
            del buffer[:n_bytes]
            index, n_before = index + 1, n_before + n_bytes
    if buffer or not index:
        yield Span(index, reader.first_s + n_before / _BYTES_PER_S, bytes(buffer))


def _length_s(index: int, duration_s: float | None) -> float:
    """The length that a span is to have, seconds."""
    length_s = target_s(duration_s)
    return min(length_s, _FIRST_TARGET_S) if index < _N_FIRST else length_s


def _bytes(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE) * SAMPLE_BYTES


def _quietest(buffer: bytearray, n_low: int, n_high: int) -> int:
    """Where to cut, in bytes from the start of the buffer."""
    import numpy as np  # noqa: PLC0415 - a fifth of a second, which short recordings do without

    samples = np.frombuffer(bytes(buffer[n_low:n_high]), dtype="<i2")
    n_frames = len(samples) // _N_FRAME_SAMPLES
    frames = samples[: n_frames * _N_FRAME_SAMPLES].reshape(n_frames, _N_FRAME_SAMPLES)
    energy = np.square(frames, dtype=np.float64).mean(axis=1)
    quiet = np.convolve(energy, np.ones(_N_QUIET_FRAMES), "valid")
    # of pauses that are as quiet, digital silence say, the one nearest to the target
    quietest = np.flatnonzero(quiet <= quiet.min() * _AS_QUIET)
    nearest = int(np.abs(quietest - len(quiet) // 2).argmin())
    frame = int(quietest[nearest]) + _N_QUIET_FRAMES // 2
    return n_low + frame * _N_FRAME_SAMPLES * SAMPLE_BYTES
