"""What every engine must do, on the bundled model and the example clip.

A further engine is one more entry of ENGINES. The toy of tests/toy_engine has no model, so that
what compares engines on one checkpoint leaves it out.
"""

# pyright: basic

import functools
import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quiet import never
from voxroute_serving.asr.engine import (
    AlignmentRequest,
    AsrEngine,
    AsrModel,
    DecodingOptions,
    Feature,
    WindowResult,
)
from voxroute_serving.asr.text.segment_times import held_against_voice
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.audio.vad import SpeechProbabilities, VadOptions
from voxroute_serving.audio.windows import voiced_stretches
from voxroute_serving.errors import UnsupportedError
from voxroute_serving.process.settings import AsrSettings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ALIGNER = ROOT / "models" / "align-tiny-hi-en"
DEVICE = os.environ.get("VOXROUTE_TEST_DEVICE", "cpu")  # cuda, on a host that has it
MAX_WINDOW_S = 28.0
MARGIN_S = 0.2  # s; what voice activity keeps around speech
HINDI = DecodingOptions(language="hi")
COLD = replace(HINDI, temperatures=(0.0,))  # without the fallback, which draws at random


def _whisperx(**fields: object) -> AsrEngine:
    from voxroute_asr_whisperx.engine import WhisperXEngine  # noqa: PLC0415 - one engine of several
    from voxroute_asr_whisperx.settings import WhisperXSettings  # noqa: PLC0415 - as above

    align = [f"hi={ALIGNER}"]
    settings = {"device": DEVICE, "align_models": align, **fields}
    return WhisperXEngine(WhisperXSettings.model_validate(settings))


def _mlx(**fields: object) -> AsrEngine:
    from voxroute_asr_mlx.engine import MlxWhisperEngine  # noqa: PLC0415 - one engine of several
    from voxroute_asr_mlx.settings import MlxSettings  # noqa: PLC0415 - as above

    return MlxWhisperEngine(MlxSettings.model_validate({"device": "auto", **fields}))


def _toy(**fields: object) -> AsrEngine:
    from voxroute_asr_toy.engine import ToyEngine  # noqa: PLC0415 - one engine of several

    return ToyEngine(AsrSettings.model_validate({**fields, "model": ""}))


# engine -> the package that it needs, and how it is built from settings
ENGINES: dict[str, tuple[str, Callable[..., AsrEngine]]] = {
    "whisperx": ("whisperx", _whisperx),
    "mlx": ("mlx_whisper", _mlx),
}

WITH_TOY = {**ENGINES, "toy": ("voxroute_asr_toy", _toy)}


@dataclass(frozen=True)
class Cue:
    """A subtitle of the reference; seconds in the clip."""

    start_s: float
    end_s: float
    text: str


def plain(text: str) -> str:
    """Lower case, without punctuation, single blanks."""
    return " ".join(re.sub(r"[^\w\s\u0900-\u097f]|।", " ", text.lower()).split())


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, list[Cue]]:
    """Samples of the example and its Hindi reference."""
    references = sorted(EXAMPLES.glob("*.hi.srt"))
    if not references:
        pytest.skip("examples/*.hi.srt is missing")
    import pysubs2  # noqa: PLC0415 - with the example only
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    cues = [
        Cue(event.start / 1000, event.end / 1000, event.plaintext.replace("\n", " "))
        for event in pysubs2.load(str(references[0]))
    ]
    (media,) = EXAMPLES.glob(references[0].name.removesuffix(".hi.srt") + ".mp4")
    return np.asarray(decode_audio(str(media), sampling_rate=SAMPLE_RATE)), cues


@pytest.fixture(scope="module")
def windows(clip: tuple[np.ndarray, list[Cue]]) -> list[tuple[float, np.ndarray]]:
    """The clip in windows as voice activity cuts them: the time of the first sample, the samples.

    Each begins shortly before its first cue.
    """
    samples, cues = clip
    starts, lasts = [cues[0].start_s - MARGIN_S], list[float]()
    for before, cue in pairwise(cues):
        if cue.end_s - starts[-1] > MAX_WINDOW_S:
            starts.append(cue.start_s - MARGIN_S)
            lasts.append(before.end_s + MARGIN_S)
    bounds = [int(start * SAMPLE_RATE) for start in starts]
    ends = [int(last * SAMPLE_RATE) for last in [*lasts, cues[-1].end_s + MARGIN_S]]
    return [(a / SAMPLE_RATE, samples[a:b]) for a, b in zip(bounds, ends, strict=True)]


