"""What the commands that do work have in common: settings of their flags, and signals."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import typer

from voxroute_orchestrator import __version__
from voxroute_orchestrator.cli.options import LogLevel
from voxroute_orchestrator.client import credentials
from voxroute_orchestrator.errors import JobInterruptedError
from voxroute_orchestrator.names import shown
from voxroute_orchestrator.settings import Settings, load
from voxroute_serving.telemetry import tracing
from voxroute_serving.telemetry.logs import set_up_logs


def settings_of(
    offline: bool,  # noqa: FBT001 - as the flag is called where this is
    asr_endpoint: list[str] | None,
    translate_endpoint: list[str] | None,
    config: Path | None,
    level: LogLevel,
) -> Settings:
    """The settings with what flags say, when they count: logs and traces are as they say."""
    settings = load(
        offline=offline,
        asr_endpoints=",".join(asr_endpoint or ()),
        translate_endpoints=",".join(translate_endpoint or ()),
        config=config,
        **credentials.flags,
    )
    set_up_logs(level.value, "console", log_text=settings.log_text)
    if settings.tracing:
        tracing.start("voxroute", __version__)
    return settings


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
