# pyright: basic
"""The engine on the bundled model, against mlx_whisper.transcribe and against itself."""

from pathlib import Path
from typing import Any

import mlx_whisper
import pytest
from mlx_whisper.transcribe import ModelHolder

from benchmarks.speech import EXAMPLES, speech_windows
from tests.asr_mlx.conftest import settings_of
from tests.quiet import never
from voxroute_asr_mlx.convert import convert
from voxroute_asr_mlx.engine import MlxWhisperEngine
from voxroute_serving.asr.engine import DecodingOptions
from voxroute_serving.audio.samples import Samples

COLD = DecodingOptions(language="hi", temperatures=(0.0,))


@pytest.fixture(scope="module")
def windows() -> list[Samples]:
    """Speech of the example in windows of 30 s."""
    if not sorted(EXAMPLES.glob("*.mp4")):
        pytest.skip("examples/*.mp4 is missing")
    return speech_windows()[:2]


@pytest.fixture(scope="module")
def converted(bundled_asr: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model in mlx-whisper's format."""
    directory = tmp_path_factory.mktemp("bundled") / "model"
    directory.mkdir()
    convert(bundled_asr, directory)
    return directory


@pytest.fixture(scope="module")
def model(bundled_asr: Path, cache: Path) -> Any:
    """The bundled model as the service loads it."""
    engine = MlxWhisperEngine(settings_of(cache, model=str(bundled_asr)))
    model = engine.load(engine.resolve(""), lambda _: None)
    yield model
    model.close()


@pytest.mark.slow  # minutes where MLX has no fast matrix products; the default tier has WhisperX's
def test_the_text_is_that_of_mlx_whisper(
    model: Any, converted: Path, windows: list[Samples]
) -> None:
    """A row of a batch is what mlx_whisper.transcribe writes for that window, greedily."""
    result = model.transcribe(windows, COLD, never)[-1]
    expected = mlx_whisper.transcribe(
        windows[-1],
        path_or_hf_repo=str(converted),
        language="hi",
        temperature=0.0,
        condition_on_previous_text=False,
        fp16=False,
    )
    ours = " ".join(segment.text for segment in result.segments)
    assert ours.split() == str(expected["text"]).split()
    assert ours
    ModelHolder.model = None  # the library keeps the last model for ever


@pytest.mark.slow  # as above; the default tier looks at the words of all engines in tests/engines
def test_segments_are_sentences_with_their_words(model: Any, windows: list[Samples]) -> None:
    """No segment is a blob of the whole window, and each has all of its words in order."""
    words = DecodingOptions("hi", word_timestamps=True)
    for result in model.transcribe(windows[:1], words, never):
        assert len(result.segments) > 1
        for segment in result.segments:
            assert segment.end_s - segment.start_s < 15
            assert [word.text for word in segment.words] == segment.text.split()
            times = [t for word in segment.words for t in (word.start_s, word.end_s)]
            assert times == sorted(times)
            assert segment.start_s <= times[0]
            assert times[-1] <= segment.end_s
