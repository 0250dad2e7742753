"""The sound between its coming and its being told: nothing is lost without a word."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from voxroute_orchestrator.errors import MediaError
from voxroute_orchestrator.live import tape as tapes
from voxroute_orchestrator.live.sources import PipeSource
from voxroute_orchestrator.live.tape import BYTES_PER_S, Tape


class _Source:
    """Seconds of sound, each of its own byte."""

    title = "test"

    def __init__(self, seconds: int, *, waits: bool, failure: Exception | None = None) -> None:
        self.start_s = 100.0
        self.waits = waits
        self.given = 0
        self._seconds = seconds
        self._failure = failure

    async def open(self) -> None:
        """Nothing to do."""

    async def pieces(self) -> AsyncGenerator[bytes]:
        for second in range(self._seconds):
            self.given += 1
            yield bytes([second % 256]) * BYTES_PER_S
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Nothing to do."""


def _tape(source: _Source) -> tuple[Tape, list[tuple[float, float]]]:
    missed: list[tuple[float, float]] = []
    return Tape(source, lambda from_s, length_s: missed.append((from_s, length_s))), missed


async def _rest(tape: Tape) -> bytes:
    sound = b""
    while piece := await tape.read():
        sound += piece
    return sound


async def test_a_call_that_breaks_is_followed_from_what_is_told() -> None:
    """At the time of its first sample."""
    tape, missed = _tape(_Source(5, waits=False))
    await tape.record()
    assert await tape.begun()
    assert len(await _rest(tape)) == 5 * BYTES_PER_S
    tape.settle(103.0)
    assert tape.go_back() == 103.0
    assert await _rest(tape) == bytes([3]) * BYTES_PER_S + bytes([4]) * BYTES_PER_S
    assert not missed


async def test_a_source_that_waits_is_not_read_far_ahead() -> None:
    """A film is not in memory as a whole, and none of it is lost."""
    source = _Source(100, waits=True)
    tape, missed = _tape(source)
    recording = asyncio.ensure_future(tape.record())
    await tape.begun()
    await asyncio.sleep(0.05)
    assert source.given <= tapes.AHEAD_S + 1
    assert len(await _rest(tape)) == 100 * BYTES_PER_S
    await recording
    assert not missed


async def test_what_a_stall_loses_is_told_and_times_stay() -> None:
    """It is silence: what follows has its own place."""
    tape, missed = _tape(_Source(int(tapes.KEPT_S) + 7, waits=False))
    await tape.record()
    sound = await _rest(tape)
    assert missed == [(100.0, 7.0)]
    assert sound[: 7 * BYTES_PER_S].strip(b"\0") == b""
    assert sound[7 * BYTES_PER_S] == 7
    assert len(sound) == (tapes.KEPT_S + 7) * BYTES_PER_S


async def test_what_another_call_cannot_be_sent_is_told() -> None:
    """It begins later then."""
    source = _Source(int(tapes.KEPT_S) + 7, waits=False)
    tape, missed = _tape(source)
    await tape.record()
    assert tape.go_back() == 107.0
    assert missed == [(100.0, 7.0)]


async def test_what_nobody_will_read_is_told() -> None:
    """As one loss."""
    tape, missed = _tape(_Source(5, waits=False))
    await tape.record()
    await tape.read()
    tape.settle(102.0)
    tape.give_up()
    assert missed == [(pytest.approx(100.2), pytest.approx(4.8))]


@pytest.mark.parametrize("failure", [MediaError("it broke"), RuntimeError("a defect")])
async def test_a_source_that_fails_ends_the_sound(failure: Exception) -> None:
    """What has come is still read; why it ends is kept, whatever it is."""
    tape, _ = _tape(_Source(2, waits=False, failure=failure))
    await tape.record()
    assert len(await _rest(tape)) == 2 * BYTES_PER_S
    assert tape.failure is failure


async def test_standard_input_that_cannot_be_read_is_no_end_of_it(tmp_path: Path) -> None:
    """A broken disk or terminal is told as what it is."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        tape = Tape(PipeSource(descriptor), lambda _from_s, _length_s: None)
        await tape.record()
    finally:
        os.close(descriptor)
    with pytest.raises(MediaError, match="Is a directory"):
        raise tape.failure or AssertionError("nothing has failed")
