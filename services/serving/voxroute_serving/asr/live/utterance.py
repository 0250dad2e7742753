"""The text of one utterance, from its first words to its last."""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from voxroute_serving.asr.engine import DecodingOptions, WindowResult, WindowSegment, Word
from voxroute_serving.asr.live.agreement import Agreement, before, without_echoes, words_of
from voxroute_serving.asr.live.hearing import EndReason, Spoken, Tape
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.recogniser import Untranscribed
from voxroute_serving.asr.text.doubt import (
    Doubt,
    Doubts,
    Thresholds,
    doubts,
    doubts_of_words,
    normalised,
)
from voxroute_serving.asr.text.segment_times import held_against_voice, uncovered
from voxroute_serving.asr.text.segments import Piece, by_segment, ends_sentence, joined
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.windows import Window
from voxroute_serving.device.batcher import Timed

_CUT_AFTER_S = 15.0  # of sound, from which on updates leave the beginning out
_LEAST_CUT_S = 3.0  # of sound that a cut at a sentence leaves out, or else it is at a word; and
# that a decoding has before its rest is decoded
_WARMER = 0.4  # the temperature of a second try at a loop
_WITHOUT = frozenset({Doubt.REPETITION, Doubt.HALLUCINATION})  # doubts that settle nothing

Line = tuple[WindowSegment, Doubts]
Missing = tuple[float, float, Untranscribed]
"""Where a voice sounds and no segment stands, seconds, and why."""
Decode = Callable[[DecodingOptions, "Update"], Awaitable[Timed[WindowResult]]]


class Arrivals:
    """When the samples of a stream have come."""

    def __init__(self) -> None:
        self._times: deque[tuple[int, float]] = deque(maxlen=2048)

    def add(self, end: int) -> None:
        """The samples up to a place have come now."""
        self._times.append((end, time.monotonic()))

    def since_s(self, time_s: float) -> float | None:
        """How long the sound at a time of the stream has been here, seconds."""
        place = bisect_left(self._times, (round(time_s * SAMPLE_RATE), 0.0))
        return time.monotonic() - self._times[place][1] if place < len(self._times) else None


@dataclass(slots=True, eq=False)
class Update:
    """The newest sound of an utterance, taken when the device is free for it."""

    tape: Tape
    spoken: Spoken
    origin: int
    end: int = 0

    def take(self) -> Samples:
        """The sound up to now. Called on a thread of the device."""
        self.end = self.spoken.end or self.tape.end
        return self.tape.take(self.origin, self.end)


