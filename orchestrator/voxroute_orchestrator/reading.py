"""Blocking reads of media, on threads that nobody has to wait for.

What reads a file may stand still for as long as its disk does, or for ever inside FFmpeg. So it
runs on a daemon thread: who waits for it goes on after a cancel or a signal at once, and after
STALL_S without progress, and leaves the thread behind.
"""

import asyncio
import contextlib
import contextvars
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from voxroute_orchestrator.errors import MediaStalledError
from voxroute_serving.audio.media import Watch

STALL_S = 120.0  # longer than a network file system takes to come back, short of a night

NAME = "media"
"""Of the threads."""

T = TypeVar("T")


def _begin(watch: Watch, call: Callable[[], T]) -> "Future[T]":
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome = context.run(call)
        except BaseException as error:  # noqa: BLE001 - goes to who waits
            future.set_exception(error)
        else:
            future.set_result(outcome)

    watch.moved()
    threading.Thread(target=work, name=NAME, daemon=True).start()
    return future


def read(watch: Watch, call: Callable[[], T]) -> T:
    """What `call` returns or raises; Ctrl-C ends the wait. Raises MediaStalledError."""
    future = _begin(watch, call)
    try:
        while True:
            try:
                return future.result(_left_s(watch))
            except TimeoutError:
                if future.done():  # it was the call's own
                    raise
                _check(watch)
    finally:
        if not future.done():
            watch.stop()


async def reading(watch: Watch, call: Callable[[], T]) -> T:
    """As `read`; a cancel ends the wait."""
    future = asyncio.wrap_future(_begin(watch, call))
    try:
        while not future.done():
            await asyncio.wait([future], timeout=_left_s(watch))
            if not future.done():
                _check(watch)
        return future.result()
    finally:
        if not future.done():
            watch.stop()
            future.cancel()


def _left_s(watch: Watch) -> float:
    return max(0.01, STALL_S - watch.idle_s)


def _check(watch: Watch) -> None:
    if watch.idle_s >= STALL_S:
        raise MediaStalledError(
            f"{watch.name} could not be read any further for {STALL_S:g} s; check the disk or the"
            " network that it is on, and whether the file is whole"
        )


def leave_stuck_threads(code: int) -> None:
    """Ends the process with this code where a read still stands; else returns.

    A thread that comes back from FFmpeg to an interpreter on its way down may crash it.
    """
    if any(thread.name == NAME for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full, or closed
                stream.flush()
        os._exit(code)
