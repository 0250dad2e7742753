"""The channels of a recording to one, without losing who speaks.

The usual mix is a weighted sum. Channels of opposite phase cancel out in it, a recorder's many
channels drown the one that has the microphone, and a channel that FFmpeg takes for the bass has no
part in it. So the mix is measured against its channels, ten seconds at a time, and where it loses
the voice the channel (of two, or their difference) with the most voice is taken instead.
"""

import functools
import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from voxroute_serving.audio.media import SAMPLE_BYTES, SAMPLE_RATE
from voxroute_serving.audio.offset import Offset

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av
    import numpy as np
    import numpy.typing as npt
    from av.audio.fifo import AudioFifo

    Block = npt.NDArray[np.int16]  # (samples, channels)
    Weights = npt.NDArray[np.float32]  # (channels,)
    Cells = npt.NDArray[np.float32]  # (frames, bands): powers
    _Lost = tuple[Any, Any]  # (frames, bands) of bool: which cells are lost, which speak

_BLOCK_SAMPLES = 10 * SAMPLE_RATE  # what is decided on at once
_BATCH_SAMPLES = 16_384  # of frames that are resampled together; FFmpeg's are much smaller
# The same for several channels, which are mixed ten seconds at a time: on a thread beside the
# decoding, where small pieces of work would have both wait for the interpreter's lock.
_BESIDE_SAMPLES = 262_144
_MAX_PLANES = 8  # PyAV 18.1 reads no more planes than these of a frame

# Measuring: powers in 13 bands of 250 Hz from 250 to 3500 Hz, where speech is, every 64 ms.
_FRAME_SAMPLES = 512
_HOP_SAMPLES = 1024
_FIRST_BIN, _LAST_BIN, _BAND_BINS = 8, 112, 8
_FULL_SCALE = 32768.0
_QUIETEST = (_FULL_SCALE * _FRAME_SAMPLES) ** 2 * 1e-9  # about -80 dBFS in a band
_FLOOR_SHARE = 0.15  # of a band's frames, the quietest, are what does not speak
_OVER_FLOOR_DB = 6.0  # noise that stays the same varies by less
_CLEAREST_DB = 30.0
_HEARD_BELOW_LOUDEST = 1e-3  # a cell so far below the block's loudest does not count
_LOST_SHARE = 0.4  # of the cells that speak, missing from the mix
_ALL_LOST = 0.75  # of the cells that speak in a second, missing from the mix
_LITTLE_LOST = 0.2  # the same of the difference of two channels
_SECOND_FRAMES = 16
_LEAST_CELLS = 8  # that speak in it
_CLEARER = 2.0  # times and...
_CLEARER_BY_DB = 1.0  # ...so much more voice than in the mix: it drowns there
_STAYS = 0.8  # a choice stays while it has this share of the best one's voice
_LEAST_VOICE_DB = 1.0  # below it nobody speaks
_LEAST_ALONE_S = 1.0  # that a channel speaks while the other does not
_FAINT_DB = 20.0  # below the other channel; voice that is so much weaker is easily not found


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="mixing")


@dataclass(slots=True)
class _Choice:
    name: str
    weights: "Weights"


class Faint(NamedTuple):
    """A channel that is much fainter than the other, and speaks where that does not."""

    channel: int
    alone_s: float
    by_db: float


_Part = tuple[int, int, _Choice | None]


