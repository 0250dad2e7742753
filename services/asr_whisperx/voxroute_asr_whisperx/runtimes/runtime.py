"""The seam between a Whisper model of this engine and what runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, Samples

MAX_POSITIONS = 448  # of Whisper's decoder, prompt and text
MAX_TOKENS = MAX_POSITIONS // 2  # of a text
NO_REPEAT_NGRAM = 5


@dataclass(frozen=True, slots=True)
class Search:
    """How the likeliest text is looked for."""

    beam_size: int
    temperature: float = 0.0
    """Above 0 the tokens of one beam are drawn, by their probabilities to the power of its inverse,
    and no NO_REPEAT_NGRAM of them come twice: it is loops that are decoded again, and what ends
    them. The likeliest of several samples, which openai/whisper takes, is a loop again; see
    docs/adr/0027."""
    suppressed: tuple[int, ...] = ()
    """Tokens that are never written."""
    max_tokens: int = MAX_TOKENS


@dataclass(frozen=True, slots=True)
class Generation:
    """A window's text."""

    tokens: Sequence[int]
    """Without the end token."""
    mean_log_prob: float
    """Of the tokens; their end counts in the sum, not in the number."""
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a window's text is heard."""

    begins: Sequence[int]
    """The positions of audio, of 20 ms, at which the tokens and their end begin; the last ones may
    be missing."""
    probabilities: Sequence[float]
    """Of each token, after those before it."""


class Runtime(Protocol):
    """A Whisper model in memory, on one device.

    Methods may be called by several threads at once. Windows are rows; all raise what the library
    raises, from which voxroute_serving.device.failures tells too little memory.
    """

    @property
    def compute_type(self) -> str:
        """The numeric type of the weights."""
        ...

    @property
    def is_multilingual(self) -> bool:
        """Whether the model tells languages apart."""
        ...

    @property
    def max_batch(self) -> int:
        """Most windows in one call."""
        ...

    @property
    def workers(self) -> int:
        """Calls that it works on at once."""
        ...

    @property
    def weight_bytes(self) -> int:
        """The device's memory that the weights take; 0 where nobody knows."""
        ...

    @property
    def hears_short_contexts(self) -> bool:
        """Whether it takes less than 30 s."""
        ...

    def encode(self, windows: Sequence[Samples], n_samples: int = N_WINDOW_SAMPLES) -> Any:
        """The audio as the decoder reads it, of windows that are filled up with silence.

        `n_samples` is the context, which is whole where `hears_short_contexts` is false.
        """
        ...

    def generate(self, encoded: Any, prompt: Sequence[int], search: Search) -> list[Generation]:
        """The text of each window after a prompt, which is that of all.

        A search with a temperature has one beam.
        """
        ...

    def align(
        self,
        encoded: Any,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        frames: Sequence[int],
    ) -> list[Alignment]:
        """Where the decoder attends to in the audio while it writes each text.

        `start` are the tokens before all texts, without that for no times; `frames`, of 10 ms, are
        the audible ones of each window.
        """
        ...

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        """For each window the probability of each language's token, "<|en|>" for one."""
        ...

    def close(self) -> None:
        """Gives the device's memory back: no call is open."""
        ...
