# pyright: basic
"""A Whisper model of WhisperX's engine, run on windows that voice activity has already cut.

It writes no timestamp tokens (with CTranslate2 on a GPU they take three times as long, and whole
seconds is all that they tell), and takes the time of each word from the decoder's attention to the
audio. WhisperX's own modules, which take seconds to import, are needed for `align` alone.
"""

import contextlib
import gc
import itertools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import (
    get_compression_ratio,
    get_suppressed_tokens,
    merge_punctuations,
)

from voxroute_asr_whisperx.align import Aligners
from voxroute_asr_whisperx.memory import free_memory
from voxroute_asr_whisperx.runtimes.runtime import (
    MAX_POSITIONS,
    MAX_TOKENS,
    Alignment,
    Generation,
    Runtime,
    Search,
)
from voxroute_serving.asr.engine import AlignmentRequest, DecodingOptions, WindowResult, Word
from voxroute_serving.asr.text.segments import Piece
from voxroute_serving.asr.whisper.decoding import (
    APPENDED,
    PREPENDED,
    Decoded,
    TimesAndWords,
    context_samples,
    effective_options,
    window_result,
)
from voxroute_serving.asr.whisper.family import bcp47, whisper_code
from voxroute_serving.asr.whisper.files import ModelTraits
from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, SAMPLE_RATE, Samples
from voxroute_serving.device.failures import engine_errors
from voxroute_serving.domain import IgnoredOption, ModelRef, Stop

FRAMES_PER_S = 100
POSITIONS_PER_S = 50  # of the encoder's output
MAX_PROMPT_TOKENS = 223  # half of them, less the token that opens the prompt
TEMPERATURES = (0.0, 0.2)
BEAM_SIZE = 5
_WARM_UP_FRAMES = 20
_WARM_UP_TOKENS = 8


