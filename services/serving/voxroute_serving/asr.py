"""The speech service: voxroute.asr.v1 over any engine.

The way of a recording: the call's messages -> `Feed` -> a thread that decodes, finds speech and
cuts windows -> `Batcher` (windows of all calls) -> the device -> segments, in order. Each step is
bounded, so a fast client waits for the device and memory does not grow with the recording.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc.aio
import numpy as np
from prometheus_client import CollectorRegistry

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_serving import asr_messages as messages
from voxroute_serving import audio
from voxroute_serving.asr_messages import KnownSegment, SegmentNumbering, TranscribeOptions
from voxroute_serving.asr_metrics import AsrMetrics
from voxroute_serving.bounds import quoted
from voxroute_serving.calls import Context, Requests, Send, open_group, relayed
from voxroute_serving.device import Admission, Batcher, BatchRecord, DeviceThread, Timed
from voxroute_serving.diarization import Diarization, Diarizer
from voxroute_serving.doubt import among
from voxroute_serving.engine import (
    SAMPLE_RATE,
    WINDOW_S,
    Activity,
    AlignmentRequest,
    AsrEngine,
    AsrModel,
    DecodingOptions,
    DeviceInfo,
    EngineDescription,
    Feature,
    IgnoredOption,
    Samples,
    WindowResult,
    Word,
)
from voxroute_serving.errors import (
    FieldViolation,
    InvalidInputError,
    LimitExceededError,
    NoSpeechError,
    UnsupportedError,
)
from voxroute_serving.fallbacks import FallbackModel
from voxroute_serving.logs import get_logger
from voxroute_serving.model_service import ModelServicer
from voxroute_serving.pool import ModelPool, ModelState, PoolLimits
from voxroute_serving.recognition import Placed, Recogniser
from voxroute_serving.request_ids import request_id
from voxroute_serving.settings import AsrSettings
from voxroute_serving.stream import Feed, Threaded
from voxroute_serving.windows import SampleBuffer, Span, Window, WindowStream

if TYPE_CHECKING:
    from voxroute_serving.main import Runtime

T = TypeVar("T")
Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# Full ones, so that the device never waits for the next: three, and one for what a call lacks
# between its last window and the first of the span after it.
_BATCHES_WAITING = 4
# s that batches fill before a GPU, which does small ones hardly quicker: longer than the command
# takes from one span of a recording to the next
_LINGER_S = 0.2
# s for what one call has queued at once to be one batch, before a device that does one at a time
_GATHER_S = 0.01
_NEXT_WINDOW_S = 0.5  # for the next of the windows that are to be the first batch of a call

_WINDOWS_WAITING = 2  # complete windows that may wait for a place in the queue
_PIECES_WAITING = 8  # the same for the audio of segments to be aligned
_PROGRESS_S = 1.0  # s between two `progress` messages
_LOADING_QUIET_S = 0.5  # a shorter load is not worth a message

# A language is chosen after this much speech that is this sure, or after so many windows.
_SURE_SPEECH_S = 10.0
_SURE_PROBABILITY = 0.9
_LANGUAGE_WINDOWS = 3

_REPORTED_MISSING_S = 1.0  # s; shorter holes are the rounding of a recorder's clock
_MIN_ALIGNED_SAMPLES = SAMPLE_RATE // 25  # 40 ms; no word is shorter
_MAX_ALIGNED_SEGMENTS = 50_000  # a day of speech
_MAX_ALIGNED_CHARACTERS = 8_000_000

_RTF_WEIGHT = 0.2  # of the last call in the moving real-time factor

_log = get_logger(__name__)


# --- structure of a call -------------------------------------------------------------------------


async def _in_order(
    group: asyncio.TaskGroup,
    items: AsyncIterator[Item],
    work: Callable[[Item], Awaitable[Outcome]],
    limit: int,
) -> AsyncGenerator[tuple[Item, Outcome]]:
    """Each item with its outcome, in the order of the items, at most `limit` at work."""
    places = asyncio.Semaphore(limit)
    begun: asyncio.Queue[tuple[Item, asyncio.Task[Outcome]] | None] = asyncio.Queue()

    async def do(item: Item) -> Outcome:
        return await work(item)

    async def begin() -> None:
        async for item in items:
            await places.acquire()
            begun.put_nowait((item, group.create_task(do(item))))
        begun.put_nowait(None)

    group.create_task(begin())
    while (entry := await begun.get()) is not None:
        yield entry[0], await entry[1]
        places.release()


# --- the device ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Decoding:
    """Windows with equal keys share a batch: the same model, the same options."""

    model_id: str
    options: DecodingOptions
    model: AsrModel = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Listening:
    """The key of windows whose language, or whose words' times, are asked for."""

    model_id: str
    model: AsrModel = field(compare=False)


