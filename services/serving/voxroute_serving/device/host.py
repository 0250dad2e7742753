"""The host that a service runs on: its processors and its memory."""

import contextlib
import ctypes
import os
import platform
import subprocess
from pathlib import Path

# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 1 << 30


def usable_processors() -> int:
    """Processors that this process may use; a container's CPU set counts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The vendor's name of the host's processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return apple_chip() or platform.processor() or platform.machine() or "CPU"


def apple_chip() -> str:
    """The name of an Apple chip, "Apple M1 Pro"; "" where there is none."""
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - a constant command
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def host_memory() -> tuple[int, int]:
    """The host's memory in bytes: all of it, and what programs can still get."""
    import psutil  # noqa: PLC0415 - most jobs ask for no memory

    memory = psutil.virtual_memory()
    return memory.total, memory.available


def prepare_for_cpu(device: str = "auto") -> None:
    """Lets this process use its processors with less waste; before the first thread.

    Nothing is done where the device may be a GPU.
    """
    if device != "cpu" and any(Path("/dev").glob("nvidia[0-9c]*")):
        return
    _keep_freed_memory()
    # GNU OpenMP's threads spin between two pieces of work: while CTranslate2 loads Whisper base
    # they took 1 s of a processor that the rest of the start could have used
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _keep_freed_memory() -> None:
    """Lets malloc keep what is freed, up to `give_back_freed_memory`. Does nothing without glibc.

    By default glibc returns each large array to the kernel, which clears the pages of the next one
    again: that was a fifth of what CTranslate2 took for a window of Whisper base. Threads share one
    heap, as those of their own hold 64 MB at most.
    """
    with contextlib.suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Returns to the kernel what is free. Does nothing without glibc."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
