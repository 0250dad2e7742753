"""WhisperX when memory runs out: the libraries' own exceptions, raised where they raise them."""

# pyright: basic

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.conftest import settings_of
from tests.quiet import never
from voxroute_asr_whisperx.engine import WhisperXEngine, smaller_types
from voxroute_serving.asr.engine import AlignmentRequest, DecodingOptions
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.device.failures import engine_error, is_out_of_memory
from voxroute_serving.errors import EngineError, OutOfMemoryError

GREEDY = DecodingOptions(language="hi", temperatures=(0.0,), beam_size=1)
CUDA = {"int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32"}
PASCAL = {"int8", "int8_float32", "float32"}  # and every CPU


def library_errors() -> list[Exception]:
    """What the libraries raise, of their own classes."""
    import torch  # noqa: PLC0415 - takes seconds

    return [
        RuntimeError("CUDA failed with error out of memory"),  # CTranslate2 on a GPU
        RuntimeError("std::bad_alloc"),  # CTranslate2 on the CPU
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ]


@pytest.fixture
def build(bundled_asr: Path, cache: Path) -> Iterator[Callable[..., FallbackModel]]:
    """Loads the bundled model in float32 with the fallbacks of a service."""
    models: list[FallbackModel] = []

    def build(**fields: object) -> FallbackModel:
        settings = {"model": str(bundled_asr), "compute_type": "float32", "max_batch": 4, **fields}
        engine = WhisperXEngine(settings_of(cache, **settings))
        models.append(FallbackModel(engine, engine.resolve(""), lambda _: None))
        return models[-1]

    yield build
    for model in models:
        model.close()


@pytest.fixture(scope="module")
def windows() -> list[np.ndarray]:
    """The first four cues of the example: no word is cut, which each numeric type would guess."""
    references = sorted((Path(__file__).parents[2] / "examples").glob("*.hi.srt"))
    if not references:
        pytest.skip("examples/*.hi.srt is missing")
    import pysubs2  # noqa: PLC0415 - with the example only
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    media = references[0].with_name(references[0].name.removesuffix(".hi.srt") + ".mp4")
    samples = np.asarray(decode_audio(str(media), sampling_rate=SAMPLE_RATE))
    margin_ms = 100
    return [
        samples[
            max(0, cue.start - margin_ms) * SAMPLE_RATE // 1000 : (cue.end + margin_ms)
            * SAMPLE_RATE
            // 1000
        ]
        for cue in pysubs2.load(str(references[0]))[:4]
    ]


def texts(model: FallbackModel, windows: list[np.ndarray]) -> list[str]:
    """The text of each window."""
    results = model.transcribe(windows, GREEDY, never)
    return [" ".join(segment.text for segment in result.segments) for result in results]


