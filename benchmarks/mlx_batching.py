# pyright: basic
"""Batched decoding of the MLX service against mlx_whisper.transcribe: same model, same audio.

Eight windows of speech, each padded to 30 s. The library gets them as one recording of four
minutes, with its clips at the same places and without text from one window to the next; the
service's model gets them as one batch. Both decode greedily in float32, each is warmed up on the
first window, and they take turns: three, or as many as begin within the first two minutes, for
MLX has no fast matrix products on a processor.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.speech import MODEL, N_WINDOWS, speech_windows, timed
from benchmarks.table import table
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.engine import DecodingOptions, Samples

MAX_TURNS = 3
MAX_TURNS_S = 120.0  # after which no turn begins
PROMISED_RATIO = 1.5


def main() -> bool:
    """Prints the table; whether the texts are equal and the ratio is what is promised."""
    import mlx_whisper  # noqa: PLC0415 - seconds

    from voxroute_asr_mlx.convert import convert  # noqa: PLC0415 - seconds

    windows = speech_windows()
    recording = np.concatenate(windows)
    clips = [float(30 * i) for i in range(N_WINDOWS + 1)]
    options = DecodingOptions("hi", temperatures=(0.0,))
    with tempfile.TemporaryDirectory() as directory:
        converted = Path(directory) / "model"
        converted.mkdir()
        convert(MODEL, converted)
        settings = {"model": str(converted), "offline": True, "device": "cpu"}
        engine = MlxWhisperEngine(MlxSettings.model_validate(settings))
        model = engine.load(engine.resolve(""), lambda _: None)

        def library(audio: Samples, clip_timestamps: list[float]) -> str:
            return mlx_whisper.transcribe(
                audio,
                path_or_hf_repo=str(converted),
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
        times: dict[str, list[float]] = {"library": [], "service": []}
        texts: dict[str, set[str]] = {"library": set(), "service": set()}
        began = time.perf_counter()
        while len(times["service"]) < MAX_TURNS and time.perf_counter() - began < MAX_TURNS_S:
            for name, run in (
                ("library", lambda: library(recording, clips)),
                ("service", lambda: service(windows)),
            ):
                took_s, text = timed(run)
                times[name].append(took_s)
                texts[name].add(" ".join(text.split()))
    same = len(texts["library"] | texts["service"]) == 1
    best = {name: min(all_s) for name, all_s in times.items()}
    ratio = statistics.median(
        theirs / ours for theirs, ours in zip(times["library"], times["service"], strict=True)
    )
    seconds = N_WINDOWS * 30
    turns = len(times["service"])
    print(f"{N_WINDOWS} windows, {MODEL.name}, {os.cpu_count()} processors, {turns} turns\n")
    rows = [
        (label, f"{best[name]:.2f}", f"{seconds / best[name]:.1f}x", f"{share:.2f}")
        for label, name, share in (
            ("mlx_whisper.transcribe", "library", 1.0),
            (f"voxroute, one batch of {N_WINDOWS}", "service", ratio),
        )
    ]
    print(table(("", "best, s", "real time", "median ratio"), rows))
    print(f"\nsame text: {'yes' if same else 'NO'}; ratio of at least {PROMISED_RATIO} promised")
    if not same:
        for name, written in texts.items():
            print(f"{name}: {written}")
    return same and ratio >= PROMISED_RATIO
