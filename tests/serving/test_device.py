"""The device thread and its queue: batches, turns, cancellation, control work, the end."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence

import numpy as np
import pytest

from voxroute_serving.device import Admission, Batcher, BatchRecord, DeviceThread
from voxroute_serving.errors import EngineError, NotReadyError, QueueFullError


@pytest.fixture
async def device() -> AsyncGenerator[DeviceThread]:
    """A device thread that has ended after the test."""
    thread = DeviceThread()
    yield thread
    assert await thread.close(5)


class Bench:
    """A batcher whose first batch waits for `release`, so that the queue fills behind it."""

    def __init__(self, device: DeviceThread, limit: int = 4) -> None:
        self.batches: list[tuple[Hashable, list[object]]] = []
        self.running = threading.Event()
        self.release = threading.Event()
        self.stops: list[bool] = []
        self.records: list[BatchRecord] = []
        self.batcher: Batcher[object, object] = Batcher(
            device, self._run, lambda _: limit, self.records.append
        )

    def _run(
        self, key: Hashable, items: Sequence[object], stop: Callable[[], bool]
    ) -> Sequence[object]:
        self.batches.append((key, list(items)))
        if key == "gate":
            self.running.set()
            while not self.release.wait(0.005) and not stop():
                pass
            self.stops.append(stop())
        if key == "bad":
            raise ValueError("bad batch")
        if key == "short":
            return []
        return list(items)

    async def hold(self) -> "asyncio.Task[object]":
        """Occupies the device until `release`."""
        task = asyncio.create_task(self.batcher.submit("gate", 0))
        await asyncio.to_thread(self.running.wait, 5)
        return task

    def queue(self, key: str, *items: object, caller: str = "") -> "list[asyncio.Task[object]]":
        return [
            asyncio.create_task(self.batcher.submit(key, item, caller=caller)) for item in items
        ]


async def test_waiting_items_of_one_key_share_a_batch(device: DeviceThread) -> None:
    """While the device is busy the queue fills; equal keys go together, up to the limit."""
    bench = Bench(device)
    held = await bench.hold()
    tasks = bench.queue("a", 1, 2, 3, 4, 5) + bench.queue("b", 6)
    await asyncio.sleep(0.01)
    assert bench.batcher.queued == 6
    bench.release.set()
    await asyncio.gather(held, *tasks)
    assert bench.batches[1:] == [("a", [1, 2, 3, 4]), ("a", [5]), ("b", [6])]
    assert [record.size for record in bench.records] == [1, 4, 1, 1]
    assert bench.records[1].queue_s > 0


async def test_callers_take_turns(device: DeviceThread) -> None:
    """A caller with one item is not kept waiting by one with many, of whatever key."""
    bench = Bench(device, limit=2)
    held = await bench.hold()
    tasks = bench.queue("a", 1, 2, 3, 4, 5, 6, caller="film")
    tasks += bench.queue("a", 10, caller="short") + bench.queue("b", 20, caller="other")
    await asyncio.sleep(0.01)
    bench.release.set()
    await asyncio.gather(held, *tasks)
    assert bench.batches[1:] == [
        ("a", [1, 10]),
        ("b", [20]),
        ("a", [2, 3]),
        ("a", [4, 5]),
        ("a", [6]),
    ]


async def test_a_cancelled_item_leaves_the_queue(device: DeviceThread) -> None:
    """Arrays of one key too, whose comparison has no single truth; it never runs."""
    bench = Bench(device)
    held = await bench.hold()
    tasks = bench.queue("a", *(np.zeros(3) + n for n in range(3)))
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0.01)
    assert bench.batcher.queued == 1
    bench.release.set()
    await asyncio.gather(held, tasks[0])
    assert len(bench.batches[1][1]) == 1


async def test_stop_turns_true_when_all_callers_are_gone(device: DeviceThread) -> None:
    """The device comes back from a batch that nobody waits for, and takes the next."""
    bench = Bench(device)
    held = await bench.hold()
    held.cancel()
    (task,) = bench.queue("a", 1)
    await asyncio.wait_for(task, 5)
    assert bench.stops == [True]


async def test_stop_stays_false_while_one_caller_waits(device: DeviceThread) -> None:
    """One of two callers leaving does not stop their batch."""
    stops: list[bool] = []
    go, running = threading.Event(), threading.Event()

    def run(key: Hashable, items: Sequence[int], stop: Callable[[], bool]) -> Sequence[int]:
        if key == "a":
            running.set()
            go.wait(5)
            stops.append(stop())
        return items

    batcher: Batcher[int, int] = Batcher(device, run, lambda _: 8)
    pause = threading.Event()
    blocked = asyncio.create_task(device.run(lambda: pause.wait(5)))
    one, two = (asyncio.create_task(batcher.submit("a", n)) for n in (1, 2))
    await asyncio.sleep(0.01)
    pause.set()
    await blocked
    await asyncio.to_thread(running.wait, 5)
    one.cancel()
    await asyncio.sleep(0.01)
    go.set()
    assert (await two).result == 2
    assert stops == [False]


async def test_control_work_goes_ahead_of_batches(device: DeviceThread) -> None:
    """A load that is asked for later runs before batches that wait."""
    bench = Bench(device)
    held = await bench.hold()
    tasks = bench.queue("a", 1)
    await asyncio.sleep(0.01)
    control = asyncio.create_task(device.run(lambda: len(bench.batches)))
    await asyncio.sleep(0.01)
    bench.release.set()
    assert await control == 1
    await asyncio.gather(held, *tasks)


@pytest.mark.parametrize(("key", "error"), [("bad", ValueError), ("short", EngineError)])
async def test_a_failing_batch_fails_its_items_alone(
    key: str, error: type[Exception], device: DeviceThread
) -> None:
    """Every item gets the exception (or EngineError for too few results); the thread lives."""
    bench = Bench(device)
    outcomes = await asyncio.gather(*bench.queue(key, 1, 2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [error, error]
    (task,) = bench.queue("a", 1)
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("error", [SystemExit, StopIteration, asyncio.CancelledError])
async def test_exceptions_that_asyncio_takes_for_its_own_are_wrapped(
    error: type[BaseException], device: DeviceThread
) -> None:
    """A library that calls sys.exit() fails its work, not the event loop."""

    def work() -> None:
        raise error

    with pytest.raises(RuntimeError, match=error.__name__):
        await asyncio.wait_for(device.run(work), 5)
    assert await device.run(lambda: 7) == 7


async def test_failing_hooks_do_not_end_the_thread(device: DeviceThread) -> None:
    """An unknown key's limit fails its items; a record that fails costs nothing."""

    def record(_: BatchRecord) -> None:
        raise ValueError

    limits = {"a": 2}
    batcher: Batcher[int, int] = Batcher(
        device, lambda _, items, __: items, lambda key: limits[str(key)], record
    )
    with pytest.raises(KeyError):
        await asyncio.wait_for(batcher.submit("?", 1), 5)
    assert (await asyncio.wait_for(batcher.submit("a", 1), 5)).result == 1