class _Device:
    """The three queues before the threads of the device."""

    def __init__(
        self,
        thread: DeviceThread,
        max_batch: int,
        on_batch: Callable[[BatchRecord], None] | None = None,
    ) -> None:
        def limit(key: Any) -> int:
            return min(key.model.max_batch, max_batch or key.model.max_batch)

        def model_of(key: Any) -> str:
            return key.model_id

        def linger_s(key: Any) -> float:
            return _LINGER_S if key.model.workers > 1 else _GATHER_S

        def workers(key: Any) -> int:
            return key.model.workers

        self._limit = limit
        self._transcribing: Batcher[Samples, WindowResult] = Batcher(
            thread,
            lambda key, windows, stop: cast("_Decoding", key).model.transcribe(
                windows, cast("_Decoding", key).options, stop
            ),
            limit,
            on_batch,
            "transcribe",
            model_of,
            workers,
            linger_s,
        )
        self._detecting: Batcher[Samples, Any] = Batcher(
            thread,
            lambda key, windows, _: cast("_Listening", key).model.detect_language(windows),
            limit,
            on_batch,
            "detect_language",
            model_of,
            workers,
        )
        self._aligning: Batcher[AlignmentRequest, tuple[Word, ...]] = Batcher(
            thread,
            lambda key, requests, _: cast("_Listening", key).model.align(requests),
            limit,
            on_batch,
            "align",
            model_of,
            workers,
        )

    @property
    def queued(self) -> int:
        """Pieces of work that wait."""
        return self._transcribing.queued + self._detecting.queued + self._aligning.queued

    def first_batch(self, model: AsrModel) -> int:
        """Windows that a recording had better have decoded at once.

        On a processor the tokens of four windows take hardly longer than those of one, and finding
        the windows takes a hundredth of the time that they take. A GPU's batches linger.
        """
        return 1 if model.workers > 1 else self._limit(_Listening("", model))

    def in_flight(self, model: AsrModel) -> int:
        """Pieces of work that keep the device busy: the batches that run, and some that wait."""
        return (model.workers + _BATCHES_WAITING) * self._limit(_Listening("", model))

    async def transcribe(
        self, model: AsrModel, options: DecodingOptions, samples: Samples
    ) -> Timed[WindowResult]:
        return await self._transcribing.submit(_Decoding(model.ref.id, options, model), samples)

    async def detect(self, model: AsrModel, samples: Samples) -> dict[str, float]:
        timed = await self._detecting.submit(_Listening(model.ref.id, model), samples)
        return dict(timed.result)

    async def align(self, model: AsrModel, request: AlignmentRequest) -> tuple[Word, ...]:
        return (await self._aligning.submit(_Listening(model.ref.id, model), request)).result


# --- pieces of the algorithms --------------------------------------------------------------------


