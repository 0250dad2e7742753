"""The Prometheus metrics of whoever runs jobs: states, stages, routing, and jobs that stand still.

The caller tells what happens; nothing here looks at a job itself. Every label takes a bounded set
of values: a stage is one of `STAGES`, whatever language it is for, and a reason one of `Reason`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from voxroute_orchestrator.fleet.routing import Decision, Work

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[JobState, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
_ENDED: frozenset[JobState] = frozenset(("succeeded", "failed", "cancelled"))

Stage = Literal["decode", "transcribe", "align", "diarize", "translate", "write", "other"]
STAGES: tuple[Stage, ...] = (
    "decode", "transcribe", "align", "diarize", "translate", "write", "other",
)  # fmt: skip
_STAGE_OF: dict[str, Stage] = {
    "decod": "decode",
    "transcri": "transcribe",
    "align": "align",
    "diariz": "diarize",
    "translat": "translate",
    "writ": "write",
}  # how the names of JobStage begin, such as "translating to en"

WORK: tuple[Work, ...] = ("asr", "align", "diarize", "translate")

# seconds; from a clip's seconds to a film on a processor
JOB_BUCKETS = (1, 5, 15, 60, 180, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400)


class Reason(Enum):
    """Why a piece of work went where it went."""

    CONFIGURED = "configured"
    """A configured service was the best choice."""
    LOCAL_GPU = "local_gpu"
    """A service of this host on its accelerator was."""
    LOCAL_CPU = "local_cpu"
    """A service of this host on its processor was: there was nothing better."""
    FALLBACK = "fallback"
    """The service before could not go on: out of memory, or gone."""
    NONE = "none"
    """No service can do it."""


def reason_of(decision: Decision, *, fallback: bool = False) -> Reason:
    """The reason of a decision; `fallback` is whether another service had the work before."""
    chosen = decision.chosen
    if chosen is None:
        return Reason.NONE
    if fallback:
        return Reason.FALLBACK
    if not chosen.local:
        return Reason.CONFIGURED
    return Reason.LOCAL_CPU if chosen.device == "cpu" else Reason.LOCAL_GPU


def stage_of(name: str) -> Stage:
    """The label of a stage's name: "translating to en" is "translate"."""
    lowered = name.lower()
    for start, stage in _STAGE_OF.items():
        if lowered.startswith(start):
            return stage
    return "other"


@dataclass(slots=True)
class _Known:
    """A job that has not ended; times by the clock of the metrics."""

    state: JobState
    moved_at: float
    started_at: float | None = None
    stages: dict[str, float] = field(default_factory=dict[str, float])  # name to its beginning


class JobMetrics:
    """The metrics of jobs. Every method may be called from any thread."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: dict[str, _Known] = {}
        self.routed = Counter(
            "voxroute_routing_decisions",
            "Decisions which service does a piece of work, by why: configured, local_gpu,"
            " local_cpu, fallback, none.",
            ("work", "reason"),
            registry=registry,
        )
        self.jobs = Gauge(
            "voxroute_jobs", "Jobs that have not ended, by state.", ("state",), registry=registry
        )
        self.ended = Counter(
            "voxroute_jobs_ended", "Jobs that have ended, by state.", ("state",), registry=registry
        )
        self.queue_seconds = Histogram(
            "voxroute_job_queue_seconds",
            "Time from the submission of a job to its beginning.",
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self.job_seconds = Histogram(
            "voxroute_job_seconds",
            "Time from the beginning of a job to its end, by the state in which it ended.",
            ("state",),
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "voxroute_job_stage_seconds",
            "Time that a stage of a job has taken.",
            ("stage",),
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self.aside = Gauge(
            "voxroute_data_aside",
            "Files and folders in `aside/` of the data folder, which the job service found at its"
            " starts and did not know.",
            registry=registry,
        )
        self.stalled_seconds = Gauge(
            "voxroute_job_stalled_seconds",
            "Longest time that a running job has not moved; 0 where none runs.",
            registry=registry,
        )
        self.stalled_seconds.set_function(self._stalled_s)
        for work in WORK:  # zero is a value that a rate can begin from
            for reason in Reason:
                self.routed.labels(work, reason.value)
        for state in STATES:
            if state in _ENDED:
                self.ended.labels(state)
                self.job_seconds.labels(state)
            else:
                self.jobs.labels(state).set_function(lambda state=state: self._count(state))
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def observe_route(self, work: Work, decision: Decision, *, fallback: bool = False) -> None:
        """Counts a decision; `fallback` is whether another service had the work before."""
        self.routed.labels(work, reason_of(decision, fallback=fallback).value).inc()

    def observe_state(self, job_id: str, state: JobState) -> None:
        """Counts a job's new state; telling the same one again changes nothing.

        A job that has ended and is queued again begins anew.
        """
        now = self._clock()
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.state == state:
                return
            if state in _ENDED:
                self._end(self._jobs.pop(job_id, None), state, now)
                return
            if job is None:
                job = self._jobs[job_id] = _Known(state, now)
            elif state == "running":
                self.queue_seconds.observe(now - job.moved_at)
            if state == "running":
                job.started_at = now
            job.state, job.moved_at = state, now

    def observe_progress(self, job_id: str, stage: str, *, finished: bool = False) -> None:
        """Notes that a stage of a running job began, moved or ended; `stage` is JobStage.name."""
        now = self._clock()
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return
            job.moved_at = now
            began = job.stages.setdefault(stage, now)
            if finished:
                del job.stages[stage]
                self.stage_seconds.labels(stage_of(stage)).observe(now - began)

    def _end(self, job: _Known | None, state: JobState, now: float) -> None:
        """Counts the end of a job; one that was not known has ended before this process began."""
        if job is None:
            return
        self.ended.labels(state).inc()
        if job.started_at is not None:
            self.job_seconds.labels(state).observe(now - job.started_at)

    def _count(self, state: JobState) -> int:
        with self._lock:
            return sum(job.state == state for job in self._jobs.values())

    def _stalled_s(self) -> float:
        now = self._clock()
        with self._lock:
            running = [job.moved_at for job in self._jobs.values() if job.state == "running"]
        return now - min(running) if running else 0.0
