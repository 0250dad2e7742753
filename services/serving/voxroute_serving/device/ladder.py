"""What a service does when the device's memory runs out, for every model alike.

    n items do not fit                          ->  half of them at once, down to one at a time
    one item does not fit, or the model itself  ->  the model again in a smaller compute type
    one item and the smallest compute type      ->  OutOfMemoryError; clients have other services

Items are windows of audio, or sentences. Those that did not fit are run again, so that no text is
lost and none comes twice. A smaller batch stays for the batches that follow; after a while without
failure, longer after each failure, twice as many items are tried. The compute type stays until the
model is loaded anew.

Several threads may run batches; one that changes the model waits until the others are out of it.
"""

import contextlib
import gc
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from voxroute_serving.domain import Activity, Stop
from voxroute_serving.errors import EngineError, OutOfMemoryError, chain
from voxroute_serving.telemetry.logs import get_logger


class Loaded(Protocol):
    """A model in the device's memory."""

    @property
    def memory_bytes(self) -> int:
        """The device's memory that its weights take, bytes."""
        ...

    def close(self) -> None:
        """Frees the memory of the device."""
        ...


Model = TypeVar("Model", bound=Loaded)
Item = TypeVar("Item")
Result = TypeVar("Result")

# Full batches that fit before twice as many windows are tried; doubled by each failure, so that
# the work lost to trying stays below 1 in PATIENCE and falls.
PATIENCE = 16

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fallback:
    """A step that was taken because memory ran out; code and message for a Warning."""

    kind: Literal["batch", "compute_type"]
    message: str

    @property
    def code(self) -> str:
        """The stable identifier of the warning."""
        return {
            "batch": "OUT_OF_MEMORY_SMALLER_BATCH",
            "compute_type": "OUT_OF_MEMORY_SMALLER_COMPUTE_TYPE",
        }[self.kind]