def _mean(probabilities: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean probability of each language over windows."""
    languages = dict.fromkeys(language for window in probabilities for language in window)
    return {
        language: sum(window.get(language, 0.0) for window in probabilities) / len(probabilities)
        for language in languages
    }


class _Spread(Generic[T]):
    """At most `capacity` of the items that go by, evenly spread, whatever their number.

    Every stride-th item is kept; where there are too many, every other one of them is dropped and
    the stride doubles.
    """

    def __init__(self, capacity: int) -> None:
        self.items: list[T] = []
        self._capacity = capacity
        self._stride = 1
        self._seen = 0

    def add(self, item: T) -> None:
        if self._seen % self._stride == 0:
            if len(self.items) == self._capacity:
                self.items = self.items[::2]
                self._stride *= 2
            if self._seen % self._stride == 0 and len(self.items) < self._capacity:
                self.items.append(item)
        self._seen += 1


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A known segment and its audio, which may begin later than the segment does."""

    segment: KnownSegment
    start_s: float
    samples: Samples


def _pieces(
    decoder: audio.Decoder, blocks: Iterable[Samples], segments: Sequence[KnownSegment]
) -> Iterator[_Piece]:
    """Each segment with its audio, as soon as that is complete; one buffer, cut as it goes."""
    left = deque(segments)
    buffer = SampleBuffer()

    def at(time_s: float) -> int:
        return max(0, round((time_s - decoder.start_s) * SAMPLE_RATE))

    def piece() -> _Piece:
        segment = left.popleft()
        samples = buffer.take(Span(at(segment.start_s), at(segment.end_s)))
        return _Piece(segment, max(segment.start_s, decoder.start_s), samples)

    for block in blocks:
        buffer.append(block)
        while left and at(left[0].end_s) <= buffer.end:
            yield piece()
        buffer.drop_before(at(left[0].start_s) if left else buffer.end)
    while left:  # the audio ends before the transcript
        yield piece()


@dataclass(slots=True)
class _Progress:
    """How far a transcription is: up to the oldest window that is not finished."""

    total_s: float | None
    start_s: Callable[[], float]
    unfinished: deque[Window] = field(default_factory=deque[Window])
    finished_s: float = 0.0

    def finish_window(self, sent_until_s: float) -> asr_pb2.TranscribeResponse:
        """The message after the segments of the oldest window: a later call can go on there.

        The last segment may end a little later than the window.
        """
        window = self.unfinished.popleft()
        self.finished_s = window.end_s - self.start_s()
        message = self.message()
        resume_from_s = max(window.end_s, sent_until_s)
        message.progress.resume_from.CopyFrom(messages.duration(resume_from_s))
        return message

    def message(self) -> asr_pb2.TranscribeResponse:
        if self.unfinished:
            reached_s = self.unfinished[0].start_s - self.start_s()
            self.finished_s = max(self.finished_s, reached_s)
        total_s = None if self.total_s is None else max(self.total_s, self.finished_s)
        return asr_pb2.TranscribeResponse(
            progress=asr_pb2.Progress(
                stage=asr_pb2.STAGE_TRANSCRIBING,
                done=messages.duration(self.finished_s),
                total=None if total_s is None else messages.duration(total_s),
            )
        )


@dataclass(slots=True)
class _Stats:
    """What a transcription has cost so far; seconds."""

    speech_s: float = 0.0
    earlier_speech_s: float = 0.0  # in windows that an earlier call has finished
    queue_s: float = 0.0
    inference_s: float = 0.0
    windows: int = 0
    untranscribed_s: float = 0.0

    def add(self, window: Window, timed: Timed[WindowResult]) -> None:
        self.speech_s += window.speech_s
        self.queue_s += timed.queue_s
        self.inference_s += timed.inference_s
        self.windows += 1

    def message(self, audio_s: float) -> asr_pb2.TranscribeStats:
        return asr_pb2.TranscribeStats(
            audio_duration=messages.duration(audio_s),
            speech_duration=messages.duration(self.earlier_speech_s + self.speech_s),
            queue_time=messages.duration(self.queue_s),
            inference_time=messages.duration(self.inference_s),
            real_time_factor=self.inference_s / audio_s if audio_s else 0.0,
            windows=self.windows,
            untranscribed_duration=messages.duration(self.untranscribed_s),
        )


def _warning(code: str, message: str) -> asr_pb2.TranscribeResponse:
    return asr_pb2.TranscribeResponse(warning=common_pb2.Warning(code=code, message=message))


class _Warnings:
    """The warnings of a call as they come up, each once: the engine's, and those of fallbacks.

    A smaller compute type may change the text, so every call is told of it; a smaller batch only
    costs time, so only the calls that were running then.
    """

    def __init__(self, model: FallbackModel) -> None:
        self._fallbacks = model.fallbacks
        self._n_seen = 0
        self._told = {(one.code, one.message) for one in self._fallbacks if one.kind == "batch"}

    def news(self, of_engine: Iterable[tuple[str, str]] = ()) -> Iterator[common_pb2.Warning]:
        """What the call has not been told yet."""
        fresh = self._fallbacks[self._n_seen :]
        self._n_seen += len(fresh)
        for code, message in (*((one.code, one.message) for one in fresh), *of_engine):
            if (code, message) not in self._told:
                self._told.add((code, message))
                yield common_pb2.Warning(code=code, message=message)


def _refuse_ignored(ignored: Sequence[IgnoredOption]) -> None:
    """Raises InvalidInputError for options that the engine cannot honour."""
    if ignored:
        raise InvalidInputError(
            "strict_options is set and this engine cannot honour "
            + "; ".join(f"{option.field}: {option.reason}" for option in ignored),
            violations=[FieldViolation(option.field, option.reason) for option in ignored],
        )


# --- the service ---------------------------------------------------------------------------------


class AsrServicer(asr_pb2_grpc.AsrServiceServicer):
    """The five methods, for one engine. Errors leave as ServingError; the interceptor maps them."""

    def __init__(
        self,
        engine: AsrEngine,
        pool: ModelPool[FallbackModel],
        thread: DeviceThread,
        admission: Admission,
        diarization: Diarization,
        *,
        service_version: str = "",
        max_audio_s: float = 4 * 3600.0,
        max_message_bytes: int = 4 << 20,
        max_batch: int = 0,
        on_batch: Callable[[BatchRecord], None] | None = None,
        metrics: AsrMetrics | None = None,
    ) -> None:
        self.diarization = diarization
        self._engine = engine
        self._metrics = metrics or AsrMetrics(CollectorRegistry())
        self._pool = pool
        self._admission = admission
        self._thread = thread
        self._device = _Device(thread, max_batch, on_batch)
        self._service_version = service_version
        self._max_audio_s = max_audio_s
        self._max_message_bytes = max_message_bytes
        self._seen: EngineDescription | None = None
        self._default_id = ""
        self._default_languages: tuple[str, ...] = ()
        self._real_time_factor: float | None = None

    @property
    def queued(self) -> int:
        """Pieces of work that wait for the device."""
        return self._device.queued + self.diarization.queued

    async def look(self) -> EngineDescription:
        """What the engine is and can do now. It looks for files, so not on the event loop."""
        self._seen = await asyncio.to_thread(self._engine.describe)
        return self._seen

    @property
    def _about(self) -> EngineDescription:
        """The engine as it was seen last; what a transcription asks of it does not change."""
        if self._seen is None:
            self._seen = self._engine.describe()
        return self._seen

    async def warm_up(self) -> None:
        """Loads the default model and lets it run once.

        Raises what loading and transcribing raise.
        """
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
        async with self._pool.lease() as model:
            self._default_id, self._default_languages = model.ref.id, model.languages
            await self._thread.run(lambda: model.warm_up(noise))

    # --- GetCapabilities

    async def GetCapabilities(  # noqa: N802 - the contract's name
        self, request: asr_pb2.GetCapabilitiesRequest, context: Context
    ) -> asr_pb2.GetCapabilitiesResponse:
        """What this service is, can do, and is doing; never waits for the device."""
        del request, context
        about = await self.look()
        states = self._pool.states()
        loaded = {state.ref for state in states if state.state is ModelState.LOADED and state.ref}
        listed = dict.fromkeys([*about.available_models, *sorted(loaded, key=lambda ref: ref.id)])
        loaded_ids = {ref.id for ref in loaded}
        model = self._pool.loaded(self._default_id)
        return asr_pb2.GetCapabilitiesResponse(
            engine=about.name,
            engine_version=about.version,
            service_version=self._service_version,
            device=messages.device(self._device_info(model)),
            models=[
                asr_pb2.AvailableModel(model=messages.model_ref(ref), loaded=ref.id in loaded_ids)
                for ref in {ref.id: ref for ref in listed}.values()
            ],
            languages=self._default_languages,
            alignable_languages=about.alignable_languages,
            features=sorted(
                {cast("asr_pb2.Feature", feature.value) for feature in about.features}
                | self.diarization.features
            ),
            limits=asr_pb2.Limits(
                max_audio_duration=messages.duration(self._max_audio_s),
                max_message_bytes=self._max_message_bytes,
                max_concurrent_calls=self._admission.capacity,
                audio_in_flight=(
                    messages.duration(self._device.in_flight(model) * WINDOW_S) if model else None
                ),
            ),
            queue=common_pb2.QueueStatus(
                calls_in_flight=self._admission.in_flight,
                calls_capacity=self._admission.capacity,
                work_queued=self.queued,
            ),
            real_time_factor=self._real_time_factor,
        )

    def _device_info(self, model: FallbackModel | None) -> DeviceInfo:
        """The hardware, and the numeric type of a model on it, after its fallbacks."""
        device = self._about.device
        return device if model is None else replace(device, compute_type=model.compute_type)

    # --- Transcribe

    async def Transcribe(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.TranscribeResponse]:
        """The answers of one transcription."""
        requests = Requests[asr_pb2.TranscribeConfig](request_iterator)

        async def work(send: Send[asr_pb2.TranscribeResponse]) -> None:
            async with self._admission.permit():
                options = messages.transcribe_options(await requests.config())
                async with self._model(options.model, send) as model:
                    await self._transcribe(requests, options, model, send)

        async with contextlib.aclosing(relayed(work, context)) as replies:
            async for reply in replies:
                yield reply

    @contextlib.asynccontextmanager
    async def _model(
        self, name: str, send: Send[asr_pb2.TranscribeResponse]
    ) -> AsyncGenerator[FallbackModel]:
        """A lease of the model, with `progress` messages while it is loaded."""

        async def announce() -> None:
            await asyncio.sleep(_LOADING_QUIET_S)
            while True:
                progress = asr_pb2.Progress(stage=asr_pb2.STAGE_LOADING)
                await send(asr_pb2.TranscribeResponse(progress=progress))
                await asyncio.sleep(_PROGRESS_S)

        announcing = asyncio.ensure_future(announce())
        try:
            async with self._pool.lease(name) as model:
                announcing.cancel()
                await asyncio.wait({announcing})
                yield model
        finally:
            announcing.cancel()

    async def _transcribe(
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
        languages = self._languages(options, model)
        language = languages[0] if len(languages) == 1 else ""
        effective, ignored = _effective(options, model, languages or model.languages[:1])
        if options.strict:
            _refuse_ignored(ignored)
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
        decoder = audio.decoder(options.audio, feed, self._max_audio_s)
        heard = self._metrics.heard(decoder, "Transcribe")
        vad = replace(options.vad, keeps_pauses=model.keeps_pauses)
        stream = WindowStream(heard, vad, lambda: decoder.start_s)
        progress = _Progress(options.expected_s, lambda: decoder.start_s)
        numbering = SegmentNumbering(end_s=options.resume_from_s)
        recognise = self._recogniser(options, model, languages)
        stats = _Stats()
        warnings = _Warnings(model)

        async def windows(source: AsyncIterator[Window]) -> AsyncIterator[Placed]:
            if options.expected_s is not None:  # else it may come as it is spoken
                source = _together(source, self._device.first_batch(model))
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
            Threaded(
                lambda: iter(stream), capacity=_WINDOWS_WAITING, name="decode", on_close=feed.close
            ) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed))
            ticking = group.create_task(_tick(progress, send))
            results = _in_order(group, windows(source), recognise, self._device.in_flight(model))
            async for placed, found in results:
                window = placed.window
                stats.add(window, found.timed)
                self._metrics.observe_window(window, found.timed)
                for warning in warnings.news(found.judged.result.warnings):
                    await send(asr_pb2.TranscribeResponse(warning=warning))
                for segment, doubts in zip(
                    found.judged.result.segments, found.judged.doubts, strict=True
                ):
                    language = segment.language or found.language
                    message = numbering.message(segment, window, language, doubts)
                    if message is not None:
                        self._metrics.observe_segment(message)
                        _log.debug("segment", id=message.id, text=message.text)
                        await send(asr_pb2.TranscribeResponse(segment=message))
                for start_s, end_s, reason in found.untranscribed:
                    self._metrics.untranscribed_seconds.inc(end_s - start_s)
                    stats.untranscribed_s += end_s - start_s
                    await send(messages.untranscribed(window, start_s, end_s, reason))
                await send(progress.finish_window(numbering.end_s))
            ticking.cancel()

        await self._finish(stream, decoder, stats, numbering, send)

    async def _finish(
        self,
        stream: WindowStream,
        decoder: audio.Decoder,
        stats: _Stats,
        numbering: SegmentNumbering,
        send: Send[asr_pb2.TranscribeResponse],
    ) -> None:
        if decoder.damaged_packets or decoder.missing_s >= _REPORTED_MISSING_S:
            await send(
                _warning(
                    "DAMAGED_AUDIO",
                    f"{decoder.damaged_packets} packets of audio could not be decoded and"
                    f" {decoder.missing_s:.1f} s are missing in the file; they are treated as"
                    " silence, so words may be missing there",
                )
            )
        for remark in audio.told(decoder):
            await send(_warning(remark.code, remark.message))
        if not numbering.sent:
            await send(
                _warning(
                    "NO_SPEECH",
                    "the recording holds no speech that could be written down; if it does, lower"
                    " vad.threshold or set vad.disabled",
                )
            )
        progress = asr_pb2.Progress(
            stage=asr_pb2.STAGE_TRANSCRIBING,
            done=messages.duration(stream.duration_s),
            total=messages.duration(stream.duration_s),
        )
        await send(asr_pb2.TranscribeResponse(progress=progress))
        if stats.speech_s:
            measured = stats.inference_s / stats.speech_s
            before = self._real_time_factor
            self._real_time_factor = (
                measured if before is None else before + _RTF_WEIGHT * (measured - before)
            )
        done = asr_pb2.Done(stats=stats.message(stream.duration_s), segments=numbering.sent)
        self._metrics.observe_transcription(done.stats)
        await send(asr_pb2.TranscribeResponse(done=done))

    def _recogniser(
        self, options: TranscribeOptions, model: FallbackModel, languages: tuple[str, ...]
    ) -> Recogniser:
        features = self._about.features
        tells = Feature.LANGUAGE_DETECTION in features and len(model.languages) > 1
        return Recogniser(
            transcribe=lambda decoding, samples: self._device.transcribe(model, decoding, samples),
            detect=(lambda samples: self._device.detect(model, samples)) if tells else None,
            options_of=lambda language: _effective(options, model, (language,))[0],
            vad=options.vad,
            allowed=languages,
            retries=Feature.TEMPERATURE_FALLBACK in features,
            unsure_again=options.decoding.log_prob_threshold is not None,
            on_redecode=self._metrics.observe_redecode,
        )

    def _languages(self, options: TranscribeOptions, model: FallbackModel) -> tuple[str, ...]:
        """The model's own tags of the languages that were asked for; none to detect one.

        Raises InvalidInputError for what neither model nor engine can do.
        """
        features = self._about.features
        if options.decoding.task == "translate" and Feature.SPEECH_TRANSLATION not in features:
            raise InvalidInputError.of_field(
                "task", "this engine only transcribes; translate the transcript instead"
            )
        field = "language" if options.decoding.language else "allowed_languages"
        tags = (options.decoding.language,) if field == "language" else options.allowed_languages
        known: dict[str, None] = {}
        for tag in tags:
            language = messages.match_language(tag, model.languages)
            if language is None:
                raise messages.unknown_language(tag, model.languages, model.ref.id, field=field)
            known[language] = None
        n_possible = len(known or model.languages)
        if n_possible > 1 and Feature.LANGUAGE_DETECTION not in features:
            raise InvalidInputError.of_field(
                field if known else "language",
                f"this engine cannot detect it; name one of {', '.join(known or model.languages)}",
            )
        return tuple(known)

    def _accepted(
        self, options: asr_pb2.AppliedOptions, model: FallbackModel
    ) -> asr_pb2.TranscribeResponse:
        return asr_pb2.TranscribeResponse(
            accepted=asr_pb2.Accepted(
                request_id=request_id(),
                model=messages.model_ref(model.ref),
                device=messages.device(self._device_info(model)),
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
                Placed(window, _likeliest(own) if allowed else language)
                for window, own in zip(held, heard, strict=True)
            ]
            held.clear()
            return early

        async for window in source:
            if language:
                yield Placed(window, "" if allowed else language)
                continue
            held.append(window)
            probabilities = await self._listen(model, window)
            heard.append(among(probabilities, allowed) if allowed else probabilities)
            if len(held) == _LANGUAGE_WINDOWS or _sure(held, heard):
                for early in await settled():
                    yield early
        if held:
            for early in await settled():
                yield early

    async def _listen(self, model: FallbackModel, window: Window) -> dict[str, float]:
        if len(model.languages) == 1:
            return {model.languages[0]: 1.0}
        return await self._device.detect(model, window.samples)

    async def _settle(
        self,
        heard: Sequence[dict[str, float]],
        options: TranscribeOptions,
        model: FallbackModel,
        allowed: tuple[str, ...],
        send: Send[asr_pb2.TranscribeResponse],
    ) -> str:
        """Chooses the language, and says so, and what it makes impossible."""
        ranked = messages.languages_message(_mean(heard), messages.DEFAULT_TOP_LANGUAGES)
        language = ranked[0].language
        told = _effective(options, model, allowed or model.languages[:1])[1]
        before = {option.field for option in told}
        ignored = _effective(options, model, (language,))[1]
        new = [option for option in ignored if option.field not in before]
        if options.strict:
            _refuse_ignored(new)
        detected = asr_pb2.LanguageDetected(languages=ranked)
        await send(asr_pb2.TranscribeResponse(language_detected=detected))
        for option in new:
            await send(_warning("OPTION_IGNORED", f"{option.field}: {option.reason}"))
        return language

    # --- DetectLanguage

    async def DetectLanguage(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.DetectLanguageRequest], context: Context
    ) -> asr_pb2.DetectLanguageResponse:
        """The languages of a recording, over windows that are spread over it."""
        del context
        requests = Requests[asr_pb2.DetectLanguageConfig](request_iterator)
        async with self._admission.permit():
            options = messages.detection_options(await requests.config())
            if Feature.LANGUAGE_DETECTION not in self._about.features:
                raise UnsupportedError("this engine cannot detect languages")
            async with self._pool.lease(options.model) as model:
                return await self._detect(requests, options, model)

    async def _detect(
        self,
        requests: Requests[asr_pb2.DetectLanguageConfig],
        options: messages.DetectionOptions,
        model: FallbackModel,
    ) -> asr_pb2.DetectLanguageResponse:
        feed = Feed()
        decoder = audio.decoder(options.audio, feed, self._max_audio_s)
        sound = self._metrics.heard(decoder, "DetectLanguage")
        stream = WindowStream(sound, options.vad, lambda: decoder.start_s)
        kept = _Spread[Window](options.max_windows)
        async with (
            Threaded(
                lambda: iter(stream), capacity=_WINDOWS_WAITING, name="decode", on_close=feed.close
            ) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed))
            async for window in source:
                kept.add(window)
        if not kept.items:
            raise NoSpeechError(
                "the recording holds no speech to tell a language from; send a part with speech,"
                " lower vad.threshold, or set vad.disabled"
            )
        async with open_group() as group:
            listening = [group.create_task(self._listen(model, window)) for window in kept.items]
        heard = [task.result() for task in listening]
        return asr_pb2.DetectLanguageResponse(
            languages=messages.languages_message(_mean(heard), options.top),
            windows=len(heard),
            model=messages.model_ref(model.ref),
        )

    # --- Align

    async def Align(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.AlignRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.AlignResponse]:
        """The segments of a known transcript with their words."""
        requests = Requests[asr_pb2.AlignConfig](request_iterator)

        async def work(send: Send[asr_pb2.AlignResponse]) -> None:
            async with self._admission.permit():
                config = await requests.config()
                audio_format = messages.alignment_audio(config)
                language = await self._alignable(config.language)
                async with self._pool.lease() as model:
                    accepted = asr_pb2.AlignAccepted(
                        request_id=request_id(),
                        model=messages.model_ref(model.ref),
                        device=messages.device(self._device_info(model)),
                    )
                    await send(asr_pb2.AlignResponse(accepted=accepted))
                    await self._align(requests, audio_format, language, model, send)

        async with contextlib.aclosing(relayed(work, context)) as replies:
            async for reply in replies:
                yield reply

    async def _alignable(self, tag: str) -> str:
        """The engine's own tag of a language. Raises UnsupportedError, InvalidInputError."""
        about = await self.look()
        if Feature.ALIGNMENT not in about.features or not about.alignable_languages:
            raise UnsupportedError(
                "this engine has no aligner; send the transcript to a service whose capabilities"
                " name FEATURE_ALIGNMENT"
            )
        if not tag:
            raise InvalidInputError.of_field(
                "language",
                f"must name the transcript's: one of {', '.join(about.alignable_languages)}",
            )
        language = messages.match_language(tag, about.alignable_languages)
        if language is None:
            raise UnsupportedError(
                f"there is no aligner for {quoted(tag)}; there is one for"
                f" {', '.join(about.alignable_languages)}"
            )
        return language

    async def _align(
        self,
        requests: Requests[asr_pb2.AlignConfig],
        audio_format: audio.AudioFormat,
        language: str,
        model: FallbackModel,
        send: Send[asr_pb2.AlignResponse],
    ) -> None:
        """One admitted alignment: the transcript, then the audio, cut along it as it comes."""
        segments, first = await _transcript(requests)
        feed = Feed()
        decoder = audio.decoder(audio_format, feed, self._max_audio_s)
        warnings = _Warnings(model)
        aligned = failed = 0

        async def align(piece: _Piece) -> tuple[Word, ...]:
            if len(piece.samples) < _MIN_ALIGNED_SAMPLES:
                return ()
            request = AlignmentRequest(piece.samples, piece.segment.text, language)
            return await self._device.align(model, request)

        async with (
            Threaded(
                lambda: _pieces(decoder, self._metrics.heard(decoder, "Align"), segments),
                capacity=_PIECES_WAITING,
                name="decode",
                on_close=feed.close,
            ) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed, first))
            async for piece, words in _in_order(
                group, source, align, self._device.in_flight(model)
            ):
                aligned, failed = aligned + bool(words), failed + (not words)
                for warning in warnings.news():
                    await send(asr_pb2.AlignResponse(warning=warning))
                await send(_aligned(piece, words, language))
                if not words:
                    await send(_unaligned(piece))
        done = asr_pb2.AlignDone(aligned=aligned, failed=failed)
        await send(asr_pb2.AlignResponse(done=done))

    # --- Diarize

    async def Diarize(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.DiarizeRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.DiarizeResponse]:
        """The turns of the speakers of a recording."""
        answers = self.diarization.answers(request_iterator, context)
        async with contextlib.aclosing(answers) as replies:
            async for reply in replies:
                yield reply


