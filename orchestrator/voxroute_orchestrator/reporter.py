"""Where a job tells what it does."""

import contextlib
from collections.abc import Callable, Generator
from typing import Protocol, runtime_checkable


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
