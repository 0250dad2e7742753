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
from operator import truediv
from pathlib import Path

from benchmarks.peers import whisperx_pipeline
from benchmarks.speech import MODEL, N_WINDOWS, by_turns, speech_windows
from benchmarks.table import table
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.engine import DecodingOptions
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

N_TURNS = 3
BATCH = 4  # windows; the service's default on a CPU
LONGEST_RATIO = 1.5  # of the library's time; more would be waste


def main() -> bool:
    """Prints the table; whether the service takes no more than LONGEST_RATIO of the time."""
    import numpy as np  # noqa: PLC0415 - with what follows, seconds

    from voxroute_asr_whisperx.convert import convert  # noqa: PLC0415

    windows = speech_windows()
    recording = np.concatenate(windows)
    length_s = len(windows[0]) / SAMPLE_RATE

    def whole(n_samples: int) -> list[tuple[float, float]]:
        n_windows = round(n_samples / SAMPLE_RATE / length_s)
        return [(i * length_s, (i + 1) * length_s) for i in range(n_windows)]

    with tempfile.TemporaryDirectory() as directory:
        convert(MODEL, Path(directory))
        settings = {"model": directory, "offline": True, "device": "cpu", "max_batch": BATCH}
        engine = WhisperXEngine(WhisperXSettings.model_validate(settings))
        model = engine.load(engine.resolve(""), lambda _: None)
        options = DecodingOptions("hi", temperatures=(0.0,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyannote.audio's, about codecs that are not used
            pipeline = whisperx_pipeline(directory, "cpu", "hi", whole)

        def library(audio: Samples) -> str:
            results = pipeline.transcribe(audio, batch_size=BATCH)["segments"]
            return " ".join(segment["text"] for segment in results)

        def service(batch: list[Samples]) -> str:
            results = model.transcribe(batch, options, lambda: False)
            return " ".join(segment.text for result in results for segment in result.segments)

        library(windows[0])
        service(windows[:1])
        theirs, ours = by_turns(
            lambda: library(recording), lambda: service(windows), n_turns=N_TURNS
        )
    ratio = statistics.median(map(truediv, ours.times_s, theirs.times_s))
    seconds = N_WINDOWS * length_s
    print(f"{N_WINDOWS} windows, {MODEL.name}, batches of {BATCH}, {N_TURNS} turns\n")
    rows = [
        (name, f"{best:.2f}", f"{seconds / best:.1f}x", f"{share:.2f}")
        for name, best, share in (
            ("whisperx", min(theirs.times_s), 1.0),
            ("voxroute", min(ours.times_s), ratio),
        )
    ]
    print(table(("", "best, s", "real time", "median share of the time"), rows))
    return ratio <= LONGEST_RATIO
