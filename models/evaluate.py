"""Figures of the bundled models on held-out sentences and voices: `python -m models.evaluate`.

Recognition: word error rate of each language, clean and with noise at 15 dB, one sentence in a window and eight to a
window, and how often the language is recognised. Translation: exact matches and chrF, both ways. Sentences were in
no training set; the speakers (espeak-ng variants) neither. Alignment: how far the beginnings of words, found as the
WhisperX service finds them, are from where espeak-ng says it begins them; its events come some 40 ms before the sound.
Needs torch, transformers, sacrebleu, scipy, tokenizers and whisperx, and espeak-ng; exits with 1 if a figure misses its
target.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import sacrebleu
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))

from models.train import audio, grammar, voices
from models.train.train_asr import word_errors
from voxroute_asr_whisperx.align import Aligners

HERE = Path(__file__).parent
CODES = {"hi": "hin_Deva", "en": "eng_Latn"}
TARGETS = {
    "wer_clean_hi": 10.0, "wer_clean_en": 10.0, "wer_15db_hi": 15.0, "wer_15db_en": 15.0,
    "language_hi": 98.0, "language_en": 98.0, "exact_hi_en": 85.0, "exact_en_hi": 85.0,
    "words_100ms_hi": 90.0, "words_100ms_en": 90.0,
}  # fmt: skip


def held_out_speech(
    pairs: list[grammar.Pair], language: str, seed: int
) -> list[tuple[np.ndarray, dict[int, float]]]:
    """Each sentence by a held-out voice: float samples at 16 kHz, and its words as `Espeak.speak_timed` tells them."""
    espeak = voices.Espeak()
    variants = [v for v in espeak.variants() if voices.is_held_out_variant(v)]
    rng = random.Random(seed)
    spoken: list[tuple[np.ndarray, dict[int, float]]] = []
    for pair in pairs:
        voice = voices.random_voice(rng, language, variants)
        samples, words = espeak.speak_timed(getattr(pair, language), voice)
        spoken.append((audio.resample(samples, espeak.sample_rate) / np.float32(32768), words))
    return spoken


def with_noise(speech: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """`speech` with pink noise, its power `snr_db` below that of the speech."""
    spectrum = np.fft.rfft(rng.standard_normal(len(speech)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, len(speech))
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (speech + noise).astype(np.float32)


def packed(
    speech: list[np.ndarray], texts: list[str], per_window: int
) -> tuple[list[np.ndarray], list[str]]:
    """Neighbouring sentences together, up to `per_window` and 29 s, with pauses of 0.7 s."""
    windows: list[np.ndarray] = []
    joined: list[str] = []
    gap = np.zeros(int(0.7 * audio.SAMPLE_RATE), np.float32)
    parts: list[np.ndarray] = []
    words: list[str] = []
    for samples, text in zip(speech, texts, strict=True):
        if parts and (
            len(words) == per_window or sum(map(len, parts)) + len(samples) > 29 * audio.SAMPLE_RATE
        ):
            windows.append(np.concatenate(parts))
            joined.append(" ".join(words))
            parts, words = [], []
        parts += [samples, gap]
        words.append(text)
    windows.append(np.concatenate(parts))
    joined.append(" ".join(words))
    return windows, joined


class Recogniser:
    """The bundled recognition model in transformers."""

    def __init__(self, directory: Path) -> None:
        self.model = WhisperForConditionalGeneration.from_pretrained(
            directory, torch_dtype=torch.float32
        ).eval()
        self.processor = WhisperProcessor.from_pretrained(directory)

    def features(self, windows: list[np.ndarray]) -> torch.Tensor:
        return self.processor.feature_extractor(
            windows, sampling_rate=audio.SAMPLE_RATE, return_tensors="pt"
        ).input_features

    @torch.inference_mode()
    def transcribe(self, windows: list[np.ndarray], language: str) -> list[str]:
        """Greedy transcripts without timestamps."""
        texts: list[str] = []
        for start in range(0, len(windows), 8):
            features = self.features(windows[start : start + 8])
            ids = self.model.generate(
                features, language=language, task="transcribe", num_beams=1, max_new_tokens=440
            )
            texts += self.processor.batch_decode(ids, skip_special_tokens=True)
        return texts

    @torch.inference_mode()
    def languages(self, windows: list[np.ndarray]) -> list[str]:
        """The most likely language of each window."""
        found: list[str] = []
        for start in range(0, len(windows), 8):
            ids = self.model.detect_language(
                input_features=self.features(windows[start : start + 8])
            )
            found += [self.processor.tokenizer.decode([int(i)]).strip("<|>") for i in ids]
        return found


def recognition(count: int) -> dict[str, float]:
    """The figures of asr-tiny-hi-en, in percent."""
    recogniser = Recogniser(HERE / "asr-tiny-hi-en")
    pairs = grammar.held_out_sample(count)
    figures: dict[str, float] = {}
    for language in ("hi", "en"):
        speech = [samples for samples, _ in held_out_speech(pairs, language, seed=8)]
        texts = [getattr(p, language) for p in pairs]
        rng = np.random.default_rng(8)
        noisy = [with_noise(s, 15.0, rng) for s in speech]
        many, joined = packed(speech, texts, 8)
        for name, windows, references in (
            ("clean", speech, texts),
            ("15db", noisy, texts),
            ("windows", many, joined),
        ):
            found = recogniser.transcribe(windows, language)
            counts = [word_errors(a, b) for a, b in zip(references, found, strict=True)]
            errors, words = (sum(column) for column in zip(*counts, strict=True))
            figures[f"wer_{name}_{language}"] = 100 * errors / words
        right = sum(found == language for found in recogniser.languages(speech))
        figures[f"language_{language}"] = 100 * right / len(speech)
    return figures


@torch.inference_mode()
def translation(count: int) -> dict[str, float]:
    """The figures of translate-tiny-hi-en, in percent (chrF: 0..100)."""
    directory = HERE / "translate-tiny-hi-en"
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSeq2SeqLM.from_pretrained(directory, torch_dtype=torch.float32).eval()
    pairs = grammar.held_out_sample(count, seed=21)
    figures: dict[str, float] = {}
    for source, target in (("hi", "en"), ("en", "hi")):
        tokenizer.src_lang = CODES[source]
        found: list[str] = []
        for start in range(0, count, 50):
            batch = [getattr(p, source) for p in pairs[start : start + 50]]
            tokens = tokenizer(batch, return_tensors="pt", padding=True)
            first = tokenizer.convert_tokens_to_ids(CODES[target])
            ids = model.generate(**tokens, forced_bos_token_id=first, num_beams=1, max_length=120)
            found += tokenizer.batch_decode(ids, skip_special_tokens=True)
        references = [getattr(p, target) for p in pairs]
        exact = sum(a == b for a, b in zip(found, references, strict=True))
        figures[f"exact_{source}_{target}"] = 100 * exact / count
        figures[f"chrf_{source}_{target}"] = sacrebleu.corpus_chrf(found, [references]).score
    return figures


def alignment(count: int) -> dict[str, float]:
    """The figures of align-tiny-hi-en with noise at 15 dB: shares in percent, medians in ms."""
    directory = str(HERE / "align-tiny-hi-en")
    aligners = Aligners(
        device="cpu", configured={"hi": directory, "en": directory}, downloads=False, offline=True, token=None,
        cache_dir=HERE / "train" / "work",
    )  # fmt: skip
    pause_s = 0.3
    silence = np.zeros(int(pause_s * audio.SAMPLE_RATE), np.float32)
    pairs = grammar.held_out_sample(count, seed=8)
    figures: dict[str, float] = {}
    for language in ("hi", "en"):
        noise = np.random.default_rng(8)
        errors: list[float] = []
        spoken = held_out_speech(pairs, language, seed=8)
        for pair, (speech, begun) in zip(pairs, spoken, strict=True):
            text = getattr(pair, language)
            samples = with_noise(np.concatenate([silence, speech, silence]), 15.0, noise)
            length_s = len(samples) / audio.SAMPLE_RATE
            place = 0
            for word in aligners.words(samples, text, language, start_s=0.0, end_s=length_s):
                place = text.index(word.text, place)
                if place in begun:
                    errors.append(abs(word.start_s - begun[place] - pause_s))
                place += len(word.text)
        figures[f"words_100ms_{language}"] = 100 * float(np.mean(np.array(errors) < 0.1))
        figures[f"words_ms_{language}"] = 1000 * float(np.median(errors))
    return figures


def missed(figures: dict[str, float]) -> list[str]:
    """The figures that miss their target."""
    return [
        name
        for name, target in TARGETS.items()
        if (figures[name] > target if name.startswith("wer") else figures[name] < target)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures there")
    args = parser.parse_args()
    logging.set_verbosity_error()
    try:
        voices.Espeak()
    except voices.SynthesiserMissingError as exc:
        print(exc, file=sys.stderr)
        return 2
    if args.threads:
        torch.set_num_threads(args.threads)
    figures = recognition(args.sentences) | translation(args.sentences) | alignment(args.sentences)
    for name, value in figures.items():
        target = f"  (target {TARGETS[name]:g})" if name in TARGETS else ""
        print(f"{name:18} {value:6.2f}{target}")
    if args.json:
        args.json.write_text(
            json.dumps({k: round(v, 2) for k, v in figures.items()}, indent=2) + "\n"
        )
    failures = missed(figures)
    if failures:
        print("missed: " + ", ".join(failures), file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
