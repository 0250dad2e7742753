# pyright: basic
"""The WhisperX service's model against whisperx's own pipeline: same weights, same windows.

Eight windows of speech, with a voice activity detector that calls each of them speech, so that
both decode the same audio. Both decode without timestamps, at temperature zero alone; each is
warmed up on the first window, and they take turns. The service does more in its time: it finds the
time of each word in the decoder's attention, and makes segments of the words.
"""

import statistics
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.speech import MODEL, N_WINDOWS, speech_windows, timed
from benchmarks.table import table
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.engine import DecodingOptions
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.device.host import usable_processors

N_TURNS = 3
BATCH = 4  # windows; the service's default on a CPU
LONGEST_RATIO = 1.5  # of the library's time; more would be waste


def main() -> bool:
    """Prints the table; whether the service takes no more than LONGEST_RATIO of the time."""
    import numpy as np  # noqa: PLC0415 - with what follows, seconds

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyannote.audio's, about codecs that are not used
        import whisperx  # noqa: PLC0415
        from whisperx.vads import Vad  # noqa: PLC0415

    from voxroute_asr_whisperx.convert import convert  # noqa: PLC0415

    windows = speech_windows()
    recording = np.concatenate(windows)
    length_s = len(windows[0]) / SAMPLE_RATE

    class Given(Vad):
        """Finds the windows that it is given."""

        preprocess_audio = staticmethod(lambda audio: audio)

        def __call__(self, request: dict[str, Any]) -> list[SimpleNamespace]:
            n_windows = round(len(request["waveform"]) / SAMPLE_RATE / length_s)
            return [
                SimpleNamespace(start=i * length_s, end=(i + 1) * length_s, speaker=None)
                for i in range(n_windows)
            ]

        @staticmethod
        def merge_chunks(segments: list[SimpleNamespace], *_: Any, **__: Any) -> list[Any]:
            return [
                {"start": one.start, "end": one.end, "segments": [(one.start, one.end)]}
                for one in segments
            ]

    with tempfile.TemporaryDirectory() as directory:
        converted = Path(directory) / "model"
        converted.mkdir()
        convert(MODEL, converted)
        settings = {"model": str(converted), "offline": True, "device": "cpu", "max_batch": BATCH}
        engine = WhisperXEngine(WhisperXSettings.model_validate(settings))
        model = engine.load(engine.resolve(""), lambda _: None)
        options = DecodingOptions("hi", temperatures=(0.0,))
        pipeline = whisperx.load_model(
            str(converted),
            "cpu",
            compute_type="int8",
            language="hi",
            vad_model=Given(0.5),
            threads=usable_processors(),
        )

        def library(audio: Samples) -> str:
            results = pipeline.transcribe(audio, batch_size=BATCH)["segments"]
            return " ".join(segment["text"] for segment in results)

        def service(batch: list[Samples]) -> str:
            results = model.transcribe(batch, options, lambda: False)
            return " ".join(segment.text for result in results for segment in result.segments)

        library(windows[0])
        service(windows[:1])
        turns: list[tuple[float, float]] = []
        for _ in range(N_TURNS):
            theirs_s, _ = timed(lambda: library(recording))
            ours_s, _ = timed(lambda: service(windows))
            turns.append((theirs_s, ours_s))
    ratio = statistics.median(ours / theirs for theirs, ours in turns)
    seconds = N_WINDOWS * length_s
    print(f"{N_WINDOWS} windows, {MODEL.name}, batches of {BATCH}, {N_TURNS} turns\n")
    rows = [
        (name, f"{best:.2f}", f"{seconds / best:.1f}x", f"{share:.2f}")
        for name, best, share in (
            ("whisperx", min(theirs for theirs, _ in turns), 1.0),
            ("voxroute", min(ours for _, ours in turns), ratio),
        )
    ]
    print(table(("", "best, s", "real time", "median share of the time"), rows))
    return ratio <= LONGEST_RATIO
