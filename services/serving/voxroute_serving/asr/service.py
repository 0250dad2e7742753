"""The speech service: voxroute.asr.v1 over any engine.

Admission, the model's lease and the capabilities are here; what a method does once it is admitted
stands in a module of its own: transcribing, detecting, aligning, diarizing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import cast

import numpy as np
from prometheus_client import CollectorRegistry

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_serving import languages
from voxroute_serving import messages as common_messages
from voxroute_serving.asr import messages
from voxroute_serving.asr.aligning import Alignment
from voxroute_serving.asr.answers import PROGRESS_S, device_info
from voxroute_serving.asr.detecting import LanguageDetection
from voxroute_serving.asr.diarizing import Diarization
from voxroute_serving.asr.engine import AsrEngine, EngineDescription, Feature
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.live.messages import live_options
from voxroute_serving.asr.live.transcribing import LiveTranscription
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.queues import DeviceQueues
from voxroute_serving.asr.transcribing import Transcription
from voxroute_serving.audio.samples import SAMPLE_RATE, WINDOW_S
from voxroute_serving.bounds import quoted
from voxroute_serving.calls.requests import Context, Requests, Send, relayed
from voxroute_serving.device.batcher import Admission, BatchRecord, DeviceThread
from voxroute_serving.device.pool import ModelPool, ModelState
from voxroute_serving.errors import InvalidInputError, UnsupportedError
from voxroute_serving.telemetry.request_ids import request_id

_LOADING_QUIET_S = 0.5  # a shorter load is not worth a message


class AsrServicer(asr_pb2_grpc.AsrServiceServicer):
    """The six methods, for one engine. Errors leave as ServingError; the interceptor maps them."""

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
        max_live_streams: int = 64,
        on_batch: Callable[[BatchRecord], None] | None = None,
        metrics: AsrMetrics | None = None,
    ) -> None:
        self.diarization = diarization
        self._engine = engine
        self._metrics = metrics or AsrMetrics(CollectorRegistry())
        self._pool = pool
        self._admission = admission
        self._thread = thread
        self._queues = DeviceQueues(thread, max_batch, on_batch, max_live_streams)
        self._transcription = Transcription(
            self._queues, self._metrics, max_audio_s, lambda: self._about
        )
        self.live = LiveTranscription(self._queues, self._metrics, lambda: self._about)
        self._detection = LanguageDetection(self._queues, self._metrics, max_audio_s)
        self._alignment = Alignment(self._queues, self._metrics, max_audio_s)
        self._service_version = service_version
        self._max_audio_s = max_audio_s
        self._max_message_bytes = max_message_bytes
        self._seen: EngineDescription | None = None
        self._default_id = ""
        self._default_languages: tuple[str, ...] = ()

    @property
    def queued(self) -> int:
        """Pieces of work that wait for the device."""
        return self._queues.queued + self.diarization.queued

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
        pace = self._queues.pace
        return asr_pb2.GetCapabilitiesResponse(
            engine=about.name,
            engine_version=about.version,
            service_version=self._service_version,
            device=common_messages.device(device_info(self._about, model)),
            models=[
                asr_pb2.AvailableModel(
                    model=common_messages.model_ref(ref), loaded=ref.id in loaded_ids
                )
                for ref in {ref.id: ref for ref in listed}.values()
            ],
            languages=self._default_languages,
            alignable_languages=about.alignable_languages,
            features=sorted(
                {cast("asr_pb2.Feature", feature.value) for feature in about.features}
                | ({asr_pb2.FEATURE_LIVE} if pace.max_streams else set[asr_pb2.Feature]())
                | self.diarization.features
            ),
            limits=asr_pb2.Limits(
                max_audio_duration=common_messages.duration(self._max_audio_s),
                max_message_bytes=self._max_message_bytes,
                max_concurrent_calls=self._admission.capacity,
                audio_in_flight=(
                    common_messages.duration(self._queues.in_flight(model) * WINDOW_S)
                    if model
                    else None
                ),
                max_live_streams=pace.max_streams,
                live_update_time=(
                    None if pace.window_s is None else common_messages.duration(pace.window_s)
                ),
            ),
            queue=common_pb2.QueueStatus(
                calls_in_flight=self._admission.in_flight,
                calls_capacity=self._admission.capacity,
                work_queued=self.queued,
            ),
            real_time_factor=self._transcription.real_time_factor,
        )

    # --- Transcribe

    def Transcribe(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.TranscribeResponse]:
        """The answers of one transcription."""
        requests = Requests[asr_pb2.TranscribeConfig](request_iterator)

        async def work(send: Send[asr_pb2.TranscribeResponse]) -> None:
            async with self._admission.permit():
                options = messages.transcribe_options(await requests.config())

                async def tell(progress: asr_pb2.Progress) -> None:
                    await send(asr_pb2.TranscribeResponse(progress=progress))

                async with self._model(options.model, tell) as model:
                    await self._transcription.transcribe(requests, options, model, send)

        return relayed(work, context)

    @contextlib.asynccontextmanager
    async def _model(
        self, name: str, tell: Send[asr_pb2.Progress]
    ) -> AsyncGenerator[FallbackModel]:
        """A lease of the model, with progress while it is loaded."""

        async def announce() -> None:
            await asyncio.sleep(_LOADING_QUIET_S)
            while True:
                await tell(asr_pb2.Progress(stage=asr_pb2.STAGE_LOADING))
                await asyncio.sleep(PROGRESS_S)

        announcing = asyncio.ensure_future(announce())
        try:
            async with self._pool.lease(name) as model:
                announcing.cancel()
                await asyncio.wait({announcing})
                yield model
        finally:
            announcing.cancel()

    # --- TranscribeLive

    def TranscribeLive(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeLiveRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.TranscribeLiveResponse]:
        """The answers of one live stream, which has a place of its own kind."""
        requests = Requests[asr_pb2.LiveConfig](request_iterator)
        if not self._queues.pace.max_streams:
            raise UnsupportedError("this service takes no live streams (max_live_streams is 0)")

        async def work(send: Send[asr_pb2.TranscribeLiveResponse]) -> None:
            async def tell(progress: asr_pb2.Progress) -> None:
                loading = asr_pb2.LiveProgress(stage=progress.stage)
                await send(asr_pb2.TranscribeLiveResponse(progress=loading))

            with self._queues.pace.stream():
                options = live_options(await requests.config())
                async with self._model(options.model, tell) as model:
                    await self.live.transcribe(requests, options, model, send)

        return relayed(work, context)

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
                return await self._detection.detect(requests, options, model)

    # --- Align

    def Align(  # noqa: N802 - the contract's name
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
                        model=common_messages.model_ref(model.ref),
                        device=common_messages.device(device_info(self._about, model)),
                    )
                    await send(asr_pb2.AlignResponse(accepted=accepted))
                    await self._alignment.align(requests, audio_format, language, model, send)

        return relayed(work, context)

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
        language = languages.match_language(tag, about.alignable_languages)
        if language is None:
            raise UnsupportedError(
                f"there is no aligner for {quoted(tag)}; there is one for"
                f" {', '.join(about.alignable_languages)}"
            )
        return language

    # --- Diarize

    def Diarize(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[asr_pb2.DiarizeRequest], context: Context
    ) -> AsyncGenerator[asr_pb2.DiarizeResponse]:
        """The turns of the speakers of a recording."""
        return self.diarization.answers(request_iterator, context)
