"""What a job service of a fleet says of itself to whoever asks who is there."""

from typing import Any

from voxroute_orchestrator.jetstream import presence
from voxroute_orchestrator.jobs.runner import Runner
from voxroute_orchestrator.jobs.stores.jetstream import JetStreamJobs
from voxroute_orchestrator.jobs.stores.leases import serving_errors
from voxroute_orchestrator.server_settings import JobServerSettings
from voxroute_serving.process.main import Runtime

_STATES = ("queued", "running")


async def be_there(
    store: JetStreamJobs, runner: Runner, runtime: Runtime, settings: JobServerSettings
) -> None:
    """Answers from now on, with what it does and what its metrics tell of all jobs.

    Raises ServingError.
    """
    told = runtime.metrics.registry.get_sample_value

    def tell() -> dict[str, Any]:
        return {
            "jobs": {
                state: round(told("voxroute_jobs", {"state": state}) or 0) for state in _STATES
            },
            "oldest_s": told("voxroute_engine_oldest_seconds") or 0.0,
            "max_jobs": settings.max_jobs,
            "doing": [
                {"job": attempt.job_id, "attempt": attempt.epoch} for attempt in runner.attempts()
            ],
        }

    name = ", ".join(settings.listen)
    with serving_errors():
        await presence.be_there(store.link, "jobs", name, runtime.service_version, tell)
