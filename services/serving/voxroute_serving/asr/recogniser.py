"""From one window to its text: the language, the decoding, the doubts, and further decodings.

1. tell the window's language, where several are allowed;
2. decode it at the first temperature, hold its times against the voice, and judge the text;
3. what repeats itself or seems invented is decoded again, temperature by temperature, until it
   passes, and the best is kept; no other doubt is lessened by decoding again (docs/adr/0027);
4. where the text stops for want of room, the rest of the window is a window of its own, and so is
   each stretch in which a voice sounds and no text stands;
5. a segment that is far too short for its voice, amid whose voice the text ends, or that a long
   pause tears from the rest of its sentence, is decoded alone: something may be left out, or stand
   in another one's time;
6. what is left of a voice goes to the segments beside it, or is told;
7. where the kept text is in doubt, listen whether the window sounds like another language.

A window's outcome depends on nothing but the window, and above temperature zero on chance where
the engine draws at random. Each decoding goes through the same queue as all other work: what fails
in several windows, of any call, shares the batches of its temperature.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import Literal

from voxroute_serving.asr.engine import DecodingOptions, WindowResult, WindowSegment
from voxroute_serving.asr.text.doubt import (
    Doubt,
    Doubts,
    Judged,
    Thresholds,
    alike,
    among,
    better,
    doubts,
    doubts_of_words,
    is_often_invented,
    is_punctuation,
    n_spoken,
    normalised,
    sounds_like_another,
    sparse,
    warrants_another,
    warrants_listening,
)
from voxroute_serving.asr.text.segment_times import (
    Stretch,
    beside,
    closed_up,
    held_against_voice,
    parted,
    uncovered,
)
from voxroute_serving.asr.text.segments import ends_sentence
from voxroute_serving.audio.samples import Samples
from voxroute_serving.audio.vad import VadOptions, stretches
from voxroute_serving.audio.windows import Window
from voxroute_serving.device.batcher import Timed, one_after_another

# s of a window that its text must cover before the rest is looked at: half of Whisper's context,
# 224 tokens, in less time is nothing that a person says
_MIN_ADVANCE_S = 3.0
_LEFT_OUT = 0.5  # share of what was missing that may be missing still before each is tried alone
_MIN_OTHER_SPEECH_S = 2.0  # s without text that may be in another language
_KEPT: Doubts = frozenset(
    {Doubt.WRONG_SCRIPT}
)  # that text heard alone may have; it is heard all the same
_TORN_S = 1.5  # s; a longer pause within a sentence is more often one between two
_SURE = 0.8  # of 1; words of such confidence were said where they stand, whatever pause follows
_AROUND_S = 0.2  # s around a voice that no segment covers: consonants begin softly


class Untranscribed(Enum):
    """Why a voice has no text; the values are those of voxroute.asr.v1.UntranscribedReason."""

    NO_TEXT = 1
    DOUBTFUL = 2


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A window and the language it is transcribed in, "" where that is still to be told."""

    window: Window
    language: str


@dataclass(frozen=True, slots=True, eq=False)
class Recognised:
    """A window's text in a language, and what the device took for it."""

    judged: Judged
    language: str
    timed: Timed[WindowResult]
    """The result that was kept; times summed over all decodings."""
    untranscribed: tuple[tuple[float, float, Untranscribed], ...] = ()
    """Where a voice sounds and no segment stands, seconds from the start of the window, and why."""


@dataclass(slots=True, eq=False)
class _Find:
    """What was found in a part of a window, and what it took."""

    lines: list[tuple[WindowSegment, Doubts]] = field(
        default_factory=list[tuple[WindowSegment, Doubts]]
    )
    language: str = ""
    warnings: tuple[tuple[str, str], ...] = ()
    doubtful: bool = False
    queue_s: float = 0.0
    inference_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Unit:
    """Segments that are decoded alone, together where only a voice without text parts them."""

    indices: list[int]
    start_s: float
    end_s: float
    """Seconds from the start of the window, the voice without text beside them included."""


