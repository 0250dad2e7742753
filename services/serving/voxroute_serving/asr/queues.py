"""The queues before the device: what is transcribed, at once or not, listened to, aligned."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from voxroute_serving.asr.engine import (
    AlignmentRequest,
    AsrModel,
    DecodingOptions,
    WindowResult,
    Word,
)
from voxroute_serving.asr.live.pace import BusyTime, Pace
from voxroute_serving.audio.samples import Samples
from voxroute_serving.device.batcher import Batcher, BatchRecord, DeviceThread, Timed

# Full ones, so that the device never waits for the next: three, and one for what a call lacks
# between its last window and the first of the span after it.
_BATCHES_WAITING = 4
# s that batches fill before a GPU, which does small ones hardly quicker: longer than the command
# takes from one span of a recording to the next
_LINGER_S = 0.2
# s for what one call has queued at once to be one batch, before a device that does one at a time
_GATHER_S = 0.01
# s that a batch of recordings may take while live streams wait for the device
_BESIDE_LIVE_S = 0.5
_WEIGHT = 0.2  # of the last batch in the moving time of a window
# of live windows: one that is decoded while the other is copied; more would be small ones
_LIVE_AT_ONCE = 2
_MOST_LIVE = 32  # windows; more would make the first wait for the last
WINDOWS_WAITING = 2  # complete windows that may wait for a place in the queue


@dataclass(frozen=True, slots=True)
class _Decoding:
    """Windows with equal keys share a batch: the same model, the same options."""

    model_id: str
    options: DecodingOptions
    model: AsrModel = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Listening:
    """The key of windows whose language, or whose words' times, are asked for."""

    model_id: str
    model: AsrModel = field(compare=False)


def _model_of(key: Any) -> str:
    return str(key.model_id)


def _workers(key: Any) -> int:
    return int(key.model.workers)


def _linger_s(key: Any) -> float:
    return _LINGER_S if key.model.workers > 1 else _GATHER_S


class LiveWork(Protocol):
    """A live stream that wants its text renewed."""

    def take(self) -> Samples:
        """What it wants to have decoded by now. Called on a thread of the device."""
        ...


class DeviceQueues:
    """The four queues before the threads of the device."""

    def __init__(
        self,
        thread: DeviceThread,
        max_batch: int,
        on_batch: Callable[[BatchRecord], None] | None = None,
        max_live_streams: int = 0,
    ) -> None:
        self.pace = Pace(max_live_streams)
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._busy = BusyTime()
        self._window_s = 0.0  # of the device, for one window of a recording
        self._transcribing: Batcher[Samples, WindowResult] = Batcher(
            thread,
            lambda key, windows, stop: cast("_Decoding", key).model.transcribe(
                windows, cast("_Decoding", key).options, stop
            ),
            self._beside_live,
            self._transcribed,
            "transcribe",
            _model_of,
            _workers,
            _linger_s,
        )
        self._live: Batcher[LiveWork, WindowResult] = Batcher(
            thread,
            lambda key, streams, stop: cast("_Decoding", key).model.transcribe(
                [stream.take() for stream in streams], cast("_Decoding", key).options, stop
            ),
            lambda key: min(_MOST_LIVE, self._limit(key)),
            self._renewed,
            "transcribe_live",
            _model_of,
            _workers,
            max_running=_LIVE_AT_ONCE,
            urgent=True,
        )
        self._detecting: Batcher[Samples, Any] = Batcher(
            thread,
            lambda key, windows, _: cast("_Listening", key).model.detect_language(windows),
            self._limit,
            on_batch,
            "detect_language",
            _model_of,
            _workers,
        )
        self._aligning: Batcher[AlignmentRequest, tuple[Word, ...]] = Batcher(
            thread,
            lambda key, requests, _: cast("_Listening", key).model.align(requests),
            self._limit,
            on_batch,
            "align",
            _model_of,
            _workers,
        )

    def _limit(self, key: Any) -> int:
        return min(key.model.max_batch, self._max_batch or key.model.max_batch)

    def _beside_live(self, key: Any) -> int:
        """The same, so that no live stream waits long for a batch of recordings."""
        if not self.pace.streams or not self._window_s:
            return self._limit(key)
        return max(1, min(self._limit(key), int(_BESIDE_LIVE_S / self._window_s)))

    def _transcribed(self, record: BatchRecord) -> None:
        measured = self._busy.ended_s(record.inference_s) / record.size
        self._window_s += (_WEIGHT if self._window_s else 1.0) * (measured - self._window_s)
        if self._on_batch is not None:
            self._on_batch(record)

    def _renewed(self, record: BatchRecord) -> None:
        self.pace.observe(record)
        if self._on_batch is not None:
            self._on_batch(record)

    @property
    def queued(self) -> int:
        """Pieces of work that wait."""
        queues = self._transcribing, self._live, self._detecting, self._aligning
        return sum(queue.queued for queue in queues)

    def first_batch(self, model: AsrModel) -> int:
        """Windows that a recording had better have decoded at once.

        On a processor the tokens of four windows take hardly longer than those of one, and finding
        the windows takes a hundredth of the time that they take. A GPU's batches linger.
        """
        return 1 if model.workers > 1 else self._limit(_Listening("", model))

    def in_flight(self, model: AsrModel) -> int:
        """Pieces of work that keep the device busy: the batches that run, and some that wait."""
        return (model.workers + _BATCHES_WAITING) * self._limit(_Listening("", model))

    async def transcribe(
        self, model: AsrModel, options: DecodingOptions, samples: Samples
    ) -> Timed[WindowResult]:
        """A window's segments, and what they cost."""
        return await self._transcribing.submit(_Decoding(model.ref.id, options, model), samples)

    async def transcribe_live(
        self, model: AsrModel, options: DecodingOptions, work: LiveWork
    ) -> Timed[WindowResult]:
        """What a live stream has heard by the time that the device is free for it."""
        return await self._live.submit(_Decoding(model.ref.id, options, model), work)

    async def detect(self, model: AsrModel, samples: Samples) -> dict[str, float]:
        """The probability of each language."""
        timed = await self._detecting.submit(_Listening(model.ref.id, model), samples)
        return dict(timed.result)

    async def align(self, model: AsrModel, request: AlignmentRequest) -> tuple[Word, ...]:
        """The words of a known text; none where it is not found in the audio."""
        return (await self._aligning.submit(_Listening(model.ref.id, model), request)).result

    async def listen(self, model: AsrModel, samples: Samples) -> dict[str, float]:
        """The probability of each language; of its only one, a model need not be asked."""
        if len(model.languages) == 1:
            return {model.languages[0]: 1.0}
        return await self.detect(model, samples)
