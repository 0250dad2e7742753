"""The pool of models: one load for all who wait, room made by idle ones, nothing freed in use."""

# ruff: noqa: ASYNC110 - no event tells what a pool has done

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator

import pytest

from voxroute_serving.device.batcher import DeviceThread
from voxroute_serving.device.pool import ModelPool, ModelState, PoolLimits, UnloadReason
from voxroute_serving.domain import Activity, ModelRef
from voxroute_serving.errors import (
    ModelInUseError,
    ModelNotFoundError,
    ModelUnavailableError,
    NoRoomError,
    NotReadyError,
    OutOfMemoryError,
)


class Model:
    def __init__(self, name: str, log: list[str], memory_bytes: int = 0) -> None:
        self.ref = ModelRef("test", name, "1")
        self.memory_bytes = memory_bytes
        self.closed = False
        self.thread = threading.get_ident()
        self._log = log

    def close(self) -> None:
        assert threading.get_ident() == self.thread
        self.closed = True
        self._log.append(f"-{self.ref.id}")


class Shop:
    """A pool whose loads and fetches can be held up, and that notes what it does.

    A model "3x" takes 3 bytes, and so its files say; "3x5" turns out to take 5.
    """

    def __init__(
        self, device: DeviceThread, max_loaded: int, max_bytes: int = 0, idle_ttl_s: float = 0
    ) -> None:
        self.log: list[str] = []
        self.seen: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.here = threading.Event()
        self.here.set()
        self.pool: ModelPool[Model] = ModelPool(
            device,
            self._resolve,
            self._load,
            PoolLimits(max_loaded, max_bytes, idle_ttl_s),
            fetch=self._fetch,
            observer=self,
        )

    def observe_load(self, took_s: float | None) -> None:
        self.seen.append("failed" if took_s is None else "loaded")

    def observe_unload(self, reason: UnloadReason) -> None:
        self.seen.append(reason)

    async def until(self, *names: str) -> None:
        """Returns once exactly these models are loaded."""
        async with asyncio.timeout(20):
            while sorted(s.id for s in self.pool.states() if s.ref) != sorted(names):
                await asyncio.sleep(0.01)

    def _fetch(self, model: str, activity: Activity) -> int:
        activity("fetching")
        self.here.wait(5)
        return int(model.partition("x")[0]) if model[0].isdigit() else 0

    def _resolve(self, name: str) -> str:
        if name == "nothing":
            raise ModelNotFoundError("no such model")
        return name.lower() or "default"

    def _load(self, model: str, activity: Activity) -> Model:
        activity("reading")
        self.go.wait(5)
        self.log.append(f"+{model}")
        if model == "gated":
            raise ModelUnavailableError("gated")
        sizes = [int(part) for part in model.split("x") if part.isdigit()]
        return Model(model, self.log, sizes[-1] if sizes else 0)


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    """A pool with two places."""
    device = DeviceThread()
    shop = Shop(device, 2)
    yield shop
    await shop.pool.close()
    assert await device.close(5)


async def test_all_who_wait_share_one_load(shop: Shop) -> None:
    """Ten leases of one model, under several names, load it once, and a canceled one harms none."""
    shop.go.clear()
    heard: list[str] = []

    async def use(name: str) -> Model:
        async with shop.pool.lease(name, heard.append) as model:
            return model

    tasks = [asyncio.create_task(use(name)) for name in ["A", "a"] * 5]
    await asyncio.sleep(0.05)
    assert shop.pool.states()[0].state is ModelState.LOADING
    tasks[0].cancel()
    shop.go.set()
    models = await asyncio.gather(*tasks[1:])
    assert len(set(map(id, models))) == 1
    assert shop.log == ["+a"]
    assert set(heard) == {"fetching", "reading"}
    assert shop.pool.states()[0].calls_in_flight == 0


async def test_the_least_recently_used_idle_model_makes_room(shop: Shop) -> None:
    """The third of two places frees the idle model that was used longest ago, before it loads."""
    await shop.pool.load("a")
    await shop.pool.load("b")
    async with shop.pool.lease("a"):
        pass
    await shop.pool.load("c")
    assert shop.log == ["+a", "+b", "-b", "+c"]


