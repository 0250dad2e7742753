"""What a request asks for, held against what the model and the engine can do."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from voxroute_serving import languages
from voxroute_serving.asr.engine import DecodingOptions, Feature
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.queues import DeviceQueues
from voxroute_serving.asr.recogniser import Recogniser
from voxroute_serving.audio.vad import VadOptions
from voxroute_serving.domain import IgnoredOption
from voxroute_serving.errors import FieldViolation, InvalidInputError


class Asked(Protocol):
    """What a request for text has, whatever its method."""

    @property
    def decoding(self) -> DecodingOptions:
        """How text is decoded; the language as it was sent, "" for any."""
        ...

    @property
    def allowed_languages(self) -> tuple[str, ...]:
        """As they were sent; two or more, or none."""
        ...

    @property
    def vad(self) -> VadOptions:
        """How speech is told from the rest."""
        ...


def refuse_ignored(ignored: Sequence[IgnoredOption]) -> None:
    """Raises InvalidInputError for options that the engine cannot honour."""
    if ignored:
        raise InvalidInputError(
            "strict_options is set and this engine cannot honour "
            + "; ".join(f"{option.field}: {option.reason}" for option in ignored),
            violations=[FieldViolation(option.field, option.reason) for option in ignored],
        )


def effective_options(
    asked: Asked, model: FallbackModel, languages: Sequence[str]
) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
    """The options in effect for the first language, and those ignored for any of them."""
    effective = [
        model.effective_options(replace(asked.decoding, language=language))
        for language in languages
    ]
    ignored = {option.field: option for _, some in effective for option in some}
    return effective[0][0], tuple(ignored.values())


def likeliest(probabilities: Mapping[str, float]) -> str:
    """The likeliest language, the first of equals."""
    return max(probabilities, key=lambda language: probabilities[language])


def languages_of(
    asked: Asked, model: FallbackModel, features: Collection[Feature]
) -> tuple[str, ...]:
    """The model's own tags of the languages that were asked for; none to detect one.

    Raises InvalidInputError for what neither model nor engine can do.
    """
    if asked.decoding.task == "translate" and Feature.SPEECH_TRANSLATION not in features:
        raise InvalidInputError.of_field(
            "task", "this engine only transcribes; translate the transcript instead"
        )
    field = "language" if asked.decoding.language else "allowed_languages"
    tags = (asked.decoding.language,) if field == "language" else asked.allowed_languages
    known: dict[str, None] = {}
    for tag in tags:
        language = languages.match_language(tag, model.languages)
        if language is None:
            raise languages.unknown_language(tag, model.languages, model.ref.id, field=field)
        known[language] = None
    n_possible = len(known or model.languages)
    if n_possible > 1 and Feature.LANGUAGE_DETECTION not in features:
        raise InvalidInputError.of_field(
            field if known else "language",
            f"this engine cannot detect it; name one of {', '.join(known or model.languages)}",
        )
    return tuple(known)


def recogniser(
    asked: Asked,
    model: FallbackModel,
    allowed: tuple[str, ...],
    *,
    features: Collection[Feature],
    queues: DeviceQueues,
    on_redecode: Callable[[Literal["first", "later"], float], None],
) -> Recogniser:
    """The way of the windows of one call."""
    tells = Feature.LANGUAGE_DETECTION in features and len(model.languages) > 1
    return Recogniser(
        transcribe=lambda decoding, samples: queues.transcribe(model, decoding, samples),
        detect=(lambda samples: queues.detect(model, samples)) if tells else None,
        options_of=lambda language: effective_options(asked, model, (language,))[0],
        vad=asked.vad,
        allowed=allowed,
        retries=Feature.TEMPERATURE_FALLBACK in features,
        unsure_again=asked.decoding.log_prob_threshold is not None,
        on_redecode=on_redecode,
    )
