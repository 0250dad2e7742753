# pyright: basic
"""The seam between the service and the libraries that run translation models.

A model is a codec (text to tokens and back) and a runtime (tokens to tokens). Both know sentences
and a model's own language codes; they know nothing of gRPC, cues or queues. This module imports no
ML library; `load` does.
"""

import json
import platform
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from voxroute_serving.device import weights
from voxroute_serving.device.failures import engine_errors, load_errors
from voxroute_serving.device.ladder import Ladder
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef
from voxroute_serving.errors import ModelUnavailableError
from voxroute_serving.models import hub
from voxroute_translate.registry import ModelCard, describe

DeviceKind = Literal["cpu", "cuda", "mps"]

MAX_OUTPUT_TOKENS = 256  # what IndicTrans2 and NLLB were trained to write at most

FASTEST = {
    "ctranslate2": {"cpu": "int8", "cuda": "float16"},
    "torch": {"cpu": "float32", "cuda": "float16", "mps": "float16"},
}
"""The compute type that "auto" means, by library and device."""

_MAX_BATCH = {"cpu": 16, "cuda": 64, "mps": 64}  # sentences; beyond it throughput grows no more


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is decoded. Hashable: sentences with equal options share a batch."""

    beam_size: int
    no_repeat_ngram_size: int = 0
    """Token n-grams of this length occur once at most; 0 allows any."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that were written already become less likely."""


@dataclass(frozen=True, slots=True)
class Output:
    """The translation of one sentence, and whether a limit of tokens cut its input or output."""

    text: str
    input_cut: bool = False
    output_cut: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """Sentences as a model takes them: tokens with the end mark, and what decoding needs."""

    tokens: list[list[str]]
    state: object = None


