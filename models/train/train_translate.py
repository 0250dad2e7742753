"""Train the bundled translation model: `python -m models.train.train_translate --minutes 4`.

An M2M100 model with NLLB's tokenizer and language codes (hin_Deva, eng_Latn), on sentences of the grammar in both
directions. Sources also come without their final mark, with another one, without a capital, or two to a line.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import queue
import random
import time
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from transformers import M2M100Config, M2M100ForConditionalGeneration

from models.train import grammar

MODEL_DIR = Path(__file__).parents[1] / "translate-tiny-hi-en"
CODES = {"hi": "hin_Deva", "en": "eng_Latn"}
PIECES = 2400
BOS, PAD, EOS, UNK = (
    0,
    1,
    2,
    3,
)  # fairseq's order; pieces of the sentencepiece model are shifted by one


def build_tokenizer(directory: Path) -> None:
    """Train the sentencepiece model and write an NllbTokenizer and the model's config to `directory`."""
    from transformers import NllbTokenizer, NllbTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    corpus = directory / "corpus.txt"
    rng = random.Random(3)
    pairs = [grammar.sentence(rng) for _ in range(60_000)]
    words = sorted({w for pair in pairs for text in pair for w in text.split()})
    with corpus.open("w") as file:
        for pair in pairs:
            file.write(f"{pair.hi}\n{pair.en}\n")
        for word in words:
            file.write(f"{word}\n{word[0].lower()}{word[1:]}\n")
        file.write("! . , ? । ! . ; :\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(directory / "sentencepiece.bpe"), vocab_size=PIECES, character_coverage=1.0,
        model_type="unigram", input_sentence_size=120_000, minloglevel=2,
    )  # fmt: skip
    corpus.unlink()
    (directory / "sentencepiece.bpe.vocab").unlink()
    model = str(directory / "sentencepiece.bpe.model")
    codes = list(CODES.values())
    slow = NllbTokenizer(
        model, additional_special_tokens=codes, src_lang="hin_Deva", tgt_lang="eng_Latn"
    )
    slow.save_pretrained(directory)
    NllbTokenizerFast.from_pretrained(directory).save_pretrained(directory)
    config = M2M100Config(
        vocab_size=len(slow), d_model=256, encoder_layers=3, decoder_layers=3, encoder_ffn_dim=512, decoder_ffn_dim=512,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_layerdrop=0.0, decoder_layerdrop=0.0, dropout=0.1,
        attention_dropout=0.0, activation_dropout=0.0, max_position_embeddings=256, scale_embedding=True,
        max_length=200, tokenizer_class="NllbTokenizer", architectures=["M2M100ForConditionalGeneration"],
    )  # fmt: skip
    config.save_pretrained(directory)


class Encoder:
    """Token ids of the tokenizer, word by word (sentencepiece pieces never cross a space), with a cache."""

    def __init__(self, directory: Path) -> None:
        self._model = sentencepiece.SentencePieceProcessor(
            model_file=str(directory / "sentencepiece.bpe.model")
        )
        self._cache: dict[str, list[int]] = {}
        self.codes = {
            "hi": self._model.get_piece_size() + 2,
            "en": self._model.get_piece_size() + 3,
        }

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in text.split():
            if word not in self._cache:
                self._cache[word] = [i + 1 if i else UNK for i in self._model.encode(word)]
            ids += self._cache[word]
        return ids


def vary(rng: random.Random, text: str) -> str:
    """A source as speech recognition or hasty typing may give it."""
    kind = rng.random()
    if kind < 0.7:
        return text
    if kind < 0.84:
        text = text[:-1]
    elif kind < 0.92:
        text = text[:-1] + rng.choice(["!", ".", "।", "?" if text.endswith("?") else "...", "!"])
    elif kind < 0.95:
        text = text.replace(",", "")
    if rng.random() < 0.4:
        text = text[0].lower() + text[1:]
    return text


