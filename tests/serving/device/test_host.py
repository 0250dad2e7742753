"""How a process uses the processors and the memory of its host."""

import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its malloc alone is told")

CODE = """
import os, resource, sys, threading
from voxroute_serving.device.host import give_back_freed_memory, prepare_for_cpu

def resident_bytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def work(n_bytes=100 << 20):
    bytearray(n_bytes)

def on_a_thread():
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

if sys.argv[1] == "prepared":
    prepare_for_cpu("cpu")
on_a_thread()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    on_a_thread()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * os.sysconf("SC_PAGE_SIZE"))
kept = resident_bytes()
give_back_freed_memory()
print(kept - resident_bytes())
print(os.environ.get("OMP_WAIT_POLICY"))
"""


def _measured(how: str) -> tuple[int, int, str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, text=True, timeout=60, check=True
    )
    cleared, given_back, policy = done.stdout.split()
    return int(cleared), int(given_back), policy


@glibc
def test_arrays_that_follow_each_other_take_the_same_memory() -> None:
    """On whichever thread: the kernel clears it once; without a word to malloc each time."""
    cleared, given_back, policy = _measured("prepared")
    assert cleared < 50 << 20
    assert given_back > 50 << 20
    assert policy.lower() == "passive"
    assert _measured("as it is")[0] >= 5 * (100 << 20)
