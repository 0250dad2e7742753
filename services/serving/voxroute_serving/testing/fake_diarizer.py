"""A diarizer without a model, for tests of everything around one.

Each tone that it hears is a speaker's, told from others by its frequency: the same tone again is
the same speaker. It recognises no voices, and no setting of a service selects it.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from voxroute_serving.asr.diarizing import Turn
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.bounds import quoted
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef, Stop
from voxroute_serving.errors import ModelNotFoundError, ServingError
from voxroute_serving.testing.fake_engine import tone_hz, tones

MODEL = "pitch"
_STOP_POLL_S = 0.01


@dataclass(slots=True)
class FakeDiarizer:
    """Knobs: what is here, what fails, what is heard; and a record of what was asked."""

    here: bool = True
    """Whether the model is on this machine; `fetch` and `load` bring it."""
    fetch_failure: ServingError | None = None
    failure: Exception | None = None
    turns: tuple[Turn, ...] | None = None
    """What is heard, whatever the recording; None for its tones."""
    released: threading.Event | None = None
    """Where set, a recording waits until it is set, or until nobody wants it any more."""
    asked: list[tuple[float, int | None, int | None]] = field(
        default_factory=list[tuple[float, int | None, int | None]]
    )
    """Length in seconds, fewest and most speakers of each recording."""
    threads: set[str] = field(default_factory=set[str])
    stopped: int = 0

    def available(self) -> ModelRef | None:
        """The model, where it is here."""
        return _REF if self.here else None

    def device(self) -> DeviceInfo:
        """One CPU."""
        return DeviceInfo("cpu", "imaginary processor", "float32")

    def resolve(self, model: str) -> str:
        """The one model. Raises ModelNotFoundError."""
        if model not in ("", MODEL):
            raise ModelNotFoundError(f"there is no diarization model {quoted(model)}; use {MODEL}")
        return MODEL

    def fetch(self) -> None:
        """Brings the model here, or fails as told."""
        if self.fetch_failure is not None:
            raise self.fetch_failure
        self.here = True

    def load(self, model: str, activity: Activity) -> "FakeDiarizationModel":
        """A model that reports to this diarizer."""
        activity(f"imagining the model {model}")
        self.fetch()
        return FakeDiarizationModel(self)


_REF = ModelRef("fake", MODEL, "sha256:000000000000")


class FakeDiarizationModel:
    """Tells tones apart."""

    def __init__(self, diarizer: FakeDiarizer) -> None:
        self.ref = _REF
        self.memory_bytes = 0
        self._diarizer = diarizer

    def diarize(
        self, samples: Samples, min_speakers: int | None, max_speakers: int | None, stop: Stop
    ) -> Sequence[Turn]:
        """A turn for each tone."""
        diarizer = self._diarizer
        diarizer.threads.add(threading.current_thread().name)
        diarizer.asked.append((len(samples) / SAMPLE_RATE, min_speakers, max_speakers))
        while diarizer.released and not diarizer.released.is_set() and not stop():
            time.sleep(_STOP_POLL_S)
        diarizer.stopped += stop()
        if diarizer.failure is not None:
            raise diarizer.failure
        if diarizer.turns is not None:
            return diarizer.turns
        return [
            Turn(start / SAMPLE_RATE, end / SAMPLE_RATE, f"{tone_hz(samples[start:end])} Hz")
            for start, end in tones(samples)
        ]

    def close(self) -> None:
        """Has nothing to free."""
