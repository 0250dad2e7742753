"""Jobs that have ended long ago are deleted, where the operator wants that."""

import asyncio
import contextlib
import time

from voxroute_orchestrator.jobs.errors import JobNotFoundError, JobStateError
from voxroute_orchestrator.jobs.store import JobStore
from voxroute_orchestrator.jobs.stores.file_store import FileStore
from voxroute_serving.errors import ServingError
from voxroute_serving.telemetry.logs import get_logger

DAY_S = 24 * 3600.0
_EVERY_S = 3600.0

_log = get_logger(__name__)


async def delete_job(store: JobStore, files: FileStore, job_id: str) -> None:
    """Forgets a job, then removes its files: a start in between puts them aside.

    Raises JobNotFoundError, JobStateError.
    """
    await store.delete(job_id)
    await files.remove(job_id)


async def delete_old(store: JobStore, files: FileStore, keep_s: float) -> None:
    """Deletes what has ended so many seconds ago, now and once an hour, until it is cancelled."""
    while True:
        try:
            for job_id in await store.ended_before(time.time() - keep_s):
                # another service was faster, or somebody has resumed it
                with contextlib.suppress(JobNotFoundError, JobStateError):
                    await delete_job(store, files, job_id)
                    _log.info("job deleted, as it has ended long ago", job=job_id)
        except ServingError as error:
            _log.warning("old jobs are deleted later", error=str(error))
        await asyncio.sleep(_EVERY_S)
