"""The method Transcribe: the segments of a recording, as they are found.

The way of a recording: the call's messages -> `Feed` -> a thread that decodes, finds speech and
cuts windows -> `Batcher` (windows of all calls) -> the device -> segments, in order. Each step is
bounded, so a fast client waits for the device and memory does not grow with the recording.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from voxroute.asr.v1 import asr_pb2
from voxroute_serving import messages as common_messages
from voxroute_serving.asr import messages
from voxroute_serving.asr.answers import Progress, Stats, Warnings, device_info, tick, warned
from voxroute_serving.asr.asked import (
    effective_options,
    languages_of,
    likeliest,
    recogniser,
    refuse_ignored,
)
from voxroute_serving.asr.detecting import mean
from voxroute_serving.asr.engine import EngineDescription
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.messages import SegmentNumbering, TranscribeOptions
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.queues import WINDOWS_WAITING, DeviceQueues
from voxroute_serving.asr.recogniser import Placed
from voxroute_serving.asr.text.doubt import among
from voxroute_serving.audio import decoders as audio
from voxroute_serving.audio.windows import Window, WindowStream
from voxroute_serving.calls.feed import Feed, Threaded
from voxroute_serving.calls.requests import Requests, Send, in_order, open_group
from voxroute_serving.telemetry.logs import get_logger
from voxroute_serving.telemetry.request_ids import request_id

_NEXT_WINDOW_S = 0.5  # for the next of the windows that are to be the first batch of a call

# A language is chosen after this much speech that is this sure, or after so many windows.
_SURE_SPEECH_S = 10.0
_SURE_PROBABILITY = 0.9
_LANGUAGE_WINDOWS = 3

_RTF_WEIGHT = 0.2  # of the last call in the moving real-time factor

_log = get_logger(__name__)


async def _in_language(source: AsyncIterator[Window], language: str) -> AsyncIterator[Placed]:
    """Every window in the call's one language."""
    async for window in source:
        yield Placed(window, language)


async def _together(source: AsyncIterator[Window], n: int) -> AsyncIterator[Window]:
    """The windows; the first `n` once all of these are there, or no other comes for a while."""
    held: list[Window] = []
    with contextlib.suppress(Exception):  # what ends the source, which comes again after these
        while len(held) < n:
            async with asyncio.timeout(_NEXT_WINDOW_S if held else None):
                held.append(await anext(source))
    for window in held:
        yield window
    async for window in source:
        yield window


async def _unfinished(
    source: AsyncIterator[Window], resume_from_s: float, stats: Stats
) -> AsyncIterator[Window]:
    """The windows without those that an earlier call has finished, whose speech is counted."""
    async for window in source:
        if common_messages.microseconds(window.end_s) > common_messages.microseconds(resume_from_s):
            yield window
        else:
            stats.earlier_speech_s += window.speech_s


def _sure(held: Sequence[Window], heard: Sequence[dict[str, float]]) -> bool:
    """Whether the windows so far settle the language."""
    speech_s = sum(window.speech_s for window in held)
    return speech_s >= _SURE_SPEECH_S and max(mean(heard).values()) >= _SURE_PROBABILITY


