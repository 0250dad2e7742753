# pyright: basic
"""Names, formats, conversion and refusal of models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.asr_mlx.conftest import save_checkpoint, settings_of
from voxroute_asr_mlx.convert import check_tokenizer, convert, load
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.models import format_of, traits_of
from voxroute_serving.asr.whisper.family import bcp47, whisper_code
from voxroute_serving.errors import ModelNotFoundError, ModelUnavailableError

CODES = ("en", "hi", "jw")


def test_names_resolve_to_one_id_each(random_mlx: Path, tmp_path: Path) -> None:
    """Empty is the default; aliases, directories and hub ids are what they stand for."""
    engine = MlxWhisperEngine(settings_of(tmp_path, model=str(random_mlx)))
    assert engine.resolve("") == engine.resolve(str(random_mlx)) == random_mlx.name
    assert engine.resolve("large") == engine.resolve("large-v3") == "large-v3"
    assert engine.resolve("someone/whisper-of-theirs") == "someone/whisper-of-theirs"
    for name, hint in (("larg-v3", "'large-v3'"), ("/etc", "known names"), ("", "known names")):
        if name:
            with pytest.raises(ModelNotFoundError, match=hint):
                engine.resolve(name)


def test_a_client_cannot_name_a_directory(random_mlx: Path, tmp_path: Path) -> None:
    """Only the operator's directories are in reach."""
    with pytest.raises(ModelNotFoundError, match="operator"):
        MlxWhisperEngine(settings_of(tmp_path)).resolve(str(random_mlx))


@pytest.mark.parametrize(
    ("device", "compute_type"), [("mps", "auto"), ("cuda", "auto"), ("cpu", "int3")]
)
def test_what_the_machine_lacks_is_refused_with_a_way_out(
    tmp_path: Path, device: str, compute_type: str
) -> None:
    """The process ends with a sentence instead of running on something else."""
    if device == "mps" and mx.metal.is_available():
        pytest.skip("this machine has Metal")
    if device == "cuda" and mx.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ModelUnavailableError, match="use "):
        MlxWhisperEngine(settings_of(tmp_path, device=device, compute_type=compute_type))


def test_logits_equal_those_of_transformers(random_checkpoint: Path, random_mlx: Path) -> None:
    """A converted checkpoint computes what the original computes, to 1e-3, for several rows."""
    import torch  # noqa: PLC0415 - only for this comparison
    from transformers import WhisperForConditionalGeneration  # noqa: PLC0415

    from voxroute_asr_mlx.network import Network  # noqa: PLC0415

    rng = np.random.default_rng(1)
    mel = rng.standard_normal((2, 3000, 80)).astype(np.float32)
    tokens = np.array([[50258, 50276, 50359, 50364, 11], [50258, 50259, 50359, 50400, 220]])
    reference = WhisperForConditionalGeneration.from_pretrained(random_checkpoint).eval()
    with torch.no_grad():
        expected = reference(
            input_features=torch.from_numpy(mel).transpose(1, 2),
            decoder_input_ids=torch.from_numpy(tokens),
        ).logits.numpy()

    network = Network(load(random_mlx, mx.float32), 1)
    caches = network.caches(network.encode(list(mx.array(mel))))
    at_once = network.logits(network.decode(mx.array(tokens), 0, caches)[0])
    assert np.abs(np.array(at_once) - expected).max() < 1e-3

    caches = network.caches(network.encode(list(mx.array(mel))))
    for position in range(tokens.shape[1]):
        part = mx.array(tokens[:, position : position + 1])
        hidden, _ = network.decode(part, position, caches)
        step = np.array(network.logits(hidden[:, 0]))
        assert np.abs(step - expected[:, position]).max() < 1e-3


def test_alignment_heads_come_along(random_mlx: Path) -> None:
    """The heads that generation_config.json names are those that give words their times."""
    assert load(random_mlx, mx.float32).alignment_heads.tolist() == [[1, 0], [1, 1]]