class Codec(Protocol):
    """Text to a model's tokens and back. Callable from any thread."""

    max_input_tokens: int
    target_eos: str

    def count(self, sentence: str, source: str, target: str) -> int:
        """Tokens of the sentence, language tokens and end mark included."""
        ...

    def encode(self, sentences: Sequence[str], source: str, target: str) -> Encoded:
        """The sentences as tokens."""
        ...

    def prefix(self, target: str) -> list[str]:
        """Tokens with which every translation into the language begins."""
        ...

    def decode(self, tokens: Sequence[Sequence[str]], target: str, state: object) -> list[str]:
        """The text of each translation, special tokens left out."""
        ...

    def source_ids(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of source tokens."""
        ...

    def target_ids(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of target tokens."""
        ...

    def target_tokens(self, ids: Sequence[int]) -> list[str]:
        """Target tokens of numbers."""
        ...


class Runtime(Protocol):
    """A model in the device's memory."""

    engine: str
    """The name for ModelRef."""
    device: DeviceInfo
    workers: int
    """Threads that may be in `generate` at once."""

    def generate(
        self, sources: Sequence[Sequence[str]], prefix: Sequence[str], decoding: Decoding
    ) -> list[tuple[list[str], bool]]:
        """For each source the best translation's tokens without prefix, and whether it ended."""
        ...

    @property
    def memory_bytes(self) -> int:
        """What its weights take of the device's memory, bytes."""
        ...

    def close(self) -> None:
        """Frees the memory of the device."""
        ...


class TranslationModel(Ladder[Runtime]):
    """A model that is ready; where memory runs out, it takes fewer sentences at once.

    `translate` and `close` run on threads of the device: the one that loaded it, where it has one
    worker.
    """

    def __init__(self, card: ModelCard, codec: Codec, runtime: Runtime, max_batch: int) -> None:
        self.card = card
        self.ref = ModelRef(runtime.engine, card.name, card.revision)
        self.device = runtime.device
        self.workers = runtime.workers
        self._codec = codec
        super().__init__(
            card.name,
            lambda _activity, _compute_type: runtime,
            [runtime.device.compute_type],
            lambda _: max_batch or _MAX_BATCH[runtime.device.kind],
            item="sentence",
        )

    def fits(self, sentence: str, source: str, target: str) -> bool:
        """Whether the model takes the sentence uncut. Callable from any thread."""
        # No tokenizer here makes more than a token of a byte, so short texts need no count.
        limit = self._codec.max_input_tokens
        if len(sentence.encode()) + 4 <= limit:
            return True
        return self._codec.count(sentence, source, target) <= limit

    def translate(
        self,
        sentences: Sequence[str],
        source: str,
        target: str,
        decoding: Decoding,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[Output]:
        """One output for each sentence, in order.

        Where `stop` turns true the outputs may be anything. Raises OutOfMemoryError for a single
        sentence, EngineError.
        """

        def run(runtime: Runtime, batch: Sequence[str]) -> list[Output]:
            if stop():
                return [Output("") for _ in batch]
            with engine_errors("the translation model"):
                return self._translate(runtime, batch, source, target, decoding)

        return self._run(sentences, run, stop)

    def _translate(
        self,
        runtime: Runtime,
        sentences: Sequence[str],
        source: str,
        target: str,
        decoding: Decoding,
    ) -> list[Output]:
        encoded = self._codec.encode(sentences, source, target)
        limit = self._codec.max_input_tokens
        cut = [len(tokens) > limit for tokens in encoded.tokens]
        tokens = [[*each[: limit - 1], each[-1]] if over else each
                  for each, over in zip(encoded.tokens, cut, strict=True)]  # fmt: skip
        generated = runtime.generate(tokens, self._codec.prefix(target), decoding)
        texts = self._codec.decode([each for each, _ in generated], target, encoded.state)
        return [
            Output(text.strip(), input_cut, not ended)
            for text, input_cut, (_, ended) in zip(texts, cut, generated, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What sentences of one batch have in common; models are compared as objects."""

    model: TranslationModel
    source: str
    target: str
    decoding: Decoding


def run_batch(
    key: Hashable, sentences: Sequence[str], stop: Callable[[], bool]
) -> Sequence[Output]:
    """The function that the device thread's batcher calls; the key is a BatchKey."""
    key = cast("BatchKey", key)
    return key.model.translate(sentences, key.source, key.target, key.decoding, stop)


def output_limit(directory: Path) -> int:
    """Tokens that the model in a directory can write: it may know fewer positions than usual."""
    config = json.loads((directory / "config.json").read_text("utf-8"))
    positions = config.get("max_target_positions") or config.get("max_position_embeddings")
    return min(MAX_OUTPUT_TOKENS, (positions or 1024) - 2)  # the start and the language token


def find_device(requested: str) -> DeviceKind:
    """The kind of device to use: "auto" takes cuda, then mps, then cpu.

    Raises ModelUnavailableError where the one that was asked for is not there.
    """
    import ctranslate2  # noqa: PLC0415 - heavy

    has_cuda = ctranslate2.get_cuda_device_count() > 0
    has_mps = _has_mps()
    if requested == "auto":
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    if requested == "cuda" and not has_cuda:
        raise ModelUnavailableError(
            "device cuda was asked for, but no NVIDIA GPU with a driver is here; use --device auto"
        )
    if requested == "mps" and not has_mps:
        raise ModelUnavailableError(
            "device mps was asked for, but it needs macOS on Apple silicon, outside of a container;"
            " use --device auto"
        )
    return cast("DeviceKind", requested)


def _has_mps() -> bool:
    if platform.system() != "Darwin":
        return False
    import torch  # noqa: PLC0415 - heavy

    return torch.backends.mps.is_available()


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How models are run: names as in the settings."""

    device: DeviceKind
    """The kind that `find_device` found."""
    runtime: str
    compute_type: str
    max_batch: int
    cache_dir: Path

    @property
    def engine(self) -> str:
        """The library that runs the models."""
        if self.runtime == "auto":
            return "torch" if self.device == "mps" else "ctranslate2"
        return self.runtime


def expected_bytes(card: ModelCard, options: EngineOptions) -> int:
    """About how many bytes of the device's memory a model will take."""
    compute_type = options.compute_type
    if compute_type == "auto":
        compute_type = FASTEST[options.engine][options.device]
    return weights.expected_bytes(card.directory, compute_type)


def ctranslate2_directory(card: ModelCard, cache_dir: Path, activity: Activity) -> Path:
    """The directory of a model's conversion, made now where the cache has none."""
    from voxroute_translate.runtimes import on_ctranslate2  # noqa: PLC0415 - heavy

    def make(directory: Path) -> None:
        from voxroute_translate.runtimes.convert import convert  # noqa: PLC0415 - imports torch

        activity(f"converting {card.name} to CTranslate2, once")
        convert(card, directory)

    return hub.converted(card.directory, on_ctranslate2.KIND, make, cache_dir=cache_dir)


def converted(name: str, source: Path, cache_dir: Path, activity: Activity) -> Path:
    """A Prepare of voxroute_serving.models.preparation. Raises ModelNotFoundError too."""
    return ctranslate2_directory(describe(name, source, hub.revision_of), cache_dir, activity)


def load(card: ModelCard, options: EngineOptions, activity: Activity) -> TranslationModel:
    """The model in memory, converted first where the runtime needs another format.

    Raises ModelUnavailableError, OutOfMemoryError.
    """
    from voxroute_translate.runtimes import codecs  # noqa: PLC0415 - heavy

    if options.engine == "ctranslate2" and options.device == "mps":
        raise ModelUnavailableError("ctranslate2 does not know mps; use --runtime torch")
    with load_errors(f"the model {card.name}"):
        codec = codecs.codec(card)
        if options.engine == "torch":
            from voxroute_translate.runtimes import on_torch  # noqa: PLC0415 - heavy

            activity(f"loading {card.name} on {options.device}")
            runtime: Runtime = on_torch.TorchRuntime(
                card, codec, options.device, options.compute_type
            )
        else:
            from voxroute_translate.runtimes import on_ctranslate2  # noqa: PLC0415 - heavy

            converted = ctranslate2_directory(card, options.cache_dir, activity)
            activity(f"loading {card.name} on {options.device}")
            runtime = on_ctranslate2.Ct2Runtime(
                card, converted, codec, options.device, options.compute_type
            )
    return TranslationModel(card, codec, runtime, options.max_batch)
