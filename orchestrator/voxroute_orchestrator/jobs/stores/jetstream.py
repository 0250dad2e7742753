"""The jobs of a fleet on NATS JetStream: any number of services share them.

A job is one subject; its last message is the job, and all of them are its events (entries.py). Each
message says which one it follows, so state, events and whose the job is change together or not at
all, and of two that write at once one is refused and looks again. Every service knows from these
messages what waits, and so whose turn it is (turns.py).
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.json_format import Parse
from prometheus_client import CollectorRegistry

from voxroute.jobs.v1 import jobs_pb2
from voxroute_orchestrator.jetstream import journal
from voxroute_orchestrator.jetstream.link import (
    AwayError,
    ConflictError,
    Link,
    LinkError,
    Message,
)
from voxroute_orchestrator.jetstream.setup import JOBS, ON_SERVER, check_folder, set_up
from voxroute_orchestrator.jobs.errors import JobNotFoundError, StoreBusyError, StoreError
from voxroute_orchestrator.jobs.store import (
    CANCELLED,
    ENDED,
    QUEUED,
    RUNNING,
    Attempt,
    Batch,
    Bells,
    Event,
    as_text,
    check_deletable,
    check_resumable,
    key_taken,
    rank,
    state_event,
)
from voxroute_orchestrator.jobs.stores.engine_metrics import EngineMetrics
from voxroute_orchestrator.jobs.stores.entries import Entry, first_entry
from voxroute_orchestrator.jobs.stores.leases import Lease, serving_errors
from voxroute_orchestrator.jobs.stores.turns import Turns
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

LEASE_S = 30.0
"""After so long without a word of its service a job is another one's."""
_LOOK_S = 5.0  # for what was said while nobody here has listened
_ASKED_S = 2.0  # for whoever does a job to say so
_CANCEL_AGAIN_S = 1.0
_PART_BYTES = 512 * 1024
_EVENTS_AT_ONCE = 500
_PAGE_BYTES = 1 << 20  # of jobs, after which a page ends; clients take messages of 4 MiB
_CONFIGS = 64  # that are remembered; the largest have a megabyte
_PLACES = 1000  # of watchers
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

_log = get_logger(__name__)


@dataclass(slots=True)
class _Known:
    """What every service remembers of a job."""

    number: int
    sequence: int
    """Of its last message."""
    state: int
    epoch: int
    moved_s: int
    """When the last of its events was, by the clock of whoever has told it."""
    heard: float = field(default_factory=time.monotonic)
    """When whoever does it was last heard of, by the own clock."""


