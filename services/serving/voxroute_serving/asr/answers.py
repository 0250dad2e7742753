"""What a call is told beside its segments: how far it is, what it cost, warnings."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_serving import messages as common_messages
from voxroute_serving.asr.engine import EngineDescription, WindowResult
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.audio.windows import Window
from voxroute_serving.calls.requests import Send
from voxroute_serving.device.batcher import Timed
from voxroute_serving.domain import DeviceInfo

PROGRESS_S = 1.0  # s between two `progress` messages


@dataclass(slots=True)
class Progress:
    """How far a transcription is: up to the oldest window that is not finished."""

    total_s: float | None
    start_s: Callable[[], float]
    unfinished: deque[Window] = field(default_factory=deque[Window])
    finished_s: float = 0.0

    def finish_window(self, sent_until_s: float) -> asr_pb2.TranscribeResponse:
        """The message after the segments of the oldest window: a later call can go on there.

        The last segment may end a little later than the window.
        """
        window = self.unfinished.popleft()
        self.finished_s = window.end_s - self.start_s()
        message = self.message()
        resume_from_s = max(window.end_s, sent_until_s)
        message.progress.resume_from.CopyFrom(common_messages.duration(resume_from_s))
        return message

    def message(self) -> asr_pb2.TranscribeResponse:
        """How far it is, as a message."""
        if self.unfinished:
            reached_s = self.unfinished[0].start_s - self.start_s()
            self.finished_s = max(self.finished_s, reached_s)
        total_s = None if self.total_s is None else max(self.total_s, self.finished_s)
        return asr_pb2.TranscribeResponse(
            progress=asr_pb2.Progress(
                stage=asr_pb2.STAGE_TRANSCRIBING,
                done=common_messages.duration(self.finished_s),
                total=None if total_s is None else common_messages.duration(total_s),
            )
        )


@dataclass(slots=True)
class Stats:
    """What a transcription has cost so far; seconds."""

    speech_s: float = 0.0
    earlier_speech_s: float = 0.0  # in windows that an earlier call has finished
    queue_s: float = 0.0
    inference_s: float = 0.0
    windows: int = 0
    untranscribed_s: float = 0.0

    def add(self, window: Window, timed: Timed[WindowResult]) -> None:
        """Counts a window that has been transcribed."""
        self.speech_s += window.speech_s
        self.queue_s += timed.queue_s
        self.inference_s += timed.inference_s
        self.windows += 1

    def message(self, audio_s: float) -> asr_pb2.TranscribeStats:
        """The figures of a call whose recording is `audio_s` long."""
        return asr_pb2.TranscribeStats(
            audio_duration=common_messages.duration(audio_s),
            speech_duration=common_messages.duration(self.earlier_speech_s + self.speech_s),
            queue_time=common_messages.duration(self.queue_s),
            inference_time=common_messages.duration(self.inference_s),
            real_time_factor=self.inference_s / audio_s if audio_s else 0.0,
            windows=self.windows,
            untranscribed_duration=common_messages.duration(self.untranscribed_s),
        )


def warned(code: str, message: str) -> asr_pb2.TranscribeResponse:
    """A warning, by its stable code."""
    return asr_pb2.TranscribeResponse(warning=common_pb2.Warning(code=code, message=message))


class Warnings:
    """The warnings of a call as they come up, each once: the engine's, and those of fallbacks.

    A smaller compute type may change the text, so every call is told of it; a smaller batch only
    costs time, so only the calls that were running then.
    """

    def __init__(self, model: FallbackModel) -> None:
        self._fallbacks = model.fallbacks
        self._n_seen = 0
        self._told = {(one.code, one.message) for one in self._fallbacks if one.kind == "batch"}

    def news(self, of_engine: Iterable[tuple[str, str]] = ()) -> Iterator[common_pb2.Warning]:
        """What the call has not been told yet."""
        fresh = self._fallbacks[self._n_seen :]
        self._n_seen += len(fresh)
        for code, message in (*((one.code, one.message) for one in fresh), *of_engine):
            if (code, message) not in self._told:
                self._told.add((code, message))
                yield common_pb2.Warning(code=code, message=message)


async def tick(progress: Progress, send: Send[asr_pb2.TranscribeResponse]) -> None:
    """Sends `progress` whenever it has changed, about once a second."""
    last: asr_pb2.TranscribeResponse | None = None
    while True:
        await asyncio.sleep(PROGRESS_S)
        message = progress.message()
        if message != last:
            await send(message)
            last = message


def device_info(about: EngineDescription, model: FallbackModel | None) -> DeviceInfo:
    """The hardware, and the numeric type of a model on it, after its fallbacks."""
    device = about.device
    return device if model is None else replace(device, compute_type=model.compute_type)
