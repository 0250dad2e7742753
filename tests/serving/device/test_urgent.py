"""Work that goes before other work, but not always; and recordings beside live streams."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from voxroute_serving.asr.engine import DecodingOptions
from voxroute_serving.asr.queues import DeviceQueues
from voxroute_serving.audio.samples import Samples
from voxroute_serving.device.batcher import Batcher, DeviceThread
from voxroute_serving.errors import NotReadyError
from voxroute_serving.testing.fake_engine import FakeEngine, FakeModel


class Bench:
    """Two ordinary sources and an urgent one, and a gate that the first batch waits behind."""

    def __init__(self, device: DeviceThread) -> None:
        self.done: list[str] = []
        self.gate, self._at_gate = threading.Event(), threading.Event()
        self.files, self.others, self.live = (
            Batcher[str, str](device, self._run, lambda _: 1, urgent=urgent)
            for urgent in (False, False, True)
        )

    def _run(self, _key: object, items: Sequence[str], _stop: object) -> Sequence[str]:
        if items == ["gate"]:
            self._at_gate.set()
            self.gate.wait(10)
        self.done += items
        return items

    async def hold(self, source: Batcher[str, str]) -> "asyncio.Task[object]":
        task = asyncio.create_task(source.submit("k", "gate"))
        assert await asyncio.to_thread(self._at_gate.wait, 5)
        return task

    @staticmethod
    def queue(source: Batcher[str, str], texts: str) -> "list[asyncio.Task[object]]":
        return [asyncio.create_task(source.submit("k", text)) for text in texts]


async def test_urgent_work_goes_first_but_every_other_time(device: DeviceThread) -> None:
    """Recordings are late by no more than as much again, and take turns among themselves."""
    bench = Bench(device)
    held = await bench.hold(bench.files)
    tasks = bench.queue(bench.files, "abcd") + bench.queue(bench.others, "AB")
    tasks += bench.queue(bench.live, "1234")
    await asyncio.sleep(0.01)
    bench.gate.set()
    await asyncio.gather(held, *tasks)
    order = bench.done[1:]
    assert order[:8:2] == ["1", "2", "3", "4"]
    assert sorted(order[1:4:2]) == ["A", "a"]
    assert sorted(order) == sorted("abcdAB1234")


async def test_after_urgent_work_others_are_asked_first(device: DeviceThread) -> None:
    """Whatever comes meanwhile."""
    bench = Bench(device)
    held = await bench.hold(bench.live)
    tasks = bench.queue(bench.live, "12") + bench.queue(bench.files, "a")
    await asyncio.sleep(0.01)
    bench.gate.set()
    await asyncio.gather(held, *tasks)
    assert bench.done[1:] == ["a", "1", "2"]


async def test_urgent_work_alone_follows_itself(device: DeviceThread) -> None:
    """Nothing is waited for."""
    bench = Bench(device)
    await asyncio.wait_for(asyncio.gather(*bench.queue(bench.live, "12345")), 2)
    assert bench.done == list("12345")


async def test_urgent_work_goes_while_a_batch_of_others_fills() -> None:
    """A batch that lingers is no batch yet."""
    device = DeviceThread()
    done: list[str] = []

    def run(_key: object, items: Sequence[str], _stop: object) -> Sequence[str]:
        done.extend(items)
        return items

    files = Batcher[str, str](device, run, lambda _: 4, linger_s=lambda _: 0.3)
    live = Batcher[str, str](device, run, lambda _: 4, urgent=True)
    slow = asyncio.create_task(files.submit("k", "a"))
    await asyncio.sleep(0.02)
    for text in "123":
        await live.submit("k", text)
    await slow
    assert done == ["1", "2", "3", "a"]
    assert await device.close(5)


async def test_urgent_work_is_dropped_with_the_rest() -> None:
    """Where the device closes; none is taken any more."""
    device = DeviceThread()
    bench = Bench(device)
    held = await bench.hold(bench.files)
    waiting = bench.queue(bench.live, "12") + bench.queue(bench.files, "a")
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(device.close(5))
    await asyncio.sleep(0.01)
    bench.gate.set()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, NotReadyError)
    assert await closing
    await held
    with pytest.raises(NotReadyError):
        await bench.live.submit("k", "3")


class Newest:
    """Live work that tells when it was taken."""

    def __init__(self) -> None:
        self.n = 100

    def take(self) -> Samples:
        return np.zeros(self.n, np.float32)


def loaded(engine: FakeEngine) -> FakeModel:
    """Its model."""
    return engine.load("tones", lambda _: None)


OPTIONS = DecodingOptions("hi", beam_size=1, temperatures=(0.0,))


async def sizes_of(queues: DeviceQueues, model: FakeModel, n: int) -> list[int]:
    """The sizes of the batches that so many windows of a recording make."""
    engine = model._engine
    engine.batches.clear()
    window = np.zeros(1_000, np.float32)
    await asyncio.gather(*(queues.transcribe(model, OPTIONS, window) for _ in range(n)))
    return [len(batch.n_samples) for batch in engine.batches]


async def test_batches_of_recordings_are_smaller_beside_live_streams(device: DeviceThread) -> None:
    """So that no live stream waits for long; and large again when the last has ended."""
    engine = FakeEngine(max_batch=8, delay_s=0.2)
    model = loaded(engine)
    queues = DeviceQueues(device, 0, max_live_streams=4)
    await queues.transcribe(model, OPTIONS, np.zeros(1_000, np.float32))  # alone: 0.2 s a window
    with queues.pace.stream():
        assert await sizes_of(queues, model, 5) == [2, 2, 1]
        engine.delay_s = 0.0
        # windows that take no time have large batches
        assert max(await sizes_of(queues, model, 60)) == 8
    assert (await sizes_of(queues, model, 8)) == [8]


async def test_a_slow_window_is_a_batch_of_its_own_beside_live_streams(
    device: DeviceThread,
) -> None:
    """Not none."""
    engine = FakeEngine(max_batch=8, delay_s=0.51)
    model = loaded(engine)
    queues = DeviceQueues(device, 0, max_live_streams=4)
    await queues.transcribe(model, OPTIONS, np.zeros(1_000, np.float32))
    with queues.pace.stream():
        assert await sizes_of(queues, model, 2) == [1, 1]
    assert await sizes_of(queues, model, 2) == [2]


async def test_a_live_window_is_taken_when_the_device_is_free(device: DeviceThread) -> None:
    """What has come while it waited is in it; live streams share a batch."""
    engine = FakeEngine(max_batch=8, delay_s=0.1)
    model = loaded(engine)
    queues = DeviceQueues(device, 0, max_live_streams=4)
    works = [Newest() for _ in range(3)]
    busy = asyncio.create_task(queues.transcribe(model, OPTIONS, np.zeros(50, np.float32)))
    await asyncio.sleep(0.05)
    live = [asyncio.create_task(queues.transcribe_live(model, OPTIONS, one)) for one in works]
    await asyncio.sleep(0.01)
    assert queues.queued >= 3
    for one in works:
        one.n = 777
    await asyncio.gather(busy, *live)
    assert engine.batches[-1].n_samples == (777, 777, 777)
    assert queues.pace.window_s == pytest.approx(0.1 / 3, rel=0.5)
