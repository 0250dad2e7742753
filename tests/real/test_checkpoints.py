# pyright: basic
# ruff: noqa: PLC0415 - ML libraries are imported by the tests that need them
"""CTranslate2 models written back as Hugging Face checkpoints."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.recordings import SpeechSet
from scripts.ct2_checkpoint import write_checkpoint
from tests.real.conftest import real_model
from voxroute_asr_whisperx.runtimes.weights import read_variables

BUNDLED = Path(__file__).parents[2] / "models" / "asr-tiny-hi-en"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled speech model in CTranslate2's format."""
    from voxroute_asr_whisperx.convert import convert

    directory = tmp_path_factory.mktemp("ct2") / "model"
    directory.mkdir()
    convert(BUNDLED, directory)
    return directory


def test_a_checkpoint_that_was_converted_comes_back_bit_by_bit(
    converted: Path, tmp_path: Path
) -> None:
    """Splitting what the converter fused loses nothing, and the configs say the same."""
    from safetensors.numpy import load_file
    from transformers import (
        GenerationConfig,  # pyright: ignore[reportPrivateImportUsage] - its documented place
        WhisperConfig,
    )

    write_checkpoint(converted, tmp_path)
    expected, got = (load_file(path / "model.safetensors") for path in (BUNDLED, tmp_path))
    assert sorted(got) == sorted(expected)
    assert all(np.array_equal(got[name], expected[name]) for name in expected)
    ours, theirs = (
        WhisperConfig.from_pretrained(path).to_diff_dict() for path in (tmp_path, BUNDLED)
    )
    assert {key: ours.get(key) for key in theirs if key != "begin_suppress_tokens"} == {
        key: value for key, value in theirs.items() if key != "begin_suppress_tokens"
    }
    ours, theirs = (GenerationConfig.from_pretrained(p).to_dict() for p in (tmp_path, BUNDLED))
    assert ours == theirs


def test_an_eight_bit_model_comes_back_within_its_rounding(tmp_path: Path) -> None:
    """Integers are multiplied out: each weight is within half a step of its row."""
    from safetensors.numpy import load_file

    from voxroute_asr_whisperx.convert import _Converter

    _Converter(str(BUNDLED), copy_files=["tokenizer.json"]).convert(
        str(tmp_path / "int8"), quantization="int8"
    )
    write_checkpoint(tmp_path / "int8", tmp_path / "back")
    expected, got = (load_file(path / "model.safetensors") for path in (BUNDLED, tmp_path / "back"))
    assert sorted(got) == sorted(expected)
    for name, weights in expected.items():
        exact = weights.astype(np.float32)
        row = tuple(range(1, exact.ndim))  # a convolution's output channel likewise
        step = np.abs(exact).max(axis=row, keepdims=True) / 127
        assert (np.abs(got[name] - exact) <= 0.51 * step + 1e-3 * np.abs(exact)).all(), name


def test_what_is_no_whisper_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """Another version or another kind of model is named, not guessed at."""
    (tmp_path / "model.bin").write_bytes(b"\x05\x00\x00\x00\x0c\x00WhisperSpec\x00")
    with pytest.raises(ValueError, match="is version 5 of a WhisperSpec; version 6 of a Whisper"):
        read_variables(tmp_path / "model.bin")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper-base", "whisper-tiny.en"])
def test_real_weights_give_the_same_logits_in_every_library(
    name: str, english: SpeechSet, tmp_path: Path
) -> None:
    """CTranslate2, transformers and MLX agree on each token of a real recording in float32."""
    import ctranslate2
    import mlx.core as mx
    import torch
    from faster_whisper.audio import decode_audio, pad_or_trim
    from faster_whisper.feature_extractor import FeatureExtractor
    from transformers import WhisperForConditionalGeneration, WhisperTokenizer

    from voxroute_asr_mlx import convert as mlx_convert

    checkpoint = real_model(f"{name}-hf")
    tokenizer = WhisperTokenizer.from_pretrained(checkpoint)
    start = ["<|startoftranscript|>"]
    if name == "whisper-base":
        start += ["<|en|>", "<|transcribe|>"]
    prompt = tokenizer.convert_tokens_to_ids([*start, "<|notimestamps|>"])
    samples = np.asarray(decode_audio(str(english.path)))
    features = pad_or_trim(FeatureExtractor()(samples)[:, :3000])

    ct2 = ctranslate2.models.Whisper(str(real_model(name)), compute_type="float32")
    view = ctranslate2.StorageView.from_array(features[None].astype(np.float32))
    result = ct2.generate(
        view, [prompt], beam_size=1, suppress_tokens=[], suppress_blank=False,
        return_logits_vocab=True,
    )[0]  # fmt: skip
    tokens = result.sequences_ids[0]
    assert "quick brown fox" in tokenizer.decode(tokens)
    by_ct2 = np.stack([np.asarray(step).reshape(-1) for step in result.logits[0]])[: len(tokens)]
    given = [*prompt, *tokens[:-1]]

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, torch_dtype=torch.float32)
    with torch.no_grad():
        by_torch = model(
            torch.from_numpy(features[None]), decoder_input_ids=torch.tensor([given])
        ).logits[0, len(prompt) - 1 :]

    mlx_convert.convert(checkpoint, tmp_path)
    mlx_model = mlx_convert.load(tmp_path, mx.float32)
    by_mlx = np.asarray(
        mlx_model(mx.array(features.T[None]), mx.array([given]))[0, len(prompt) - 1 :]
    )
    assert np.abs(by_ct2 - by_torch.numpy()).max() < 0.02
    assert np.abs(by_mlx - by_torch.numpy()).max() < 0.02
