"""Train the bundled speech recognition model: `python -m models.train.train_asr --minutes 20`.

1. Worker processes speak grammar sentences with many voices (speech_pool).
2. Each step mixes utterances into windows on the device, with noise, music, babble and rooms, and computes
   Whisper's features.
3. Windows grow from 8 s over 15 s to 30 s; a CTC loss on the encoder speeds up the start.
Stopped at any time, it continues from the last checkpoint in `--work`.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from models.train import audio, grammar, voices
from models.train import whisper_tokenizer as wt
from models.train.asr_model import Shape, TinyWhisper
from models.train.speech_pool import Pool, Utterance, start_workers
from models.train.vocabulary import Vocabulary

MAX_TOKENS = 446
IGNORE = -100


@dataclass
class Plan:
    """A batch before its audio is made: copies of utterances into windows, and the targets."""

    window: int  # samples in a window
    copies: np.ndarray  # [n, 4]: source offset, row, start, length
    gains: np.ndarray  # [n]
    content: np.ndarray  # [B] samples before the padding begins
    inputs: np.ndarray  # [B, T] compact ids
    targets: np.ndarray  # [B, T] compact ids or IGNORE
    characters: list[list[int]]
    empty: np.ndarray  # [B] no speech in it


def _gap(rng: random.Random) -> float:
    kind = rng.random()
    return (
        rng.uniform(0.12, 0.6)
        if kind < 0.4
        else rng.uniform(0.6, 1.7)
        if kind < 0.85
        else rng.uniform(1.7, 6)
    )


def make_plan(
    rng: random.Random, pool: Pool, vocabulary: Vocabulary, rows: int, window_s: float
) -> Plan:
    """Draw a batch of `rows` windows of `window_s` seconds.

    A window holds silence, or utterances of one language with pauses. Its target is, as in Whisper, an optional
    prompt of earlier text, the language (or <|nospeech|>), and the text with or without timestamps; an utterance
    that the end of the window cuts yields its start alone.
    """
    c, ts0, rate = vocabulary.compact, vocabulary.first_timestamp, audio.SAMPLE_RATE
    window = int(window_s * rate)
    copies: list[tuple[int, int, int, int]] = []
    gains: list[float] = []
    content, all_inputs, all_targets, characters, empties = [], [], [], [], []
    for row in range(rows):
        language = "hi" if rng.random() < 0.5 else "en"
        indices = pool.by_language[language]
        empty = rng.random() < 0.05
        stamped = rng.random() < 0.55
        prompt: list[int] = []
        if rng.random() < 0.15:
            for _ in range(rng.randrange(1, 6)):
                prompt += pool.utterances[rng.choice(indices)].tokens
            prompt = [c[wt.SOT_PREV], *prompt[-200:]]
        budget = MAX_TOKENS - len(prompt) - 6
        body: list[int] = []
        first_late = -1
        letters: list[int] = []
        at = 0
        if not empty:
            most = rng.choice([1, 2, 4, 99, 99, 99, 99, 99])
            level = rng.uniform(0.0, 0.7)
            first = rng.random()
            at = int(
                rate
                * (
                    rng.uniform(0, 0.4)
                    if first < 0.6
                    else rng.uniform(0.4, 1.5)
                    if first < 0.85
                    else rng.uniform(1.5, max(1.6, window_s / 3))
                )
            )
            count = 0
            while count < most:
                index = rng.choice(indices)
                utterance = pool.utterances[index]
                tokens = utterance.tokens
                if len(body) + len(tokens) + 4 > budget:
                    break
                end = at + utterance.samples
                gain = 10 ** (rng.uniform(-level, 0))
                begin = min(1500, at // 320)
                if end > window - 160:
                    if count and stamped and window - at > rate // 2 and rng.random() < 0.5:
                        copies.append((pool.offsets[index], row, at, window - at))
                        gains.append(gain)
                        body += [ts0 + begin]
                        at = window
                        break
                    if count == 0:
                        at = 0
                        if utterance.samples > window - 320:
                            continue
                        begin, end = 0, utterance.samples
                    else:
                        break
                copies.append((pool.offsets[index], row, at, utterance.samples))
                gains.append(gain)
                if stamped:
                    if count == 0 and begin > 50:
                        first_late = len(body)
                    body += [ts0 + begin, *tokens, ts0 + min(1500, -(-end // 320))]
                else:
                    body += tokens
                letters += ([vocabulary.character[" "]] if letters else []) + utterance.letters
                count += 1
                at = end + int(rate * _gap(rng))
        head = [c[wt.SOT], c[wt.language_id(language)], c[wt.TRANSCRIBE]]
        if empty:
            body = [ts0] if stamped else [c[wt.NEWLINE]] if rng.random() < 0.2 else []
        sequence = prompt + head + ([] if stamped else [c[wt.NO_TIMESTAMPS]]) + body + [c[wt.EOT]]
        inputs, targets = sequence[:-1], sequence[1:]
        targets[: len(prompt)] = [IGNORE] * len(prompt)
        if empty:
            targets[len(prompt)] = c[wt.NO_SPEECH]
        if first_late >= 0 and rng.random() < 0.4:
            # decoders force the first timestamp to at most 1 s: go on from such a one
            inputs[len(prompt) + len(head) + first_late] = ts0 + rng.randrange(0, 51)
        all_inputs.append(inputs)
        all_targets.append(targets)
        characters.append(letters)
        empties.append(empty)
        content.append(window if rng.random() < 0.4 else min(window, max(at, rate // 2)))
    length = max(len(s) for s in all_inputs)
    inputs_array = np.full((rows, length), c[wt.EOT], np.int64)
    targets_array = np.full((rows, length), IGNORE, np.int64)
    for row in range(rows):
        inputs_array[row, : len(all_inputs[row])] = all_inputs[row]
        targets_array[row, : len(all_targets[row])] = all_targets[row]
    return Plan(
        window, np.array(copies, np.int64).reshape(-1, 4), np.array(gains, np.float32), np.array(content), inputs_array,
        targets_array, characters, np.array(empties),
    )  # fmt: skip


class Banks:
    """Backgrounds of 30 s: noise, music and babble, each row of unit power, int16 at 1/8 of full scale."""

    SCALE = 4096.0

    def __init__(self, device: torch.device, rows: int, seed: int) -> None:
        self.device = device
        n = audio.N_SAMPLES
        self.noise = self._store(
            torch.cat(
                [audio.coloured_noise(min(16, rows), n, device) for _ in range(max(1, rows // 16))]
            )
        )
        self.music = self._store(audio.music(rows, n, device, seed))
        self.babble = self.noise

    def _store(self, wave: torch.Tensor) -> torch.Tensor:
        return (wave * self.SCALE).clamp(-32767, 32767).to(torch.int16)

    def make_babble(self, pool: Pool, rows: int, rng: random.Random) -> None:
        """Mix random speech of the pool into murmurs."""
        waves = torch.zeros(rows, audio.N_SAMPLES, device=self.device)
        for row in range(rows):
            for _ in range(rng.randrange(4, 9)):
                start = rng.randrange(max(1, pool.used - audio.N_SAMPLES))
                piece = pool.audio[start : start + audio.N_SAMPLES]
                waves[row, : len(piece)] += piece.float()
        waves = waves / waves.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        self.babble = self._store(waves)

    def draw(self, bank: torch.Tensor, rows: int, window: int) -> torch.Tensor:
        """Random excerpts [rows, window] of unit power."""
        picks = torch.randint(len(bank), (rows,), device=self.device)
        starts = torch.randint(audio.N_SAMPLES - window + 1, (rows,), device=self.device)
        if window == audio.N_SAMPLES:
            return bank[picks].float() / self.SCALE
        return (
            bank[
                picks[:, None], starts[:, None] + torch.arange(window, device=self.device)[None]
            ].float()
            / self.SCALE
        )


def mix(
    plan: Plan, pool: Pool, banks: Banks, clean: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The waveforms [B, window] of a plan, and where they are not padding (1 or 0, [B, window])."""
    device, rows, window = pool.device, len(plan.content), plan.window
    wave = torch.zeros(rows * window, device=device)
    if len(plan.copies):
        copies = torch.from_numpy(plan.copies).to(device, non_blocking=True)
        lengths = copies[:, 3]
        total = int(plan.copies[:, 3].sum())
        which = torch.repeat_interleave(
            torch.arange(len(copies), device=device), lengths, output_size=total
        )
        position = torch.arange(total, device=device) - (lengths.cumsum(0) - lengths)[which]
        gains = torch.from_numpy(plan.gains).to(device)
        wave[(copies[:, 1] * window + copies[:, 2])[which] + position] = (
            pool.audio[copies[:, 0][which] + position].float() / 32768 * gains[which]
        )
    wave = wave.view(rows, window)
    content = torch.from_numpy(plan.content).to(device)
    inside = (torch.arange(window, device=device)[None] < content[:, None]).float()
    if not clean:
        room = (torch.rand(rows, device=device) < 0.2).nonzero().flatten()
        if len(room):
            wave = wave.index_copy(0, room, audio.reverberate(wave[room]))
        active = (wave.abs() > 1e-4).float().sum(1).clamp(min=1600)
        speech = (wave.square().sum(1) / active).sqrt().clamp(min=0.01)

        def background(
            bank: torch.Tensor, share: float, low_db: float, high_db: float
        ) -> torch.Tensor:
            snr = low_db + (high_db - low_db) * torch.rand(rows, device=device)
            level = speech * 10 ** (-snr / 20) * (torch.rand(rows, device=device) < share)
            return banks.draw(bank, rows, window) * level[:, None]

        wave = wave + background(banks.noise, 0.5, 4, 35)
        wave = wave + background(banks.music, 0.35, 3, 30)
        wave = wave + background(banks.babble, 0.15, 9, 30)
        wave = wave * (10 ** (-1.3 * torch.rand(rows, 1, device=device)))
        wave = wave + torch.randn_like(wave) * (3e-5 * (torch.rand(rows, 1, device=device) < 0.4))
        wave = wave * inside
    return wave, inside


