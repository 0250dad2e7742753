import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from voxroute.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Feature(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_UNSPECIFIED: _ClassVar[Feature]
    FEATURE_WORD_TIMESTAMPS: _ClassVar[Feature]
    FEATURE_ALIGNMENT: _ClassVar[Feature]
    FEATURE_SPEECH_TRANSLATION: _ClassVar[Feature]
    FEATURE_LANGUAGE_DETECTION: _ClassVar[Feature]
    FEATURE_BEAM_SEARCH: _ClassVar[Feature]
    FEATURE_TEMPERATURE_FALLBACK: _ClassVar[Feature]
    FEATURE_INITIAL_PROMPT: _ClassVar[Feature]
    FEATURE_HOTWORDS: _ClassVar[Feature]
    FEATURE_DIARIZATION: _ClassVar[Feature]
    FEATURE_LIVE: _ClassVar[Feature]

class G711Law(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    G711_LAW_UNSPECIFIED: _ClassVar[G711Law]
    G711_LAW_MU: _ClassVar[G711Law]
    G711_LAW_A: _ClassVar[G711Law]

class Task(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_UNSPECIFIED: _ClassVar[Task]
    TASK_TRANSCRIBE: _ClassVar[Task]
    TASK_TRANSLATE: _ClassVar[Task]

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_LOADING: _ClassVar[Stage]
    STAGE_TRANSCRIBING: _ClassVar[Stage]
    STAGE_ALIGNING: _ClassVar[Stage]

class SegmentFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENT_FLAG_UNSPECIFIED: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_REPETITION: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_LOW_CONFIDENCE: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_NO_SPEECH: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_HALLUCINATION: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_LANGUAGE_SWITCH: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_WRONG_SCRIPT: _ClassVar[SegmentFlag]
    SEGMENT_FLAG_INCOMPLETE: _ClassVar[SegmentFlag]

class UntranscribedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNTRANSCRIBED_REASON_UNSPECIFIED: _ClassVar[UntranscribedReason]
    UNTRANSCRIBED_REASON_NO_TEXT: _ClassVar[UntranscribedReason]
    UNTRANSCRIBED_REASON_DOUBTFUL: _ClassVar[UntranscribedReason]

class EndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_REASON_UNSPECIFIED: _ClassVar[EndReason]
    END_REASON_SILENCE: _ClassVar[EndReason]
    END_REASON_CLIENT: _ClassVar[EndReason]
    END_REASON_LENGTH: _ClassVar[EndReason]
    END_REASON_FINISH: _ClassVar[EndReason]
    END_REASON_DROPPED: _ClassVar[EndReason]
FEATURE_UNSPECIFIED: Feature
FEATURE_WORD_TIMESTAMPS: Feature
FEATURE_ALIGNMENT: Feature
FEATURE_SPEECH_TRANSLATION: Feature
FEATURE_LANGUAGE_DETECTION: Feature
FEATURE_BEAM_SEARCH: Feature
FEATURE_TEMPERATURE_FALLBACK: Feature
FEATURE_INITIAL_PROMPT: Feature
FEATURE_HOTWORDS: Feature
FEATURE_DIARIZATION: Feature
FEATURE_LIVE: Feature
G711_LAW_UNSPECIFIED: G711Law
G711_LAW_MU: G711Law
G711_LAW_A: G711Law
TASK_UNSPECIFIED: Task
TASK_TRANSCRIBE: Task
TASK_TRANSLATE: Task
STAGE_UNSPECIFIED: Stage
STAGE_LOADING: Stage
STAGE_TRANSCRIBING: Stage
STAGE_ALIGNING: Stage
SEGMENT_FLAG_UNSPECIFIED: SegmentFlag
SEGMENT_FLAG_REPETITION: SegmentFlag
SEGMENT_FLAG_LOW_CONFIDENCE: SegmentFlag
SEGMENT_FLAG_NO_SPEECH: SegmentFlag
SEGMENT_FLAG_HALLUCINATION: SegmentFlag
SEGMENT_FLAG_LANGUAGE_SWITCH: SegmentFlag
SEGMENT_FLAG_WRONG_SCRIPT: SegmentFlag
SEGMENT_FLAG_INCOMPLETE: SegmentFlag
UNTRANSCRIBED_REASON_UNSPECIFIED: UntranscribedReason
UNTRANSCRIBED_REASON_NO_TEXT: UntranscribedReason
UNTRANSCRIBED_REASON_DOUBTFUL: UntranscribedReason
END_REASON_UNSPECIFIED: EndReason
END_REASON_SILENCE: EndReason
END_REASON_CLIENT: EndReason
END_REASON_LENGTH: EndReason
END_REASON_FINISH: EndReason
END_REASON_DROPPED: EndReason

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("engine", "engine_version", "service_version", "device", "models", "languages", "alignable_languages", "features", "limits", "queue", "real_time_factor")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    ALIGNABLE_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    REAL_TIME_FACTOR_FIELD_NUMBER: _ClassVar[int]
    engine: str
    engine_version: str
    service_version: str
    device: _common_pb2.Device
    models: _containers.RepeatedCompositeFieldContainer[AvailableModel]
    languages: _containers.RepeatedScalarFieldContainer[str]
    alignable_languages: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[Feature]
    limits: Limits
    queue: _common_pb2.QueueStatus
    real_time_factor: float
    def __init__(self, engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., service_version: _Optional[str] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., models: _Optional[_Iterable[_Union[AvailableModel, _Mapping]]] = ..., languages: _Optional[_Iterable[str]] = ..., alignable_languages: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[_Union[Feature, str]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., queue: _Optional[_Union[_common_pb2.QueueStatus, _Mapping]] = ..., real_time_factor: _Optional[float] = ...) -> None: ...

class AvailableModel(_message.Message):
    __slots__ = ("model", "loaded")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelRef
    loaded: bool
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., loaded: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_audio_duration", "max_message_bytes", "max_concurrent_calls", "audio_in_flight", "max_live_streams", "live_update_time")
    MAX_AUDIO_DURATION_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    AUDIO_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_LIVE_STREAMS_FIELD_NUMBER: _ClassVar[int]
    LIVE_UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    max_audio_duration: _duration_pb2.Duration
    max_message_bytes: int
    max_concurrent_calls: int
    audio_in_flight: _duration_pb2.Duration
    max_live_streams: int
    live_update_time: _duration_pb2.Duration
    def __init__(self, max_audio_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_message_bytes: _Optional[int] = ..., max_concurrent_calls: _Optional[int] = ..., audio_in_flight: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_live_streams: _Optional[int] = ..., live_update_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PcmFormat(_message.Message):
    __slots__ = ("sample_rate_hz", "channels")
    SAMPLE_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    sample_rate_hz: int
    channels: int
    def __init__(self, sample_rate_hz: _Optional[int] = ..., channels: _Optional[int] = ...) -> None: ...

class ContainerFormat(_message.Message):
    __slots__ = ("audio_stream", "choose_audio_stream")
    AUDIO_STREAM_FIELD_NUMBER: _ClassVar[int]
    CHOOSE_AUDIO_STREAM_FIELD_NUMBER: _ClassVar[int]
    audio_stream: int
    choose_audio_stream: bool
    def __init__(self, audio_stream: _Optional[int] = ..., choose_audio_stream: bool = ...) -> None: ...

class G711Format(_message.Message):
    __slots__ = ("law",)
    LAW_FIELD_NUMBER: _ClassVar[int]
    law: G711Law
    def __init__(self, law: _Optional[_Union[G711Law, str]] = ...) -> None: ...

class AudioFormat(_message.Message):
    __slots__ = ("pcm", "container", "g711", "start_offset", "channel")
    PCM_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    G711_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    pcm: PcmFormat
    container: ContainerFormat
    g711: G711Format
    start_offset: _duration_pb2.Duration
    channel: int
    def __init__(self, pcm: _Optional[_Union[PcmFormat, _Mapping]] = ..., container: _Optional[_Union[ContainerFormat, _Mapping]] = ..., g711: _Optional[_Union[G711Format, _Mapping]] = ..., start_offset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., channel: _Optional[int] = ...) -> None: ...

class VadOptions(_message.Message):
    __slots__ = ("disabled", "threshold", "min_silence", "padding")
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MIN_SILENCE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    disabled: bool
    threshold: float
    min_silence: _duration_pb2.Duration
    padding: _duration_pb2.Duration
    def __init__(self, disabled: bool = ..., threshold: _Optional[float] = ..., min_silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., padding: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class DecodingOptions(_message.Message):
    __slots__ = ("beam_size", "temperatures", "compression_ratio_threshold", "log_prob_threshold", "no_speech_threshold", "initial_prompt", "hotwords")
    BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURES_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_RATIO_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    LOG_PROB_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NO_SPEECH_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    INITIAL_PROMPT_FIELD_NUMBER: _ClassVar[int]
    HOTWORDS_FIELD_NUMBER: _ClassVar[int]
    beam_size: int
    temperatures: _containers.RepeatedScalarFieldContainer[float]
    compression_ratio_threshold: float
    log_prob_threshold: float
    no_speech_threshold: float
    initial_prompt: str
    hotwords: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, beam_size: _Optional[int] = ..., temperatures: _Optional[_Iterable[float]] = ..., compression_ratio_threshold: _Optional[float] = ..., log_prob_threshold: _Optional[float] = ..., no_speech_threshold: _Optional[float] = ..., initial_prompt: _Optional[str] = ..., hotwords: _Optional[_Iterable[str]] = ...) -> None: ...

class TranscribeConfig(_message.Message):
    __slots__ = ("audio", "model", "language", "task", "word_timestamps", "vad", "decoding", "strict_options", "expected_duration", "resume_from", "allowed_languages")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    WORD_TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    VAD_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    STRICT_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DURATION_FIELD_NUMBER: _ClassVar[int]
    RESUME_FROM_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    audio: AudioFormat
    model: str
    language: str
    task: Task
    word_timestamps: bool
    vad: VadOptions
    decoding: DecodingOptions
    strict_options: bool
    expected_duration: _duration_pb2.Duration
    resume_from: _duration_pb2.Duration
    allowed_languages: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, audio: _Optional[_Union[AudioFormat, _Mapping]] = ..., model: _Optional[str] = ..., language: _Optional[str] = ..., task: _Optional[_Union[Task, str]] = ..., word_timestamps: bool = ..., vad: _Optional[_Union[VadOptions, _Mapping]] = ..., decoding: _Optional[_Union[DecodingOptions, _Mapping]] = ..., strict_options: bool = ..., expected_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resume_from: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., allowed_languages: _Optional[_Iterable[str]] = ...) -> None: ...

class TranscribeRequest(_message.Message):
    __slots__ = ("config", "audio", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: TranscribeConfig
    audio: bytes
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[TranscribeConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class AppliedOptions(_message.Message):
    __slots__ = ("config", "ignored")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    config: TranscribeConfig
    ignored: _containers.RepeatedCompositeFieldContainer[_common_pb2.IgnoredOption]
    def __init__(self, config: _Optional[_Union[TranscribeConfig, _Mapping]] = ..., ignored: _Optional[_Iterable[_Union[_common_pb2.IgnoredOption, _Mapping]]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("request_id", "model", "device", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _common_pb2.ModelRef
    device: _common_pb2.Device
    options: AppliedOptions
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., options: _Optional[_Union[AppliedOptions, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "done", "total", "resume_from")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    RESUME_FROM_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    done: _duration_pb2.Duration
    total: _duration_pb2.Duration
    resume_from: _duration_pb2.Duration
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., done: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resume_from: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LanguageProbability(_message.Message):
    __slots__ = ("language", "probability")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    language: str
    probability: float
    def __init__(self, language: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class LanguageDetected(_message.Message):
    __slots__ = ("languages",)
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    languages: _containers.RepeatedCompositeFieldContainer[LanguageProbability]
    def __init__(self, languages: _Optional[_Iterable[_Union[LanguageProbability, _Mapping]]] = ...) -> None: ...

class Word(_message.Message):
    __slots__ = ("text", "start", "end", "confidence")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    text: str
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    confidence: float
    def __init__(self, text: _Optional[str] = ..., start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., confidence: _Optional[float] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("id", "start", "end", "text", "language", "words", "avg_log_prob", "no_speech_prob", "compression_ratio", "temperature", "flags")
    ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    AVG_LOG_PROB_FIELD_NUMBER: _ClassVar[int]
    NO_SPEECH_PROB_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_RATIO_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    id: int
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    text: str
    language: str
    words: _containers.RepeatedCompositeFieldContainer[Word]
    avg_log_prob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    flags: _containers.RepeatedScalarFieldContainer[SegmentFlag]
    def __init__(self, id: _Optional[int] = ..., start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., text: _Optional[str] = ..., language: _Optional[str] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ..., avg_log_prob: _Optional[float] = ..., no_speech_prob: _Optional[float] = ..., compression_ratio: _Optional[float] = ..., temperature: _Optional[float] = ..., flags: _Optional[_Iterable[_Union[SegmentFlag, str]]] = ...) -> None: ...

class TranscribeStats(_message.Message):
    __slots__ = ("audio_duration", "speech_duration", "queue_time", "inference_time", "real_time_factor", "windows", "untranscribed_duration")
    AUDIO_DURATION_FIELD_NUMBER: _ClassVar[int]
    SPEECH_DURATION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIME_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_TIME_FIELD_NUMBER: _ClassVar[int]
    REAL_TIME_FACTOR_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    UNTRANSCRIBED_DURATION_FIELD_NUMBER: _ClassVar[int]
    audio_duration: _duration_pb2.Duration
    speech_duration: _duration_pb2.Duration
    queue_time: _duration_pb2.Duration
    inference_time: _duration_pb2.Duration
    real_time_factor: float
    windows: int
    untranscribed_duration: _duration_pb2.Duration
    def __init__(self, audio_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., speech_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inference_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., real_time_factor: _Optional[float] = ..., windows: _Optional[int] = ..., untranscribed_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Untranscribed(_message.Message):
    __slots__ = ("start", "end", "reason")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    reason: UntranscribedReason
    def __init__(self, start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., reason: _Optional[_Union[UntranscribedReason, str]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("stats", "segments")
    STATS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    stats: TranscribeStats
    segments: int
    def __init__(self, stats: _Optional[_Union[TranscribeStats, _Mapping]] = ..., segments: _Optional[int] = ...) -> None: ...

class TranscribeResponse(_message.Message):
    __slots__ = ("accepted", "progress", "language_detected", "segment", "warning", "done", "untranscribed")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_DETECTED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    UNTRANSCRIBED_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    progress: Progress
    language_detected: LanguageDetected
    segment: Segment
    warning: _common_pb2.Warning
    done: Done
    untranscribed: Untranscribed
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., language_detected: _Optional[_Union[LanguageDetected, _Mapping]] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., warning: _Optional[_Union[_common_pb2.Warning, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., untranscribed: _Optional[_Union[Untranscribed, _Mapping]] = ...) -> None: ...

class DetectLanguageConfig(_message.Message):
    __slots__ = ("audio", "model", "vad", "max_windows", "top")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VAD_FIELD_NUMBER: _ClassVar[int]
    MAX_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    audio: AudioFormat
    model: str
    vad: VadOptions
    max_windows: int
    top: int
    def __init__(self, audio: _Optional[_Union[AudioFormat, _Mapping]] = ..., model: _Optional[str] = ..., vad: _Optional[_Union[VadOptions, _Mapping]] = ..., max_windows: _Optional[int] = ..., top: _Optional[int] = ...) -> None: ...

class DetectLanguageRequest(_message.Message):
    __slots__ = ("config", "audio", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: DetectLanguageConfig
    audio: bytes
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[DetectLanguageConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class DetectLanguageResponse(_message.Message):
    __slots__ = ("languages", "windows", "model")
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    languages: _containers.RepeatedCompositeFieldContainer[LanguageProbability]
    windows: int
    model: _common_pb2.ModelRef
    def __init__(self, languages: _Optional[_Iterable[_Union[LanguageProbability, _Mapping]]] = ..., windows: _Optional[int] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...

class AlignConfig(_message.Message):
    __slots__ = ("audio", "language")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    audio: AudioFormat
    language: str
    def __init__(self, audio: _Optional[_Union[AudioFormat, _Mapping]] = ..., language: _Optional[str] = ...) -> None: ...

class AlignSegment(_message.Message):
    __slots__ = ("id", "start", "end", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: int
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    text: str
    def __init__(self, id: _Optional[int] = ..., start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class AlignRequest(_message.Message):
    __slots__ = ("config", "segment", "audio", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: AlignConfig
    segment: AlignSegment
    audio: bytes
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[AlignConfig, _Mapping]] = ..., segment: _Optional[_Union[AlignSegment, _Mapping]] = ..., audio: _Optional[bytes] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class AlignAccepted(_message.Message):
    __slots__ = ("request_id", "model", "device")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _common_pb2.ModelRef
    device: _common_pb2.Device
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ...) -> None: ...

class AlignDone(_message.Message):
    __slots__ = ("aligned", "failed")
    ALIGNED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    aligned: int
    failed: int
    def __init__(self, aligned: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...

class AlignResponse(_message.Message):
    __slots__ = ("accepted", "segment", "warning", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: AlignAccepted
    segment: Segment
    warning: _common_pb2.Warning
    done: AlignDone
    def __init__(self, accepted: _Optional[_Union[AlignAccepted, _Mapping]] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., warning: _Optional[_Union[_common_pb2.Warning, _Mapping]] = ..., done: _Optional[_Union[AlignDone, _Mapping]] = ...) -> None: ...

class DiarizeConfig(_message.Message):
    __slots__ = ("audio", "model", "min_speakers", "max_speakers")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MIN_SPEAKERS_FIELD_NUMBER: _ClassVar[int]
    MAX_SPEAKERS_FIELD_NUMBER: _ClassVar[int]
    audio: AudioFormat
    model: str
    min_speakers: int
    max_speakers: int
    def __init__(self, audio: _Optional[_Union[AudioFormat, _Mapping]] = ..., model: _Optional[str] = ..., min_speakers: _Optional[int] = ..., max_speakers: _Optional[int] = ...) -> None: ...

class DiarizeRequest(_message.Message):
    __slots__ = ("config", "audio", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: DiarizeConfig
    audio: bytes
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[DiarizeConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class DiarizeAccepted(_message.Message):
    __slots__ = ("request_id", "model", "device")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _common_pb2.ModelRef
    device: _common_pb2.Device
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ...) -> None: ...

class SpeakerTurn(_message.Message):
    __slots__ = ("start", "end", "speaker")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    SPEAKER_FIELD_NUMBER: _ClassVar[int]
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    speaker: str
    def __init__(self, start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., speaker: _Optional[str] = ...) -> None: ...

class DiarizeDone(_message.Message):
    __slots__ = ("speakers", "turns")
    SPEAKERS_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    speakers: int
    turns: int
    def __init__(self, speakers: _Optional[int] = ..., turns: _Optional[int] = ...) -> None: ...

class DiarizeResponse(_message.Message):
    __slots__ = ("accepted", "turn", "warning", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: DiarizeAccepted
    turn: SpeakerTurn
    warning: _common_pb2.Warning
    done: DiarizeDone
    def __init__(self, accepted: _Optional[_Union[DiarizeAccepted, _Mapping]] = ..., turn: _Optional[_Union[SpeakerTurn, _Mapping]] = ..., warning: _Optional[_Union[_common_pb2.Warning, _Mapping]] = ..., done: _Optional[_Union[DiarizeDone, _Mapping]] = ...) -> None: ...

class EndpointOptions(_message.Message):
    __slots__ = ("silence", "max_utterance", "manual")
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    MANUAL_FIELD_NUMBER: _ClassVar[int]
    silence: _duration_pb2.Duration
    max_utterance: _duration_pb2.Duration
    manual: bool
    def __init__(self, silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_utterance: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., manual: bool = ...) -> None: ...

class LiveConfig(_message.Message):
    __slots__ = ("audio", "model", "language", "allowed_languages", "vad", "decoding", "strict_options", "endpoint", "update_interval", "refine", "tentative")
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    VAD_FIELD_NUMBER: _ClassVar[int]
    DECODING_FIELD_NUMBER: _ClassVar[int]
    STRICT_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    TENTATIVE_FIELD_NUMBER: _ClassVar[int]
    audio: AudioFormat
    model: str
    language: str
    allowed_languages: _containers.RepeatedScalarFieldContainer[str]
    vad: VadOptions
    decoding: DecodingOptions
    strict_options: bool
    endpoint: EndpointOptions
    update_interval: _duration_pb2.Duration
    refine: bool
    tentative: bool
    def __init__(self, audio: _Optional[_Union[AudioFormat, _Mapping]] = ..., model: _Optional[str] = ..., language: _Optional[str] = ..., allowed_languages: _Optional[_Iterable[str]] = ..., vad: _Optional[_Union[VadOptions, _Mapping]] = ..., decoding: _Optional[_Union[DecodingOptions, _Mapping]] = ..., strict_options: bool = ..., endpoint: _Optional[_Union[EndpointOptions, _Mapping]] = ..., update_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., refine: bool = ..., tentative: bool = ...) -> None: ...

class EndUtterance(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DropUtterance(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TranscribeLiveRequest(_message.Message):
    __slots__ = ("config", "audio", "end_utterance", "drop_utterance", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    END_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    DROP_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: LiveConfig
    audio: bytes
    end_utterance: EndUtterance
    drop_utterance: DropUtterance
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[LiveConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., end_utterance: _Optional[_Union[EndUtterance, _Mapping]] = ..., drop_utterance: _Optional[_Union[DropUtterance, _Mapping]] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class LiveAccepted(_message.Message):
    __slots__ = ("request_id", "model", "device", "config", "ignored")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _common_pb2.ModelRef
    device: _common_pb2.Device
    config: LiveConfig
    ignored: _containers.RepeatedCompositeFieldContainer[_common_pb2.IgnoredOption]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., config: _Optional[_Union[LiveConfig, _Mapping]] = ..., ignored: _Optional[_Iterable[_Union[_common_pb2.IgnoredOption, _Mapping]]] = ...) -> None: ...

class SpeechStarted(_message.Message):
    __slots__ = ("utterance", "at")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    at: _duration_pb2.Duration
    def __init__(self, utterance: _Optional[int] = ..., at: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Committed(_message.Message):
    __slots__ = ("utterance", "text", "words")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    text: str
    words: _containers.RepeatedCompositeFieldContainer[Word]
    def __init__(self, utterance: _Optional[int] = ..., text: _Optional[str] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ...) -> None: ...

class Tentative(_message.Message):
    __slots__ = ("utterance", "text", "words")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    text: str
    words: _containers.RepeatedCompositeFieldContainer[Word]
    def __init__(self, utterance: _Optional[int] = ..., text: _Optional[str] = ..., words: _Optional[_Iterable[_Union[Word, _Mapping]]] = ...) -> None: ...

class SpeechStopped(_message.Message):
    __slots__ = ("utterance", "at")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    at: _duration_pb2.Duration
    def __init__(self, utterance: _Optional[int] = ..., at: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Utterance(_message.Message):
    __slots__ = ("utterance", "start", "end", "language", "segments", "untranscribed", "reason", "refined")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    UNTRANSCRIBED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFINED_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    language: str
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    untranscribed: _containers.RepeatedCompositeFieldContainer[Untranscribed]
    reason: EndReason
    refined: bool
    def __init__(self, utterance: _Optional[int] = ..., start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., language: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., untranscribed: _Optional[_Iterable[_Union[Untranscribed, _Mapping]]] = ..., reason: _Optional[_Union[EndReason, str]] = ..., refined: bool = ...) -> None: ...

class LiveProgress(_message.Message):
    __slots__ = ("stage", "heard", "settled", "update_interval")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    heard: _duration_pb2.Duration
    settled: _duration_pb2.Duration
    update_interval: _duration_pb2.Duration
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., heard: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., settled: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., update_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LiveDone(_message.Message):
    __slots__ = ("stats", "utterances", "updates")
    STATS_FIELD_NUMBER: _ClassVar[int]
    UTTERANCES_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    stats: TranscribeStats
    utterances: int
    updates: int
    def __init__(self, stats: _Optional[_Union[TranscribeStats, _Mapping]] = ..., utterances: _Optional[int] = ..., updates: _Optional[int] = ...) -> None: ...

class TranscribeLiveResponse(_message.Message):
    __slots__ = ("accepted", "language_detected", "speech_started", "committed", "tentative", "speech_stopped", "utterance", "progress", "warning", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_DETECTED_FIELD_NUMBER: _ClassVar[int]
    SPEECH_STARTED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    TENTATIVE_FIELD_NUMBER: _ClassVar[int]
    SPEECH_STOPPED_FIELD_NUMBER: _ClassVar[int]
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: LiveAccepted
    language_detected: LanguageDetected
    speech_started: SpeechStarted
    committed: Committed
    tentative: Tentative
    speech_stopped: SpeechStopped
    utterance: Utterance
    progress: LiveProgress
    warning: _common_pb2.Warning
    done: LiveDone
    def __init__(self, accepted: _Optional[_Union[LiveAccepted, _Mapping]] = ..., language_detected: _Optional[_Union[LanguageDetected, _Mapping]] = ..., speech_started: _Optional[_Union[SpeechStarted, _Mapping]] = ..., committed: _Optional[_Union[Committed, _Mapping]] = ..., tentative: _Optional[_Union[Tentative, _Mapping]] = ..., speech_stopped: _Optional[_Union[SpeechStopped, _Mapping]] = ..., utterance: _Optional[_Union[Utterance, _Mapping]] = ..., progress: _Optional[_Union[LiveProgress, _Mapping]] = ..., warning: _Optional[_Union[_common_pb2.Warning, _Mapping]] = ..., done: _Optional[_Union[LiveDone, _Mapping]] = ...) -> None: ...
