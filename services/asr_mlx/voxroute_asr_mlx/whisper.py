# pyright: basic
"""A Whisper model on MLX as an AsrModel: windows to segments. Imports mlx and mlx_whisper."""

import contextlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_whisper.audio import N_SAMPLES, log_mel_spectrogram
from mlx_whisper.tokenizer import LANGUAGES, Tokenizer, get_tokenizer

from voxroute_asr_mlx import convert, words
from voxroute_asr_mlx.decoding import Decoder, Prompt
from voxroute_asr_mlx.hardware import FLOAT_TYPES, QUANTIZED_BITS, activations
from voxroute_asr_mlx.models import traits_of
from voxroute_asr_mlx.network import Network
from voxroute_serving.asr.engine import AlignmentRequest, DecodingOptions, WindowResult, Word
from voxroute_serving.asr.text.segments import TIME_PRECISION_S, Piece, grouped, sounding
from voxroute_serving.asr.whisper.decoding import (
    Decoded,
    TimesAndWords,
    context_samples,
    effective_options,
    window_result,
)
from voxroute_serving.asr.whisper.family import bcp47, whisper_code
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.device.failures import engine_errors
from voxroute_serving.device.host import usable_processors
from voxroute_serving.domain import IgnoredOption, ModelRef, Stop
from voxroute_serving.errors import EngineError, UnsupportedError

# Decoding again helps against loops, and mild temperatures do not end those; see docs/adr/0027.
TEMPERATURES = (0.0, 0.6, 1.0)

N_POSITION_SAMPLES = round(TIME_PRECISION_S * SAMPLE_RATE)  # 320; one position of the encoder


