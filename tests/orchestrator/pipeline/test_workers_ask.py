"""Spans handed out to workers that ask."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from voxroute_orchestrator.client.connection import CallPolicy, Endpoint
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.errors import OutputError, ServiceUnavailableError
from voxroute_orchestrator.pipeline import workers
from voxroute_orchestrator.pipeline.workers import NO_WORKER, HandingOut, LeftError
from voxroute_orchestrator.transcript import Note


@dataclass
class Speech:
    """As much of a service as is looked at."""

    endpoint: Endpoint = field(default_factory=lambda: Endpoint("worker", "w"))
    policy: CallPolicy = field(default_factory=CallPolicy)


@dataclass
class Asks:
    """A worker that asks."""

    service: Any = field(default_factory=Speech)
    refused: bool = False

    def refuse(self) -> None:
        """As Asking."""
        self.refused = True


@dataclass
class Ready:
    """Workers that ask again and again, each for one span."""

    count: int = 100
    offers: list[int] = field(default_factory=list[int])
    asked: list[Asks] = field(default_factory=list[Asks])
    model: str = ""

    async def offer(self, n_pieces: int) -> None:
        """As Crew."""
        self.offers.append(n_pieces)

    async def next(self) -> Asks:
        """As Crew."""
        if len(self.asked) >= self.count:
            await asyncio.Event().wait()
        await asyncio.sleep(0.01)
        self.asked.append(Asks())
        return self.asked[-1]

    def close(self) -> None:
        """As Crew."""


@dataclass
class Part:
    """A minute."""

    index: int = 0
    done: float = 60.0

    @property
    def cannot(self) -> str:
        """As Part."""
        return f"it cannot be done from {self.done:.0f}"


@dataclass
class Spans:
    """One part that waits until it is done."""

    part: Part = field(default_factory=Part)
    finished: bool = False
    busy: bool = False

    @property
    def n_waiting(self) -> int:
        """As in Work."""
        return 0 if self.busy or self.finished else 1

    def take_now(self) -> Part | None:
        """As in Work."""
        if not self.n_waiting:
            return None
        self.busy = True
        return self.part

    async def change(self, timeout_s: float) -> None:
        """As in Work."""
        await asyncio.sleep(min(0.01, timeout_s))


def _failed(text: str) -> CallFailedError:
    return CallFailedError(ServiceUnavailableError(text), retryable=True)


async def _run(
    outcomes: Sequence[Exception | float | None], spans: Spans, ready: Ready
) -> list[Note]:
    """Each call ends as told; a number is up to where it has come before it fails."""
    notes: list[Note] = []
    following = iter(outcomes)

    async def do(_service: Any, part: Part) -> None:
        outcome = next(following)
        await asyncio.sleep(0)
        spans.busy = False
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            part.done = outcome
            raise _failed("came that far")
        spans.finished = True

    async def tell(note: Note) -> None:
        notes.append(note)

    handing = HandingOut(ready, spans, do, tell, "nobody comes", alone=lambda: True)
    await asyncio.wait_for(handing.run(), 10)
    return notes


async def test_three_tries_without_a_new_window_are_the_last() -> None:
    """The sentence says where, and why."""
    with pytest.raises(
        ServiceUnavailableError, match=r"it cannot be done from 90: 3 times .* because it broke"
    ):
        await _run([_failed("a"), 90.0, _failed("b"), _failed("it broke")], Spans(), Ready())


async def test_a_new_window_or_a_worker_that_leaves_is_no_failure_of_the_span() -> None:
    """However often."""
    left = [LeftError("w")] * 5
    outcomes = [_failed("a"), *left, _failed("b"), 70.0, _failed("c"), 80.0, _failed("d"), None]
    spans = Spans()
    await _run(outcomes, spans, Ready())
    assert spans.finished


async def test_a_journal_that_fails_ends_the_work_at_once() -> None:
    """No other worker can do any better."""
    with pytest.raises(OutputError, match="full"):
        await _run([OutputError("full")], Spans(), Ready())


async def test_that_no_worker_comes_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody else does the work; the job goes on when one comes."""
    monkeypatch.setattr(workers, "_NO_WORKER_S", 0.1)
    spans, ready = Spans(), Ready(0)
    running = asyncio.ensure_future(_run([None], spans, ready))
    await asyncio.sleep(0.5)
    assert len(ready.offers) > 5
    spans.finished = True
    assert [note.code for note in await running] == [NO_WORKER]


async def test_who_asks_while_nothing_waits_is_refused() -> None:
    """And may ask another job."""
    spans, ready = Spans(busy=True), Ready(3)
    running = asyncio.ensure_future(_run([None], spans, ready))
    await asyncio.sleep(0.2)
    assert [one.refused for one in ready.asked] == [True] * 3
    spans.finished = True
    await running
