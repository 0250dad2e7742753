"""Progress as bars on a terminal."""

import contextlib
from collections.abc import Generator
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from voxroute_orchestrator.cli.terminal.progress import summary

__all__ = ["BarReporter", "Console"]


class _SummaryColumn(ProgressColumn):
    """`summary` of a task."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        if task.fields.get("waits"):
            return Text(f"{task.elapsed or 0.0:.0f} s")
        return Text(summary(task.completed, task.total, task.elapsed or 0.0))


class BarReporter:
    """A bar for each stage; for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _SummaryColumn(),
            console=console,
        )
        self._tasks: dict[str, object] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str, total_s: float | None) -> None:
        """Begins a bar."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total_s)

    def advance(self, name: str, done_s: float) -> None:
        """Moves a bar, never backwards."""
        for task in self._progress.tasks:
            if task.id == self._tasks.get(name) and done_s > task.completed:
                self._progress.update(task.id, completed=done_s)

    def finish(self, name: str) -> None:
        """Fills a bar."""
        for task in self._progress.tasks:
            if task.id == self._tasks.get(name):
                self._progress.update(task.id, total=task.completed)

    @contextlib.contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Shows a bar of no certain length, with the seconds."""
        task = self._progress.add_task(what, total=None, waits=True)
        try:
            yield
        finally:
            self._progress.remove_task(task)

    def say(self, text: str) -> None:
        """Writes a line above the bars."""
        self._console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Writes a line above the bars."""
        self._console.print(
            f"warning: {text}",
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
            style="yellow",
        )
