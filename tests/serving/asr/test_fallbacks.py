"""What happens when the device's memory runs out: alone, and in a service over real sockets."""

import contextlib
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.serving.asr.test_asr import Service, messages, segments, serving, warnings
from tests.serving.recordings import s16le, silence, tone
from voxroute.asr.v1 import asr_pb2
from voxroute_serving.asr.engine import (
    AlignmentRequest,
    DecodingOptions,
    WindowResult,
    WindowSegment,
)
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.audio.samples import Samples
from voxroute_serving.device import ladder
from voxroute_serving.domain import Activity, Stop
from voxroute_serving.errors import EngineError, OutOfMemoryError, chain
from voxroute_serving.testing.fake_engine import FakeEngine, FakeModel

# grpcio 1.85 leaves the request stream of a call that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '_MessageReceiver._async_message_receiver' was never awaited:RuntimeWarning"
)

BATCH = "OUT_OF_MEMORY_SMALLER_BATCH"
COMPUTE_TYPE = "OUT_OF_MEMORY_SMALLER_COMPUTE_TYPE"
HINDI = DecodingOptions("hi")
WINDOWS = [tone(1.0, 300.0 + 20 * i) for i in range(8)]
FILM = s16le(np.concatenate([tone(5.0, 300.0 + 20 * i) for i in range(30)]))  # 6 windows


def loaded(engine: FakeEngine) -> FallbackModel:
    """The default model."""
    return FallbackModel(engine, engine.resolve(""), lambda _: None)


def transcribe(model: FallbackModel, windows: Sequence[Samples] = tuple(WINDOWS)) -> list[str]:
    """The texts of the windows."""
    results = model.transcribe(windows, HINDI, lambda: False)
    return [segment.text.strip() for result in results for segment in result.segments]


def sizes(engine: FakeEngine) -> list[int]:
    """How many windows each call of the engine got."""
    return [len(batch.n_samples) for batch in engine.batches]


TEXTS = [f"tone {300 + 20 * i}" for i in range(8)]


def test_a_batch_that_does_not_fit_is_halved_and_the_smaller_one_is_kept() -> None:
    """Every window is answered once, in order; the next batches do not fail first."""
    engine = FakeEngine(max_batch=8, capacities={"float32": 3})
    model = loaded(engine)
    assert transcribe(model) == TEXTS
    assert sizes(engine) == [8, 4, 2, 2, 2, 2]
    assert model.max_batch == 2
    assert transcribe(model) == TEXTS
    assert sizes(engine)[6:] == [2, 2, 2, 2]
    assert [one.code for one in model.fallbacks] == [BATCH, BATCH]
    assert "8 windows at once; they are run again, 4 at once" in model.fallbacks[0].message


def test_the_whole_ladder_ends_with_the_same_text() -> None:
    """Half, a quarter, one window; then the compute types, of which one does not even load."""
    engine = FakeEngine(capacities={"float16": 0, "int8_float16": -1, "int8": 1})
    model = loaded(engine)
    assert transcribe(model) == TEXTS
    assert [one.code for one in model.fallbacks] == [BATCH, BATCH, COMPUTE_TYPE, COMPUTE_TYPE]
    assert model.compute_type == "int8"
    assert sizes(engine) == [4, 2, 1] + 8 * [1]
    assert len(engine.loads) == 2
    assert "one window beside the model as float16" in model.fallbacks[2].message
    assert "does not hold the model as int8_float16; the model runs as int8" in (
        model.fallbacks[3].message
    )


def test_after_the_last_rung_it_is_out_of_memory_until_there_is_memory_again() -> None:
    """The error says what helps; a service whose neighbour has left the device recovers."""
    engine = FakeEngine(capacities={"float16": 0, "int8": 0})
    model = loaded(engine)
    with pytest.raises(OutOfMemoryError, match="'tones' as int8 and one window; use a"):
        transcribe(model)
    engine.capacities = {"float16": 0, "int8": 1}
    assert transcribe(model) == TEXTS


def test_a_model_that_could_not_be_loaded_again_is_loaded_for_the_next_call() -> None:
    """A failed step leaves no half-closed model behind."""
    engine = FakeEngine(capacities={"float16": 0, "int8": -1})
    model = loaded(engine)
    with pytest.raises(OutOfMemoryError, match="does not hold the model as int8"):
        transcribe(model)
    assert model.effective_options(HINDI)[0].beam_size == 1
    engine.capacities = {"float16": 0, "int8": 4}
    assert transcribe(model) == TEXTS
    model.close()


