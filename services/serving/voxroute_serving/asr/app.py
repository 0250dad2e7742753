"""The speech service as an app of the process: loading, warming up, health."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc.aio

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute_serving.asr.diarizing import Diarization, Diarizer
from voxroute_serving.asr.engine import AsrEngine
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.audio import decoders as audio
from voxroute_serving.device.pool import ModelPool, PoolLimits
from voxroute_serving.domain import Activity
from voxroute_serving.models.service import ModelServicer
from voxroute_serving.process.settings import AsrSettings

if TYPE_CHECKING:
    from voxroute_serving.process.main import Runtime
from voxroute_serving.asr.service import AsrServicer


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
            loaded = FallbackModel(
                engine, model, activity, lambda step: runtime.metrics.observe_fallback(step.kind)
            )
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
            max_live_streams=settings.max_live_streams,
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

    def leave(self) -> None:
        """Ends the live streams, which would last as long as their clients."""
        self.servicer.live.leave()

    async def close(self) -> None:
        """Frees the models on their thread."""
        await self._pool.close()
        await self.servicer.diarization.close()