@dataclass(frozen=True, slots=True, eq=False)
class Recogniser:
    """The way of the windows of one call.

    `transcribe` and `detect` run on the device; `detect` is None where the engine cannot, and
    `retries` false where it ignores temperatures. `unsure_again` says whether text of a low
    probability is decoded again too. `allowed` are the languages of which each window has one;
    fewer than two where the call has one language.
    """

    transcribe: Callable[[DecodingOptions, Samples], Awaitable[Timed[WindowResult]]]
    detect: Callable[[Samples], Awaitable[dict[str, float]]] | None
    options_of: Callable[[str], DecodingOptions]
    vad: VadOptions
    allowed: tuple[str, ...] = ()
    retries: bool = True
    unsure_again: bool = False
    on_redecode: Callable[[Literal["first", "later"], float], None] = lambda _kept, _seconds: None

    async def __call__(self, placed: Placed) -> Recognised:
        """The text of a window. Raises what the device raises."""
        with one_after_another():
            return await self._recognised(placed)

    async def _recognised(self, placed: Placed) -> Recognised:
        window = placed.window
        language = placed.language or await self._language(window)
        options = self.options_of(language)
        judged, timed = await self._decoded(window, options)
        judged, timed, reason = await self._filled(judged, timed, window, options)
        judged, timed = await self._completed(judged, timed, window, options)
        if await self._switches(judged, window, language, Thresholds.of(options)):
            switched = tuple(one | {Doubt.LANGUAGE_SWITCH} for one in judged.doubts)
            judged = replace(judged, doubts=switched)
        judged = _flagged(judged, window, Thresholds.of(options))
        missing = uncovered(judged.result.segments, window.voice)
        segments = tuple(closed_up(judged.result.segments, window.voice, missing))
        judged = replace(judged, result=replace(judged.result, segments=segments))
        told = tuple(
            (start_s, end_s, reason)
            for stretch in missing
            for start_s, end_s in window.between_skips(stretch)
        )
        return Recognised(judged, language, replace(timed, result=judged.result), told)

    async def _decoded(
        self, window: Window, options: DecodingOptions
    ) -> tuple[Judged, Timed[WindowResult]]:
        """The best text of a window and of its rest, and the times of all decodings."""
        attempts: list[Judged] = []
        queue_s, spent_s = 0.0, list[float]()
        for temperature in options.temperatures if self.retries else options.temperatures[:1]:
            one = replace(options, temperatures=(temperature,))
            timed = await self.transcribe(one, window.samples)
            queue_s += timed.queue_s
            spent_s.append(timed.inference_s)
            result = _placed(timed.result, window)
            attempts.append(await self._judge(result, window, options))
            if not warrants_another(attempts[-1], unsure=self.unsure_again):
                break
        judged = functools.reduce(better, attempts)
        if len(attempts) > 1:
            self.on_redecode("first" if judged is attempts[0] else "later", sum(spent_s[1:]))
        redecodes = len(attempts) - 1
        judged = replace(judged, result=replace(judged.result, redecodes=redecodes))
        rest_s = judged.result.rest_from_s
        if rest_s is not None and rest_s >= _MIN_ADVANCE_S and not judged.repeats:
            rest, rest_timed = await self._decoded(window.part(rest_s), options)
            judged = Judged(
                judged.result.followed_by(rest.result, rest_s), (*judged.doubts, *rest.doubts)
            )
            queue_s += rest_timed.queue_s
            spent_s.append(rest_timed.inference_s)
        return judged, Timed(judged.result, queue_s, sum(spent_s))

    async def _filled(
        self,
        judged: Judged,
        timed: Timed[WindowResult],
        window: Window,
        options: DecodingOptions,
    ) -> tuple[Judged, Timed[WindowResult], Untranscribed]:
        """The text with what is said where no segment stands; that is decoded on its own.

        And why there may be voice without text all the same. Where the text repeats itself people
        may have said it more often than is written; the times of a loop without end are chance.
        """
        missing = [
            _around(stretch, window) for stretch in uncovered(judged.result.segments, window.voice)
        ]
        if (judged.repeats and judged.result.cut_off) or not missing:
            return judged, timed, Untranscribed.NO_TEXT
        # a window without any text was tried in its own language already
        known = options.language if judged.has_text else ""
        finds = [await self._find(window.only(missing), known, options)]
        parts = [
            (start_s, end_s)
            for stretch in missing
            for start_s, end_s in window.between_skips(stretch)
            if end_s - start_s > _AROUND_S
        ]
        filled = _with(judged, finds, window, options.language, self.allowed)
        left_out = _missing_s(filled, window) > _LEFT_OUT * _missing_s(judged, window)
        # a window without any text is music or a crowd more often than speech
        if judged.has_text and len(parts) > 1:
            # alone each of them is clearer: what is said over and over is written down but once
            if left_out:
                finds[0].lines = []
            else:
                lines = filled.result.segments
                # text beside it may be of its words: with that it is decoded later
                left = (part for part in _silent(filled, window) if not beside(lines, part))
                parts = [_around(part, window) for part in left]
            alone = (self._find(window.only([part]), options.language, options) for part in parts)
            finds += await asyncio.gather(*alone)
            filled = _with(judged, finds, window, options.language, self.allowed)
        judged = filled
        doubtful = any(find.doubtful for find in finds)
        timed = _took(timed, judged, finds)
        return judged, timed, Untranscribed.DOUBTFUL if doubtful else Untranscribed.NO_TEXT

    async def _completed(
        self,
        judged: Judged,
        timed: Timed[WindowResult],
        window: Window,
        options: DecodingOptions,
    ) -> tuple[Judged, Timed[WindowResult]]:
        """The text with segments whose words may be misplaced decoded alone, or else flagged.

        Those are short for their voice, or it goes on without text, or they end amid a sentence
        before a long pause, across which words lie that were said on one side of it: unlikely
        ones, and no other doubt tells of them. The sentence may go on in the next segment, which
        is decoded alone beside it. What is found takes their place where it is no less; torn words
        that are not found again are in doubt.
        """
        segments = judged.result.segments
        short, torn, halved = set[int](), set[int](), set[int]()
        gaps: list[Stretch] = []
        if not judged.repeats:
            short = sparse(segments, window.voice)
            gaps = [part for part in _silent(judged, window) if beside(segments, part)]
            halved = {i for gap in gaps for i in beside(segments, gap) if not judged.doubts[i]}
            torn = {
                i
                for i, (one, following) in enumerate(pairwise(segments))
                if window.at(following.start_s) - window.until(one.end_s) >= _TORN_S
                and not ends_sentence(one.text)
                and not judged.doubts[i]
                and _may_be_torn(one)
            }
        # a sentence may have begun in the segment before, and may go on in the next
        begun = {i - 1 for i in halved if i and not ends_sentence(segments[i - 1].text)}
        goes_on = {i + 1 for i in short | halved if not ends_sentence(segments[i].text)}
        goes_on |= {i + 1 for i in torn}
        wanted = sorted((short | halved | begun | torn | goes_on) & set(range(len(segments))))
        units = _units(wanted, segments, gaps)
        finds = await asyncio.gather(
            *(self._alone(unit, segments, window, options) for unit in units)
        )
        replaced = set[int]()
        kept_finds = list[_Find]()
        unheard = set[int]()
        for run in _runs(wanted):
            found = [(u, f) for u, f in zip(units, finds, strict=True) if u.indices[0] in run]
            before = [" ".join(segments[i].text for i in unit.indices) for unit, _ in found]
            after = [" ".join(one.text for one, _ in find.lines) for _, find in found]
            is_no_less = sum(map(n_spoken, after)) >= sum(map(n_spoken, before))
            if is_no_less and list(map(normalised, after)) != list(map(normalised, before)):
                replaced |= set(run)
                kept_finds += (find for _, find in found)
            elif not torn.isdisjoint(run):
                unheard |= {
                    i
                    for (unit, _), *texts in zip(found, before, after, strict=True)
                    if not alike(*texts)
                    for i in unit.indices
                }
        rest = [i for i in range(len(segments)) if i not in replaced]
        kept = Judged(
            replace(judged.result, segments=tuple(segments[i] for i in rest)),
            tuple(
                judged.doubts[i]
                | (frozenset({Doubt.LOW_CONFIDENCE}) if i in unheard & torn else frozenset[Doubt]())
                for i in rest
            ),
        )
        judged = _with(kept, kept_finds, window, options.language, self.allowed)
        return _flagged(judged, window, Thresholds.of(options)), _took(timed, judged, finds)

    async def _alone(
        self,
        unit: _Unit,
        segments: Sequence[WindowSegment],
        window: Window,
        options: DecodingOptions,
    ) -> _Find:
        stretch = _around((unit.start_s, unit.end_s), window)
        known = segments[unit.indices[0]].language or options.language
        return await self._find(window.only([stretch]), known, options)

    async def _find(self, left: Window, language: str, options: DecodingOptions) -> _Find:
        """What is said in a part of a window, by the clock of the window.

        In the language, if one is named, or else in the one that it sounds like. Where several are
        allowed, in the likeliest of those, or else in that of the window: a word tells none.
        """
        find = _Find()
        async for one in self._languages_of(left, language, options.language):
            decoding = replace(self.options_of(one), temperatures=options.temperatures[:1])
            decoded = await self.transcribe(decoding, left.samples)
            result = _placed(decoded.result, left)
            found = await self._judge(result, left, decoding)
            find.queue_s += decoded.queue_s
            find.inference_s += decoded.inference_s
            find.doubtful |= bool(found.all)
            find.warnings += result.warnings
            # what is in doubt here is no more than what made it be left out
            lines = [
                (segment.replaced(left.at, left.until), of_segment)
                for segment, of_segment in zip(found.result.segments, found.doubts, strict=True)
                if of_segment <= _KEPT and not found.repeats
            ]
            if lines:
                find.lines, find.language = lines, one
            if any(not of_segment for _, of_segment in lines):
                break  # otherwise it may be of the language that it sounds like
        return find

    async def _languages_of(
        self, left: Window, language: str, of_window: str
    ) -> AsyncIterator[str]:
        if self.detect is not None and len(self.allowed) > 1:
            likeliest = await self._language(left)
            yield likeliest
            if likeliest != of_window:
                yield of_window
            return
        if language:
            yield language
        if self.detect is not None and left.speech_s >= _MIN_OTHER_SPEECH_S:
            heard = await self.detect(left.samples)
            if sounds_like_another(heard, of_window):
                yield max(heard, key=lambda one: heard[one])

    async def _language(self, window: Window) -> str:
        """The likeliest of the allowed languages, the first of equals."""
        if self.detect is None:
            raise TypeError("several languages are allowed only where they can be told apart")
        heard = among(await self.detect(window.samples), self.allowed)
        return max(heard, key=lambda language: heard[language])

    async def _judge(
        self, result: WindowResult, window: Window, options: DecodingOptions
    ) -> Judged:
        voice = window.speech
        if self.vad.disabled and any(is_often_invented(one.text) for one in result.segments):
            # nothing was told from speech before: only such texts are worth doing it now
            voice = await asyncio.to_thread(stretches, window.samples, self.vad)
        language = options.language if options.task == "transcribe" else "en"
        found = doubts(result.segments, voice, Thresholds.of(options), language)
        judged = Judged(result, found)
        return replace(judged, missing_s=_missing_s(judged, window))

    async def _switches(
        self, judged: Judged, window: Window, language: str, thresholds: Thresholds
    ) -> bool:
        if self.detect is None or len(self.allowed) > 1:
            return False
        if not warrants_listening(judged, thresholds, window.speech_s):
            return False
        heard = judged.result.heard or await self.detect(window.samples)
        return sounds_like_another(heard, language)


