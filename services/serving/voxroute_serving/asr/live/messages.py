"""The messages of TranscribeLive: a config to options, and options to the accepted config."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr import messages
from voxroute_serving.asr.engine import DecodingOptions, Word
from voxroute_serving.asr.live.hearing import Endpoint
from voxroute_serving.asr.messages import Rule
from voxroute_serving.audio.pcm import PcmFormat
from voxroute_serving.audio.vad import VadOptions
from voxroute_serving.messages import duration, seconds

_PADDING_S = 0.3  # a live start is never heard twice, so it may be early
_DEFAULT_UPDATE_S = 1.0
_UPDATE_S = (0.2, 10.0)
_SILENCE_S = (0.1, 5.0)
_UTTERANCE_S = (5.0, 28.0)

_LIVE_RULES = (
    *messages.AUDIO_RULES,
    *messages.VAD_RULES,
    *messages.DECODING_RULES,
    Rule(
        "audio.container",
        lambda config: config.audio.WhichOneof("encoding") != "container",
        "live speech comes as raw samples: pcm, or g711",
    ),
    Rule(
        "vad.disabled",
        lambda config: not config.vad.disabled,
        "utterances begin and end with a voice; it cannot be disabled",
    ),
    Rule(
        "vad.min_silence",
        lambda config: not config.vad.HasField("min_silence"),
        "the pause that ends an utterance is endpoint.silence",
    ),
    Rule(
        "endpoint.silence",
        lambda config: _absent_or_within(config.endpoint, "silence", _SILENCE_S),
        f"must be {_SILENCE_S[0]:g} to {_SILENCE_S[1]:g} s",
    ),
    Rule(
        "endpoint.max_utterance",
        lambda config: _absent_or_within(config.endpoint, "max_utterance", _UTTERANCE_S),
        f"must be {_UTTERANCE_S[0]:g} to {_UTTERANCE_S[1]:g} s",
    ),
    Rule(
        "update_interval",
        lambda config: (
            seconds(config.update_interval) == 0
            or _absent_or_within(config, "update_interval", _UPDATE_S)
        ),
        f"must be {_UPDATE_S[0]:g} to {_UPDATE_S[1]:g} s, or 0 for no updates",
    ),
)


def _absent_or_within(message: object, field: str, limits: tuple[float, float]) -> bool:
    present = getattr(message, "HasField")(field)  # noqa: B009 - of any message
    return not present or limits[0] <= seconds(getattr(message, field)) <= limits[1]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """A LiveConfig that is valid in itself; `decoding.language` is still as it was sent."""

    audio: PcmFormat
    model: str
    vad: VadOptions
    decoding: DecodingOptions
    allowed_languages: tuple[str, ...]
    """As they were sent; two or more, or none."""
    strict: bool
    endpoint: Endpoint
    update_s: float | None
    """How often text is renewed, seconds; None for no updates amid an utterance."""
    refine: bool
    tentative: bool


def live_options(config: asr_pb2.LiveConfig) -> LiveOptions:
    """The options of a config. Raises InvalidInputError with all that is wrong."""
    messages.check(config, _LIVE_RULES)
    audio = messages.audio_format_of(config.audio)
    assert isinstance(audio, PcmFormat)  # noqa: S101 - by its rule
    vad = messages.vad_options(config.vad)
    endpoint, update_s = Endpoint(), _DEFAULT_UPDATE_S
    if config.HasField("update_interval"):
        update_s = seconds(config.update_interval) or None
    if config.endpoint.HasField("silence"):
        endpoint = replace(endpoint, silence_s=seconds(config.endpoint.silence))
    if config.endpoint.HasField("max_utterance"):
        endpoint = replace(endpoint, max_utterance_s=seconds(config.endpoint.max_utterance))
    return LiveOptions(
        audio=audio,
        model=config.model,
        vad=vad if config.vad.HasField("padding") else replace(vad, padding_s=_PADDING_S),
        decoding=messages.decoding_options(config.decoding, config.language),
        allowed_languages=tuple(config.allowed_languages),
        strict=config.strict_options,
        endpoint=replace(endpoint, manual=config.endpoint.manual),
        update_s=update_s,
        refine=config.refine,
        tentative=config.tentative,
    )


def accepted_config(
    options: LiveOptions, effective: DecodingOptions, model: str, languages: Sequence[str]
) -> asr_pb2.LiveConfig:
    """The options in effect; `languages` are those that were asked for."""
    return asr_pb2.LiveConfig(
        audio=messages.audio_message(options.audio),
        model=model,
        language=languages[0] if len(languages) == 1 else "",
        allowed_languages=languages if options.allowed_languages else (),
        vad=asr_pb2.VadOptions(
            threshold=options.vad.threshold, padding=duration(options.vad.padding_s)
        ),
        decoding=messages.decoding_message(effective),
        strict_options=options.strict,
        endpoint=asr_pb2.EndpointOptions(
            silence=duration(options.endpoint.silence_s),
            max_utterance=duration(options.endpoint.max_utterance_s),
            manual=options.endpoint.manual,
        ),
        update_interval=duration(options.update_s or 0.0),
        refine=options.refine,
        tentative=options.tentative,
    )


def word_messages(words: Sequence[Word], start_s: float) -> list[asr_pb2.Word]:
    """Words by the clock of a stream whose first sample is at `start_s`."""
    return [
        asr_pb2.Word(
            text=word.text.strip(),
            start=duration(start_s + word.start_s),
            end=duration(start_s + word.end_s),
            confidence=word.confidence,
        )
        for word in words
        if word.text.strip()
    ]


def warned(code: str, message: str) -> asr_pb2.TranscribeLiveResponse:
    """A warning, by its stable code."""
    return asr_pb2.TranscribeLiveResponse(warning=common_pb2.Warning(code=code, message=message))
