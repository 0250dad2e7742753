"""Utterances for training: worker processes speak sentences into shards, `Pool` keeps them on the device."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models.train import grammar, voices
from models.train.audio import SAMPLE_RATE, resample
from models.train.vocabulary import Vocabulary

SHARD = 2000  # utterances in a shard
SALAD = 0.06  # share of random word sequences: they keep the decoder listening
FLITE = 0.05  # share of English utterances that flite speaks


class Utterance(NamedTuple):
    """One spoken sentence; `samples` at 16 kHz."""

    language: str
    text: str
    samples: int
    tokens: list[int]  # compact ids, see Vocabulary
    letters: list[int]  # characters for CTC


def _salad(rng: random.Random, words: list[str], language: str) -> str:
    text = " ".join(rng.choice(words) for _ in range(rng.randrange(2, 7)))
    return text[0].upper() + text[1:] + ("।" if language == "hi" else ".")


def _speak_shard(
    directory: Path, index: int, seed: int, vocabulary: Vocabulary, with_flite: bool
) -> None:
    rng = random.Random(seed * 1_000_003 + index)
    espeak = voices.Espeak()
    variants = [v for v in espeak.variants() if not voices.is_held_out_variant(v)]
    source = grammar.sentences(rng.randrange(2**60), held_out=False)
    audio: list[np.ndarray] = []
    meta: list[Utterance] = []
    while len(meta) < SHARD:
        language = "hi" if len(meta) % 2 else "en"
        text = (
            _salad(rng, vocabulary.words[language], language)
            if rng.random() < SALAD
            else getattr(next(source), language)
        )
        try:
            tokens, letters = vocabulary.encode(text), vocabulary.encode_characters(text)
        except KeyError:
            continue  # a word that the vocabulary's sample of the grammar missed
        if with_flite and language == "en" and rng.random() < FLITE:
            samples, rate = voices.flite(
                text, rng.choice(voices.FLITE_VOICES), rng.uniform(0.85, 1.3)
            )
        else:
            samples = espeak.speak(text, voices.random_voice(rng, language, variants))
            rate = espeak.sample_rate
        samples = resample(samples, rate, rng.randrange(-2, 3))
        if not 0.25 * SAMPLE_RATE < len(samples) < 12 * SAMPLE_RATE:
            continue
        audio.append(samples)
        meta.append(Utterance(language, text, len(samples), tokens, letters))
    temporary = directory / f".{index}.npy"
    np.save(temporary, np.concatenate(audio))
    with (directory / f"{index}.pkl").open("wb") as file:
        pickle.dump([tuple(m) for m in meta], file)
    temporary.rename(directory / f"{index}.npy")


def _worker(
    directory: Path,
    vocabulary: Vocabulary,
    worker: int,
    workers: int,
    shards: int,
    seed: int,
    with_flite: bool,
) -> None:
    os.nice(5)
    torch.set_num_threads(1)
    for index in range(worker, shards, workers):
        if not (directory / f"{index}.npy").exists():
            _speak_shard(directory, index, seed, vocabulary, with_flite)


def start_workers(
    directory: Path, vocabulary: Vocabulary, shards: int, workers: int, seed: int, with_flite: bool
) -> list[multiprocessing.Process]:
    """Begin to speak `shards` shards into `directory`; what is there already is kept."""
    directory.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(
            target=_worker,
            args=(directory, vocabulary, w, workers, shards, seed, with_flite),
            daemon=True,
        )
        for w in range(workers)
    ]
    for process in processes:
        process.start()
    return processes


@dataclass
class Pool:
    """Utterances on the device: flat int16 audio, and offsets, lengths and texts on the host."""

    device: torch.device
    capacity: int  # samples
    audio: torch.Tensor = field(init=False)
    used: int = 0
    offsets: list[int] = field(default_factory=list)
    utterances: list[Utterance] = field(default_factory=list)
    by_language: dict[str, list[int]] = field(default_factory=lambda: {"hi": [], "en": []})
    loaded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.audio = torch.zeros(self.capacity, dtype=torch.int16, device=self.device)

    def refresh(self, directory: Path, limit: int = 8) -> int:
        """Load at most `limit` new shards; the number loaded."""
        new = sorted(p for p in directory.glob("[0-9]*.npy") if p.stem not in self.loaded)[:limit]
        for path in new:
            samples = np.load(path)
            if self.used + len(samples) > self.capacity:
                return 0
            self.audio[self.used : self.used + len(samples)] = torch.from_numpy(samples).to(
                self.device
            )
            with path.with_suffix(".pkl").open("rb") as file:
                meta = [Utterance(*m) for m in pickle.load(file)]
            self.add(meta)
            self.loaded.add(path.stem)
        return len(new)

    def add(self, meta: list[Utterance]) -> None:
        """Register utterances whose samples were just written at `used`."""
        for utterance in meta:
            self.by_language[utterance.language].append(len(self.utterances))
            self.utterances.append(utterance)
            self.offsets.append(self.used)
            self.used += utterance.samples
