# pyright: basic
"""How fast recordings come to a job service, and to another one that has nothing of them.

A recording of MIB MiB is sent to one service; then a second one, which has just begun, is asked for
it, twice. The services have one folder, or one of their own each and the files on one server, on
three, or in a bucket of a server of S3. All is on one host and one disk.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.fleet import Client, Service, free_port, nats_server, service_of, started
from benchmarks.table import table
from scripts.nats_server import SERVER
from scripts.s3_server import BUCKET, PORTS, SECRET, command, serves
from voxroute.jobs.v1 import jobs_pb2

MIB = 256
NAME = "film.mp4"
WAYS = ("one folder", "one server", "three servers", "a bucket")
WHAT = ("sent", "from another service", "the same again")


def measured(folder: Path, rounds: int) -> bool:
    """Prints the table; whether every recording came back as it was sent."""
    media = folder / NAME
    media.write_bytes(os.urandom(1 << 20) * MIB)
    speeds = {(way, what): [] for way in WAYS for what in WHAT}
    memory = dict.fromkeys(WAYS, 0)
    with contextlib.ExitStack() as stack:
        flags = {way: _engine(folder, way, stack) for way in WAYS}
        here = {way: _begun(folder, way, "one", flags[way], stack) for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                before = here[way].memory
                took_s = _round(folder, way, media, here[way], flags[way])
                for what, one in zip(WHAT, took_s, strict=True):
                    speeds[way, what].append(MIB * (1 << 20) / 1e6 / one)
                memory[way] = max(memory[way], here[way].memory - before)
    print(f"a recording of {MIB} MiB, {rounds} rounds, {os.cpu_count()} processors, MB/s\n")
    rows = [
        (
            way,
            *(
                f"{statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})"
                for found in (speeds[way, what] for what in WHAT)
            ),
            f"{memory[way] / 2**20:.0f}",
        )
        for way in WAYS
    ]
    print(table(("files are in", *WHAT, "MiB that the first grew by"), rows))
    return True


def _engine(folder: Path, way: str, stack: contextlib.ExitStack) -> list[str]:
    """The flags of all services but for their folder."""
    own = folder / way.replace(" ", "-")
    own.mkdir()
    if way != "three servers":
        url, _ = nats_server(own, stack)
    else:
        url = _cluster(own, stack)
    files = {"one folder": "folder", "a bucket": ""}.get(way, "server")
    return ["--engine", url, "--engine-files", files or _bucket(own, stack)]


def _bucket(folder: Path, stack: contextlib.ExitStack) -> str:
    """The URL of one; the environment has who may write to it."""
    ports = {name: free_port() for name in PORTS}
    started(stack, command(folder, ports), folder / "s3.log")
    while not serves(ports):
        time.sleep(0.05)
    os.environ |= {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": SECRET}
    return f"s3://{BUCKET}/measured?endpoint=http://127.0.0.1:{ports['s3.port']}"


def _cluster(folder: Path, stack: contextlib.ExitStack) -> str:
    ports = [free_port() for _ in range(6)]
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
    for number in range(3):
        config = folder / f"{number}.conf"
        config.write_text(
            f'server_name: s{number}\njetstream {{ store_dir: "{folder}/{number}",'
            f" sync_interval: always }}\ncluster {{ name: voxroute, routes: [{routes}],"
            f" listen: 127.0.0.1:{ports[3 + number]} }}"
        )
        program = os.environ.get("VOXROUTE_NATS_SERVER", SERVER)
        told = [program, "-c", config, "-a", "127.0.0.1", "-p", ports[number]]
        started(stack, [str(one) for one in told], folder / f"{number}.log")
        time.sleep(1.0)  # of those that are started at once one may not be counted
    return ",".join(f"nats://127.0.0.1:{port}" for port in ports[:3])


def _begun(
    folder: Path, way: str, name: str, flags: Sequence[str], stack: contextlib.ExitStack
) -> Service:
    (folder / "media").mkdir(exist_ok=True)
    own = folder / way.replace(" ", "-")
    data = own / ("shared" if way == WAYS[0] else name)
    # nobody is there to do a job, which fails at once
    asked = ["--data-dir", str(data), "--asr-endpoint", "127.0.0.1:9", *flags]
    return service_of(folder, f"{own.name}-{name}", stack, *asked)


def _round(
    folder: Path, way: str, media: Path, here: Service, flags: Sequence[str]
) -> Iterator[float]:
    client = Client(here.target)
    began = time.monotonic()
    (job_id,) = client.submit(1, media)
    yield time.monotonic() - began
    client.watched([job_id])
    with contextlib.ExitStack() as stack:
        there = _begun(folder, way, "two", flags, stack)
        for _ in range(2):
            began = time.monotonic()
            _check(there.target, job_id, media)
            yield time.monotonic() - began
    with client.calls() as (stub, metadata):
        stub.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job_id), timeout=60, metadata=metadata)


def _check(target: str, job_id: str, media: Path) -> None:
    """Has a service give out the recording. Raises RuntimeError where it is another one."""
    with Client(target).calls() as (stub, metadata), media.open("rb") as file:
        asked = jobs_pb2.GetMediaRequest(job_id=job_id)
        for reply in stub.GetMedia(asked, timeout=600, metadata=metadata):
            if file.read(len(reply.data)) != reply.data:
                raise RuntimeError("the recording is another one")
        if file.read(1):
            raise RuntimeError("the recording is not whole")
