# pyright: basic
"""MLX when memory runs out: its own exceptions, raised in the encoder, walk down the ladder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.asr_mlx.conftest import settings_of
from tests.asr_mlx.test_mlx_bundled import COLD, never, windows
from voxroute_asr_mlx import convert
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_asr_mlx.hardware import smaller_types
from voxroute_asr_mlx.whisper import MlxWhisperModel
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.audio.samples import Samples
from voxroute_serving.errors import OutOfMemoryError

__all__ = ["windows"]  # a fixture

ERROR = "[metal::malloc] Attempting to allocate 40000000000 bytes which is greater than the maximum"
BATCH = "OUT_OF_MEMORY_SMALLER_BATCH"
COMPUTE_TYPE = "OUT_OF_MEMORY_SMALLER_COMPUTE_TYPE"

Limit = Callable[[dict[str, int]], list[tuple[str, int]]]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets how many windows fit beside the model, by compute type; returns what was tried."""
    tried: list[tuple[str, int]] = []
    encode: Any = MlxWhisperModel._encode
    build: Any = MlxWhisperModel.__init__

    def remember(self: Any, *args: Any, compute_type: str, **kwargs: Any) -> None:
        self.compute_type = compute_type
        build(self, *args, compute_type=compute_type, **kwargs)

    monkeypatch.setattr(MlxWhisperModel, "__init__", remember)

    def limit(capacities: dict[str, int]) -> list[tuple[str, int]]:
        def limited(self: Any, mels: Sequence[mx.array]) -> mx.array:
            tried.append((self.compute_type, len(mels)))
            if len(mels) > capacities.get(self.compute_type, len(mels)):
                raise RuntimeError(ERROR)
            return encode(self, mels)

        monkeypatch.setattr(MlxWhisperModel, "_encode", limited)
        return tried

    return limit


def loaded(model: Path, cache: Path) -> FallbackModel:
    """The model in float32 with the fallbacks of a service, four windows at once."""
    settings = settings_of(cache, model=str(model), compute_type="float32", max_batch=4)
    engine = MlxWhisperEngine(settings)
    return FallbackModel(engine, engine.resolve(""), lambda _: None)


def texts(model: FallbackModel, samples: Sequence[Samples]) -> list[str]:
    """The text of each window."""
    results = model.transcribe(samples, COLD, never)
    return [" ".join(segment.text for segment in result.segments) for result in results]


@pytest.mark.slow
def test_the_whole_ladder_answers_every_window(
    random_mlx: Path, cache: Path, noise: list[Samples], limit: Limit
) -> None:
    """Half the batch, one window, eight bits and then four; one result for each window."""
    model = loaded(random_mlx, cache)
    tried = limit({"float32": 0, "int8": 0})
    assert len(texts(model, noise)) == len(noise) == 4
    assert tried[:5] == [
        ("float32", 4), ("float32", 2), ("float32", 1), ("int8", 1), ("int4", 1),
    ]  # fmt: skip
    assert [one.code for one in model.fallbacks] == [BATCH, BATCH, COMPUTE_TYPE, COMPUTE_TYPE]
    limit({"int4": 0})
    with pytest.raises(OutOfMemoryError, match="as int4 and one window"):
        texts(model, [window.copy() for window in noise])  # the others are encoded already
    model.close()


@pytest.mark.slow  # the clip three times; what steps down is tested by the whole ladder below
def test_smaller_batches_and_eight_bits_write_the_same_text(
    bundled_asr: Path,
    cache: Path,
    windows: list[Samples],
    limit: Limit,
) -> None:
    """On the bundled model and the example, the ladder costs time and no words."""
    model = loaded(bundled_asr, cache)
    short = [window[: 8 * 16_000] for window in windows[:2]]
    expected = texts(model, short)
    assert all(expected)
    limit({"float32": 0})
    again = [window.copy() for window in short]  # the others are encoded already
    assert texts(model, again) == expected
    assert model.compute_type == "int8"
    model.close()


def test_a_load_that_does_not_fit_is_tried_with_fewer_bits(
    random_mlx: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLX raises while the weights are read; the model is loaded as int8."""
    load: Any = convert.load
    quantize: Any = convert.quantize
    n_loads = 0

    def limited(*args: Any) -> Any:
        nonlocal n_loads
        n_loads += 1
        if n_loads == 1:
            raise RuntimeError(ERROR)
        return load(*args)

    bits: list[int] = []
    monkeypatch.setattr(convert, "load", limited)
    monkeypatch.setattr(convert, "quantize", lambda model, n: (bits.append(n), quantize(model, n)))
    model = loaded(random_mlx, cache)
    assert (model.compute_type, bits) == ("int8", [8])
    assert len(model.detect_language([np.zeros(1600, np.float32)])) == 1
    model.close()


def test_a_smaller_type_needs_less_memory_already_while_it_loads(
    bundled_asr: Path, cache: Path
) -> None:
    """The float weights of a quantized model are never in memory all at once."""
    engine = MlxWhisperEngine(settings_of(cache, model=str(bundled_asr)))
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    model: Any = engine.load(engine.resolve(""), lambda _: None, "int8")
    peak = mx.get_peak_memory() - before
    dims = model._net.dims
    largest = dims.n_vocab * dims.n_text_state * 4
    # the largest matrix as it is in the file, in half precision, and as it is quantized
    assert peak < model.memory_bytes + 1.5 * largest
    model.close()


@pytest.mark.parametrize(
    ("compute_type", "expected"),
    [
        ("float32", ("float32", "int8", "int4")),
        ("float16", ("float16", "int8", "int4")),
        ("int8", ("int8", "int4")),
        ("int4", ("int4",)),
    ],
)
def test_smaller_compute_types_are_the_quantized_ones(
    compute_type: str, expected: tuple[str, ...]
) -> None:
    """From each type on, those with fewer bits."""
    assert smaller_types(compute_type) == expected
