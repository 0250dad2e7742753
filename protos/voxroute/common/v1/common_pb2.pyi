from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeviceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEVICE_KIND_UNSPECIFIED: _ClassVar[DeviceKind]
    DEVICE_KIND_CPU: _ClassVar[DeviceKind]
    DEVICE_KIND_CUDA: _ClassVar[DeviceKind]
    DEVICE_KIND_MPS: _ClassVar[DeviceKind]
DEVICE_KIND_UNSPECIFIED: DeviceKind
DEVICE_KIND_CPU: DeviceKind
DEVICE_KIND_CUDA: DeviceKind
DEVICE_KIND_MPS: DeviceKind

class Device(_message.Message):
    __slots__ = ("kind", "name", "memory_total_bytes", "memory_free_bytes", "compute_type")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_TYPE_FIELD_NUMBER: _ClassVar[int]
    kind: DeviceKind
    name: str
    memory_total_bytes: int
    memory_free_bytes: int
    compute_type: str
    def __init__(self, kind: _Optional[_Union[DeviceKind, str]] = ..., name: _Optional[str] = ..., memory_total_bytes: _Optional[int] = ..., memory_free_bytes: _Optional[int] = ..., compute_type: _Optional[str] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("engine", "id", "revision")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    engine: str
    id: str
    revision: str
    def __init__(self, engine: _Optional[str] = ..., id: _Optional[str] = ..., revision: _Optional[str] = ...) -> None: ...

class IgnoredOption(_message.Message):
    __slots__ = ("field", "reason")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    field: str
    reason: str
    def __init__(self, field: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class QueueStatus(_message.Message):
    __slots__ = ("calls_in_flight", "calls_capacity", "work_queued")
    CALLS_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CALLS_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    WORK_QUEUED_FIELD_NUMBER: _ClassVar[int]
    calls_in_flight: int
    calls_capacity: int
    work_queued: int
    def __init__(self, calls_in_flight: _Optional[int] = ..., calls_capacity: _Optional[int] = ..., work_queued: _Optional[int] = ...) -> None: ...

class Warning(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