def render(
    plan: Plan, pool: Pool, banks: Banks, filters: torch.Tensor, clean: bool = False
) -> torch.Tensor:
    """The features [B, 80, frames] of a plan."""
    device, rows = pool.device, len(plan.content)
    wave, inside = mix(plan, pool, banks, clean)
    power = audio.power_spectrum(wave)
    headroom = None
    if not clean:
        bins = torch.arange(power.shape[1], device=device)[None]
        # a smooth equaliser of up to 6 dB, and sometimes the low pass of a codec
        tilt = sum(
            (torch.rand(rows, 1, device=device) - 0.5) * torch.cos(math.pi * k * bins / 200)
            for k in range(1, 5)
        )
        cut = torch.where(
            torch.rand(rows, 1, device=device) < 0.25,
            100 + 90 * torch.rand(rows, 1, device=device),
            300.0,
        )
        curve = 10 ** (0.6 * tilt) * torch.where(bins > cut, 1e-5, 1.0)
        power = power * curve[:, :, None]
        headroom = (torch.rand(rows, device=device) * 2.0) * (torch.rand(rows, device=device) < 0.4)
    features = audio.log_mel(power, filters, headroom)
    if not clean:
        # engines pad the wave with zeros or the features with zeros
        zero = (torch.rand(rows, 1, 1, device=device) < 0.4) & (inside[:, None, :: audio.HOP] == 0)
        features = features.masked_fill(zero[:, :, : features.shape[2]], 0.0)
        bands = torch.arange(audio.N_MELS, device=device)[None]
        start = torch.randint(0, audio.N_MELS, (rows, 1), device=device)
        width = torch.randint(0, 9, (rows, 1), device=device) * (
            torch.rand(rows, 1, device=device) < 0.4
        )
        hidden = ((bands >= start) & (bands < start + width))[:, :, None]
        features = torch.where(hidden, features.mean((1, 2), keepdim=True), features)
    return features


