"""The models in the device's memory: loaded once for all who wait, freed when room is needed.

named by a call       ->  its files are fetched, on a thread of their own
files here            ->  the least recently used models without a call are freed until it fits
room there            ->  loaded on the device thread, kept while a call uses or awaits it
no call for the ttl   ->  freed on the device thread; the next call that names it loads it again
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Literal, Protocol, TypeVar

from voxroute_serving.bounds import quoted
from voxroute_serving.device.batcher import DeviceThread, run_apart
from voxroute_serving.domain import Activity, ModelRef
from voxroute_serving.errors import (
    ModelInUseError,
    ModelNotFoundError,
    NoRoomError,
    NotReadyError,
    OutOfMemoryError,
)
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import get_logger

_RETRY_S = 5.0  # advice to a call that finds no room: others' calls last seconds to minutes

UnloadReason = Literal["request", "idle", "memory"]
"""Why a model was freed; "memory" is room for another model."""

_log = get_logger(__name__)


class PooledModel(Protocol):
    """What a pool holds: something with a name that can be freed."""

    @property
    def ref(self) -> ModelRef:
        """The model's name and revision."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The device's memory that it takes, bytes; 0 where nobody knows."""
        ...

    def close(self) -> None:
        """Frees the memory of the device; runs on the device thread."""
        ...


class PoolObserver(Protocol):
    """Who is told what a pool does: the metrics."""

    def observe_load(self, took_s: float | None) -> None:
        """A model was loaded in so many seconds, downloads and conversions included; None: not."""
        ...

    def observe_unload(self, reason: UnloadReason) -> None:
        """A model was freed."""
        ...


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much a pool holds, and for how long."""

    max_loaded: int = 1
    """Models at once, at least one."""
    max_bytes: int = 0
    """What they take of the device's memory in all; 0 for any amount."""
    idle_ttl_s: float = 0.0
    """How long a model stays without a call, seconds; 0 for ever."""


Model = TypeVar("Model", bound=PooledModel)