async def test_a_model_in_use_is_never_freed(shop: Shop) -> None:
    """Neither for another model nor by unload; both say that calls use it."""
    async with shop.pool.lease("a"), shop.pool.lease("b"):
        with pytest.raises(NoRoomError, match="no room"):
            await shop.pool.load("c")
        with pytest.raises(ModelInUseError):
            await shop.pool.unload("a")
    assert (await shop.pool.unload("a")).id == "a"
    with pytest.raises(ModelNotFoundError):
        await shop.pool.unload("a")
    assert shop.log == ["+a", "+b", "-a"]


async def test_a_failed_load_fails_all_who_wait_and_is_tried_again(shop: Shop) -> None:
    """Its place is free afterwards."""
    shop.go.clear()
    waiting = [asyncio.create_task(shop.pool.load("gated")) for _ in range(2)]
    # a load that failed before the second caller had asked would run again for it
    while [state.calls_in_flight for state in shop.pool.states()] != [2]:
        await asyncio.sleep(0)
    shop.go.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ModelUnavailableError] * 2
    assert shop.pool.states() == []
    with pytest.raises(ModelUnavailableError):
        await shop.pool.load("gated")
    assert shop.log == ["+gated", "+gated"]
    with pytest.raises(ModelNotFoundError):
        await shop.pool.load("nothing")


async def test_a_load_that_nobody_waits_for_any_more_does_not_begin(shop: Shop) -> None:
    """Leaving while the load is queued costs the device nothing, and the model can still be had."""
    shop.go.clear()
    first = asyncio.create_task(shop.pool.load("a"))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(shop.pool.load("b"))
    await asyncio.sleep(0.02)
    second.cancel()
    await asyncio.sleep(0.02)
    shop.go.set()
    await first
    assert (await shop.pool.load("b")).id == "b"
    assert shop.log == ["+a", "+b"]


async def test_close_frees_everything_and_refuses_leases(shop: Shop) -> None:
    """Every model is freed on its thread; later leases are NotReady."""
    await shop.pool.load("a")
    await shop.pool.load("b")
    await shop.pool.close()
    assert sorted(shop.log) == ["+a", "+b", "-a", "-b"]
    with pytest.raises(NotReadyError):
        await shop.pool.load("a")


@contextlib.asynccontextmanager
async def opened(max_loaded: int = 9, **limits: float) -> AsyncGenerator[Shop]:
    """A pool with other limits."""
    device = DeviceThread()
    shop = Shop(device, max_loaded, **limits)  # pyright: ignore[reportArgumentType]
    try:
        yield shop
    finally:
        shop.go.set()
        shop.here.set()
        await shop.pool.close()
        assert await device.close(5)


async def test_an_idle_model_is_freed_after_its_time_to_live() -> None:
    """On its own thread; the next lease loads it again, and its time begins anew."""
    async with opened(idle_ttl_s=0.05) as shop:
        for events in (["+a", "-a"], ["+a", "-a"] * 2):
            await shop.pool.load("a")
            async with asyncio.timeout(20):
                while shop.log != events:
                    await asyncio.sleep(0.01)
            assert shop.pool.states() == []
        assert shop.seen == ["loaded", "idle"] * 2


async def test_the_time_to_live_begins_with_the_end_of_the_last_call() -> None:
    """A model outlives it many times while a call holds it, whatever other calls did meanwhile."""
    async with opened(idle_ttl_s=0.02) as shop:
        async with shop.pool.lease("a") as model:
            for _ in range(5):
                await shop.pool.load("a")
                await asyncio.sleep(0.04)
            assert shop.pool.loaded("a") is model
            assert shop.log == ["+a"]
        await shop.until()


async def test_a_model_that_is_waited_for_is_not_freed() -> None:
    """A load that takes longer than the time to live ends with the model in the caller's hands."""
    async with opened(idle_ttl_s=0.02) as shop:
        shop.go.clear()
        waiting = asyncio.create_task(shop.pool.load("a"))
        await asyncio.sleep(0.1)
        assert shop.pool.states()[0].calls_in_flight == 1
        shop.go.set()
        assert (await waiting).id == "a"
        await shop.until()


async def test_a_load_whose_callers_have_left_is_freed_in_its_time() -> None:
    """The device finishes what it has begun; a model that nobody uses does not stay for ever."""
    async with opened(idle_ttl_s=0.02) as shop:
        shop.go.clear()
        leaving = asyncio.create_task(shop.pool.load("a"))
        await asyncio.sleep(0.05)
        leaving.cancel()
        shop.go.set()
        async with asyncio.timeout(20):
            while shop.log != ["+a", "-a"]:
                await asyncio.sleep(0.01)


