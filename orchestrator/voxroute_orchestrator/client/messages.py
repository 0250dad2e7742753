"""Between the contract's messages and the transcript's objects; nothing else knows both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.transcript import (
    AsrStats,
    Device,
    GlossaryUse,
    IgnoredOption,
    LanguageProbability,
    Model,
    Note,
    Segment,
    TranslatedSegment,
    TranslationStats,
    TranslationStatus,
    Untranscribed,
    Word,
)

_NANOS = 1_000_000_000

STATUSES: dict[translate_pb2.ItemStatus, TranslationStatus] = {
    translate_pb2.ITEM_STATUS_OK: "OK",
    translate_pb2.ITEM_STATUS_PASSTHROUGH: "PASSTHROUGH",
    translate_pb2.ITEM_STATUS_TRUNCATED: "TRUNCATED",
    translate_pb2.ITEM_STATUS_SUSPECT: "SUSPECT",
    translate_pb2.ITEM_STATUS_FAILED: "FAILED",
}
"""What may become of an item, as a transcript has it."""


# --- what a call tells, in order: it ends with its costs, and a warning is a Note ----------------


@dataclass(frozen=True, slots=True)
class Accepted:
    """The call was admitted: who answers, with which options, and which are not honoured."""

    request_id: str
    model: Model
    device: Device
    options: dict[str, Any]
    ignored: list[IgnoredOption]


@dataclass(frozen=True, slots=True)
class Loading:
    """The service is loading its model."""


@dataclass(frozen=True, slots=True)
class Detected:
    """The language was detected, the chosen one first; before the first window."""

    languages: list[LanguageProbability]


@dataclass(frozen=True, slots=True)
class FinishedWindow:
    """A window is finished; a later call goes on from `resume_from_s`. Ids of segments are 0."""

    segments: list[Segment]
    untranscribed: list[Untranscribed]
    resume_from_s: float


AsrEvent = Accepted | Loading | Detected | FinishedWindow | Note | AsrStats
TranslateEvent = Accepted | TranslatedSegment | Note | TranslationStats


# --- messages to objects --------------------------------------------------------------------------


def duration(seconds: float) -> Duration:
    """Seconds as a Duration, to the nanosecond."""
    return Duration(**duration_fields(seconds))


def duration_fields(seconds: float) -> dict[str, int]:
    """The fields of such a Duration."""
    whole, nanos = divmod(round(seconds * _NANOS), _NANOS)
    return {"seconds": whole, "nanos": nanos}


def seconds(value: Duration) -> float:
    """A Duration as seconds."""
    return value.seconds + value.nanos / _NANOS


def model(ref: common_pb2.ModelRef) -> Model:
    """The model of a reply."""
    return Model(engine=ref.engine, id=ref.id, revision=ref.revision)


def device(value: common_pb2.Device) -> Device:
    """The device of a reply; its kind as "cpu", "cuda", "mps", or "" where it is not told."""
    kind = common_pb2.DeviceKind.Name(value.kind).removeprefix("DEVICE_KIND_").lower()
    return Device(
        kind="" if kind == "unspecified" else kind,
        name=value.name,
        compute_type=value.compute_type,
    )


def options(config: Message) -> dict[str, Any]:
    """A config message as JSON objects with the contract's own field names."""
    return MessageToDict(config, preserving_proto_field_name=True)


def ignored(option: common_pb2.IgnoredOption) -> IgnoredOption:
    """An option that was not honoured."""
    return IgnoredOption(field=option.field, reason=option.reason)


def warning(source: str, message: common_pb2.Warning) -> Note:
    """A service's warning."""
    return Note(source=source, code=message.code, message=message.message)


def accepted(reply: Any, config: Message, ignored_options: Any, request_id: str) -> Accepted:
    """Who answers, with the id of the call where the service names none."""
    return Accepted(
        reply.request_id or request_id,
        model(reply.model),
        device(reply.device),
        options(config),
        [ignored(option) for option in ignored_options],
    )


def segment(value: asr_pb2.Segment, number: int) -> Segment:
    """The segment, under the job's own number."""
    return Segment(
        id=number,
        start_s=seconds(value.start),
        end_s=seconds(value.end),
        text=value.text,
        language=value.language,
        words=tuple(
            Word(
                text=word.text,
                start_s=seconds(word.start),
                end_s=seconds(word.end),
                confidence=_rounded(word.confidence) if word.HasField("confidence") else None,
            )
            for word in value.words
        ),
        avg_log_prob=_rounded(value.avg_log_prob) if value.HasField("avg_log_prob") else None,
        no_speech_prob=_rounded(value.no_speech_prob) if value.HasField("no_speech_prob") else None,
        compression_ratio=_rounded(value.compression_ratio)
        if value.HasField("compression_ratio")
        else None,
        temperature=_rounded(value.temperature) if value.HasField("temperature") else None,
        flags=tuple(map(_flag, value.flags)),
    )


def _flag(flag: asr_pb2.SegmentFlag) -> str:
    """The flag's name; one of a newer contract is told by its number."""
    try:
        return asr_pb2.SegmentFlag.Name(flag).removeprefix("SEGMENT_FLAG_")
    except ValueError:
        return f"FLAG_{int(flag)}"


def _rounded(value: float) -> float:
    """A float32 without the digits that it never had."""
    return float(f"{value:.6g}")


def untranscribed(message: asr_pb2.Untranscribed) -> Untranscribed:
    """A stretch without text; a reason of a newer contract is not told."""
    try:
        name = asr_pb2.UntranscribedReason.Name(message.reason)
    except ValueError:
        name = ""
    reason = name.removeprefix("UNTRANSCRIBED_REASON_").removeprefix("UNSPECIFIED")
    return Untranscribed(start_s=seconds(message.start), end_s=seconds(message.end), reason=reason)


def asr_stats(done: asr_pb2.Done) -> AsrStats:
    """What one call cost."""
    stats = done.stats
    return AsrStats(
        audio_s=seconds(stats.audio_duration),
        speech_s=seconds(stats.speech_duration),
        queue_s=seconds(stats.queue_time),
        inference_s=seconds(stats.inference_time),
        windows=stats.windows,
        calls=1,
    )


def translated(
    result: translate_pb2.TranslateResult, glossary: Sequence[GlossaryTerm] = ()
) -> TranslatedSegment:
    """A result, under the number of its segment. A status that is not known counts as SUSPECT.

    Raises VoxrouteError for a term that is not in the call's glossary.
    """
    beyond = next((use.term for use in result.glossary if use.term >= len(glossary)), None)
    if beyond is not None:
        raise VoxrouteError(
            f"the translation service tells of glossary term {beyond}, but {len(glossary)} were"
            " sent; this is a defect of it"
        )
    return TranslatedSegment(
        segment_id=int(result.id),
        text=result.text,
        status=STATUSES.get(result.status, "SUSPECT"),
        detail=result.detail,
        model=model(result.model) if result.HasField("model") else None,
        glossary=tuple(
            GlossaryUse(term=glossary[use.term].source, applied=use.applied)
            for use in result.glossary
        ),
    )


def translation_stats(done: translate_pb2.Done) -> TranslationStats:
    """What one call cost."""
    stats = done.stats
    return TranslationStats(
        items=stats.items,
        sentences=stats.sentences,
        queue_s=seconds(stats.queue_time),
        inference_s=seconds(stats.inference_time),
    )