def test_a_checkpoint_is_converted_once(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second load takes the conversion from the cache, as does another engine's."""
    done: list[Path] = []

    def counted(source: Path, target: Path) -> None:
        done.append(target)
        convert(source, target)

    monkeypatch.setattr("voxroute_asr_mlx.convert.convert", counted)
    for _ in range(2):
        engine = MlxWhisperEngine(settings_of(tmp_path, model=str(random_checkpoint)))
        for _ in range(2):
            engine.load(engine.resolve(""), lambda _: None).close()
    assert len(done) == 1


def test_numeric_types_and_quantized_weights_load(random_mlx: Path, tmp_path: Path) -> None:
    """Weights are cast to the type that was asked for; a quantized model keeps its matrices."""
    from mlx import nn  # noqa: PLC0415
    from mlx.utils import tree_flatten  # noqa: PLC0415

    model = load(random_mlx, mx.float16)
    parameters: Any = tree_flatten(model.decoder.parameters())
    assert {weight.dtype for _, weight in parameters} == {mx.float16}
    nn.quantize(model, group_size=32, bits=4)
    mx.savez(str(tmp_path / "weights.npz"), **dict(tree_flatten(model.parameters())))
    config = json.loads((random_mlx / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = load(tmp_path, mx.float32)
    layer: Any = again.decoder.blocks[0].mlp1
    assert layer.weight.dtype == mx.uint32
    assert layer.scales.dtype == mx.float32


def test_int8_writes_the_matrices_small(random_mlx: Path, tmp_path: Path) -> None:
    """An unquantized model is quantized while it loads, and computes nearly the same."""
    exact, small = (
        MlxWhisperEngine(settings_of(tmp_path, model=str(random_mlx), compute_type=compute_type))
        for compute_type in ("float32", "int8")
    )
    assert small.describe().device.compute_type == "int8"
    rows: list[Any] = []
    for engine in (exact, small):
        model = engine.load(engine.resolve(""), lambda _: None)
        rows.append(model.detect_language([np.ones(1600, np.float32)])[0])
        model.close()
    assert all(rows[1][tag] == pytest.approx(p, abs=0.1) for tag, p in rows[0].items())


@pytest.mark.parametrize("vocab_size", [51864, 51866])
def test_english_and_hundred_language_models_load(tmp_path: Path, vocab_size: int) -> None:
    """51864 tokens mean English only, 51866 the hundred languages of large-v3."""
    source = save_checkpoint(tmp_path / "source", vocab_size=vocab_size)
    engine = MlxWhisperEngine(settings_of(tmp_path / "cache", model=str(source)))
    model = engine.load(engine.resolve(""), lambda _: None)
    noise = np.zeros(16000, np.float32)
    probabilities = model.detect_language([noise])[0]
    if vocab_size == 51864:
        assert model.languages == ("en",)
        assert probabilities == {"en": 1.0}
    else:
        assert len(model.languages) == 100
        assert "yue" in model.languages
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)
    model.close()


def test_whispers_own_tokenizer_is_accepted_and_another_one_refused(
    bundled_asr: Path, tmp_path: Path
) -> None:
    """mlx-whisper has one tokenizer; a model with another would come out as other words."""
    check_tokenizer(bundled_asr, 51865)
    document = json.loads((bundled_asr / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    first, second = list(vocabulary)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelUnavailableError, match="tokenizer"):
        check_tokenizer(tmp_path, 51865)
    with pytest.raises(ModelUnavailableError, match="32000 tokens"):
        check_tokenizer(tmp_path, 32000)


def test_learned_encoder_positions_are_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    """mlx-whisper computes the positions; a model with its own would run and be wrong."""
    source = tmp_path / "source"
    shutil.copytree(random_checkpoint, source)
    tensors: Any = mx.load(str(source / "model.safetensors"))
    tensors["model.encoder.embed_positions.weight"] = mx.zeros((1500, 64))
    mx.save_safetensors(str(source / "model.safetensors"), tensors)
    with pytest.raises(ModelUnavailableError, match="positions"):
        convert(source, tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no config.json"),
        ({"config.json": "{"}, "cannot be read as JSON"),
        ({"config.json": '{"model_type": "bert"}'}, "holds no Whisper model"),
        (
            {"config.json": '{"model_type": "whisper"}', "pytorch_model.bin": ""},
            "safe_serialization",
        ),
    ],
)
def test_a_directory_without_a_model_says_what_is_missing(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    """The sentence says what to do, whatever is in the directory."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelUnavailableError, match=message):
        format_of(tmp_path)


def test_damaged_weights_are_no_crash(random_mlx: Path, tmp_path: Path) -> None:
    """A file cut off in a download, or of another model, is named in the error."""
    source = tmp_path / "damaged"
    shutil.copytree(random_mlx, source)
    weights = (source / "weights.safetensors").read_bytes()
    (source / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    engine = MlxWhisperEngine(settings_of(tmp_path, model=str(source)))
    with pytest.raises(ModelUnavailableError, match="damaged"):
        engine.load("damaged", lambda _: None)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"n_text_layer": 1}))
    (source / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ModelUnavailableError, match=r"do not match its config\.json"):
        engine.load("damaged", lambda _: None)


def test_traits_come_from_the_vocabulary_the_name_and_the_models_own_word(tmp_path: Path) -> None:
    """Turbo and distilled models do not translate; voxroute.json decides where there is one."""
    assert traits_of(tmp_path, "small", 51865, CODES).tasks == ("transcribe", "translate")
    assert traits_of(tmp_path, "small", 51865, CODES).languages == ("en", "hi", "jv")
    assert traits_of(tmp_path, "large-v3-turbo", 51866, CODES).tasks == ("transcribe",)
    assert traits_of(tmp_path, "small.en", 51864, CODES).languages == ("en",)
    (tmp_path / "voxroute.json").write_text('{"languages": ["hi"], "tasks": ["transcribe"]}')
    traits = traits_of(tmp_path, "small", 51865, CODES)
    assert (traits.languages, traits.tasks) == (("hi",), ("transcribe",))


def test_language_tags_are_bcp47_outside() -> None:
    """Whisper's withdrawn code for Javanese stays inside; region and script do not matter."""
    assert (bcp47("jw"), bcp47("hi")) == ("jv", "hi")
    assert [whisper_code(tag) for tag in ("jv", "hi-IN", "zh-Hant-TW")] == ["jw", "hi", "zh"]


def test_the_service_needs_no_torch(random_checkpoint: Path, tmp_path: Path) -> None:
    """Converting, loading and transcribing import neither torch nor transformers."""
    script = f"""
import sys
import numpy as np
from pathlib import Path
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.settings import MlxSettings
from voxroute_serving.asr.engine import DecodingOptions
settings = MlxSettings.model_validate(
    dict(offline=True, model={str(random_checkpoint)!r}, model_cache_dir=Path({str(tmp_path)!r}))
)
engine = MlxWhisperEngine(settings)
model = engine.load(engine.resolve(""), lambda _: None)
options = DecodingOptions(language="hi", temperatures=(0.0,), word_timestamps=True)
model.transcribe([np.zeros(16000, np.float32)], options, lambda: False)
sys.exit(bool({{"torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:voxroute", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