async def test_calls_and_the_time_to_live_never_meet_in_one_model() -> None:
    """Five hundred calls around the moment of freeing all hold a model that is not closed."""
    async with opened(idle_ttl_s=0.001) as shop:
        for turn in range(500):
            async with shop.pool.lease("a") as model:
                await asyncio.sleep(0)
                assert shop.pool.loaded("a") is model
                assert not model.closed
            await asyncio.sleep(turn % 5 * 0.0005)


async def test_the_least_recently_used_models_make_room_in_memory() -> None:
    """As many as it takes, oldest first, and none more; what is pushed out is counted."""
    async with opened(max_bytes=10) as shop:
        for name in ("4xa", "3xb", "2xc"):
            await shop.pool.load(name)
        await shop.pool.load("4xa")  # used again: now the youngest
        await shop.pool.load("4xd")
        assert shop.log[3:] == ["-3xb", "+4xd"]
        assert sorted(state.id for state in shop.pool.states()) == ["2xc", "4xa", "4xd"]
        await shop.pool.load("9xe")
        assert sorted(shop.log[5:-1]) == ["-2xc", "-4xa", "-4xd"]
        assert shop.seen.count("memory") == 4
        assert [state.memory_bytes for state in shop.pool.states()] == [9]


async def test_memory_that_calls_use_is_not_to_be_had() -> None:
    """The caller is told to come back, nothing is freed in vain, and later there is room."""
    async with opened(max_bytes=10) as shop:
        await shop.pool.load("2xa")
        async with shop.pool.lease("7xb"):
            with pytest.raises(NoRoomError, match="--max-model-bytes") as caught:
                await shop.pool.load("4xc")
            assert caught.value.retry_after_s
            assert "'7xb'" in caught.value.message
            assert shop.log == ["+2xa", "+7xb"]
        await shop.pool.load("4xc")
        assert shop.log[2:] == ["-2xa", "-7xb", "+4xc"] or shop.log[2:] == ["-7xb", "+4xc"]
        assert "failed" not in shop.seen


async def test_a_model_larger_than_the_bound_is_refused_with_what_to_set() -> None:
    """Whatever is loaded stays: it would not help."""
    async with opened(max_bytes=10) as shop:
        await shop.pool.load("4xa")
        with pytest.raises(OutOfMemoryError, match="--max-model-bytes"):
            await shop.pool.load("11xb")
        assert shop.log == ["+4xa"]


async def test_a_model_that_turns_out_larger_pushes_out_idle_ones() -> None:
    """What was measured counts from then on, not what the files let expect."""
    async with opened(max_bytes=10) as shop:
        await shop.pool.load("4xa")
        await shop.pool.load("5x8")
        async with asyncio.timeout(20):
            while shop.log[-1] != "-4xa":  # it is out of the pool before its memory is free
                await asyncio.sleep(0.01)
        assert shop.log == ["+4xa", "+5x8", "-4xa"]
        assert [state.id for state in shop.pool.states()] == ["5x8"]


async def test_a_download_holds_up_nobody_else() -> None:
    """While one model is fetched another is loaded and used."""
    async with opened() as shop:
        shop.here.clear()
        slow = asyncio.create_task(shop.pool.load("slow"))
        await asyncio.sleep(0.02)
        shop.here.set()
        await shop.pool.load("a")
        shop.here.clear()
        await slow
        another = asyncio.create_task(shop.pool.load("other"))
        await asyncio.sleep(0.02)
        async with shop.pool.lease("a"):
            assert not another.done()
        shop.here.set()
        await another


async def test_unload_and_a_call_never_meet_in_one_model() -> None:
    """Whichever comes first, the call holds a model that is not closed to its end."""
    async with opened() as shop:

        async def call() -> None:
            async with shop.pool.lease("a") as model:
                for _ in range(3):
                    await asyncio.sleep(0)
                    assert not model.closed

        async def unload() -> bool:
            try:
                await shop.pool.unload("a")
            except (ModelInUseError, ModelNotFoundError):
                return False
            return True

        unloaded = 0
        for _ in range(200):
            await shop.pool.load("a")
            unloaded += (await asyncio.gather(unload(), call()))[0]
        assert unloaded == shop.seen.count("request")
