"""Runs a service's module as a child that never outlives its parent.

`python -m voxroute_orchestrator.child PARENT_PID MODULE ARGUMENT...`; standard input is a pipe
that the parent keeps open and never writes to. Where the parent dies, by whatever signal, the
kernel kills this process (Linux) or the pipe ends (everywhere else), which ends it as well.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE_S = 10.0  # for the service to end by itself after SIGTERM


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the request took effect
        os._exit(1)


def _watch(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Does not return before the module ends."""
    parent, module, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    _die_with_parent(parent)
    pipe = os.dup(0)  # the module gets an empty standard input of its own
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_watch, args=(pipe,), name="parent", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