def _placed(result: WindowResult, window: Window) -> WindowResult:
    """The result with its times held against the voice, and no segment across a pause left out.

    Nor one of punctuation alone: a model that is stuck writes full stops, and nothing was said.
    """
    spoken = tuple(one for one in result.segments if not is_punctuation(one.text))
    breaks = [at_s for at_s, _ in window.skips]
    parts = parted(replace(result, segments=spoken), breaks, window.voice)
    return held_against_voice(parts, window.voice)


def _may_be_torn(segment: WindowSegment) -> bool:
    """Whether its words may be of the sentence on the other side of a pause.

    The model is less sure of words that it attends to where they are not said; but not of a
    sentence's first word alone, which it may put into the sound before: it was said, if later.
    """
    confidence = segment.confidence
    return confidence is None or confidence < _SURE or len(segment.attended) == 1


def _missing_s(judged: Judged, window: Window) -> float:
    return sum(
        end_s - start_s for start_s, end_s in uncovered(judged.result.segments, window.voice)
    )


def _around(stretch: Stretch, window: Window) -> Stretch:
    start_s, end_s = stretch
    return max(0.0, start_s - _AROUND_S), min(end_s + _AROUND_S, window.duration_s)


def _silent(judged: Judged, window: Window) -> list[Stretch]:
    """Voice without text, parted where a pause was left out; no part begins or ends in padding."""
    return [
        (max(start_s, voice[0][0]), min(end_s, voice[-1][1]))
        for stretch in uncovered(judged.result.segments, window.voice)
        for start_s, end_s in window.between_skips(stretch)
        if (voice := [one for one in window.voice if one[0] < end_s and one[1] > start_s])
    ]