def _effective(
    options: TranscribeOptions, model: FallbackModel, languages: Sequence[str]
) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
    """The options in effect for the first language, and those ignored for any of them."""
    effective = [
        model.effective_options(messages.with_language(options.decoding, language))
        for language in languages
    ]
    ignored = {option.field: option for _, some in effective for option in some}
    return effective[0][0], tuple(ignored.values())


def _likeliest(probabilities: dict[str, float]) -> str:
    """The likeliest language, the first of equals."""
    return max(probabilities, key=lambda language: probabilities[language])


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
    source: AsyncIterator[Window], resume_from_s: float, stats: _Stats
) -> AsyncIterator[Window]:
    """The windows without those that an earlier call has finished, whose speech is counted."""
    async for window in source:
        if messages.microseconds(window.end_s) > messages.microseconds(resume_from_s):
            yield window
        else:
            stats.earlier_speech_s += window.speech_s


async def _tick(progress: _Progress, send: Send[asr_pb2.TranscribeResponse]) -> None:
    """Sends `progress` whenever it has changed, about once a second."""
    last: asr_pb2.TranscribeResponse | None = None
    while True:
        await asyncio.sleep(_PROGRESS_S)
        message = progress.message()
        if message != last:
            await send(message)
            last = message


def _sure(held: Sequence[Window], heard: Sequence[dict[str, float]]) -> bool:
    """Whether the windows so far settle the language."""
    speech_s = sum(window.speech_s for window in held)
    return speech_s >= _SURE_SPEECH_S and max(_mean(heard).values()) >= _SURE_PROBABILITY


