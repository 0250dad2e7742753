"""A message of a job's subject: what has happened, and what the job is since then."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from google.protobuf.json_format import MessageToDict, ParseDict

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jobs.store import (
    ENDED,
    KILLED,
    QUEUED,
    RUNNING,
    Event,
    EventKind,
    message_event,
    state_event,
)

_PLAIN = (
    "number",
    "parts",
    "key",
    "tenant",
    "priority",
    "place",
    "generation",
    "fresh",
    "cancel",
    "deleted",
    "by",
)  # as they are, in JSON


@dataclass(frozen=True, slots=True)
class Entry:
    """One of them. The job in it is without its config, which is kept once."""

    job: jobs_pb2.Job
    number: int = 0
    """That of the job's first message in the stream: the order of submission. 0 in that one."""
    events: Sequence[jobs_pb2.WatchJobResponse] = ()
    """Those that came with it, numbered; the last of them is the job's last."""
    parts: int = 1
    """Of the config."""
    key: str = ""
    """The digest of the idempotency key; "" for none."""
    tenant: str = ""
    """The client that has submitted it; "" where it was not named."""
    priority: int = 0
    """1 for high, 0 for normal, -1 for low."""
    place: int = 0
    """Its place in the queue: the number of the message that has put it at the end. 0 in that."""
    generation: int = 0
    """How often the job was begun anew: its journal is that of this number."""
    fresh: bool = False
    """Whether what is finished is to be thrown away first."""
    cancel: bool = False
    """Whether whoever does the job is to stop."""
    deleted: bool = False
    by: str = field(default="", compare=False)
    """Who has written it: no two messages have the same."""

    @property
    def ended(self) -> bool:
        """Whether the job has."""
        return self.job.state in ENDED

    @property
    def before(self) -> int:
        """The number of the job's last event before those of this entry."""
        return self.job.last_sequence - len(self.events)

    def followed(
        self, events: Sequence[Event], job: jobs_pb2.Job | None = None, **changes: Any
    ) -> Self:
        """The entry behind this one; `job` is the job as it is then, but for the events.

        State, times and stages follow the events.
        """
        new = jobs_pb2.Job()
        new.CopyFrom(job or self.job)
        new.last_sequence = self.job.last_sequence
        numbered: list[jobs_pb2.WatchJobResponse] = []
        for event in events:
            body = jobs_pb2.WatchJobResponse()
            body.CopyFrom(event.body)
            new.last_sequence += 1
            body.sequence = new.last_sequence
            body.time.FromNanoseconds(event.time_ns)
            numbered.append(body)
            _advance(new, body)
        return replace(self, job=new, events=numbered, **changes)

    def claimed(self) -> Self:
        """The entry with which the job is another attempt's."""
        events = [state_event(RUNNING)]
        if self.job.state == RUNNING:
            events = [message_event(KILLED), state_event(QUEUED), *events]
        job = jobs_pb2.Job()
        job.CopyFrom(self.job)
        job.attempts += 1
        return self.followed(events, job)

    def observed(self) -> list[Event]:
        """The events as those who count them know them."""
        found: list[Event] = []
        for body in self.events:
            kind: EventKind | None = body.WhichOneof("event")
            if kind is not None:
                found.append(Event(kind, body, body.time.ToNanoseconds()))
        return found

    def dump(self) -> bytes:
        """As it is kept: JSON, for whoever looks at a stream with other tools."""
        kept: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        kept["events"] = [MessageToDict(event) for event in self.events]
        kept["job"] = MessageToDict(self.job)
        return json.dumps(kept, ensure_ascii=False).encode()

    @classmethod
    def load(cls, data: bytes, sequence: int) -> Self:
        """The entry of a message with that number in the stream. Raises ValueError."""
        kept: dict[str, Any] = json.loads(data)
        job = ParseDict(kept["job"], jobs_pb2.Job(), ignore_unknown_fields=True)
        events = [
            ParseDict(event, jobs_pb2.WatchJobResponse(), ignore_unknown_fields=True)
            for event in kept["events"]
        ]
        # before there were turns, jobs had no place but that of their submission
        plain = {"place": kept["number"]} | {name: kept[name] for name in _PLAIN if name in kept}
        return cls(job=job, events=events, **plain).kept_as(sequence)

    def kept_as(self, sequence: int) -> Self:
        """The entry as the message with that number in the stream."""
        return replace(self, number=self.number or sequence, place=self.place or sequence)


def first_entry(job_id: str, events: Sequence[Event], **plain: Any) -> Entry:
    """That of a job which is new; `plain` are fields of Entry."""
    job = jobs_pb2.Job(id=job_id)
    job.create_time.FromNanoseconds(time.time_ns())
    return Entry(job, **plain).followed(events)


def _advance(job: jobs_pb2.Job, body: jobs_pb2.WatchJobResponse) -> None:
    """What an event makes of a job."""
    kind = body.WhichOneof("event")
    if kind == "stage":
        for stage in job.stages:
            if stage.name == body.stage.name:
                stage.CopyFrom(body.stage)
                return
        job.stages.append(body.stage)
    elif kind == "state":
        job.state = body.state
        if body.state == RUNNING and not job.HasField("start_time"):
            job.start_time.CopyFrom(body.time)
        elif body.state == QUEUED:
            job.ClearField("end_time")
        elif body.state in ENDED:
            job.end_time.CopyFrom(body.time)
