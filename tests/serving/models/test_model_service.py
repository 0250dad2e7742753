"""The ModelService over a real server: listing, loading with progress, unloading."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest

from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_serving.device.batcher import DeviceThread
from voxroute_serving.device.pool import ModelPool, PoolLimits
from voxroute_serving.domain import Activity, ModelRef
from voxroute_serving.errors import ModelNotFoundError, ModelUnavailableError
from voxroute_serving.metrics import Metrics
from voxroute_serving.models.service import ModelServicer
from voxroute_serving.process.server import ServiceServer
from voxroute_serving.process.settings import ServerSettings

ON_DISK = [ModelRef("test", "small", "1"), ModelRef("test", "large", "1")]
LOADING, LOADED, AVAILABLE = (
    models_pb2.MODEL_STATE_LOADING,
    models_pb2.MODEL_STATE_LOADED,
    models_pb2.MODEL_STATE_AVAILABLE,
)


class Model:
    def __init__(self, name: str) -> None:
        self.ref = ModelRef("test", name, "1")
        self.memory_bytes = 12

    def close(self) -> None:
        """Nothing to free."""


@dataclass
class Shop:
    """A pool behind a ModelServicer, and a stub of it. Loads wait for `go`."""

    pool: ModelPool[Model]
    stub: "models_pb2_grpc.ModelServiceAsyncStub"
    go: threading.Event = field(default_factory=threading.Event)

    async def listed(self) -> list[tuple[str, "models_pb2.ModelState"]]:
        answer = await self.stub.ListModels(models_pb2.ListModelsRequest())
        return [(one.model.id, one.state) for one in answer.models]


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    """A server with a ModelService over a pool with one place."""
    device = DeviceThread()
    go = threading.Event()

    def resolve(name: str) -> str:
        if name == "nothing":
            raise ModelNotFoundError("there is no model 'nothing'")
        return name.lower() or "small"

    def load(name: str, activity: Activity) -> Model:
        activity("reading the weights")
        go.wait(10)
        if name == "gated":
            raise ModelUnavailableError("gated: set HF_TOKEN")
        return Model(name)

    pool: ModelPool[Model] = ModelPool(device, resolve, load, PoolLimits(1))
    servicer = ModelServicer(pool, lambda: ON_DISK)
    settings = ServerSettings(listen=["127.0.0.1:0"])
    server = ServiceServer([servicer.service_name], settings, Metrics())
    servicer.register(server.grpc)
    await server.start()
    server.open()
    async with grpc.aio.insecure_channel(server.addresses[0]) as channel:
        yield Shop(pool, models_pb2_grpc.ModelServiceStub(channel), go)  # pyright: ignore[reportArgumentType]
        go.set()
        await server.stop()
    await pool.close()
    assert await device.close(5)


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """The status and message that a call fails with."""

    async def finish() -> None:
        if isinstance(call, grpc.aio.UnaryUnaryCall):
            await call
        else:
            _ = [answer async for answer in call]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await finish()
    return caught.value.code(), caught.value.details() or ""


async def test_models_are_listed_with_their_state(shop: Shop) -> None:
    """Those on the disk in their order, the default first, then those that are in memory alone."""
    assert await shop.listed() == [("small", AVAILABLE), ("large", AVAILABLE)]
    shop.go.set()
    await shop.pool.load("large")
    assert await shop.listed() == [("small", AVAILABLE), ("large", LOADED)]
    await shop.pool.load("from-the-hub")
    names = await shop.listed()
    assert names == [("small", AVAILABLE), ("large", AVAILABLE), ("from-the-hub", LOADED)]


async def test_loading_streams_what_it_does_and_ends_loaded(shop: Shop) -> None:
    """Progress arrives while the model loads; the last message has the model with its revision."""
    call = aiter(shop.stub.LoadModel(models_pb2.LoadModelRequest(model="Large")))
    first = await asyncio.wait_for(anext(call), 10)
    assert (first.activity, first.model.state) == ("reading the weights", LOADING)
    assert (await shop.listed())[1] == ("large", LOADING)
    shop.go.set()
    rest = [answer async for answer in call]
    assert rest[-1].model.state == LOADED
    assert (rest[-1].model.model.id, rest[-1].model.model.revision) == ("large", "1")
    assert rest[-1].model.HasField("idle")
    again = [a async for a in shop.stub.LoadModel(models_pb2.LoadModelRequest(model="large"))]
    assert [answer.model.state for answer in again] == [LOADED]


async def test_a_client_that_leaves_a_load_does_not_stop_it(shop: Shop) -> None:
    """The device has begun; the model is there for the next one, held by nobody."""
    call = shop.stub.LoadModel(models_pb2.LoadModelRequest(model="large"))
    await call.read()
    call.cancel()
    shop.go.set()
    async with asyncio.timeout(10):
        while (await shop.listed())[1] != ("large", LOADED):  # noqa: ASYNC110 - as a client would
            await asyncio.sleep(0.01)
    assert shop.pool.states()[0].calls_in_flight == 0


async def test_a_load_that_fails_says_why(shop: Shop) -> None:
    """NOT_FOUND for no such model, FAILED_PRECONDITION for a gated one."""
    shop.go.set()
    load = shop.stub.LoadModel
    code, _ = await code_of(load(models_pb2.LoadModelRequest(model="nothing")))
    assert code is grpc.StatusCode.NOT_FOUND
    code, message = await code_of(load(models_pb2.LoadModelRequest(model="gated")))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "HF_TOKEN" in message


async def test_a_model_in_use_is_neither_unloaded_nor_pushed_out(shop: Shop) -> None:
    """Unloading is refused, another model has to come back; the list counts the calls."""
    shop.go.set()
    async with shop.pool.lease("large"):
        answer = await shop.stub.ListModels(models_pb2.ListModelsRequest())
        assert answer.models[1].calls_in_flight == 1
        assert (answer.models[0].memory_bytes, answer.models[1].memory_bytes) == (0, 12)
        assert not answer.models[1].HasField("idle")
        code, _ = await code_of(shop.stub.UnloadModel(models_pb2.UnloadModelRequest(model="large")))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        code, _ = await code_of(shop.stub.LoadModel(models_pb2.LoadModelRequest(model="small")))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    gone = await shop.stub.UnloadModel(models_pb2.UnloadModelRequest(model="large"))
    assert (gone.model.model.id, gone.model.state) == ("large", AVAILABLE)
    assert (await shop.listed())[1] == ("large", AVAILABLE)


async def test_unloading_what_is_not_loaded_is_an_error(shop: Shop) -> None:
    """NOT_FOUND for a model that is not in memory; the name must be given."""
    unload = shop.stub.UnloadModel
    code, _ = await code_of(unload(models_pb2.UnloadModelRequest(model="large")))
    assert code is grpc.StatusCode.NOT_FOUND
    code, message = await code_of(unload(models_pb2.UnloadModelRequest()))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "name the model" in message
