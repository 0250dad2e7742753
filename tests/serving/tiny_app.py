"""A service whose calls do what their `model` field says; also runnable as a process.

"ok" answers, "crash" and an error class's name raise, "abort" aborts, "wait" waits for the client's
next message (Transcribe) or for ever.
"""

# ruff: noqa: N802 - the methods have the contract's names
import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np

from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_serving import errors
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.audio.vad import VadOptions, stretches
from voxroute_serving.calls.interceptor import request_id
from voxroute_serving.errors import AbandonedStreamError, FieldViolation, ServingError
from voxroute_serving.process.main import Runtime, run_service
from voxroute_serving.process.settings import ServerSettings

ASR_NAME = "voxroute.asr.v1.AsrService"
MODELS_NAME = "voxroute.models.v1.ModelService"
SECRET = "the password is swordfish"  # noqa: S105 - what must not reach a client
Context = grpc.aio.ServicerContext[Any, Any]


async def _act(order: str, context: Context) -> None:
    if order == "crash":
        raise RuntimeError(SECRET)
    if order == "abort":
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "too far")
    if order == "wait":
        await asyncio.sleep(3600)
    kind = getattr(errors, order, None)
    if isinstance(kind, type) and issubclass(kind, ServingError):
        raise kind("a sentence", violations=[FieldViolation("a.b", "is wrong")], retry_after_s=2.5)


class TinyAsr(asr_pb2_grpc.AsrServiceServicer):
    """Align is left out on purpose."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def GetCapabilities(
        self, request: asr_pb2.GetCapabilitiesRequest, context: Context
    ) -> asr_pb2.GetCapabilitiesResponse:
        """Answers in every phase of life."""
        del request, context
        return asr_pb2.GetCapabilitiesResponse(engine="tiny")

    async def Transcribe(
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: Context
    ) -> AsyncIterator[asr_pb2.TranscribeResponse]:
        """Accepted at once, a segment for each audio message, done after finish."""
        segments = 0
        try:
            async for request in request_iterator:
                if request.HasField("config"):
                    yield asr_pb2.TranscribeResponse(
                        accepted=asr_pb2.Accepted(request_id=request_id())
                    )
                    await _act(request.config.model, context)
                elif request.HasField("audio"):
                    segments += 1
                    yield asr_pb2.TranscribeResponse(segment=asr_pb2.Segment(id=segments))
                else:
                    yield asr_pb2.TranscribeResponse(done=asr_pb2.Done(segments=segments))
                    return
            raise AbandonedStreamError("end the stream with finish")
        except (asyncio.CancelledError, GeneratorExit):  # the latter where its answer is on the way
            self.cancelled.set()
            raise

    async def DetectLanguage(
        self, request_iterator: AsyncIterator[asr_pb2.DetectLanguageRequest], context: Context
    ) -> asr_pb2.DetectLanguageResponse:
        """Counts the audio messages."""
        windows = 0
        async for request in request_iterator:
            await _act(request.config.model, context)
            windows += request.HasField("audio")
        return asr_pb2.DetectLanguageResponse(windows=windows)


class TinyModels(models_pb2_grpc.ModelServiceServicer):
    async def LoadModel(
        self, request: models_pb2.LoadModelRequest, context: Context
    ) -> AsyncIterator[models_pb2.LoadModelResponse]:
        """Two answers."""
        yield models_pb2.LoadModelResponse(activity="one")
        await _act(request.model, context)
        yield models_pb2.LoadModelResponse(activity="two")

    async def UnloadModel(
        self, request: models_pb2.UnloadModelRequest, context: Context
    ) -> models_pb2.UnloadModelResponse:
        """One answer."""
        await _act(request.model, context)
        return models_pb2.UnloadModelResponse()


def _listen_for_ever() -> None:
    samples = np.zeros(30 * SAMPLE_RATE, np.float32)
    while True:
        stretches(samples, VadOptions())


class TinyApp:
    """TINY_START says what starting does: nothing, "fail", "crash", or "hang" on the device.

    "listen" leaves a thread behind that looks for speech for ever, like that of a call which was
    cut: it is in native code nearly all of the time.
    """

    service_names: Sequence[str] = (ASR_NAME, MODELS_NAME)

    def __init__(self, runtime: Runtime | None = None) -> None:
        self.asr = TinyAsr()  # pyright: ignore[reportAbstractUsage]
        self._runtime = runtime

    def register(self, server: grpc.aio.Server) -> None:
        asr_pb2_grpc.add_AsrServiceServicer_to_server(self.asr, server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(
            TinyModels(),  # pyright: ignore[reportAbstractUsage]
            server,
        )

    async def start(self) -> None:
        order = os.environ.get("TINY_START", "")
        if order == "fail":
            raise errors.ModelUnavailableError("the model is gated: set HF_TOKEN")
        if order == "crash":
            raise RuntimeError("boom")
        if order == "listen":
            threading.Thread(target=_listen_for_ever, daemon=True).start()
        assert self._runtime is not None
        await self._runtime.device.run(lambda: time.sleep(3600 if order == "hang" else 0.3))

    async def close(self) -> None:
        assert self._runtime is not None
        await self._runtime.device.run(lambda: print("freed", file=sys.stderr, flush=True))  # noqa: T201


if __name__ == "__main__":
    run_service(ServerSettings, lambda _, runtime: TinyApp(runtime))
