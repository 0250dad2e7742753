# pyright: basic
"""A Whisper model on MLX as an AsrModel: windows to segments. Imports mlx and mlx_whisper."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_whisper.audio import HOP_LENGTH, N_FRAMES, N_SAMPLES, log_mel_spectrogram
from mlx_whisper.tokenizer import LANGUAGES, Tokenizer, get_tokenizer

from voxroute_asr_mlx import convert, words
from voxroute_asr_mlx.decoding import Decoded, Decoder, Prompt
from voxroute_asr_mlx.hardware import (
    FLOAT_TYPES,
    QUANTIZED_BITS,
    activations,
)
from voxroute_asr_mlx.memory import is_out_of_memory
from voxroute_asr_mlx.models import traits_of
from voxroute_asr_mlx.network import Network
from voxroute_asr_mlx.segments import TOKEN_S, TokenSegment, split, within
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
from voxroute_serving.errors import EngineError, OutOfMemoryError, ServingError, UnsupportedError
from voxroute_serving.host import usable_processors
from voxroute_serving.whisper_names import bcp47, whisper_code

# openai-whisper's defaults
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPRESSION_RATIO_THRESHOLD = 2.4
LOG_PROB_THRESHOLD = -1.0
NO_SPEECH_THRESHOLD = 0.6

FRAME_S = HOP_LENGTH / SAMPLE_RATE  # s; 0.01, one mel frame
FRAMES_PER_TOKEN = round(TOKEN_S / FRAME_S)  # 2 mel frames are one position of the encoder
MEL_RANGE = 2.0  # the mel's lowest value below its highest: 80 dB as Whisper scales them
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # as in mlx_whisper.tokenizer
MAX_ROUNDS = 16  # times a window is decoded again from its last timestamp


@dataclass(slots=True)
class _Window:
    """A window on its way: what has been decoded and from where it goes on."""

    mel: mx.array
    """(3000, n_mels), silence after the audio."""
    n_frames: int
    """Mel frames with audio."""
    duration_s: float
    seek: int = 0
    """The mel frame from which the window is still to be decoded."""
    segments: list[WindowSegment] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.seek >= self.n_frames

    def rest(self) -> mx.array:
        """The mel from `seek` on, with silence after it."""
        if self.seek == 0:
            return self.mel
        silence = mx.full((self.seek, self.mel.shape[1]), self.mel.max() - MEL_RANGE)
        return mx.concatenate([self.mel[self.seek :], silence])


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
        self._tasks = traits.tasks
        self._multilingual = model.is_multilingual
        self._network: Network | None = Network(model)
        n_streams = (cpu_threads or usable_processors()) if device == "cpu" else 1
        self._streams = [mx.default_stream(mx.default_device())] + [
            mx.new_stream(mx.default_device()) for _ in range(n_streams - 1)
        ]

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
        if options.task not in self._tasks:
            ignored.append(
                IgnoredOption("task", f"the model {self.ref.id!r} does not translate speech")
            )
            options = replace(options, task="transcribe")
        return (
            replace(
                options,
                beam_size=1,
                temperatures=options.temperatures or TEMPERATURES,
                compression_ratio_threshold=_or(
                    options.compression_ratio_threshold, COMPRESSION_RATIO_THRESHOLD
                ),
                log_prob_threshold=_or(options.log_prob_threshold, LOG_PROB_THRESHOLD),
                no_speech_threshold=_or(options.no_speech_threshold, NO_SPEECH_THRESHOLD),
            ),
            tuple(ignored),
        )

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
        self._streams = []
        mx.clear_cache()

    # -- transcription

    def _transcribe(
        self, samples: Sequence[Samples], options: DecodingOptions, stop: Stop
    ) -> list[WindowResult]:
        tokenizer = self._tokenizer(options.language, options.task)
        prompt = Prompt.of(
            tokenizer, self._net.dims.n_text_ctx, options.initial_prompt, options.hotwords
        )
        decoder = Decoder(self._net, tokenizer, prompt)
        windows = [self._window(one) for one in samples]
        for _ in range(MAX_ROUNDS):
            open_windows = [window for window in windows if not window.done]
            if not open_windows or stop():
                break
            features = self._encode([window.rest() for window in open_windows])
            decoded = self._decode_with_fallback(decoder, features, options, stop)
            if stop():
                break
            for row, window in enumerate(open_windows):
                self._take(window, decoded[row], features[row : row + 1], tokenizer, options)
        return [WindowResult(tuple(window.segments)) for window in windows]

    def _window(self, samples: Samples) -> _Window:
        padded = np.zeros(N_SAMPLES, np.float32)
        padded[: len(samples)] = samples[:N_SAMPLES]
        mel = log_mel_spectrogram(padded, n_mels=self._net.dims.n_mels)
        n_frames = min(N_FRAMES, -(-len(samples) // HOP_LENGTH))
        return _Window(mel, n_frames, len(samples) / SAMPLE_RATE)

    def _encode(self, mels: Sequence[mx.array]) -> mx.array:
        """The audio features of the mels, encoded side by side on the streams."""
        n_lanes = min(len(self._streams), len(mels))
        bounds = [len(mels) * lane // n_lanes for lane in range(n_lanes + 1)]
        mx.eval(*mels)
        parts: list[mx.array] = []
        for lane, stream in enumerate(self._streams[:n_lanes]):
            with mx.stream(stream):
                part = self._net.encode(mx.stack(list(mels[bounds[lane] : bounds[lane + 1]])))
                mx.async_eval(part)
                parts.append(part)
        mx.eval(*parts)
        features = mx.concatenate(parts)
        mx.eval(features)
        return features

    def _decode_with_fallback(
        self, decoder: Decoder, features: mx.array, options: DecodingOptions, stop: Stop
    ) -> list[Decoded]:
        """What each row says, at the first temperature whose result passes the checks.

        Where none does, the likeliest of those that do not repeat themselves, as in faster-whisper:
        openai-whisper keeps the last, which is the most random one.
        """
        n_rows = features.shape[0]
        tried: list[list[Decoded]] = [[] for _ in range(n_rows)]
        chosen: dict[int, Decoded] = {}
        waiting = list(range(n_rows))
        for temperature in options.temperatures:
            rows = features if len(waiting) == n_rows else features[mx.array(waiting)]
            mx.eval(rows)
            results = decoder.decode(rows, temperature, stop, self._streams)
            for row, result in zip(waiting, results, strict=True):
                tried[row].append(result)
                if not _fails(result, options):
                    chosen[row] = result
            waiting = [row for row in waiting if row not in chosen]
            if not waiting or stop():
                break
        for row in waiting:
            calm = [one for one in tried[row] if one.compression_ratio <= _ratio_limit(options)]
            chosen[row] = max(calm or tried[row], key=lambda one: one.avg_log_prob)
        return [chosen[row] for row in range(n_rows)]

    def _take(
        self,
        window: _Window,
        decoded: Decoded,
        features: mx.array,
        tokenizer: Tokenizer,
        options: DecodingOptions,
    ) -> None:
        """Adds what was decoded to the window and moves on in it."""
        offset_s = window.seek * FRAME_S
        if _is_silent(decoded, options):
            window.seek = window.n_frames
            return
        parts = split(
            decoded.tokens,
            timestamp_begin=tokenizer.timestamp_begin,
            end_of_text=tokenizer.eot,
            start_s=offset_s,
            duration_s=window.duration_s - offset_s,
        )
        texts = [tokenizer.decode(list(part.tokens)).strip() for part in parts.segments]
        kept = [
            (part, text)
            for part, text in zip(parts.segments, texts, strict=True)
            if text and part.end_s > part.start_s
        ]
        segments = [part for part, _ in kept]
        timed = (
            self._timed(window, segments, features, tokenizer)
            if options.word_timestamps
            else self._untimed(window, segments)
        )
        for (_, text), segment in zip(kept, timed, strict=True):
            window.segments.append(
                WindowSegment(
                    start_s=segment.start_s,
                    end_s=segment.end_s,
                    text=text,
                    words=segment.words,
                    avg_log_prob=decoded.avg_log_prob,
                    no_speech_prob=decoded.no_speech_prob,
                    compression_ratio=decoded.compression_ratio,
                    temperature=decoded.temperature,
                )
            )
        rest_s = parts.rest_from_s
        window.seek = window.n_frames if rest_s is None else round(rest_s / FRAME_S)

    def _untimed(
        self, window: _Window, segments: Sequence[TokenSegment]
    ) -> list[words.TimedSegment]:
        timed: list[words.TimedSegment] = []
        earliest_s = window.segments[-1].end_s if window.segments else 0.0
        for segment in segments:
            start_s, end_s = within(
                segment.start_s, segment.end_s, earliest_s=earliest_s, duration_s=window.duration_s
            )
            timed.append(words.TimedSegment(start_s, end_s, ()))
            earliest_s = end_s
        return timed

    def _timed(
        self,
        window: _Window,
        segments: Sequence[TokenSegment],
        features: mx.array,
        tokenizer: Tokenizer,
    ) -> list[words.TimedSegment]:
        tokens = [token for segment in segments for token in segment.tokens]
        n_positions = (window.n_frames - window.seek) // FRAMES_PER_TOKEN
        timings = words.align(self._net.model, tokenizer, features, tokens, n_positions)
        return words.assign(
            segments,
            timings,
            offset_s=window.seek * FRAME_S,
            earliest_s=window.segments[-1].end_s if window.segments else 0.0,
            duration_s=window.duration_s,
            spaced=tokenizer.language not in UNSPACED,
        )

    # -- the other methods

    def _detect_language(self, samples: Sequence[Samples]) -> list[Mapping[str, float]]:
        if not self._multilingual:
            return [{"en": 1.0} for _ in samples]
        features = self._encode([self._window(one).mel for one in samples])
        tokenizer = self._tokenizer("en", "transcribe")
        hidden = self._net.decode(
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
        windows = [self._window(request.samples) for request in requests]
        features = self._encode([window.mel for window in windows])
        found: list[tuple[Word, ...]] = []
        for row, (request, window) in enumerate(zip(requests, windows, strict=True)):
            tokenizer = self._tokenizer(request.language, "transcribe")
            tokens = tokenizer.encode(" " + " ".join(request.text.split()))
            tokens = tokens[: self._net.dims.n_text_ctx - len(tokenizer.sot_sequence) - 2]
            segment = TokenSegment(0.0, window.duration_s, tuple(tokens))
            timed = self._timed(window, [segment], features[row : row + 1], tokenizer)
            found.append(timed[0].words if request.text.strip() else ())
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

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises MLX's failures in the block as OutOfMemoryError and EngineError."""
        try:
            yield
        except ServingError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise EngineError("the speech model failed on this audio") from error
            mx.clear_cache()
            raise OutOfMemoryError(
                "the device's memory is too small for the model and these windows; use a smaller"
                " or a quantized model, or another device"
            ) from error


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _ratio_limit(options: DecodingOptions) -> float:
    return _or(options.compression_ratio_threshold, COMPRESSION_RATIO_THRESHOLD)


def _fails(result: Decoded, options: DecodingOptions) -> bool:
    """Whether a result is to be decoded again at a higher temperature (openai-whisper's checks)."""
    if _is_silent(result, options):
        return False
    unlikely = result.avg_log_prob < _or(options.log_prob_threshold, LOG_PROB_THRESHOLD)
    return unlikely or result.compression_ratio > _ratio_limit(options)


def _is_silent(result: Decoded, options: DecodingOptions) -> bool:
    """Whether the window holds no speech: probably none, and an unlikely text besides."""
    return result.no_speech_prob > _or(
        options.no_speech_threshold, NO_SPEECH_THRESHOLD
    ) and result.avg_log_prob < _or(options.log_prob_threshold, LOG_PROB_THRESHOLD)
