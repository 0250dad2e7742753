"""How far a job is: bars on a terminal, lines elsewhere, nothing with --quiet."""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

_LINE_EVERY_S = 10.0


class Reporter(Protocol):
    """Where a job tells what it does. Times are seconds of media."""

    def stage(self, name: str, total_s: float | None) -> None:
        """Begins a stage, or tells more of one that has begun."""
        ...

    def advance(self, name: str, done_s: float) -> None:
        """Tells how far a stage is, from the start of the media."""
        ...

    def finish(self, name: str) -> None:
        """Ends a stage."""
        ...

    def say(self, text: str) -> None:
        """Tells something."""
        ...

    def warn(self, text: str) -> None:
        """Tells something that a person should look at."""
        ...


Waits = Callable[[str], contextlib.AbstractContextManager[None]]
"""What tells, for the length of a block, that something is waited for."""


@runtime_checkable
class ShowsWaits(Protocol):
    """A reporter that shows how long something is waited for."""

    def waiting(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Shows it for the length of the block."""
        ...


def waits(told: Reporter) -> Waits:
    """How a reporter tells that something is waited for: a line at least."""
    return told.waiting if isinstance(told, ShowsWaits) else said_waits(told.say)


def said_waits(say: Callable[[str], None]) -> Waits:
    """Tells it by a line."""

    @contextlib.contextmanager
    def waiting(what: str) -> Generator[None]:
        say(what)
        yield

    return waiting


def clock(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(done_s: float, total_s: float | None, elapsed_s: float) -> str:
    """Media seconds done of total, how many times faster than real time, and what is left."""
    text = clock(done_s) + (f" of {clock(total_s)}" if total_s else "")
    if elapsed_s > 1 and done_s > 0:
        speed = done_s / elapsed_s
        text += f", {speed:.1f}x"
        if total_s and total_s > done_s:
            text += f", {clock((total_s - done_s) / speed)} left"
    return text


@dataclass(slots=True)
class _Stage:
    total_s: float | None
    started: float = field(default_factory=time.monotonic)
    done_s: float = 0.0
    told_at: float = field(default_factory=time.monotonic)


class LineReporter:
    """A line every ten seconds; for logs and pipes."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def stage(self, name: str, total_s: float | None) -> None:
        """Begins a stage."""
        if name not in self._stages:
            self._stages[name] = _Stage(total_s)
            self.say(name)

    def advance(self, name: str, done_s: float) -> None:
        """Tells how far a stage is, if the last line is old enough."""
        stage = self._stages[name]
        stage.done_s = max(stage.done_s, done_s)
        now = time.monotonic()
        if now - stage.told_at >= _LINE_EVERY_S:
            stage.told_at = now
            self.say(f"{name}: {summary(stage.done_s, stage.total_s, now - stage.started)}")

    def finish(self, name: str) -> None:
        """Ends a stage."""
        stage = self._stages.pop(name, None)
        if stage is not None:
            took = time.monotonic() - stage.started
            self.say(f"{name}: done, {summary(stage.done_s, None, took)} in {took:.1f} s")

    def say(self, text: str) -> None:
        """Writes a line."""
        if not self._quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """Writes a line, also where the rest is quiet."""
        self._write(f"warning: {text}")

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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


def reporter(*, quiet: bool) -> LineReporter | BarReporter:
    """The reporter for where standard error goes."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return LineReporter(console, quiet=quiet)
    return BarReporter(console)
