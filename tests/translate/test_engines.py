"""Runtimes: the same tokens as the published definition, whoever computes them."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2
import pytest

from voxroute_serving.errors import EngineError, ModelUnavailableError, OutOfMemoryError
from voxroute_translate import engine, registry
from voxroute_translate.engine import Codec, Decoding, Runtime, TranslationModel
from voxroute_translate.registry import ModelCard
from voxroute_translate.runtimes import codecs, on_ctranslate2

if TYPE_CHECKING:
    import torch

ENGLISH = [
    "Where are you going?",
    "My brother has a new book.",
    "It is raining again, 1234 times.",
]
HINDI = ["तुम कहाँ जा रहे हो?", "मेरे भाई के पास एक नई किताब है।", "फिर से बारिश हो रही है।"]

NLLB = Path(__file__).parents[2] / "models" / "translate-tiny-hi-en"
CASES = {
    "en-indic-tiny": ("eng_Latn", "hin_Deva", ENGLISH),
    "m2m100-tiny": ("hi", "en", HINDI),
    "opus-mt-en-hi": ("eng", "hin", ENGLISH),
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the ML libraries' own


def describe(directory: Path) -> ModelCard:
    """The card of a directory, with a made-up revision."""
    return registry.describe(str(directory), directory, lambda _: "sha256:0")


def convert(card: ModelCard, directory: Path) -> None:
    """Fills the directory with the model in CTranslate2's format."""
    from voxroute_translate.runtimes.convert import convert  # noqa: PLC0415 - takes seconds

    convert(card, directory)


def torch_runtime(card: ModelCard, codec: Codec, compute_type: str = "float32") -> Runtime:
    """The model on torch."""
    from voxroute_translate.runtimes.on_torch import TorchRuntime  # noqa: PLC0415 - takes seconds

    return TorchRuntime(card, codec, "cpu", compute_type)