def test_a_load_that_does_not_fit_takes_the_next_compute_type() -> None:
    """And with none left it is out of memory."""
    engine = FakeEngine(capacities={"float16": -1, "int8": None})
    model = loaded(engine)
    assert model.compute_type == "int8"
    assert [one.code for one in model.fallbacks] == [COMPUTE_TYPE]
    with pytest.raises(OutOfMemoryError, match="as int8"):
        loaded(FakeEngine(capacities={"float16": -1, "int8": -1}))


def test_larger_batches_are_tried_again_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that comes back is used; memory that does not costs less and less."""
    monkeypatch.setattr(ladder, "PATIENCE", 2)
    engine = FakeEngine(max_batch=4, capacities={"float32": 2})
    model = loaded(engine)
    transcribe(model, WINDOWS[:4] * 20)
    tries = [index for index, size in enumerate(sizes(engine)) if size == 4]
    assert tries == [0, 5, 14, 31]  # after 4, 8 and 16 batches of two
    engine.capacities = {"float32": 4}
    transcribe(model, WINDOWS[:4] * 20)
    assert model.max_batch == 4


def test_the_other_methods_step_down_too() -> None:
    """Language detection and alignment run in the same memory."""
    engine = FakeEngine(max_batch=8, capacities={"float32": 3})
    model = loaded(engine)
    assert len(model.detect_language(WINDOWS)) == 8
    assert model.max_batch == 2
    model = loaded(engine)
    requests = [AlignmentRequest(window, "a b", "hi") for window in WINDOWS]
    assert [len(words) for words in model.align(requests)] == [2] * 8
    assert model.max_batch == 2


def test_nothing_is_tried_again_for_nobody() -> None:
    """Where all callers have left, the failed batch is the last work."""
    engine = FakeEngine(capacities={"float16": 0, "int8": None})
    model = loaded(engine)
    with pytest.raises(OutOfMemoryError):
        model.transcribe(WINDOWS[:4], HINDI, lambda: True)
    assert sizes(engine) == [4]
    assert not model.fallbacks


class _Array:
    """Stands for an array in the device's memory."""


def test_what_a_failed_batch_held_is_free_before_the_next_begins() -> None:
    """A traceback keeps the variables of its frames alive; it must not keep the memory."""
    arrays: list[weakref.ref[_Array]] = []

    def hungry(window: Samples) -> tuple[WindowSegment, ...]:
        array = _Array()
        arrays.append(weakref.ref(array))
        if len(arrays) == 1:
            raise OutOfMemoryError("no memory") from RuntimeError("CUDA error: out of memory")
        assert arrays[0]() is None
        return (WindowSegment(0.0, len(window) / 16_000, "text"),)

    assert transcribe(loaded(FakeEngine(segments=hungry)), WINDOWS[:2]) == ["text", "text"]


# --- several threads -----------------------------------------------------------------------------


class GatheringModel(FakeModel):
    """A FakeModel whose first batches begin when all threads are in it."""

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """As the FakeModel's; notes whether it was closed meanwhile."""
        engine = cast("GatheringEngine", self._engine)
        with contextlib.suppress(threading.BrokenBarrierError):
            engine.all_in.wait(30)
        engine.all_in.abort()  # once is enough
        try:
            return super().transcribe(windows, options, stop)
        finally:
            engine.closed_meanwhile |= self.closed


class GatheringEngine(FakeEngine):
    """A FakeEngine whose memory runs out for several threads at once."""

    all_in: threading.Barrier
    closed_meanwhile = False

    def load(self, model: str, activity: Activity, compute_type: str = "") -> FakeModel:
        """A model for several threads."""
        loaded = super().load(model, activity, compute_type)
        loaded.__class__ = GatheringModel
        return loaded

    def texts(self, model: FallbackModel, *batches: Sequence[Samples]) -> list[list[str]]:
        """What each thread's windows are."""
        self.all_in = threading.Barrier(len(batches))
        with ThreadPoolExecutor(len(batches)) as pool:
            futures = [pool.submit(transcribe, model, windows) for windows in batches]
            return [future.result(60) for future in futures]


def test_two_threads_out_of_memory_at_once_replace_the_model_once() -> None:
    """The second finds room made; no window is lost, and nobody runs on a closed model."""
    engine = GatheringEngine(max_batch=1, capacities={"float16": 0, "int8": 1})
    model = loaded(engine)
    assert engine.texts(model, WINDOWS[:4], WINDOWS[4:]) == [TEXTS[:4], TEXTS[4:]]
    assert engine.loads == ["tones", "tones"]
    assert [one.code for one in model.fallbacks] == [COMPUTE_TYPE]
    assert not engine.closed_meanwhile


def test_two_threads_out_of_memory_at_once_halve_the_batch_once() -> None:
    """Eight at once failed twice, which says nothing about four."""
    engine = GatheringEngine(max_batch=8, capacities={"float32": 4})
    model = loaded(engine)
    assert engine.texts(model, WINDOWS, WINDOWS) == [TEXTS, TEXTS]
    assert [one.code for one in model.fallbacks] == [BATCH]
    assert model.max_batch == 4
    assert sorted(sizes(engine)) == [4, 4, 4, 4, 8, 8]