class Ladder(Generic[Model]):
    """A model that steps down where running it raises OutOfMemoryError.

    `max_batch` are the items that are run at once at present. `fallbacks` are the steps so far,
    the oldest first; other threads may read it.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[Activity, str], Model],
        compute_types: Sequence[str],
        max_batch: Callable[[Model], int],
        *,
        activity: Activity = lambda _: None,
        item: str = "window",
        on_fallback: Callable[[Fallback], None] | None = None,
    ) -> None:
        """Loads the model in the first compute type that fits; raises as `load`.

        `max_batch` tells the most items that a model is ever given at once; `item`
        is what messages call one of them.
        """
        self.fallbacks: list[Fallback] = []
        self._name = name
        self._load_as = load
        self._item = item
        self._on_fallback = on_fallback
        self._compute_types = tuple(compute_types)
        self._rung = 0  # of the compute types
        self._model = self._load(activity)
        self._in_memory = True
        self._is_closed = False
        self._limit_of = max_batch
        self.max_batch = max_batch(self._model)
        self._patience = PATIENCE
        self._fitted = 0  # full batches since the last change of the limit
        self._condition = threading.Condition()
        self._n_inside = 0  # batches that run
        self._changing = False  # the model is being replaced

    @property
    def compute_type(self) -> str:
        """The numeric type of the model at present."""
        return self._compute_types[self._rung]

    @property
    def memory_bytes(self) -> int:
        """The device's memory that it takes at present, bytes."""
        return self._model.memory_bytes if self._in_memory else 0

    def close(self) -> None:
        """Frees the memory of the device, once the batches are over whose callers have left."""
        with self._alone():
            self._is_closed = True
            self._free()

    def _run(
        self,
        items: Sequence[Item],
        run: Callable[[Model, Sequence[Item]], Sequence[Result]],
        stop: Stop = lambda: False,
    ) -> list[Result]:
        """The results of `run`, in order, in batches that fit.

        Raises OutOfMemoryError after every fallback, and at once where `stop` is true by then.
        """
        done: list[Result] = []
        while len(done) < len(items):
            self._ready()
            with self._inside():
                if not self._in_memory:  # another thread has failed to replace it
                    continue
                rung = self._rung
                batch = items[len(done) : len(done) + self.max_batch]
                try:
                    results = run(self._model, batch)
                except OutOfMemoryError as error:
                    failure = error
                else:
                    if len(results) != len(batch):
                        raise EngineError(
                            f"the engine gave {len(results)} results for {len(batch)} pieces of"
                            " work"
                        )
                    done += results
                    self._fits(len(batch))
                    continue
            # outside the handler, which keeps the failed batch's arrays alive
            _forget_locals(failure)
            if stop():
                raise failure
            with self._alone():
                if rung != self._rung or len(batch) > self.max_batch:
                    continue  # another thread has made room meanwhile
                if len(batch) > 1:
                    self._halve(len(batch), failure)
                else:
                    self._shrink(failure)
        return done

    @contextlib.contextmanager
    def _inside(self) -> Generator[None]:
        """The model stays what it is for the length of the block."""
        with self._condition:
            self._condition.wait_for(lambda: not self._changing)
            self._n_inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_inside -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """No other thread is in the model for the length of the block."""
        with self._condition:
            self._condition.wait_for(lambda: not self._changing)
            self._changing = True
            self._condition.wait_for(lambda: not self._n_inside)
        try:
            yield
        finally:
            with self._condition:
                self._changing = False
                self._condition.notify_all()

    def _ready(self) -> None:
        """Sees that the model is in memory: a smaller one may have failed to load."""
        if not self._in_memory:
            with self._alone():
                self._reload()

    def _free(self) -> None:
        if self._in_memory:
            self._in_memory = False
            self._model.close()

    def _reload(self) -> None:
        if self._is_closed:
            raise EngineError("the model has been closed")
        if not self._in_memory:
            self._model = self._load(lambda _: None)
            self._in_memory = True

    # --- batches

    def _fits(self, n_items: int) -> None:
        with self._condition:
            most = self._limit_of(self._model)
            if n_items < self.max_batch or self.max_batch >= most:
                return
            self._fitted += 1
            if self._fitted >= self._patience:
                self.max_batch = min(most, 2 * self.max_batch)
                self._fitted = 0

    def _halve(self, n_items: int, failure: OutOfMemoryError) -> None:
        self.max_batch = n_items // 2
        self._fitted = 0
        self._patience *= 2
        self._tell(
            "batch",
            f"the device's memory does not hold {n_items} {self._item}s at once; they are run"
            f" again, {self.max_batch} at once",
            failure,
        )

    # --- compute types

    def _shrink(self, failure: OutOfMemoryError) -> None:
        """The model again in the next compute type. Raises OutOfMemoryError where there is none."""
        if self._rung + 1 == len(self._compute_types):
            raise OutOfMemoryError(
                f"the device's memory does not hold the model {self._name!r} as {self.compute_type}"
                f" and one {self._item}; use a smaller model or another service, or end what else"
                " uses the device"
            ) from failure
        self._free()
        gc.collect()
        self._step(f"one {self._item} beside the model", failure)
        self._reload()
        self._patience, self._fitted = PATIENCE, 0  # there is more room now

    def _load(self, activity: Activity) -> Model:
        """The model in this compute type or the first smaller one that fits."""
        while True:
            try:
                return self._load_as(activity, self.compute_type)
            except OutOfMemoryError as error:
                failure = error
            _forget_locals(failure)
            if self._rung + 1 == len(self._compute_types):
                raise failure
            self._step("the model", failure)

    def _step(self, what: str, failure: OutOfMemoryError) -> None:
        before = self.compute_type
        self._rung += 1
        self._tell(
            "compute_type",
            f"the device's memory does not hold {what} as {before}; the model runs as"
            f" {self.compute_type}, which may change some of its words",
            failure,
        )

    def _tell(
        self, kind: Literal["batch", "compute_type"], message: str, failure: OutOfMemoryError
    ) -> None:
        cause = failure.__cause__ or failure
        _log.warning("out of memory", model=self._name, fallback=message, error=str(cause))
        fallback = Fallback(kind, message)
        self.fallbacks.append(fallback)
        if self._on_fallback is not None:
            self._on_fallback(fallback)


def _forget_locals(error: BaseException) -> None:
    """Drops what the frames of an error and of its causes keep alive: the arrays of a batch."""
    for one in chain(error):
        traceback.clear_frames(one.__traceback__)
    gc.collect()
