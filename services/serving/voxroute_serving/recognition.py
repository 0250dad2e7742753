"""From one window to its text: the language, the decoding, the doubts, and one more decoding.

1. tell the window's language, where several are allowed;
2. decode it, with the engine's own fallback over the temperatures;
3. judge the text; what the fallback has let through and is in doubt is decoded once more, at the
   next temperature, and the better of the two is kept;
4. where the kept text is in doubt, listen whether the window sounds like another language.

A window's outcome depends on the window alone. Extra passes go through the same queues as all other
work, so that they share batches with it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

from voxroute_serving.device import Timed
from voxroute_serving.doubt import (
    Doubt,
    Judged,
    Thresholds,
    among,
    better,
    doubts,
    is_often_invented,
    retry_temperature,
    sounds_like_another,
    warrants_listening,
)
from voxroute_serving.engine import DecodingOptions, Samples, WindowResult
from voxroute_serving.windows import VadOptions, Window, stretches


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
    """The result that was kept; times summed over both decodings."""


@dataclass(frozen=True, slots=True, eq=False)
class Recogniser:
    """The way of the windows of one call.

    `transcribe` and `detect` run on the device; `detect` is None where the engine cannot, and
    `retries` false where it ignores temperatures. `allowed` are the languages of which each window
    has one; fewer than two where the call has one language.
    """

    transcribe: Callable[[DecodingOptions, Samples], Awaitable[Timed[WindowResult]]]
    detect: Callable[[Samples], Awaitable[dict[str, float]]] | None
    options_of: Callable[[str], DecodingOptions]
    vad: VadOptions
    allowed: tuple[str, ...] = ()
    retries: bool = True
    on_redecode: Callable[[Literal["first", "second"]], None] = lambda _: None

    async def __call__(self, placed: Placed) -> Recognised:
        """The text of a window. Raises what the device raises."""
        window = placed.window
        language = placed.language or await self._language(window)
        options = self.options_of(language)
        thresholds = Thresholds.of(options)
        timed = await self.transcribe(options, window.samples)
        judged = await self._judge(timed.result, window, thresholds)
        temperature = (
            retry_temperature(judged, options.temperatures, thresholds) if self.retries else None
        )
        if temperature is not None:
            warmer = replace(options, temperatures=(temperature,))
            again = await self.transcribe(warmer, window.samples)
            second = await self._judge(again.result, window, thresholds)
            kept = better(judged, second)
            self.on_redecode("second" if kept is second else "first")
            judged = replace(kept, result=replace(kept.result, redecodes=1))
            timed = Timed(
                judged.result,
                timed.queue_s + again.queue_s,
                timed.inference_s + again.inference_s,
            )
        if await self._switches(judged, window, language, thresholds):
            switched = tuple(one | {Doubt.LANGUAGE_SWITCH} for one in judged.doubts)
            judged = replace(judged, doubts=switched)
        return Recognised(judged, language, timed)

    async def _language(self, window: Window) -> str:
        """The likeliest of the allowed languages, the first of equals."""
        if self.detect is None:
            raise TypeError("several languages are allowed only where they can be told apart")
        heard = among(await self.detect(window.samples), self.allowed)
        return max(heard, key=lambda language: heard[language])

    async def _judge(self, result: WindowResult, window: Window, thresholds: Thresholds) -> Judged:
        voice = window.speech
        if self.vad.disabled and any(is_often_invented(one.text) for one in result.segments):
            # nothing was told from speech before: only such texts are worth doing it now
            voice = await asyncio.to_thread(stretches, window.samples, self.vad)
        return Judged(result, doubts(result.segments, voice, thresholds))

    async def _switches(
        self, judged: Judged, window: Window, language: str, thresholds: Thresholds
    ) -> bool:
        if self.detect is None or len(self.allowed) > 1:
            return False
        if not warrants_listening(judged, thresholds, window.speech_s):
            return False
        return sounds_like_another(await self.detect(window.samples), language)