async def _transcript(
    requests: Requests[asr_pb2.AlignConfig],
) -> tuple[list[KnownSegment], tuple[str, Any]]:
    """The segments, and the message that ends them. Raises InvalidInputError."""
    segments: list[KnownSegment] = []
    n_characters = 0
    while True:
        kind, content = await requests.next()
        if kind != "segment":
            break
        segments.append(messages.known_segment(content, segments[-1].start_s if segments else 0.0))
        n_characters += len(segments[-1].text)
        if len(segments) > _MAX_ALIGNED_SEGMENTS or n_characters > _MAX_ALIGNED_CHARACTERS:
            raise LimitExceededError(
                f"a transcript may have {_MAX_ALIGNED_SEGMENTS} segments and"
                f" {_MAX_ALIGNED_CHARACTERS} characters; align it in parts"
            )
    if not segments and kind != "config":
        raise InvalidInputError.of_field(
            "segment", "there is none; send the transcript before the audio"
        )
    return segments, (kind, content)


def _aligned(piece: _Piece, words: tuple[Word, ...], language: str) -> asr_pb2.AlignResponse:
    segment = piece.segment
    return asr_pb2.AlignResponse(
        segment=asr_pb2.Segment(
            id=segment.id,
            start=messages.duration(segment.start_s),
            end=messages.duration(segment.end_s),
            text=segment.text,
            language=language,
            words=messages.words_message(words, Window(piece.samples, piece.start_s, ())),
        )
    )


