"""Where somebody speaks, as Silero's network hears it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.device.host import usable_processors

N_FRAME_SAMPLES = 512  # 32 ms; what Silero sees at 16 kHz
_N_CONTEXT_SAMPLES = 64  # samples of the frame before that Silero sees with each frame
_HYSTERESIS = 0.15  # speech goes on down to threshold - 0.15; Silero's own rule
_MIN_NEGATIVE_THRESHOLD = 0.01
_AUDIBLE = 4 / 32768  # of full scale; what stays below is a muted microphone's, or dither
_MOST_SILENT = 250  # frames, 8 s
# What Silero hears in place of longer silence, which makes it deaf for seconds to a voice that
# follows: after a minute it finds half of one's first two seconds, and behind noise nearly all.
_FAINT_NOISE = np.random.default_rng(0).normal(0, 3 / 32768, N_FRAME_SAMPLES).astype(np.float32)
# Calls whose voices are looked for at once: each takes a core, of which the threads that feed a
# device need some more urgently. Silero does 400 s of audio a second on each.
_loading = threading.Lock()
_at_once = threading.BoundedSemaphore(max(1, min(8, usable_processors() // 2)))
Probabilities = npt.NDArray[np.float32]
"""Speech probability of each frame, shape (n,), 0 to 1."""


@dataclass(frozen=True, slots=True)
class VadOptions:
    """How speech is told from the rest.

    Silero's own defaults, but for the silence and the padding, which are shorter: subtitles need
    the pauses of a dialogue. `max_pause_s` closes a window at a longer pause, which bounds how
    long text of live speech is held back; a recording, which nobody waits for word by word, fills
    its windows across any pause.
    """

    disabled: bool = False
    threshold: float = 0.5
    min_silence_s: float = 0.5
    padding_s: float = 0.2
    max_pause_s: float = 3.0
    keeps_pauses: bool = False
    """Whether windows hold speech as it was recorded, with the pauses up to `LONG_PAUSE_S`."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of audio, in samples from its start; `end` is exclusive."""

    start: int
    end: int


def negative_threshold(threshold: float) -> float:
    """The probability below which a frame amid speech is a pause."""
    return max(threshold - _HYSTERESIS, _MIN_NEGATIVE_THRESHOLD)


@lru_cache(maxsize=1)
def _silero() -> Any:
    """The ONNX session of the Silero model in faster-whisper's wheel; safe to share."""
    from faster_whisper.vad import (  # noqa: PLC0415 - imports ctranslate2 and onnxruntime
        get_vad_model,
    )

    return cast("Any", get_vad_model()).session


class SpeechProbabilities:
    """Silero over a stream: the model's state and context go from block to block."""

    def __init__(self) -> None:
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(_N_CONTEXT_SAMPLES, np.float32)
        self._rest = np.zeros(0, np.float32)
        self._n_silent = 0  # frames since the last audible one

    def push(self, samples: Samples) -> Probabilities:
        """The probabilities of the frames that these samples complete."""
        joined = np.concatenate([self._rest, samples])
        n_frames = len(joined) // N_FRAME_SAMPLES
        self._rest = joined[n_frames * N_FRAME_SAMPLES :].copy()
        return self._run(joined[: n_frames * N_FRAME_SAMPLES])

    def finish(self) -> Probabilities:
        """The probability of the last frame, filled up with silence."""
        last = np.zeros(N_FRAME_SAMPLES, np.float32)
        last[: len(self._rest)] = self._rest
        self._rest = self._rest[:0]
        return self._run(last)

    def _silent_for(self, frames: Samples) -> npt.NDArray[np.int64]:
        """Since how many frames nothing is audible, for each frame; shape (n,)."""
        at = np.arange(len(frames))
        is_audible = np.abs(frames).max(axis=1) >= _AUDIBLE
        silent = at - np.maximum.accumulate(np.where(is_audible, at, -1 - self._n_silent))
        self._n_silent = int(silent[-1])
        return silent

    def _run(self, samples: Samples) -> Probabilities:
        if not len(samples):
            return np.zeros(0, np.float32)
        frames = samples.reshape(-1, N_FRAME_SAMPLES)
        frames = np.where(self._silent_for(frames)[:, None] > _MOST_SILENT, _FAINT_NOISE, frames)
        tails = frames[:, -_N_CONTEXT_SAMPLES:]
        context = np.concatenate([self._context[np.newaxis], tails[:-1]])
        self._context = tails[-1].copy()
        inputs = {"input": np.concatenate([context, frames], axis=1), "h": self._h, "c": self._c}
        with _loading:  # by one thread: an import that two begin at once can fail
            silero = _silero()
        with _at_once:
            output, self._h, self._c = silero.run(None, inputs)
        return cast("Probabilities", output).reshape(-1)


