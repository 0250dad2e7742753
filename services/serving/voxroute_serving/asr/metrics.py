"""What a speech service measures besides its calls and batches: audio, segments, speed."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from voxroute.asr.v1 import asr_pb2
from voxroute_serving.asr.engine import WindowResult
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.windows import Window
from voxroute_serving.device.batcher import Timed

Method = Literal["Transcribe", "DetectLanguage", "Align", "TranscribeLive"]
METHODS: tuple[Method, ...] = ("Transcribe", "DetectLanguage", "Align", "TranscribeLive")

# seconds of the device for each second of audio; 1 is the speed of speech
RTF_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 5, 10)
# seconds from the end of a word in the sound to its committed text
COMMIT_BUCKETS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 10, 20, 30)
_PREFIX = "SEGMENT_FLAG_"


class AsrMetrics:
    """The metrics that only a speech service has. Every method may be called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.audio_seconds = counter(
            "voxroute_asr_audio_seconds",
            "Length of the audio that calls have sent and the service has decoded.",
            ("grpc_method",),
        )
        self.speech_seconds = counter(
            "voxroute_asr_speech_seconds",
            "Length of the speech in the windows that have been transcribed.",
        )
        self.queue_seconds = counter(
            "voxroute_asr_queue_seconds",
            "Time that transcribed windows have waited for the device.",
        )
        self.inference_seconds = counter(
            "voxroute_asr_inference_seconds",
            "Time that the device has spent on transcribed windows.",
        )
        self.windows = counter("voxroute_asr_windows", "Windows that have been transcribed.")
        self.segments = counter("voxroute_asr_segments", "Segments sent, flagged or not.")
        self.flagged_segments = counter(
            "voxroute_asr_flagged_segments",
            "Segments sent with a doubt, by flag; one with two flags counts for each.",
            ("flag",),
        )
        self.redecodes = counter(
            "voxroute_redecodes",
            "Windows decoded again because their text was in doubt, by the decoding that was kept:"
            " first, later.",
            ("kept",),
        )
        self.redecode_seconds = counter(
            "voxroute_asr_redecode_seconds",
            "Time of the device that went into decoding windows again; a part of the inference"
            " seconds.",
        )
        self.untranscribed_seconds = counter(
            "voxroute_asr_untranscribed_seconds",
            "Length of the stretches in which a voice sounds and no segment stands.",
        )
        self.real_time_factor = histogram(
            "voxroute_asr_real_time_factor",
            "Device seconds for each second of audio, of finished transcriptions.",
            buckets=RTF_BUCKETS,
        )
        self.live_streams = gauge("voxroute_asr_live_streams", "Live streams that are open.")
        self.live_interval = gauge(
            "voxroute_asr_live_update_interval_seconds",
            "How often the text of a live stream could be renewed at the last update of any.",
        )
        self.live_updates = counter(
            "voxroute_asr_live_updates", "Updates of the text of live streams."
        )
        self.live_commit_latency = histogram(
            "voxroute_asr_live_commit_latency_seconds",
            "Time from the arrival of the end of a word to its committed text.",
            buckets=COMMIT_BUCKETS,
        )
        self.live_tentative_words = counter(
            "voxroute_asr_live_tentative_words",
            "Words of tentative text, by what the next update made of them: kept, changed.",
            ("outcome",),
        )
        # zero is a value that a rate can begin from
        for method in METHODS:
            self.audio_seconds.labels(method)
        for outcome in ("kept", "changed"):
            self.live_tentative_words.labels(outcome)
        for kept in ("first", "later"):
            self.redecodes.labels(kept)
        for number in asr_pb2.SegmentFlag.values():
            if number:
                self.flagged_segments.labels(_flag(number))

    def heard(self, blocks: Iterable[Samples], method: Method) -> Iterator[Samples]:
        """The same blocks of samples, counted as they go by."""
        seconds = self.audio_seconds.labels(method)
        for block in blocks:
            seconds.inc(len(block) / SAMPLE_RATE)
            yield block

    def observe_window(self, window: Window, timed: Timed[WindowResult]) -> None:
        """Counts a window that has been transcribed."""
        self.windows.inc()
        self.speech_seconds.inc(window.speech_s)
        self.queue_seconds.inc(timed.queue_s)
        self.inference_seconds.inc(timed.inference_s)

    def observe_redecode(self, kept: Literal["first", "later"], spent_s: float) -> None:
        """Counts a window that was decoded again, and the seconds of the device for it."""
        self.redecodes.labels(kept).inc()
        self.redecode_seconds.inc(spent_s)

    def observe_segment(self, segment: asr_pb2.Segment) -> None:
        """Counts a segment that is sent, and its flags."""
        self.segments.inc()
        for flag in segment.flags:
            self.flagged_segments.labels(_flag(flag)).inc()

    def observe_transcription(self, stats: asr_pb2.TranscribeStats) -> None:
        """Counts the speed of a transcription that has finished."""
        if stats.audio_duration.ToNanoseconds():
            self.real_time_factor.observe(stats.real_time_factor)


def _flag(flag: asr_pb2.SegmentFlag.ValueType) -> str:
    """The flag as the label has it: "repetition". A servicer sends none that the contract lacks."""
    return asr_pb2.SegmentFlag.Name(flag).removeprefix(_PREFIX).lower()