def _unaligned(piece: _Piece) -> asr_pb2.AlignResponse:
    reason = (
        "its words could not be found in the audio"
        if len(piece.samples) >= _MIN_ALIGNED_SAMPLES
        else "the recording has no audio there"
    )
    message = f"segment {piece.segment.id} has no words: {reason}"
    return asr_pb2.AlignResponse(
        warning=common_pb2.Warning(code="ALIGNMENT_FAILED", message=message)
    )


class AsrApp:
    """A speech service as the server takes it: its two gRPC services over one pool of models."""

    service_names: Sequence[str] = (
        asr_pb2.DESCRIPTOR.services_by_name["AsrService"].full_name,
        ModelServicer.service_name,
    )

    def __init__(
        self,
        engine: AsrEngine,
        settings: AsrSettings,
        runtime: "Runtime",
        diarizer: Diarizer | None = None,
    ) -> None:
        def load(model: str, activity: Activity) -> FallbackModel:
            loaded = FallbackModel(engine, model, activity, runtime.metrics.observe_fallback)
            # one more has a batch ready for the worker that is free next
            runtime.device.grow(loaded.workers + (loaded.workers > 1))
            return loaded

        self._preload_models = settings.preload_models
        self._pool: ModelPool[FallbackModel] = ModelPool(
            runtime.device,
            lambda name: engine.resolve(name or settings.model),
            load,
            PoolLimits(
                settings.max_loaded_models, settings.max_model_bytes, settings.model_idle_ttl_s
            ),
            fetch=engine.fetch,
            observer=runtime.metrics,
        )
        self.servicer = AsrServicer(
            engine,
            self._pool,
            runtime.device,
            runtime.admission,
            Diarization(
                diarizer,
                runtime.device,
                runtime.admission,
                max_audio_s=settings.max_audio_s,
                on_batch=runtime.metrics.observe_batch,
                idle_ttl_s=settings.model_idle_ttl_s,
                observer=runtime.metrics,
            ),
            service_version=runtime.service_version,
            max_audio_s=settings.max_audio_s,
            max_message_bytes=settings.max_message_bytes,
            max_batch=settings.max_batch,
            on_batch=runtime.metrics.observe_batch,
            metrics=AsrMetrics(runtime.metrics.registry),
        )
        self._models = ModelServicer(self._pool, lambda: engine.describe().available_models)
        runtime.metrics.observe_queue(lambda: self.servicer.queued)
        runtime.metrics.observe_models(self._pool.states)
        runtime.metrics.observe_device(lambda: engine.describe().device)
        runtime.admission.observe_queue(lambda: self.servicer.queued)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds AsrService and ModelService."""
        asr_pb2_grpc.add_AsrServiceServicer_to_server(self.servicer, server)
        self._models.register(server)

    async def start(self) -> None:
        """Loads the models, the default last, and lets that one run once.

        Where there is no room for all, those that were named first stay.
        """
        await asyncio.to_thread(audio.load_libraries)
        # the first description looks for packages and models, which takes a tenth of a second
        await asyncio.gather(self._load(), self.servicer.look())
        await self.servicer.diarization.start()

    async def _load(self) -> None:
        for name in reversed(self._preload_models):
            await self._pool.load(name)
        await self.servicer.warm_up()

    async def close(self) -> None:
        """Frees the models on their thread."""
        await self._pool.close()
        await self.servicer.diarization.close()


def asr_app(
    engine: AsrEngine,
    settings: AsrSettings,
    runtime: "Runtime",
    diarizer: Diarizer | None = None,
) -> AsrApp:
    """The speech service of an engine, and of a diarizer, for `main.run_service`."""
    return AsrApp(engine, settings, runtime, diarizer)