def test_many_threads_down_the_whole_ladder_lose_nothing() -> None:
    """Each rung is taken once, whoever is on it."""
    engine = GatheringEngine(capacities={"float16": 0, "int8_float16": -1, "int8": 1})
    model = loaded(engine)
    found = engine.texts(model, WINDOWS[2:7], WINDOWS[:5], WINDOWS[3:])
    assert found == [TEXTS[2:7], TEXTS[:5], TEXTS[3:]]
    assert [one.code for one in model.fallbacks] == [BATCH, BATCH, COMPUTE_TYPE, COMPUTE_TYPE]
    assert not engine.closed_meanwhile


def test_a_model_is_freed_after_the_batch_whose_callers_have_left() -> None:
    """Nobody leases it any more, but a batch may still run; afterwards it stays freed."""
    engine = FakeEngine(released=threading.Event())
    model = loaded(engine)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(transcribe, model, WINDOWS)  # two batches
        time.sleep(0.1)
        closing = pool.submit(model.close)
        time.sleep(0.1)
        assert not closing.done()
        assert engine.released is not None
        engine.released.set()
        closing.result(30)
        with contextlib.suppress(EngineError):  # its second batch may have come before
            running.result(30)
    with pytest.raises(EngineError, match="has been closed"):
        transcribe(model)
    assert engine.loads == ["tones"]


# --- in a service --------------------------------------------------------------------------------


async def compute_type(service: Service) -> str:
    """The compute type that the capabilities tell."""
    answer = await service.stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest())
    return answer.device.compute_type


def counted(service: Service, kind: str) -> float | None:
    """The fallbacks of a kind in the metrics."""
    return service.metrics.registry.get_sample_value("voxroute_fallbacks_total", {"kind": kind})


async def test_a_call_that_runs_out_of_memory_ends_with_the_same_segments() -> None:
    """The stream stays open, no segment is lost or doubled, and each step is a warning."""
    async with serving() as service:
        expected = segments(await service.transcribe(messages(FILM)))
    assert len(expected) == 6
    engine = FakeEngine(capacities={"float16": None, "int8_float16": 0, "int8": 1})
    async with serving(engine) as service:
        assert (counted(service, "batch"), counted(service, "compute_type")) == (0, 0)
        assert await compute_type(service) == "float16"
        engine.capacities = {**engine.capacities, "float16": 0}
        replies = await service.transcribe(messages(FILM))
        assert segments(replies) == expected
        assert replies[0].accepted.device.compute_type == "float16"
        codes = warnings(replies)
        assert codes.count(COMPUTE_TYPE) == 2
        assert set(codes) <= {BATCH, COMPUTE_TYPE}  # how many batches depends on the queue
        assert replies[-1].done.segments == 6
        assert await compute_type(service) == "int8"
        assert counted(service, "batch") == codes.count(BATCH)
        assert counted(service, "compute_type") == 2
        later = await service.transcribe(messages(FILM))
        assert segments(later) == expected
        assert warnings(later).count(COMPUTE_TYPE) == 2  # they are about its text too
        assert later[0].accepted.device.compute_type == "int8"


async def test_a_service_that_starts_with_too_little_memory_steps_down_first() -> None:
    """The warm-up finds the compute type that fits, before there is any call."""
    async with serving(FakeEngine(capacities={"float16": 0, "int8": 4})) as service:
        assert await compute_type(service) == "int8"
        assert warnings(await service.transcribe(messages(FILM))) == [COMPUTE_TYPE]


async def test_a_call_after_the_last_rung_is_resource_exhausted() -> None:
    """With the reason that tells a client to go elsewhere, and no advice to retry."""
    engine = FakeEngine(capacities={"float32": None})
    async with serving(engine) as service:
        engine.capacities = {"float32": 0}
        with pytest.raises(grpc.RpcError) as caught:
            await service.transcribe(messages(s16le(silence(1.0))))
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = {detail.TypeName() for detail in rpc_status.from_call(error).details}
        info = error_details_pb2.ErrorInfo()
        assert any(one.Unpack(info) for one in rpc_status.from_call(error).details)
        assert info.reason == "OUT_OF_MEMORY"
        assert "google.rpc.RetryInfo" not in details
        engine.capacities = {"float32": None}
        assert segments(await service.transcribe(messages(FILM)))


def test_exceptions_that_come_before_each_other_are_told_once() -> None:
    """A circle of causes ends; the errors of tasks that wait for each other can make one."""
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__context__ = second, first
    assert [*chain(first)] == [first, second]
    assert [*chain(None)] == []
