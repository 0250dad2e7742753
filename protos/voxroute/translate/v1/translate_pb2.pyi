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

class ItemStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_STATUS_UNSPECIFIED: _ClassVar[ItemStatus]
    ITEM_STATUS_OK: _ClassVar[ItemStatus]
    ITEM_STATUS_PASSTHROUGH: _ClassVar[ItemStatus]
    ITEM_STATUS_TRUNCATED: _ClassVar[ItemStatus]
    ITEM_STATUS_SUSPECT: _ClassVar[ItemStatus]
    ITEM_STATUS_FAILED: _ClassVar[ItemStatus]
ITEM_STATUS_UNSPECIFIED: ItemStatus
ITEM_STATUS_OK: ItemStatus
ITEM_STATUS_PASSTHROUGH: ItemStatus
ITEM_STATUS_TRUNCATED: ItemStatus
ITEM_STATUS_SUSPECT: ItemStatus
ITEM_STATUS_FAILED: ItemStatus

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("service_version", "device", "models", "limits", "queue")
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    service_version: str
    device: _common_pb2.Device
    models: _containers.RepeatedCompositeFieldContainer[AvailableModel]
    limits: Limits
    queue: _common_pb2.QueueStatus
    def __init__(self, service_version: _Optional[str] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., models: _Optional[_Iterable[_Union[AvailableModel, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., queue: _Optional[_Union[_common_pb2.QueueStatus, _Mapping]] = ...) -> None: ...

class AvailableModel(_message.Message):
    __slots__ = ("model", "loaded", "license")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelRef
    loaded: bool
    license: str
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., loaded: bool = ..., license: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_item_characters", "max_message_bytes", "max_concurrent_calls")
    MAX_ITEM_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    max_item_characters: int
    max_message_bytes: int
    max_concurrent_calls: int
    def __init__(self, max_item_characters: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_concurrent_calls: _Optional[int] = ...) -> None: ...

class ListLanguagePairsRequest(_message.Message):
    __slots__ = ("source_language", "target_language")
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    source_language: str
    target_language: str
    def __init__(self, source_language: _Optional[str] = ..., target_language: _Optional[str] = ...) -> None: ...

class ListLanguagePairsResponse(_message.Message):
    __slots__ = ("pairs",)
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    pairs: _containers.RepeatedCompositeFieldContainer[LanguagePair]
    def __init__(self, pairs: _Optional[_Iterable[_Union[LanguagePair, _Mapping]]] = ...) -> None: ...

class LanguagePair(_message.Message):
    __slots__ = ("source_language", "target_language", "model")
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    source_language: str
    target_language: str
    model: _common_pb2.ModelRef
    def __init__(self, source_language: _Optional[str] = ..., target_language: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ...) -> None: ...

class TranslateConfig(_message.Message):
    __slots__ = ("source_language", "target_language", "model", "beam_size", "strict_options", "glossary")
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    STRICT_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_FIELD_NUMBER: _ClassVar[int]
    source_language: str
    target_language: str
    model: str
    beam_size: int
    strict_options: bool
    glossary: _containers.RepeatedCompositeFieldContainer[GlossaryTerm]
    def __init__(self, source_language: _Optional[str] = ..., target_language: _Optional[str] = ..., model: _Optional[str] = ..., beam_size: _Optional[int] = ..., strict_options: bool = ..., glossary: _Optional[_Iterable[_Union[GlossaryTerm, _Mapping]]] = ...) -> None: ...

class GlossaryTerm(_message.Message):
    __slots__ = ("source", "target", "case_sensitive", "do_not_translate")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CASE_SENSITIVE_FIELD_NUMBER: _ClassVar[int]
    DO_NOT_TRANSLATE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    case_sensitive: bool
    do_not_translate: bool
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., case_sensitive: bool = ..., do_not_translate: bool = ...) -> None: ...

class GlossaryUse(_message.Message):
    __slots__ = ("term", "applied")
    TERM_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    term: int
    applied: bool
    def __init__(self, term: _Optional[int] = ..., applied: bool = ...) -> None: ...

class TranslateItem(_message.Message):
    __slots__ = ("id", "text", "context")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    context: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., context: _Optional[_Iterable[str]] = ...) -> None: ...

class TranslateRequest(_message.Message):
    __slots__ = ("config", "item", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: TranslateConfig
    item: TranslateItem
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[TranslateConfig, _Mapping]] = ..., item: _Optional[_Union[TranslateItem, _Mapping]] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("request_id", "model", "device", "config", "ignored")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: _common_pb2.ModelRef
    device: _common_pb2.Device
    config: TranslateConfig
    ignored: _containers.RepeatedCompositeFieldContainer[_common_pb2.IgnoredOption]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., device: _Optional[_Union[_common_pb2.Device, _Mapping]] = ..., config: _Optional[_Union[TranslateConfig, _Mapping]] = ..., ignored: _Optional[_Iterable[_Union[_common_pb2.IgnoredOption, _Mapping]]] = ...) -> None: ...

class TranslateResult(_message.Message):
    __slots__ = ("id", "text", "status", "model", "detail", "glossary")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    status: ItemStatus
    model: _common_pb2.ModelRef
    detail: str
    glossary: _containers.RepeatedCompositeFieldContainer[GlossaryUse]
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., status: _Optional[_Union[ItemStatus, str]] = ..., model: _Optional[_Union[_common_pb2.ModelRef, _Mapping]] = ..., detail: _Optional[str] = ..., glossary: _Optional[_Iterable[_Union[GlossaryUse, _Mapping]]] = ...) -> None: ...

class TranslateStats(_message.Message):
    __slots__ = ("items", "sentences", "queue_time", "inference_time")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIME_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_TIME_FIELD_NUMBER: _ClassVar[int]
    items: int
    sentences: int
    queue_time: _duration_pb2.Duration
    inference_time: _duration_pb2.Duration
    def __init__(self, items: _Optional[int] = ..., sentences: _Optional[int] = ..., queue_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., inference_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: TranslateStats
    def __init__(self, stats: _Optional[_Union[TranslateStats, _Mapping]] = ...) -> None: ...

class TranslateResponse(_message.Message):
    __slots__ = ("accepted", "result", "warning", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    result: TranslateResult
    warning: _common_pb2.Warning
    done: Done
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., result: _Optional[_Union[TranslateResult, _Mapping]] = ..., warning: _Optional[_Union[_common_pb2.Warning, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ...) -> None: ...
