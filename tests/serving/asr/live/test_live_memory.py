"""What a live stream of any length takes: no more than a short one."""

import resource
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.asr.live.streams import (
    FINISH,
    Request,
    committed_words,
    config,
    of,
    said,
    seconds,
    serving,
)
from voxroute_serving.asr.live.hearing import Tape
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

MEBIBYTE = 1 << 20


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no file
        return int(file.read().split()[1]) * resource.getpagesize()


class Watched:
    """The longest tape of any stream, seconds, and the memory as a stream goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest_s = 0.0
        self.memory: list[int] = []
        append = Tape.append

        def watched(tape: Tape, samples: Samples) -> None:
            append(tape, samples)
            held = sum(len(block) for block in tape._samples._blocks)
            self.longest_s = max(self.longest_s, held / SAMPLE_RATE)

        monkeypatch.setattr(Tape, "append", watched)


async def _stream(minutes: int, watched: Watched, conf: Any) -> tuple[list[Any], list[str]]:
    """The answers to so many minutes of speech with pauses of all kinds, and what was said."""
    texts: list[str] = []

    def sent() -> Iterator[Request]:
        yield Request(config=conf)
        number = 1
        for minute in range(minutes):
            one = said(20.0, -0.4, 11.0, -1.0, 24.0, -0.8, 1.2, -1.6, first=number, seed=minute % 5)
            texts.extend(one.texts)
            number = one.words[-1].number + 1
            for at in range(0, len(one.data), 32_000):
                yield Request(audio=one.data[at : at + 32_000])
            watched.memory.append(resident())
        yield FINISH

    async with serving() as service:
        replies = await service.live(sent(), timeout_s=600)
    return replies, texts


def check(replies: list[Any], texts: list[str]) -> None:
    """Every word once, in order, and in its time."""
    words = committed_words(replies)
    assert [word.text for word in words] == texts
    times = [seconds(word.end) for word in words]
    assert times == sorted(times)
    numbers = [one.utterance for one in of(replies, "utterance")]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_the_sound_of_a_stream_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three minutes as fast as may be: no more than what may wait for the device is held."""
    watched = Watched(monkeypatch)
    replies, texts = await _stream(3, watched, config())
    check(replies, texts)
    assert watched.longest_s < 46.0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.slow
@pytest.mark.parametrize("refine", [False, True])
async def test_half_an_hour_takes_no_more_than_its_first_minutes(
    monkeypatch: pytest.MonkeyPatch, *, refine: bool
) -> None:
    """As fast as the device is: the tape, the memory of the process, its threads."""
    watched = Watched(monkeypatch)
    replies, texts = await _stream(30, watched, config(refine=refine))
    check(replies, texts)
    assert watched.longest_s < 46.0
    early, late = max(watched.memory[:5]), max(watched.memory[-5:])
    # half an hour of samples is 115 MB; the answers and a list of words are what a test keeps
    assert late - early < 40 * MEBIBYTE
    assert threading.active_count() < 60
