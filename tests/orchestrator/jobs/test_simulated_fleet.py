"""The simulation of a fleet, as `python -m benchmarks fleet` has it, with fewer jobs."""

from pathlib import Path

import pytest

from benchmarks.fleet import WINDOWS, simulated
from tests.orchestrator.jobs.nats_server import nats_server

JOBS = 40


@pytest.mark.slow
def test_three_services_and_six_workers_do_every_job_and_every_window_once(tmp_path: Path) -> None:
    """Of four clients with unequally many jobs; so few say nothing about shares."""
    nats_server()
    measured = simulated(tmp_path, JOBS, 6, 0.5)
    assert (measured.n_jobs, measured.once, measured.windows) == (JOBS, JOBS, JOBS * WINDOWS)
    assert len(measured.queued_s) == JOBS
    assert set(measured.shares) == set(measured.counts)