class JetStreamJobs:
    """JobStore, and what its attempts ask of it: one of several services on the same streams."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        observe: Callable[[str, Sequence[Event]], None] | None = None,
        *,
        folder_id: str = "",
        lease_s: float = LEASE_S,
        replicas: int = 1,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Nothing is asked of a server before `start`.

        `observe` hears the id of a job and its events, whichever service has made them; of a job
        that was there before, its state. `folder_id` is that of the folder or bucket that all
        services share, or ON_SERVER; StoreError at the start where their files are elsewhere. So
        many `replicas` of all are kept. `registry` takes the metrics.
        """
        self.bells = Bells()
        self.waiting = asyncio.Event()
        self._connect = connect
        self._observe = observe
        self.folder_id = folder_id
        self._lease_s = lease_s
        self._replicas = replicas
        self._metrics = EngineMetrics(registry or CollectorRegistry(), files=folder_id == ON_SERVER)
        self._link: Link | None = None
        self._name = secrets.token_hex(8)
        self._count = itertools.count()
        self._jobs: dict[str, _Known] = {}
        self._turns = Turns()
        self._seen = 0  # the last message of all that were read
        self._heard: set[int] = set()  # those behind it that were said
        self._leases: dict[str, Lease] = {}
        self._configs: dict[str, jobs_pb2.JobConfig] = {}
        self._places: dict[tuple[str, int], int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """As JobStore. Makes the streams where there are none; here errors are for the operator."""
        try:
            self._link = await self._connect()
            await set_up(self._link, self._replicas, files=self.folder_id == ON_SERVER)
            await check_folder(self._link, self.folder_id)
            await self._link.listen("vr.live.job.*", self._hear)
            await self._read_on()
        except AwayError as error:
            raise StoreBusyError(str(error)) from error
        except LinkError as error:
            raise StoreError(str(error)) from error
        self._link.on_reconnected(self._back)
        self._tasks = [
            asyncio.ensure_future(work)
            for work in (
                self._again(min(_LOOK_S, self._lease_s / 2), self._look),
                self._again(min(_LOOK_S, self._lease_s / 4), self._miss),
                self._again(_LOOK_S, self._measure),
            )
        ]
        self.waiting.set()

    async def close(self) -> None:
        """As JobStore. Jobs that are under way here are another service's before long."""
        # more than once: the client (2.16.0) swallows a cancellation now and then
        while waiting := [task for task in self._tasks if not task.done()]:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)
        if self._link is not None:
            await self._link.close()

    @property
    def link(self) -> Link:
        """The connection. StoreError before `start`."""
        if self._link is None:
            raise StoreError("the service has not begun yet")
        return self._link

    # Submitting and looking:

    async def find_submission(self, key: str, config: jobs_pb2.JobConfig) -> jobs_pb2.Job | None:
        """As JobStore."""
        if not key:
            return None
        with serving_errors():
            found, _ = await self._of_key(_digest(key), config)
            return await self._whole(found) if found is not None else None

    async def submit(
        self, job_id: str, key: str, config: jobs_pb2.JobConfig, tenant: str = ""
    ) -> tuple[jobs_pb2.Job, bool]:
        """As JobStore.

        Config, key, job, in this order: with the key it is settled whose it is, and what comes
        behind that is done by the next one who has it, if need be.
        """
        digest = _digest(key) if key else ""
        text = as_text(config).encode()
        parts = [text[at : at + _PART_BYTES] for at in range(0, len(text), _PART_BYTES)]
        with serving_errors():
            for number, part in enumerate(parts):
                await self.link.append(JOBS, f"vr.conf.{job_id}.{number}", part, 0)
            while digest:
                found, follows = await self._of_key(digest, config)
                if found is not None:
                    await self.link.purge(JOBS, f"vr.conf.{job_id}.*")
                    return await self._whole(found), False
                record: dict[str, Any] = {"id": job_id, "parts": len(parts), "tenant": tenant}
                record["config"] = hashlib.sha256(text).hexdigest()
                with contextlib.suppress(ConflictError):
                    await self.link.append(
                        JOBS, f"vr.key.{digest}", json.dumps(record).encode(), follows
                    )
                    break
            there = bool(digest)  # whoever has the key makes the job
            try:
                entry = await self._begin(job_id, len(parts), digest, config, tenant)
                there = True
                return await self._whole(entry), True
            except LinkError as error:
                raise AwayError(str(error), unsure=True) if there else error from error

    async def _of_key(self, digest: str, config: jobs_pb2.JobConfig) -> tuple[Entry | None, int]:
        """The job of a key, and the number of the key's message.

        A job that was not made any more is made now. Raises InvalidJobError, LinkError.
        """
        kept = await self.link.last(JOBS, f"vr.key.{digest}")
        if kept is None:
            return None, 0
        record: dict[str, Any] = json.loads(kept.data)
        job_id = record["id"]
        message = await self.link.last(JOBS, f"vr.job.{job_id}")
        if message is not None and Entry.load(message.data, message.sequence).deleted:
            return None, kept.sequence
        if record["config"] != hashlib.sha256(as_text(config).encode()).hexdigest():
            raise key_taken(job_id)
        if message is None:
            tenant = record.get("tenant", "")
            entry = await self._begin(job_id, record["parts"], digest, config, tenant)
            return entry, kept.sequence
        return Entry.load(message.data, message.sequence), kept.sequence

    async def _begin(
        self, job_id: str, parts: int, key: str, config: jobs_pb2.JobConfig, tenant: str
    ) -> Entry:
        """Keeps the first message of a job, or finds that another has."""
        entry = first_entry(
            job_id,
            [state_event(QUEUED)],
            parts=parts,
            key=key,
            tenant=tenant,
            priority=rank(config),
        )
        try:
            entry, _ = await self._append(entry, 0)
        except ConflictError:
            entry, _ = await self._last(job_id)
        return entry

    async def waiting_of(self, tenant: str) -> int:
        """As JobStore, as far as this service has heard."""
        return self._turns.waiting_of(tenant)

    async def ended_before(self, time_s: float) -> list[str]:
        """As JobStore, as far as this service has heard."""
        return [
            job_id
            for job_id, job in self._jobs.items()
            if job.state in ENDED and job.moved_s < time_s
        ]

    async def get(self, job_id: str) -> jobs_pb2.Job:
        """As JobStore."""
        with serving_errors():
            entry, _ = await self._last(job_id)
            return await self._whole(entry)

    async def page(
        self, states: Sequence[int], size: int, before: int | None
    ) -> tuple[list[jobs_pb2.Job], int | None]:
        """As JobStore; what another service does is here some milliseconds later."""
        known = sorted(
            (
                (job.number, job_id)
                for job_id, job in self._jobs.items()
                if (not states or job.state in states) and (before is None or job.number < before)
            ),
            reverse=True,
        )
        jobs: list[jobs_pb2.Job] = []
        last, used = None, 0
        for number, job_id in known:
            if len(jobs) == size or used > _PAGE_BYTES:
                return jobs, last
            last = number
            with contextlib.suppress(JobNotFoundError):  # it was deleted meanwhile
                jobs.append(await self.get(job_id))
                used += jobs[-1].ByteSize()
        return jobs, None

    async def events(self, job_id: str, after: int) -> Batch:
        """As JobStore."""
        with serving_errors():
            entry, sequence = await self._last(job_id)
            if after >= entry.before:  # mostly: who watches has seen all but the last
                new = [event for event in entry.events if event.sequence > after]
                self._put_place(job_id, entry.job.last_sequence, sequence + 1)
                return Batch(new, ended=entry.ended)
            found: list[jobs_pb2.WatchJobResponse] = []
            start = self._places.get((job_id, after), entry.number)
            async with contextlib.aclosing(
                self.link.read(JOBS, f"vr.job.{job_id}", start)
            ) as messages:
                async for message in messages:
                    later = Entry.load(message.data, message.sequence)
                    found += [event for event in later.events if event.sequence > after]
                    start = message.sequence + 1
                    if len(found) >= _EVENTS_AT_ONCE:
                        break
        last = found[-1].sequence if found else after
        self._put_place(job_id, last, start)
        return Batch(found, ended=entry.ended and last >= entry.job.last_sequence)

    def _put_place(self, job_id: str, after: int, start: int) -> None:
        """Remembers behind which message the events behind a number are."""
        self._places[job_id, after] = start
        if len(self._places) > _PLACES:
            del self._places[next(iter(self._places))]

    async def _last(self, job_id: str) -> tuple[Entry, int]:
        """What a job is now, and the number of its last message.

        Raises JobNotFoundError, LinkError.
        """
        message = None
        if _ID.fullmatch(job_id):  # anything else may be a pattern of subjects
            message = await self.link.last(JOBS, f"vr.job.{job_id}")
        if message is None:
            self._forget(job_id)  # it was deleted while nobody here has listened
            raise JobNotFoundError.of(job_id)
        entry = Entry.load(message.data, message.sequence)
        self.note(entry, message.sequence)
        if entry.deleted:
            raise JobNotFoundError.of(job_id)
        return entry, message.sequence

    async def _whole(self, entry: Entry) -> jobs_pb2.Job:
        """The job with its config. Raises LinkError."""
        job = jobs_pb2.Job()
        job.CopyFrom(entry.job)
        job.config.CopyFrom(await self._config(entry))
        return job

    async def _config(self, entry: Entry) -> jobs_pb2.JobConfig:
        job_id = entry.job.id
        config = self._configs.pop(job_id, None)
        if config is None:
            text = b""
            for number in range(entry.parts):
                part = await self.link.last(JOBS, f"vr.conf.{job_id}.{number}")
                if part is None:
                    raise JobNotFoundError.of(job_id)  # it was deleted meanwhile
                text += part.data
            config = Parse(text, jobs_pb2.JobConfig(), ignore_unknown_fields=True)
        self._configs[job_id] = config
        if len(self._configs) > _CONFIGS:
            del self._configs[next(iter(self._configs))]
        return config

    # Writing:

    async def _append(self, entry: Entry, follows: int) -> tuple[Entry, int]:
        """Keeps an entry of a job; as it is then, and its number.

        Raises ConflictError, LinkError.
        """
        entry = self.signed(entry)
        sequence = await self.link.append(JOBS, f"vr.job.{entry.job.id}", entry.dump(), follows)
        entry = entry.kept_as(sequence)
        self.note(entry, sequence)
        return entry, sequence

    def signed(self, entry: Entry) -> Entry:
        """The entry as no other service, and this one never again, would write it."""
        return replace(entry, by=f"{self._name}.{next(self._count)}")

    async def _change(self, job_id: str, change: Callable[[Entry], Entry | None]) -> Entry:
        """A job's entry as a function has made it of the last one; None leaves that.

        The function is asked again where another was faster. Raises JobNotFoundError, LinkError,
        what the function raises.
        """
        while True:
            last, sequence = await self._last(job_id)
            new = change(last)
            if new is None:
                return last
            with contextlib.suppress(ConflictError):
                return (await self._append(new, sequence))[0]

    # The life of a job:

    async def claim(self) -> Attempt | None:
        """As JobStore."""
        with serving_errors():
            while (job_id := self._turns.next()) is not None:
                lease = await self._claimed(job_id)
                if lease is not None:
                    return lease
        return None

    async def _claimed(self, job_id: str) -> Lease | None:
        """The attempt at a job whose turn it is; None where it is so no more, which is noted."""
        with contextlib.suppress(ConflictError, JobNotFoundError):
            last, sequence = await self._last(job_id)
            if not self._turns.has(job_id):
                return None
            if last.cancel:  # and whoever was to stop is gone
                await self._append(last.followed([state_event(CANCELLED)]), sequence)
                return None
            config = await self._config(last)
            if last.job.state == RUNNING:
                _log.warning("a job goes on here whose service is silent", job=job_id)
                self._metrics.taken_over.inc()
            entry, sequence = await self._append(last.claimed(), sequence)
            lease = Lease(self, self.link, (entry, sequence), config)
            self._leases[job_id] = lease
            await lease.begin(_own(job_id, lease.epoch))
            return lease
        return None

    def over(self, lease: Lease) -> None:
        """An attempt of this service is over."""
        if lease.why == "lost":
            self._metrics.leases_lost.inc()
        if self._leases.get(lease.job_id) is lease:
            del self._leases[lease.job_id]

    async def cancel(self, job_id: str) -> None:
        """As JobStore."""

        def change(last: Entry) -> Entry | None:
            if last.job.state == QUEUED:
                return last.followed([state_event(CANCELLED)])
            if last.job.state == RUNNING and not last.cancel:
                return last.followed([], cancel=True)
            return None

        bell = self.bells.listen(job_id)
        try:
            while True:
                bell.clear()
                with serving_errors():
                    if (await self._change(job_id, change)).ended:
                        return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(bell.wait(), _LOOK_S)
        finally:
            self.bells.leave(job_id, bell)

    async def resume(self, job_id: str, *, restart: bool) -> jobs_pb2.Job:
        """As JobStore."""

        def change(last: Entry) -> Entry:
            check_resumable(job_id, last.job.state, restart=restart)
            job = jobs_pb2.Job()
            job.CopyFrom(last.job)
            for name in ("error", "artifacts", *(["stages"] if restart else [])):
                job.ClearField(name)
            return last.followed(
                [state_event(QUEUED)],
                job,
                place=0,
                generation=last.generation + restart,
                fresh=last.fresh or restart,
                cancel=False,
            )

        with serving_errors():
            return await self._whole(await self._change(job_id, change))

    async def delete(self, job_id: str) -> None:
        """As JobStore. The job is gone with its last message: what is purged then may come back."""

        def change(last: Entry) -> Entry:
            check_deletable(job_id, last.job.state)
            return last.followed([], deleted=True)

        with serving_errors():
            entry = await self._change(job_id, change)
            if entry.key:
                kept = await self.link.last(JOBS, f"vr.key.{entry.key}")
                if kept is not None and json.loads(kept.data)["id"] == job_id:
                    await self.link.purge(JOBS, f"vr.key.{entry.key}", kept.sequence)
            await self.link.purge(JOBS, f"vr.conf.{job_id}.*")
            await journal.remove(self.link, job_id)
            await self.link.purge(JOBS, f"vr.job.{job_id}")
        self._configs.pop(job_id, None)

    # What goes on meanwhile:

    def note(self, entry: Entry, sequence: int) -> None:
        """Remembers what a job is since a message of the stream, and wakes who waits for that."""
        job_id, known = entry.job.id, self._jobs.get(entry.job.id)
        if known is not None and known.sequence >= sequence:
            return
        lease = self._leases.get(job_id)
        if entry.deleted:
            self._forget(job_id)
        else:
            self._jobs[job_id] = _Known(
                entry.number,
                sequence,
                entry.job.state,
                entry.job.attempts,
                entry.events[-1].time.seconds if entry.events else 0,
            )
            self._turns.note(job_id, entry, sequence)
        if self._observe is not None:
            self._observe(job_id, entry.observed() if known else [state_event(entry.job.state)])
        if lease is not None:
            lease.hear(entry)
        self.bells.ring(job_id)
        if entry.job.state == QUEUED:
            self.waiting.set()

    def _forget(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._turns.forget(job_id)

    def _hear(self, message: Message) -> None:
        self._heard.add(message.sequence)
        try:
            self.note(Entry.load(message.data, message.sequence), message.sequence)
        except (ValueError, KeyError, TypeError) as error:
            _log.error("a message is no job's", subject=message.subject, exc_info=error)

    async def _read_on(self) -> None:
        """Reads what was said while nobody here has listened. Raises LinkError."""
        last = await self.link.last(JOBS, "vr.job.*")
        if last is None or last.sequence <= self._seen:
            return
        if not self._seen:
            async for message in self.link.lasts(JOBS, "vr.job.*"):
                self._hear(message)
            self._seen = last.sequence
        while self._seen < last.sequence:
            if self._seen + 1 in self._heard:
                self._seen += 1
                continue
            message = await self.link.next(JOBS, "vr.job.*", self._seen + 1)
            if message is None:
                break
            self._hear(message)
            self._seen = message.sequence
        self._heard = {sequence for sequence in self._heard if sequence > self._seen}

    async def _again(self, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await work()
            except (LinkError, ServingError) as error:
                _log.warning("the NATS server is asked again", error=str(error))

    async def _look(self) -> None:
        await self._read_on()
        self.waiting.set()

    async def _measure(self) -> None:
        waiting = [job.moved_s for job in self._jobs.values() if job.state == QUEUED]
        await self._metrics.look(
            self.link, max(0.0, time.time() - min(waiting, default=time.time()))
        )

    def _back(self) -> None:
        """The server is there again: so are the others, before long."""
        for known in self._jobs.values():
            known.heard = time.monotonic()
        self.waiting.set()

    async def _miss(self) -> None:
        """Has jobs wait for somebody whose service is silent. Raises LinkError."""
        late = time.monotonic() - self._lease_s
        silent = [
            (job_id, known)
            for job_id, known in self._jobs.items()
            if known.state == RUNNING and known.heard < late and job_id not in self._leases
        ]
        await asyncio.gather(*(self._ask(job_id, known) for job_id, known in silent))

    async def _ask(self, job_id: str, known: _Known) -> None:
        if await self.link.is_answered(_own(job_id, known.epoch), _ASKED_S):
            known.heard = time.monotonic()
        elif self._jobs.get(job_id) is known:  # nothing was said meanwhile
            self._turns.leave(job_id)
            self.waiting.set()


def _own(job_id: str, epoch: int) -> str:
    """The subject that an attempt answers."""
    return f"vr.own.{job_id}.{epoch}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