@dataclass(slots=True, eq=False)
class Transcription:
    """What Transcribe does once a call is admitted, and how fast it was."""

    queues: DeviceQueues
    metrics: AsrMetrics
    max_audio_s: float
    about: Callable[[], EngineDescription]
    real_time_factor: float | None = None
    """Of the calls so far, the last ones most; None before the first."""

    async def transcribe(
        self,
        requests: Requests[asr_pb2.TranscribeConfig],
        options: TranscribeOptions,
        model: FallbackModel,
        send: Send[asr_pb2.TranscribeResponse],
    ) -> None:
        """One admitted transcription.

        1. settle the options and answer `accepted`;
        2. decode, find speech and cut windows on a thread, fed by a task that reads the client;
        3. listen to the first windows for the language where none was named;
        4. transcribe windows, several in flight, and send their segments in order;
        5. answer with what it cost.
        """
        languages = languages_of(options, model, self.about().features)
        language = languages[0] if len(languages) == 1 else ""
        effective, ignored = effective_options(options, model, languages or model.languages[:1])
        if options.strict:
            refuse_ignored(ignored)
        accepted = messages.applied_options(
            options,
            effective,
            ignored,
            model=model.ref.id,
            language=language,
            allowed_languages=languages if options.allowed_languages else (),
        )
        await send(self._accepted(accepted, model))

        feed = Feed()
        decoder = audio.decoder(audio.spoken(options.audio, languages), feed, self.max_audio_s)
        heard = self.metrics.heard(decoder, "Transcribe")
        vad = replace(options.vad, keeps_pauses=model.keeps_pauses)
        stream = WindowStream(heard, vad, lambda: decoder.start_s)
        progress = Progress(options.expected_s, lambda: decoder.start_s)
        numbering = SegmentNumbering(end_s=options.resume_from_s)
        recognise = recogniser(
            options,
            model,
            languages,
            features=self.about().features,
            queues=self.queues,
            on_redecode=self.metrics.observe_redecode,
        )
        stats = Stats()
        warnings = Warnings(model)

        async def windows(source: AsyncIterator[Window]) -> AsyncIterator[Placed]:
            if options.expected_s is not None:  # else it may come as it is spoken
                source = _together(source, self.queues.first_batch(model))
            left = _unfinished(source, options.resume_from_s, stats)
            placed = (
                _in_language(left, language)
                if language
                else self._detected(left, options, model, languages, send)
            )
            async for one in placed:
                progress.unfinished.append(one.window)
                yield one

        async with (
            Threaded(lambda: iter(stream), WINDOWS_WAITING, feed) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed))
            ticking = group.create_task(tick(progress, send))
            results = in_order(group, windows(source), recognise, self.queues.in_flight(model))
            async for placed, found in results:
                window = placed.window
                stats.add(window, found.timed)
                self.metrics.observe_window(window, found.timed)
                for warning in warnings.news(found.judged.result.warnings):
                    await send(asr_pb2.TranscribeResponse(warning=warning))
                for segment, doubts in zip(
                    found.judged.result.segments, found.judged.doubts, strict=True
                ):
                    language = segment.language or found.language
                    message = numbering.message(segment, window, language, doubts)
                    if message is not None:
                        self.metrics.observe_segment(message)
                        _log.debug("segment", id=message.id, text=message.text)
                        await send(asr_pb2.TranscribeResponse(segment=message))
                for start_s, end_s, reason in found.untranscribed:
                    self.metrics.untranscribed_seconds.inc(end_s - start_s)
                    stats.untranscribed_s += end_s - start_s
                    missing = messages.untranscribed(window, start_s, end_s, reason)
                    await send(asr_pb2.TranscribeResponse(untranscribed=missing))
                await send(progress.finish_window(numbering.end_s))
            ticking.cancel()

        await self._finish(stream, decoder, stats, numbering, send)

    async def _finish(
        self,
        stream: WindowStream,
        decoder: audio.Decoder,
        stats: Stats,
        numbering: SegmentNumbering,
        send: Send[asr_pb2.TranscribeResponse],
    ) -> None:
        for remark in audio.told(decoder, "words"):
            await send(warned(remark.code, remark.message))
        if not numbering.sent:
            await send(
                warned(
                    "NO_SPEECH",
                    "the recording holds no speech that could be written down; if it does, lower"
                    " vad.threshold or set vad.disabled",
                )
            )
        progress = asr_pb2.Progress(
            stage=asr_pb2.STAGE_TRANSCRIBING,
            done=common_messages.duration(stream.duration_s),
            total=common_messages.duration(stream.duration_s),
        )
        await send(asr_pb2.TranscribeResponse(progress=progress))
        if stats.speech_s:
            measured = stats.inference_s / stats.speech_s
            before = self.real_time_factor
            self.real_time_factor = (
                measured if before is None else before + _RTF_WEIGHT * (measured - before)
            )
        done = asr_pb2.Done(stats=stats.message(stream.duration_s), segments=numbering.sent)
        self.metrics.observe_transcription(done.stats)
        await send(asr_pb2.TranscribeResponse(done=done))

    def _accepted(
        self, options: asr_pb2.AppliedOptions, model: FallbackModel
    ) -> asr_pb2.TranscribeResponse:
        return asr_pb2.TranscribeResponse(
            accepted=asr_pb2.Accepted(
                request_id=request_id(),
                model=common_messages.model_ref(model.ref),
                device=common_messages.device(device_info(self.about(), model)),
                options=options,
            )
        )

    async def _detected(
        self,
        source: AsyncIterator[Window],
        options: TranscribeOptions,
        model: FallbackModel,
        allowed: tuple[str, ...],
        send: Send[asr_pb2.TranscribeResponse],
    ) -> AsyncIterator[Placed]:
        """The windows, held back until the first of them have told the language.

        Where several languages are allowed, what was heard of a held window tells its own, and
        those after them are still to be listened to.
        """
        held: list[Window] = []
        heard: list[dict[str, float]] = []
        language = ""

        async def settled() -> list[Placed]:
            nonlocal language
            language = await self._settle(heard, options, model, allowed, send)
            early = [
                Placed(window, likeliest(own) if allowed else language)
                for window, own in zip(held, heard, strict=True)
            ]
            held.clear()
            return early

        async for window in source:
            if language:
                yield Placed(window, "" if allowed else language)
                continue
            held.append(window)
            probabilities = await self.queues.listen(model, window.samples)
            heard.append(among(probabilities, allowed) if allowed else probabilities)
            if len(held) == _LANGUAGE_WINDOWS or _sure(held, heard):
                for early in await settled():
                    yield early
        if held:
            for early in await settled():
                yield early

    async def _settle(
        self,
        heard: Sequence[dict[str, float]],
        options: TranscribeOptions,
        model: FallbackModel,
        allowed: tuple[str, ...],
        send: Send[asr_pb2.TranscribeResponse],
    ) -> str:
        """Chooses the language, and says so, and what it makes impossible."""
        ranked = messages.languages_message(mean(heard), messages.DEFAULT_TOP_LANGUAGES)
        language = ranked[0].language
        told = effective_options(options, model, allowed or model.languages[:1])[1]
        before = {option.field for option in told}
        ignored = effective_options(options, model, (language,))[1]
        new = [option for option in ignored if option.field not in before]
        if options.strict:
            refuse_ignored(new)
        detected = asr_pb2.LanguageDetected(languages=ranked)
        await send(asr_pb2.TranscribeResponse(language_detected=detected))
        for option in new:
            await send(warned("OPTION_IGNORED", f"{option.field}: {option.reason}"))
        return language
