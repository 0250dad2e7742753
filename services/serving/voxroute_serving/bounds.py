"""What every field of every request may hold at most; looked at before anything else is done.

The rule of a field is in `BOUNDS`, by its full name in the contracts; a field that is not there has
the default of its kind, so one that is added to a contract is bounded from its first day. What a
servicer's own rules bound, with a sentence of their own and before any work too, is `OWN`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from voxroute_serving.errors import FieldViolation, InvalidInputError

MAX_QUOTED = 100
"""Characters of what a client sent that an answer or a line of the log repeats."""
MAX_INTEGER = 2**63 - 1
"""Of an unsigned field: SQLite and file offsets have signed 64 bits."""
MAX_DURATION_S = 315_576_000_000
"""Seconds of a google.protobuf.Duration in either direction, by its own contract: 10,000 years."""

_TIMESTAMPS_S = range(-62_135_596_800, 253_402_300_800)  # years 1 to 9999, by its contract
_NANOS = 10**9
_MAX_VIOLATIONS = 8  # as many as a status carries; see calls/statuses.py


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a field may hold; None for what the size of a message bounds."""

    characters: int | None = 256
    """Of each text."""
    entries: int | None = 100
    """Of a repeated field."""


DEFAULT = Bound()
OWN = Bound(None, None)

_TERMS = Bound(entries=1000)
_TERM = Bound(characters=200)
BOUNDS: Mapping[str, Bound] = {
    # asr/messages.py
    "voxroute.asr.v1.DecodingOptions.temperatures": OWN,
    "voxroute.asr.v1.DecodingOptions.initial_prompt": OWN,
    "voxroute.asr.v1.DecodingOptions.hotwords": OWN,
    # half a minute of speech has some hundreds of characters; a model's loop has thousands
    "voxroute.asr.v1.AlignSegment.text": Bound(characters=5_000),
    "voxroute.translate.v1.TranslateConfig.glossary": _TERMS,
    "voxroute.translate.v1.GlossaryTerm.source": _TERM,
    "voxroute.translate.v1.GlossaryTerm.target": _TERM,
    # --max-item-characters; a longer one fails alone
    "voxroute.translate.v1.TranslateItem.text": OWN,
    "voxroute.translate.v1.TranslateItem.context": Bound(characters=5_000),
    "voxroute.translate.v1.TranslateItem.id": Bound(characters=64),
    "voxroute.jobs.v1.SubmitJobConfig.idempotency_key": Bound(characters=128),
    "voxroute.jobs.v1.JobConfig.media_path": Bound(characters=4096),  # the longest path of Linux
    "voxroute.jobs.v1.JobConfig.source_languages": Bound(characters=64),
    "voxroute.jobs.v1.JobConfig.target_languages": Bound(characters=64, entries=50),
    "voxroute.jobs.v1.JobConfig.formats": Bound(characters=20, entries=10),
    "voxroute.jobs.v1.JobConfig.glossary": _TERMS,
    "voxroute.jobs.v1.JobConfig.prompt": Bound(characters=2_000),
    # jobs/editing/segments.py, which knows the number of the segment
    "voxroute.jobs.v1.TranscriptSegment.text": OWN,
    "voxroute.jobs.v1.SegmentTranslation.text": OWN,
    "voxroute.jobs.v1.TranscriptSegment.words": Bound(entries=1_000),
    "voxroute.jobs.v1.RetranslateRequest.segment_ids": Bound(entries=10_000),
    "voxroute.jobs.v1.RetimeRequest.segment_ids": Bound(entries=10_000),
}


def bound_of(field: FieldDescriptor) -> Bound:
    """The bound of a field."""
    return BOUNDS.get(field.full_name, DEFAULT)


def shortened(text: str) -> str:
    """What a client sent, for a sentence: its first characters where it is long."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def quoted(text: str) -> str:
    """The same in quotes."""
    return repr(shortened(text))


def check(message: Message) -> None:
    """Raises InvalidInputError that names the fields of a request which hold too much."""
    violations = violations_of(message)
    if violations:
        raise InvalidInputError(
            "; ".join(f"{violation.field}: {violation.description}" for violation in violations),
            violations=violations,
        )


def violations_of(message: Message) -> list[FieldViolation]:
    """What is wrong, a few at most; fields are named by their paths as in the servicers' errors."""
    found: list[FieldViolation] = []
    for violation in _of_message(message, ""):
        found.append(violation)
        if len(found) == _MAX_VIOLATIONS:
            break
    return found


def _of_message(message: Message, prefix: str) -> Iterator[FieldViolation]:
    if isinstance(message, Duration | Timestamp):
        problem = _problem_of_time(message)
        if problem:
            yield FieldViolation(prefix.removesuffix("."), problem)
        return
    for field, value in message.ListFields():
        path = prefix + field.name
        if not field.is_repeated:
            yield from _of_value(field, value, path)
            continue
        most = bound_of(field).entries
        if most is None:
            continue  # not looked at one by one: there may be millions
        if len(value) > most:
            yield FieldViolation(path, f"has {len(value)} entries; send at most {most}")
            continue
        for number, each in enumerate(_entries(field, value)):
            yield from _of_value(field, each, f"{path}[{number}]")


def _entries(field: FieldDescriptor, values: Any) -> Iterable[Any]:
    bounded = field.type in (field.TYPE_STRING, field.TYPE_MESSAGE, field.TYPE_UINT64)
    return values if bounded else ()


def _of_value(field: FieldDescriptor, value: Any, path: str) -> Iterator[FieldViolation]:
    if field.type == field.TYPE_MESSAGE:
        yield from _of_message(value, _inner_prefix(field, path))
    elif field.type == field.TYPE_STRING:
        most = bound_of(field).characters
        if most is not None and len(value) > most:
            yield FieldViolation(path, f"has {len(value)} characters; send at most {most}")
    elif field.type in (field.TYPE_UINT64, field.TYPE_FIXED64) and value > MAX_INTEGER:
        yield FieldViolation(path, f"is larger than {MAX_INTEGER}")


def _inner_prefix(field: FieldDescriptor, path: str) -> str:
    """The path before the fields of a message; in speech, `config` goes without saying."""
    within = cast("Descriptor", field.containing_type).file.package
    silent = field.name == "config" and within == "voxroute.asr.v1"
    return "" if silent else f"{path}."


def _problem_of_time(value: Duration | Timestamp) -> str:
    """What is wrong with a time by its own contract; "" for nothing."""
    seconds, nanos = value.seconds, value.nanos
    if isinstance(value, Timestamp):
        right = seconds in _TIMESTAMPS_S and 0 <= nanos < _NANOS
        return "" if right else "is no time of the years 1 to 9999"
    if abs(seconds) > MAX_DURATION_S or abs(nanos) >= _NANOS:
        return f"is no duration: seconds are at most {MAX_DURATION_S}, nanos below {_NANOS}"
    if seconds and nanos and (seconds < 0) != (nanos < 0):
        return "is no duration: seconds and nanos have different signs"
    return ""