class SpeechSpans:
    """Probabilities to stretches of speech, frame by frame.

    The rule is Silero's (faster_whisper.vad.get_speech_timestamps): speech begins at a frame at or
    above the threshold and ends where frames stay below threshold - 0.15 for `min_silence_s`;
    each stretch is padded, two close ones meeting in the middle of the pause.
    """

    def __init__(self, options: VadOptions) -> None:
        self._threshold = options.threshold
        self._negative = negative_threshold(options.threshold)
        self._n_silence = options.min_silence_s * SAMPLE_RATE
        self._n_padding = int(options.padding_s * SAMPLE_RATE)
        self._position = 0  # start of the next frame
        self._start: int | None = None  # padded start of speech that goes on
        self._quiet_since: int | None = None  # where it may have ended
        self._closed: Span | None = None  # ended, but its end may still meet the next start
        self._handed_out = 0  # end of what is certain

    @property
    def open_start(self) -> int | None:
        """Padded start of the speech that goes on now, or None."""
        return self._start

    @property
    def pending_start(self) -> int | None:
        """Start of the earliest speech that has not been handed out, or None."""
        return self._closed.start if self._closed is not None else self._start

    def push(self, probability: float) -> Span | None:
        """The stretch of speech that is now certain, if any."""
        at, self._position = self._position, self._position + N_FRAME_SAMPLES
        if self._start is None:
            if probability >= self._threshold:
                return self._begin(at)
            return self._settle_closed(at)
        if probability >= self._threshold:
            self._quiet_since = None
        elif probability < self._negative:
            if self._quiet_since is None:
                self._quiet_since = at
            if at - self._quiet_since >= self._n_silence:
                self._end(self._quiet_since)
        return None

    def cut(self, at: int) -> Span:
        """Ends the speech that goes on at a sample, where it also begins anew."""
        assert self._start is not None  # noqa: S101 - only speech that goes on is cut
        span = Span(self._start, at)
        self._start = self._handed_out = at
        if self._quiet_since is not None and self._quiet_since <= at:
            # what is left of it is the pause; speech after the pause begins as new speech
            self._start = self._quiet_since = None
        return span

    def finish(self, n_samples: int) -> Iterator[Span]:
        """The stretches that the end of the audio, after `n_samples`, makes certain."""
        if self._closed is not None:
            span = self._closed
            yield Span(span.start, min(n_samples, span.end + self._n_padding))
            self._closed = None
        if self._start is not None and self._start < n_samples:
            yield Span(self._start, n_samples)
            self._start = None

    def _begin(self, at: int) -> Span | None:
        settled = None
        start = max(0, at - self._n_padding)
        if self._closed is not None:
            pause = at - self._closed.end
            half = min(pause // 2, self._n_padding)
            settled = Span(self._closed.start, self._closed.end + half)
            start = at - half
            self._closed = None
        self._start = max(start, self._handed_out)
        if settled is not None:
            self._handed_out = settled.end
        return settled

    def _end(self, at: int) -> None:
        assert self._start is not None  # noqa: S101 - only speech that goes on ends
        if at > self._start:
            self._closed = Span(self._start, at)
        self._start = self._quiet_since = None

    def _settle_closed(self, at: int) -> Span | None:
        """The closed stretch once no later speech can reach into its padding."""
        if self._closed is None or at - self._closed.end < 2 * self._n_padding:
            return None
        span = Span(self._closed.start, self._closed.end + self._n_padding)
        self._closed = None
        self._handed_out = span.end
        return span


def stretches(samples: Samples, options: VadOptions) -> tuple[tuple[float, float], ...]:
    """The stretches of speech in samples that stand alone, seconds from their start.

    Half a minute takes about a tenth of a second of one core.
    """
    silero, spans = SpeechProbabilities(), SpeechSpans(options)
    probabilities = np.concatenate([silero.push(samples), silero.finish()])
    found = [spans.push(one) for one in cast("list[float]", probabilities.tolist())]
    return tuple(
        (span.start / SAMPLE_RATE, span.end / SAMPLE_RATE)
        for span in (*found, *spans.finish(len(samples)))
        if span is not None
    )
