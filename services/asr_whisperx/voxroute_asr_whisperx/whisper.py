# pyright: basic
"""A Whisper model in WhisperX's pipeline, run on windows that voice activity has already cut.

WhisperX's own loop decodes each window once, greedily trusting the result. This one drives the
same parts (its log-mel features, encoder, prompt and CTranslate2 model), and adds what the
pipeline leaves out: timestamps, the temperature fallback, and the figures behind it.
"""

import contextlib
import gc
import io
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from voxroute_asr_whisperx.align import Aligners
from voxroute_asr_whisperx.memory import engine_error, free_memory
from voxroute_asr_whisperx.models import ModelTraits
from voxroute_asr_whisperx.segments import (
    MAX_SEGMENT_S,
    Piece,
    from_timestamps,
    from_words,
    next_sound_s,
    proportional,
    refine,
    sounding,
    tidy,
    within_sound,
)
from voxroute_serving.engine import (
    SAMPLE_RATE,
    AlignmentRequest,
    DecodingOptions,
    IgnoredOption,
    ModelRef,
    Samples,
    Stop,
    WindowResult,
    WindowSegment,
    Word,
)
from voxroute_serving.errors import OutOfMemoryError
from voxroute_serving.whisper_names import bcp47, whisper_code

# pyannote.audio, which whisperx imports for a voice activity model that is not used here, warns
# about codecs that are not used either.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ctranslate2
    import torch
    import whisperx.asr
    import whisperx.vads
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import TranscriptionOptions, get_compression_ratio

# whisperx gives its logger a handler on stdout; its lines belong into the service's log.
_whisperx_log = logging.getLogger("whisperx")
_whisperx_log.handlers.clear()
_whisperx_log.propagate = True
_whisperx_log.setLevel(logging.WARNING)

FRAMES_PER_S = 100  # mel frames; one for each hop of 160 samples
MAX_PROMPT_TOKENS = 223  # half of Whisper's 448 positions, less the token that opens the prompt
BEST_OF = 5  # samples drawn at a temperature above zero, as in whisperx and faster-whisper
SEED = 0  # of the samples drawn for a window, whichever it is


class _NoVad(whisperx.vads.Vad):
    """Stands where load_model would load a model of its own: windows come here cut already."""

    def __init__(self) -> None:
        super().__init__(vad_onset=0.5)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One decoding of one window."""

    tokens: Sequence[int]
    text: str
    temperature: float
    avg_log_prob: float
    no_speech_prob: float
    compression_ratio: float
    is_cut_off: bool
    """Whether the tokens end at the limit rather than at the end of the text."""

    def is_silent(self, options: DecodingOptions) -> bool:
        """Probably no speech, and the text is a guess."""
        return (
            options.no_speech_threshold is not None
            and options.log_prob_threshold is not None
            and self.no_speech_prob > options.no_speech_threshold
            and self.avg_log_prob < options.log_prob_threshold
        )

    def is_repetitive(self, options: DecodingOptions) -> bool:
        limit = options.compression_ratio_threshold
        return limit is not None and self.compression_ratio > limit

    def fails(self, options: DecodingOptions) -> bool:
        """Whether the next temperature is to be tried: openai/whisper's decode_with_fallback."""
        if self.is_silent(options):
            return False
        limit = options.log_prob_threshold
        return self.is_repetitive(options) or (limit is not None and self.avg_log_prob < limit)


