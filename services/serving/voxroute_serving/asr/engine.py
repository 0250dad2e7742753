"""The seam between the speech service and the engines that recognise speech.

An engine knows models, windows and text. It knows nothing of gRPC, of queues, or of where a
window stands in a recording: all its times are seconds from the start of the window.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal, Protocol

from voxroute_serving.audio.samples import Samples
from voxroute_serving.domain import Activity, DeviceInfo, IgnoredOption, ModelRef, Stop

Clock = Callable[[float], float]
"""A time of one clock told by another, seconds."""


class Feature(Enum):
    """What an engine may be able to do; the values are those of voxroute.asr.v1.Feature."""

    WORD_TIMESTAMPS = 1
    ALIGNMENT = 2
    SPEECH_TRANSLATION = 3
    LANGUAGE_DETECTION = 4
    BEAM_SEARCH = 5
    TEMPERATURE_FALLBACK = 6
    INITIAL_PROMPT = 7
    HOTWORDS = 8


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How windows are decoded. Hashable: windows with equal options share a batch.

    `language` is BCP-47 and known: detection happens before. None for a number means the
    engine's default, which `AsrModel.effective_options` fills in.
    """

    language: str
    task: Literal["transcribe", "translate"] = "transcribe"
    word_timestamps: bool = False
    beam_size: int | None = None
    temperatures: tuple[float, ...] = ()
    compression_ratio_threshold: float | None = None
    log_prob_threshold: float | None = None
    no_speech_threshold: float | None = None
    initial_prompt: str = ""
    hotwords: tuple[str, ...] = ()
    short_context: bool = False
    """Whether the model may hear a short window with less than 30 s of silence behind it: much
    sooner done, and hardly less sure. An engine may ignore it."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word, its time in seconds from the start of the window, and how likely it is, 0 to 1."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None

    def replaced(self, start: Clock, end: Clock) -> "Word":
        """The same word by another clock, which may tell starts and ends apart."""
        return replace(self, start_s=start(self.start_s), end_s=end(self.end_s))


@dataclass(frozen=True, slots=True)
class WindowSegment:
    """A stretch of speech in a window; times in seconds from the start of the window."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()
    avg_log_prob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None
    temperature: float | None = None
    language: str = ""
    """BCP-47, where it is another than that of the window; engines leave it empty."""
    attended: tuple[Word, ...] = ()
    """Its words as the decoder attends to them: all of its text, blanks included, in rough times.
    Empty where the engine does not know; clients never see them."""

    @property
    def confidence(self) -> float | None:
        """How likely its words are on the whole, 0 to 1; None where nobody knows."""
        known = [word.confidence for word in self.attended if word.confidence is not None]
        return sum(known) / len(known) if known else None

    def replaced(self, start: Clock, end: Clock) -> "WindowSegment":
        """The same segment by another clock, which may tell starts and ends apart."""
        return replace(
            self,
            start_s=start(self.start_s),
            end_s=end(self.end_s),
            words=tuple(word.replaced(start, end) for word in self.words),
            attended=tuple(word.replaced(start, end) for word in self.attended),
        )

    def moved(self, by_s: float) -> "WindowSegment":
        """The same segment, later."""
        return self.replaced(lambda time_s: time_s + by_s, lambda time_s: time_s + by_s)


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What was said in one window: its segments in the order of their start times."""

    segments: tuple[WindowSegment, ...]
    warnings: tuple[tuple[str, str], ...] = ()
    """(code, message) pairs for voxroute.common.v1.Warning."""
    rest_from_s: float | None = None
    """Where the text stops for want of room, seconds from the start of the window; what follows is
    to be transcribed as a window of its own. None where the text is whole."""
    cut_off: bool = False
    """Whether the text ends for want of room; a loop does so without a rest."""
    heard: Mapping[str, float] = field(default_factory=dict[str, float])
    """The probability of each language, BCP-47, where the decoding has come by it; else empty."""
    redecodes: int = 0
    """Times the service had the window decoded again; engines leave it at 0."""

    def followed_by(self, rest: "WindowResult", rest_from_s: float) -> "WindowResult":
        """The result with that of the rest of its window, whose times count from `rest_from_s`."""
        moved = tuple(segment.moved(rest_from_s) for segment in rest.segments)
        warnings = (*self.warnings, *rest.warnings)
        redecodes = self.redecodes + rest.redecodes
        return WindowResult(
            (*self.segments, *moved), warnings, None, rest.cut_off, self.heard, redecodes
        )


@dataclass(frozen=True, slots=True)
class AlignmentRequest:
    """A known text and the audio around it: samples of the segment, at most 30 s."""

    samples: Samples
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine is and can do. Cheap to make; no model is touched."""

    name: str
    version: str
    device: DeviceInfo
    features: frozenset[Feature]
    alignable_languages: tuple[str, ...] = ()
    available_models: tuple[ModelRef, ...] = field(default=())
    """Models that can be loaded without a download, the default first."""


