"""Whatever is killed, and however often: a job with workers ends once, with its text, told once."""

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.orchestrator import recordings
from tests.orchestrator.daemon import job, stand_in_services, texts_of, wait
from tests.orchestrator.jobs.nats_server import Cluster
from tests.orchestrator.jobs.test_two_services import _Watcher
from tests.orchestrator.jobs.test_workers import Fleet, WorkerProcess, _submitted
from voxroute.jobs.v1 import jobs_pb2

SECONDS = 200
SPANS = 3  # of it, so that three lanes work
WINDOW_S = 0.5
KILLS = 20
LANES = 2  # of a worker
UNKEPT_S = 2.5  # of windows that no service has kept, at most

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # two minutes each


@pytest.fixture(params=["folder", "server"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path, servers: Cluster) -> Iterator[Fleet]:
    """Two job services and two workers, with the files in a folder or on the servers."""
    with ExitStack() as stack:
        direct = stack.enter_context(stand_in_services())
        fleet = Fleet(tmp_path, servers, stack, direct, files=request.param)
        for name in ("one", "two"):
            fleet.daemon(name)
        yield fleet


def _watched(fleet: Fleet, disturb: Callable[[list[WorkerProcess]], int]) -> None:
    """One film's job while it is disturbed, which tells how many windows that may cost at most.

    Beside what it costs that another service takes the job over.
    """
    path = recordings.write(fleet.folder / "film.wav", recordings.steps(SECONDS))
    film = path.read_bytes()
    stub = fleet.daemons[0].stub()
    workers = [fleet.worker(name) for name in ("near", "far")]
    words = texts_of(stub, _submitted(stub, film))
    for worker in workers:
        worker.services.speech.delay_s, worker.services.speech.decoded = WINDOW_S, 0
    job_id = _submitted(stub, film)
    watcher = _Watcher(fleet.daemons, job_id)
    with ThreadPoolExecutor() as threads:
        watching = threads.submit(watcher.watch)
        wait(lambda: sum(one.services.speech.decoded for one in workers) > 4)
        most = disturb(workers)
        for worker in workers:
            worker.services.speech.delay_s = 0.0
        watching.result(240)
    assert texts_of(fleet.daemons[1].stub(), job_id) == words
    assert [one.sequence for one in watcher.told] == list(range(1, len(watcher.told) + 1))
    assert [one.state for one in watcher.told if one.state][-1] == jobs_pb2.JOB_STATE_SUCCEEDED
    taken_over = job(fleet.daemons[1].stub(), job_id).attempts - 1
    most += taken_over * SPANS * (1 + int(UNKEPT_S / WINDOW_S))
    again = sum(one.services.speech.decoded for one in workers) - len(words)
    sys.stdout.write(f"{again} windows again, at most {most}; taken over {taken_over} times\n")
    assert 0 <= again <= most


def test_twenty_kills_of_services_workers_and_servers_change_nothing(
    fleet: Fleet, servers: Cluster
) -> None:
    """A worker's or a server's costs a window a lane, a service's what it has not kept yet."""
    seed = time.time_ns()
    sys.stdout.write(f"seed {seed}\n")  # told where the test fails
    dice = random.Random(seed)  # noqa: S311 - no secret

    def disturb(workers: list[WorkerProcess]) -> int:
        most = 0
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.5, 2))
            kind = dice.choice(("service", "worker", "server"))
            if kind == "service":
                killed = dice.choice(fleet.daemons)
            elif kind == "worker":
                killed = dice.choice(workers)
                most += LANES
            else:
                killed = dice.choice(servers.members)
                most += SPANS
            killed.end(signal.SIGKILL)
            time.sleep(dice.uniform(0, 1))
            killed.start()
        return most

    _watched(fleet, disturb)


def test_workers_and_services_wait_for_servers_that_are_all_killed(
    fleet: Fleet, servers: Cluster
) -> None:
    """And started again three seconds later: the job goes on, at most a window a lane again."""

    def disturb(_: list[WorkerProcess]) -> int:
        servers.end(signal.SIGKILL)
        time.sleep(3)
        servers.start()
        return SPANS

    _watched(fleet, disturb)
