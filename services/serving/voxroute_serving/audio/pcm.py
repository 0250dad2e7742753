"""Raw samples, a telephone's too: of a recording, and as they come while somebody speaks."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from voxroute_serving.audio.media import SAMPLE_BYTES
from voxroute_serving.audio.offset import Offset
from voxroute_serving.audio.reader import Sound
from voxroute_serving.audio.remarks import Remark
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.errors import InvalidAudioError, LimitExceededError

if TYPE_CHECKING:
    import av
    import numpy.typing as npt

MAX_CHANNELS = 8  # 7.1
READ_BYTES = 1 << 17
TELEPHONE_RATE = 8_000  # Hz; of G.711
Law = Literal["mulaw", "alaw"]

_BLOCK_SAMPLES = SAMPLE_RATE // 2  # half a second at a time: little latency, little overhead
_INT16_SCALE = 32768.0
# Of two channels in opposite phase less than this of the louder one's power is in their mean
_LOST = 0.1


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, n: int, /) -> bytes:
        """At most `n` bytes, waiting for the first; empty at the end."""
        ...


@functools.cache
def _expansion(law: Law) -> "npt.NDArray[np.int16]":
    """The sample that each byte of G.711 stands for, shape (256,)."""
    import av  # noqa: PLC0415 - a tenth of a second, which raw samples do without

    codec = cast("av.AudioCodecContext", av.CodecContext.create(f"pcm_{law}", "r"))
    codec.sample_rate, codec.layout = TELEPHONE_RATE, "mono"
    (frame,) = cast("Any", codec).decode(av.Packet(bytes(range(256))))
    return frame.to_ndarray().reshape(-1).astype("<i2")


def expanded(data: bytes, law: Law | None) -> bytes:
    """Samples of a law as s16le; as they are without one."""
    if law is None:
        return data
    return _expansion(law)[np.frombuffer(data, np.uint8)].tobytes()


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Raw samples: s16le, interleaved; media time of the first one in seconds."""

    sample_rate_hz: int = SAMPLE_RATE
    channels: int = 1
    start_s: float = 0.0
    channel: int | None = None
    """The channel that is wanted, counted from 0; None for what holds the voice."""
    law: Law | None = None
    """How they are squeezed into 8 bits each (G.711); None for s16le."""


def no_audio() -> InvalidAudioError:
    """The error for a recording without a byte."""
    return InvalidAudioError(
        "the recording has no audio; send its bytes in `audio` messages before `finish`"
    )


