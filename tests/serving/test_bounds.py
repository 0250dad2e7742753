"""What every field may hold: the default, the table, numbers and durations, and what is quoted."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import grpc
import psutil
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from tests.serving.fake_service import running
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute.jobs.v1 import jobs_pb2
from voxroute.models.v1 import models_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_serving import bounds
from voxroute_serving.asr.messages import transcribe_options
from voxroute_serving.errors import InvalidInputError

CONTRACTS = (asr_pb2, models_pb2, translate_pb2, jobs_pb2)
NO_DURATIONS = (
    Duration(seconds=bounds.MAX_DURATION_S + 1),
    Duration(seconds=-(2**63)),
    Duration(nanos=10**9),
    Duration(nanos=-(2**31)),
    Duration(seconds=1, nanos=-1),
    Duration(seconds=-1, nanos=1),
)


def requests() -> list[type[Message]]:
    """The request messages of all contracts."""
    return [
        GetMessageClass(method.input_type)
        for contract in CONTRACTS
        for service in contract.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def holders(kind: type[Message]) -> Iterator[tuple[Message, Message, FieldDescriptor]]:
    """For each field below a request: the request, the message that has the field, the field."""

    def below(path: tuple[FieldDescriptor, ...]) -> Iterator[tuple[FieldDescriptor, ...]]:
        inner = path[-1].message_type if path else kind.DESCRIPTOR
        if inner is None or inner.file.name.startswith("google/"):
            return
        for field in cast("list[FieldDescriptor]", inner.fields):
            yield (*path, field)
            yield from below((*path, field))

    for *path, last in below(()):
        request = kind()
        message: Message = request
        for field in path:
            value = getattr(message, field.name)
            message = value.add() if field.is_repeated else value
            message.SetInParent()
        yield request, message, last


def violations(request: Message) -> list[str]:
    """The fields that hold too much."""
    return [violation.field for violation in bounds.violations_of(request)]


@pytest.mark.parametrize("kind", requests(), ids=lambda kind: kind.DESCRIPTOR.full_name)
def test_every_text_list_number_and_duration_is_bounded(kind: type[Message]) -> None:
    """Of every request; what is left to a servicer's own rules is named in the table."""
    for request, message, field in holders(kind):
        bound = bounds.bound_of(field)
        if field.is_repeated and bound.entries is not None:
            entry = field.message_type is None and ("" if field.type == field.TYPE_STRING else 0)
            values = getattr(message, field.name)
            for _ in range(bound.entries + 1):
                values.add() if field.message_type is not None else values.append(entry)
            assert violations(request), field.full_name
            del values[bound.entries :]
            assert not violations(request), field.full_name
            message.ClearField(field.name)
        for value, right in around(field):
            put(message, field, value)
            assert (not violations(request)) is right, f"{field.full_name} {str(value)[:20]}"


def around(field: FieldDescriptor) -> Sequence[tuple[object, bool]]:
    """Values on both sides of a field's bound, and whether each is right."""
    most = bounds.bound_of(field).characters
    if field.type == field.TYPE_STRING and most is not None:
        return [("ब" * most, True), ("ब" * (most + 1), False)]
    if field.type == field.TYPE_UINT64:
        return [(2**63 - 1, True), (2**63, False)]
    if field.message_type is not None and field.message_type.name == "Duration":
        durations = (Duration(seconds=bounds.MAX_DURATION_S), Duration(seconds=-1, nanos=-1))
        return [(one, True) for one in durations] + [(one, False) for one in NO_DURATIONS]
    return []


def put(message: Message, field: FieldDescriptor, value: object) -> None:
    """Sets a field, or the only entry of a repeated one."""
    if isinstance(value, Message):
        getattr(message, field.name).CopyFrom(value)
        return
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    message.ClearField(field.name)
    getattr(message, field.name).append(value)


def test_the_table_names_fields_that_there_are() -> None:
    """A field that was renamed would fall back to the default without a word."""
    known = {field.full_name for kind in requests() for _, _, field in holders(kind)}
    assert set(bounds.BOUNDS) <= known


