# pyright: basic
# ruff: noqa: PLC0415 - ML libraries are imported where they are needed
"""Speaker diarization pipelines in pyannote's own formats, made on the spot."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np

from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

ROOT = Path(__file__).parents[2]
SEGMENTATION = ROOT / "models" / "turns-tiny" / "pytorch_model.bin"
EVENING = ROOT / "examples" / "evening.wav"
DIMENSION = 32  # of the embeddings
_LOUD = 0.02  # mean amplitude of speech


def sound_of(path: Path) -> Samples:
    """The samples of a 16 kHz file."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return sound.astype(np.float32) / np.float32(32768)


def write_pipeline(directory: Path, **changes: Any) -> Path:
    """A whole pipeline in a directory, as the hub has them; `changes` go into its parameters.

    Its segmentation is the bundled model. Its embedding is an XVectorMFCC whose weights are random,
    centred on the example's speech: enough to tell a high voice from a low one.
    """
    (directory / "segmentation").mkdir(parents=True)
    shutil.copy(SEGMENTATION, directory / "segmentation")
    write_embedding(directory / "embedding")
    write_config(directory, **changes)
    return directory


def write_config(directory: Path, **changes: Any) -> None:
    """A config.yaml as that of speaker-diarization-3.1."""
    import yaml

    parameters = {
        "segmentation": "$model/segmentation",
        "embedding": "$model/embedding",
        "clustering": "AgglomerativeClustering",
        "segmentation_step": 0.5,
        "segmentation_batch_size": 8,
        "embedding_batch_size": 8,
        "embedding_exclude_overlap": True,
        **changes,
    }
    clustering: dict[str, Any] = {"method": "centroid", "min_cluster_size": 3, "threshold": 0.9}
    if parameters["clustering"] == "VBxClustering":
        clustering = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}
    config = {
        "version": "3.1.0",
        "pipeline": {
            "name": "pyannote.audio.pipelines.SpeakerDiarization",
            "params": {name: value for name, value in parameters.items() if value is not None},
        },
        "params": {"segmentation": {"min_duration_off": 0.0}, "clustering": clustering},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def write_embedding(directory: Path) -> None:
    """A checkpoint of a speaker embedding with random weights, centred on speech."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning
        import torch
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.embedding import XVectorMFCC

        torch.manual_seed(0)
        model = XVectorMFCC(dimension=DIMENSION)
        model.specifications = Specifications(
            problem=Problem.REPRESENTATION,
            resolution=Resolution.CHUNK,
            duration=1.5,
            classes=["one", "other"],
        )
        model.build()
        model.eval()
        half = SAMPLE_RATE // 2
        sound = sound_of(EVENING)
        pieces = np.array_split(sound[: len(sound) // half * half], len(sound) // half)
        heard = [torch.from_numpy(p)[None, None] for p in pieces if np.abs(p).mean() > _LOUD]
        with torch.no_grad():
            centre = torch.cat([model(piece) for piece in heard]).mean(0)
            model.embedding.bias.sub_(centre)
        checkpoint = {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "pytorch-lightning_version": lightning.__version__,
        }
        model.on_save_checkpoint(checkpoint)
        directory.mkdir(parents=True)
        torch.save(checkpoint, directory / "pytorch_model.bin")


def write_plda(directory: Path) -> None:
    """A PLDA over embeddings that changes little: near-identity transforms."""
    directory.mkdir(parents=True)
    unit = np.eye(DIMENSION)
    zero = np.zeros(DIMENSION)
    np.savez(directory / "xvec_transform.npz", mean1=zero, mean2=zero, lda=unit)
    psi = np.linspace(8.0, 0.5, DIMENSION)
    np.savez(directory / "plda.npz", mu=zero, tr=unit, psi=psi)