class Limit:
    """Counts samples, s16le, up to the longest recording that is taken."""

    def __init__(self, max_audio_s: float) -> None:
        self._max_audio_s = max_audio_s
        self.n_samples = 0

    def counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces. Raises LimitExceededError."""
        for piece in pieces:
            self._add(len(piece) // SAMPLE_BYTES)
            yield piece

    def _add(self, n_samples: int) -> None:
        self.n_samples += n_samples
        if self.n_samples > self._max_audio_s * SAMPLE_RATE:
            raise LimitExceededError(
                f"the recording is longer than the {self._max_audio_s:g} s that this service takes;"
                " send it in parts, or raise the service's max_audio_s"
            )


def as_floats(samples: "npt.NDArray[np.int16]") -> Samples:
    """16-bit samples, -1 to 1."""
    return samples.astype(np.float32) / np.float32(_INT16_SCALE)


def in_blocks(pieces: Iterator[bytes]) -> Iterator[Samples]:
    """The same samples, s16le, as floats in blocks of whole _BLOCK_SAMPLES, as they come.

    The last one may be shorter.
    """
    waiting: list[Samples] = []
    n_waiting = 0
    for piece in pieces:
        samples = as_floats(np.frombuffer(piece, "<i2"))
        waiting.append(samples)
        n_waiting += len(samples)
        if n_waiting < _BLOCK_SAMPLES:
            continue
        joined = np.concatenate(waiting)
        end = n_waiting - n_waiting % _BLOCK_SAMPLES
        yield joined[:end]
        waiting, n_waiting = [joined[end:].copy()], n_waiting - end
    if n_waiting:
        yield np.concatenate(waiting)


class PcmDecoder:
    """Raw samples, mixed to one channel and resampled."""

    def __init__(self, pcm: PcmFormat, source: Source, max_audio_s: float) -> None:
        self.start_s = pcm.start_s
        self.damaged_packets = 0
        self.missing_s = 0.0
        self._pcm = pcm
        self._source = source
        self._limit = Limit(max_audio_s)
        self._sound = Sound(channel=pcm.channel)
        self._offset = Offset()  # of samples that need no mixer

    @property
    def remarks(self) -> Sequence[Remark]:
        """What a person should know."""
        return [*self._sound.remarks(), *self._offset.remarks()]

    def __iter__(self) -> Iterator[Samples]:
        pcm = self._pcm
        untouched = pcm.channels == 1 and pcm.sample_rate_hz == SAMPLE_RATE
        pieces = self._pieces()
        mono = map(self._offset.removed, pieces) if untouched else self._converted(pieces)
        return in_blocks(self._limit.counted(mono))

    def _pieces(self) -> Iterator[bytes]:
        """Whole tenths of a second, whatever the chunks: the same bytes are resampled alike."""
        frame_bytes = self._pcm.channels * SAMPLE_BYTES
        piece_bytes = self._pcm.sample_rate_hz // 10 * frame_bytes
        waiting = bytearray()
        n_bytes = 0
        while chunk := self._source.read(READ_BYTES):
            samples = expanded(chunk, self._pcm.law)
            n_bytes += len(samples)
            waiting += samples
            end = len(waiting) - len(waiting) % piece_bytes
            if end:
                piece = bytes(waiting[:end])
                del waiting[:end]
                yield piece
        if not n_bytes:
            raise no_audio()
        self._check_whole(n_bytes)
        if waiting:
            yield bytes(waiting)

    def _converted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        channels, rate = self._pcm.channels, self._pcm.sample_rate_hz
        for piece in pieces:
            yield from self._sound.push_raw(piece, channels, rate)
        yield from self._sound.finish()

    def _check_whole(self, n_bytes: int) -> None:
        channels = self._pcm.channels
        if n_bytes % SAMPLE_BYTES:
            raise InvalidAudioError(
                f"audio has an odd number of bytes ({n_bytes}); send whole 16-bit samples"
            )
        if n_bytes % (channels * SAMPLE_BYTES):
            raise InvalidAudioError(
                f"audio has {n_bytes} bytes, which are no whole frames of {channels} channels;"
                " send a 16-bit sample for every channel"
            )


class LiveSamples:
    """Raw samples as they come: each chunk at once, but for what a resampler keeps.

    Several channels are mixed to their mean, or to the loudest one where the mean has lost it.
    """

    def __init__(self, pcm: PcmFormat) -> None:
        self._pcm = pcm
        self._rest = b""  # of a sample that a chunk has cut
        self._offset = Offset()
        self._resampler: av.AudioResampler | None = None
        if pcm.sample_rate_hz != SAMPLE_RATE:
            import av as libraries  # noqa: PLC0415 - see `_expansion`

            self._resampler = libraries.AudioResampler(
                format="s16", layout="mono", rate=SAMPLE_RATE
            )

    def push(self, chunk: bytes) -> Samples:
        """The samples that a chunk completes; it may be cut anywhere."""
        data = self._rest + expanded(chunk, self._pcm.law)
        n_bytes = len(data) - len(data) % (self._pcm.channels * SAMPLE_BYTES)
        self._rest = data[n_bytes:]
        if not n_bytes:
            return np.zeros(0, np.float32)
        mono = self._mono(np.frombuffer(data[:n_bytes], "<i2").reshape(-1, self._pcm.channels))
        return as_floats(np.frombuffer(self._offset.removed(self._resampled(mono)), "<i2"))

    def _mono(self, samples: "npt.NDArray[np.int16]") -> "npt.NDArray[np.int16]":
        if self._pcm.channels == 1:
            return samples[:, 0]
        if self._pcm.channel is not None:
            return samples[:, self._pcm.channel]
        mean = samples.mean(axis=1, dtype=np.float32)
        powers = np.square(samples, dtype=np.float32).mean(axis=0)
        loudest = int(powers.argmax())
        if float(np.square(mean).mean()) < _LOST * float(powers[loudest]):
            return samples[:, loudest]
        return np.rint(mean).astype("<i2")

    def _resampled(self, mono: "npt.NDArray[np.int16]") -> bytes:
        if self._resampler is None:
            return mono.tobytes()
        import av as libraries  # noqa: PLC0415 - see `_expansion`

        frame = libraries.AudioFrame.from_ndarray(
            np.ascontiguousarray(mono).reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = self._pcm.sample_rate_hz
        found = self._resampler.resample(frame)
        return b"".join(one.to_ndarray().astype("<i2").tobytes() for one in found)