@pytest.fixture(scope="module", params=WITH_TOY)
def name(request: pytest.FixtureRequest) -> str:
    """The engine's."""
    return request.param


@pytest.fixture(scope="module")
def build(name: str, bundled_asr: Path, cache: Path) -> Callable[..., Any]:
    """Builds the engine on the bundled model."""
    package, make = WITH_TOY[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")

    def build(**fields: object) -> AsrEngine:
        shared = {"model": str(bundled_asr), "model_cache_dir": cache, "offline": True}
        return make(**{**shared, **fields})

    return build


@pytest.fixture(scope="module")
def model(build: Callable[..., Any]) -> Any:
    """The bundled model in the engine's default numeric type."""
    engine = build()
    model = engine.load(engine.resolve(""), lambda _: None)
    yield model
    model.close()


@pytest.fixture(scope="module")
def written_by(
    bundled_asr: Path, cache: Path, windows: list[tuple[float, np.ndarray]]
) -> Callable[[str], list[WindowResult]]:
    """What an engine makes of the clip, once for all tests: MLX takes seconds a window on a CPU."""

    @functools.cache
    def written_by(name: str) -> list[WindowResult]:
        package, make = WITH_TOY[name]
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
        engine = make(model=str(bundled_asr), model_cache_dir=cache, offline=True)
        model = engine.load(engine.resolve(""), lambda _: None)
        results = model.transcribe([samples for _, samples in windows], COLD, never)
        model.close()
        return [*results]

    return written_by


@pytest.fixture
def written(name: str, written_by: Callable[[str], list[WindowResult]]) -> list[WindowResult]:
    """What the engine makes of the clip."""
    return written_by(name)


def voice_of(samples: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Where a voice sounds in a window, as the service finds it."""
    silero = SpeechProbabilities()
    probabilities = np.concatenate([silero.push(samples), silero.finish()])
    return voiced_stretches(probabilities, VadOptions().threshold)


def text_of(result: WindowResult) -> str:
    """What is said in a window."""
    return plain(" ".join(segment.text for segment in result.segments))


def texts(model: AsrModel, windows: list[np.ndarray], options: DecodingOptions) -> list[str]:
    """The text of each window."""
    return [text_of(result) for result in model.transcribe(windows, options, never)]


def test_the_text_is_the_reference(
    written: list[WindowResult], clip: tuple[np.ndarray, list[Cue]]
) -> None:
    """At most one word in ten of the example differs from its reference."""
    import jiwer  # noqa: PLC0415 - with the example only

    heard = " ".join(map(text_of, written))
    assert jiwer.wer(plain(" ".join(cue.text for cue in clip[1])), heard) <= 0.1


def test_segments_stand_where_the_cues_stand(
    written: list[WindowResult],
    clip: tuple[np.ndarray, list[Cue]],
    windows: list[tuple[float, np.ndarray]],
) -> None:
    """Nine in ten cues have a segment that begins and one that ends within 0.2 s of them.

    Engines tell where words are, and the service holds that against the voice.
    """
    segments = [
        (offset_s + s.start_s, offset_s + s.end_s)
        for (offset_s, samples), result in zip(windows, written, strict=True)
        for s in held_against_voice(result, voice_of(samples)).segments
    ]
    assert max(end_s - start_s for start_s, end_s in segments) < 15

    def near(time_s: float, side: int) -> bool:
        return min(abs(segment[side] - time_s) for segment in segments) <= 0.2

    met = [near(cue.start_s, 0) and near(cue.end_s, 1) for cue in clip[1]]
    assert sum(met) >= 0.9 * len(met)


def test_a_batch_gives_what_its_windows_give_alone(
    model: AsrModel, written: list[WindowResult], windows: list[tuple[float, np.ndarray]]
) -> None:
    """Whose windows share a batch changes nobody's text: looked at for the last, shortest one."""
    assert texts(model, [windows[-1][1]], COLD) == [text_of(written[-1])]


@pytest.mark.slow  # the clip twice on each engine: minutes on two processors
def test_int8_and_float32_write_the_same_text(
    build: Callable[..., Any], windows: list[tuple[float, np.ndarray]]
) -> None:
    """The numeric type is about speed and memory, not about words."""
    samples = [window for _, window in windows]
    written: list[list[str]] = []
    for compute_type in ("int8", "float32"):
        engine = build(compute_type=compute_type)
        model = engine.load(engine.resolve(""), lambda _: None)
        written.append(texts(model, samples, COLD))
        model.close()
    assert written[0] == written[1]


def test_the_language_is_told_where_that_is_a_feature(
    build: Callable[..., Any], model: AsrModel, windows: list[tuple[float, np.ndarray]]
) -> None:
    """The example is Hindi."""
    if Feature.LANGUAGE_DETECTION not in build().describe().features:
        pytest.skip("the engine does not detect languages")
    for probabilities in model.detect_language([windows[0][1]]):
        assert max(probabilities, key=lambda language: probabilities[language]) == "hi"
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=0.01)


OPTIONS: dict[Feature, tuple[str, dict[str, Any]]] = {
    Feature.BEAM_SEARCH: ("decoding.beam_size", {"beam_size": 3}),
    Feature.TEMPERATURE_FALLBACK: ("decoding.temperatures", {"temperatures": (0.4,)}),
    Feature.INITIAL_PROMPT: ("decoding.initial_prompt", {"initial_prompt": "नमस्ते"}),
    Feature.HOTWORDS: ("decoding.hotwords", {"hotwords": ("नमस्ते",)}),
    Feature.WORD_TIMESTAMPS: ("word_timestamps", {"word_timestamps": True}),
}


@pytest.mark.parametrize("feature", OPTIONS)
def test_a_feature_is_taken_and_what_is_none_is_listed_as_ignored(
    build: Callable[..., Any], model: AsrModel, feature: Feature
) -> None:
    """Each flag of the capabilities is true of the options in effect, and so is its absence."""
    field, options = OPTIONS[feature]
    effective, ignored = model.effective_options(replace(HINDI, **options))
    declared = feature in build().describe().features
    assert (field not in [one.field for one in ignored]) == declared
    assert all(getattr(effective, k) == v for k, v in options.items()) == declared


def test_features_are_honoured_by_a_call(
    build: Callable[..., Any], model: AsrModel, windows: list[tuple[float, np.ndarray]]
) -> None:
    """All options at once; those that are no features do no harm."""
    options = {name: value for _, some in OPTIONS.values() for name, value in some.items()}
    declared = build().describe().features
    (result,) = model.transcribe([windows[-1][1]], replace(HINDI, **options), never)
    assert result.segments
    for segment in result.segments:
        words = segment.text.split() if Feature.WORD_TIMESTAMPS in declared else []
        assert [word.text for word in segment.words] == words
        if Feature.TEMPERATURE_FALLBACK in declared:
            assert segment.temperature == pytest.approx(0.4)


def test_words_of_the_reference_are_found_where_they_are_said(
    build: Callable[..., Any], model: AsrModel, clip: tuple[np.ndarray, list[Cue]]
) -> None:
    """Aligned words are those of the text, near their cue; without an aligner a call is refused."""
    samples, cues = clip[0], clip[1][::6]
    parts = [
        samples[int((cue.start_s - MARGIN_S) * SAMPLE_RATE) :][
            : int((cue.end_s - cue.start_s + 2 * MARGIN_S) * SAMPLE_RATE)
        ]
        for cue in cues
    ]
    requests = [
        AlignmentRequest(part, cue.text, "hi") for part, cue in zip(parts, cues, strict=True)
    ]
    if Feature.ALIGNMENT not in build().describe().features:
        with pytest.raises(UnsupportedError):
            model.align(requests[:1])
        return
    for cue, words in zip(cues, model.align(requests), strict=True):
        assert [word.text for word in words] == cue.text.split()
        assert words[0].start_s == pytest.approx(MARGIN_S, abs=0.4)
        assert words[-1].end_s == pytest.approx(MARGIN_S + cue.end_s - cue.start_s, abs=0.4)


def test_a_task_that_the_model_was_not_trained_for_is_listed_as_ignored(model: AsrModel) -> None:
    """Engines translate speech, the bundled model does not, and each says so."""
    effective, ignored = model.effective_options(replace(HINDI, task="translate"))
    assert effective.task == "transcribe"
    assert [one.field for one in ignored] == ["task"]


def test_engines_agree_on_text_and_times(written_by: Callable[[str], list[WindowResult]]) -> None:
    """One checkpoint, one recording: the same text, and segments within 0.2 s of each other."""
    first, *others = [[s for result in written_by(n) for s in result.segments] for n in ENGINES]
    for other in others:
        assert [plain(segment.text) for segment in other] == [plain(s.text) for s in first]
        for one, two in zip(first, other, strict=True):
            times = two.start_s, two.end_s
            assert (one.start_s, one.end_s) == pytest.approx(times, abs=0.2)
