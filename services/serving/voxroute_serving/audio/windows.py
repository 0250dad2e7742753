"""Voice activity and windows: where speech is, cut into pieces of at most 30 s.

Everything here works on a stream: blocks of samples go in, windows come out as soon as they are
complete, and samples are dropped when no window needs them any more. Times are counted in samples
from the start of the audio until a window leaves.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt

from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import (
    N_FRAME_SAMPLES,
    Probabilities,
    Span,
    SpeechProbabilities,
    SpeechSpans,
    VadOptions,
    negative_threshold,
)

# Where uninterrupted speech is cut: at the least likely frame of a window's second half, so that
# windows stay long and the cut has 15 s to find a breath.
_N_CUT_SEARCH_SAMPLES = N_WINDOW_SAMPLES // 2

_N_VOICE_PAUSE_FRAMES = 6  # 0.2 s; a shorter pause is within a word
_N_CUT_SMOOTHING_FRAMES = 3  # about a tenth of a second: a breath, not the closure of a plosive
# What a pause has beyond the padding of the speech around it, from which on it is left out: then
# windows hold speech, as in faster-whisper's batches, and a film takes fewer of them. Pauses that
# part two segments (segments.PAUSE_S) are at least so long.
_N_SKIPPED_SAMPLES = SAMPLE_RATE * 3 // 10

# s; times of one sample, summed up in another order, differ by less
_ROUNDING_S = 0.5 / SAMPLE_RATE

# Without voice activity: at the quietest point of the last 5 s.
_N_QUIET_SEARCH_SAMPLES = 5 * SAMPLE_RATE
LONG_PAUSE_S = 3.0  # s; no longer one is in a window whose pauses are kept


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Audio for the recogniser: speech, with its short pauses as they were recorded.

    Longer pauses are left out: `skips` holds where, in seconds from the start of the window, and
    how many seconds each. `start_s` is the media time of the first sample, seconds; `at` and
    `until` tell that of others. `speech` holds the stretches of speech as they were packed, with
    their padding, and `voice` those in which a voice sounds, down to short pauses; seconds from
    the start of the window. Without voice activity there is no `voice`.
    """

    samples: Samples
    start_s: float
    speech: tuple[tuple[float, float], ...]
    voice: tuple[tuple[float, float], ...] = ()
    skips: tuple[tuple[float, float], ...] = ()

    def at(self, time_s: float) -> float:
        """The media time of what begins at a time of the window: after a pause left out there."""
        skipped_s = sum(length for at_s, length in self.skips if at_s <= time_s + _ROUNDING_S)
        return self.start_s + time_s + skipped_s

    def until(self, time_s: float) -> float:
        """The media time of what ends at a time of the window: before a pause left out there."""
        skipped_s = sum(length for at_s, length in self.skips if at_s < time_s - _ROUNDING_S)
        return self.start_s + time_s + skipped_s

    def part(self, from_s: float, to_s: float = math.inf) -> "Window":
        """The window from a time of its own on, to another."""

        def inside(stretches: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
            return tuple(
                (max(0.0, start - from_s), min(end, to_s) - from_s)
                for start, end in stretches
                if end > from_s and start < to_s
            )

        last = len(self.samples) if to_s >= self.duration_s else round(to_s * SAMPLE_RATE)
        samples = self.samples[round(from_s * SAMPLE_RATE) : last]
        skips = tuple((at - from_s, length) for at, length in self.skips if from_s < at < to_s)
        return Window(samples, self.at(from_s), inside(self.speech), inside(self.voice), skips)

    def only(self, stretches: Sequence[tuple[float, float]]) -> "Window":
        """Stretches of the window, in order and apart, as a window whose media time is this one's.

        So what is found there is told in seconds from the start of this window.
        """
        return _joined(
            [
                replace(self.part(start_s, end_s), start_s=start_s, skips=())
                for start_s, end_s in stretches
            ]
        )

    def between_skips(self, stretch: tuple[float, float]) -> list[tuple[float, float]]:
        """The parts of a stretch between which a pause was left out."""
        start_s, end_s = stretch
        inside = [at_s for at_s, _ in self.skips if start_s < at_s < end_s]
        return list(pairwise([start_s, *inside, end_s]))

    @property
    def duration_s(self) -> float:
        """Length in seconds, at most 30."""
        return len(self.samples) / SAMPLE_RATE

    @property
    def end_s(self) -> float:
        """Media time of its end, seconds."""
        return self.until(self.duration_s)

    @property
    def speech_s(self) -> float:
        """Speech in it, seconds."""
        return sum(end - start for start, end in self.speech)


def _joined(parts: Sequence[Window]) -> Window:
    """Windows in order as one, without what lies between them."""
    if len(parts) == 1:
        return parts[0]
    speech: list[tuple[float, float]] = []
    voice: list[tuple[float, float]] = []
    skips: list[tuple[float, float]] = []
    at_s = 0.0
    for index, part in enumerate(parts):
        if index:
            skips.append((at_s, part.start_s - parts[index - 1].end_s))
        speech += ((start + at_s, end + at_s) for start, end in part.speech)
        voice += ((start + at_s, end + at_s) for start, end in part.voice)
        skips += ((at + at_s, length) for at, length in part.skips)
        at_s += part.duration_s
    samples = np.concatenate([part.samples for part in parts])
    return Window(samples, parts[0].start_s, tuple(speech), tuple(voice), tuple(skips))


def voiced_stretches(
    probabilities: npt.NDArray[np.floating], threshold: float
) -> tuple[tuple[float, float], ...]:
    """Where a voice sounds, seconds from the first frame, to the frame of 32 ms.

    Silero's rule again, without padding, and with pauses from _N_VOICE_PAUSE_FRAMES on left out.
    """
    loud = np.flatnonzero(probabilities >= negative_threshold(threshold))
    if not len(loud):
        return ()
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > _N_VOICE_PAUSE_FRAMES) + 1)
    frame_s = N_FRAME_SAMPLES / SAMPLE_RATE
    stretches_s: list[tuple[float, float]] = []
    for run in runs:
        first, last = int(run[0]), int(run[-1])
        sure = np.flatnonzero(probabilities[first : last + 1] >= threshold)
        if len(sure):  # it begins where it is sure, and fades out
            stretches_s.append(((first + int(sure[0])) * frame_s, (last + 1) * frame_s))
    return tuple(stretches_s)