class ModelState(Enum):
    """Where a model is in its life; the values are those of voxroute.models.v1.ModelState."""

    AVAILABLE = 1
    LOADING = 2
    LOADED = 3


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model of the pool at one moment.

    `ref` is None while the model loads; `idle_s` is None while a call uses it.
    """

    id: str
    ref: ModelRef | None
    state: ModelState
    calls_in_flight: int
    idle_s: float | None
    memory_bytes: int = 0
    """What it takes of the device's memory; 0 while it loads."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[Model]):
    """A model that is loaded or being loaded."""

    id: str
    loading: "asyncio.Task[Model] | None" = None
    model: Model | None = None
    has_room: bool = False  # false while its files are fetched
    expected_bytes: int = 0
    leases: int = 0  # calls that use it or wait for it
    idle_since: float = field(default_factory=time.monotonic)
    expiry: asyncio.TimerHandle | None = None
    activity: str = ""
    listeners: list[Activity] = field(default_factory=list["Activity"])

    @property
    def bytes(self) -> int:
        return self.expected_bytes if self.model is None else self.model.memory_bytes

    @property
    def is_idle(self) -> bool:
        return self.model is not None and not self.leases

    def stay(self) -> None:
        """Is not to be freed for being idle."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def tell(self, activity: str) -> None:
        self.activity = activity
        for listener in tuple(self.listeners):
            listener(activity)


class _AbandonedLoadError(Exception):
    """All who waited for a load left before the device got to it."""


class ModelPool(Generic[Model]):
    """Models by canonical id, within limits. All methods run on one event loop.

    `resolve` gives the canonical id of a name ("" is the default) and may touch the disk. `fetch`
    sees that a model's files are on this machine and tells about how many bytes of the device's
    memory it will take; it runs on a thread of its own, so that a download holds nobody up. `load`
    runs on the device thread, as does each model's `close`.
    """

    def __init__(
        self,
        device: DeviceThread,
        resolve: Callable[[str], str],
        load: Callable[[str, Activity], Model],
        limits: PoolLimits,
        *,
        fetch: Callable[[str, Activity], int] | None = None,
        observer: PoolObserver | None = None,
    ) -> None:
        self._device = device
        self._resolve = resolve
        self._load = load
        self._limits = limits
        self._fetch = fetch
        self._observer = observer
        self._entries: dict[str, _Entry[Model]] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def lease(
        self, name: str = "", activity: Activity | None = None
    ) -> AsyncGenerator[Model]:
        """The model, loaded if needed, and kept in memory for the length of the block.

        `activity` is called on the event loop with what the load is doing. Raises what `resolve`,
        `fetch` and `load` raise; NoRoomError where calls use the models that would have to go,
        OutOfMemoryError where the model alone is larger than the limit.
        """
        entry, model = await self._acquire(name, activity)
        try:
            yield model
        finally:
            self._release(entry)

    async def load(self, name: str = "", activity: Activity | None = None) -> ModelRef:
        """The name and revision of the model, which is in memory now. Raises as `lease` does."""
        async with self.lease(name, activity) as model:
            return model.ref

    async def unload(self, name: str) -> ModelRef:
        """Frees a model. Raises ModelNotFoundError (not loaded), ModelInUseError."""
        model_id = await asyncio.to_thread(self._resolve, name)
        entry = self._entries.get(model_id)
        if entry is None:
            raise ModelNotFoundError(f"the model {quoted(model_id)} is not loaded")
        if entry.leases or entry.model is None:
            raise ModelInUseError(
                f"calls use the model {model_id!r} ({entry.leases} now); unload it when they have"
                " ended"
            )
        ref = entry.model.ref
        await asyncio.shield(self._drop(entry, "request"))
        return ref

    def states(self) -> list[ModelStatus]:
        """The models that are loaded or being loaded, the most recently used last."""
        now = time.monotonic()
        return [
            ModelStatus(
                id=entry.id,
                ref=entry.model.ref if entry.model is not None else None,
                state=ModelState.LOADING if entry.model is None else ModelState.LOADED,
                calls_in_flight=entry.leases,
                idle_s=None if entry.leases else now - entry.idle_since,
                memory_bytes=entry.model.memory_bytes if entry.model is not None else 0,
            )
            for entry in sorted(self._entries.values(), key=lambda entry: entry.idle_since)
        ]

    def loaded(self, name_or_id: str) -> Model | None:
        """The model of a canonical id if it is in memory, without keeping it there."""
        entry = self._entries.get(name_or_id)
        return entry.model if entry is not None else None

    async def close(self) -> None:
        """Frees every model on its thread; loads that run are awaited. No call may be open."""
        self._closed = True
        loads = [entry.loading for entry in self._entries.values() if entry.loading is not None]
        await asyncio.gather(*loads, return_exceptions=True)
        await asyncio.gather(
            *(self._drop(entry) for entry in tuple(self._entries.values())), *self._background
        )

    async def _acquire(self, name: str, activity: Activity | None) -> tuple[_Entry[Model], Model]:
        """An entry with one more lease, and its model."""
        while True:
            entry = await self._entry(name)
            if activity is not None:
                entry.listeners.append(activity)
                if entry.activity and entry.model is None:
                    activity(entry.activity)
            try:
                return entry, await self._loaded(entry)
            except _AbandonedLoadError:  # this caller came in the moment of giving up
                self._release(entry)
            except BaseException:
                self._release(entry)
                raise
            finally:
                if activity is not None:
                    entry.listeners.remove(activity)

    def _release(self, entry: _Entry[Model]) -> None:
        entry.leases -= 1
        self._rest(entry)

    def _rest(self, entry: _Entry[Model]) -> None:
        """Lets the time begin after which an idle model is freed."""
        entry.idle_since = time.monotonic()
        if entry.is_idle and self._limits.idle_ttl_s and not self._closed:
            entry.stay()
            loop = asyncio.get_running_loop()
            entry.expiry = loop.call_later(self._limits.idle_ttl_s, self._drop, entry, "idle")

    async def _entry(self, name: str) -> _Entry[Model]:
        """The entry of a name with one more lease, its load begun if there was none."""
        model_id = await asyncio.to_thread(self._resolve, name)
        if self._closed:
            raise _shutting_down()
        entry = self._entries.get(model_id)
        if entry is None:
            # no await between the look and the entry: two callers never load one model twice
            entry = _Entry[Model](model_id)
            self._victims(entry)  # where calls use everything, nothing is fetched in vain
            self._entries[model_id] = entry
            entry.loading = self._in_background(self._fill(entry))
        entry.leases += 1
        entry.stay()
        return entry

    def _victims(self, entry: _Entry[Model]) -> list[_Entry[Model]]:
        """The idle models, least recently used first, that must go for this one.

        Raises NoRoomError, OutOfMemoryError.
        """
        limits, needed = self._limits, entry.expected_bytes
        if 0 < limits.max_bytes < needed:
            raise OutOfMemoryError(
                f"the model {quoted(entry.id)} takes about {_gigabytes(needed)} of memory and the"
                f" models of this service may take {_gigabytes(limits.max_bytes)} in all; raise"
                " --max-model-bytes, or use a smaller model or compute type"
            )
        others = [one for one in self._entries.values() if one is not entry and one.has_room]
        places = max(1, limits.max_loaded) - 1
        free = limits.max_bytes - sum(one.bytes for one in others)
        victims: list[_Entry[Model]] = []
        for victim in sorted(others, key=lambda one: one.idle_since):
            if len(others) - len(victims) <= places and (not limits.max_bytes or needed <= free):
                break
            if victim.is_idle:
                victims.append(victim)
                free += victim.bytes
        if len(others) - len(victims) > places:
            raise self._no_room(entry, f"{limits.max_loaded} at once", "--max-loaded-models")
        if limits.max_bytes and needed > free:
            bound = f"{_gigabytes(limits.max_bytes)} of models"
            raise self._no_room(entry, bound, "--max-model-bytes")
        return victims

    def _no_room(self, entry: _Entry[Model], bound: str, flag: str) -> NoRoomError:
        used = ", ".join(quoted(one.id) for one in self._entries.values() if one is not entry)
        return NoRoomError(
            f"there is no room for the model {quoted(entry.id)}: this service holds {bound} and"
            f" calls use {used}; retry when they have ended, or raise {flag}",
            retry_after_s=_RETRY_S,
        )

    async def _loaded(self, entry: _Entry[Model]) -> Model:
        if entry.model is not None:
            return entry.model
        assert entry.loading is not None  # noqa: S101 - an entry has a model or loads one
        # shielded: a caller that leaves must not take the model from the others who wait
        return await asyncio.shield(entry.loading)

    async def _fill(self, entry: _Entry[Model]) -> Model:
        """Fetches, makes room, loads."""
        loop = asyncio.get_running_loop()
        started = time.monotonic()

        def activity(text: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(entry.tell, text)

        def load() -> Model:
            if not entry.leases:  # all who waited have left before the device got to it
                raise _AbandonedLoadError
            with tracing.span("load model") as span:
                model = self._load(entry.id, activity)
                span.set_attribute("voxroute.model", model.ref.id)
                return model

        try:
            fetch = self._fetch
            if fetch is not None:
                entry.expected_bytes = await run_apart(lambda: fetch(entry.id, activity))
            if self._closed:
                raise _shutting_down()  # noqa: TRY301 - one way out for all failures
            if not entry.leases:
                raise _AbandonedLoadError  # noqa: TRY301 - as above
            # no await between the look and the room: two loads never count on the same memory
            victims = self._victims(entry)
            entry.has_room = True
            await asyncio.gather(*(self._drop(victim, "memory") for victim in victims))
            entry.model = await self._device.run(load)
        except (_AbandonedLoadError, NoRoomError, NotReadyError):
            self._entries.pop(entry.id, None)
            raise
        except BaseException:
            self._entries.pop(entry.id, None)
            self._observe_load(None)
            raise
        finally:
            entry.loading = None
        self._observe_load(time.monotonic() - started)
        self._trim(entry)
        self._rest(entry)
        return entry.model

    def _trim(self, entry: _Entry[Model]) -> None:
        """Frees idle models where a new one has turned out larger than its files let expect."""
        others = sorted(self._entries.values(), key=lambda one: one.idle_since)
        taken = sum(one.bytes for one in others)
        for other in others:
            if taken <= self._limits.max_bytes or not self._limits.max_bytes:
                return
            if other is not entry and other.is_idle:
                taken -= other.bytes
                self._drop(other, "memory")

    def _drop(
        self, entry: _Entry[Model], reason: UnloadReason | None = None
    ) -> "asyncio.Task[None]":
        """Frees a model that no call uses; nobody can lease it from this moment on."""
        entry.stay()
        self._entries.pop(entry.id, None)
        model, entry.model = entry.model, None
        if reason is not None and model is not None:
            _log.info("model unloaded", model=entry.id, reason=reason)
            if self._observer is not None:
                self._observer.observe_unload(reason)
        return self._in_background(self._free(model))

    async def _free(self, model: Model | None) -> None:
        if model is not None:
            await self._device.run(model.close)

    def _observe_load(self, took_s: float | None) -> None:
        if self._observer is not None:
            self._observer.observe_load(took_s)

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """A task of the pool's own: what it does to the device outlives whoever asked for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)

        def done(task: "asyncio.Task[Any]") -> None:
            self._background.discard(task)
            if not task.cancelled():
                task.exception()  # seen: whoever asked may be gone

        task.add_done_callback(done)
        return task


def _shutting_down() -> NotReadyError:
    return NotReadyError("the service is shutting down", retry_after_s=1.0)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
