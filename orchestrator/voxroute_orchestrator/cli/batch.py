"""`voxroute run` of many recordings."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import typer

from voxroute_orchestrator.cli.main import fail
from voxroute_orchestrator.cli.terminal import standard_streams
from voxroute_orchestrator.cli.terminal.progress import reporter
from voxroute_orchestrator.cli.terminal.tables import print_table
from voxroute_orchestrator.cli.work import cancel_by_signal
from voxroute_orchestrator.errors import EXIT_OK, JobInterruptedError
from voxroute_orchestrator.job import Job
from voxroute_orchestrator.names import shown
from voxroute_orchestrator.pipeline.batch import Outcome, exit_code, find, run_batch, table_row
from voxroute_orchestrator.settings import Settings


def run_recordings(
    media: list[str], job: Job, settings: Settings, *, at_once: int, quiet: bool
) -> None:
    """Does them, prints a table, and exits with the code of the worst."""
    recordings = find(media)
    with reporter(quiet=quiet) as told:
        outcomes, signal_number = asyncio.run(
            _interrupted(run_batch(recordings, job, settings, told, at_once=at_once))
        )
    try:
        for outcome in outcomes:
            for line in outcome.lines:
                typer.echo(shown(line))
        print_table(("recording", "state", "took", "results"), map(table_row, outcomes))
    except standard_streams.NoReaderError:  # no reason to keep the failures out of the exit code
        standard_streams.silence_output()
    if signal_number:
        raise JobInterruptedError(
            "interrupted; what was finished is in the partial files", signal_number
        )
    code = exit_code(outcomes)
    if code != EXIT_OK:
        failed = sum(outcome.error is not None for outcome in outcomes)
        fail(f"{failed} of {len(outcomes)} recordings failed", code)


async def _interrupted(
    work: Coroutine[Any, Any, list[Outcome]],
) -> tuple[list[Outcome], signal.Signals | None]:
    """What the work returns when a signal cancels it or not, and that signal."""
    task = asyncio.ensure_future(work)
    caught = cancel_by_signal(task)
    outcomes = await task
    return outcomes, signal.Signals(caught[0]) if caught else None