def _units(
    wanted: Sequence[int], segments: Sequence[WindowSegment], gaps: Sequence[Stretch]
) -> list[_Unit]:
    units: list[_Unit] = []
    for i in wanted:
        around = [gap for gap in gaps if i in beside(segments, gap)]
        start_s = min([segments[i].start_s, *(start for start, _ in around)])
        end_s = max([segments[i].end_s, *(end for _, end in around)])
        if any(i - 1 in beside(segments, gap) for gap in around) and i - 1 in wanted:
            units[-1].indices.append(i)
            units[-1].end_s = end_s
        else:
            units.append(_Unit([i], start_s, end_s))
    return units


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers in order, those that follow each other together."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _took(
    timed: Timed[WindowResult], judged: Judged, finds: Sequence[_Find]
) -> Timed[WindowResult]:
    """What a window has taken, with what finding more has."""
    return Timed(
        judged.result,
        timed.queue_s + sum(find.queue_s for find in finds),
        timed.inference_s + sum(find.inference_s for find in finds),
    )


def _flagged(judged: Judged, window: Window, thresholds: Thresholds) -> Judged:
    """The text with the doubts that decide about no decoding."""
    short = sparse(judged.result.segments, window.voice)
    flagged = tuple(
        of_segment
        | doubts_of_words(segment, thresholds)
        | (frozenset({Doubt.INCOMPLETE}) if index in short else frozenset[Doubt]())
        for index, (segment, of_segment) in enumerate(
            zip(judged.result.segments, judged.doubts, strict=True)
        )
    )
    return replace(judged, doubts=flagged)


def _with(
    judged: Judged,
    finds: Sequence[_Find],
    window: Window,
    language: str,
    allowed: Sequence[str],
) -> Judged:
    """A window's text with what was found where it had none, each in its place."""
    breaks = [at_s for at_s, _ in window.skips]
    lines = list(zip(judged.result.segments, judged.doubts, strict=True))
    for find in finds:
        other = find.language if find.language != language else ""
        unasked = other and other not in allowed
        of_find: Doubts = frozenset({Doubt.LANGUAGE_SWITCH}) if unasked else frozenset()
        for segment, of_segment in find.lines:
            parts = parted(WindowResult((segment,)), breaks, window.voice).segments
            lines += ((replace(part, language=other), of_segment | of_find) for part in parts)
    lines.sort(key=lambda line: line[0].start_s)
    result = replace(
        judged.result,
        segments=tuple(segment for segment, _ in lines),
        warnings=judged.result.warnings + tuple(one for find in finds for one in find.warnings),
    )
    return Judged(result, tuple(of_segment for _, of_segment in lines))