class AsrModel(Protocol):
    """A model in the device's memory. Every method runs on one of the device's threads.

    That is the one that loaded it, where it has one worker.
    """

    ref: ModelRef
    languages: tuple[str, ...]
    """Languages that it transcribes, BCP-47."""
    keeps_pauses: bool
    """Whether it must hear speech as it was recorded, with its pauses: a model that was trained on
    little text a window is lost where windows hold nothing but speech."""
    max_batch: int
    """Most windows in one call of `transcribe`, of `detect_language` and of `align`."""
    workers: int
    """Batches that it works on at once; where they are several, one thread more may be waiting in
    its methods."""

    @property
    def memory_bytes(self) -> int:
        """The device's memory that its weights take, bytes.

        Measured where that can be, else estimated from its files; 0 where nobody knows.
        """
        ...

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """The options with the engine's defaults filled in, and those it cannot honour.

        Pure and cheap; the one method that may be called from any thread, and after `close`.
        """
        ...

    def warm_up(self, noise: Samples) -> None:
        """Runs once all that a transcription runs, so that the next one shows no failure for it.

        With a second of noise where the device has things to compile, else with as little as will
        do. Raises as `transcribe`.
        """
        ...

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """One result for each window, in order, decoded at the first of the temperatures.

        What fails is decoded at the next ones by `voxroute_serving.asr.recogniser`, which gathers
        such windows of all calls. Each window has 1 to N_WINDOW_SAMPLES samples. Where `stop`
        turns true the results may be anything. Raises OutOfMemoryError where the windows do not
        fit into the device's memory: `voxroute_serving.asr.fallbacks` then calls again with fewer
        of them. Raises EngineError.
        """
        ...

    def detect_language(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """For each window the probability of each language (BCP-47), summing to about 1."""
        ...

    def align(self, requests: Sequence[AlignmentRequest]) -> Sequence[tuple[Word, ...]]:
        """The words of each text with their times; empty where one cannot be aligned.

        Raises UnsupportedError where there is no aligner for a language.
        """
        ...

    def close(self) -> None:
        """Frees the memory of the device."""
        ...


class AsrEngine(Protocol):
    """A library that recognises speech."""

    def describe(self) -> EngineDescription:
        """What this engine is and can do; callable from any thread."""
        ...

    def resolve(self, model: str) -> str:
        """The canonical id of a model name ("" is the default), without loading anything.

        Raises ModelNotFoundError. Callable from any thread; the same id is the same model.
        """
        ...

    def compute_types(self) -> Sequence[str]:
        """The numeric types to run in: the configured one, then those that take less memory.

        Each takes less than the one before; they are tried where memory runs out.
        """
        ...

    def fetch(self, model: str, activity: Activity) -> int:
        """Sees that the files of a canonical id are on this machine; blocks while it downloads.

        About how many bytes of the device's memory the model will take in the first of
        `compute_types`; 0 where nobody knows. Callable from any thread, several at once.
        Raises ModelNotFoundError, ModelUnavailableError.
        """
        ...

    def load(self, model: str, activity: Activity, compute_type: str = "") -> AsrModel:
        """The model of a canonical id, converted where needed, in memory and ready.

        `compute_type` is one of `compute_types`, "" the first. Runs on the device thread.
        Raises ModelNotFoundError, ModelUnavailableError, OutOfMemoryError.
        """
        ...
