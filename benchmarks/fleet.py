# pyright: basic
"""Several job services on one NATS server, with workers and clients who have unequally many jobs.

    python -m benchmarks fleet [--jobs N] [--workers N] [--window-s S]
    python -m benchmarks fleet --cost [--rounds N]
    python -m benchmarks fleet --files [--rounds N]

All is real but the engine, which takes a set time for a window (`fleet_workers.py`); the clients
have as much of the jobs as SHARES say. With --cost it is one recording of half an hour, in turn
over SQLite, over NATS, the same with the files there, and over NATS with a worker, with one service
that decodes SPEED times as fast as the recording plays. With --files it is how fast recordings come
and go (`fleet_files.py`).
"""

import argparse
import contextlib
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.table import table
from scripts.nats_server import SERVER
from voxroute.common.v1 import common_pb2
from voxroute.jobs.v1 import jobs_pb2, jobs_pb2_grpc

SHARES = {"studio": 0.5, "archive": 0.3, "news": 0.15, "podcast": 0.05}
SERVICES = 3
JOBS_A_WORKER = 1.2  # that are under way
PROCESSES = 2  # of workers
RECORDING_S = 60
WINDOWS = 3  # of it
WINDOW_S = 30.0  # of a long one
SPEED = 60.0  # of large-v3, times real time: that of one GPU, or faster
SPAN_S = 112.0  # of a recording of half an hour
COST_S = 1800
MOST_UNFAIR, MOST_OVERHEAD, MOST_COST, MOST_GROWTH = 0.2, 0.02, 1.03, 1.15
PARTS = (0.1, 0.5, 0.95, 1.0)  # of the jobs, after which memory is measured
_RATE = 16_000
_TONE_S, _EVERY_S = 2, 3
_SUCCEEDED = jobs_pb2.JOB_STATE_SUCCEEDED


def main(arguments: Sequence[str] = ()) -> bool:
    """Prints the tables; whether all of it holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fleet", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--window-s", type=float, default=4.0, help="seconds of the engine for one")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vx") as name:
        if asked.cost:
            with contextlib.ExitStack() as stack:
                return _cost(Path(name), stack, asked.rounds)
        if asked.files:
            from benchmarks import fleet_files  # noqa: PLC0415 - it uses this module

            return fleet_files.measured(Path(name), asked.rounds)
        measured = simulated(Path(name), asked.jobs, asked.workers, asked.window_s)
    print(
        f"{asked.jobs} jobs of {RECORDING_S} s, {SERVICES} services, {asked.workers} workers,"
        f" {asked.window_s:g} s for a window, {os.cpu_count()} processors\n"
    )
    return measured.told()


# --- what runs


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def nats_server(folder: Path, stack: contextlib.ExitStack) -> tuple[str, psutil.Process]:
    """Its address, and it."""
    port = free_port()
    config = folder / "nats.conf"
    config.write_text(f'jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always }}')
    command = [os.environ.get("VOXROUTE_NATS_SERVER", SERVER), "-c", config, "-a", "127.0.0.1"]
    process = started(stack, [str(one) for one in (*command, "-p", port)], folder / "nats.log")
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return f"nats://127.0.0.1:{port}", psutil.Process(process.pid)
        time.sleep(0.05)


def started(
    stack: contextlib.ExitStack, command: Sequence[str], log: Path
) -> subprocess.Popen[str]:
    """A process that ends with the stack, if not before."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXROUTE_")}
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment
        )

    def end() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()

    stack.callback(end)
    return process