@dataclass(slots=True, eq=False)
class UtteranceText:
    """What is written down of an utterance; times are seconds from the start of the stream.

    1. each decoding holds all sound since the utterance, or the last cut, began;
    2. what two of them agree on is settled, and given out once;
    3. after 15 s of sound the settled beginning is cut off, at a sentence where there is one;
    4. at its end, what the last decoding has is settled too.
    """

    spoken: Spoken
    tape: Tape
    decode: Decode
    metrics: AsrMetrics
    arrivals: Arrivals
    language: str = ""
    decoded_to: int = 0
    """Where the sound of the last decoding ended, samples from the start of the stream."""
    words: list[Word] = field(default_factory=list[Word])
    """The settled ones, all of the utterance."""
    is_doubtful: bool = False
    """Whether the last decoding is in doubt."""
    _agreement: Agreement = field(default_factory=Agreement, init=False)
    _origin: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._origin = self.decoded_to = self.spoken.start

    @property
    def tentative(self) -> list[Word]:
        """What follows the settled words by the last decoding."""
        return self._agreement.tentative

    @property
    def covers_all(self) -> bool:
        """Whether the last decoding has heard all that was said."""
        return self.decoded_to >= self.spoken.voice_end

    async def renew(self, options: DecodingOptions) -> list[Word]:
        """The words that one more decoding settles."""
        update, found = await self._decoded(replace(options, temperatures=(0.0,)))
        if self.is_doubtful:
            update, found = await self._decoded(replace(options, temperatures=(_WARMER,)))
        self.decoded_to = update.end
        self.metrics.live_updates.inc()
        if self.is_doubtful or self.spoken.reason is EndReason.DROPPED:
            self._agreement.doubted()
            return []
        expected = self.tentative
        new = self._agreement.heard(found, update.end / SAMPLE_RATE)
        self._observe(expected, new)
        self._settled(new)
        self._cut()
        return new

    def close(self) -> list[Word]:
        """The words that the end settles."""
        if self.is_doubtful or self.spoken.reason is EndReason.DROPPED:
            return []
        new = self._agreement.ended((self.spoken.end or 0) / SAMPLE_RATE)
        self._settled(new)
        return new

    def segments(self, options: DecodingOptions | None) -> tuple[Window, list[Line], list[Missing]]:
        """The settled text of an utterance that has ended, and where a voice has none.

        Times are seconds from the start of the window, whose samples are zeros; `options` are None
        where nothing was decoded.
        """
        spoken = self.spoken
        begin_s, end_s = spoken.start / SAMPLE_RATE, (spoken.end or 0) / SAMPLE_RATE
        pieces = [
            Piece(one.start_s - begin_s, one.end_s - begin_s, one.text, one.confidence)
            for one in self.words
        ]
        segments: list[WindowSegment] = []
        for group in by_segment(pieces):
            whole = joined(group)
            attended = tuple(piece.word for piece in group)
            segments.append(
                WindowSegment(whole.start_s, whole.end_s, whole.text, attended=attended)
            )
        held = held_against_voice(WindowResult(tuple(segments)), spoken.voice).segments
        thresholds = Thresholds() if options is None else Thresholds.of(options)
        found = doubts(held, spoken.voice, thresholds, self.language)
        lines = [
            (one, of_text | doubts_of_words(one, thresholds))
            for one, of_text in zip(held, found, strict=True)
        ]
        reason = Untranscribed.DOUBTFUL if self.is_doubtful else Untranscribed.NO_TEXT
        voice = () if spoken.reason is EndReason.DROPPED else spoken.voice
        missing = [(from_s, to_s, reason) for from_s, to_s in uncovered(held, voice)]
        length = np.zeros((spoken.end or 0) - spoken.start, np.float32)
        window = Window(length, begin_s, ((0.0, end_s - begin_s),), spoken.voice)
        return window, lines, missing

    async def _decoded(self, options: DecodingOptions) -> tuple[Update, list[Word]]:
        """The words of one more decoding, and of the rest where it stops for want of room."""
        begin, words = self._origin, list[Word]()
        while True:
            update = Update(self.tape, self.spoken, begin)
            result = (await self.decode(options, update)).result
            length_s = (update.end - begin) / SAMPLE_RATE
            found = doubts(
                result.segments, ((0.0, length_s),), Thresholds.of(options), options.language
            )
            self.is_doubtful = any(one & _WITHOUT for one in found)
            words += words_of(result.segments, begin / SAMPLE_RATE)
            rest_s = result.rest_from_s
            if rest_s is None or rest_s < _LEAST_CUT_S or self.is_doubtful:
                break
            begin += round(rest_s * SAMPLE_RATE)
        words = without_echoes(words, self.spoken.voice_end / SAMPLE_RATE)
        if self.spoken.end is not None:  # it may have been cut meanwhile
            words = before(words, self.spoken.end / SAMPLE_RATE)
        return update, words

    def _settled(self, new: Sequence[Word]) -> None:
        self.words += new
        if new:
            self.spoken.settled = max(self.spoken.settled, round(new[-1].end_s * SAMPLE_RATE))
        for word in new:
            since_s = self.arrivals.since_s(word.end_s)
            if since_s is not None:
                self.metrics.live_commit_latency.observe(since_s)

    def _observe(self, expected: Sequence[Word], new: Sequence[Word]) -> None:
        """Counts what has become of the tentative words."""
        now = [*new, *self.tentative]
        kept = 0
        for one, other in zip(expected, now, strict=False):
            kept += normalised(one.text) == normalised(other.text)
        self.metrics.live_tentative_words.labels("kept").inc(kept)
        self.metrics.live_tentative_words.labels("changed").inc(len(expected) - kept)

    def _cut(self) -> None:
        """Leaves the settled beginning of a long utterance out of the next decodings."""
        if self.decoded_to - self._origin < _CUT_AFTER_S * SAMPLE_RATE or not self.words:
            return
        origin_s = self._origin / SAMPLE_RATE
        following = [*self.words[1:], *self.tentative[:1]]
        at_s = 0.0
        for word, after in zip(self.words, following, strict=False):
            if word.end_s > origin_s + _LEAST_CUT_S and ends_sentence(word.text):
                at_s = (word.end_s + max(word.end_s, after.start_s)) / 2
        last = self.words[-1]
        if not at_s and last.end_s > origin_s + _LEAST_CUT_S:
            after_s = self.tentative[0].start_s if self.tentative else last.end_s
            at_s = (last.end_s + max(last.end_s, after_s)) / 2
        if at_s:
            self._origin = round(at_s * SAMPLE_RATE)
            self._agreement.cut(at_s)