def _producer(seed: int, batches: multiprocessing.Queue, rows: int, directory: Path) -> None:
    rng = random.Random(seed)
    encode = Encoder(directory)
    source = grammar.sentences(seed, held_out=False)
    while True:
        examples: list[tuple[list[int], list[int]]] = []
        while len(examples) < rows * 8:
            pairs = [
                next(source) for _ in range(1 if rng.random() < 0.86 else rng.choice([2, 2, 3]))
            ]
            for a, b in (("hi", "en"), ("en", "hi")):
                left = encode(" ".join(vary(rng, getattr(p, a)) for p in pairs))
                right = encode(" ".join(getattr(p, b) for p in pairs))
                if len(left) < 120 and len(right) < 120:
                    examples.append(
                        ([encode.codes[a], *left, EOS], [EOS, encode.codes[b], *right, EOS])
                    )
        examples.sort(key=lambda e: len(e[0]) + len(e[1]))
        groups = [examples[i : i + rows] for i in range(0, len(examples), rows)]
        rng.shuffle(groups)
        for group in groups:
            batch = []
            for side in (0, 1):
                length = max(len(e[side]) for e in group)
                ids = np.full((len(group), length), PAD, np.int16)
                for row, example in enumerate(group):
                    ids[row, : len(example[side])] = example[side]
                batch.append(ids)
            batches.put(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument(
        "--steps", type=int, default=12_000, help="length of the schedule, all runs together"
    )
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "translate")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.monotonic()
    if not (MODEL_DIR / "sentencepiece.bpe.model").exists():
        build_tokenizer(MODEL_DIR)
    context = multiprocessing.get_context("fork")
    batches: multiprocessing.Queue = context.Queue(64)
    producers = [
        context.Process(
            target=_producer,
            args=(args.seed * 1000 + w, batches, args.batch, MODEL_DIR),
            daemon=True,
        )
        for w in range(args.workers)
    ]
    for producer in producers:
        producer.start()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    model = M2M100ForConditionalGeneration(M2M100Config.from_pretrained(MODEL_DIR)).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01)
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.out or args.work
    checkpoint = args.work / "checkpoint.pt"
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step = saved["average"], saved["step"]

    def save() -> None:
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average,
            "step": step,
        }
        torch.save(state, str(checkpoint) + ".new")
        os.replace(str(checkpoint) + ".new", checkpoint)
        out.mkdir(parents=True, exist_ok=True)
        names = [n for n, p in model.named_parameters() if p.requires_grad]
        torch.save(
            {n: a.half().cpu() for n, a in zip(names, average, strict=True)}, out / "translate.pt"
        )

    model.train()
    logged, saved_at = time.monotonic(), time.monotonic()
    progress = began
    while step < args.steps and time.monotonic() - began < args.minutes * 60 - 5:
        # the schedule follows steps or this run's time, whichever is further
        share = max(step / args.steps, (time.monotonic() - progress) / (args.minutes * 60))
        for group in optimizer.param_groups:
            group["lr"] = (
                args.rate
                * min(1.0, (step + 1) / 400)
                * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
            )
        try:
            source, target = (
                torch.from_numpy(x).long().to(device) for x in batches.get(timeout=60)
            )
        except queue.Empty:
            raise RuntimeError("the sentence producers stopped") from None
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(
                input_ids=source,
                attention_mask=(source != PAD).long(),
                decoder_input_ids=target[:, :-1],
                use_cache=False,
            ).logits
        labels = target[:, 1:].reshape(-1)
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels, ignore_index=PAD)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - min(0.998, step / (step + 50)))
        if step % 200 == 0 or time.monotonic() - logged > 30:
            print(
                f"translate step {step} loss {loss.item():.4f} {time.monotonic() - began:.0f} s queue {batches.qsize()}",
                flush=True,
            )
            logged = time.monotonic()
        if time.monotonic() - saved_at > 60:
            save()
            saved_at = time.monotonic()
    save()
    for producer in producers:
        producer.terminate()


if __name__ == "__main__":
    main()
