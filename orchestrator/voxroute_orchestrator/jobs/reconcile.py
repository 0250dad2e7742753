"""What the store says against what the data folder holds, at the start of the job service.

The two differ after a crash, and after a backup of the one or the other was restored. Nothing
that somebody may miss is deleted: what the store does not know is put aside, and a job whose files
are gone has failed until they are back.
"""

from voxroute_orchestrator.jobs.files import DataFolder, JobFiles
from voxroute_orchestrator.jobs.store import QUEUED, RUNNING, SUCCEEDED
from voxroute_orchestrator.jobs.stores.sqlite import Kept, SqliteStore
from voxroute_serving.telemetry.logs import get_logger

_log = get_logger(__name__)


def reconcile(store: SqliteStore, folder: DataFolder) -> None:
    """Puts folder and store in order before any job runs. Blocking. Raises ServingError."""
    folder.clean(store.job_ids())
    for job in store.kept():
        files = folder.job(job.job_id)
        if job.state in {QUEUED, RUNNING}:
            _ready_to_run(store, folder, job, files)
        elif job.state == SUCCEEDED:
            gone = _gone(job, files)
            if gone:
                _log.error("results are gone", job=job.job_id, files=gone)
                store.lose(
                    job.job_id,
                    f"its results {', '.join(gone)} are gone or are others; put them back and start"
                    " the service again, or resume the job with `restart`",
                )
        elif job.lost and job.artifacts and not _gone(job, files):
            _log.info("results are back", job=job.job_id)
            store.find_again(job.job_id)


def _ready_to_run(store: SqliteStore, folder: DataFolder, job: Kept, files: JobFiles) -> None:
    if job.upload_name and not (files.media / job.upload_name).is_file():
        _log.error("the upload of a job is gone", job=job.job_id)
        store.lose(
            job.job_id,
            "its upload is gone; put it back and resume the job, or submit the recording again",
        )
    elif files.has_complete_results() and not files.journal.exists():
        # an older store does not know that the job has ended, and it will run again
        folder.put_aside(files.results)


def _gone(job: Kept, files: JobFiles) -> list[str]:
    """The names of results that are not there as the store knows them."""
    return [
        name for name, size in sorted(job.artifacts.items()) if files.size_of_result(name) != size
    ]
