"""A speech service whose engine reads the words of marked speech, for scale.

A batch takes a fixed time and a little for each of its windows, as on a GPU.
"""

import time
from collections.abc import Sequence

from pydantic import Field

from voxroute_serving.asr.app import AsrApp
from voxroute_serving.asr.engine import DecodingOptions, WindowResult
from voxroute_serving.asr.whisper.settings import WhisperSettings
from voxroute_serving.audio.samples import Samples
from voxroute_serving.domain import Activity, Stop
from voxroute_serving.process.app import App
from voxroute_serving.process.main import Runtime, run_service
from voxroute_serving.process.settings import ListenAddresses, listen_on
from voxroute_serving.testing.fake_engine import FakeEngine, FakeModel
from voxroute_serving.testing.marked_speech import heard


class MarkedSettings(WhisperSettings):
    """How long a batch takes."""

    listen: ListenAddresses = listen_on(0)
    device: str = "cpu"
    offline: bool = True
    batch_s: float = Field(default=0.0, ge=0)
    window_s: float = Field(default=0.0, ge=0)


class _TimedModel(FakeModel):
    """Sleeps, as a thread does that waits for a GPU."""

    def __init__(self, model: FakeModel, settings: MarkedSettings, engine: FakeEngine) -> None:
        super().__init__(engine, model.ref, model.compute_type)
        self._settings = settings
        self._marked = engine

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """The words of each window."""
        began = time.monotonic()
        results = super().transcribe(windows, options, stop)
        self._marked.batches.clear()  # a stream of hours has many
        spent_s = time.monotonic() - began
        time.sleep(
            max(0.0, self._settings.batch_s + self._settings.window_s * len(windows) - spent_s)
        )
        return results


class _TimedEngine(FakeEngine):
    settings: MarkedSettings

    def load(self, model: str, activity: Activity, compute_type: str = "") -> FakeModel:
        return _TimedModel(super().load(model, activity, compute_type), self.settings, self)


def _build(settings: MarkedSettings, runtime: Runtime) -> App:
    engine = _TimedEngine(max_batch=32, segments=heard, languages=("en",))
    engine.settings = settings
    return AsrApp(engine, settings, runtime)


if __name__ == "__main__":
    run_service(MarkedSettings, _build, distribution="voxroute-serving")