def voice_within(
    recent: Sequence[float], position: int, span: Span, from_sample: int, threshold: float
) -> tuple[tuple[float, float], ...]:
    """Where a voice sounds in a span, seconds from a sample.

    `recent` are the probabilities of the frames up to `position`.
    """
    oldest = position // N_FRAME_SAMPLES - len(recent)  # index of recent[0]
    first = max(0, span.start // N_FRAME_SAMPLES - oldest)
    last = max(0, -(-span.end // N_FRAME_SAMPLES) - oldest)
    frames = np.array(recent, np.float32)[first:last]
    offset_s = ((oldest + first) * N_FRAME_SAMPLES - from_sample) / SAMPLE_RATE
    begin_s, end_s = ((at - from_sample) / SAMPLE_RATE for at in (span.start, span.end))
    return tuple(
        (max(begin_s, start + offset_s), min(end + offset_s, end_s))
        for start, end in voiced_stretches(frames, threshold)
    )


class SampleBuffer:
    """Samples that a window may still need, addressed from the start of the audio."""

    def __init__(self) -> None:
        self._blocks: deque[Samples] = deque()
        self._start = 0
        self.end = 0

    def append(self, samples: Samples) -> None:
        """Adds what follows."""
        self._blocks.append(samples)
        self.end += len(samples)

    def take(self, span: Span) -> Samples:
        """A copy of the samples of a span."""
        parts: list[Samples] = []
        at = self._start
        for block in self._blocks:
            low, high = max(span.start - at, 0), min(span.end - at, len(block))
            if low < high:
                parts.append(block[low:high])
            at += len(block)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def drop_before(self, start: int) -> None:
        """Frees the blocks that end at or before a sample."""
        while self._blocks and self._start + len(self._blocks[0]) <= start:
            self._start += len(self._blocks.popleft())


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Audio of a window without a gap: its place in the recording in samples, and as in Window."""

    start: int
    samples: Samples
    speech: tuple[tuple[float, float], ...]
    voice: tuple[tuple[float, float], ...] = ()

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


class _SpeechWindows:
    """Packs neighbouring speech into windows; longer pauses in and between them are left out.

    For each frame:
    1. take the stretch of speech that became certain into the window, or, where it does not fit,
       close the window and begin the next with it;
    2. close the window when the speech that goes on cannot fit any more;
    3. cut speech that alone has become longer than a window;
    4. close the window when the pause after it has become long.
    """

    def __init__(self, options: VadOptions) -> None:
        self._silero = SpeechProbabilities()
        self._spans = SpeechSpans(options)
        self._keeps_pauses = options.keeps_pauses
        self._max_pause_s = options.max_pause_s
        if options.keeps_pauses:
            self._max_pause_s = min(LONG_PAUSE_S, options.max_pause_s)
        self._n_padding = int(options.padding_s * SAMPLE_RATE)
        self._buffer = SampleBuffer()
        self._position = 0  # end of the last frame
        # of the speech that goes on, and of the stretch before it
        self._recent: deque[float] = deque(maxlen=2 * (N_WINDOW_SAMPLES // N_FRAME_SAMPLES + 2))
        self._window: list[_Piece] = []
        self._threshold = options.threshold

    def push(self, samples: Samples) -> Iterator[list[_Piece]]:
        self._buffer.append(samples)
        yield from self._frames(self._silero.push(samples))
        needed = self._position - self._n_padding
        pending = self._spans.pending_start
        if pending is not None:
            needed = min(needed, pending)
        if self._window:
            # a short pause belongs to the window
            needed -= self._gap(needed)
        self._buffer.drop_before(needed)

    def finish(self) -> Iterator[list[_Piece]]:
        yield from self._frames(self._silero.finish())
        for span in self._spans.finish(self._buffer.end):
            yield from self._add(span)
        if self._window:
            yield self._close()

    def _frames(self, probabilities: Probabilities) -> Iterator[list[_Piece]]:
        for probability in cast("list[float]", probabilities.tolist()):
            yield from self._frame(probability)

    def _frame(self, probability: float) -> Iterator[list[_Piece]]:
        self._position += N_FRAME_SAMPLES
        self._recent.append(probability)
        span = self._spans.push(probability)
        if span is not None:
            yield from self._add(span)
        going_on = self._spans.open_start
        if going_on is not None:
            if self._window and not self._fits(Span(going_on, self._position)):
                yield self._close()
            if self._position - going_on > N_WINDOW_SAMPLES:
                span = self._spans.cut(self._best_cut(going_on))
                yield from self._add(span)
                yield self._close()
        elif (
            self._window
            and self._spans.pending_start is None
            and self._position - self._window[-1].end > self._max_pause_s * SAMPLE_RATE
        ):
            yield self._close()

    def _best_cut(self, start: int) -> int:
        """The middle of the least likely frame in the second half of a window from `start`."""
        first = self._position // N_FRAME_SAMPLES - len(self._recent)  # index of _recent[0]
        low = math.ceil((start + _N_CUT_SEARCH_SAMPLES) / N_FRAME_SAMPLES)
        high = (start + N_WINDOW_SAMPLES) // N_FRAME_SAMPLES  # exclusive
        smooth = _smoothed(np.array(self._recent, np.float64))[low - first : high - first]
        return (low + int(smooth.argmin())) * N_FRAME_SAMPLES + N_FRAME_SAMPLES // 2

    def _gap(self, start: int) -> int:
        """Samples of the pause between the window and what begins at `start` that are kept."""
        gap = start - self._window[-1].end
        return gap if gap < _N_SKIPPED_SAMPLES or self._keeps_pauses else 0

    def _fits(self, span: Span) -> bool:
        """Whether the window still has room for a stretch of speech."""
        taken = sum(len(piece.samples) for piece in self._window)
        return taken + self._gap(span.start) + span.end - span.start <= N_WINDOW_SAMPLES

    def _add(self, span: Span) -> Iterator[list[_Piece]]:
        if self._window and not self._fits(span):
            yield self._close()
        # only padding is lost here: speech itself was cut before it grew too long
        span = Span(span.start, min(span.end, span.start + N_WINDOW_SAMPLES, self._buffer.end))
        last = self._window[-1] if self._window else None
        if last is None or self._gap(span.start) < span.start - last.end:
            samples = self._buffer.take(span)
            speech, voice = (0.0, len(samples) / SAMPLE_RATE), self._voice(span, span.start)
            self._window.append(_Piece(span.start, samples, (speech,), voice))
            return
        more = Span(last.end, span.end)
        speech = ((span.start - last.start) / SAMPLE_RATE, (span.end - last.start) / SAMPLE_RATE)
        self._window[-1] = replace(
            last,
            samples=np.concatenate([last.samples, self._buffer.take(more)]),
            speech=(*last.speech, speech),
            voice=(*last.voice, *self._voice(more, last.start)),
        )

    def _close(self) -> list[_Piece]:
        pieces, self._window = self._window, []
        return pieces

    def _voice(self, span: Span, from_sample: int) -> tuple[tuple[float, float], ...]:
        """Where a voice sounds in a span, seconds from a sample."""
        return voice_within(self._recent, self._position, span, from_sample, self._threshold)


class _FixedWindows:
    """Cuts everything into windows, each at the quietest point near its end."""

    def __init__(self) -> None:
        self._buffer = SampleBuffer()
        self._start = 0

    def push(self, samples: Samples) -> Iterator[list[_Piece]]:
        self._buffer.append(samples)
        while self._buffer.end - self._start > N_WINDOW_SAMPLES:
            yield self._cut(self._quietest())
            self._buffer.drop_before(self._start)

    def finish(self) -> Iterator[list[_Piece]]:
        if self._buffer.end > self._start:
            yield self._cut(self._buffer.end)

    def _quietest(self) -> int:
        end = self._start + N_WINDOW_SAMPLES
        low = end - _N_QUIET_SEARCH_SAMPLES
        n_frames = _N_QUIET_SEARCH_SAMPLES // N_FRAME_SAMPLES
        tail = self._buffer.take(Span(low, low + n_frames * N_FRAME_SAMPLES))
        energy = np.square(tail.reshape(n_frames, N_FRAME_SAMPLES), dtype=np.float64).mean(axis=1)
        return low + int(_smoothed(energy).argmin()) * N_FRAME_SAMPLES + N_FRAME_SAMPLES // 2

    def _cut(self, end: int) -> list[_Piece]:
        whole = Span(self._start, end)
        self._start = end
        samples = self._buffer.take(whole)
        return [_Piece(whole.start, samples, ((0.0, len(samples) / SAMPLE_RATE),))]


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Moving means over _N_CUT_SMOOTHING_FRAMES, edges repeated; as long as `values`."""
    half = _N_CUT_SMOOTHING_FRAMES // 2
    padded = np.pad(values, half, mode="edge")
    return np.convolve(
        padded, np.full(_N_CUT_SMOOTHING_FRAMES, 1 / _N_CUT_SMOOTHING_FRAMES), "valid"
    )


class WindowStream:
    """The windows of a stream of blocks, in order, not overlapping, each complete and at most 30 s.

    Iterate it once, on one thread; `n_samples` (how much audio has gone in) may be read from any.
    `start_s` is called when a window leaves and gives the media time of the first sample.
    """

    def __init__(
        self, blocks: Iterable[Samples], options: VadOptions, start_s: Callable[[], float]
    ) -> None:
        self.n_samples = 0
        self._blocks = blocks
        self._start_s = start_s
        self._cutter = _FixedWindows() if options.disabled else _SpeechWindows(options)

    @property
    def duration_s(self) -> float:
        """Length of the audio that has gone in, seconds."""
        return self.n_samples / SAMPLE_RATE

    def __iter__(self) -> Iterator[Window]:
        for block in self._blocks:
            yield from map(self._window, self._cutter.push(block))
            self.n_samples += len(block)
        yield from map(self._window, self._cutter.finish())

    def _window(self, pieces: Sequence[_Piece]) -> Window:
        start_s = self._start_s()
        return _joined(
            [
                Window(
                    piece.samples, start_s + piece.start / SAMPLE_RATE, piece.speech, piece.voice
                )
                for piece in pieces
            ]
        )