class Memory:
    """A device that holds so many windows beside the model; others raise the library's error.

    `method` is one of CTranslate2's Whisper, which takes the windows first.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
        from faster_whisper import WhisperModel  # noqa: PLC0415 - takes seconds

        self.capacities: dict[str, int] = {}
        self.sizes: list[tuple[str, int]] = []
        memory = self
        original: Any = WhisperModel.__init__

        class Limited:
            """CTranslate2's model, but for the one method."""

            def __init__(self, model: Any) -> None:
                self._model = model

            def __getattr__(self, name: str) -> Any:
                found = getattr(self._model, name)
                return self._limited(found) if name == method else found

            def _limited(self, run: Any) -> Any:
                def limited(work: Any, *rest: Any, **options: Any) -> Any:
                    kind, n_windows = self._model.compute_type, work.shape[0]
                    memory.sizes.append((kind, n_windows))
                    if n_windows > memory.capacities.get(kind, n_windows):
                        raise error
                    return run(work, *rest, **options)

                return limited

        def initialised(model: Any, *args: Any, **fields: Any) -> None:
            original(model, *args, **fields)
            model.model = Limited(model.model)

        monkeypatch.setattr(WhisperModel, "__init__", initialised)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("encode", marks=pytest.mark.slow),
        "generate",
        pytest.param("align", marks=pytest.mark.slow),
    ],
)
def test_a_librarys_error_walks_down_the_ladder_to_the_same_text(
    build: Callable[..., FallbackModel],
    windows: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """Half the batch, one window, int8; in the encoder as in the decoder."""
    memory = Memory(monkeypatch, method, library_errors()[0])
    model = build()
    expected = texts(model, windows)
    assert all(expected)
    memory.sizes.clear()
    memory.capacities["float32"] = 0
    assert texts(model, windows) == expected
    assert [one.code for one in model.fallbacks] == [
        "OUT_OF_MEMORY_SMALLER_BATCH",
        "OUT_OF_MEMORY_SMALLER_BATCH",
        "OUT_OF_MEMORY_SMALLER_COMPUTE_TYPE",
    ]
    tried = memory.sizes[:3]
    assert [size for _, size in tried] == [4, 2, 1]
    assert {kind for kind, _ in tried} == {"float32"}
    assert {kind for kind, _ in memory.sizes[3:]} == {"int8_float32"}
    assert model.compute_type == "int8"


@pytest.mark.slow  # the model is loaded again and again
def test_after_every_fallback_it_is_out_of_memory(
    build: Callable[..., FallbackModel],
    windows: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client is told what helps, and the model answers once there is memory again."""
    memory = Memory(monkeypatch, "encode", library_errors()[0])
    model = build()
    memory.capacities = {"float32": 0, "int8_float32": 0}
    with pytest.raises(OutOfMemoryError, match="use a smaller model"):
        texts(model, windows)
    memory.capacities.clear()
    assert all(texts(model, windows))


@pytest.mark.slow  # the model is loaded again and again
def test_language_detection_steps_down(
    build: Callable[..., FallbackModel],
    windows: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same memory holds the windows whose language is asked for."""
    memory = Memory(monkeypatch, "encode", library_errors()[0])
    model = build()
    expected = model.detect_language(windows)
    memory.capacities["float32"] = 1
    found = model.detect_language(windows)
    assert model.max_batch == 1
    assert [max(p, key=lambda tag: p[tag]) for p in found] == ["hi"] * 4
    for before, after in zip(expected, found, strict=True):
        assert after["hi"] == pytest.approx(before["hi"], abs=0.01)


def test_the_aligner_beside_the_recogniser_steps_down(
    build: Callable[..., FallbackModel],
    windows: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    bundled_aligner: Path,
) -> None:
    """Torch's error for the aligner makes the recogniser smaller, and the words come."""
    import whisperx.alignment  # noqa: PLC0415 - takes seconds

    model = build(align_models=f"hi={bundled_aligner}")
    align: Any = whisperx.alignment.align

    def limited(*args: Any, **kwargs: Any) -> Any:
        if model.compute_type == "float32":
            raise library_errors()[3]
        return align(*args, **kwargs)

    monkeypatch.setattr(whisperx.alignment, "align", limited)
    (words,) = model.align([AlignmentRequest(windows[0], "नमस्ते दुनिया", "hi")])
    assert [word.text for word in words] in ([], ["नमस्ते", "दुनिया"])
    assert model.compute_type == "int8"


def test_a_load_that_does_not_fit_takes_the_next_compute_type(
    build: Callable[..., FallbackModel],
    windows: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CTranslate2 raises while it reads the weights; they are read again as int8."""
    from faster_whisper import WhisperModel  # noqa: PLC0415 - takes seconds

    load: Any = WhisperModel.__init__

    def limited(model: Any, *args: Any, compute_type: str, **kwargs: Any) -> None:
        if compute_type == "float32":
            raise library_errors()[0]
        load(model, *args, compute_type=compute_type, **kwargs)

    monkeypatch.setattr(WhisperModel, "__init__", limited)
    model = build()
    assert model.compute_type == "int8"
    assert all(texts(model, windows))


def test_out_of_memory_is_told_from_other_failures() -> None:
    """Anything else is a failure of the engine, and no smaller batch would help."""
    for error in library_errors():
        assert is_out_of_memory(error)
        assert isinstance(engine_error(error, "the recogniser"), OutOfMemoryError)
    other = engine_error(RuntimeError("CUDA failed with error invalid argument"), "the recogniser")
    assert isinstance(other, EngineError)


@pytest.mark.parametrize(
    ("compute_type", "supported", "expected"),
    [
        ("float16", CUDA, ("float16", "int8_float16")),
        ("bfloat16", CUDA, ("bfloat16", "int8_bfloat16", "int8_float16")),
        ("float32", CUDA, ("float32", "float16", "int8_float16")),
        ("int8_float32", CUDA, ("int8_float32", "int8_float16")),
        ("float32", PASCAL, ("float32", "int8")),
        ("int8_float32", PASCAL, ("int8_float32",)),
        ("int8", PASCAL, ("int8",)),
        ("default", CUDA, ("default",)),
    ],
)
def test_smaller_compute_types_are_those_that_the_device_has(
    compute_type: str, supported: set[str], expected: tuple[str, ...]
) -> None:
    """Only types that the device supports are tried, and none twice under another name."""
    assert smaller_types(compute_type, supported) == expected