class WhisperXModel:
    """An AsrModel on WhisperX; see voxroute_serving.engine for what its methods promise."""

    def __init__(
        self,
        ref: ModelRef,
        directory: Path,
        traits: ModelTraits,
        *,
        device: str,
        compute_type: str,
        cpu_threads: int,
        max_batch: int,
        aligners: Aligners,
    ) -> None:
        self.ref = ref
        self.languages = traits.languages
        self.max_batch = max_batch
        self.memory_bytes = 0  # whoever loads it knows
        self._traits = traits
        self._aligners = aligners
        self._device = device
        self._directory = directory
        self._cpu_threads = cpu_threads
        self._has_drawn = False  # random numbers, since the model's thread began
        with contextlib.redirect_stdout(io.StringIO()):  # load_model prints about its VAD
            self._pipeline: Any = whisperx.asr.load_model(
                str(directory),
                device,
                compute_type=compute_type,
                vad_model=_NoVad(),
                local_files_only=True,
                threads=cpu_threads,
            )
        self._whisper: Any = self._pipeline.model  # whisperx.asr.WhisperModel
        self._defaults: TranscriptionOptions = self._pipeline.options

    @property
    def compute_type(self) -> str:
        """The numeric type that CTranslate2 chose."""
        return str(self._whisper.model.compute_type)

    def effective_options(
        self, options: DecodingOptions
    ) -> tuple[DecodingOptions, tuple[IgnoredOption, ...]]:
        """The options with whisperx's defaults filled in, and those that cannot be honoured."""
        ignored: list[IgnoredOption] = []
        task, word_timestamps = options.task, options.word_timestamps
        if task not in self._traits.tasks:
            reason = f"the model {self.ref.id!r} was not trained to translate; it transcribes"
            ignored.append(IgnoredOption("task", reason))
            task = "transcribe"
        if word_timestamps and task == "translate":
            reason = "the words of a translation are not the words that are heard"
            ignored.append(IgnoredOption("word_timestamps", reason))
            word_timestamps = False
        elif word_timestamps and options.language and not self._aligners.has(options.language):
            reason = f"there is no alignment model for language {options.language!r}"
            ignored.append(IgnoredOption("word_timestamps", reason))
            word_timestamps = False
        defaults = self._defaults
        effective = replace(
            options,
            task=task,
            word_timestamps=word_timestamps,
            beam_size=_given(options.beam_size, defaults.beam_size),
            temperatures=options.temperatures or tuple(defaults.temperatures),
            compression_ratio_threshold=_given(
                options.compression_ratio_threshold, defaults.compression_ratio_threshold
            ),
            log_prob_threshold=_given(options.log_prob_threshold, defaults.log_prob_threshold),
            no_speech_threshold=_given(options.no_speech_threshold, defaults.no_speech_threshold),
        )
        return effective, tuple(ignored)

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
        if not self._whisper.model.is_multilingual or len(self.languages) == 1:
            return [{self.languages[0]: 1.0} for _ in windows]
        with self._errors_of("the recogniser"):
            found = self._whisper.model.detect_language(self._encode(self._features(windows)))
            return [self._of_model(dict(probabilities)) for probabilities in found]

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
        if self._whisper is not None:
            self._whisper.model.unload_model()
        self._pipeline = self._whisper = None
        self._aligners.close()
        gc.collect()

    @contextlib.contextmanager
    def _errors_of(self, what: str) -> Iterator[None]:
        """Raises the failures of the libraries in the block as errors of the service."""
        try:
            yield
        except Exception as error:
            mapped = engine_error(error, what)
            if isinstance(mapped, OutOfMemoryError):
                free_memory(self._device)
            if mapped is error:
                raise
            raise mapped from error

    # --- one batch ---------------------------------------------------------------------------

    def _transcribe(
        self, windows: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> list[WindowResult]:
        """1. features  2. decode with fallback  3. text to segments  4. words  5. the rest.

        Half of Whisper's context holds 224 tokens, which half a minute of fast Hindi exceeds. What
        comes after the last finished segment is then decoded again as a window of its own, as
        openai/whisper does; WhisperX drops it.
        """
        features = self._features(windows)
        tokenizer = Tokenizer(
            self._whisper.hf_tokenizer,
            self._whisper.model.is_multilingual,
            task=options.task,
            language=whisper_code(options.language),
        )
        decoded = self._decode(features, tokenizer, options, stop, self._traits.timestamps)
        if stop():
            return [WindowResult(()) for _ in windows]
        pieces: dict[int, list[Piece]] = {}
        for index, window in enumerate(windows):
            found = self._marked(decoded[index], tokenizer, len(window) / SAMPLE_RATE, options)
            if found is not None:
                pieces[index] = found
        unmarked = [index for index in range(len(windows)) if index not in pieces]
        if unmarked and self._traits.timestamps:
            # a model that writes no timestamps was trained without them, as whisperx decodes
            again = self._decode(features[unmarked], tokenizer, options, stop, timestamps=False)
            decoded = {**decoded, **dict(zip(unmarked, again.values(), strict=True))}
        rests = {
            index: rest_s
            for index, window in enumerate(windows)
            if decoded[index].is_cut_off
            and pieces.get(index)
            # a pause in front would hide the start: the first timestamp is at most 1.00
            and (rest_s := next_sound_s(window, pieces[index][-1].end_s)) is not None
        }
        self._time_words(pieces, windows, features, decoded, tokenizer)
        results = [
            self._result(window, decoded[index], pieces[index], options, stop)
            for index, window in enumerate(windows)
        ]
        if rests and not stop():
            again = self._transcribe(
                [windows[index][round(rest_s * SAMPLE_RATE) :] for index, rest_s in rests.items()],
                options,
                stop,
            )
            for (index, rest_s), rest in zip(rests.items(), again, strict=True):
                results[index] = results[index].followed_by(rest, rest_s)
        return results

    def _features(self, windows: Sequence[Samples]) -> "torch.Tensor":
        """Log-mel features by whisperx, shape (windows, mels, 3000)."""
        return torch.stack(
            [
                self._pipeline.preprocess({"inputs": np.ascontiguousarray(window)})["inputs"]
                for window in windows
            ]
        )

    def _encode(self, features: "torch.Tensor") -> Any:
        return self._whisper.encode(features)

    def _decode(
        self,
        features: "torch.Tensor",
        tokenizer: Tokenizer,
        options: DecodingOptions,
        stop: Stop,
        timestamps: bool,  # noqa: FBT001 - the last of a private method's
    ) -> dict[int, _Decoded]:
        """Each window's decoding by its index; what fails is decoded at the next temperature.

        1. all windows at the temperatures of zero with which the list begins;
        2. each window that fails at the others, alone: it is encoded again (CTranslate2 has no way
           to take rows out of a batch on every device), and its samples are drawn from random
           numbers that begin anew, so that they depend on nothing but the window.
        """
        prompt = self._prompt(tokenizer, options, timestamps=timestamps)

        def attempt(encoded: Any, n_windows: int, temperature: float) -> list[_Decoded]:
            results = self._generate(encoded, [prompt] * n_windows, options, temperature)
            return [
                self._measured(result, tokenizer, temperature, len(prompt)) for result in results
            ]

        tried: list[list[_Decoded]] = [[] for _ in features]
        cold = options.temperatures[:1] if options.temperatures[0] == 0 else ()
        for temperature in cold:
            tried = [[one] for one in attempt(self._encode(features), len(features), temperature)]
        for index, attempts in enumerate(tried):
            if attempts and (stop() or not attempts[-1].fails(options)):
                continue
            warm = options.temperatures[len(cold) :]
            if warm:
                self._draw_anew()
                encoded = self._encode(features[[index]])
            for temperature in warm:
                attempts.extend(attempt(encoded, 1, temperature))
                if stop() or not attempts[-1].fails(options):
                    break
        return {index: _best(attempts, options) for index, attempts in enumerate(tried)}

    def _draw_anew(self) -> None:
        """Lets the random numbers of the next samples begin anew.

        CTranslate2 4.8 seeds them once for each of a model's worker threads, which end with the
        model (src/random.cc); set_random_seed does not reach a thread that has drawn. So the model
        is read again; the files are in the system's cache.
        """
        if self._has_drawn:
            before, compute_type = self._whisper.model, self.compute_type
            before.unload_model()
            try:
                self._whisper.model = ctranslate2.models.Whisper(
                    str(self._directory),
                    device=self._device,
                    compute_type=compute_type,
                    intra_threads=self._cpu_threads,
                )
            except BaseException:
                before.load_model()
                raise
        ctranslate2.set_random_seed(SEED)
        self._has_drawn = True

    def _prompt(
        self, tokenizer: Tokenizer, options: DecodingOptions, *, timestamps: bool
    ) -> list[int]:
        """Start tokens after the initial prompt and hotwords, whose tokens share half the context.

        faster-whisper gives each of them that half, which leaves no place for the answer.
        """
        text = options.initial_prompt.strip()
        previous = tokenizer.encode(" " + text)[-MAX_PROMPT_TOKENS:] if text else []
        room = MAX_PROMPT_TOKENS - len(previous)
        words: list[str] = []
        for word in filter(None, map(str.strip, options.hotwords)):
            # Whisper's tokens never reach over a blank, so the words' numbers of tokens add up
            room -= len(tokenizer.encode(" " + word))
            if room < 0:
                break
            words.append(word)
        return self._whisper.get_prompt(
            tokenizer, previous, without_timestamps=not timestamps, hotwords=" ".join(words) or None
        )

    def _generate(
        self,
        encoded: Any,
        prompts: list[list[int]],
        options: DecodingOptions,
        temperature: float,
    ) -> Any:
        """CTranslate2's results, decoded with whisperx's settings."""
        search: dict[str, Any] = (
            {"beam_size": options.beam_size, "patience": self._defaults.patience}
            if temperature == 0
            else {
                "beam_size": 1,
                "num_hypotheses": BEST_OF,
                "sampling_topk": 0,
                "sampling_temperature": temperature,
            }
        )
        return self._whisper.model.generate(
            encoded,
            prompts,
            length_penalty=self._defaults.length_penalty,
            repetition_penalty=self._defaults.repetition_penalty,
            no_repeat_ngram_size=self._defaults.no_repeat_ngram_size,
            max_length=self._whisper.max_length,
            suppress_blank=self._defaults.suppress_blank,
            suppress_tokens=self._defaults.suppress_tokens,
            return_scores=True,
            return_no_speech_prob=True,
            **search,
        )

    def _measured(
        self, result: Any, tokenizer: Tokenizer, temperature: float, n_prompt: int
    ) -> _Decoded:
        """A result of CTranslate2 with the figures that decide about a fallback."""
        tokens = result.sequences_ids[0]
        text = tokenizer.decode(tokens).strip()
        total = result.scores[0] * len(tokens) ** self._defaults.length_penalty
        return _Decoded(
            tokens=tokens,
            text=text,
            temperature=temperature,
            # the end token counts, as in openai/whisper
            avg_log_prob=min(0.0, total / (len(tokens) + 1)),
            no_speech_prob=result.no_speech_prob,
            compression_ratio=get_compression_ratio(text),
            # CTranslate2 4.8 stops at half of max_length, or where the prompt leaves less
            is_cut_off=len(tokens)
            >= min(self._whisper.max_length // 2, self._whisper.max_length - n_prompt),
        )

    # --- text to segments --------------------------------------------------------------------

    def _marked(
        self, decoded: _Decoded, tokenizer: Tokenizer, duration_s: float, options: DecodingOptions
    ) -> list[Piece] | None:
        """The segments that the window's own tokens mark; None where they mark none."""
        if decoded.is_silent(options) or not decoded.text:
            return []
        if not self._traits.timestamps:
            return None
        return from_timestamps(
            decoded.tokens,
            timestamp_begin=tokenizer.timestamp_begin,
            decode=tokenizer.decode,
            duration_s=duration_s,
            is_cut_off=decoded.is_cut_off,
        )

    def _time_words(
        self,
        pieces: dict[int, list[Piece]],
        windows: Sequence[Samples],
        features: "torch.Tensor",
        decoded: Mapping[int, _Decoded],
        tokenizer: Tokenizer,
    ) -> None:
        """Gives segments to windows without marks, and cuts those that are too long.

        By the times of the words in the model's cross-attention, and where that fails by the
        share of the text in the sound. Changes `pieces`.
        """
        needy = [
            index
            for index in range(len(windows))
            if index not in pieces
            or any(piece.end_s - piece.start_s > MAX_SEGMENT_S for piece in pieces[index])
        ]
        if not needy:
            return
        words_of = self._attended(
            features[needy],
            [[t for t in decoded[index].tokens if t < tokenizer.eot] for index in needy],
            [len(windows[index]) / SAMPLE_RATE for index in needy],
            tokenizer,
        )
        for index, attended in zip(needy, words_of, strict=True):
            sound = sounding(windows[index])
            duration_s = len(windows[index]) / SAMPLE_RATE
            words = [within_sound(word, sound) for word in attended]
            if index in pieces:
                pieces[index] = refine(pieces[index], words, sound)
            elif words:
                pieces[index] = from_words(words)
            else:
                pieces[index] = proportional(decoded[index].text, sound, duration_s)

    def _attended(
        self,
        features: "torch.Tensor",
        tokens: list[list[int]],
        durations_s: Sequence[float],
        tokenizer: Tokenizer,
    ) -> list[list[Piece]]:
        """For each window its words with the times at which the decoder attends to them."""
        frames = [max(2, math.ceil(duration_s * FRAMES_PER_S)) for duration_s in durations_s]
        try:
            found = self._whisper.find_alignment(tokenizer, tokens, self._encode(features), frames)
        except (IndexError, ValueError) as error:
            # without its message, which may quote the text
            _whisperx_log.warning(
                "no word times from the cross-attention: %s", type(error).__name__
            )
            return [[] for _ in tokens]
        return [
            [Piece(float(word["start"]), float(word["end"]), word["word"]) for word in words]
            for words in found
        ]

    def _result(
        self,
        window: Samples,
        decoded: _Decoded,
        pieces: Sequence[Piece],
        options: DecodingOptions,
        stop: Stop,
    ) -> WindowResult:
        """The window's segments, with their words where they are wanted."""
        duration_s = len(window) / SAMPLE_RATE
        segments: list[WindowSegment] = []
        unaligned = 0
        for piece in tidy(pieces, duration_s):
            words: tuple[Word, ...] = ()
            start_s, end_s = piece.start_s, piece.end_s
            if options.word_timestamps and not stop():
                words = self._aligners.words(
                    window, piece.text, options.language, start_s=start_s, end_s=end_s
                )
                unaligned += not words
            if words and words[-1].end_s > words[0].start_s:
                # the aligner hears where the words begin and end to 20 ms, as whisperx takes it
                start_s, end_s = words[0].start_s, words[-1].end_s
            segments.append(
                WindowSegment(
                    start_s,
                    end_s,
                    piece.text,
                    words,
                    avg_log_prob=decoded.avg_log_prob,
                    no_speech_prob=decoded.no_speech_prob,
                    compression_ratio=decoded.compression_ratio,
                    temperature=decoded.temperature,
                )
            )
        warning = (
            "ALIGNMENT_FAILED",
            f"{unaligned} of {len(segments)} segments could not be aligned; they have no words",
        )
        return WindowResult(tuple(segments), (warning,) if unaligned else ())

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


def _best(attempts: Sequence[_Decoded], options: DecodingOptions) -> _Decoded:
    """The last attempt where it passes, else the likeliest of those that do not repeat."""
    if not attempts[-1].fails(options):
        return attempts[-1]
    sound = [one for one in attempts if not one.is_repetitive(options)]
    return max(sound or attempts, key=lambda one: one.avg_log_prob)


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
