# pyright: basic
"""The MLX service against mlx_whisper.transcribe: same weights, same numeric type, same audio.

First the bundled model: eight windows of speech, each padded to 30 s. The library gets them as one
recording of four minutes, with its clips at the same places and without text from one window to the
next; the service's model gets them as one batch. Each is warmed up on the first window, and they
take turns: three, or as many as begin within the first two minutes.

Then, where `make real-models` has been run, Whisper base and each recording in English, as a person
would have it: the library with its own settings, its temperature fallback among them, and a call of
the service with none. They take turns, each in a process of its own.
"""

import math
import os
import statistics
import tempfile
from operator import truediv
from pathlib import Path

import numpy as np

from benchmarks import product
from benchmarks.judging import printed, reference, row, start_errors
from benchmarks.peers import decoded_by
from benchmarks.recordings import HOW_TO_GET, WHISPER_BASE, speech_sets, word_error_rate
from benchmarks.speech import MODEL, N_WINDOWS, by_turns, speech_windows
from benchmarks.table import table
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.asr.engine import DecodingOptions
from voxroute_serving.audio.samples import Samples

MAX_TURNS = 3
MAX_TURNS_S = 120.0  # after which no turn begins
PROMISED_RATIO = 2.0
MEDIAN_START_S = 0.15  # from the onset of the voice
LATEST_START_S = 0.4  # 95 % of segments

CHECKPOINT = WHISPER_BASE.with_name(f"{WHISPER_BASE.name}-hf")


def main() -> bool:
    """Prints the tables; whether what they promise holds."""
    kept = _bundled()
    if not CHECKPOINT.is_dir():
        print(f"\nno real weights: {HOW_TO_GET}")
        return kept
    return _real() and kept


def _real() -> bool:
    """Whether the service is as fast and as good as promised on real weights and real speech."""
    references = [reference(speech) for speech in speech_sets("en")]
    rows: list[list[str]] = []
    taken: dict[str, list[tuple[float, float]]] = {"library": [], "service": []}
    texts: dict[str, list[str]] = {"library": [], "service": []}
    errors: list[float] = []
    with tempfile.TemporaryDirectory(prefix="vx") as temporary:
        folder = Path(temporary)
        with product.service("mlx", CHECKPOINT, "cpu", folder) as running:
            product.called(running, references[0].speech)  # warms up
            for one in references:
                library = decoded_by("mlx_whisper", CHECKPOINT, "cpu", one.speech)
                service = product.called(running, one.speech)
                rows += [row("mlx_whisper", library, one), row("voxroute", service, one)]
                errors += start_errors(service.segments, one.voice)
                for name, outcome in (("library", library), ("service", service)):
                    taken[name].append((outcome.reading.wall_s, outcome.reading.cpu_s))
                    texts[name].append(" ".join(text.strip() for _, _, text in outcome.segments))
    said = [one.speech.text for one in references]
    rates = {name: word_error_rate(said, written) for name, written in texts.items()}
    sums = {name: np.sum(pairs, axis=0) for name, pairs in taken.items()}
    ratio, cpu_ratio = sums["library"] / sums["service"]
    errors.sort()
    median_s, latest_s = statistics.median(errors), errors[math.ceil(0.95 * len(errors)) - 1]
    print(f"\n{CHECKPOINT.name}, float32, one call after the other\n")
    print(printed(rows))
    print(
        f"\nmlx_whisper takes {ratio:.1f} times as long, and {cpu_ratio:.1f} times the processor"
        f" seconds ({PROMISED_RATIO:.0f} promised);\n"
        f"word error rate {100 * rates['service']:.1f} % ({100 * rates['library']:.1f} %"
        f" mlx_whisper's); segments begin {1000 * median_s:.0f} ms from the voice,\n"
        f"95 % within {1000 * latest_s:.0f} ms ({1000 * MEDIAN_START_S:.0f} and"
        f" {1000 * LATEST_START_S:.0f} promised)"
    )
    return (
        min(ratio, cpu_ratio) >= PROMISED_RATIO
        and rates["service"] <= rates["library"]
        and median_s <= MEDIAN_START_S
        and latest_s <= LATEST_START_S
    )


def _bundled() -> bool:
    """Whether the texts of the bundled model are equal and the ratio is what is promised."""
    import mlx_whisper  # noqa: PLC0415 - seconds

    from voxroute_asr_mlx.convert import convert  # noqa: PLC0415 - seconds

    windows = speech_windows()
    recording = np.concatenate(windows)
    clips = [float(30 * i) for i in range(N_WINDOWS + 1)]
    options = DecodingOptions("hi", temperatures=(0.0,))
    with tempfile.TemporaryDirectory() as directory:
        convert(MODEL, Path(directory))
        settings = {"model": directory, "offline": True, "device": "cpu"}
        engine = MlxWhisperEngine(MlxSettings.model_validate(settings))
        model = engine.load(engine.resolve(""), lambda _: None)

        def library(audio: Samples, clip_timestamps: list[float]) -> str:
            return mlx_whisper.transcribe(
                audio,
                path_or_hf_repo=directory,
                language="hi",
                temperature=0.0,
                condition_on_previous_text=False,
                clip_timestamps=clip_timestamps,
                fp16=False,
            )["text"]  # type: ignore[return-value] - always a text

        def service(batch: list[Samples]) -> str:
            results = model.transcribe(batch, options, lambda: False)
            return " ".join(segment.text for result in results for segment in result.segments)

        library(windows[0], [0.0, 30.0])
        service(windows[:1])
        theirs, ours = by_turns(
            lambda: library(recording, clips),
            lambda: service(windows),
            n_turns=MAX_TURNS,
            begins_within_s=MAX_TURNS_S,
        )
    same = len(theirs.texts | ours.texts) == 1
    ratio = statistics.median(map(truediv, theirs.times_s, ours.times_s))
    seconds = N_WINDOWS * 30
    turns = len(ours.times_s)
    print(f"{N_WINDOWS} windows, {MODEL.name}, {os.cpu_count()} processors, {turns} turns\n")
    rows = [
        (name, f"{best:.2f}", f"{seconds / best:.1f}x", f"{share:.2f}")
        for name, best, share in (
            ("mlx_whisper.transcribe", min(theirs.times_s), 1.0),
            (f"voxroute, one batch of {N_WINDOWS}", min(ours.times_s), ratio),
        )
    ]
    print(table(("", "best, s", "real time", "median ratio"), rows))
    print(f"\nsame text: {'yes' if same else 'NO'}; ratio of at least {PROMISED_RATIO} promised")
    if not same:
        print(f"library: {theirs.texts}\nservice: {ours.texts}")
    return same and ratio >= PROMISED_RATIO