class MlxWhisperModel:
    """A model in the memory of MLX's device; every method on the thread that made it."""

    def __init__(
        self,
        ref: ModelRef,
        directory: Path,
        source: Path,
        *,
        device: str,
        compute_type: str,
        cpu_threads: int,
        max_batch: int,
    ) -> None:
        # streams belong to the thread; this one may run on the CPU of a machine with a GPU
        mx.set_default_device(mx.cpu if device == "cpu" else mx.gpu)
        self.ref = ref
        self.max_batch = max_batch
        self.workers = 1  # arrays of MLX belong to the thread that made them
        model = convert.load(directory, FLOAT_TYPES.get(compute_type, activations(device)))
        if compute_type in QUANTIZED_BITS:
            convert.quantize(model, QUANTIZED_BITS[compute_type])
        convert.read(model)
        self.memory_bytes = convert.memory_bytes(model)
        n_languages = model.num_languages
        self._codes = tuple(LANGUAGES)[:n_languages]
        traits = traits_of(source, ref.id, model.dims.n_vocab, self._codes)
        self.languages = traits.languages
        self.keeps_pauses = traits.keeps_pauses
        self._tasks = traits.tasks
        self._multilingual = model.is_multilingual
        n_threads = cpu_threads or usable_processors() if device == "cpu" else None
        self._network: Network | None = Network(model, n_threads)
        self._encoded = _Encoded(2 * max_batch)

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """The options with the defaults filled in, and those that this model cannot honour."""
        ignored: list[IgnoredOption] = []
        if options.beam_size is not None and options.beam_size > 1:
            ignored.append(
                IgnoredOption(
                    "decoding.beam_size",
                    "mlx-whisper decodes greedily; use a WhisperX service for beam search",
                )
            )
        options, others = effective_options(
            replace(options, beam_size=1),
            self.ref,
            self._tasks,
            beam_size=1,
            temperatures=TEMPERATURES,
        )
        return options, (*ignored, *others)

    def warm_up(self, noise: Samples) -> None:
        """Transcribes the noise, for which Metal compiles its kernels."""
        options, _ = self.effective_options(DecodingOptions(self.languages[0]))
        self.transcribe([noise], options, lambda: False)

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """One result for each window, in order. Raises OutOfMemoryError, EngineError."""
        options, _ = self.effective_options(options)
        with self._errors():
            return self._transcribe(windows, options, stop)

    def detect_language(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """For each window the probability of each language."""
        with self._errors():
            return self._detect_language(windows)

    def align(self, requests: Sequence[AlignmentRequest]) -> Sequence[tuple[Word, ...]]:
        """The words of each text with their times, by the decoder's attention to the audio."""
        with self._errors():
            return self._align(requests)

    def close(self) -> None:
        """Frees the memory of the device."""
        self._network = None
        self._encoded.clear()
        mx.clear_cache()

    # -- transcription

    def _transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> list[WindowResult]:
        """1. audio features  2. text  3. times of its words  4. segments."""
        tokenizer = self._tokenizer(options.language, options.task)
        prompt = Prompt.of(
            tokenizer, self._net.dims.n_text_ctx, options.initial_prompt, options.hotwords
        )
        n_samples = context_samples(windows, options)
        features = self._features(windows, n_samples)
        if stop():
            return [WindowResult(()) for _ in windows]
        decoder = Decoder(self._net, tokenizer, prompt)
        decoded = decoder.decode(features, options.temperatures[0], stop)
        if stop():
            return [WindowResult(()) for _ in windows]
        heard = self._heard(
            [mx.concatenate(list(one.attention)) for one in decoded],
            [(one.tokens, one.log_probs) for one in decoded],
            windows,
            [tokenizer] * len(windows),
        )
        return [
            _result(window, one, found, options)
            for window, one, found in zip(windows, decoded, heard, strict=True)
        ]

    def _features(self, windows: Sequence[Samples], n_samples: int = N_SAMPLES) -> mx.array:
        """The audio features of the windows; those of windows seen before are not made again.

        Nor kept, where the windows are filled up to less than 30 s: nobody asks for them again.
        """
        if n_samples < N_SAMPLES:
            features = self._encode([self._mel(window, n_samples) for window in windows])
            mx.eval(features)
            return features
        found = [self._encoded.of(window) for window in windows]
        new = [window for window, row in zip(windows, found, strict=True) if row is None]
        if new:
            encoded = self._encode([self._mel(window) for window in new])
            # each row a copy: one that stays would keep its whole batch
            rows = [mx.take(encoded, mx.array(row), axis=0) for row in range(len(new))]
            mx.eval(*rows)
            for window, row in zip(new, rows, strict=True):
                self._encoded.keep(window, row)
            made = iter(rows)
            found = [next(made) if row is None else row for row in found]
        features = mx.stack(found)
        mx.eval(features)
        return features

    def _mel(self, samples: Samples, n_samples: int = N_SAMPLES) -> mx.array:
        """Log-mel features, (n_samples / 160, n_mels), of a window filled up with silence."""
        padded = np.zeros(n_samples, np.float32)
        padded[: len(samples)] = samples[:n_samples]
        mel = log_mel_spectrogram(padded, n_mels=self._net.dims.n_mels)
        mx.eval(mel)
        return mel

    def _encode(self, mels: Sequence[mx.array]) -> mx.array:
        """The audio features (rows, positions, n_audio_state) of mels."""
        return self._net.encode(mels)

    def _heard(
        self,
        attention: Sequence[mx.array],
        texts: Sequence[tuple[Sequence[int], Sequence[float]]],
        windows: Sequence[Samples],
        tokenizers: Sequence[Tokenizer],
    ) -> list[list[Piece]]:
        """The words of each text, its tokens and their log probabilities, with their times."""
        matrices = [
            words.matrix(one, len(tokenizer.sot_sequence), -(-len(window) // N_POSITION_SAMPLES))
            for one, window, tokenizer in zip(attention, windows, tokenizers, strict=True)
        ]
        mx.eval(*matrices)
        return [
            words.timed(*text, words.onsets(-np.asarray(matrix)), tokenizer)
            for text, matrix, tokenizer in zip(texts, matrices, tokenizers, strict=True)
        ]

    # -- the other methods

    def _detect_language(self, samples: Sequence[Samples]) -> list[Mapping[str, float]]:
        if not self._multilingual:
            return [{"en": 1.0} for _ in samples]
        features = self._features(samples)
        tokenizer = self._tokenizer("en", "transcribe")
        hidden, _ = self._net.decode(
            mx.full((len(samples), 1), tokenizer.sot, dtype=mx.int32),
            0,
            self._net.caches(features),
        )
        first = tokenizer.sot + 1  # the languages follow it in the order of their list
        logits = self._net.logits(hidden[:, 0])[:, first : first + len(self._codes)]
        tags = [bcp47(code) for code in self._codes]
        allowed = mx.array([0.0 if tag in self.languages else -np.inf for tag in tags])
        rows: list[list[float]] = mx.softmax(logits + allowed, axis=-1).tolist()  # type: ignore[assignment] - rows
        return [
            {tag: p for tag, p in zip(tags, row, strict=True) if tag in self.languages}
            for row in rows
        ]

    def _align(self, requests: Sequence[AlignmentRequest]) -> list[tuple[Word, ...]]:
        for request in requests:
            if whisper_code(request.language) not in self._codes:
                raise UnsupportedError(
                    f"the model {self.ref.id!r} does not know the language {request.language!r}"
                )
        windows = [request.samples for request in requests]
        tokenizers = [self._tokenizer(request.language, "transcribe") for request in requests]
        n_before = len(tokenizers[0].sot_sequence) + 1  # tokens of the task, and no_timestamps
        texts = [
            tokenizer.encode(" " + " ".join(request.text.split()))[
                : self._net.dims.n_text_ctx - n_before
            ]
            for request, tokenizer in zip(requests, tokenizers, strict=True)
        ]
        n_tokens = max(map(len, texts))
        tokens = [
            [*one.sot_sequence, one.no_timestamps, *text, *[one.eot] * (n_tokens - len(text))]
            for one, text in zip(tokenizers, texts, strict=True)
        ]
        hidden, attention = self._net.decode(
            mx.array(tokens), 0, self._net.caches(self._features(windows))
        )
        n_known = [n_before + len(text) for text in texts]
        log_probs = [
            self._log_probs(hidden[row, n_before - 1 : n_known[row] - 1], text)
            for row, text in enumerate(texts)
        ]
        heard = self._heard(
            [attention[row, :n] for row, n in enumerate(n_known)],
            list(zip(texts, log_probs, strict=True)),
            windows,
            tokenizers,
        )
        return [
            _aligned(request.samples, found) if request.text.strip() else ()
            for request, found in zip(requests, heard, strict=True)
        ]

    def _log_probs(self, hidden: mx.array, tokens: Sequence[int]) -> list[float]:
        """The log probability of each token after the hidden state before it."""
        logits = self._net.logits(hidden)
        chosen = mx.take_along_axis(logits, mx.array(list(tokens))[:, None], axis=-1)[:, 0]
        found: Any = (chosen - logits.logsumexp(axis=-1)).tolist()
        return found

    # -- parts

    @property
    def _net(self) -> Network:
        if self._network is None:
            raise EngineError(f"the model {self.ref.id!r} has been unloaded")
        return self._network

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        code = whisper_code(language)
        return get_tokenizer(
            self._multilingual,
            num_languages=len(self._codes),
            language=code if self._multilingual else None,
            task=task if self._multilingual else None,
        )

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        """Raises MLX's failures in the block as OutOfMemoryError and EngineError."""

        def free_memory() -> None:
            self._encoded.clear()
            mx.clear_cache()

        return engine_errors("the recogniser", free_memory)


def _result(
    window: Samples, decoded: Decoded, heard: Sequence[Piece], options: DecodingOptions
) -> WindowResult:
    """The window's segments, with their words where they are wanted."""

    def timed(piece: Piece, attended: Sequence[Piece]) -> TimesAndWords:
        start_s, end_s = piece.start_s, piece.end_s
        wanted = attended if options.word_timestamps else ()
        return start_s, end_s, words.within(wanted, start_s, end_s)

    return window_result(window, decoded, heard, options, timed)


def _aligned(samples: Samples, heard: Sequence[Piece]) -> tuple[Word, ...]:
    """The words without the silence that the attention gives them."""
    groups = grouped(heard, sounding(samples))
    spoken = [word for group in groups for word in group]
    return words.within(spoken, 0.0, len(samples) / SAMPLE_RATE)


class _Encoded:
    """The audio features of the windows that were encoded last, for as long as those are in use.

    A window comes again to be decoded at another temperature, and once its language is told; the
    encoder is most of the work for a large model with a small decoder, and on a processor.
    """

    def __init__(self, n_windows: int) -> None:
        self._n_windows = n_windows
        self._features: dict[int, tuple[weakref.ref[Samples], mx.array]] = {}

    def of(self, window: Samples) -> mx.array | None:
        """Its features, (1500, n_audio_state), if they are still there."""
        known, features = self._features.get(id(window), (None, None))
        return features if known is not None and known() is window else None

    def keep(self, window: Samples, features: mx.array) -> None:
        """Keeps the features of a window, and drops those of the oldest ones, and of gone ones."""
        self._features = {k: v for k, v in self._features.items() if v[0]() is not None}
        self._features[id(window)] = (weakref.ref(window), features)
        while len(self._features) > self._n_windows:
            del self._features[next(iter(self._features))]

    def clear(self) -> None:
        """Drops all of them."""
        self._features.clear()
