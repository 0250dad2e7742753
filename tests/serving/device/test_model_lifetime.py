"""The life of models in a service over real sockets: preloaded, idle, pushed out, too large."""

import asyncio
import threading
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tests.serving.asr.test_asr import Replies, Service, config, messages, segments, serving
from tests.serving.recordings import s16le, tone
from voxroute.asr.v1 import asr_pb2
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute_serving.testing.fake_engine import DEFAULT_MODEL, OTHER_MODEL, FakeEngine
from voxroute_serving.testing.served import until

# grpcio 1.85 leaves the request stream of a call that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '_MessageReceiver._async_message_receiver' was never awaited:RuntimeWarning"
)

SOUND = s16le(tone(1.0, 440.0))
LOADED = models_pb2.MODEL_STATE_LOADED


async def loaded(service: Service) -> dict[str, int]:
    """The models in memory and the bytes that each takes, as ModelService lists them."""
    stub: Any = models_pb2_grpc.ModelServiceStub(service.channel)  # pyright: ignore[reportArgumentType]
    answer = await stub.ListModels(models_pb2.ListModelsRequest())
    return {one.model.id: one.memory_bytes for one in answer.models if one.state == LOADED}


async def until_loaded(service: Service, *names: str) -> None:
    """Returns once exactly these models are in memory."""
    async with asyncio.timeout(20):
        while sorted(await loaded(service)) != sorted(names):  # noqa: ASYNC110 - as a client would
            await asyncio.sleep(0.02)


async def transcribe(service: Service, model: str = "") -> Replies:
    """The answers to a second of a tone."""
    return await service.transcribe(messages(SOUND, config(model=model)))


def counted(service: Service, name: str, **labels: str) -> float | None:
    """A value of the metrics; None where there is no such."""
    return service.metrics.registry.get_sample_value(name, labels)


def details(error: Any) -> tuple[str, bool]:
    """ErrorInfo's reason, and whether the client is told when to come back."""
    found = list(rpc_status.from_call(error).details)
    info = error_details_pb2.ErrorInfo()
    assert any(one.Unpack(info) for one in found)
    return info.reason, any(one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in found)


async def test_an_idle_model_is_freed_while_health_stays_serving_and_comes_back_with_a_call() -> (
    None
):
    """The next call is told that the model loads, as the first one was, and gets its answer."""
    engine = FakeEngine(load_delay_s=0.8)
    async with serving(engine, model_idle_ttl_s=0.2) as service:
        await until_loaded(service)
        health: Any = health_pb2_grpc.HealthStub(service.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        capabilities = await service.stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
        assert list(capabilities.languages) == ["hi", "en"]  # known without the model
        replies = await transcribe(service)
        assert replies[0].progress.stage == asr_pb2.STAGE_LOADING
        assert [one.text for one in segments(replies)] == ["tone 440"]
        await until_loaded(service)
        assert engine.loads == [DEFAULT_MODEL] * 2
        assert counted(service, "voxroute_model_unloads_total", reason="idle") == 2


async def test_a_call_is_never_interrupted_by_the_time_to_live() -> None:
    """A call that the device keeps waiting for ten times as long holds its model."""
    engine = FakeEngine()
    async with serving(engine, model_idle_ttl_s=0.05) as service:
        await until_loaded(service)
        engine.released = threading.Event()
        call = asyncio.create_task(transcribe(service))
        assert await until(lambda: len(engine.loads) == 2)
        await asyncio.sleep(0.5)
        assert list(await loaded(service)) == [DEFAULT_MODEL]
        engine.released.set()
        assert segments(await call)
        assert engine.loads == [DEFAULT_MODEL] * 2
        await until_loaded(service)


async def test_a_model_makes_room_for_another_within_the_bound() -> None:
    """Two of 6 bytes do not fit into 10: the one without a call goes, and is counted."""
    engine = FakeEngine(sizes={DEFAULT_MODEL: 6, OTHER_MODEL: 6})
    async with serving(engine, max_model_bytes="10") as service:
        assert await loaded(service) == {DEFAULT_MODEL: 6}
        assert segments(await transcribe(service, OTHER_MODEL))
        assert await loaded(service) == {OTHER_MODEL: 6}
        assert counted(service, "voxroute_model_unloads_total", reason="memory") == 1
        assert counted(service, "voxroute_model_memory_bytes") == 6


async def test_a_model_that_calls_leave_no_room_for_is_to_be_asked_for_again() -> None:
    """RESOURCE_EXHAUSTED with RetryInfo while the other is in use; later the same call works."""
    engine = FakeEngine(sizes={DEFAULT_MODEL: 6, OTHER_MODEL: 6})
    async with serving(engine, max_model_bytes=10) as service:
        engine.released = threading.Event()
        call = asyncio.create_task(transcribe(service))
        assert await until(lambda: service.admission.in_flight == 1)
        with pytest.raises(grpc.RpcError, match="--max-model-bytes") as caught:
            await transcribe(service, OTHER_MODEL)
        assert details(caught.value) == ("NO_ROOM", True)
        engine.released.set()
        assert segments(await call)
        assert segments(await transcribe(service, OTHER_MODEL))


async def test_a_model_larger_than_the_bound_is_refused_for_good() -> None:
    """The reason sends clients to other services; there is no advice to come back."""
    engine = FakeEngine(sizes={OTHER_MODEL: 11})
    async with serving(engine, max_model_bytes=10) as service:
        with pytest.raises(grpc.RpcError, match="--max-model-bytes") as caught:
            await transcribe(service, OTHER_MODEL)
        assert details(caught.value) == ("OUT_OF_MEMORY", False)


async def test_preloaded_models_are_there_before_the_first_call() -> None:
    """Beside the default; where there is no room for all, what was named first stays."""
    async with serving(FakeEngine(), preload_models=[OTHER_MODEL]) as service:
        assert sorted(await loaded(service)) == sorted([DEFAULT_MODEL, OTHER_MODEL])
    engine = FakeEngine(sizes={DEFAULT_MODEL: 6, OTHER_MODEL: 6})
    async with serving(engine, preload_models=[OTHER_MODEL], max_model_bytes=10) as service:
        assert list(await loaded(service)) == [DEFAULT_MODEL]