def test_a_time_is_of_the_years_that_its_contract_has() -> None:
    """google.protobuf.Timestamp: 1 to 9999."""
    assert not violations(Timestamp(seconds=253_402_300_799, nanos=999_999_999))
    for wrong in (Timestamp(seconds=253_402_300_800), Timestamp(nanos=-1)):
        assert violations(wrong) == [""]


@pytest.mark.parametrize(
    ("decoding", "field"),
    [
        ({"temperatures": [0.0] * 11}, "decoding.temperatures"),
        ({"temperatures": [1e-40]}, "decoding.temperatures"),
        ({"temperatures": [0.009]}, "decoding.temperatures"),
        ({"hotwords": ["zq " * 1_100_000]}, "decoding.hotwords"),
        ({"hotwords": ["x" * 201]}, "decoding.hotwords"),
        ({"hotwords": ["x"] * 257}, "decoding.hotwords"),
        ({"initial_prompt": "x" * 10_001}, "decoding.initial_prompt"),
    ],
)
def test_what_decoding_takes_is_bounded(decoding: dict[str, object], field: str) -> None:
    """In entries and in characters; what is just within is taken."""
    config = asr_pb2.TranscribeConfig()
    config.audio.pcm.sample_rate_hz = 16_000
    config.decoding.MergeFrom(asr_pb2.DecodingOptions(**decoding))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError) as caught:
        transcribe_options(config)
    assert [violation.field for violation in caught.value.violations] == [field]
    within = asr_pb2.DecodingOptions(
        temperatures=[0.0, *([0.01] * 9)], hotwords=["x" * 200] * 256, initial_prompt="x" * 10_000
    )
    config.decoding.CopyFrom(within)
    assert transcribe_options(config).decoding.temperatures[1] == pytest.approx(0.01)


def test_answers_quote_a_hundred_characters_of_what_was_sent(tmp_path: Path) -> None:
    """Whatever the name stands for: a model, a language, a service."""
    name = "q" * 256
    with running(tmp_path) as service, grpc.insecure_channel(service.address) as channel:
        stub = asr_pb2_grpc.AsrServiceStub(channel)
        pcm = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000))
        finish = asr_pb2.TranscribeRequest(finish=common_pb2.Finish())
        for field in ("model", "language"):
            config = asr_pb2.TranscribeConfig(audio=pcm)
            setattr(config, field, name)
            call = stub.Transcribe(
                iter([asr_pb2.TranscribeRequest(config=config), finish]),
                timeout=60,
                wait_for_ready=True,
            )
            with pytest.raises(grpc.RpcError) as caught:
                list(call)
            said = str(caught.value.details())  # pyright: ignore[reportAttributeAccessIssue]
            assert max(map(len, re.findall("q+", said)), default=0) <= 100, said


def test_refused_requests_leave_nothing_in_memory(tmp_path: Path) -> None:
    """Not even until the garbage collector comes: each of these takes tens of megabytes."""
    config = asr_pb2.TranscribeConfig(
        decoding=asr_pb2.DecodingOptions(hotwords=[""] * 1_000_000), language="hi"
    )
    sent = [
        asr_pb2.TranscribeRequest(config=config).SerializeToString(),
        asr_pb2.TranscribeRequest(finish=common_pb2.Finish()).SerializeToString(),
    ]
    with running(tmp_path) as service, grpc.insecure_channel(service.address) as channel:
        transcribe = channel.stream_stream("/voxroute.asr.v1.AsrService/Transcribe")
        memory: list[int] = []
        for _ in range(8):
            with pytest.raises(grpc.RpcError, match=r"audio\.encoding"):
                list(transcribe(iter(sent), timeout=60))
            memory.append(psutil.Process(service.process.pid).memory_info().rss)
    assert max(memory) < memory[1] + (64 << 20), [one >> 20 for one in memory]
