"""What every engine must do, on real weights and real speech.

The bundled model's conformance in a form that allows for a search in beams against a greedy one:
engines may differ in a word, and in nothing else. What is told of the text is so of the services',
which have what a search leaves out decoded again.
"""

# pyright: basic

import functools
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import product
from benchmarks.films import samples_of
from benchmarks.peers import Segment
from benchmarks.recordings import HOW_TO_GET, SpeechSet, normalised, speech_sets, word_error_rate
from tests.engines.test_conformance import ENGINES, HINDI, OPTIONS, never, voice_of
from tests.real.conftest import real_model
from voxroute_serving.asr.engine import AsrEngine, AsrModel, DecodingOptions, Feature, WindowResult
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CHECKPOINTS = {"whisperx": "whisper-base", "mlx": "whisper-base-hf"}
READ_WELL = ("en", "es", "fr", "it", "pt")
"""Languages of which whisper-base writes nearly all."""
MAX_BETWEEN = 0.04
MAX_WRONG = 0.15
MIN_WORDS = 200
Heard = dict[str, WindowResult]
"""By the name of the recording."""
Written = tuple[SpeechSet, tuple[Segment, ...]]
"""A recording, and what a service writes of it."""


@pytest.fixture(scope="module")
def spoken() -> dict[str, tuple[SpeechSet, Samples]]:
    """The recordings that fit in one window, and their samples."""
    found = [one for one in speech_sets(*READ_WELL) if one.sentences[-1].end_s < 28]
    if not found:
        pytest.skip(f"models/real/speech is missing; {HOW_TO_GET}")
    return {
        one.name: (one, samples_of(one.path).astype(np.float32) / np.float32(32768))
        for one in found
    }


@pytest.fixture(scope="module", params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    """The engine's."""
    return request.param


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], AsrModel]:
    """Loads whisper-base into an engine, once."""

    @functools.cache
    def model_of(name: str) -> AsrModel:
        engine = engine_of(name, tmp_path_factory.getbasetemp() / "cache")
        return engine.load(engine.resolve(""), lambda _: None)

    return model_of


def engine_of(name: str, cache: Path) -> AsrEngine:
    """The engine on whisper-base; skips where it or the weights are missing."""
    package, make = ENGINES[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    checkpoint = real_model(CHECKPOINTS[name])
    return make(model=str(checkpoint), model_cache_dir=cache, offline=True)


@pytest.fixture
def model(name: str, model_of: Callable[[str], AsrModel]) -> AsrModel:
    """The real model in the engine's default numeric type."""
    return model_of(name)


@pytest.fixture(scope="module")
def heard_by(
    model_of: Callable[[str], AsrModel], spoken: dict[str, tuple[SpeechSet, Samples]]
) -> Callable[[str], Heard]:
    """What an engine makes of all recordings, in batches of a language."""

    @functools.cache
    def heard_by(name: str) -> Heard:
        heard: Heard = {}
        for language in sorted({one.language for one, _ in spoken.values()}):
            windows = {n: w for n, (one, w) in spoken.items() if one.language == language}
            options = DecodingOptions(language=language, temperatures=(0.0,))
            results = model_of(name).transcribe([*windows.values()], options, never)
            heard.update(zip(windows, results, strict=True))
        return heard

    return heard_by


def texts(heard: Heard, names: Sequence[str]) -> list[str]:
    """The text of each recording."""
    return [" ".join(segment.text for segment in heard[name].segments) for name in names]


@pytest.fixture(scope="module")
def written_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Written]]:
    """What the service of an engine writes of each recording of READ_WELL, fallback and all."""

    @functools.cache
    def written_by(name: str) -> list[Written]:
        if importlib.util.find_spec(ENGINES[name][0]) is None:
            pytest.skip(f"{ENGINES[name][0]} is not installed")
        if not (recordings := speech_sets(*READ_WELL)):
            pytest.skip(f"models/real/speech is missing; {HOW_TO_GET}")
        folder = tmp_path_factory.mktemp(name)
        with product.service(name, real_model(CHECKPOINTS[name]), "cpu", folder) as running:
            return [(one, product.called(running, one).segments) for one in recordings]

    return written_by


def test_engines_write_as_well_as_each_other(written_by: Callable[[str], list[Written]]) -> None:
    """The services' word error rates differ by at most four points, and neither is above 15 %.

    Over the recordings in languages that whisper-base knows well.
    """
    rates: list[float] = []
    for name in ENGINES:
        said = [one.text for one, _ in written_by(name)]
        texts = [" ".join(t for _, _, t in segments) for _, segments in written_by(name)]
        n_words = sum(len(normalised(text).split()) for text in said)
        if n_words < MIN_WORDS:
            pytest.skip(f"{n_words} words tell no four points; name more in VOXROUTE_SPEECH")
        rates.append(word_error_rate(said, texts))
    assert max(rates) - min(rates) <= MAX_BETWEEN
    assert max(rates) <= MAX_WRONG


