"""The device thread and its queue: batches, turns, cancellation, control work, the end."""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import pytest

from voxroute_serving.device.batcher import (
    Admission,
    Batcher,
    BatchRecord,
    DeviceThread,
    one_after_another,
)
from voxroute_serving.errors import EngineError, NotReadyError, QueueFullError


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


async def test_what_was_begun_first_goes_on_first(device: DeviceThread) -> None:
    """Second decodings of the first windows go before the first ones of those after them."""
    batches: list[Sequence[str]] = []

    def run(_: Hashable, items: Sequence[str], stop: Callable[[], bool]) -> Sequence[str]:
        batches.append(items)
        wanted = {1: 12, 3: 4 + 2 * 4}.get(len(batches), 0)
        while batcher.queued < wanted and not stop():
            time.sleep(0.005)
        return items

    batcher = Batcher[str, str](device, run, lambda _: 4)

    async def thrice(name: str) -> None:
        with one_after_another():
            await batcher.submit("a", name, caller="")
            more = (batcher.submit("a", f"{name}{i}", caller="") for i in (2, 3))
            await asyncio.gather(*more)

    await asyncio.gather(batcher.submit("held", "", caller=""), *map(thrice, "ABCDEFGHIJKL"))
    turn = {item: n for n, batch in enumerate(batches) for item in batch}
    assert [turn[name] for name in "ABCD"] == [1, 1, 1, 1]
    seconds = ("A2", "A3", "B2", "B3", "C2", "C3", "D2", "D3")
    assert max(turn[item] for item in seconds) < min(turn[name] for name in "IJKL")


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


# --- several threads -----------------------------------------------------------------------------


