"""The metrics of jobs, told by hand with a clock that stands still between the lines."""

import pytest
from prometheus_client import CollectorRegistry

from voxroute_orchestrator.fleet.routing import Candidate, Decision
from voxroute_orchestrator.jobs.metrics import JobMetrics, Reason, reason_of, stage_of


class Jobs:
    """The metrics, their clock and their samples."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.registry = CollectorRegistry()
        self.metrics = JobMetrics(self.registry, lambda: self.now)

    def value(self, name: str, /, **labels: str) -> float:
        """A sample; fails where there is none."""
        found = self.registry.get_sample_value(name, labels)
        assert found is not None, (name, labels)
        return found


@pytest.fixture
def jobs() -> Jobs:
    """Metrics that know no job."""
    return Jobs()


def decision(*candidates: Candidate) -> Decision:
    """A decision between candidates, of which the usable ones are ranked as they come."""
    return Decision(tuple(c for c in candidates if c.usable), candidates)


REMOTE = Candidate("10.0.0.2:50051", "cuda", usable=True, reason="answers", local=False)
GPU = Candidate("voxroute_asr_whisperx", "cuda", usable=True, reason="a GPU")
CPU = Candidate("voxroute_asr_whisperx", "cpu", usable=True, reason="8 CPUs")
DOWN = Candidate("10.0.0.3:50051", "", usable=False, reason="down", local=False)


def test_a_job_goes_through_its_states(jobs: Jobs) -> None:
    """It waits, runs and ends; how long it waited and ran is observed, once each."""
    jobs.metrics.observe_state("a", "queued")
    assert jobs.value("voxroute_jobs", state="queued") == 1
    jobs.now += 7
    jobs.metrics.observe_state("a", "running")
    jobs.metrics.observe_state("a", "running")
    assert jobs.value("voxroute_jobs", state="queued") == 0
    assert jobs.value("voxroute_jobs", state="running") == 1
    assert jobs.value("voxroute_job_queue_seconds_sum") == 7
    jobs.now += 30
    jobs.metrics.observe_state("a", "succeeded")
    assert jobs.value("voxroute_jobs", state="running") == 0
    assert jobs.value("voxroute_jobs_ended_total", state="succeeded") == 1
    assert jobs.value("voxroute_jobs_ended_total", state="failed") == 0
    assert jobs.value("voxroute_job_seconds_sum", state="succeeded") == 30
    assert jobs.value("voxroute_job_queue_seconds_count") == 1


def test_a_job_that_is_cancelled_while_it_waits_has_not_run(jobs: Jobs) -> None:
    """It counts as ended and takes no part in how long jobs run."""
    jobs.metrics.observe_state("a", "queued")
    jobs.metrics.observe_state("a", "cancelled")
    assert jobs.value("voxroute_jobs_ended_total", state="cancelled") == 1
    assert jobs.value("voxroute_job_seconds_count", state="cancelled") == 0


def test_a_job_of_an_earlier_process_that_has_ended_is_not_counted_again(jobs: Jobs) -> None:
    """Telling old jobs after a restart changes no counter."""
    jobs.metrics.observe_state("old", "failed")
    assert jobs.value("voxroute_jobs_ended_total", state="failed") == 0


def test_stages_share_a_label_whatever_their_language(jobs: Jobs) -> None:
    """The time from a stage's first sign to its end, under a name from a fixed list."""
    jobs.metrics.observe_state("a", "running")
    for language, took in (("en", 5), ("ta", 3)):
        jobs.metrics.observe_progress("a", f"translating to {language}")
        jobs.now += took
        jobs.metrics.observe_progress("a", f"translating to {language}", finished=True)
    assert jobs.value("voxroute_job_stage_seconds_count", stage="translate") == 2
    assert jobs.value("voxroute_job_stage_seconds_sum", stage="translate") == 8
    assert stage_of("transcribing") == "transcribe"
    assert stage_of("anything a client names") == "other"


def test_the_running_job_that_stands_still_longest_is_told(jobs: Jobs) -> None:
    """Progress of any stage moves a job; waiting jobs may wait."""
    assert jobs.value("voxroute_job_stalled_seconds") == 0
    jobs.metrics.observe_state("waits", "queued")
    jobs.metrics.observe_state("a", "running")
    jobs.metrics.observe_state("b", "running")
    jobs.now += 60
    jobs.metrics.observe_progress("a", "transcribing")
    jobs.now += 5
    assert jobs.value("voxroute_job_stalled_seconds") == 65
    jobs.metrics.observe_progress("b", "transcribing")
    assert jobs.value("voxroute_job_stalled_seconds") == 5
    jobs.metrics.observe_state("a", "failed")
    jobs.metrics.observe_state("b", "succeeded")
    assert jobs.value("voxroute_job_stalled_seconds") == 0


def test_a_job_that_is_resumed_waits_and_runs_again(jobs: Jobs) -> None:
    """Each run counts its own wait and time."""
    for _ in range(2):
        jobs.metrics.observe_state("a", "queued")
        jobs.now += 1
        jobs.metrics.observe_state("a", "running")
        jobs.now += 10
        jobs.metrics.observe_state("a", "failed")
    assert jobs.value("voxroute_jobs_ended_total", state="failed") == 2
    assert jobs.value("voxroute_job_seconds_sum", state="failed") == 20
    assert jobs.value("voxroute_job_queue_seconds_sum") == 2


@pytest.mark.parametrize(
    ("made", "fallback", "reason"),
    [
        (decision(DOWN, REMOTE, CPU), False, Reason.CONFIGURED),
        (decision(DOWN, GPU, CPU), False, Reason.LOCAL_GPU),
        (decision(DOWN, CPU), False, Reason.LOCAL_CPU),
        (decision(DOWN, CPU), True, Reason.FALLBACK),
        (decision(DOWN), True, Reason.NONE),
    ],
)
def test_a_decision_is_counted_by_a_reason_from_a_fixed_list(
    made: Decision,
    *,
    fallback: bool,
    reason: Reason,
    jobs: Jobs,
) -> None:
    """Addresses and sentences stay out of labels."""
    assert reason_of(made, fallback=fallback) is reason
    jobs.metrics.observe_route("asr", made, fallback=fallback)
    name = "voxroute_routing_decisions_total"
    assert jobs.value(name, work="asr", reason=reason.value) == 1
    assert jobs.value(name, work="translate", reason=reason.value) == 0
