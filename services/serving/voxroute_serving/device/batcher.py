"""The threads that touch the device, the queue before them, and the admission of calls.

MLX arrays belong to the thread that made them: its models are built, run and freed on one thread.
CTranslate2 is free of that, and needs several threads to keep a GPU busy. Calls are admitted or
refused at the door (`Admission`); the work of admitted calls is batched across calls (`Batcher`).
"""

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from voxroute_serving.device.places import Places, all_taken, working
from voxroute_serving.errors import EngineError, NotReadyError, QueueFullError
from voxroute_serving.telemetry import logs, request_ids, tracing
from voxroute_serving.telemetry.request_ids import request_id

Item = TypeVar("Item")
Result = TypeVar("Result")
T = TypeVar("T")

# How long work is held back so that batches are full.
_MAX_WAIT_BATCHES = 2.0  # behind full batches of others, in times of the last batch
_MAX_LINGERS = 5  # before a free worker, while items go on arriving; in times of `linger_s`
# Batches of which one that is not full is one: several small ones together take a GPU as long as
# full ones, so what is left over waits for more of its kind.
_WITH_SMALL = 2
_SHARE_WHEN_IDLE = 0.25  # of a batch, for which a GPU that does nothing is not left waiting
_HALF = 0.5
_LOOK_S = 1.0  # before workers that are busy: a batch that ends lets the queue be looked at anyway

_log = logs.get_logger(__name__)
_began: contextvars.ContextVar[float | None] = contextvars.ContextVar("began", default=None)


def _closed_error() -> NotReadyError:
    return NotReadyError("the service is shutting down", retry_after_s=1.0)


class Admission:
    """Permits for calls: at most `capacity` at once, refused at the door beyond it.

    One that has a place may have to give way to a newcomer; see places.py. Where `max_queued` is
    not 0, calls are refused too while more pieces of work than that wait.
    """

    def __init__(self, capacity: int, *, max_queued: int = 0) -> None:
        self.capacity = capacity
        self._places = Places(capacity)
        self._max_queued = max_queued
        self._queued: Callable[[], int] = lambda: 0
        self._recent_call_s = 1.0  # smoothed duration of calls, the basis of the retry advice

    @property
    def in_flight(self) -> int:
        """Calls that have a permit."""
        return self._places.taken

    @contextlib.asynccontextmanager
    async def permit(self) -> AsyncGenerator[None]:
        """Holds one place for the length of the block. Raises QueueFullError."""
        queued = self._queued()
        if 0 < self._max_queued < queued:
            raise QueueFullError(
                f"{queued} pieces of work wait for the device already; retry later or use another"
                " endpoint",
                retry_after_s=self._advice_s(),
            )
        full = QueueFullError(
            f"{all_taken(self.capacity, 'of this service')}; retry later or use another endpoint",
            retry_after_s=self._advice_s(),
        )
        async with self._places.one(full):
            started = time.monotonic()
            try:
                yield
            finally:
                self._recent_call_s += 0.2 * (time.monotonic() - started - self._recent_call_s)

    def observe_queue(self, queued: Callable[[], int]) -> None:
        """Lets `max_queued` look at a function, such as a batcher's `queued`."""
        self._queued = queued

    def _advice_s(self) -> float:
        return min(30.0, max(0.5, self._recent_call_s / self.capacity))


