"""An engine's model with what is done when the device's memory runs out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from voxroute_serving.asr.engine import (
    AlignmentRequest,
    AsrEngine,
    AsrModel,
    DecodingOptions,
    WindowResult,
    Word,
)
from voxroute_serving.audio.samples import Samples
from voxroute_serving.device.ladder import Fallback, Ladder
from voxroute_serving.domain import Activity, IgnoredOption, Stop


class FallbackModel(Ladder[AsrModel]):
    """An AsrModel that steps down where the engine's own model raises OutOfMemoryError."""

    def __init__(
        self,
        engine: AsrEngine,
        model: str,
        activity: Activity,
        on_fallback: Callable[[Fallback], None] | None = None,
    ) -> None:
        """Loads the model in the first compute type that fits; raises as `AsrEngine.load`."""
        super().__init__(
            model,
            partial(engine.load, model),
            engine.compute_types(),
            lambda loaded: loaded.max_batch,
            activity=activity,
            on_fallback=on_fallback,
        )
        self.ref = self._model.ref
        self.languages = self._model.languages
        self.keeps_pauses = self._model.keeps_pauses
        self.workers = self._model.workers

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """As the model says; they do not depend on the compute type."""
        return self._model.effective_options(options)

    def warm_up(self, noise: Samples) -> None:
        """Runs all of the model once. Raises as `transcribe`."""
        self._run([noise], lambda model, batch: [model.warm_up(one) for one in batch])

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """One result for each window. Raises OutOfMemoryError after every fallback."""

        def run(model: AsrModel, batch: Sequence[Samples]) -> Sequence[WindowResult]:
            return model.transcribe(batch, options, stop)

        return self._run(windows, run, stop)

    def detect_language(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """For each window the probability of each language. Raises as `transcribe`."""
        return self._run(windows, lambda model, batch: model.detect_language(batch))

    def align(self, requests: Sequence[AlignmentRequest]) -> Sequence[tuple[Word, ...]]:
        """The words of each text. Raises as `transcribe`, and UnsupportedError."""
        return self._run(requests, lambda model, batch: model.align(batch))
