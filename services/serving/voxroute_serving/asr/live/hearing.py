"""Where utterances begin and end, as the samples come."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

import numpy as np

from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import (
    N_FRAME_SAMPLES,
    Probabilities,
    Span,
    VadOptions,
    negative_threshold,
)
from voxroute_serving.audio.windows import SampleBuffer, voice_within

_N_BEGIN_FRAMES = 2  # with a voice, one after the other: a click has one
_N_EARLY_SAMPLES = SAMPLE_RATE // 5  # a pause after which it is worth looking what was said
_N_KEPT_FRAMES = 64 * SAMPLE_RATE // N_FRAME_SAMPLES  # more than two of the longest utterances


class EndReason(Enum):
    """Why an utterance has ended; the values are those of voxroute.asr.v1.EndReason."""

    SILENCE = 1
    CLIENT = 2
    LENGTH = 3
    FINISH = 4
    DROPPED = 5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """When an utterance ends, seconds."""

    silence_s: float = 0.6
    max_utterance_s: float = 28.0
    manual: bool = False


@dataclass(slots=True, eq=False)
class Spoken:
    """One utterance; places are samples from the start of the stream."""

    number: int
    start: int
    """Padding included."""
    voice_end: int
    """End of the last frame in which a voice sounds."""
    speech: int = 0
    """Samples in which a voice sounds."""
    is_quiet: bool = False
    """Whether there is a pause after `voice_end` now, long enough to look what was said."""
    settled: int = 0
    """Where its committed text ends, told by who writes it down: no cut comes before."""
    end: int | None = None
    """None while it goes on."""
    reason: EndReason | None = None
    voice: tuple[tuple[float, float], ...] = ()
    """Once it has ended: where a voice sounds, seconds from `start`."""


@dataclass(frozen=True, slots=True, eq=False)
class News:
    """An utterance that has begun, or ended."""

    spoken: Spoken
    ended: bool


class Tape:
    """The samples that somebody may still want, by their place in the stream. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples = SampleBuffer()

    @property
    def end(self) -> int:
        """How many have come."""
        return self._samples.end

    def append(self, samples: Samples) -> None:
        """Adds what follows."""
        with self._lock:
            self._samples.append(samples)

    def take(self, start: int, end: int) -> Samples:
        """A copy of a stretch."""
        with self._lock:
            return self._samples.take(Span(start, end))

    def drop_before(self, start: int) -> None:
        """Frees what nobody wants any more."""
        with self._lock:
            self._samples.drop_before(start)


@dataclass(slots=True, eq=False)
class Hearing:
    """The voice activity of one stream.

    An utterance begins with a voice and ends after a pause, at the client's word, or, at its
    longest, at the least likely frame of its second half that has no committed text, or, where
    there is no pause, at the end of that text.
    """

    vad: VadOptions
    endpoint: Endpoint
    tape: Tape = field(default_factory=Tape)
    current: Spoken | None = None
    """The utterance that goes on."""
    _position: int = field(default=0, init=False)  # end of the last frame
    _recent: deque[float] = field(
        default_factory=lambda: deque[float](maxlen=_N_KEPT_FRAMES), init=False
    )
    _begun: int = field(default=0, init=False)  # utterances
    _floor: int = field(default=0, init=False)  # where the next one begins at the earliest
    _voiced: int = field(default=0, init=False)  # frames with a voice, one after the other

    @property
    def negative(self) -> float:
        """The probability below which a frame is a pause."""
        return negative_threshold(self.vad.threshold)

    def push(self, samples: Samples, probabilities: Probabilities) -> list[News]:
        """What begins and ends with these samples; of the frames that they complete."""
        self.tape.append(samples)
        frames = cast("list[float]", probabilities.tolist())
        return [news for one in frames for news in self._frame(one)]

    def end(self, reason: EndReason) -> list[News]:
        """Ends the utterance here, or an empty one where nobody speaks and the client asks."""
        here, news = self.tape.end, list[News]()
        if self.current is None:
            if reason is EndReason.CLIENT:
                self._begun += 1
                nothing = Spoken(self._begun, here, here, end=here, reason=reason)
                news.append(News(nothing, ended=True))
        else:
            news.append(self._end(here, reason))
        self._floor, self._voiced = here, 0
        return news

    def _frame(self, probability: float) -> Iterator[News]:
        self._position += N_FRAME_SAMPLES
        self._recent.append(probability)
        now = self.current
        self._voiced = self._voiced + 1 if probability >= self.vad.threshold else 0
        if now is None:
            if self._voiced >= _N_BEGIN_FRAMES:
                speech = _N_BEGIN_FRAMES * N_FRAME_SAMPLES
                begin = self._position - speech - round(self.vad.padding_s * SAMPLE_RATE)
                yield self._begin(begin, self._position, speech)
            return
        if probability >= self.negative:
            now.voice_end, now.is_quiet = self._position, False
            now.speech += N_FRAME_SAMPLES
        pause = self._position - now.voice_end
        if pause >= _N_EARLY_SAMPLES:
            now.is_quiet = True
        if pause >= self.endpoint.silence_s * SAMPLE_RATE and not self.endpoint.manual:
            yield self._end(self._position, EndReason.SILENCE)
        elif self._position - now.start >= self.endpoint.max_utterance_s * SAMPLE_RATE:
            cut, voice_end = self._best_cut(now), now.voice_end
            _, following = self._frames_from(cut)
            speech = int((following >= self.negative).sum()) * N_FRAME_SAMPLES
            now.speech -= speech
            yield self._end(cut, EndReason.LENGTH)
            if voice_end > cut:
                yield self._begin(cut, voice_end, speech)

    def _begin(self, start: int, voice_end: int, speech: int) -> News:
        self._begun += 1
        start = max(0, start, self._floor)
        self.current = Spoken(self._begun, start, voice_end, speech, settled=start)
        return News(self.current, ended=False)

    def _end(self, end: int, reason: EndReason) -> News:
        spoken = self.current
        assert spoken is not None  # noqa: S101 - only what goes on ends
        self.current, self._floor, self._voiced = None, end, 0
        spoken.end, spoken.reason = end, reason
        spoken.voice_end = min(spoken.voice_end, end)
        whole = Span(spoken.start, end)
        spoken.voice = voice_within(
            self._recent, self._position, whole, spoken.start, self.vad.threshold
        )
        return News(spoken, ended=True)

    def _best_cut(self, spoken: Spoken) -> int:
        half = spoken.start + round(self.endpoint.max_utterance_s * SAMPLE_RATE / 2)
        low, frames = self._frames_from(max(half, spoken.settled))
        if not len(frames):
            return self._position
        if spoken.settled > half and frames.min() >= self.negative:
            return spoken.settled  # no pause since: that is between two words at least
        return (low + int(frames.argmin())) * N_FRAME_SAMPLES + N_FRAME_SAMPLES // 2

    def _frames_from(self, place: int) -> tuple[int, Probabilities]:
        """The number of the first frame that begins at a place or later, and all from it on."""
        first = self._position // N_FRAME_SAMPLES - len(self._recent)  # of `_recent`
        low = -(-place // N_FRAME_SAMPLES)
        return low, np.array(self._recent, np.float32)[max(0, low - first) :]