class Floor:
    """A batcher over several threads whose batches wait to be let go, each on its own."""

    def __init__(self, device: DeviceThread, limit: int = 2, **fields: Any) -> None:
        self.begun: list[tuple[Hashable, list[int]]] = []
        self.threads: set[str] = set()
        self.most = 0  # batches at once
        self._going: list[threading.Event] = []
        self._changed = threading.Condition()
        self._n_now = 0
        self.batcher: Batcher[int, int] = Batcher(device, self._run, lambda _: limit, **fields)

    def _run(self, key: Hashable, items: Sequence[int], _: Callable[[], bool]) -> Sequence[int]:
        go = threading.Event()
        with self._changed:
            self.begun.append((key, list(items)))
            self.threads.add(threading.current_thread().name + str(threading.get_ident()))
            self._going.append(go)
            self._n_now += 1
            self.most = max(self.most, self._n_now)
            self._changed.notify_all()
        assert go.wait(30)
        with self._changed:
            self._n_now -= 1
        return items

    async def see(self, n_begun: int) -> None:
        """Waits until so many batches have begun."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: len(self.begun) >= n_begun, 30)

        assert await asyncio.to_thread(wait)

    def let_go(self, *indices: int) -> None:
        """Ends the batches that began first, second and so on."""
        for index in indices:
            self._going[index].set()

    def ask(self, key: str, *items: int, caller: str = "") -> "list[asyncio.Task[Any]]":
        return [
            asyncio.create_task(self.batcher.submit(key, item, caller=caller)) for item in items
        ]

    def batches_take(self, seconds: float) -> None:
        """Lets the batcher think that its last batch took so long."""
        self.batcher._batch_s = seconds  # pyright: ignore[reportPrivateUsage] - nobody could wait


async def test_several_threads_run_as_many_batches_at_once(device: DeviceThread) -> None:
    """Each item once; a thread that is free takes what waits."""
    device.grow(3)
    device.grow(2)  # never fewer
    floor = Floor(device)
    tasks = [task for key in "abcd" for task in floor.ask(key, 1, 2)]
    await floor.see(3)
    await asyncio.sleep(0.05)
    assert [key for key, _ in floor.begun] == ["a", "b", "c"]
    assert len(floor.threads) == floor.most == 3
    floor.let_go(1)
    await floor.see(4)
    floor.let_go(0, 2, 3)
    assert [one.result for one in await asyncio.gather(*tasks)] == [1, 2] * 4


async def test_a_lone_thread_runs_one_thing_after_the_other(device: DeviceThread) -> None:
    """Loads, batches of any source and frees: MLX's arrays belong to the thread that made them."""
    floor, other = Floor(device), Floor(device)
    idents = [await device.run(threading.get_ident)]
    tasks = floor.ask("a", 1, 2, 3) + other.ask("b", 1)
    for number, one in enumerate((floor, other, floor)):
        await one.see(1 + number // 2)
        assert floor.most + other.most <= 1 + (number > 0)
        one.let_go(number // 2)
    await asyncio.gather(*tasks)
    idents.append(await device.run(threading.get_ident))
    assert len({*idents}) == len(floor.threads | other.threads) == 1
    assert floor.most == other.most == 1


async def test_full_batches_go_first(device: DeviceThread) -> None:
    """Before an older item whose batch is not full, which goes on waiting while others run."""
    device.grow(2)
    # the second item comes when the device may have looked already
    floor = Floor(device, linger_s=lambda key: 1.0 if key == "gate" else 0.0)
    floor.batches_take(1000.0)
    held = floor.ask("gate", 1, 2)
    await floor.see(1)
    tasks = floor.ask("lone", 1, caller="one")
    await asyncio.sleep(0.05)
    tasks += floor.ask("pair", 1, 2, caller="other")
    await floor.see(2)
    assert floor.begun[1] == ("pair", [1, 2])
    floor.let_go(0, 1)
    await floor.see(3)
    assert floor.begun[2] == ("lone", [1])
    floor.let_go(2)
    await asyncio.gather(*held, *tasks)


async def test_a_batch_that_is_not_full_waits_for_two_batches_at_most(
    device: DeviceThread,
) -> None:
    """While others run: what comes meanwhile goes along, and then it runs though they still do."""
    device.grow(2)
    floor = Floor(device, limit=3, linger_s=lambda key: 0.0 if key == "gate" else 1000.0)
    floor.batches_take(1.0)
    held = floor.ask("gate", 1)
    await floor.see(1)
    asked = time.monotonic()
    tasks = floor.ask("a", 1)
    await asyncio.sleep(0.1)
    tasks += floor.ask("a", 2)
    await floor.see(2)
    waited_s = time.monotonic() - asked
    assert floor.begun[1] == ("a", [1, 2])
    assert waited_s > 1.5
    floor.let_go(0, 1)
    await asyncio.gather(*held, *tasks)


async def test_a_batch_that_is_not_full_runs_once_the_device_is_idle(device: DeviceThread) -> None:
    """Nothing fills it but what others finish; it does not wait out its time."""
    device.grow(2)
    # the second item comes when the device may have looked already
    floor = Floor(device, linger_s=lambda key: 1.0 if key == "gate" else 0.0)
    floor.batches_take(1000.0)
    held = floor.ask("gate", 1, 2)
    await floor.see(1)
    tasks = floor.ask("a", 1)
    await asyncio.sleep(0.1)
    assert len(floor.begun) == 1
    floor.let_go(0)
    await floor.see(2)
    floor.let_go(1)
    await asyncio.gather(*held, *tasks)


async def test_most_of_a_batch_runs_beside_others_once_no_more_comes(device: DeviceThread) -> None:
    """The last windows of a film do not wait for batches that have just begun; a few of them do."""
    device.grow(4)
    linger_s = {"gate": 1000.0, "last": 0.1}
    floor = Floor(device, limit=4, linger_s=lambda key: linger_s[str(key)], workers=lambda _: 4)
    floor.batches_take(1000.0)
    held = floor.ask("gate", 0)  # a quarter of a batch, which an idle device takes at once
    await floor.see(1)
    held += floor.ask("gate", *range(1, 5))
    await floor.see(2)
    tasks = floor.ask("last", 1, 2)
    await asyncio.sleep(0.3)
    assert len(floor.begun) == 2
    tasks += floor.ask("last", 3)
    await floor.see(3)
    assert floor.begun[2] == ("last", [1, 2, 3])
    floor.let_go(0, 1, 2)
    await asyncio.gather(*held, *tasks)


async def test_a_quarter_of_a_batch_runs_at_once_where_nothing_does(device: DeviceThread) -> None:
    """The start of a film: several workers do nothing, and a batch takes a second to fill."""
    device.grow(2)
    floor = Floor(device, limit=4, linger_s=lambda _: 1000.0, workers=lambda _: 2)
    first = floor.ask("film", 1)
    await floor.see(1)
    more = floor.ask("film", 2, 3)
    await asyncio.sleep(0.1)
    assert floor.begun == [("film", [1])]
    more += floor.ask("film", 4, 5)
    await floor.see(2)
    assert floor.begun[1] == ("film", [2, 3, 4, 5])
    floor.let_go(0, 1)
    await asyncio.gather(*first, *more)


async def test_an_idle_device_lingers_for_what_comes_next(device: DeviceThread) -> None:
    """A full batch runs at once, a small one after `linger_s`."""
    device.grow(3)
    floor = Floor(device, linger_s=lambda key: 0.3 if key == "soon" else 1000.0)
    tasks = floor.ask("a", 1)
    await asyncio.sleep(0.1)
    assert not floor.begun
    tasks += floor.ask("a", 2)
    await floor.see(1)
    floor.let_go(0)
    await asyncio.gather(*tasks)
    asked = time.monotonic()
    tasks = floor.ask("soon", 3)
    await floor.see(2)
    assert time.monotonic() - asked >= 0.3
    floor.let_go(1)
    await asyncio.gather(*tasks)


async def test_a_caller_who_fills_batch_after_batch_starves_nobody(device: DeviceThread) -> None:
    """An item of another key runs after two batches, though full ones of a film always wait."""
    device.grow(2)
    ran: list[Hashable] = []

    def run(key: Hashable, items: Sequence[int], _: Callable[[], bool]) -> Sequence[int]:
        ran.append(key)
        time.sleep(0.05)
        return items

    batcher: Batcher[int, int] = Batcher(device, run, lambda _: 2)
    film = [asyncio.create_task(batcher.submit("film", n, caller="film")) for n in range(60)]
    await asyncio.sleep(0.1)
    before = len(ran)
    await batcher.submit("short", 1, caller="short")
    # two batches on each thread while it waits, and one that was about to begin
    assert ran.index("short") - before <= 6
    assert not all(task.done() for task in film)
    await asyncio.gather(*film)


async def test_a_source_may_keep_to_one_batch_at_a_time(device: DeviceThread) -> None:
    """The other threads go on with what else waits."""
    device.grow(3)
    alone, others = Floor(device, limit=1, max_running=1), Floor(device, limit=1)
    tasks = alone.ask("a", 1, 2) + others.ask("b", 1, 2)
    await alone.see(1)
    await others.see(2)
    assert alone.begun == [("a", [1])]
    alone.let_go(0)
    await alone.see(2)
    alone.let_go(1)
    others.let_go(0, 1)
    await asyncio.gather(*tasks)
    assert alone.most == 1


async def test_close_ends_all_threads() -> None:
    """Those that wait for a batch to fill too; what runs ends, the rest is NotReady."""
    device = DeviceThread("several")
    device.grow(3)
    floor = Floor(device)
    floor.batches_take(1000.0)
    tasks = floor.ask("a", 1)
    await floor.see(1)
    tasks += floor.ask("b", 2)
    closing = asyncio.create_task(device.close(30))
    (refused,) = await asyncio.gather(tasks[1], return_exceptions=True)
    assert isinstance(refused, NotReadyError)
    assert not closing.done()
    floor.let_go(0)
    assert await closing
    assert (await tasks[0]).result == 1
    device.grow(5)
    assert not [one for one in threading.enumerate() if one.name == "several"]


@pytest.mark.parametrize("n_threads", [1, 3])
async def test_every_item_of_many_callers_is_answered_once(
    n_threads: int, device: DeviceThread
) -> None:
    """Whatever keys, sizes, failures and departures: an outcome for whoever stays."""
    device.grow(n_threads)
    seen: list[int] = []

    def run(key: Hashable, items: Sequence[int], _: Callable[[], bool]) -> Sequence[int]:
        seen.extend(items)
        time.sleep(0.001)
        if key == 3:
            raise ValueError("bad batch")
        return [-item for item in items]

    batcher: Batcher[int, int] = Batcher(device, run, lambda _: 4)
    tasks = [asyncio.create_task(batcher.submit(n % 5, n, caller=str(n % 7))) for n in range(300)]
    await asyncio.sleep(0.01)
    for task in tasks[::11]:
        task.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    for n, outcome in enumerate(outcomes):
        if isinstance(outcome, asyncio.CancelledError):
            assert n % 11 == 0
        elif n % 5 == 3:
            assert isinstance(outcome, ValueError)
        else:
            assert not isinstance(outcome, BaseException)
            assert outcome.result == -n
    assert len(seen) == len(set(seen))
    assert batcher.queued == 0


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