@dataclass(slots=True)
class ChannelMixer:
    """Interleaved 16 kHz samples of several channels to one, block by block.

    `weights` are those of the usual mix, and `channel` the one that was asked for.
    """

    weights: "Weights"
    channel: int | None = None
    _waiting: "list[Block]" = field(default_factory=list[Any])
    _n_waiting: int = 0
    _chosen: _Choice | None = None
    _took: str | None = None
    _alone: "list[tuple[int, float]]" = field(default_factory=lambda: [(0, 0.0), (0, 0.0)])

    @property
    def faint(self) -> Faint | None:
        """Of two channels, one that speaks where the other does not, and much fainter."""
        levels = [power / frames if frames else 0.0 for frames, power in self._alone]
        channel = levels.index(min(levels))
        alone_s = self._alone[channel][0] * _HOP_SAMPLES / SAMPLE_RATE
        if alone_s < _LEAST_ALONE_S or max(levels) < 10 ** (_FAINT_DB / 10) * min(levels):
            return None
        return Faint(channel, alone_s, 10 * math.log10(max(levels) / min(levels)))

    @property
    def took(self) -> str | None:
        """What the last part was taken from, as `channel 1 of 2`; None for the mix."""
        return self._took

    def push(self, block: "Block") -> "Iterator[Block]":
        """Takes (samples, channels); gives (samples,) once a whole block is there."""
        import numpy as np  # noqa: PLC0415 - a fifth of a second, which mono does without

        if self.channel is not None:
            yield np.ascontiguousarray(block[:, self.channel])
            return
        self._waiting.append(block)
        self._n_waiting += len(block)
        while self._n_waiting >= _BLOCK_SAMPLES:
            joined = np.concatenate(self._waiting)
            self._waiting = [joined[_BLOCK_SAMPLES:]]
            self._n_waiting -= _BLOCK_SAMPLES
            yield from self._mixed(joined[:_BLOCK_SAMPLES])

    def flush(self) -> "Iterator[Block]":
        """What is left."""
        import numpy as np  # noqa: PLC0415 - as above

        if self._n_waiting:
            joined = np.concatenate(self._waiting)
            self._waiting, self._n_waiting = [], 0
            yield from self._mixed(joined)

    def _mixed(self, block: "Block") -> "Iterator[Block]":
        """The block, in parts where the mix has lost the voice in some of it alone."""
        import numpy as np  # noqa: PLC0415 - as above

        samples = block.astype(np.float32)
        parts: list[_Part] = [(0, len(block), self._chosen)]
        if len(samples) >= 2 * _FRAME_SAMPLES and samples.any():
            spectra = [_spectrum(samples[:, n]) for n in range(samples.shape[1])]
            cells = [_cells(spectrum) for spectrum in spectra]
            if len(cells) == len(self._alone):
                for n, more in enumerate(_alone(cells)):
                    self._alone[n] = (self._alone[n][0] + more[0], self._alone[n][1] + more[1])
            mix = _cells(sum(w * s for w, s in zip(self.weights, spectra, strict=True)))
            lost = _lost_cells(mix, cells)
            self._chosen = _chosen(spectra, cells, mix, lost, self._chosen)
            parts = [(0, len(block), self._chosen)]
            if self._chosen is None:
                parts = list(_parts(cells, lost, len(block)))
        for begin, end, choice in parts:
            self._took = None if choice is None else choice.name
            weights = self.weights if choice is None else choice.weights
            mixed = np.rint(samples[begin:end] @ weights)
            yield np.clip(mixed, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _parts(cells: "list[Cells]", lost_cells: "_Lost", n_samples: int) -> "Iterator[_Part]":
    """Where each part of a block begins and ends, and what is taken there: None for the mix.

    Who speaks for three seconds in channels of opposite phase is hardly a third of ten, but in
    these nothing is left in the mix: then the loudest channel is taken.
    """
    import numpy as np  # noqa: PLC0415 - as above

    n_channels = len(cells)
    lost, speaks = (one.sum(axis=1) for one in lost_cells)
    # a second around each frame: a single one has a cell or two that speak
    n_lost, n_speaks = (_around(one, _SECOND_FRAMES) for one in (lost, speaks))
    silent = (n_speaks >= _LEAST_CELLS) & (n_lost > _ALL_LOST * n_speaks)
    # at its edges the second around a frame is half another's
    near = _around(silent, _SECOND_FRAMES) > 0
    n_lost, n_speaks = (_around(one, _SECOND_FRAMES // 4) for one in (lost, speaks))
    silent |= near & (n_lost > n_speaks / 2)
    at = 0
    for first, last in np.flatnonzero(np.diff(silent, prepend=False, append=False)).reshape(-1, 2):
        begin = int(first) * _HOP_SAMPLES
        end = n_samples if last == len(silent) else int(last) * _HOP_SAMPLES
        if begin > at:
            yield at, begin, None
        loudest = max(range(n_channels), key=lambda n: float(cells[n][first:last].sum()))
        weights = np.eye(n_channels, dtype=np.float32)[loudest]
        yield begin, end, _Choice(f"channel {loudest} of {n_channels}", weights)
        at = end
    if at < n_samples:
        yield at, n_samples, None


def _alone(cells: "list[Cells]") -> "Iterator[tuple[int, float]]":
    """For each of two channels the frames in which it speaks alone, and their power."""
    powers = [one.sum(axis=1, keepdims=True) for one in cells]
    speaks = [(one > 10 * _floor(one)).ravel() for one in powers]
    for n, one in enumerate(powers):
        alone = one[speaks[n] & ~speaks[1 - n]]
        yield len(alone), float(alone.sum())


def _around(frames: Any, width: int) -> Any:
    """(frames,) of the sum of so many frames around each."""
    import numpy as np  # noqa: PLC0415 - as above

    return np.convolve(frames, np.ones(width))[width // 2 : width // 2 + len(frames)]


def _chosen(
    spectra: list[Any],
    cells: "list[Cells]",
    mix: "Cells",
    lost_cells: "_Lost",
    before: _Choice | None,
) -> _Choice | None:
    """What is to be taken in place of the mix, or None for the mix.

    1. the powers of every channel, and of the mix, in time and frequency;
    2. the mix has lost the voice where it is far below what its channels have, in too many of the
       places that speak, or where one of them stands out of its own noise much more clearly;
    3. of the channels, and the difference of two, the one that stands out most.
    """
    import numpy as np  # noqa: PLC0415 - as above

    n_channels = len(cells)
    cells = [*cells]
    voice_mix = _voice_db(mix)
    choices = [
        _Choice(f"channel {n} of {n_channels}", np.eye(n_channels, dtype=np.float32)[n])
        for n in range(n_channels)
    ]
    if n_channels == 2:  # noqa: PLR2004 - left and right
        half = np.array([0.5, -0.5], np.float32)
        difference = _cells(0.5 * spectra[0] - 0.5 * spectra[1])
        if _share(_lost_cells(difference, cells)) < _LITTLE_LOST:  # else some of it is in phase
            choices.append(_Choice("the difference of its 2 channels", half))
            cells.append(difference)
    voices = [_voice_db(one) for one in cells]
    best = max(range(len(voices)), key=voices.__getitem__)
    if voices[best] < _LEAST_VOICE_DB:
        return before if voice_mix < _LEAST_VOICE_DB else None
    lost = _share(lost_cells) > _LOST_SHARE
    drowned = voices[best] > _CLEARER * voice_mix + _CLEARER_BY_DB
    if not lost and not drowned:
        return None
    if before is not None:
        for choice, voice in zip(choices, voices, strict=True):
            if choice.name == before.name and voice >= _STAYS * voices[best]:
                return choice
    return choices[best]


def _spectrum(channel: Any) -> Any:
    """(frames, bins) of complex amplitudes, of the bins where speech is."""
    import numpy as np  # noqa: PLC0415 - as above

    frames = np.lib.stride_tricks.sliding_window_view(channel, _FRAME_SAMPLES)[::_HOP_SAMPLES]
    return np.fft.rfft(frames, axis=1)[:, _FIRST_BIN:_LAST_BIN]


def _cells(spectrum: Any) -> "Cells":
    """(frames, bands) of powers."""
    power = spectrum.real**2 + spectrum.imag**2
    return power.reshape(len(power), -1, _BAND_BINS).sum(axis=2)


def _floor(cells: "Cells") -> "Cells":
    """(bands,) of what is there when nobody speaks."""
    import numpy as np  # noqa: PLC0415 - as above

    nth = int(_FLOOR_SHARE * (len(cells) - 1))
    return np.maximum(np.partition(cells, nth, axis=0)[nth], np.float32(_QUIETEST))


def _voice_db(cells: "Cells") -> float:
    """How far the sound comes and goes above its own floor, dB, on the whole: as speech does."""
    import numpy as np  # noqa: PLC0415 - as above

    over = 10 * np.log10(np.maximum(cells, np.float32(_QUIETEST)) / _floor(cells))
    return float(np.clip(over - _OVER_FLOOR_DB, 0, _CLEAREST_DB).mean())


def _share(lost_cells: "_Lost") -> float:
    """The share of what speaks in the loudest channel that is not in the mix."""
    lost, speaks = lost_cells
    return float(lost.sum() / speaks.sum()) if speaks.any() else 0.0


def _lost_cells(mix: "Cells", channels: "list[Cells]") -> "_Lost":
    """Which cells of the loudest channel are lost in the mix, and which of them speak.

    In it, a sound of one channel alone is weaker by the number of channels; lost is what is weaker
    by twice that.
    """
    import numpy as np  # noqa: PLC0415 - as above

    best = np.maximum.reduce(channels)
    speaks = (best > 10 * _floor(best)) & (best > _HEARD_BELOW_LOUDEST * best.max())
    limit = np.float32(1 / (2 * len(channels)) ** 2)
    return speaks & (mix < limit * best), speaks


Mixed = list[tuple[bytes, str | None]]
"""16 kHz mono s16le, and what it was taken from in place of the mix, as `channel 1 of 2`."""


class Mixer:
    """Decoded frames of one format after the other to 16 kHz mono s16le.

    `channel` is the one that is wanted, counted from 0; None for all of them. Raises IndexError
    where a frame has no such channel, FFmpegError and ValueError for a format that cannot be
    converted.
    """

    def __init__(self, channel: int | None = None) -> None:
        self.offset = Offset()
        self._channel = channel
        self._mixers: dict[str, ChannelMixer] = {}
        self._format: tuple[str, str, int] | None = None
        self._swr: av.AudioResampler | None = None
        self._fifo: AudioFifo | None = None
        self._mixer: ChannelMixer | None = None
        self._n_channels = 1
        self._beside: Future[Mixed] | None = None

    def push(self, frame: "av.AudioFrame") -> Mixed:
        """The samples of a frame, and of those before it; some stay until `flush`.

        16 bits, as whisper.load_audio and whisperx.load_audio decode: FFmpeg mixes channels to
        float without normalising them.
        """
        this = (frame.format.name, frame.layout.name, frame.sample_rate)
        mixed: Mixed = []
        if this != self._format:
            mixed += self.flush()
            self._begin(frame)
            self._format = this
        frame.pts = None  # or the resampler would fill holes its own way
        if self._fifo is None:
            return mixed + self._resampled(frame)
        self._fifo.write(frame)
        if self._mixer is not None and self._fifo.samples >= _BESIDE_SAMPLES:
            mixed += self._awaited()
            self._beside = _threads().submit(self._resampled, self._fifo.read())
        elif self._mixer is None and self._fifo.samples >= _BATCH_SAMPLES:
            mixed += self._resampled(self._fifo.read())
        return mixed

    @property
    def faint(self) -> list[tuple[Faint, int]]:
        """Channels that are too faint to be heard beside the other, each with their number."""
        mixers = [one for one in self._mixers.values() if one.channel is None]
        return [(one.faint, len(one.weights)) for one in mixers if one.faint is not None]

    def flush(self) -> Mixed:
        """What is left; the next frame begins anew."""
        if self._swr is None:
            return []
        mixed = self._awaited()
        if self._fifo is not None and self._fifo.samples:
            mixed += self._resampled(self._fifo.read())
        mixed += self._resampled(None)
        if self._mixer is not None:
            mixed += ((block.tobytes(), self._mixer.took) for block in self._mixer.flush())
        self._format = self._swr = self._fifo = None
        return mixed

    def _begin(self, frame: "av.AudioFrame") -> None:
        import av  # noqa: PLC0415 - FFmpeg's libraries load only where audio is decoded

        layout = frame.layout
        n = self._n_channels = layout.nb_channels
        if self._channel is not None and self._channel >= n:
            raise IndexError(self._channel)
        self.offset.begin(n)
        several = n > 1
        self._swr = av.AudioResampler("s16", layout.name if several else "mono", SAMPLE_RATE)
        self._mixer = None
        if several:
            key = layout.name
            if key not in self._mixers:
                self._mixers[key] = ChannelMixer(_weights(layout), self._channel)
            self._mixer = self._mixers[key]
        fits = n <= _MAX_PLANES or not frame.format.is_planar
        self._fifo = av.AudioFifo() if fits and frame.samples < _BATCH_SAMPLES // 2 else None

    def _awaited(self) -> Mixed:
        """What the thread has made of the frames before."""
        beside, self._beside = self._beside, None
        return [] if beside is None else beside.result()

    def _resampled(self, frame: "av.AudioFrame | None") -> Mixed:
        mixed: Mixed = []
        for out in self._swr.resample(frame) if self._swr is not None else ():
            if not out.samples:
                continue
            n_bytes = out.samples * self._n_channels * SAMPLE_BYTES
            data = self.offset.removed(bytes(out.planes[0])[:n_bytes])  # the plane may be padded
            if self._mixer is None:
                mixed.append((data, None))
                continue
            import numpy as np  # noqa: PLC0415 - as above

            block = np.frombuffer(data, "<i2").reshape(-1, self._n_channels)
            mixed += ((one.tobytes(), self._mixer.took) for one in self._mixer.push(block))
        return mixed


def _weights(layout: "av.AudioLayout") -> "Weights":
    """The weights of FFmpeg's mix to mono; equal ones where it knows none for the layout."""
    import av  # noqa: PLC0415 - as above
    import av.error  # noqa: PLC0415 - as above
    import numpy as np  # noqa: PLC0415 - as above

    n = layout.nb_channels
    known = layout.channels and all(channel.name != "NONE" for channel in layout.channels)
    if known:
        level = 16_384
        ones = np.repeat(np.eye(n, dtype=np.int16) * level, 64, axis=0)  # each channel in turn
        frame = av.AudioFrame.from_ndarray(ones.reshape(1, -1), format="s16", layout=layout.name)
        frame.sample_rate = SAMPLE_RATE
        try:
            swr = av.AudioResampler("s16", "mono", SAMPLE_RATE)
            out = [*swr.resample(frame), *swr.resample(None)]
        except (av.error.FFmpegError, ValueError):
            out = []
        if out:
            heard = np.concatenate([one.to_ndarray().reshape(-1) for one in out])
            return (heard[32::64][:n] / np.float32(level)).astype(np.float32)
    return np.full(n, 1 / n, np.float32)
