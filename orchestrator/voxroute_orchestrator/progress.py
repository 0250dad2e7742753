"""How far a job is: bars on a terminal, lines elsewhere, nothing with --quiet."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO, runtime_checkable

if TYPE_CHECKING:
    from voxroute_orchestrator.bars import BarReporter

_LINE_EVERY_S = 10.0
_CONTROLS = dict.fromkeys(map(ord, "\a\b\v\f\r"))  # names of files may have any


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

    def __init__(self, file: TextIO, *, quiet: bool = False) -> None:
        self._file = file
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
        stage = self._stages.get(name)
        if stage is None:  # it has ended, and a late answer comes
            return
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
        self._file.write(f"{text.translate(_CONTROLS)}\n")
        self._file.flush()


def reporter(*, quiet: bool) -> "LineReporter | BarReporter":
    """The reporter for where standard error goes."""
    asked_for = {"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys()  # rich's own variables
    if not quiet and (asked_for or sys.stderr.isatty()):
        from voxroute_orchestrator import bars  # noqa: PLC0415 - rich takes a tenth of a second

        console = bars.Console(stderr=True)
        if console.is_terminal:
            return bars.BarReporter(console)
    return LineReporter(sys.stderr, quiet=quiet)
