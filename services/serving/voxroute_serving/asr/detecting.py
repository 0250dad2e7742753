"""The method DetectLanguage: the languages of a recording, over windows spread over it."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from voxroute.asr.v1 import asr_pb2
from voxroute_serving import messages as common_messages
from voxroute_serving.asr import messages
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.queues import WINDOWS_WAITING, DeviceQueues
from voxroute_serving.audio import decoders as audio
from voxroute_serving.audio.windows import Window, WindowStream
from voxroute_serving.calls.feed import Feed, Threaded
from voxroute_serving.calls.requests import Requests, open_group
from voxroute_serving.errors import NoSpeechError

T = TypeVar("T")


def mean(probabilities: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean probability of each language over windows."""
    languages = dict.fromkeys(language for window in probabilities for language in window)
    return {
        language: sum(window.get(language, 0.0) for window in probabilities) / len(probabilities)
        for language in languages
    }


class Spread(Generic[T]):
    """At most `capacity` of the items that go by, evenly spread, whatever their number.

    Every stride-th item is kept; where there are too many, every other one of them is dropped and
    the stride doubles.
    """

    def __init__(self, capacity: int) -> None:
        self.items: list[T] = []
        self._capacity = capacity
        self._stride = 1
        self._seen = 0

    def add(self, item: T) -> None:
        """Takes the next item that goes by."""
        if self._seen % self._stride == 0:
            if len(self.items) == self._capacity:
                self.items = self.items[::2]
                self._stride *= 2
            if self._seen % self._stride == 0 and len(self.items) < self._capacity:
                self.items.append(item)
        self._seen += 1


class LanguageDetection:
    """What DetectLanguage does once a call is admitted."""

    def __init__(self, queues: DeviceQueues, metrics: AsrMetrics, max_audio_s: float) -> None:
        self._queues = queues
        self._metrics = metrics
        self._max_audio_s = max_audio_s

    async def detect(
        self,
        requests: Requests[asr_pb2.DetectLanguageConfig],
        options: messages.DetectionOptions,
        model: FallbackModel,
    ) -> asr_pb2.DetectLanguageResponse:
        """The languages of an admitted call. Raises NoSpeechError where nobody speaks."""
        feed = Feed()
        decoder = audio.decoder(options.audio, feed, self._max_audio_s)
        sound = self._metrics.heard(decoder, "DetectLanguage")
        stream = WindowStream(sound, options.vad, lambda: decoder.start_s)
        kept = Spread[Window](options.max_windows)
        async with (
            Threaded(lambda: iter(stream), WINDOWS_WAITING, feed) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed))
            async for window in source:
                kept.add(window)
        if not kept.items:
            raise NoSpeechError(
                "the recording holds no speech to tell a language from; send a part with speech,"
                " lower vad.threshold, or set vad.disabled"
            )
        async with open_group() as group:
            listening = [
                group.create_task(self._queues.listen(model, window.samples))
                for window in kept.items
            ]
        heard = [task.result() for task in listening]
        return asr_pb2.DetectLanguageResponse(
            languages=messages.languages_message(mean(heard), options.top),
            windows=len(heard),
            model=common_messages.model_ref(model.ref),
        )
