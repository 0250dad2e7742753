"""What every engine of Whisper does with options before, and with a decoded text after."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from voxroute_serving.asr.engine import DecodingOptions, WindowResult, WindowSegment, Word
from voxroute_serving.asr.text.segments import (
    Piece,
    next_sound_s,
    sounding,
    whole_words,
    with_words,
)
from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, SAMPLE_RATE, Samples
from voxroute_serving.domain import IgnoredOption, ModelRef

# openai-whisper's defaults
COMPRESSION_RATIO_THRESHOLD = 2.4
LOG_PROB_THRESHOLD = -1.0
NO_SPEECH_THRESHOLD = 0.6
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、।॥"  # noqa: RUF001 - full-width marks
MEDIAN_FILTER_WIDTH = 7  # positions of 20 ms of the attention; openai-whisper's
# Compares and exchanges that leave the median of seven in the middle (N. Devillard, "Fast median
# search", 1998); on a device a sort takes five times as long.
MEDIAN_EXCHANGES = (
    (0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3),
    (3, 4),
)  # fmt: skip

# What the encoder hears of silence after a window whose context is short. Without any the model
# writes loops; with 3 s its text is a little worse than with all of 30, with 8 s no worse.
_SILENCE_BEHIND_S = 8
_CONTEXT_STEP_S = 2  # lengths by which contexts differ, so that a GPU sees few shapes

TimesAndWords = tuple[float, float, tuple[Word, ...]]
"""Start and end of a segment, seconds from the start of the window, and its words."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the model wrote for one window, and how sure it was."""

    tokens: Sequence[int]
    text: str
    temperature: float
    avg_log_prob: float
    no_speech_prob: float
    compression_ratio: float
    is_cut_off: bool
    """Whether the tokens end at the limit rather than at the end of the text."""

    def is_silent(self, options: DecodingOptions) -> bool:
        """Whether the window probably holds no speech, and the text is a guess."""
        least = _given(options.no_speech_threshold, NO_SPEECH_THRESHOLD)
        most = _given(options.log_prob_threshold, LOG_PROB_THRESHOLD)
        return self.no_speech_prob > least and self.avg_log_prob < most

    def may_be_foreign(self, options: DecodingOptions) -> bool:
        """Whether somebody may ask in which language it is: the text is not sure enough."""
        limit = _given(options.log_prob_threshold, LOG_PROB_THRESHOLD)
        repeats = _given(options.compression_ratio_threshold, COMPRESSION_RATIO_THRESHOLD)
        return self.avg_log_prob < limit / 2 or self.compression_ratio > repeats


def effective_options(
    options: DecodingOptions,
    model: ModelRef,
    tasks: Collection[str],
    *,
    beam_size: int,
    temperatures: tuple[float, ...],
) -> tuple[DecodingOptions, list[IgnoredOption]]:
    """The options with the defaults filled in, and those that no model of these tasks honours."""
    ignored: list[IgnoredOption] = []
    if options.task not in tasks:
        reason = f"the model {model.id!r} was not trained to translate; it transcribes"
        ignored.append(IgnoredOption("task", reason))
        options = replace(options, task="transcribe")
    effective = replace(
        options,
        beam_size=beam_size if options.beam_size is None else options.beam_size,
        temperatures=options.temperatures or temperatures,
        compression_ratio_threshold=_given(
            options.compression_ratio_threshold, COMPRESSION_RATIO_THRESHOLD
        ),
        log_prob_threshold=_given(options.log_prob_threshold, LOG_PROB_THRESHOLD),
        no_speech_threshold=_given(options.no_speech_threshold, NO_SPEECH_THRESHOLD),
    )
    return effective, ignored


def context_samples(windows: Sequence[Samples], options: DecodingOptions) -> int:
    """How many samples the encoder is to hear: those of the longest window, and silence.

    As many as a whole window has, unless the options want fewer.
    """
    if not options.short_context:
        return N_WINDOW_SAMPLES
    longest = max(map(len, windows)) + _SILENCE_BEHIND_S * SAMPLE_RATE
    steps = -(-longest // (_CONTEXT_STEP_S * SAMPLE_RATE))
    return min(N_WINDOW_SAMPLES, steps * _CONTEXT_STEP_S * SAMPLE_RATE)


def window_result(
    window: Samples,
    decoded: Decoded,
    heard: Sequence[Piece],
    options: DecodingOptions,
    timed: Callable[[Piece, Sequence[Piece]], TimesAndWords],
) -> WindowResult:
    """The window's segments of its text.

    `heard` are its words with the times at which the decoder attends to them; `timed` gives the
    times and the words of a segment, by what is known of it and by those words.
    """
    if decoded.is_silent(options) or not decoded.text:
        return WindowResult(())
    sound = sounding(window)
    rest_from_s = None
    if decoded.is_cut_off and len(heard) > 1:
        heard = whole_words(heard)
        rest_from_s = next_sound_s(window, heard[-1].end_s)
    segments: list[WindowSegment] = []
    for piece, attended in with_words(heard, decoded.text, sound, len(window) / SAMPLE_RATE):
        start_s, end_s, words = timed(piece, attended)
        segments.append(
            WindowSegment(
                start_s,
                end_s,
                piece.text,
                words,
                avg_log_prob=decoded.avg_log_prob,
                no_speech_prob=decoded.no_speech_prob,
                compression_ratio=decoded.compression_ratio,
                temperature=decoded.temperature,
                attended=tuple(one.word for one in attended),
            )
        )
    return WindowResult(tuple(segments), rest_from_s=rest_from_s, cut_off=decoded.is_cut_off)


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