def ct2_runtime(card: ModelCard, directory: Path) -> Runtime:
    """The model converted into `directory`, in full precision."""
    convert(card, directory)
    codec = codecs.codec(card)
    return on_ctranslate2.Ct2Runtime(card, directory, codec, "cpu", "float32")


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_both_runtimes_give_the_same_tokens(
    name: str, beam_size: int, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """CTranslate2 and torch agree token by token, batched, for every format."""
    source, target, texts = CASES[name]
    card = describe(checkpoint(name))
    codec = codecs.codec(card)
    tokens = codec.encode(texts, source, target).tokens
    prefix, decoding = codec.prefix(target), Decoding(beam_size)
    fast = ct2_runtime(card, tmp_path).generate(tokens, prefix, decoding)
    slow = torch_runtime(card, codec).generate(tokens, prefix, decoding)
    assert [(codec.target_ids(t), ended) for t, ended in fast] == [
        (codec.target_ids(t), ended) for t, ended in slow
    ]
    assert all(t for t, _ in fast)


def reference_indictrans2(  # noqa: C901 - one definition in one place
    directory: Path, source: list[int], target: list[int]
) -> "torch.Tensor":
    """Log probabilities of the next token, written out from the paper's definition.

    One sentence, no cache, no batch: embeddings times sqrt(d) plus sinusoidal positions from 2 on,
    a layer norm, pre-norm layers, a final layer norm, the output weights.
    """
    import torch  # noqa: PLC0415 - takes seconds
    from safetensors.torch import load_file  # noqa: PLC0415 - imports torch
    from torch.nn import functional  # noqa: PLC0415 - as above

    config = json.loads((directory / "config.json").read_text())
    w = load_file(str(directory / "model.safetensors"))
    d, heads = config["encoder_embed_dim"], config["encoder_attention_heads"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (d,), w[f"{name}.weight"], w[f"{name}.bias"])

    def embed(ids: list[int], part: str) -> torch.Tensor:
        x = w[f"model.{part}.embed_tokens.weight"][ids] * math.sqrt(d)
        for row in range(len(ids)):
            for i in range(d // 2):
                angle = (row + 2) * math.exp(-i * math.log(10000) / (d // 2 - 1))
                x[row, i] += math.sin(angle)
                x[row, d // 2 + i] += math.cos(angle)
        if config["layernorm_embedding"]:
            x = norm(x, f"model.{part}.layernorm_embedding")
        return x

    def attend(q: torch.Tensor, kv: torch.Tensor, name: str, *, causal: bool) -> torch.Tensor:
        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(len(x), heads, d // heads).transpose(0, 1)

        queries = split(linear(q, f"{name}.q_proj")) / math.sqrt(d // heads)
        scores = queries @ split(linear(kv, f"{name}.k_proj")).transpose(1, 2)
        if causal:
            scores += torch.full(scores.shape[1:], -torch.inf).triu(1)
        mixed = scores.softmax(-1) @ split(linear(kv, f"{name}.v_proj"))
        return linear(mixed.transpose(0, 1).reshape(len(q), d), f"{name}.out_proj")

    def feed_forward(x: torch.Tensor, layer: str) -> torch.Tensor:
        inner = functional.gelu(linear(norm(x, f"{layer}.final_layer_norm"), f"{layer}.fc1"))
        return x + linear(inner, f"{layer}.fc2")

    x = embed(source, "encoder")
    for number in range(config["encoder_layers"]):
        layer = f"model.encoder.layers.{number}"
        y = norm(x, f"{layer}.self_attn_layer_norm")
        x = feed_forward(x + attend(y, y, f"{layer}.self_attn", causal=False), layer)
    memory = norm(x, "model.encoder.layer_norm")
    x = embed(target, "decoder")
    for number in range(config["decoder_layers"]):
        layer = f"model.decoder.layers.{number}"
        y = norm(x, f"{layer}.self_attn_layer_norm")
        x = x + attend(y, y, f"{layer}.self_attn", causal=True)
        y = norm(x, f"{layer}.encoder_attn_layer_norm")
        x = feed_forward(x + attend(y, memory, f"{layer}.encoder_attn", causal=False), layer)
    x = norm(x, "model.decoder.layer_norm")
    output = w.get("lm_head.weight", w["model.decoder.embed_tokens.weight"])
    return (x[-1] @ output.T).log_softmax(-1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"tied": True}, marks=pytest.mark.slow),
        pytest.param({"layer_norm": False}, marks=pytest.mark.slow),
    ],
)
def test_indictrans2_is_computed_as_defined(
    options: dict[str, bool], tmp_path: Path, make_indictrans2: Callable[..., Path]
) -> None:
    """Both runtimes' greedy tokens are the best of an independent computation, for 20 steps."""
    directory = make_indictrans2(tmp_path / "en-indic", **options)
    card = describe(directory)
    codec = codecs.codec(card)
    tokens = codec.encode(ENGLISH[:1], "eng_Latn", "hin_Deva").tokens
    assert tokens[0][:2] == ["eng_Latn", "hin_Deva"]
    assert tokens[0][-1] == "</s>"
    source = codec.source_ids(tokens[0])
    written = [2]  # </s> starts the decoder
    for _ in range(20):
        written.append(int(reference_indictrans2(directory, source, written).argmax()))
        if written[-1] == 2:
            break
    (tmp_path / "ct2").mkdir()
    for runtime in (
        ct2_runtime(card, tmp_path / "ct2"),
        torch_runtime(card, codec),
    ):
        [(generated, _)] = runtime.generate(tokens, [], Decoding(1))
        expected = [number for number in written[1:] if number != 2]
        assert codec.target_ids(generated)[: len(expected)] == expected


def test_indictrans2_scores_equal_the_definition(
    tmp_path: Path, make_indictrans2: Callable[..., Path]
) -> None:
    """CTranslate2's score of a token is the reference's log probability to 1e-5."""
    directory = make_indictrans2(tmp_path / "en-indic")
    card = describe(directory)
    codec = codecs.codec(card)
    (tmp_path / "ct2").mkdir()
    runtime: Any = ct2_runtime(card, tmp_path / "ct2")
    tokens = codec.encode(ENGLISH[:1], "eng_Latn", "hin_Deva").tokens
    [result] = runtime._translator.translate_batch(
        tokens, beam_size=1, min_decoding_length=0, max_decoding_length=1, return_scores=True
    )
    reference = reference_indictrans2(directory, codec.source_ids(tokens[0]), [2])
    assert result.scores[0] == pytest.approx(float(reference.max()), abs=1e-5)


def test_indictrans2_text_comes_back_in_the_targets_script(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The model writes Devanagari for every language; Tamil comes out in Tamil letters."""
    card = describe(checkpoint("en-indic-tiny"))
    model = TranslationModel(card, codecs.codec(card), ct2_runtime(card, tmp_path), 0)
    [hindi] = model.translate(["Where?"], "eng_Latn", "hin_Deva", Decoding(1))
    [tamil] = model.translate(["Where?"], "eng_Latn", "tam_Taml", Decoding(1))
    assert any("\u0900" <= c <= "\u097f" for c in hindi.text)
    assert any("\u0b80" <= c <= "\u0bff" for c in tamil.text)
    assert not any("\u0900" <= c <= "\u0963" for c in tamil.text)


def test_indictrans2_without_safetensors_is_refused(
    tmp_path: Path, make_indictrans2: Callable[..., Path]
) -> None:
    """A checkpoint that is only there as a pickle is not read: it could carry code."""
    directory = make_indictrans2(tmp_path / "en-indic")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelUnavailableError, match="safetensors"):
        torch_runtime(describe(directory), codecs.codec(describe(directory)))


def test_the_limit_of_output_tokens_is_told(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A translation that never ends is marked as cut; so is an input beyond the limit."""
    card = describe(checkpoint("opus-mt-en-hi"))
    model = TranslationModel(card, codecs.codec(card), ct2_runtime(card, tmp_path), 0)
    long = "water " * 200
    short_output, long_output = model.translate(["water", long], "eng", "hin", Decoding(1))
    assert not short_output.input_cut
    assert long_output.input_cut
    assert not model.fits(long, "eng", "hin")
    assert model.fits("water", "eng", "hin")
    assert short_output.output_cut or long_output.output_cut


def test_conversion_takes_unlisted_language_tokens(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """An M2M100 tokenizer that lists no language token in its files is converted with all 100."""
    card = describe(checkpoint("m2m100-tiny"))
    convert(card, tmp_path)
    words = json.loads((tmp_path / "shared_vocabulary.json").read_text())
    assert words.count("__hi__") == 1
    assert words.count("__zu__") == 1


class Exhausted:
    """A runtime whose memory holds `capacity` sentences."""

    engine = "test"
    workers = 1
    memory_bytes = 0

    def __init__(self, runtime: Runtime, capacity: int) -> None:
        self.runtime, self.capacity, self.device = runtime, capacity, runtime.device
        self.sizes: list[int] = []

    def generate(self, sources: Any, prefix: Any, decoding: Decoding) -> Any:
        self.sizes.append(len(sources))
        if len(sources) > self.capacity:
            raise RuntimeError("CUDA failed with error out of memory")
        return self.runtime.generate(sources, prefix, decoding)

    def close(self) -> None:
        self.runtime.close()


def test_a_batch_that_does_not_fit_is_halved(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Out of memory, the batch is halved until it fits, which stays; the results are the same."""
    card = describe(checkpoint("opus-mt-en-hi"))
    codec, runtime = codecs.codec(card), ct2_runtime(card, tmp_path)
    texts = [*ENGLISH, ENGLISH[0], ENGLISH[1]]
    expected = TranslationModel(card, codec, runtime, 0).translate(texts, "eng", "hin", Decoding(1))
    small = Exhausted(runtime, 2)
    model = TranslationModel(card, codec, small, 0)
    assert model.translate(texts, "eng", "hin", Decoding(1)) == expected
    assert model.translate(texts, "eng", "hin", Decoding(1)) == expected
    assert small.sizes == [5, 2, 2, 1, 2, 2, 1]
    assert model.max_batch == 2
    with pytest.raises(OutOfMemoryError, match="smaller model"):
        TranslationModel(card, codec, Exhausted(runtime, 0), 0).translate(
            texts, "eng", "hin", Decoding(1)
        )


def test_another_failure_is_not_mistaken_for_memory(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """What is no lack of memory is an engine error that shows no internals."""
    card = describe(checkpoint("opus-mt-en-hi"))
    runtime = ct2_runtime(card, tmp_path)

    def fail(*_: object) -> Any:
        raise RuntimeError("secret internals")

    runtime.generate = fail  # type: ignore[method-assign]
    model = TranslationModel(card, codecs.codec(card), runtime, 0)
    with pytest.raises(EngineError) as failed:
        model.translate(["water"], "eng", "hin", Decoding(1))
    assert "secret" not in failed.value.message


@pytest.mark.skipif(ctranslate2.get_cuda_device_count() > 0, reason="needs a host without a GPU")
def test_a_device_that_is_not_there_is_named() -> None:
    """Asking for a missing device fails with what to do; auto takes the CPU."""
    assert engine.find_device("auto") in ("cpu", "mps")
    with pytest.raises(ModelUnavailableError, match="--device auto"):
        engine.find_device("cuda")


def test_an_unknown_compute_type_names_the_known_ones(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A numeric type that the CPU lacks is refused with those it has."""
    card = describe(checkpoint("opus-mt-en-hi"))
    convert(card, tmp_path)
    codec = codecs.codec(card)
    with pytest.raises(ModelUnavailableError, match="int8"):
        on_ctranslate2.Ct2Runtime(card, tmp_path, codec, "cpu", "float64")
    with pytest.raises(ModelUnavailableError, match="bfloat16"):
        torch_runtime(card, codec, "int8")


IMPORTS = """
import json, sys
from pathlib import Path
from voxroute_translate import engine, registry

_, checkpoint, cache = sys.argv
card = registry.describe(checkpoint, Path(checkpoint), lambda _: "sha256:0")
options = engine.EngineOptions("cpu", "ctranslate2", "float32", 0, Path(cache))
engine.load(card, options, lambda _: None).close()
print(json.dumps([*sys.modules]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nllb", "m2m100-tiny", "opus-mt-en-hi"])
def test_a_converted_model_is_loaded_without_what_only_converts(
    name: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A service that starts again imports no network of transformers, which takes seconds."""
    directory = NLLB if name == "nllb" else checkpoint(name)
    engine.ctranslate2_directory(describe(directory), tmp_path, lambda _: None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS, str(directory), str(tmp_path)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    imported = json.loads(done.stdout.splitlines()[-1])
    assert "ctranslate2" in imported
    heavy = {"ctranslate2.converters", "transformers.modeling_utils", "sklearn"}
    assert not heavy & {*imported}