async def test_close_settles_everything_that_waits() -> None:
    """The running batch ends as it would; what is queued, and what comes later, is NotReady."""
    device = DeviceThread()
    bench = Bench(device)
    held = await bench.hold()
    tasks = bench.queue("a", 1, 2)
    control = asyncio.create_task(device.run(lambda: 1))
    await asyncio.sleep(0.01)
    close = asyncio.create_task(device.close(5))
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, control, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [NotReadyError] * 3
    bench.release.set()
    assert await held
    assert await close
    for late in (bench.batcher.submit("a", 1), device.run(lambda: 1)):
        with pytest.raises(NotReadyError):
            await asyncio.wait_for(late, 5)


async def test_closing_a_thread_that_hangs_says_so() -> None:
    """Close gives up after its time; the daemon thread does not hold the process."""
    device = DeviceThread()
    go = threading.Event()
    task = asyncio.create_task(device.run(lambda: go.wait(10)))
    await asyncio.sleep(0.05)
    assert not await device.close(0.05)
    go.set()
    await task
    assert await device.close(5)


async def test_admission_refuses_at_the_door() -> None:
    """One call more than the capacity is QueueFull with advice; a place comes back in any case."""
    admission = Admission(1)
    async with admission.permit():
        with pytest.raises(QueueFullError) as caught:
            async with admission.permit():
                pass
        assert caught.value.retry_after_s
    with pytest.raises(ValueError, match="x"):
        async with admission.permit():
            raise ValueError("x")
    assert admission.in_flight == 0