@dataclass(slots=True, eq=False)
class _Work:
    """A function for the thread, and the future that takes its outcome."""

    function: Callable[[], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop

    def do(self) -> None:
        """Runs the function unless its caller has left before; raises nothing."""
        if self.future.cancelled():
            return
        try:
            outcome, error = self.function(), None
        except BaseException as raised:  # noqa: BLE001 - goes to whoever awaits it
            outcome, error = None, raised
        self.settle(outcome, error)
        del outcome, error  # an exception that knows this frame must not be known by it

    def settle(self, outcome: object, error: BaseException | None) -> None:
        if error is not None and (
            not isinstance(error, Exception) or isinstance(error, StopIteration)
        ):
            # SystemExit would end the event loop, CancelledError would look like the caller's own,
            # and a future refuses StopIteration, so that its caller would wait for ever
            replacement = RuntimeError(f"the work on the device ended with {type(error).__name__}")
            replacement.__cause__ = error
            error = replacement

        def apply() -> None:
            if self.future.done():  # the caller was cancelled meanwhile
                return
            if error is None:
                self.future.set_result(outcome)
            else:
                self.future.set_exception(error)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(apply)


async def run_apart(function: Callable[[], T]) -> T:
    """What `function` returns or raises, run on a thread of its own.

    The thread is a daemon: unlike one of asyncio's, it does not keep the process from exiting.
    """
    loop = asyncio.get_running_loop()
    work = _Work(function, loop.create_future(), loop)
    threading.Thread(target=work.do, daemon=True).start()
    return await work.future


class BatchSource(Protocol):
    """A queue before the device. Its methods are called with the device's lock held."""

    def take(self) -> Callable[[], None] | float | None:
        """The next batch as a function that does not raise.

        Or the seconds after which to ask again, where a batch still fills; None where nothing is.
        """
        ...

    def drop(self) -> None:
        """Refuses everything that waits: the device is closed."""
        ...


class DeviceThread:
    """The threads that touch the device: one, or as many as its models work on at once.

    Control work (`run`: loading, warming up, freeing) goes ahead of batches. An exception ends the
    piece of work that raised it, never a thread. Whoever awaits work gets an outcome: the
    work's own, or NotReadyError from `close` on.
    """

    def __init__(self, name: str = "device") -> None:
        self._condition = threading.Condition()
        self._control: deque[_Work] = deque()
        self._sources: list[BatchSource] = []
        self._urgent: BatchSource | None = None
        self._was_urgent = False  # the last batch
        self._closed = False
        self._name = name
        self._threads: list[threading.Thread] = []
        self.grow(1)

    def grow(self, n_threads: int) -> None:
        """Sees that there are so many threads at least."""
        with self._condition:
            while len(self._threads) < n_threads and not self._closed:
                # daemons: a device call that never returns must not keep the process from exiting
                thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returns or raises, run on a device thread ahead of waiting batches.

        It runs in the caller's context, so that its log lines are of the caller's call. Raises
        NotReadyError once the device is closed. A caller that is cancelled leaves work
        that has begun running to its end; work that has not begun is then skipped.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        work = _Work(lambda: context.run(function), loop.create_future(), loop)
        with self._open():
            self._control.append(work)
        return await work.future

    async def close(self, timeout_s: float = 30.0) -> bool:
        """Ends the threads after the work that has begun; whether they ended in time.

        Whatever has not begun, batches included, is dropped with NotReadyError.
        """
        with self._condition:
            self._closed = True
            dropped = list(self._control)
            self._control.clear()
            for source in self._sources:
                source.drop()
            self._condition.notify_all()
        for work in dropped:
            work.settle(None, _closed_error())
        until = time.monotonic() + timeout_s

        def join() -> bool:
            for thread in self._threads:
                thread.join(max(0.0, until - time.monotonic()))
            return not any(thread.is_alive() for thread in self._threads)

        return await asyncio.to_thread(join)

    @property
    def closed(self) -> bool:
        """Whether no further work is taken."""
        return self._closed

    def attach(self, source: BatchSource, *, urgent: bool = False) -> None:
        """Adds a source of batches, which is asked in turn with the others.

        An urgent one, of which there is one at most, is asked before them, but every other time:
        whoever waits for a recording is late by no more than as much again.
        """
        with self._condition:
            self._sources.append(source)
            if urgent:
                self._urgent = source

    def offer(self, change: Callable[[], None]) -> None:
        """Changes a source's queue with the device's lock held, and lets a thread look at it.

        Raises NotReadyError once the device is closed: nothing is queued after `drop`.
        """
        with self._open():
            change()

    def withdraw(self, change: Callable[[], None]) -> None:
        """Changes a source's queue with the device's lock held, closed or not."""
        with self._condition:
            change()

    @contextlib.contextmanager
    def _open(self) -> Generator[None]:
        with self._condition:
            if self._closed:
                raise _closed_error()
            yield
            self._condition.notify()

    def _loop(self) -> None:
        while True:
            work = self._next()
            if work is None:
                return
            work()
            del work  # an idle thread must not keep a model or an exception alive
            self._look_again()

    def _next(self) -> Callable[[], None] | None:
        """What a thread is to do next, once there is something; None where the device is closed."""
        with self._condition:
            while True:
                if self._control:
                    return self._control.popleft().do
                if self._closed:
                    return None
                batch = self._next_batch()
                if callable(batch):
                    return batch
                self._condition.wait(batch)

    def _look_again(self) -> None:
        """Lets a thread that waits for a batch to fill look whether the device is idle now."""
        with self._condition:
            self._condition.notify()

    def _next_batch(self) -> Callable[[], None] | float | None:
        """As BatchSource.take, over all sources."""
        soonest: float | None = None
        # the urgent one first, or last where it has had its turn
        order = sorted(self._sources, key=lambda one: (one is self._urgent) is self._was_urgent)
        for source in order:
            batch = source.take()
            if callable(batch):
                self._was_urgent = source is self._urgent
                # the next look begins with the others, so that no source starves another
                self._sources.remove(source)
                self._sources.append(source)
                return batch
            if batch is not None:
                soonest = batch if soonest is None else min(soonest, batch)
        return soonest


@contextlib.contextmanager
def one_after_another() -> Generator[None]:
    """What the block submits goes before what its caller began later: it is nearer to its end.

    Else the second decoding of a film's first window would come after the first one of its last,
    and all of them to a device that has nothing else to do any more.
    """
    token = _began.set(time.monotonic())
    try:
        yield
    finally:
        _began.reset(token)


# eq=False: comparing two of them would compare their items, and arrays have no single truth
@dataclass(slots=True, eq=False)
class _Pending(Generic[Item]):
    key: Hashable
    item: Item
    work: _Work
    began_at: float
    queued_at: float
    context: contextvars.Context
    """The caller's: its request id, and its span."""
    span: Any
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Timed(Generic[Result]):
    """A result, how long its item waited, and its share of the device's time; seconds."""

    result: Result
    queue_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What one batch was: its size, the longest wait of its items, and its run; seconds."""

    size: int
    queue_s: float
    inference_s: float


RunBatch = Callable[[Hashable, Sequence[Item], Callable[[], bool]], Sequence[Result]]
"""Takes a key, the items of the batch, and `stop`; returns one result for each item."""


@dataclass(slots=True, eq=False)
class Batcher(Generic[Item, Result]):
    """A queue of items before the device thread; items with equal keys share a batch.

    Full batches go first. Where there is none, or an item has waited for two batches, callers take
    turns: the oldest item of the caller that was served longest ago decides the key. The items of
    the key, one of each caller in turn, fill the batch up to `max_batch(key)`. A film that queues
    all its windows thus delays a short call by a batch or two. Of one caller's items those are the
    oldest that belong to what it began first (`one_after_another`).

    Full batches run as many at once as there are threads. One that is not full waits for
    `linger_s`, and runs beside one other at most: beside more where it is over half full and none
    comes for so long. A quarter of a batch does not wait before several workers that do nothing.
    Items whose caller is gone are dropped before they run, and `stop` turns true when all callers
    of a running batch are gone. The queue holds what admitted calls wait for, so it is bounded by
    how many calls are admitted and by how much each submits at once.
    """

    device: DeviceThread
    run_batch: RunBatch[Item, Result]
    max_batch: Callable[[Hashable], int]
    on_batch: Callable[[BatchRecord], None] | None = None
    task: str = ""
    """What the batches do, for traces: "transcribe"."""
    model_of: Callable[[Hashable], str] = lambda _: ""
    """The id of a key's model, for traces."""
    workers: Callable[[Hashable], int] = lambda _: 1
    """Batches of a key that the device works on at once."""
    linger_s: Callable[[Hashable], float] = lambda _: 0.0
    """How long a batch of a key that is not full waits before a free worker, seconds, after the
    last item that has come."""
    max_running: int | None = None
    """Batches that may run at once; None for as many as the device has threads."""
    urgent: bool = False
    """Whether its batches go before those of others; see `DeviceThread.attach`."""
    _running: int = field(default=0, init=False)
    _arrived: float = field(default=0.0, init=False)  # when the last item came
    _batch_s: float = field(default=0.0, init=False)  # what the last batch took, if half full
    _queues: dict[Hashable, deque[_Pending[Item]]] = field(
        default_factory=dict[Hashable, "deque[_Pending[Item]]"], init=False
    )  # by caller, the one served longest ago first; no queue is empty

    def __post_init__(self) -> None:
        self.device.attach(self, urgent=self.urgent)

    @property
    def queued(self) -> int:
        """Items that wait for the device."""
        return sum(len(queue) for queue in tuple(self._queues.values()))

    async def submit(
        self, key: Hashable, item: Item, *, caller: Hashable | None = None
    ) -> Timed[Result]:
        """The item's result. Raises what the batch raised; cancelling abandons the item.

        Callers take turns by `caller`; where it is None, by the request id of the current call.
        Raises NotReadyError where the device closes before the item's batch has begun.
        """
        loop = asyncio.get_running_loop()
        work = _Work(lambda: None, loop.create_future(), loop)
        context = contextvars.copy_context()
        now = time.monotonic()
        began_at = _began.get() or now
        pending = _Pending(key, item, work, began_at, now, context, tracing.here())
        turn = request_id() if caller is None else caller

        def add() -> None:
            self._arrived = pending.queued_at
            queue = self._queues.setdefault(turn, deque())
            place = len(queue)
            while place and queue[place - 1].began_at > began_at:
                place -= 1
            queue.insert(place, pending)

        self.device.offer(add)
        try:
            with working():
                return await work.future
        finally:
            # true for a settled item too, where it means nothing any more
            pending.abandoned = True
            if work.future.cancelled():
                self.device.withdraw(lambda: self._remove(turn, pending))

    def take(self) -> Callable[[], None] | float | None:
        """The next batch as a function for a thread of the device, or how long to let it fill."""
        while self._queues and (self.max_running is None or self._running < self.max_running):
            oldest = next(iter(self._queues.values()))[0]
            waited_s = time.monotonic() - oldest.queued_at
            counts = Counter(p.key for queue in self._queues.values() for p in queue)
            key = oldest.key
            try:
                if counts[key] < self._limit(key) and waited_s < _MAX_WAIT_BATCHES * self._batch_s:
                    full = (one for one, n in counts.items() if n >= self._limit(one))
                    key = next(full, key)
                limit = self._limit(key)
                fills_s = self._fills_s(key, counts[key] / limit, waited_s)
            except Exception as error:  # noqa: BLE001 - goes to whoever awaits an item of this key
                for pending in self._next_of(key, self.queued):
                    pending.work.settle(None, error)
                continue
            if fills_s > 0:
                return fills_s
            batch = self._next_of(key, limit)
            self._running += 1
            return lambda: self._run(key, batch)
        return None

    def _limit(self, key: Hashable) -> int:
        return max(1, self.max_batch(key))

    def _fills_s(self, key: Hashable, share: float, waited_s: float) -> float:
        """How much longer a batch of a key that is full to a share may wait, seconds."""
        if share >= 1:
            return 0.0
        if not self._running and self.workers(key) > 1 and share >= _SHARE_WHEN_IDLE:
            return 0.0
        linger_s = self.linger_s(key)
        quiet_s = time.monotonic() - self._arrived
        if self._running < min(_WITH_SMALL, self.workers(key)):
            return min(linger_s - quiet_s, _MAX_LINGERS * linger_s - waited_s)
        patience_s = max(_LOOK_S, _MAX_WAIT_BATCHES * self._batch_s) - waited_s
        # most of a batch goes once no more comes: those are the last windows of a film
        return min(patience_s, linger_s - quiet_s) if share > _HALF else patience_s

    def drop(self) -> None:
        """Refuses everything that waits."""
        for queue in self._queues.values():
            for pending in queue:
                pending.work.settle(None, _closed_error())
        self._queues.clear()

    def _next_of(self, key: Hashable, limit: int) -> list[_Pending[Item]]:
        """Up to `limit` items of a key, taken from each caller in turn, each caller's oldest first.

        Callers that gave items go to the end of the order.
        """
        waiting = {
            caller: deque(pending for pending in queue if pending.key == key)
            for caller, queue in self._queues.items()
        }
        chosen: list[_Pending[Item]] = []
        served: list[Hashable] = []
        while len(chosen) < limit and any(waiting.values()):
            for caller, items in waiting.items():
                if items and len(chosen) < limit:
                    chosen.append(items.popleft())
                    served.append(caller)
        taken = {id(pending) for pending in chosen}
        for caller in dict.fromkeys(served):
            rest = deque(p for p in self._queues.pop(caller) if id(p) not in taken)
            if rest:
                self._queues[caller] = rest
        return chosen

    def _remove(self, caller: Hashable, pending: _Pending[Item]) -> None:
        queue = self._queues.get(caller)
        if queue is not None:
            with contextlib.suppress(ValueError):  # its batch has begun
                queue.remove(pending)
            if not queue:
                del self._queues[caller]

    def _compute(
        self, key: Hashable, batch: list[_Pending[Item]], started: float
    ) -> Sequence[Result]:
        """What the engine returns, in the context of the first item's call.

        Log lines tell the request ids of all calls in the batch where there are several.
        """
        identities = list(dict.fromkeys(request_ids.of(pending.context) for pending in batch))
        shared = {"request_ids": identities} if len(identities) > 1 else {}
        waits = [(pending.span, started - pending.queued_at) for pending in batch]
        with (
            logs.bound(**shared),
            tracing.batch(self.task, self.model_of(key), waits),
        ):
            return self.run_batch(
                key, [p.item for p in batch], lambda: all(p.abandoned for p in batch)
            )

    def _run(self, key: Hashable, taken: list[_Pending[Item]]) -> None:
        """Runs a batch and settles its items; raises nothing."""
        try:
            self._settle(key, [pending for pending in taken if not pending.abandoned])
        finally:
            self.device.withdraw(self._ended)

    def _ended(self) -> None:
        self._running -= 1

    def _settle(self, key: Hashable, batch: list[_Pending[Item]]) -> None:
        if not batch:
            return
        started = time.monotonic()
        try:
            results = batch[0].context.run(self._compute, key, batch, started)
            if len(results) != len(batch):
                raise EngineError(  # noqa: TRY301 - one way out for both failures
                    f"the engine gave {len(results)} results for {len(batch)} pieces of work"
                )
        except BaseException as error:  # noqa: BLE001 - goes to whoever awaits it
            for pending in batch:
                pending.work.settle(None, error)
            return
        took = time.monotonic() - started
        if len(batch) >= _HALF * self._limit(key):
            self._batch_s = took
        if self.on_batch is not None:
            longest = max(started - pending.queued_at for pending in batch)
            try:
                self.on_batch(BatchRecord(len(batch), longest, took))
            except Exception:  # noqa: BLE001 - a record that fails must not cost the results
                _log.exception("a batch could not be recorded")
        for pending, result in zip(batch, results, strict=True):
            timed = Timed(result, started - pending.queued_at, took / len(batch))
            pending.work.settle(timed, None)
