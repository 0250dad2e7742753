"""Runs a service's module as a child of the command that starts it.

`python -m voxroute_orchestrator.fleet.child PARENT_PID RECORD IDLE_S LOG MODULE ARGUMENT...`;
standard input is a pipe that the parent keeps open. Where the parent dies, by whatever signal, the
pipe ends and this process with it; on Linux the kernel kills a service that is never to outlive its
parent even before. RECORD, IDLE_S and LOG are "" for such a service.

One that may stay behind has a RECORD, a file that whoever uses the service holds a shared lock on.
The parent writes a byte to the pipe once the service serves: from then on it ends when nobody has
used it for IDLE_S, and LOG is kept from growing without end.

`python -m voxroute_orchestrator.fleet.child --spare MODULE MARK` imports what MODULE needs in any
case and waits for its order, a line of JSON on standard input: the arguments as above, the
environment and the folder. See spare.py.
"""

import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import queue
import runpy
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from voxroute_serving.device.host import prepare_for_cpu

MAX_LOG_BYTES = 1_000_000

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE_S = 10.0  # for the service to end by itself after SIGTERM
_LOOK_EVERY_S = 1.0


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request took effect
        os._exit(1)


def _watch(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    _end()


def _watch_kept(pipe: int, record: Path, idle_s: float, log: Path) -> None:
    if not os.read(pipe, 1):
        # nobody waits for a service that is half started
        os.killpg(0, signal.SIGKILL)
    _wait_until_unused(record, idle_s, log)
    _end()


def _end() -> NoReturn:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.killpg(0, signal.SIGKILL)
    raise AssertionError  # pragma: no cover - the signal was for this process too


def _wait_until_unused(record: Path, idle_s: float, log: Path) -> None:
    """Returns once nobody has used the service for that long, with the record locked.

    Nobody can begin to use it then. Also where the record is gone, so that nobody could find it.
    """
    try:
        lease = os.open(record, os.O_RDWR)
    except OSError:
        return
    used_at = time.monotonic()
    while is_at(lease, record):
        _bound(log)
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            used_at = time.monotonic()
            os.utime(lease)  # for people: since when it is idle
        else:
            if time.monotonic() - used_at >= idle_s:
                return
            fcntl.flock(lease, fcntl.LOCK_UN)
        time.sleep(max(0.05, min(_LOOK_EVERY_S, idle_s / 4)))


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one at the path, not one that was there before."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _bound(log: Path) -> None:
    """Cuts off the older half of a log that is too large; it is written by appending."""
    try:
        size = os.fstat(2).st_size
        if size > MAX_LOG_BYTES:
            with log.open("rb") as file:
                file.seek(size - MAX_LOG_BYTES // 2)
                file.readline()
                rest = file.read()
            os.ftruncate(2, 0)
            os.write(2, rest)
    except OSError:
        pass  # a log that cannot be read or written stays as it is


def _order(module: str) -> dict[str, Any]:
    """What the parent wants of this process; ends it where the parent wants nothing any more."""
    orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def listen() -> None:
        line = b""
        while not line.endswith(b"\n"):  # nothing comes after it before the service serves
            some = os.read(0, 1 << 16)
            if not some:
                os._exit(0)
            line += some
        orders.put(json.loads(line))

    threading.Thread(target=listen, name="order", daemon=True).start()
    gc.disable()  # an import makes no garbage
    with contextlib.suppress(Exception):  # the module itself meets and tells it, in its log
        importlib.import_module(f"{module}.ahead")
    gc.freeze()
    gc.enable()
    return orders.get()


def _obey(order: dict[str, Any]) -> None:
    """Makes this process one that was started with the order's arguments."""
    sys.argv[1:] = order["arguments"]
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    log = os.open(sys.argv[4], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def main() -> None:
    """Does not return before the module ends."""
    prepare_for_cpu()
    if sys.argv[1] == "--spare":
        _obey(_order(sys.argv[2]))
    parent, record, idle_s, log, module, *arguments = sys.argv[1:]
    if not record:
        _die_with_parent(int(parent))
    pipe = os.dup(0)  # the module gets an empty standard input of its own
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        if record:
            _watch_kept(pipe, Path(record), float(idle_s), Path(log))
        else:
            _watch(pipe)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