class WhisperXModel:
    """An AsrModel; see voxroute_serving.asr.engine for what its methods promise.

    Batches go to the runtime, one of each device, that has the fewest.
    """

    def __init__(
        self,
        ref: ModelRef,
        directory: Path,
        traits: ModelTraits,
        runtimes: Sequence[Runtime],
        *,
        device: str,
        aligners: Aligners,
    ) -> None:
        """`directory` is that of a CTranslate2 model."""
        self.ref = ref
        self.languages = traits.languages
        self.keeps_pauses = traits.keeps_pauses
        self.max_batch = min(one.max_batch for one in runtimes)
        self.memory_bytes = 0  # whoever loads it knows
        self.workers = sum(one.workers for one in runtimes)
        self._traits = traits
        self._aligners = aligners
        self._device = device
        self._runtimes = list(runtimes)
        self._vocabulary = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._busy = [0] * len(runtimes)  # batches on each
        self._lock = threading.Lock()

    @property
    def compute_type(self) -> str:
        """The numeric type of the weights."""
        return self._any.compute_type

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """The options with the defaults filled in, and those that cannot be honoured."""
        options, ignored = effective_options(
            options, self.ref, self._traits.tasks, beam_size=BEAM_SIZE, temperatures=TEMPERATURES
        )
        if not options.word_timestamps:
            return options, tuple(ignored)
        reason = ""
        if options.task == "translate":
            reason = "the words of a translation are not the words that are heard"
        elif options.language and not self._aligners.has(options.language):
            reason = f"there is no alignment model for language {options.language!r}"
        if reason:
            ignored.append(IgnoredOption("word_timestamps", reason))
            options = replace(options, word_timestamps=False)
        return options, tuple(ignored)

    def warm_up(self, noise: Samples) -> None:
        """Runs all of the model once. Raises as `transcribe`.

        Nothing is compiled for a CPU, where a window would take a second: a fraction of one, and a
        few tokens, show that the model answers.
        """
        options, _ = self.effective_options(DecodingOptions(self.languages[0]))
        if self._device != "cpu" or not self._any.hears_short_contexts:
            self.transcribe([noise], options, lambda: False)
            return
        with self._errors_of("the recogniser"), self._one() as runtime:
            tokenizer = self._tokenizer(options)
            heard = noise[: SAMPLE_RATE * _WARM_UP_FRAMES // FRAMES_PER_S]
            encoded = runtime.encode([heard], len(heard))
            decoded = self._decode(runtime, encoded, tokenizer, options, _WARM_UP_TOKENS)
            self._attended(runtime, encoded, decoded, [heard], tokenizer)

    def transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> Sequence[WindowResult]:
        """One result for each window, in order. Raises OutOfMemoryError, EngineError."""
        options, _ = self.effective_options(options)
        with self._errors_of("the recogniser"):
            return [
                result
                for begin in range(0, len(windows), self.max_batch)
                for result in self._transcribe(
                    windows[begin : begin + self.max_batch], options, stop
                )
            ]

    def detect_language(self, windows: Sequence[Samples]) -> Sequence[Mapping[str, float]]:
        """For each window the probability of each language of the model."""
        if not self._any.is_multilingual or len(self.languages) == 1:
            return [{self.languages[0]: 1.0} for _ in windows]
        with self._errors_of("the recogniser"), self._one() as runtime:
            return self._heard(runtime, runtime.encode(windows))

    def align(self, requests: Sequence[AlignmentRequest]) -> Sequence[tuple[Word, ...]]:
        """The words of each text with their times; none where a text cannot be aligned."""
        with self._errors_of("the aligner"):
            return [
                self._aligners.words(
                    request.samples,
                    request.text,
                    request.language,
                    start_s=0.0,
                    end_s=len(request.samples) / SAMPLE_RATE,
                )
                for request in requests
            ]

    def close(self) -> None:
        """Frees the memory of the device, the aligners' too: no call is open."""
        for runtime in self._runtimes:
            runtime.close()
        self._runtimes = []
        self._aligners.close()
        gc.collect()
        free_memory(self._device)

    @property
    def _any(self) -> Runtime:
        return self._runtimes[0]

    @contextlib.contextmanager
    def _one(self) -> Iterator[Runtime]:
        """That of the device that has the least to do."""
        with self._lock:
            index = self._busy.index(min(self._busy))
            self._busy[index] += 1
        try:
            yield self._runtimes[index]
        finally:
            with self._lock:
                self._busy[index] -= 1

    def _errors_of(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Raises the failures of the libraries in the block as errors of the service."""
        return engine_errors(what, lambda: free_memory(self._device))

    # --- one batch ---------------------------------------------------------------------------

    def _transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> list[WindowResult]:
        """1. text  2. times of its words  3. segments."""
        n_samples = N_WINDOW_SAMPLES
        if self._any.hears_short_contexts:
            n_samples = context_samples(windows, options)
        tokenizer = self._tokenizer(options)
        if stop():
            return [WindowResult(()) for _ in windows]
        with self._one() as runtime:
            encoded = runtime.encode(windows, n_samples)
            decoded = self._decode(runtime, encoded, tokenizer, options)
            times = self._attended(runtime, encoded, decoded, windows, tokenizer)
            heard: Sequence[Mapping[str, float]] = [{}] * len(windows)
            if len(self.languages) > 1 and any(one.may_be_foreign(options) for one in decoded):
                # one step of the decoder for all windows; alone it would be a pass of the encoder
                heard = self._heard(runtime, encoded)
        return [
            replace(self._result(window, one, found, options, stop), heard=languages)
            for window, one, found, languages in zip(windows, decoded, times, heard, strict=True)
        ]

    def _heard(self, runtime: Runtime, encoded: Any) -> list[dict[str, float]]:
        """For each window the probability of each language of the model."""
        return [self._of_model(found) for found in runtime.detect_language(encoded)]

    def _tokenizer(self, options: DecodingOptions) -> Tokenizer:
        return Tokenizer(
            self._vocabulary,
            self._any.is_multilingual,
            task=options.task,
            language=whisper_code(options.language),
        )

    def _decode(
        self,
        runtime: Runtime,
        encoded: Any,
        tokenizer: Tokenizer,
        options: DecodingOptions,
        max_tokens: int = MAX_TOKENS,
    ) -> list[Decoded]:
        """Each window's text at the first temperature."""
        prompt = self._prompt(tokenizer, options)
        temperature = options.temperatures[0]
        search = Search(
            options.beam_size if temperature == 0 and options.beam_size else 1,
            temperature,
            tuple(get_suppressed_tokens(tokenizer, (-1,)) or ()),
            max_tokens,
        )
        return [
            _measured(text, tokenizer, temperature, len(prompt))
            for text in runtime.generate(encoded, prompt, search)
        ]

    def _prompt(self, tokenizer: Tokenizer, options: DecodingOptions) -> list[int]:
        """Start tokens after the initial prompt and hotwords, whose tokens share half the context.

        faster-whisper gives each of them that half, which leaves no place for the answer.
        """
        text = options.initial_prompt.strip()
        previous = tokenizer.encode(" " + text)[-MAX_PROMPT_TOKENS:] if text else []
        room = MAX_PROMPT_TOKENS - len(previous)
        # whole words, as many as there is room for; each is encoded once, and a word takes as many
        # tokens beside others as alone
        tokens: list[int] = []
        for word in options.hotwords:
            more = tokenizer.encode(" " + word.strip()) if word.strip() else []
            if len(tokens) + len(more) > room:
                break
            tokens += more
        before = [tokenizer.sot_prev, *tokens, *previous] if tokens or previous else []
        return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def _attended(
        self,
        runtime: Runtime,
        encoded: Any,
        decoded: Sequence[Decoded],
        windows: Sequence[Samples],
        tokenizer: Tokenizer,
    ) -> list[list[Piece]]:
        """For each window its words with the times at which the decoder attends to them."""
        texts = [[token for token in one.tokens if token < tokenizer.eot] for one in decoded]
        frames = [max(2, math.ceil(len(w) / SAMPLE_RATE * FRAMES_PER_S)) for w in windows]
        found = runtime.align(encoded, tokenizer.sot_sequence, texts, frames)
        return [_timed_words(text, one, tokenizer) for text, one in zip(texts, found, strict=True)]

    # --- text to segments --------------------------------------------------------------------

    def _result(
        self,
        window: Samples,
        decoded: Decoded,
        words: Sequence[Piece],
        options: DecodingOptions,
        stop: Stop,
    ) -> WindowResult:
        """The window's segments, with their words where they are wanted."""
        n_failed = 0

        def timed(piece: Piece, _attended: Sequence[Piece]) -> TimesAndWords:
            nonlocal n_failed
            start_s, end_s = piece.start_s, piece.end_s
            if not options.word_timestamps or stop():
                return start_s, end_s, ()
            aligned = self._aligners.words(
                window, piece.text, options.language, start_s=start_s, end_s=end_s
            )
            n_failed += not aligned
            if aligned and aligned[-1].end_s > aligned[0].start_s:
                # the aligner hears where the words begin and end to 20 ms, as whisperx takes it
                start_s, end_s = aligned[0].start_s, aligned[-1].end_s
            return start_s, end_s, aligned

        result = window_result(window, decoded, words, options, timed)
        if not n_failed:
            return result
        counts = f"{n_failed} of {len(result.segments)} segments"
        warning = f"{counts} could not be aligned; they have no words"
        return replace(result, warnings=(("ALIGNMENT_FAILED", warning),))

    def _of_model(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """Probabilities of the model's own languages, which share what others got."""
        own = {
            bcp47(token): probability
            for token, probability in probabilities.items()
            if bcp47(token) in self.languages
        }
        total = sum(own.values())
        if not total:
            return dict.fromkeys(self.languages, 1 / len(self.languages))
        return {language: probability / total for language, probability in own.items()}


def _measured(
    found: Generation, tokenizer: Tokenizer, temperature: float, n_prompt: int
) -> Decoded:
    """A text with the figures that decide about a fallback."""
    tokens = found.tokens
    text = tokenizer.decode([token for token in tokens if token < tokenizer.eot]).strip()
    return Decoded(
        tokens=tokens,
        text=text,
        temperature=temperature,
        # the end token counts, as in openai/whisper
        avg_log_prob=min(0.0, found.mean_log_prob * len(tokens) / (len(tokens) + 1)),
        no_speech_prob=found.no_speech_prob,
        compression_ratio=get_compression_ratio(text) if text else 0.0,
        is_cut_off=len(tokens) >= min(MAX_TOKENS, MAX_POSITIONS - n_prompt),
    )


def _timed_words(tokens: list[int], alignment: Alignment, tokenizer: Tokenizer) -> list[Piece]:
    """The words of a text by where its tokens begin in the audio.

    The text of a word carries its blank, and the marks around it, whose time is none of the
    word's: the decoder attends to a full stop all through the pause after it.
    """
    words, word_tokens = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    if len(word_tokens) <= 1 or not alignment.begins:
        return []
    begin_s = np.array(alignment.begins) / POSITIONS_PER_S
    probabilities = alignment.probabilities
    bounds = np.minimum(np.cumsum([0, *map(len, word_tokens[:-1])]), len(begin_s) - 1)
    timed = [
        {
            "word": word,
            "tokens": part,
            "start": float(begin_s[first]),
            "end": float(begin_s[last]),
        }
        for word, part, (first, last) in zip(
            words, word_tokens, itertools.pairwise(bounds), strict=False
        )
    ]
    merge_punctuations(timed, PREPENDED, APPENDED)
    pieces: list[Piece] = []
    n_tokens = 0
    for one in timed:
        of_word = probabilities[n_tokens : n_tokens + len(one["tokens"])]
        n_tokens += len(one["tokens"])
        if one["word"]:
            confidence = float(np.mean(of_word)) if of_word else None
            pieces.append(Piece(one["start"], one["end"], one["word"], confidence))
    return pieces