def ctc_loss(logits: torch.Tensor, characters: list[list[int]]) -> torch.Tensor:
    """CTC over characters, 0 the blank, of `logits` [B, frames, characters]; a mean over target characters."""
    log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    lengths = torch.tensor([len(c) for c in characters])
    flat = torch.tensor([i for c in characters for i in c] or [1], dtype=torch.long)
    frames = torch.full((len(characters),), logits.shape[1], dtype=torch.long)
    loss = F.ctc_loss(
        log_probs, flat.to(logits.device), frames, lengths, reduction="sum", zero_infinity=True
    )
    return loss / max(1, int(lengths.sum()))


@torch.no_grad()
def greedy(
    model: TinyWhisper,
    vocabulary: Vocabulary,
    features: torch.Tensor,
    language: str,
    most: int = 80,
) -> list[str]:
    """Greedy transcripts without timestamps (no cache: for short checks only)."""
    encoded = model.encode(features)
    c = vocabulary.compact
    head = [c[wt.SOT], c[wt.language_id(language)], c[wt.TRANSCRIBE], c[wt.NO_TIMESTAMPS]]
    tokens = torch.tensor([head] * len(features), device=features.device)
    done = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    for _ in range(most):
        step = model.logits(model.decode(tokens, encoded)[:, -1]).argmax(-1)
        step = torch.where(done, c[wt.EOT], step)
        tokens = torch.cat([tokens, step[:, None]], 1)
        done |= step == c[wt.EOT]
        if bool(done.all()):
            break
    return [vocabulary.decode(row) for row in tokens[:, len(head) :].tolist()]


