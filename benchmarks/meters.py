# pyright: basic
"""What a measurement takes: seconds, processor seconds, and how busy the GPU is."""

import resource
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

GPU_SAMPLE_S = 0.05


@dataclass(slots=True)
class Reading:
    """What was measured."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    gpu_percent: float | None = None
    """Mean use of the first GPU; None where there is none or pynvml is missing."""


@contextmanager
def measured(services: Sequence[psutil.Process] = ()) -> Iterator[Reading]:
    """Measures the block: this process, children that end in it, and services that go on."""
    reading = Reading()
    busy: list[int] = []
    done = threading.Event()
    watcher = threading.Thread(target=_watch_gpu, args=(busy, done))
    watcher.start()
    cpu_before, began = _cpu_s(services), time.perf_counter()
    try:
        yield reading
    finally:
        reading.wall_s = time.perf_counter() - began
        reading.cpu_s = _cpu_s(services) - cpu_before
        done.set()
        watcher.join()
        reading.gpu_percent = statistics.mean(busy) if busy else None


def _cpu_s(services: Sequence[psutil.Process]) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for service in services:
        for process in (service, *service.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _watch_gpu(busy: list[int], done: threading.Event) -> None:
    try:
        import pynvml  # type: ignore[import-not-found]  # noqa: PLC0415 - on GPU hosts only

        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # noqa: BLE001 - its errors cannot be named without it: there is no GPU
        return
    while not done.wait(GPU_SAMPLE_S):
        busy.append(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
