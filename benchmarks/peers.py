# pyright: basic
"""The libraries that the services stand on, as their own documentation calls them.

    python -m benchmarks.peers PEER MODEL DEVICE LANGUAGE RECORDING [BATCH]

decodes a recording with one of them and prints JSON: what it took and its segments. Each runs in a
process of its own, so that its processor seconds are its own and the GPU is free afterwards. All
decode with a beam of 5 and the same numeric type; loading and a warm-up are not measured.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.meters import Reading, measured
from benchmarks.recordings import SpeechSet
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.device.host import usable_processors

COMPUTE_TYPES = {"cuda": "float16", "cpu": "int8"}
WARM_UP_S = 20
WINDOW_S = 30  # of the limit
BEAM = 5

Segment = tuple[float, float, str]
"""Start and end, seconds, and the text."""
Decode = Callable[[Any], list[Segment]]
"""Decodes samples of 16 kHz, float32."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What decoding a recording took and gave."""

    reading: Reading
    segments: tuple[Segment, ...]
    flags: tuple[tuple[str, ...], ...] = ()
    """Why each segment may be doubted; of the services alone, as is the next."""
    told: tuple[tuple[float, float], ...] = ()
    """Where a voice is said to have no text, seconds."""


def decoded_by(peer: str, model: Path, device: str, speech: SpeechSet, batch: int = 1) -> Outcome:
    """What a peer does with a recording, in a process of its own. Raises RuntimeError."""
    command = [sys.executable, "-m", "benchmarks.peers"]
    done = subprocess.run(
        [*command, peer, str(model), device, speech.language, str(speech.path), str(batch)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{peer} failed:\n{done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Outcome(Reading(**answer["reading"]), tuple(map(tuple, answer["segments"])))


def faster_whisper(model: str, device: str, language: str, _: int, __: Any) -> Decode:
    """Window after window, with the temperature fallback and its voice activity."""
    from faster_whisper import WhisperModel  # noqa: PLC0415 - seconds, likewise below

    whisper = WhisperModel(model, device, compute_type=COMPUTE_TYPES[device])
    return lambda audio: [
        (s.start, s.end, s.text)
        for s in whisper.transcribe(audio, language=language, beam_size=BEAM, vad_filter=True)[0]
    ]


def faster_whisper_batched(model: str, device: str, language: str, batch: int, _: Any) -> Decode:
    """Windows of its voice activity in batches, without fallback."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel  # noqa: PLC0415

    pipeline = BatchedInferencePipeline(
        WhisperModel(model, device, compute_type=COMPUTE_TYPES[device])
    )
    return lambda audio: [
        (s.start, s.end, s.text)
        for s in pipeline.transcribe(
            audio, language=language, beam_size=BEAM, batch_size=batch, vad_filter=True
        )[0]
    ]


def whisperx_pipeline(
    model: str, device: str, language: str, voice: Callable[[int], Iterable[tuple[float, float]]]
) -> Any:
    """Whisperx' own, whose voice activity is given, seconds, for so many samples."""
    import whisperx as library  # noqa: PLC0415
    from whisperx.vads import Vad  # noqa: PLC0415

    class Given(Vad):
        """Finds what is given."""

        preprocess_audio = staticmethod(lambda samples: samples)

        def __call__(self, request: dict[str, Any]) -> list[SimpleNamespace]:
            return [
                SimpleNamespace(start=start_s, end=end_s, speaker="")
                for start_s, end_s in voice(len(request["waveform"]))
            ]

    return library.load_model(
        model,
        device,
        compute_type=COMPUTE_TYPES[device],
        language=language,
        vad_model=Given(0.5),
        threads=usable_processors(),
    )


def whisperx(model: str, device: str, language: str, batch: int, audio: Any) -> Decode:
    """Batches of windows of up to 30 s, without fallback.

    The windows are found before, by Silero: its own detector asks for a hub or for pyannote. So it
    gets its voice activity for nothing.
    """
    from faster_whisper.vad import VadOptions, get_speech_timestamps  # noqa: PLC0415

    options = VadOptions(max_speech_duration_s=30.0, min_silence_duration_ms=160)
    found = {
        len(part): [
            (s["start"] / SAMPLE_RATE, s["end"] / SAMPLE_RATE)
            for s in get_speech_timestamps(part, options)
        ]
        for part in (audio, audio[: WARM_UP_S * SAMPLE_RATE])
    }
    pipeline = whisperx_pipeline(model, device, language, found.__getitem__)
    return lambda samples: [
        (s["start"], s["end"], s["text"])
        for s in pipeline.transcribe(samples, batch_size=batch)["segments"]
    ]


def mlx_whisper(model: str, _: str, language: str, __: int, ___: Any) -> Decode:
    """Window after window, greedily, with the temperature fallback. `model`: a checkpoint."""
    import mlx.core as mx  # noqa: PLC0415
    import mlx_whisper as library  # noqa: PLC0415

    from voxroute_asr_mlx.convert import convert  # noqa: PLC0415

    folder = tempfile.mkdtemp(prefix="vx-mlx-")
    convert(Path(model), Path(folder))
    return lambda audio: [
        (s["start"], s["end"], s["text"])  # type: ignore[index] - dictionaries
        for s in library.transcribe(
            audio,
            path_or_hf_repo=folder,
            language=language,
            fp16=mx.default_device().type == mx.DeviceType.gpu,
        )["segments"]
    ]


def ctranslate2(model: str, device: str, language: str, batch: int, audio: Any) -> Decode:
    """What CTranslate2 alone reaches with two workers: the limit of any program on top of it.

    Windows are cut anywhere and their features made before; no times, no fallback.
    """
    import numpy as np  # noqa: PLC0415
    from faster_whisper import WhisperModel  # noqa: PLC0415
    from faster_whisper.audio import pad_or_trim  # noqa: PLC0415
    from faster_whisper.tokenizer import Tokenizer  # noqa: PLC0415

    workers = 2
    threads = max(1, usable_processors() // workers) if device == "cpu" else 4
    whisper = WhisperModel(
        model,
        device,
        compute_type=COMPUTE_TYPES[device],
        num_workers=workers,
        cpu_threads=threads,
    )
    tokenizer = Tokenizer(whisper.hf_tokenizer, True, task="transcribe", language=language)
    prompt = whisper.get_prompt(tokenizer, [], without_timestamps=True)
    length = WINDOW_S * SAMPLE_RATE
    windows = [
        pad_or_trim(whisper.feature_extractor(audio[at : at + length])[:, :3000])
        for at in range(0, len(audio), length)
    ]
    features = np.stack(windows).astype(np.float32)

    def one(windows: Any) -> list[str]:
        results = whisper.model.generate(
            whisper.encode(windows),
            [prompt] * len(windows),
            beam_size=BEAM,
            suppress_blank=True,
            suppress_tokens=[-1],
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [tokenizer.decode(result.sequences_ids[0]) for result in results]

    def decode(samples: Any) -> list[Segment]:
        count = -(-len(samples) // length)
        batches = [features[at : min(at + batch, count)] for at in range(0, count, batch)]
        with ThreadPoolExecutor(workers) as pool:
            texts = [text for texts in pool.map(one, batches) for text in texts]
        return [(i * WINDOW_S, (i + 1) * WINDOW_S, text) for i, text in enumerate(texts)]

    return decode


PEERS = {
    "faster-whisper": faster_whisper,
    "faster-whisper batched": faster_whisper_batched,
    "whisperx": whisperx,
    "mlx_whisper": mlx_whisper,
    "ctranslate2 alone": ctranslate2,
}


def main(arguments: list[str]) -> int:
    """Decodes and prints; the exit code."""
    warnings.simplefilter("ignore")  # the libraries', about codecs and settings not used here
    from faster_whisper import decode_audio  # noqa: PLC0415

    peer, model, device, language, recording, batch = arguments
    audio = decode_audio(recording, sampling_rate=SAMPLE_RATE)
    decode = PEERS[peer](model, device, language, int(batch), audio)
    decode(audio[: WARM_UP_S * SAMPLE_RATE])
    run = partial(decode, audio)
    with measured() as reading:
        segments = run()
    print(json.dumps({"reading": asdict(reading), "segments": segments}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
