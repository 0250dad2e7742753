"""The streams of a fleet, and what their subjects mean.

    vr.job.<id>           a job: its last message is the job, all of them are its events
    vr.conf.<id>.<n>      what was asked for, in parts
    vr.key.<digest>       the job of an idempotency key
    vr.fact.folder        the id of the folder in which recordings and results are, "server", or
                          s3://<bucket>/<prefix>#<id>
    vr.journal.<id>.<n>   what is finished of a job that was begun anew n times (journal.py)
    vr.span.<pool>.<id>.<n>  a ticket: spans of a job that runs wait for workers with a model, or
                          texts for those that translate; which languages is its data
    vr.work.<id>          asked by such a worker for some, and about those that it was given;
                          answered by whoever does the job
    vr.live.job.<id>      messages of vr.job.<id>, said again once they are kept
    vr.own.<id>.<epoch>   answered by whoever does the job
    vr.who                answered by every job service and worker: who it is, and what it does

    vr.part.<id>.<place>.<name>  parts of a file of a job, and
    vr.file.<id>.<place>.<name>  what it is then (server_files.py of the job service)

The first four are the stream VR_JOBS, journals are VR_JOURNAL, tickets VR_SPANS, and files VR_FILES
where they are on the server.
"""

import asyncio
import contextlib
import time
from typing import Any

from voxroute_orchestrator.jetstream.link import (
    START_S,
    ConflictError,
    Link,
    LinkError,
    RefusedError,
)

JOBS, JOURNAL, SPANS, FILES = "VR_JOBS", "VR_JOURNAL", "VR_SPANS", "VR_FILES"
WHO = "vr.who"
_FOLDER = "vr.fact.folder"
ON_SERVER = "server"
"""In place of the id of a folder: files are in VR_FILES."""
_IN_BUCKET = "s3://"
_LAYOUT = "2"  # raised when an older voxroute would not understand what is kept
_READ = {"1"}  # of older ones, taken as they are: had no tenants, and a stream of tickets for jobs
NO_STREAM = 10059
"""The code of what is refused because nobody has made the stream yet."""
_NO_PEERS = 10005  # also while the servers of a cluster still look for each other
_AGAIN_S = 0.5

_STREAMS: dict[str, dict[str, Any]] = {
    JOBS: {
        "subjects": ["vr.job.*", "vr.conf.*.*", "vr.key.*", "vr.fact.*"],
        "republish": {"src": "vr.job.*", "dest": "vr.live.job.{{wildcard(1)}}"},
    },
    JOURNAL: {"subjects": ["vr.journal.*.*"]},
    SPANS: {
        "subjects": ["vr.span.*.*.*"],
        "retention": "workqueue",
        "max_msgs_per_subject": 1,
        "discard_new_per_subject": True,
    },
    FILES: {"subjects": ["vr.file.*.*.*", "vr.part.*.*.*"], "allow_direct": True},
}


async def set_up(link: Link, replicas: int = 1, *, files: bool = False) -> None:
    """Makes the streams that are missing; leaves alone what is there, and what it was limited to.

    That of files is for those who have them on the server. A stream that fewer than `replicas`
    servers keep is kept by so many from now on; one that more keep is left so. Raises LinkError.
    """
    for name, own in _STREAMS.items():
        if name == FILES and not files:
            continue
        try:
            there = (await link.call(f"STREAM.INFO.{name}", patience_s=START_S))["config"]
        except RefusedError as error:
            if error.code != NO_STREAM:
                raise
            config = {
                "name": name,
                "storage": "file",
                "discard": "new",  # what is full says so, and loses nothing
                "num_replicas": replicas,
                "metadata": {"voxroute": _LAYOUT},
            }
            there = await _keep(link, "CREATE", config | own)
        layout = there.get("metadata", {}).get("voxroute")
        if layout in _READ:
            metadata = there["metadata"] | {"voxroute": _LAYOUT}
            there = await _keep(link, "UPDATE", there | {"metadata": metadata})
        elif layout != _LAYOUT:
            raise LinkError(
                f"the stream {name} of the NATS server is not this voxroute's (its layout is"
                f" {layout}, this one knows {_LAYOUT}); install the voxroute that has made it, or"
                " use an account of its own"
            )
        if there["num_replicas"] < replicas:
            await _keep(link, "UPDATE", there | {"num_replicas": replicas})


async def hand_out(link: Link, stream: str, name: str, lease_s: float, subject: str) -> None:
    """Makes a consumer of a work queue, unless it is there. Raises LinkError.

    A ticket that nobody speaks of comes again after `lease_s`; `subject` are those that it hands
    out. RefusedError tells where nobody has made the streams yet.
    """
    consumer: dict[str, Any] = {
        "durable_name": name,
        "ack_policy": "explicit",
        "ack_wait": int(lease_s * 1e9),
        "max_ack_pending": 20_000,  # tickets that are out at once; the default is 1000
        "max_waiting": 4096,
        "filter_subject": subject,
    }
    asked = {"stream_name": stream, "config": consumer}
    try:
        await link.call(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", asked, START_S)
    except RefusedError as error:
        if error.code != NO_STREAM:
            raise
        sentence = "no job service has been on this NATS server yet; start one with this --engine"
        raise RefusedError(error.code, sentence) from error


async def check_folder(link: Link, folder_id: str) -> None:
    """Raises LinkError where the files of the jobs are elsewhere; "" for anywhere."""
    if not folder_id:
        return
    with contextlib.suppress(ConflictError):
        await link.append(JOBS, _FOLDER, folder_id.encode(), 0)
    kept = await link.last(JOBS, _FOLDER)
    if kept is not None and kept.data == folder_id.encode():
        return
    told = kept.data.decode() if kept is not None else ""
    bucket = told.partition("#")[0] if told.startswith(_IN_BUCKET) else ""
    if bucket and folder_id.partition("#")[0] == bucket:
        raise LinkError(
            f"the jobs that this server keeps have their files in another bucket {bucket}; name the"
            " endpoint of the other services, or use an account of its own"
        )
    if told == ON_SERVER or bucket:
        where = f"in {bucket}" if bucket else "on it as well"
        raise LinkError(
            f"the jobs that this server keeps have their files {where}; start"
            f" with --engine-files {bucket or ON_SERVER} and a --data-dir of this service's own"
        )
    if folder_id == ON_SERVER or folder_id.startswith(_IN_BUCKET):
        raise LinkError(
            "the jobs that this server keeps have their files in a folder that services share;"
            " start with --engine-files folder and that --data-dir, or use an account of its own"
        )
    raise LinkError(
        "the jobs that this server keeps are in another data folder; mount that of the other"
        " services here and name it with --data-dir, or use an account of its own"
    )


async def _keep(link: Link, how: str, config: dict[str, Any]) -> dict[str, Any]:
    """Makes or changes a stream; its config as it is then. Raises LinkError."""
    name, replicas = config["name"], config["num_replicas"]
    until = time.monotonic() + START_S
    while True:
        try:
            return (await link.call(f"STREAM.{how}.{name}", config, START_S))["config"]
        except RefusedError as error:
            if replicas == 1:
                raise
            if error.code != _NO_PEERS or time.monotonic() > until:
                raise LinkError(
                    f"the NATS server does not keep {replicas} copies of the stream {name}"
                    f" ({error}); start {replicas} servers as one cluster, or choose fewer with"
                    " --engine-replicas"
                ) from error
        await asyncio.sleep(_AGAIN_S)