def word_errors(reference: str, found: str) -> tuple[int, int]:
    """Edit distance in words and the number of reference words."""
    a, b = grammar.plain(reference).split(), grammar.plain(found).split()
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (x != y)))
        previous = current
    return previous[-1], len(a)


def make_check(count: int, device: torch.device) -> Pool:
    """Held-out sentences spoken by held-out voices."""
    espeak = voices.Espeak()
    variants = [v for v in espeak.variants() if voices.is_held_out_variant(v)]
    rng = random.Random(5)
    pool = Pool(device, count * 2 * 10 * audio.SAMPLE_RATE)
    for pair in grammar.held_out_sample(count):
        for language in ("hi", "en"):
            text = getattr(pair, language)
            samples = audio.resample(
                espeak.speak(text, voices.random_voice(rng, language, variants)), espeak.sample_rate
            )
            if len(samples) > 7 * audio.SAMPLE_RATE:
                continue
            pool.audio[pool.used : pool.used + len(samples)] = torch.from_numpy(samples).to(device)
            pool.add([Utterance(language, text, len(samples), [], [])])
    return pool


def check(
    model: TinyWhisper,
    vocabulary: Vocabulary,
    pool: Pool,
    banks: Banks,
    filters: torch.Tensor,
    window_s: float,
) -> str:
    """Word error rates on the held-out check set, as a line of text."""
    report = []
    window = int(window_s * audio.SAMPLE_RATE)
    for language in ("hi", "en"):
        errors = words = 0
        indices = pool.by_language[language]
        for start in range(0, len(indices), 64):
            part = indices[start : start + 64]
            copies = np.array(
                [
                    (pool.offsets[i], r, 3200, pool.utterances[i].samples)
                    for r, i in enumerate(part)
                ],
                np.int64,
            )
            plan = Plan(
                window, copies, np.ones(len(part), np.float32), np.full(len(part), window), np.zeros((1, 1)),
                np.zeros((1, 1)), [], np.zeros(1),
            )  # fmt: skip
            features = render(plan, pool, banks, filters, clean=True)
            with torch.autocast(
                pool.device.type, torch.bfloat16, enabled=pool.device.type == "cuda"
            ):
                found = greedy(model, vocabulary, features, language)
            for i, text in zip(part, found, strict=True):
                e, n = word_errors(pool.utterances[i].text, text)
                errors, words = errors + e, words + n
        report.append(
            f"{language} wer {100 * errors / max(words, 1):.1f}% (e.g. {pool.utterances[part[-1]].text!r} -> {found[-1]!r})"
        )
    return "; ".join(report)


