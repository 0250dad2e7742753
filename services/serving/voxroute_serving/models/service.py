"""The ModelService that every service has: lists, loads and unloads models through its pool."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc.aio
from google.protobuf import duration_pb2

from voxroute.common.v1 import common_pb2
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_serving.device.pool import ModelPool, ModelState, ModelStatus
from voxroute_serving.domain import ModelRef
from voxroute_serving.errors import InvalidInputError
from voxroute_serving.messages import model_ref

SERVICE_NAME = models_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Answers for one pool.

    `available` gives the models that can be loaded without a download, the default first; their
    ids are those that the pool resolves names to; it may touch the disk.
    """

    service_name = SERVICE_NAME

    def __init__(self, pool: ModelPool[Any], available: Callable[[], Sequence[ModelRef]]) -> None:
        self._pool = pool
        self._available = available

    def register(self, server: grpc.aio.Server) -> None:
        """Adds this service to a server that has not started."""
        models_pb2_grpc.add_ModelServiceServicer_to_server(self, server)

    async def ListModels(  # noqa: N802 - the contract's name
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        """The models that are on the disk or in memory, the default first."""
        del request, context
        statuses = {status.id: status for status in self._pool.states()}
        models: list[models_pb2.Model] = []
        for ref in await asyncio.to_thread(self._available):
            status = statuses.pop(ref.id, None)
            models.append(self._loaded(status, ref) if status else _available(ref))
        models += [self._loaded(status, None) for status in statuses.values()]
        return models_pb2.ListModelsResponse(models=models)

    async def LoadModel(  # noqa: N802 - the contract's name
        self, request: models_pb2.LoadModelRequest, context: Context
    ) -> AsyncIterator[models_pb2.LoadModelResponse]:
        """What the load is doing, then the model, loaded."""
        del context
        activities: asyncio.Queue[str | None] = asyncio.Queue()
        load = asyncio.ensure_future(self._pool.load(request.model, activities.put_nowait))
        load.add_done_callback(lambda _: activities.put_nowait(None))
        try:
            while (activity := await activities.get()) is not None:
                loading = models_pb2.Model(
                    model=common_pb2.ModelRef(id=request.model),
                    state=models_pb2.MODEL_STATE_LOADING,
                )
                yield models_pb2.LoadModelResponse(model=loading, activity=activity)
            ref = await load
        finally:
            load.cancel()
        yield models_pb2.LoadModelResponse(model=self._model(ref), activity="loaded")

    async def UnloadModel(  # noqa: N802 - the contract's name
        self, request: models_pb2.UnloadModelRequest, context: Context
    ) -> models_pb2.UnloadModelResponse:
        """The model, out of memory."""
        del context
        if not request.model:
            raise InvalidInputError.of_field("model", "name the model to unload")
        return models_pb2.UnloadModelResponse(
            model=_available(await self._pool.unload(request.model))
        )

    def _model(self, ref: ModelRef) -> models_pb2.Model:
        status = next((s for s in self._pool.states() if s.ref == ref), None)
        if status is None:  # pushed out again already
            return _available(ref)
        return self._loaded(status, ref)

    def _loaded(self, status: ModelStatus, known: ModelRef | None) -> models_pb2.Model:
        ref = status.ref or known or ModelRef("", status.id, "")
        model = models_pb2.Model(
            model=model_ref(ref),
            state=(
                models_pb2.MODEL_STATE_LOADED
                if status.state is ModelState.LOADED
                else models_pb2.MODEL_STATE_LOADING
            ),
            calls_in_flight=status.calls_in_flight,
            memory_bytes=status.memory_bytes,
        )
        if status.idle_s is not None and status.state is ModelState.LOADED:
            idle = duration_pb2.Duration()
            idle.FromMilliseconds(round(status.idle_s * 1000))
            model.idle.CopyFrom(idle)
        return model


def _available(ref: ModelRef) -> models_pb2.Model:
    return models_pb2.Model(model=model_ref(ref), state=models_pb2.MODEL_STATE_AVAILABLE)
