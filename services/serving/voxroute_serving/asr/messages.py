"""Messages of voxroute.asr.v1 to domain objects and back, and what is wrong with a message.

The one place that knows both sides; engines never see a message.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr.engine import DecodingOptions, WindowSegment, Word
from voxroute_serving.asr.recogniser import Untranscribed
from voxroute_serving.asr.text.doubt import Doubts
from voxroute_serving.audio import decoders as audio
from voxroute_serving.audio import pcm
from voxroute_serving.audio.media import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from voxroute_serving.audio.samples import WINDOW_S
from voxroute_serving.audio.vad import VadOptions
from voxroute_serving.audio.windows import Window
from voxroute_serving.domain import IgnoredOption
from voxroute_serving.errors import FieldViolation, InvalidInputError
from voxroute_serving.messages import duration, seconds

DEFAULT_DETECTION_WINDOWS = 4
MAX_SPEAKERS = 100  # more than any meeting has
MAX_DETECTION_WINDOWS = 32  # a minute of memory for each pair of them
DEFAULT_TOP_LANGUAGES = 5

_MAX_BEAM_SIZE = 20
_MAX_OFFSET_S = 366 * 86_400.0  # s; a year: beyond it a clock is wrong, not a recording long
_MAX_MIN_SILENCE_S = 10.0
_MAX_PADDING_S = 2.0
_MAX_HOTWORDS = 256
_MAX_HOTWORD_CHARACTERS = 200  # as a term of a glossary, which hot words are made of
_MAX_TEMPERATURES = 10
_MIN_TEMPERATURE = 0.01  # of those above 0; logits over less overflow float16
_MAX_PROMPT_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """A TranscribeConfig that is valid in itself; `decoding.language` is still as it was sent."""

    audio: audio.AudioFormat
    model: str
    vad: VadOptions
    decoding: DecodingOptions
    allowed_languages: tuple[str, ...]
    """As they were sent; two or more, or none."""
    strict: bool
    expected_s: float | None
    resume_from_s: float
    """Media time; windows that end at or before it are finished."""


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """A DetectLanguageConfig that is valid in itself, its defaults filled in."""

    audio: audio.AudioFormat
    model: str
    vad: VadOptions
    max_windows: int
    top: int


@dataclass(frozen=True, slots=True)
class DiarizationOptions:
    """A DiarizeConfig that is valid in itself; None for a number of speakers that is not known."""

    audio: audio.AudioFormat
    model: str
    min_speakers: int | None
    max_speakers: int | None


@dataclass(frozen=True, slots=True)
class KnownSegment:
    """A stretch of a transcript to be aligned; media time in seconds."""

    id: int
    start_s: float
    end_s: float
    text: str


# --- seconds -----------------------------------------------------------------------------------


# --- requests ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """A field, whether it is right, and what to say otherwise."""

    field: str
    holds: Callable[[Any], bool]
    description: str


def _optional(field: str, low: float, high: float) -> Callable[[Any], bool]:
    """Whether an optional number is absent or in range; NaN is in none."""
    return lambda message: not message.HasField(field) or low <= getattr(message, field) <= high


def duration_in(field: str, high: float) -> Callable[[Any], bool]:
    """Whether a duration is in range."""
    return lambda message: 0 <= seconds(getattr(message, field)) <= high


def _temperatures_hold(temperatures: Sequence[float]) -> bool:
    return len(temperatures) <= _MAX_TEMPERATURES and all(
        temperature == 0 or _float32(_MIN_TEMPERATURE) <= _float32(temperature) <= 1
        for temperature in temperatures
    )


def _hotwords_hold(words: Sequence[str]) -> bool:
    return len(words) <= _MAX_HOTWORDS and all(
        len(word) <= _MAX_HOTWORD_CHARACTERS for word in words
    )


LAWS: dict[Any, pcm.Law] = {asr_pb2.G711_LAW_MU: "mulaw", asr_pb2.G711_LAW_A: "alaw"}
AUDIO_RULES = (
    Rule(
        "audio.encoding",
        lambda config: config.audio.WhichOneof("encoding") is not None,
        "say how the audio is encoded: pcm for raw 16-bit samples, g711 for a telephone's,"
        " container for a media file",
    ),
    Rule(
        "audio.pcm.sample_rate_hz",
        lambda config: (
            config.audio.WhichOneof("encoding") != "pcm"
            or MIN_SAMPLE_RATE <= config.audio.pcm.sample_rate_hz <= MAX_SAMPLE_RATE
        ),
        f"must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}",
    ),
    Rule(
        "audio.g711.law",
        lambda config: (
            config.audio.WhichOneof("encoding") != "g711" or config.audio.g711.law in LAWS
        ),
        "must be G711_LAW_MU or G711_LAW_A",
    ),
    Rule(
        "audio.pcm.channels",
        lambda config: config.audio.pcm.channels <= pcm.MAX_CHANNELS,
        f"must be 1 to {pcm.MAX_CHANNELS}",
    ),
    Rule(
        "audio.channel",
        lambda config: (
            config.audio.WhichOneof("encoding") == "container"
            or config.audio.channel < max(1, config.audio.pcm.channels)
        ),
        "is counted from 0, so it must be less than the number of channels",
    ),
    Rule(
        "audio.start_offset",
        lambda config: duration_in("start_offset", _MAX_OFFSET_S)(config.audio),
        "must not be negative, nor longer than a year",
    ),
)
VAD_RULES = (
    Rule(
        "vad.threshold",
        lambda config: _optional("threshold", 0, 1)(config.vad),
        "is a probability, 0 to 1",
    ),
    Rule(
        "vad.min_silence",
        lambda config: duration_in("min_silence", _MAX_MIN_SILENCE_S)(config.vad),
        f"must be 0 to {_MAX_MIN_SILENCE_S:g} s",
    ),
    Rule(
        "vad.padding",
        lambda config: duration_in("padding", _MAX_PADDING_S)(config.vad),
        f"must be 0 to {_MAX_PADDING_S:g} s",
    ),
)
DECODING_RULES = (
    Rule(
        "decoding.beam_size",
        lambda config: _optional("beam_size", 1, _MAX_BEAM_SIZE)(config.decoding),
        f"must be 1 to {_MAX_BEAM_SIZE}",
    ),
    Rule(
        "decoding.temperatures",
        lambda config: _temperatures_hold(config.decoding.temperatures),
        f"at most {_MAX_TEMPERATURES}, each 0 or {_MIN_TEMPERATURE:g} to 1",
    ),
    Rule(
        "decoding.compression_ratio_threshold",
        lambda config: _optional("compression_ratio_threshold", 0, 1000)(config.decoding),
        "must be 0 to 1000",
    ),
    Rule(
        "decoding.log_prob_threshold",
        lambda config: _optional("log_prob_threshold", -1000, 0)(config.decoding),
        "is a log probability, at most 0",
    ),
    Rule(
        "decoding.no_speech_threshold",
        lambda config: _optional("no_speech_threshold", 0, 1)(config.decoding),
        "is a probability, 0 to 1",
    ),
    Rule(
        "decoding.initial_prompt",
        lambda config: len(config.decoding.initial_prompt) <= _MAX_PROMPT_CHARACTERS,
        f"has more than {_MAX_PROMPT_CHARACTERS} characters; only its last 224 tokens are used",
    ),
    Rule(
        "decoding.hotwords",
        lambda config: _hotwords_hold(config.decoding.hotwords),
        f"has more than {_MAX_HOTWORDS} words, or one of more than {_MAX_HOTWORD_CHARACTERS}"
        " characters",
    ),
    Rule(
        "language",
        lambda config: not config.language or set(config.allowed_languages) <= {config.language},
        "say either which language is spoken (language) or which ones may be (allowed_languages)",
    ),
)
_TRANSCRIBE_RULES = (
    *AUDIO_RULES,
    *VAD_RULES,
    Rule(
        "task",
        lambda config: config.task in asr_pb2.Task.values(),
        "is no task of this version; use TASK_TRANSCRIBE or TASK_TRANSLATE",
    ),
    *DECODING_RULES,
    Rule(
        "expected_duration",
        duration_in("expected_duration", _MAX_OFFSET_S),
        "must not be negative, nor longer than a year",
    ),
    Rule(
        "resume_from",
        duration_in("resume_from", _MAX_OFFSET_S),
        "must not be negative, nor longer than a year",
    ),
)
_DETECTION_RULES = (
    *AUDIO_RULES,
    *VAD_RULES,
    Rule(
        "max_windows",
        lambda config: config.max_windows <= MAX_DETECTION_WINDOWS,
        f"must be at most {MAX_DETECTION_WINDOWS}",
    ),
)
_DIARIZATION_RULES = (
    *AUDIO_RULES,
    Rule(
        "min_speakers",
        lambda config: config.min_speakers <= MAX_SPEAKERS,
        f"must be at most {MAX_SPEAKERS}",
    ),
    Rule(
        "max_speakers",
        lambda config: (
            not config.max_speakers or config.min_speakers <= config.max_speakers <= MAX_SPEAKERS
        ),
        f"must be at most {MAX_SPEAKERS} and not below min_speakers, or 0 where it is not known",
    ),
)


def check(config: object, rules: Iterable[Rule]) -> None:
    """Raises InvalidInputError that names every field that breaks its rule."""
    violations = [
        FieldViolation(rule.field, rule.description) for rule in rules if not rule.holds(config)
    ]
    if violations:
        raise InvalidInputError(
            "; ".join(f"{violation.field}: {violation.description}" for violation in violations),
            violations=violations,
        )


def transcribe_options(config: asr_pb2.TranscribeConfig) -> TranscribeOptions:
    """The options of a config. Raises InvalidInputError with all that is wrong."""
    check(config, _TRANSCRIBE_RULES)
    return TranscribeOptions(
        audio=audio_format_of(config.audio),
        model=config.model,
        vad=replace(vad_options(config.vad), max_pause_s=_max_pause_s(config)),
        decoding=replace(
            decoding_options(config.decoding, config.language),
            task="translate" if config.task == asr_pb2.TASK_TRANSLATE else "transcribe",
            word_timestamps=config.word_timestamps,
        ),
        allowed_languages=tuple(config.allowed_languages),
        strict=config.strict_options,
        expected_s=seconds(config.expected_duration) or None,
        resume_from_s=seconds(config.resume_from),
    )


def decoding_options(message: asr_pb2.DecodingOptions, language: str) -> DecodingOptions:
    """The options of a message that keeps `DECODING_RULES`, the language as it was sent."""

    def given(field: str) -> Any:
        return getattr(message, field) if message.HasField(field) else None

    return DecodingOptions(
        language=language,
        beam_size=given("beam_size"),
        temperatures=tuple(_float32(value) for value in message.temperatures),
        compression_ratio_threshold=_float32(given("compression_ratio_threshold")),
        log_prob_threshold=_float32(given("log_prob_threshold")),
        no_speech_threshold=_float32(given("no_speech_threshold")),
        initial_prompt=message.initial_prompt,
        hotwords=tuple(message.hotwords),
    )


def detection_options(config: asr_pb2.DetectLanguageConfig) -> DetectionOptions:
    """The options of a config. Raises InvalidInputError with all that is wrong."""
    check(config, _DETECTION_RULES)
    return DetectionOptions(
        audio=audio_format_of(config.audio),
        model=config.model,
        vad=vad_options(config.vad),
        max_windows=config.max_windows or DEFAULT_DETECTION_WINDOWS,
        top=config.top or DEFAULT_TOP_LANGUAGES,
    )


def alignment_audio(config: asr_pb2.AlignConfig) -> audio.AudioFormat:
    """The audio format of a config. Raises InvalidInputError with all that is wrong."""
    check(config, AUDIO_RULES)
    return audio_format_of(config.audio)


def diarization_options(config: asr_pb2.DiarizeConfig) -> DiarizationOptions:
    """The options of a config. Raises InvalidInputError with all that is wrong."""
    check(config, _DIARIZATION_RULES)
    return DiarizationOptions(
        audio=audio_format_of(config.audio),
        model=config.model,
        min_speakers=config.min_speakers or None,
        max_speakers=config.max_speakers or None,
    )


def known_segment(message: asr_pb2.AlignSegment, previous_start_s: float) -> KnownSegment:
    """The segment of a message. Raises InvalidInputError, which names it."""
    segment = KnownSegment(
        message.id, seconds(message.start), seconds(message.end), message.text.strip()
    )
    length_s = segment.end_s - segment.start_s
    if segment.start_s < max(0.0, previous_start_s):
        problem = "segment.start", "must not be before the start of the segment before it"
    elif length_s <= 0:
        problem = "segment.end", "must be after `start`"
    elif length_s > WINDOW_S + 1e-6:
        problem = "segment.end", f"must be at most {WINDOW_S:g} s after `start`; split the segment"
    elif not segment.text:
        problem = "segment.text", "must not be empty"
    else:
        return segment
    raise InvalidInputError.of_field(problem[0], f"{problem[1]} (segment {segment.id})")


def audio_format_of(message: asr_pb2.AudioFormat) -> audio.AudioFormat:
    """The format of a message that keeps `AUDIO_RULES`."""
    channel = message.channel if message.HasField("channel") else None
    if message.WhichOneof("encoding") == "g711":
        law = LAWS[message.g711.law]
        return pcm.PcmFormat(pcm.TELEPHONE_RATE, 1, seconds(message.start_offset), channel, law)
    if message.WhichOneof("encoding") == "pcm":
        start_s, channels = seconds(message.start_offset), message.pcm.channels or 1
        return pcm.PcmFormat(message.pcm.sample_rate_hz, channels, start_s, channel)
    container = message.container
    stream = None if container.choose_audio_stream else container.audio_stream
    return audio.ContainerFormat(stream, channel)


def _max_pause_s(config: asr_pb2.TranscribeConfig) -> float:
    """The pause that closes a window, seconds; none does in a recording.

    Samples whose length nobody tells may arrive as they are spoken, and somebody waits for them.
    """
    recorded = config.HasField("expected_duration") or config.audio.HasField("container")
    return math.inf if recorded else VadOptions().max_pause_s


def vad_options(message: asr_pb2.VadOptions) -> VadOptions:
    """The options of a message, the defaults filled in."""
    defaults = VadOptions()
    return VadOptions(
        disabled=message.disabled,
        threshold=message.threshold if message.HasField("threshold") else defaults.threshold,
        min_silence_s=(
            seconds(message.min_silence)
            if message.HasField("min_silence")
            else defaults.min_silence_s
        ),
        padding_s=seconds(message.padding) if message.HasField("padding") else defaults.padding_s,
    )


def _float32(value: Any) -> Any:
    """A float as it was written: 0.2 comes out of a float32 field as 0.20000000298."""
    return None if value is None else float(f"{value:.6g}")


# --- answers -----------------------------------------------------------------------------------


def applied_options(
    options: TranscribeOptions,
    effective: DecodingOptions,
    ignored: Sequence[IgnoredOption],
    *,
    model: str,
    language: str,
    allowed_languages: Sequence[str] = (),
) -> asr_pb2.AppliedOptions:
    """The options in effect; `language` is "" where it is still to be detected."""
    config = asr_pb2.TranscribeConfig(
        audio=audio_message(options.audio),
        model=model,
        language=language,
        allowed_languages=allowed_languages,
        task=(asr_pb2.TASK_TRANSLATE if effective.task == "translate" else asr_pb2.TASK_TRANSCRIBE),
        word_timestamps=effective.word_timestamps,
        vad=asr_pb2.VadOptions(
            disabled=options.vad.disabled,
            threshold=options.vad.threshold,
            min_silence=duration(options.vad.min_silence_s),
            padding=duration(options.vad.padding_s),
        ),
        decoding=decoding_message(effective),
        strict_options=options.strict,
        expected_duration=duration(options.expected_s) if options.expected_s else None,
        resume_from=duration(options.resume_from_s) if options.resume_from_s else None,
    )
    return asr_pb2.AppliedOptions(
        config=config,
        ignored=ignored_messages(ignored),
    )


def ignored_messages(ignored: Sequence[IgnoredOption]) -> list[common_pb2.IgnoredOption]:
    """The messages of options that an engine cannot honour."""
    return [common_pb2.IgnoredOption(field=one.field, reason=one.reason) for one in ignored]


def decoding_message(options: DecodingOptions) -> asr_pb2.DecodingOptions:
    """The message of options."""
    return asr_pb2.DecodingOptions(
        beam_size=options.beam_size,
        temperatures=options.temperatures,
        compression_ratio_threshold=options.compression_ratio_threshold,
        log_prob_threshold=options.log_prob_threshold,
        no_speech_threshold=options.no_speech_threshold,
        initial_prompt=options.initial_prompt,
        hotwords=options.hotwords,
    )


def audio_message(audio_format: audio.AudioFormat) -> asr_pb2.AudioFormat:
    """The message of a format."""
    if isinstance(audio_format, pcm.PcmFormat) and audio_format.law:
        law = next(number for number, law in LAWS.items() if law == audio_format.law)
        return asr_pb2.AudioFormat(
            g711=asr_pb2.G711Format(law=law), start_offset=duration(audio_format.start_s)
        )
    if isinstance(audio_format, pcm.PcmFormat):
        return asr_pb2.AudioFormat(
            pcm=asr_pb2.PcmFormat(
                sample_rate_hz=audio_format.sample_rate_hz, channels=audio_format.channels
            ),
            start_offset=duration(audio_format.start_s),
            channel=audio_format.channel,
        )
    return asr_pb2.AudioFormat(
        container=asr_pb2.ContainerFormat(
            audio_stream=audio_format.audio_stream or 0,
            choose_audio_stream=audio_format.audio_stream is None,
        ),
        channel=audio_format.channel,
    )


def languages_message(
    probabilities: Mapping[str, float], top: int
) -> list[asr_pb2.LanguageProbability]:
    """The most likely languages first."""
    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])
    return [
        asr_pb2.LanguageProbability(language=language, probability=min(1.0, max(0.0, probability)))
        for language, probability in ranked[:top]
    ]


def words_message(words: Iterable[Word], window: Window) -> list[asr_pb2.Word]:
    """Words of a window in media time."""
    return [
        asr_pb2.Word(
            text=word.text.strip(),
            start=duration(window.at(max(0.0, word.start_s))),
            end=duration(window.until(max(0.0, word.start_s, word.end_s))),
            confidence=word.confidence,
        )
        for word in words
    ]


@dataclass(slots=True)
class SegmentNumbering:
    """Gives segments their ids and keeps their times in order over a whole call.

    An engine's times may overlap a little or leave the window; what is sent begins where the one
    before has ended at the earliest, and has a length.
    """

    sent: int = 0
    end_s: float = 0.0

    def message(
        self, segment: WindowSegment, window: Window, language: str, doubts: Doubts
    ) -> asr_pb2.Segment | None:
        """The next segment in media time, or None for one without text."""
        text = segment.text.strip()
        if not text:
            return None
        latest_s = window.end_s
        start_s = min(max(window.at(segment.start_s), window.start_s), latest_s)
        end_s = min(max(window.until(segment.end_s), start_s), latest_s)
        start_s = max(start_s, self.end_s)
        end_s = max(end_s, start_s + _MIN_SEGMENT_S)
        self.sent += 1
        self.end_s = end_s
        return asr_pb2.Segment(
            id=self.sent,
            start=duration(start_s),
            end=duration(end_s),
            text=text,
            language=language,
            words=words_message(segment.words, window),
            avg_log_prob=segment.avg_log_prob,
            no_speech_prob=segment.no_speech_prob,
            compression_ratio=segment.compression_ratio,
            temperature=segment.temperature,
            flags=sorted(cast("asr_pb2.SegmentFlag", doubt.value) for doubt in doubts),
        )


def untranscribed(
    window: Window, start_s: float, end_s: float, reason: Untranscribed
) -> asr_pb2.Untranscribed:
    """A stretch of a window without text, in media time."""
    return asr_pb2.Untranscribed(
        start=duration(window.at(start_s)),
        end=duration(window.until(end_s)),
        reason=cast("asr_pb2.UntranscribedReason", reason.value),
    )


_MIN_SEGMENT_S = 0.02  # s; the resolution of Whisper's timestamps