def stage(progress: float, full_batch: int) -> tuple[float, int]:
    """Window seconds and batch rows at `progress` (0..1) of the plan."""
    if progress < 0.22:
        return 8.0, 3 * full_batch
    if progress < 0.34:
        return 15.0, 2 * full_batch
    return 30.0, full_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="stop this run after so long")
    parser.add_argument(
        "--plan-minutes",
        type=float,
        default=20.0,
        help="length of the whole schedule, all runs together",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(__file__).parent / "work" / "asr",
        help="checkpoint and shards",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="where the half-precision weights go (default: --work)",
    )
    parser.add_argument("--shards", type=int, default=250)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128, help="rows of 30 s")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument(
        "--first-shards", type=int, default=30, help="shards to wait for before the first step"
    )
    parser.add_argument("--pool-gib", type=float, default=60.0)
    parser.add_argument("--bank", type=int, default=256, help="rows of each background bank")
    parser.add_argument(
        "--check", type=int, default=192, help="held-out sentences for the running check"
    )
    parser.add_argument(
        "--init", type=Path, default=None, help="asr.pt to start from where there is no checkpoint"
    )
    parser.add_argument(
        "--start", type=float, default=0.0, help="with --init: how far the schedule has come (0..1)"
    )
    parser.add_argument("--no-flite", action="store_true")
    args = parser.parse_args()
    began = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.out or args.work
    torch.backends.cuda.matmul.allow_tf32 = True
    shards_dir = args.work / "shards"
    vocabulary = Vocabulary()
    workers = start_workers(
        shards_dir, vocabulary, args.shards, args.workers, args.seed, not args.no_flite
    )
    shape = Shape()
    torch.manual_seed(args.seed + int(time.time()))
    model = TinyWhisper(
        shape, len(vocabulary), len(vocabulary.characters) + 1, vocabulary.unused
    ).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    decay = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=args.rate, betas=(0.9, 0.98),
        fused=device.type == "cuda",
    )  # fmt: skip
    step, spent = 0, 0.0
    checkpoint_path = args.work / "checkpoint.pt"
    if checkpoint_path.exists():
        saved = torch.load(checkpoint_path, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        for mine, theirs in zip(average, saved["average"], strict=True):
            mine.copy_(theirs)
        step, spent = saved["step"], saved["spent"]
        print(f"resumed at step {step}, {spent / 60:.1f} min", flush=True)
    elif args.init:
        weights = torch.load(args.init, map_location=device)["weights"]
        with torch.no_grad():
            names = [n for n, p in model.named_parameters() if p.requires_grad]
            for name, parameter, mean in zip(names, parameters, average, strict=True):
                if name in weights:
                    parameter.copy_(weights[name])
                    mean.copy_(weights[name])
    filters = audio.mel_filters(device)
    banks = Banks(device, args.bank, args.seed)
    held_out = make_check(args.check, device)
    pool = Pool(device, int(args.pool_gib * 2**30 / 2))
    rng = random.Random(args.seed * 7919 + step)
    print(
        f"prepared in {time.monotonic() - began:.0f} s: {len(vocabulary)} tokens, {sum(p.numel() for p in parameters) / 1e6:.1f}M weights",
        flush=True,
    )
    while len(pool.loaded) < min(args.first_shards, args.shards):
        if not pool.refresh(shards_dir, 50):
            time.sleep(0.5)
    banks.make_babble(pool, args.bank, rng)
    print(
        f"first {len(pool.utterances)} utterances after {time.monotonic() - began:.0f} s",
        flush=True,
    )

    train_began = time.monotonic()
    plan_s = args.plan_minutes * 60
    end = began + args.minutes * 60
    if args.init and step == 0:
        plan_s = (end - 20 - train_began) / (
            1 - args.start
        )  # the rest of the schedule fits into this run
        spent = args.start * plan_s

    def progress() -> float:
        return min(1.0, (spent + time.monotonic() - train_began) / plan_s)

    plans: queue.Queue[Plan] = queue.Queue(6)
    stop = threading.Event()

    def planner(seed: int) -> None:
        mine = random.Random(seed)
        while not stop.is_set():
            window_s, rows = stage(progress(), args.batch)
            if window_s == 30.0 and mine.random() < 0.12:
                window_s, rows = mine.choice([(8.0, 3 * args.batch), (15.0, 2 * args.batch)])
            plan = make_plan(mine, pool, vocabulary, rows, window_s)
            while not stop.is_set():
                try:
                    plans.put(plan, timeout=0.5)
                    break
                except queue.Full:
                    continue

    for k in range(2):
        threading.Thread(target=planner, args=(rng.randrange(2**40) + k,), daemon=True).start()

    def loader() -> None:
        while not stop.is_set():
            if not pool.refresh(shards_dir, 1):
                time.sleep(1)

    threading.Thread(target=loader, daemon=True).start()

    def save() -> None:
        state = {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step,
            "spent": spent + time.monotonic() - train_began,
        }  # fmt: skip
        torch.save(state, str(checkpoint_path) + ".new")
        os.replace(str(checkpoint_path) + ".new", checkpoint_path)
        out.mkdir(parents=True, exist_ok=True)
        names = [
            n for n, p in model.named_parameters() if p.requires_grad and not n.startswith("ctc")
        ]
        lookup = dict(
            zip([n for n, p in model.named_parameters() if p.requires_grad], average, strict=True)
        )
        torch.save(
            {
                "weights": {n: lookup[n].half().cpu() for n in names},
                "ids": vocabulary.ids,
                "step": step,
            },
            out / "asr.pt",
        )

    logged, saved_at, total = time.monotonic(), time.monotonic(), np.zeros(3)
    model.train()
    while time.monotonic() < end - 15 and progress() < 1.0:
        plan = plans.get()
        p = progress()
        learning_rate = (
            args.rate
            * min(1.0, (step + 1) / 300)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * p)))
        )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        with torch.no_grad():
            features = render(plan, pool, banks, filters)
        inputs = torch.from_numpy(plan.inputs).to(device)
        targets = torch.from_numpy(plan.targets).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            encoded = model.encode(features, 0.05)
            hidden = model.decode(inputs, encoded, 0.05)
        keep = targets.flatten() != IGNORE
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model.logits(hidden.flatten(0, 1)[keep])
        cross = F.cross_entropy(logits, targets.flatten()[keep])
        ctc = ctc_loss(model.ctc(encoded), plan.characters)
        loss = cross + (1.0 if p < 0.3 or step < 200 else 0.3) * ctc
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(0.9985, step / (step + 50)))
        total += [1, 0, 0]
        if step % 10 == 0:
            total[1:] += [cross.item(), ctc.item()]
        if step % 100 == 0 or time.monotonic() - logged > 30:
            now = time.monotonic()
            n = max(1, total[0] // 10)
            print(
                f"step {step} p {p:.3f} window {plan.window / 16000:.0f}s loss {total[1] / n:.3f} ctc {total[2] / n:.3f} {total[0] / (now - logged):.1f} steps/s queue {plans.qsize()} utterances {len(pool.utterances)}",
                flush=True,
            )
            logged, total = now, np.zeros(3)
        if time.monotonic() - saved_at > 90:
            save()
            model.eval()
            print(
                f"min {(time.monotonic() - began) / 60:.1f}:",
                check(model, vocabulary, held_out, banks, filters, min(plan.window / 16000, 30.0)),
                flush=True,
            )
            model.train()
            saved_at = time.monotonic()
    stop.set()
    save()
    with torch.no_grad():
        for p_, a in zip(parameters, average, strict=True):
            p_.copy_(a)
    model.eval()
    print(
        "average:",
        check(model, vocabulary, held_out, banks, filters, min(plan.window / 16000, 30.0)),
        flush=True,
    )
    for worker in workers:
        worker.terminate()


if __name__ == "__main__":
    main()
