import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from voxroute.asr.v1 import asr_pb2 as _asr_pb2
from voxroute.common.v1 import common_pb2 as _common_pb2
from voxroute.translate.v1 import translate_pb2 as _translate_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CaptionConfig(_message.Message):
    __slots__ = ("speech", "target_languages", "translation_model", "glossary")
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    TRANSLATION_MODEL_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_FIELD_NUMBER: _ClassVar[int]
    speech: _asr_pb2.LiveConfig
    target_languages: _containers.RepeatedScalarFieldContainer[str]
    translation_model: str
    glossary: _containers.RepeatedCompositeFieldContainer[_translate_pb2.GlossaryTerm]
    def __init__(self, speech: _Optional[_Union[_asr_pb2.LiveConfig, _Mapping]] = ..., target_languages: _Optional[_Iterable[str]] = ..., translation_model: _Optional[str] = ..., glossary: _Optional[_Iterable[_Union[_translate_pb2.GlossaryTerm, _Mapping]]] = ...) -> None: ...

class CaptionRequest(_message.Message):
    __slots__ = ("config", "audio", "end_utterance", "drop_utterance", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    END_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    DROP_UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: CaptionConfig
    audio: bytes
    end_utterance: _asr_pb2.EndUtterance
    drop_utterance: _asr_pb2.DropUtterance
    finish: _common_pb2.Finish
    def __init__(self, config: _Optional[_Union[CaptionConfig, _Mapping]] = ..., audio: _Optional[bytes] = ..., end_utterance: _Optional[_Union[_asr_pb2.EndUtterance, _Mapping]] = ..., drop_utterance: _Optional[_Union[_asr_pb2.DropUtterance, _Mapping]] = ..., finish: _Optional[_Union[_common_pb2.Finish, _Mapping]] = ...) -> None: ...

class Sentence(_message.Message):
    __slots__ = ("utterance", "sentence", "text", "start", "end", "language")
    UTTERANCE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    utterance: int
    sentence: int
    text: str
    start: _duration_pb2.Duration
    end: _duration_pb2.Duration
    language: str
    def __init__(self, utterance: _Optional[int] = ..., sentence: _Optional[int] = ..., text: _Optional[str] = ..., start: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., end: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., language: _Optional[str] = ...) -> None: ...

class Translated(_message.Message):
    __slots__ = ("sentence", "target_language", "text", "status", "detail")
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sentence: int
    target_language: str
    text: str
    status: _translate_pb2.ItemStatus
    detail: str
    def __init__(self, sentence: _Optional[int] = ..., target_language: _Optional[str] = ..., text: _Optional[str] = ..., status: _Optional[_Union[_translate_pb2.ItemStatus, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class CaptionResponse(_message.Message):
    __slots__ = ("speech", "sentence", "translated", "warning")
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    TRANSLATED_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    speech: _asr_pb2.TranscribeLiveResponse
    sentence: Sentence
    translated: Translated
    warning: _common_pb2.Warning
    def __init__(self, speech: _Optional[_Union[_asr_pb2.TranscribeLiveResponse, _Mapping]] = ..., sentence: _Optional[_Union[Sentence, _Mapping]] = ..., translated: _Optional[_Union[Translated, _Mapping]] = ..., warning: _Optional[_Union[_common_pb2.Warning, _Mapping]] = ...) -> None: ...
