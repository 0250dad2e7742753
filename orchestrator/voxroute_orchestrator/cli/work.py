"""What the commands that do work have in common: signals, and what they print."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import typer

from voxroute_orchestrator.errors import JobInterruptedError
from voxroute_orchestrator.names import shown


def finish(work: Coroutine[Any, Any, list[str]]) -> None:
    """Runs the work and prints what it returns, each in one line, whatever a path has in it."""
    lines = asyncio.run(work)
    for line in lines:
        typer.echo(shown(line))


def _no_end() -> bool:
    return False


async def interruptible(
    work: Coroutine[Any, Any, list[str]],
    end: Callable[[], bool] = _no_end,
    left: str = "what was finished is in the partial files",
) -> list[str]:
    """The work's result; a signal cancels it. Raises JobInterruptedError, which says what is left.

    The first one does not where `end` has another way to end the work.
    """
    task = asyncio.ensure_future(work)
    caught = cancel_by_signal(task, end)
    try:
        return await task
    except asyncio.CancelledError:
        if not caught:
            raise
        raise JobInterruptedError(f"interrupted; {left}", caught[0]) from None


def cancel_by_signal(task: "asyncio.Future[Any]", end: Callable[[], bool] = _no_end) -> list[int]:
    """Lets signals cancel the task, as in `interruptible`; where those that came are noted."""
    loop = asyncio.get_running_loop()
    caught: list[int] = []

    def interrupt(number: int) -> None:
        caught.append(number)
        if len(caught) > 1 or not end():
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup
        with contextlib.suppress(NotImplementedError):  # Windows; Ctrl-C still raises there
            loop.add_signal_handler(number, interrupt, number)
    return caught
