"""How far a job is: bars on a terminal, lines elsewhere, nothing with --quiet."""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

from voxroute_orchestrator.reporter import clock

if TYPE_CHECKING:
    from voxroute_orchestrator.cli.terminal.bars import BarReporter

_LINE_EVERY_S = 10.0
_CONTROLS = dict.fromkeys(map(ord, "\a\b\v\f\r"))  # names of files may have any


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

    def __exit__(self, *_: object) -> None:
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
        from voxroute_orchestrator.cli.terminal import bars  # noqa: PLC0415 - rich takes a tenth of a second

        console = bars.Console(stderr=True)
        if console.is_terminal:
            return bars.BarReporter(console)
    return LineReporter(sys.stderr, quiet=quiet)