def test_segments_stand_where_the_sentences_stand(
    name: str, written_by: Callable[[str], list[Written]]
) -> None:
    """Nine in ten sentences have a segment that begins, and one that ends, within 0.4 s of them.

    The sentences are cuts of the recordings, whose voice begins a little after the cut.
    """
    met = [
        min(abs(start_s - sentence.start_s) for start_s, _, _ in segments) <= 0.4
        and min(abs(end_s - sentence.end_s) for _, end_s, _ in segments) <= 0.4
        for one, segments in written_by(name)
        if one.name.endswith("-short")  # whose sentences are cut closely
        for sentence in one.sentences
    ]
    assert sum(met) >= 0.9 * len(met)


def test_a_batch_gives_what_its_windows_give_alone(
    name: str,
    model: AsrModel,
    heard_by: Callable[[str], Heard],
    spoken: dict[str, tuple[SpeechSet, Samples]],
) -> None:
    """Whose windows share a batch changes nobody's text by more than rounding does."""
    batched = heard_by(name)
    alone: Heard = {}
    for recording, (one, samples) in spoken.items():
        options = DecodingOptions(language=one.language, temperatures=(0.0,))
        (alone[recording],) = model.transcribe([samples], options, never)
    assert word_error_rate(texts(batched, [*spoken]), texts(alone, [*spoken])) <= MAX_BETWEEN


def test_the_language_is_told(
    model: AsrModel, spoken: dict[str, tuple[SpeechSet, Samples]]
) -> None:
    """The likeliest language of each recording is the one that is spoken."""
    for recording, (one, samples) in spoken.items():
        (probabilities,) = model.detect_language([samples])
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=0.01)
        likeliest = max(probabilities, key=lambda language: probabilities[language])
        assert likeliest == one.language, recording


def test_words_are_told_where_they_are_said(
    model: AsrModel,
    spoken: dict[str, tuple[SpeechSet, Samples]],
) -> None:
    """Each word of each segment, in order, within its segment, near a voice."""
    english = DecodingOptions(language="en", word_timestamps=True)
    if not model.effective_options(english)[0].word_timestamps:
        pytest.skip(
            "the engine aligns words with a model of the language, and only Hindi's is here"
        )
    for one, samples in spoken.values():
        options = DecodingOptions(language=one.language, temperatures=(0.0,), word_timestamps=True)
        (result,) = model.transcribe([samples], options, never)
        voice, at = voice_of(samples), 0.0
        for segment in result.segments:
            if one.language not in {"ja", "zh"}:  # whose words no space parts
                assert [word.text for word in segment.words] == segment.text.split()
            for word in segment.words:
                assert at <= word.start_s <= word.end_s
                assert segment.start_s - 0.01 <= word.start_s
                assert word.end_s <= segment.end_s + 0.01
                at = word.start_s
                assert any(a - 0.5 <= word.start_s and word.end_s <= b + 0.5 for a, b in voice)


@pytest.mark.parametrize("feature", OPTIONS)
def test_a_feature_is_taken_and_what_is_none_is_listed_as_ignored(
    name: str, model: AsrModel, feature: Feature, tmp_path: Path
) -> None:
    """Each flag of the capabilities is true of the options in effect, and so is its absence."""
    field, options = OPTIONS[feature]
    effective, ignored = model.effective_options(replace(HINDI, **options))
    declared = feature in engine_of(name, tmp_path).describe().features
    assert (field not in [one.field for one in ignored]) == declared
    assert all(getattr(effective, k) == v for k, v in options.items()) == declared


def test_silence_and_the_end_of_speech_give_no_text(
    model: AsrModel, spoken: dict[str, tuple[SpeechSet, Samples]]
) -> None:
    """After the last word nothing more is written, however long the window goes on."""
    one, samples = next(iter(spoken.values()))
    padded = np.concatenate([samples, np.zeros(10 * SAMPLE_RATE, np.float32)])
    options = DecodingOptions(language=one.language, temperatures=(0.0,))
    results = model.transcribe([samples, padded], options, never)
    short, long = [" ".join(segment.text for segment in result.segments) for result in results]
    assert word_error_rate(short, long) <= MAX_BETWEEN