def _said(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    return process.stdout.readline().strip()


@dataclass
class Service:
    """A job service."""

    process: subprocess.Popen[str]
    target: str
    metrics: str

    @property
    def memory(self) -> int:
        """Its bytes in memory."""
        return psutil.Process(self.process.pid).memory_info().rss

    @property
    def ended(self) -> int:
        """How many jobs have ended, of all services."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        ended = [line for line in lines if line.startswith("voxroute_jobs_ended_total{")]
        return round(sum(float(line.split()[-1]) for line in ended))


def service_of(folder: Path, name: str, stack: contextlib.ExitStack, *flags: str) -> Service:
    """A job service with these flags, which serves."""
    command = [sys.executable, "-m", "voxroute_orchestrator", "serve", "--listen", "127.0.0.1:0"]
    command += ["--metrics-listen", "127.0.0.1:0", "--media-root", str(folder / "media"), *flags]
    process = started(stack, command, folder / f"{name}.log")
    said = json.loads(_said(process))
    service = Service(process, said["addresses"][0], said["metrics"])
    check = health_pb2.HealthCheckRequest()
    with grpc.insecure_channel(service.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while health.Check(check, timeout=60).status != health_pb2.HealthCheckResponse.SERVING:
            time.sleep(0.05)
    return service


def _workers(
    folder: Path, name: str, stack: contextlib.ExitStack, *arguments: object
) -> subprocess.Popen[str]:
    """A process of them, as `fleet_workers.py` says; it writes NAME.json in the end."""
    arguments = (*arguments, folder / f"{name}.json")
    command = [sys.executable, "-m", "benchmarks.fleet_workers", *map(str, arguments)]
    return started(stack, command, folder / f"{name}.log")


def _recording(path: Path, seconds: int) -> None:
    """Tones with a pause behind each."""
    path.parent.mkdir(exist_ok=True)
    at = np.arange(seconds * _RATE) / _RATE
    sound = 8000 * np.sin(2 * np.pi * 440 * at) * (at % _EVERY_S < _TONE_S)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, _RATE, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())


# --- what clients do


@dataclass
class Client:
    """One of them."""

    target: str
    token: str = ""

    @contextlib.contextmanager
    def calls(self) -> Generator[tuple[Any, Any]]:
        """A stub, and what goes with each call."""
        with grpc.insecure_channel(self.target) as channel:
            metadata = (("authorization", f"Bearer {self.token}"),) if self.token else ()
            yield jobs_pb2_grpc.JobServiceStub(channel), metadata

    def submit(self, count: int, media: Path | None = None) -> list[str]:
        """The ids of so many jobs; of a recording that is sent, or of that below the media root."""
        named = {"upload_name": media.name} if media else {"media_path": "film.wav"}
        job = jobs_pb2.JobConfig(**named, source_languages=["hi"], vad_disabled=True)
        opening = jobs_pb2.SubmitJobRequest(config=jobs_pb2.SubmitJobConfig(job=job))
        finish = jobs_pb2.SubmitJobRequest(finish=common_pb2.Finish())

        def messages() -> Iterator[jobs_pb2.SubmitJobRequest]:
            yield opening
            if media is not None:
                with media.open("rb") as file:
                    while data := file.read(1 << 20):
                        yield jobs_pb2.SubmitJobRequest(data=data)
            yield finish

        with self.calls() as (stub, metadata):
            return [
                stub.SubmitJob(messages(), timeout=600, metadata=metadata).job.id
                for _ in range(count)
            ]

    def watched(self, job_ids: Sequence[str]) -> list[tuple[jobs_pb2.Job, list]]:
        """The jobs, once they have ended, with all of their events."""
        with self.calls() as (stub, metadata):
            found = []
            for job_id in job_ids:
                watch = jobs_pb2.WatchJobRequest(job_id=job_id)
                events = list(stub.WatchJob(watch, timeout=600, metadata=metadata))
                get = jobs_pb2.GetJobRequest(job_id=job_id)
                found.append((stub.GetJob(get, timeout=60, metadata=metadata).job, events))
            return found


# --- many jobs


@dataclass
class Measured:
    """What came of many jobs."""

    counts: dict[str, int]
    """Jobs by client."""
    took_s: float
    once: int
    """Jobs that have ended once, with all of their events."""
    windows: int
    """Those that the engines have decoded."""
    shares: dict[str, float]
    """Of the workers' time, by client, while each had a job that waited."""
    queued_s: list[float]
    """What the queue has cost each span."""
    memory: list[list[int]]
    """Bytes of the server and of each service, at several parts of the jobs."""

    @property
    def n_jobs(self) -> int:
        """How many jobs there were."""
        return sum(self.counts.values())

    @property
    def unfair(self) -> float:
        """The largest distance of a client's share from the fair one, as a part of that."""
        return max(abs(share * len(self.shares) - 1) for share in self.shares.values())

    def told(self) -> bool:
        """Prints the tables; whether all of it holds."""
        queued = sorted(one / (SPAN_S / SPEED) for one in self.queued_s)
        overhead, late = statistics.median(queued), queued[int(len(queued) * 0.95)]
        # the services'; the server has what is kept
        halves = zip(*(one[1:] for one in self.memory[1:3]), strict=True)
        growth = max(end / middle for middle, end in halves)
        expected = self.n_jobs * WINDOWS
        rows = [
            ("jobs a second", f"{self.n_jobs / self.took_s:.1f}", ""),
            ("jobs that ended once, with all events", str(self.once), str(self.n_jobs)),
            ("windows decoded", str(self.windows), str(expected)),
            ("largest distance from a fair share", f"{self.unfair:.1%}", f"< {MOST_UNFAIR:.0%}"),
            (f"queue, of a span at {SPEED:.0f} times real time", f"{overhead:.2%}",
             f"< {MOST_OVERHEAD:.0%}"),
            ("the same of the slowest in twenty", f"{late:.2%}", ""),
            ("memory of a service at 95 % to 50 %", f"{growth:.2f}", f"< {MOST_GROWTH}"),
        ]  # fmt: skip
        print(table(("", "measured", "wanted"), rows))
        fair = f"{1 / len(self.shares):.1%}"
        rows = [
            (name, str(self.counts[name]), f"{share:.1%}", fair)
            for name, share in self.shares.items()
        ]
        print("\n" + table(("client", "jobs", "share while all had work", "fair"), rows))
        names = ("NATS server", *(f"job service {n + 1}" for n in range(SERVICES)))
        rows = [
            (name, *(f"{one[number] / 2**20:.0f}" for one in self.memory))
            for number, name in enumerate(names)
        ]
        print("\n" + table(("MiB when ended", *(f"{part:.0%}" for part in PARTS)), rows))
        return (
            self.once == self.n_jobs
            and self.windows == expected
            and self.unfair < MOST_UNFAIR
            and overhead < MOST_OVERHEAD
            and growth < MOST_GROWTH
        )


def simulated(folder: Path, n_jobs: int, n_workers: int, window_s: float) -> Measured:
    """Has so many jobs done by so many workers, whose engines take so long for a window."""
    with contextlib.ExitStack() as stack:
        return _simulated(folder, stack, n_jobs, n_workers, window_s)


def _simulated(
    folder: Path, stack: contextlib.ExitStack, n_jobs: int, n_workers: int, window_s: float
) -> Measured:
    tokens = folder / "tokens"
    tokens.write_text("".join(f"{name}:{name * 4}\n" for name in SHARES))
    tokens.chmod(0o600)
    _recording(folder / "media" / "film.wav", RECORDING_S)
    url, nats = nats_server(folder, stack)
    places = math.ceil(n_workers * JOBS_A_WORKER / SERVICES)
    flags = ["--engine", url, "--workers", "--max-jobs", str(places), "--client-tokens"]
    flags += [str(tokens), "--data-dir", str(folder / "data")]
    services = [service_of(folder, f"service{n}", stack, *flags) for n in range(SERVICES)]
    processes = [
        _workers(folder, f"workers{n}", stack, url, n_workers // PROCESSES, window_s)
        for n in range(PROCESSES)
    ]
    clients = {
        name: Client(services[n % SERVICES].target, name * 4) for n, name in enumerate(SHARES)
    }
    counts = {name: max(1, round(n_jobs * share)) for name, share in SHARES.items()}
    n_jobs = sum(counts.values())
    memory: list[list[int]] = []
    began = time.monotonic()
    with ThreadPoolExecutor(len(clients)) as threads:
        submitted = {
            name: threads.submit(client.submit, counts[name]) for name, client in clients.items()
        }
        for part in PARTS:
            while services[0].ended < part * n_jobs:
                time.sleep(0.5)
            memory.append([nats.memory_info().rss, *(one.memory for one in services)])
        took_s = time.monotonic() - began
        ids = {name: future.result() for name, future in submitted.items()}
    watched = {name: client.watched(ids[name]) for name, client in clients.items()}
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    told = [json.loads((folder / f"workers{n}.json").read_text()) for n in range(PROCESSES)]
    spans = [span for one in told for span in one["spans"]]
    jobs = [one for found in watched.values() for one in found]
    once = sum(
        job.state == _SUCCEEDED
        and job.attempts == 1
        and [event.sequence for event in events] == list(range(1, len(events) + 1))
        and [event.state for event in events].count(_SUCCEEDED) == 1
        for job, events in jobs
    )
    return Measured(
        counts,
        took_s,
        once,
        sum(one["windows"] for one in told),
        _shares({name: [job for job, _ in found] for name, found in watched.items()}, spans),
        [span["queued_s"] for span in spans],
        memory,
    )


def _shares(jobs: dict[str, list[jobs_pb2.Job]], spans: Sequence[dict]) -> dict[str, float]:
    """Of the workers' time, while each client had a job that waited."""
    start_s = (
        max(min(job.create_time.ToNanoseconds() for job in own) for own in jobs.values()) / 1e9
    )
    end_s = min(max(job.start_time.ToNanoseconds() for job in own) for own in jobs.values()) / 1e9
    whose = {job.id: name for name, own in jobs.items() for job in own}
    worked = dict.fromkeys(jobs, 0.0)
    for span in spans:
        during = min(span["ended_s"], end_s) - max(span["began_s"], start_s)
        worked[whose[span["job"]]] += max(0.0, during)
    return {name: one / (sum(worked.values()) or 1) for name, one in worked.items()}


# --- what it costs


def _cost(folder: Path, stack: contextlib.ExitStack, rounds: int) -> bool:
    _recording(folder / "media" / "film.wav", COST_S)
    url, _ = nats_server(folder, stack)
    window_s = WINDOW_S / SPEED
    speech = _workers(folder, "speech", stack, "", 1, window_s)
    called = ["--asr-endpoint", _said(speech)]
    shared = ["--engine", url, "--data-dir", str(folder / "shared")]
    (folder / "second").mkdir()
    second, _ = nats_server(folder / "second", stack)
    apart = ["--engine", second, "--engine-files", "server", "--data-dir", str(folder / "apart")]
    one = service_of(folder, "sqlite", stack, *called, "--data-dir", str(folder / "data"))
    times: dict[str, list[float]] = {}
    ways = {
        "SQLite": [],
        "NATS": [*shared, *called],
        "NATS, with the files": [*apart, *called],
        "NATS, a worker": [*shared, "--workers"],
    }
    for _ in range(rounds):
        for way, flags in ways.items():
            with contextlib.ExitStack() as own:
                service = service_of(folder, "nats", own, *flags) if flags else one
                if "--workers" in flags:
                    _workers(folder, "worker", own, url, 1, window_s)
                times.setdefault(way, []).append(_took_s(service, folder / "media" / "film.wav"))
    base = statistics.median(times["SQLite"])
    print(f"a recording of {COST_S // 60} minutes, {rounds} rounds, {os.cpu_count()} processors\n")
    rows = [
        (
            way,
            f"{statistics.median(took):.2f}",
            f"{min(took):.2f} to {max(took):.2f}",
            f"{statistics.median(took) / base:.3f}",
        )
        for way, took in times.items()
    ]
    print(table(("jobs are kept by", "s", "range", "to SQLite"), rows))
    print(f"\nNATS, also with the files: at most {MOST_COST} wanted")
    ways = ("NATS", "NATS, with the files")
    return max(statistics.median(times[way]) for way in ways) / base <= MOST_COST


def _took_s(service: Service, media: Path) -> float:
    """From the first byte of the recording to the end of its job."""
    client = Client(service.target)
    began = time.monotonic()
    ((job, _),) = client.watched(client.submit(1, media))
    if job.state != _SUCCEEDED:
        raise RuntimeError(job.error)
    return time.monotonic() - began
