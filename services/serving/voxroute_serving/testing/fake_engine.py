"""A speech engine without a model, for tests of everything around an engine.

It writes down the tones that it hears: a stretch of a 440 Hz tone becomes the text "tone 440".
That is deterministic, shows where text came from, and takes no time; it recognises no speech, and
no setting of a service selects it.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from voxroute_serving.asr.engine import (
    AlignmentRequest,
    DecodingOptions,
    EngineDescription,
    Feature,
    WindowResult,
    WindowSegment,
    Word,
)
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.bounds import quoted
from voxroute_serving.domain import Activity, DeviceInfo, IgnoredOption, ModelRef, Stop
from voxroute_serving.errors import (
    EngineError,
    ModelNotFoundError,
    OutOfMemoryError,
    UnsupportedError,
)

ENGINE_NAME = "fake"
DEFAULT_MODEL = "tones"
OTHER_MODEL = "more-tones"
LANGUAGES = ("hi", "en")
_LOUD = 0.01  # a sample beyond it is sound
_MIN_PAUSE_S = 0.3  # s; a shorter pause does not end a tone


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """What one call of `transcribe` got: the lengths of its windows in samples, and the options."""

    n_samples: tuple[int, ...]
    options: DecodingOptions
    thread: str
    stopped: bool


@dataclass(slots=True)
class FakeEngine:
    """Knobs: how long things take, what fails, what is refused; and a record of what was asked."""

    delay_s: float = 0.0
    poll_s: float = 0.01
    """How often it looks whether it is to stop."""
    load_delay_s: float = 0.0
    max_batch: int = 4
    workers: int = 1
    languages: tuple[str, ...] = LANGUAGES
    features: frozenset[Feature] = frozenset(Feature)
    alignable_languages: tuple[str, ...] = ("hi", "en")
    failure: Exception | None = None
    load_failure: Exception | None = None
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Bytes that a model takes; what is not named takes none."""
    capacities: Mapping[str, int | None] = field(
        default_factory=lambda: dict[str, int | None](float32=None)
    )
    """Compute types, the configured one first: the windows that fit beside the model; None for
    any number, -1 where the model itself does not fit."""
    ignored: tuple[IgnoredOption, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    segments: Callable[[Samples], tuple[WindowSegment, ...]] | None = None
    batches: list[RecordedBatch] = field(default_factory=list[RecordedBatch])
    loads: list[str] = field(default_factory=list[str])
    released: threading.Event | None = None
    """Where set, a batch waits until it is set, or until nobody wants it any more."""

    def describe(self) -> EngineDescription:
        """A description with one CPU and two models."""
        return EngineDescription(
            name=ENGINE_NAME,
            version="1",
            device=DeviceInfo("cpu", "imaginary processor", "float32", 2**30, 2**29),
            features=self.features,
            alignable_languages=self.alignable_languages,
            available_models=tuple(self._ref(model) for model in (DEFAULT_MODEL, OTHER_MODEL)),
        )

    def resolve(self, model: str) -> str:
        """One of the two models. Raises ModelNotFoundError."""
        if model not in ("", DEFAULT_MODEL, OTHER_MODEL):
            raise ModelNotFoundError(
                f"there is no model {quoted(model)}; use {DEFAULT_MODEL} or {OTHER_MODEL}"
            )
        return model or DEFAULT_MODEL

    def compute_types(self) -> Sequence[str]:
        """The compute types of `capacities`."""
        return tuple(self.capacities)

    def fetch(self, model: str, activity: Activity) -> int:
        """The size of the model; there is nothing to fetch."""
        activity("looking for the model")
        return self.sizes.get(model, 0)

    def load(self, model: str, activity: Activity, compute_type: str = "") -> "FakeModel":
        """A model that reports to this engine."""
        activity("imagining the model")
        time.sleep(self.load_delay_s)
        if self.load_failure is not None:
            raise self.load_failure
        chosen = compute_type or next(iter(self.capacities))
        if self.capacities[chosen] == -1:
            raise OutOfMemoryError(f"the imaginary memory does not hold the model as {chosen}")
        self.loads.append(model)
        return FakeModel(self, self._ref(model), chosen)

    def _ref(self, model: str) -> ModelRef:
        return ModelRef(ENGINE_NAME, model, "sha256:000000000000")


class FakeModel:
    """Writes down tones."""

    def __init__(self, engine: FakeEngine, ref: ModelRef, compute_type: str) -> None:
        self.ref = ref
        self.compute_type = compute_type
        self.languages = engine.languages
        self.keeps_pauses = False
        self.max_batch = engine.max_batch
        self.workers = engine.workers
        self.memory_bytes = engine.sizes.get(ref.id, 0)
        self.closed = False
        self._engine = engine

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """Beam size 1 and temperature 0 where nothing else was asked."""
        effective = replace(
            options,
            beam_size=options.beam_size or 1,
            temperatures=options.temperatures or (0.0,),
        )
        return effective, self._engine.ignored

    def warm_up(self, noise: Samples) -> None:
        """Transcribes the noise."""
        options, _ = self.effective_options(DecodingOptions(self.languages[0]))
        self.transcribe([noise], options, lambda: False)

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """A segment for each tone of each window."""
        engine = self._engine
        until = time.monotonic() + engine.delay_s
        while not stop() and (
            time.monotonic() < until or (engine.released and not engine.released.is_set())
        ):
            time.sleep(engine.poll_s)
        engine.batches.append(
            RecordedBatch(
                tuple(len(window) for window in windows),
                options,
                threading.current_thread().name,
                stop(),
            )
        )
        if engine.failure is not None:
            raise engine.failure
        self._fit(len(windows))
        return [
            WindowResult(
                engine.segments(window) if engine.segments else _segments(window, options),
                engine.warnings,
            )
            for window in windows
        ]

    def detect_language(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """Below 600 Hz it is the first language, above it the last, with 0.9."""
        self._fit(len(windows))
        rest = 0.1 / max(1, len(self.languages) - 1)
        return [
            {
                language: 0.9 if language == self._language(window) else rest
                for language in self.languages
            }
            for window in windows
        ]

    def align(self, requests: Sequence[AlignmentRequest]) -> Sequence[tuple[Word, ...]]:
        """The words of a text spread evenly over the sound; none where there is no sound."""
        for request in requests:
            if request.language not in self._engine.alignable_languages:
                raise UnsupportedError(f"no aligner for {request.language!r}")
        self._fit(len(requests))
        return [_words(request.text, request.samples) for request in requests]

    def close(self) -> None:
        """Remembers that it was closed."""
        self.closed = True

    def _fit(self, n_windows: int) -> None:
        """Raises OutOfMemoryError where the imaginary memory is too small."""
        if self.closed:
            raise EngineError("the model has been closed")
        capacity = self._engine.capacities[self.compute_type]
        if capacity is not None and n_windows > capacity:
            raise OutOfMemoryError(f"the imaginary memory does not hold {n_windows} windows")

    def _language(self, window: Samples) -> str:
        return self.languages[0 if tone_hz(window) < 600 else -1]  # noqa: PLR2004 - see above


def tone_hz(samples: Samples) -> int:
    """The frequency of a tone in Hz, by its zero crossings, to the next 10."""
    sounds = [samples[start:end] for start, end in tones(samples)]
    crossings = sum(np.count_nonzero(np.diff(np.signbit(sound))) for sound in sounds)
    n_samples = sum(len(sound) for sound in sounds)
    return round(crossings / 2 / max(n_samples, 1) * SAMPLE_RATE / 10) * 10


def tones(samples: Samples) -> list[tuple[int, int]]:
    """Where sound is: (start, end) in samples; pauses shorter than _MIN_PAUSE_S do not count."""
    loud = np.flatnonzero(np.abs(samples) > _LOUD)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > _MIN_PAUSE_S * SAMPLE_RATE)
    starts = [loud[0], *loud[breaks + 1]]
    ends = [*loud[breaks], loud[-1]]
    return [(int(start), int(end) + 1) for start, end in zip(starts, ends, strict=True)]


def _segments(window: Samples, options: DecodingOptions) -> tuple[WindowSegment, ...]:
    return tuple(
        WindowSegment(
            start_s=start / SAMPLE_RATE,
            end_s=end / SAMPLE_RATE,
            text=f" tone {tone_hz(window[start:end])}",
            words=_shifted(_words("tone", window[start:end]), start / SAMPLE_RATE)
            if options.word_timestamps
            else (),
            avg_log_prob=-0.1,
            no_speech_prob=0.01,
            compression_ratio=1.0,
            temperature=0.0,
        )
        for start, end in tones(window)
    )


def _words(text: str, samples: Samples) -> tuple[Word, ...]:
    found = tones(samples)
    if not found:
        return ()
    start_s, end_s = found[0][0] / SAMPLE_RATE, found[-1][1] / SAMPLE_RATE
    parts = text.split()
    step_s = (end_s - start_s) / len(parts)
    return tuple(
        Word(part, start_s + i * step_s, start_s + (i + 1) * step_s, 1.0)
        for i, part in enumerate(parts)
    )


def _shifted(words: tuple[Word, ...], offset_s: float) -> tuple[Word, ...]:
    return tuple(
        replace(word, start_s=word.start_s + offset_s, end_s=word.end_s + offset_s)
        for word in words
    )
