"""Train the bundled alignment model: `python -m models.train.train_align --minutes 8`.

A small `Wav2Vec2ForCTC` over the letters of the grammar, Devanagari and Latin in one: what WhisperX aligns words with.
It learns from windows of sentences that espeak-ng speaks, with noise, music, babble and rooms. Stopped at any time, it
continues from the last checkpoint in `--work`; `--minutes 0` only exports that to `models/align-tiny-hi-en`.

CTC lets a network write a letter down once it has heard it, here 80 ms after it begins. So a second run, `--earlier
--minutes 3`, teaches the exported model to write what it would have written four frames later.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from models.train import audio
from models.train.speech_pool import Pool, start_workers
from models.train.train_asr import Banks, Plan, ctc_loss, mix
from models.train.vocabulary import Vocabulary

MODEL_DIR = Path(__file__).parents[1] / "align-tiny-hi-en"
WINDOW_S = 6.0
BLANK, DELIMITER = 0, "|"  # the blank of CTC is the tokenizer's <pad>
EARLIER = 4  # frames of 20 ms
LEARNING_RATE = 1.5e-3


def build(letters: int) -> Wav2Vec2ForCTC:
    """The network with random weights, for so many letters beside the blank and <unk>."""
    return Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=letters + 2,
            pad_token_id=BLANK,
            hidden_size=160,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=448,
            conv_dim=(64, 64, 96, 96, 128, 128, 160),
            num_conv_pos_embeddings=32,
            num_conv_pos_embedding_groups=8,
            feat_extract_norm="group",  # over time: the loudness of a recording does not matter
            layerdrop=0.0,
            mask_time_prob=0.03,
            mask_time_length=5,
            attention_dropout=0.05,
            hidden_dropout=0.05,
            feat_proj_dropout=0.05,
        )
    )


def plan_of(rng: random.Random, pool: Pool, rows: int, space: int) -> Plan:
    """Windows of sentences of one language each, with short pauses; in the targets, their letters."""
    window = int(WINDOW_S * audio.SAMPLE_RATE)
    copies: list[tuple[int, int, int, int]] = []
    gains: list[float] = []
    letters: list[list[int]] = []
    for row in range(rows):
        indices = pool.by_language[rng.choice(["hi", "en"])]
        at = int(rng.uniform(0, 0.4) * audio.SAMPLE_RATE)
        said: list[int] = []
        for _ in range(8):
            index = rng.choice(indices)
            utterance = pool.utterances[index]
            if at + utterance.samples > window:
                continue
            copies.append((pool.offsets[index], row, at, utterance.samples))
            gains.append(10 ** rng.uniform(-0.25, 0))
            said += [space] * bool(said) + utterance.letters
            at += utterance.samples + int(rng.uniform(0.05, 0.8) * audio.SAMPLE_RATE)
        letters.append(said)
    none = np.zeros((rows, 1), np.int64)
    return Plan(
        window, np.array(copies, np.int64), np.array(gains, np.float32), np.full(rows, window), none, none,
        letters, none[:, 0],
    )  # fmt: skip


def loss_of(model: Wav2Vec2ForCTC, waves: torch.Tensor, letters: list[list[int]]) -> torch.Tensor:
    """CTC, a mean over target letters."""
    with torch.autocast(waves.device.type, torch.bfloat16, enabled=waves.device.type == "cuda"):
        logits = model(waves).logits
    return ctc_loss(logits, letters)


def earlier_loss(
    model: Wav2Vec2ForCTC, teacher: Wav2Vec2ForCTC, noisy: torch.Tensor, clean: torch.Tensor
) -> torch.Tensor:
    """How far the model is from what the teacher hears EARLIER frames later in the clean sound."""
    with torch.autocast(noisy.device.type, torch.bfloat16, enabled=noisy.device.type == "cuda"):
        logits = model(noisy).logits
        with torch.no_grad():
            wanted = teacher(clean).logits
    wanted = F.softmax(wanted.float(), dim=-1)
    wanted = torch.cat([wanted[:, EARLIER:], wanted[:, -1:].expand(-1, EARLIER, -1)], dim=1)
    scores = F.log_softmax(logits.float(), dim=-1)
    written = 1 + 9 * (1 - wanted[:, :, BLANK])  # most frames hold no letter
    return -((wanted * scores).sum(-1) * written).mean()


def export(model: Wav2Vec2ForCTC, characters: list[str], directory: Path) -> None:
    """Writes the model in half precision, with its processor."""
    directory.mkdir(parents=True, exist_ok=True)
    names = ["<pad>", *(DELIMITER if c == " " else c for c in characters), "<unk>"]
    vocabulary = directory / "vocab.json"
    numbered = {name: number for number, name in enumerate(names)}
    vocabulary.write_text(
        json.dumps(numbered, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(directory)
    model.half().save_pretrained(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--earlier", action="store_true", help="the second run")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "align")
    parser.add_argument("--directory", type=Path, default=MODEL_DIR)
    parser.add_argument("--shards", type=int, default=60)
    parser.add_argument(
        "--first-shards", type=int, default=12, help="to wait for before the first step"
    )
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--pool-gib", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--bank", type=int, default=64, help="rows of each background bank")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(int(time.time()))
    vocabulary = Vocabulary()
    space = vocabulary.character[" "]
    model = build(len(vocabulary.characters)).to(device)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M weights", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    teacher: Wav2Vec2ForCTC | None = None
    if args.earlier:
        model.load_state_dict(
            {k: t.float() for k, t in load_file(args.directory / "model.safetensors").items()}
        )
        teacher = copy.deepcopy(model).eval()
    step, checkpoint = 0, args.work / ("earlier.pt" if args.earlier else "checkpoint.pt")
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        print(f"resumed at step {step}", flush=True)
    if args.minutes:
        shards = args.work / "shards"
        start_workers(shards, vocabulary, args.shards, args.workers, 3, with_flite=False)
        pool = Pool(device, int(args.pool_gib * 2**30 / 2))
        while len(pool.loaded) < args.first_shards:
            if not pool.refresh(shards):
                time.sleep(0.5)
        banks = Banks(device, args.bank, 3)
        rng = random.Random(step)
        banks.make_babble(pool, args.bank, rng)
        began, mean = time.monotonic(), 0.0
        while (share := (time.monotonic() - began) / (60 * args.minutes)) < 1:
            warm = min(1.0, (step + 1) / 500)
            optimizer.param_groups[0]["lr"] = (
                LEARNING_RATE * warm * min(1.0, 2.5 * (1 - share) + 0.01)
            )
            plan = plan_of(rng, pool, args.batch, space)
            waves, _ = mix(plan, pool, banks)
            if teacher is None:
                loss = loss_of(model, waves, plan.characters)
            else:
                loss = earlier_loss(model, teacher, waves, mix(plan, pool, banks, clean=True)[0])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            mean += (loss.item() - mean) * (0.02 if mean else 1.0)
            if step % 200 == 0:
                pool.refresh(shards, 2)
                print(
                    f"{step:6} steps  loss {mean:.3f}  {len(pool.utterances)} utterances",
                    flush=True,
                )
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                }
                torch.save(state, f"{checkpoint}.new")
                Path(f"{checkpoint}.new").rename(checkpoint)
    export(model.eval().cpu(), vocabulary.characters, args.directory)


if __name__ == "__main__":
    main()
