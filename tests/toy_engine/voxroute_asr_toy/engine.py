# pyright: basic
"""An AsrEngine of no library: it finds a window's sound in the example, and says its subtitles."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pysubs2

from voxroute_serving.asr.engine import (
    AlignmentRequest,
    DecodingOptions,
    EngineDescription,
    WindowResult,
    WindowSegment,
    Word,
)
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.bounds import quoted
from voxroute_serving.domain import Activity, DeviceInfo, IgnoredOption, ModelRef, Stop
from voxroute_serving.errors import ModelNotFoundError, UnsupportedError
from voxroute_serving.process.settings import AsrSettings
from voxroute_serving.telemetry.logs import get_logger

MODEL = ModelRef("toy", "by-heart", "1")
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "lost-key"

_KNOWN = 0.5  # the share of a window's energy that is the example's, from which on it is known
_FIXED = {
    "task": "transcribe",
    "word_timestamps": False,
    "beam_size": 1,
    "temperatures": (0.0,),
    "initial_prompt": "",
    "hotwords": (),
}
"""The options that another engine may honour, and what they are here."""

_log = get_logger(__name__)


class ToyEngine:
    """See voxroute_serving.asr.engine for what its methods promise."""

    def __init__(self, settings: AsrSettings) -> None:
        self._compute_type = settings.compute_type.replace("auto", "float32")

    def describe(self) -> EngineDescription:
        """One model, on the CPU, without any feature."""
        device = DeviceInfo("cpu", "a good memory", self._compute_type)
        return EngineDescription("toy", "1", device, frozenset(), (), (MODEL,))

    def resolve(self, model: str) -> str:
        """The one model. Raises ModelNotFoundError."""
        if model not in ("", MODEL.id):
            raise ModelNotFoundError(f"there is no model {quoted(model)}; use {MODEL.id}")
        return MODEL.id

    def compute_types(self) -> Sequence[str]:
        """The configured one."""
        return (self._compute_type,)

    def fetch(self, model: str, activity: Activity) -> int:
        """There is nothing to fetch."""
        del model, activity
        return 0

    def load(self, model: str, activity: Activity, compute_type: str = "") -> "ToyModel":
        """The example in memory."""
        del compute_type
        activity("listening to the example")
        loaded = ToyModel()
        _log.debug("knows by heart", model=model)
        return loaded


class ToyModel:
    """See voxroute_serving.asr.engine for what its methods promise."""

    ref = MODEL
    languages: tuple[str, ...] = ("hi",)
    keeps_pauses = True
    max_batch = 2
    workers = 1

    def __init__(self) -> None:
        from faster_whisper import decode_audio  # noqa: PLC0415 - takes a second

        self._samples = np.asarray(decode_audio(f"{EXAMPLE}.mp4", sampling_rate=SAMPLE_RATE))
        self._cues = [
            WindowSegment(event.start / 1000, event.end / 1000, f" {event.plaintext}")
            for event in pysubs2.load(f"{EXAMPLE}.hi.srt")
        ]

    @property
    def memory_bytes(self) -> int:
        """Nobody knows."""
        return 0

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """None of the options is honoured; those that ask for something are told."""
        nothing = DecodingOptions(options.language)
        ignored = tuple(
            IgnoredOption(
                name if name in {"task", "word_timestamps"} else f"decoding.{name}",
                "it is known by heart",
            )
            for name, fixed in _FIXED.items()
            if getattr(options, name) not in (getattr(nothing, name), fixed)
        )
        return replace(options, **_FIXED), ignored

    def warm_up(self, noise: Samples) -> None:
        """Looks for the noise."""
        self._heard(noise)

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """The subtitles of the stretch of the example that each window is."""
        del options, stop
        return [WindowResult(self._heard(window)) for window in windows]

    def detect_language(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """The example is Hindi."""
        return [{"hi": 1.0} for _ in windows]

    def align(self, requests: Sequence[AlignmentRequest]) -> Sequence[tuple[Word, ...]]:
        """Raises UnsupportedError."""
        raise UnsupportedError(f"no aligner for {requests[0].language!r}")

    def close(self) -> None:
        """Nothing is held."""

    def _heard(self, window: Samples) -> tuple[WindowSegment, ...]:
        """The cues that lie in the window; none where it is not of the example."""
        size = len(self._samples) + len(window)
        likeness = np.fft.irfft(
            np.fft.rfft(self._samples, size) * np.conj(np.fft.rfft(window, size)), size
        )[: len(self._samples)]
        first = int(np.argmax(likeness))
        if likeness[first] < _KNOWN * float(np.dot(window, window)):
            return ()
        start_s, end_s = first / SAMPLE_RATE, (first + len(window)) / SAMPLE_RATE
        there = [cue for cue in self._cues if start_s <= cue.start_s and cue.end_s <= end_s]
        return tuple(cue.moved(-start_s) for cue in there)
