"""Train the bundled segmentation model: `python -m models.train.train_turns --minutes 8`.

A small PyanNet, pyannote.audio's architecture for "who speaks in this window": three speakers at most, two at once
(powerset), the order of the speakers free. It learns from conversations mixed out of espeak-ng's voices, five seconds
each. Minutes of CPU are enough to hear when somebody speaks, not to tell voices apart within a window; so it is
exported for windows of 1.5 s, which mostly hold one voice, and the clustering after it tells them apart.
It writes `models/turns-tiny/pytorch_model.bin` in pyannote's own checkpoint format; `--go-on` trains on from there.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path
from typing import NamedTuple

os.environ["PYANNOTE_METRICS_ENABLED"] = "false"

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.utils.permutation import permutate
from pyannote.audio.utils.powerset import Powerset

from models.train import audio, grammar, voices

MODEL_DIR = Path(__file__).parents[1] / "turns-tiny"
WEIGHTS = "pytorch_model.bin"
RATE = 16_000
CHUNK_S = 5.0  # of a conversation to learn from
WINDOW_S = 1.5  # in use
N_SAMPLES = int(CHUNK_S * RATE)
SPEAKERS, AT_ONCE = 3, 2
LEARNING_RATE = 2e-3


class Spoken(NamedTuple):
    """An utterance: the variant that speaks it, and float32 samples at RATE, peak 1."""

    variant: str
    samples: np.ndarray


def speak(count: int, held_out: bool, seed: int) -> list[Spoken]:
    """`count` utterances of random voices, a few to each voice."""
    rng = random.Random(seed)
    espeak = voices.Espeak()
    variants = [v for v in espeak.variants() if voices.is_held_out_variant(v) == held_out]
    spoken: list[Spoken] = []
    while len(spoken) < count:
        language = rng.choice(["hi", "en"])
        voice = voices.random_voice(rng, language, variants)
        for _ in range(4):
            pair = grammar.sentence(rng)
            raw = espeak.speak(pair.hi if language == "hi" else pair.en, voice)
            samples = audio.resample(raw, espeak.sample_rate).astype(np.float32)
            if len(samples) > RATE // 4:
                spoken.append(Spoken(str(voice), samples / np.abs(samples).max()))
    return spoken


def build() -> PyanNet:
    """The network with random weights."""
    model = PyanNet(
        sincnet={"stride": 10},
        lstm={"hidden_size": 48, "num_layers": 1, "bidirectional": True, "monolithic": True, "dropout": 0.0},
        linear={"hidden_size": 48, "num_layers": 1},
    )  # fmt: skip
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=WINDOW_S,
        classes=[f"speaker#{i + 1}" for i in range(SPEAKERS)],
        powerset_max_classes=AT_ONCE,
        permutation_invariant=True,
    )
    model.build()
    return model


def mix(rng: random.Random, pool: list[Spoken], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A conversation and who speaks in it: (N_SAMPLES,), and (frames, SPEAKERS) of 0 and 1."""
    by_voice: dict[str, list[Spoken]] = {}
    for one in rng.sample(pool, 40):
        by_voice.setdefault(one.variant, []).append(one)
    cast = rng.sample(sorted(by_voice), min(len(by_voice), rng.choice([0, 1, 2, 2, 2, 3])))
    loudness = [10 ** (rng.uniform(-22, -8) / 20) for _ in cast]
    sound = np.zeros(N_SAMPLES, np.float32)
    active = np.zeros((N_SAMPLES, SPEAKERS), bool)
    at = rng.randint(-2 * RATE, RATE)
    while cast and at < N_SAMPLES:
        who = rng.randrange(len(cast))
        samples = rng.choice(by_voice[cast[who]]).samples * loudness[who]
        begin, end = max(0, at), min(N_SAMPLES, at + len(samples))
        if end > begin:
            sound[begin:end] += samples[begin - at : end - at]
            active[begin:end, who] = True
        at = end + int(rng.choice([0.1, 0.4, 0.8, 1.5, 2.5, -0.5]) * RATE)
        at = max(at, begin + RATE // 4)
    noise = 10 ** (rng.uniform(-60, -35) / 20) * np.random.default_rng(rng.randrange(2**32)).normal(
        size=N_SAMPLES
    )
    middles = ((np.arange(frames) + 0.5) * N_SAMPLES / frames).astype(int)
    labels = active[middles].astype(np.float32)
    crowded = labels.sum(1) > AT_ONCE
    labels[crowded, -1] = 0
    return sound + noise.astype(np.float32), labels


def batch_of(
    rng: random.Random, pool: list[Spoken], size: int, frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [mix(rng, pool, frames) for _ in range(size)]
    return torch.from_numpy(np.stack([p[0] for p in pairs]))[:, None], torch.from_numpy(
        np.stack([p[1] for p in pairs])
    )


def loss_of(
    model: PyanNet, powerset: Powerset, waves: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Negative log likelihood under the best order of the speakers."""
    scores = model(waves)
    ordered, _ = permutate(powerset.to_multilabel(scores.detach(), soft=True), labels)
    target = powerset.to_powerset(ordered).argmax(-1)
    return F.nll_loss(scores.flatten(0, 1), target.flatten())


@torch.no_grad()
def error_rate(
    model: PyanNet, powerset: Powerset, waves: torch.Tensor, labels: torch.Tensor
) -> float:
    """Missed, invented and confused speech over all speech, within each chunk."""
    model.eval()
    heard = powerset.to_multilabel(model(waves))
    ordered, _ = permutate(heard, labels)
    model.train()
    return float((ordered != heard).any(-1).sum() / labels.any(-1).sum())


def export(model: PyanNet, path: Path) -> None:
    """Writes pyannote's checkpoint: weights, hyper-parameters and the task that they are for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
    }
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--go-on", action="store_true", help="from the weights that are there")
    parser.add_argument("--utterances", type=int, default=800)
    args = parser.parse_args()
    torch.manual_seed(0)
    rng = random.Random(4 if args.go_on else 0)
    pool, unknown = speak(args.utterances, False, 1), speak(160, True, 2)
    model, powerset = build(), Powerset(SPEAKERS, AT_ONCE)
    if args.go_on:
        model.load_state_dict(torch.load(MODEL_DIR / WEIGHTS, weights_only=False)["state_dict"])
    frames = model.num_frames(N_SAMPLES)
    test = batch_of(random.Random(3), unknown, 64, frames)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    began, step = time.monotonic(), 0
    while (share := (time.monotonic() - began) / (60 * args.minutes)) < 1:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, 2 * (1 - share))
        loss = loss_of(model, powerset, *batch_of(rng, pool, args.batch, frames))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            rate = error_rate(model, powerset, *test)
            print(f"{step:5} steps  loss {loss.item():.3f}  held-out error {rate:.3f}", flush=True)
            export(model, MODEL_DIR / WEIGHTS)
    export(model, MODEL_DIR / WEIGHTS)
    print(f"held-out voices: error {error_rate(model, powerset, *test):.3f}")


if __name__ == "__main__":
    main()
