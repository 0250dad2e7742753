# pyright: basic
"""Live streams as people make them: samples at the pace of speech, and when each text came back."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import numpy as np

from benchmarks.films import SAMPLE_RATE
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2

CHUNK_SAMPLES = SAMPLE_RATE // 10  # what a microphone gives at once


@dataclass(frozen=True, slots=True)
class Told:
    """A word that came, when it ended in the sound, and how long after that it came; seconds."""

    text: str
    end_s: float
    late_s: float


@dataclass(slots=True)
class Heard:
    """What one stream was told."""

    committed: list[Told] = field(default_factory=list)
    tentative: list[Told] = field(default_factory=list)
    """Each word at its first appearance."""
    n_tentative: int = 0
    n_changed: int = 0
    """Tentative words, and those of them that the next text had not."""
    utterances: list[asr_pb2.Utterance] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    done: asr_pb2.LiveDone | None = None
    error: str = ""

    @property
    def text(self) -> str:
        """All that was committed."""
        return " ".join(word.text for word in self.committed)

    @property
    def final_text(self) -> str:
        """The text of the utterances."""
        return " ".join(segment.text for one in self.utterances for segment in one.segments)


async def feed(
    target: str, samples: np.ndarray, *, pace: float = 1.0, wait_s: float = 0.0, **config: Any
) -> Heard:
    """Sends s16le samples `pace` times as fast as speech; what came back."""
    heard, told = Heard(), _Clock(pace)
    await asyncio.sleep(wait_s)
    audio = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=SAMPLE_RATE))
    async with grpc.aio.insecure_channel(target) as channel:
        call = asr_pb2_grpc.AsrServiceStub(channel).TranscribeLive(
            _requests(samples, told, asr_pb2.LiveConfig(audio=audio, **config))
        )
        try:
            before: list[str] = []
            async for message in call:
                before = _take(message, heard, told, before)
        except grpc.aio.AioRpcError as error:
            heard.error = f"{error.code().name}: {error.details()}"
    return heard


async def feeds(target: str, recordings: Sequence[np.ndarray], **config: Any) -> list[Heard]:
    """So many streams at once, their beginnings spread over a second."""
    n = len(recordings)
    return await asyncio.gather(
        *(feed(target, one, wait_s=i / n, **config) for i, one in enumerate(recordings))
    )


class _Clock:
    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.began = 0.0

    def late_s(self, end_s: float) -> float:
        return (time.monotonic() - self.began) - end_s / self.pace


async def _requests(
    samples: np.ndarray, clock: _Clock, config: asr_pb2.LiveConfig
) -> AsyncIterator[asr_pb2.TranscribeLiveRequest]:
    yield asr_pb2.TranscribeLiveRequest(config=config)
    clock.began = time.monotonic()
    for begin in range(0, len(samples), CHUNK_SAMPLES):
        chunk = samples[begin : begin + CHUNK_SAMPLES]
        due = clock.began + (begin + len(chunk)) / SAMPLE_RATE / clock.pace
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield asr_pb2.TranscribeLiveRequest(audio=chunk.tobytes())
    yield asr_pb2.TranscribeLiveRequest(finish=common_pb2.Finish())


def _take(
    message: asr_pb2.TranscribeLiveResponse, heard: Heard, clock: _Clock, before: list[str]
) -> list[str]:
    """Notes a message; the tentative words that are shown now."""
    kind = message.WhichOneof("event")
    if kind == "committed":
        words = message.committed.words
        heard.committed += (_told(word, clock) for word in words)
        _compare(before[: len(words)], [word.text for word in words], heard)
        return before[len(words) :]
    if kind == "tentative":
        now = [word.text for word in message.tentative.words]
        _compare(before, now, heard)
        heard.tentative += (_told(word, clock) for word in message.tentative.words[len(before) :])
        return now
    if kind == "utterance":
        heard.utterances.append(message.utterance)
        return []
    if kind == "progress" and message.progress.stage == asr_pb2.STAGE_TRANSCRIBING:
        heard.intervals.append(message.progress.update_interval.ToMilliseconds() / 1000)
    if kind == "done":
        heard.done = message.done
    return before


def _compare(before: Sequence[str], now: Sequence[str], heard: Heard) -> None:
    heard.n_tentative += len(before)
    heard.n_changed += len(before) - sum(map(str.__eq__, before, now))


def _told(word: asr_pb2.Word, clock: _Clock) -> Told:
    end_s = word.end.ToMilliseconds() / 1000
    return Told(word.text, end_s, clock.late_s(end_s))


if __name__ == "__main__":  # somebody who is to be killed
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 30, 600 * SAMPLE_RATE).astype("<i2")
    asyncio.run(feed(sys.argv[1], noise))
