"""WhisperX on a Whisper checkpoint with random weights: everything but the text it hears."""

# pyright: basic

import gc
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pysubs2
import pytest

from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.engine import (
    SAMPLE_RATE,
    AlignmentRequest,
    AsrModel,
    DecodingOptions,
    WindowResult,
)
from voxroute_serving.errors import ModelUnavailableError

EXAMPLE = Path(__file__).parents[2] / "examples" / "lost-key.mp4"
HINDI = DecodingOptions(language="hi", temperatures=(0.0,))


def never() -> bool:
    """The caller waits."""
    return False


def text_of(result: WindowResult) -> str:
    """The text of a window with single blanks."""
    return " ".join(" ".join(segment.text for segment in result.segments).split())


@pytest.fixture(scope="session")
def load(cache: Path) -> Callable[..., Any]:
    """Loads a directory; the activities are in `.told`."""

    def load(directory: Path, **fields: object) -> Any:
        settings = {"offline": True, "device": "cpu", "model_cache_dir": cache, **fields}
        engine = WhisperXEngine(
            WhisperXSettings.model_validate({"model": str(directory), **settings})
        )
        load.told = []
        return engine.load(engine.resolve(""), load.told.append)

    load.told = []
    return load


@pytest.fixture(scope="session")
def model(random_checkpoint: Path, load: Callable[..., Any]) -> Iterator[AsrModel]:
    """The random model, in float32."""
    model = load(random_checkpoint, compute_type="float32")
    yield model
    model.close()


@pytest.fixture(scope="session")
def untimed(
    random_checkpoint: Path, load: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AsrModel]:
    """The random model, declared as one that writes no timestamps."""
    directory = tmp_path_factory.mktemp("models") / "untimed"
    shutil.copytree(random_checkpoint, directory)
    (directory / "voxroute.json").write_text('{"timestamps": false, "languages": ["hi", "jv"]}')
    model = load(directory, compute_type="float32")
    yield model
    model.close()


@pytest.fixture(scope="session")
def converted(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random checkpoint in CTranslate2's format."""
    from voxroute_asr_whisperx.convert import convert  # noqa: PLC0415 - takes seconds

    directory = tmp_path_factory.mktemp("models") / "converted"
    directory.mkdir()
    convert(random_checkpoint, directory)
    return directory


def library_texts(directory: Path, windows: list[np.ndarray], **options: Any) -> list[str]:
    """What whisperx's own pipeline writes for the windows, one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import whisperx  # noqa: PLC0415 - takes seconds
        from whisperx.vads import Vad  # noqa: PLC0415 - takes seconds

        class Whole(Vad):
            """Calls the whole window speech."""

            preprocess_audio = staticmethod(lambda audio: audio)

            def __call__(self, request: dict[str, Any]) -> list[SimpleNamespace]:
                end = len(request["waveform"]) / SAMPLE_RATE
                return [SimpleNamespace(start=0.0, end=end, speaker=None)]

        pipeline = whisperx.load_model(
            str(directory),
            "cpu",
            compute_type="float32",
            language="hi",
            vad_model=Whole(0.5),
            asr_options=options,
        )
        results = [pipeline.transcribe(window, batch_size=1) for window in windows]
    return [" ".join(result["segments"][0]["text"].split()) for result in results]


@pytest.mark.parametrize("options", [{}, {"beam_size": 1}, {"initial_prompt": "कल"}])
def test_text_without_timestamps_is_that_of_whisperx(
    untimed: AsrModel, converted: Path, noise: list[np.ndarray], options: dict[str, Any]
) -> None:
    """The same weights and audio give the same text as whisperx.load_model(...).transcribe."""
    windows = noise[:3]
    ours = untimed.transcribe(windows, replace(HINDI, **options), never)
    assert [text_of(r) for r in ours] == library_texts(converted, windows, **options)


def test_a_batch_gives_what_its_windows_give_alone(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """Whose windows share a batch changes nobody's text or times."""
    together = model.transcribe(noise, HINDI, never)
    for window, result in zip(noise, together, strict=True):
        (alone,) = model.transcribe([window], HINDI, never)
        assert [(s.start_s, s.end_s, s.text) for s in alone.segments] == [
            (s.start_s, s.end_s, s.text) for s in result.segments
        ]


def test_segments_lie_within_their_window(
    model: AsrModel, untimed: AsrModel, noise: list[np.ndarray]
) -> None:
    """Whatever random weights write, times are inside, in order, and text is never empty."""
    for one in (model, untimed):
        for window, result in zip(noise, one.transcribe(noise, HINDI, never), strict=True):
            floor_s = 0.0
            for segment in result.segments:
                assert 0 <= segment.start_s < segment.end_s <= len(window) / SAMPLE_RATE + 1e-6
                assert segment.start_s >= floor_s
                assert segment.text == segment.text.strip() != ""
                floor_s = segment.start_s


def test_a_model_without_timestamps_gives_no_blob_of_thirty_seconds(
    untimed: AsrModel, noise: list[np.ndarray]
) -> None:
    """The cross-attention times the words where the model writes no timestamps."""
    (result,) = untimed.transcribe([noise[1]], HINDI, never)
    assert all(s.end_s - s.start_s <= 12.01 or " " not in s.text for s in result.segments)


def test_every_segment_tells_how_sure_the_model_was(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """The figures that whisperx leaves out are there: whoever reads the text can judge it."""
    (result,) = model.transcribe([noise[0]], HINDI, never)
    for segment in result.segments:
        assert segment.avg_log_prob is not None
        assert segment.avg_log_prob < 0
        assert segment.no_speech_prob is not None
        assert 0 <= segment.no_speech_prob <= 1
        assert segment.compression_ratio is not None
        assert segment.compression_ratio > 0
        assert segment.temperature == 0.0


def test_a_window_that_fails_is_decoded_again_warmer(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """A repetition loop at temperature 0 ends at a temperature whose text does not repeat."""
    options = replace(HINDI, temperatures=(0.0, 1.0), log_prob_threshold=-100.0)
    (result,) = model.transcribe([noise[0]], options, never)
    assert {segment.temperature for segment in result.segments} == {1.0}
    (kept,) = model.transcribe([noise[0]], replace(options, compression_ratio_threshold=1e6), never)
    assert {segment.temperature for segment in kept.segments} == {0.0}


def test_a_silent_window_has_no_text(model: AsrModel, noise: list[np.ndarray]) -> None:
    """Text that the model itself doubts, where it hears nobody, is invented and not shown."""
    options = replace(HINDI, no_speech_threshold=0.0, log_prob_threshold=-0.1)
    (result,) = model.transcribe([noise[0]], options, never)
    assert result.segments == ()


def test_nobody_waiting_ends_the_work_before_the_next_round(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """A cancelled call costs one decoding, not one for each temperature."""
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return True

    options = replace(HINDI, temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    assert len(model.transcribe(noise[:2], options, stop)) == 2
    assert len(asked) <= 3


@pytest.mark.parametrize(
    "options",
    [
        {"initial_prompt": "राम और श्याम"},
        {"hotwords": ("श्याम",)},
        {"task": "translate"},
        {"beam_size": 1},
    ],
)
def test_an_option_that_is_not_listed_as_ignored_changes_what_the_model_does(
    model: AsrModel, noise: list[np.ndarray], options: dict[str, Any]
) -> None:
    """Honoured means that it reaches the decoder."""
    wanted = replace(HINDI, **options)
    effective, ignored = model.effective_options(wanted)
    assert ignored == ()
    assert all(getattr(effective, name) == value for name, value in options.items())
    plain, changed = (model.transcribe([noise[0]], o, never)[0] for o in (HINDI, wanted))
    assert plain.segments[0].avg_log_prob != changed.segments[0].avg_log_prob


def test_a_long_prompt_and_many_hotwords_leave_room_for_the_answer(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """Both share half of the model's context; faster-whisper would let them fill it."""
    options = replace(HINDI, initial_prompt="नमस्ते " * 500, hotwords=("श्याम",) * 500)
    (result,) = model.transcribe([noise[0]], options, never)
    assert result.segments


def test_defaults_are_those_of_whisperx(model: AsrModel) -> None:
    """A request that leaves everything open is told what it gets."""
    effective, ignored = model.effective_options(DecodingOptions(language="hi"))
    assert effective == DecodingOptions(
        language="hi",
        beam_size=5,
        temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        compression_ratio_threshold=2.4,
        log_prob_threshold=-1.0,
        no_speech_threshold=0.6,
    )
    assert ignored == ()


def test_options_that_cannot_be_honoured_are_listed_with_a_reason(untimed: AsrModel) -> None:
    """Word times need an aligner of the language."""
    effective, ignored = untimed.effective_options(replace(HINDI, word_timestamps=True))
    assert not effective.word_timestamps
    assert [(one.field, "'hi'" in one.reason) for one in ignored] == [("word_timestamps", True)]


def test_language_probabilities_are_of_the_models_languages_and_sum_to_one(
    untimed: AsrModel, model: AsrModel, noise: list[np.ndarray]
) -> None:
    """Whisper's jw is told as jv; a model of two languages knows two."""
    assert untimed.languages == ("hi", "jv")
    assert model.languages == ("en", "hi", "jv")
    for one in (untimed, model):
        for probabilities in one.detect_language(noise):
            assert set(probabilities) == set(one.languages)
            assert sum(probabilities.values()) == pytest.approx(1.0)


def test_words_come_with_the_segments_and_leave_the_text_alone(
    random_checkpoint: Path,
    bundled_aligner: Path,
    model: AsrModel,
    load: Callable[..., Any],
    noise: list[np.ndarray],
) -> None:
    """With an aligner each segment that has words has exactly those of its text."""
    aligned = load(random_checkpoint, compute_type="float32", align_models=f"hi={bundled_aligner}")
    options = replace(HINDI, word_timestamps=True)
    assert aligned.effective_options(options)[1] == ()
    (result,) = aligned.transcribe([noise[1]], options, never)
    (plain,) = model.transcribe([noise[1]], HINDI, never)
    assert text_of(result) == text_of(plain)
    assert any(segment.words for segment in result.segments)
    for segment in result.segments:
        assert [w.text for w in segment.words] in ([], segment.text.split())
    request = AlignmentRequest(noise[0], "मैं घर जाऊँगा", "hi")
    assert [w.text for w in aligned.align([request])[0]] == request.text.split()
    aligned.close()


def test_a_checkpoint_is_converted_once(
    random_checkpoint: Path, tmp_path: Path, load: Callable[..., Any]
) -> None:
    """The second load finds the conversion of the first; the revision is that of the source."""
    first = load(random_checkpoint, model_cache_dir=tmp_path)
    assert "converting to CTranslate2" in load.told
    (weights,) = tmp_path.rglob("model.bin")
    made = weights.stat().st_mtime_ns
    second = load(random_checkpoint, model_cache_dir=tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.rglob("model.bin")] == [made]
    assert first.ref == second.ref
    assert first.ref.id == "random-whisper"
    first.close()
    second.close()


def test_a_checkpoint_without_tokenizer_json_gets_one(
    random_checkpoint: Path, tmp_path: Path, load: Callable[..., Any]
) -> None:
    """Older fine-tunes have vocab.json and merges.txt alone."""
    source = tmp_path / "old"
    shutil.copytree(random_checkpoint, source)
    (source / "tokenizer.json").unlink()
    model = load(source, model_cache_dir=tmp_path / "cache")
    assert set(model.languages) == {"en", "hi", "jv"}
    model.close()


def test_damaged_weights_end_the_load_with_a_sentence(
    converted: Path, tmp_path: Path, load: Callable[..., Any]
) -> None:
    """An interrupted copy is told as such."""
    broken = tmp_path / "broken"
    shutil.copytree(converted, broken)
    weights = broken / "model.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnavailableError, match="its files may be damaged"):
        load(broken)


def test_a_checkpoint_that_is_no_whisper_is_not_kept(
    random_checkpoint: Path, tmp_path: Path, load: Callable[..., Any]
) -> None:
    """A failed conversion leaves nothing that the next load would take."""
    source = tmp_path / "odd"
    shutil.copytree(random_checkpoint, source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "d_model": 65}))
    cache = tmp_path / "cache"
    with pytest.raises(ModelUnavailableError, match="could not be converted"):
        load(source, model_cache_dir=cache)
    assert not list(cache.rglob("model.bin"))


@pytest.mark.slow  # loads the model again and again
def test_close_gives_the_memory_back(converted: Path, load: Callable[..., Any]) -> None:
    """Twenty loads and closes need no more memory than a few models."""
    load(converted, compute_type="float32").close()
    process, size = psutil.Process(), (converted / "model.bin").stat().st_size
    before = process.memory_info().rss
    for _ in range(20):
        load(converted, compute_type="float32").close()
    gc.collect()
    assert process.memory_info().rss - before < 8 * size


@pytest.mark.parametrize("without_timestamps", [pytest.param(True, marks=pytest.mark.slow), False])
def test_the_example_gets_the_text_that_whisperx_gives_it(
    bundled_asr: Path,
    load: Callable[..., Any],
    tmp_path: Path,
    without_timestamps: bool,  # noqa: FBT001 - a parameter of pytest's
) -> None:
    """The bundled model hears in the example what whisperx itself hears with it.

    With timestamps, as this service decodes, and without, as whisperx does by default and this
    service where the model's directory asks for it. Windows of two cues are short enough for the
    224 tokens beyond which whisperx drops text.
    """
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    from voxroute_asr_whisperx.convert import convert  # noqa: PLC0415 - takes seconds

    directory = tmp_path / "bundled"
    directory.mkdir()
    convert(bundled_asr, directory)
    traits = {"languages": ["hi", "en"], "timestamps": not without_timestamps}
    (directory / "voxroute.json").write_text(json.dumps(traits))
    samples = np.asarray(decode_audio(str(EXAMPLE), sampling_rate=SAMPLE_RATE))
    cues = pysubs2.load(str(EXAMPLE.with_suffix(".hi.srt")))
    pauses = [(one.end + other.start) // 2 for one, other in pairwise(cues)]
    cuts_ms = [0, *pauses[1::2], len(samples) * 1000 // SAMPLE_RATE]
    windows = [
        samples[begin * SAMPLE_RATE // 1000 : end * SAMPLE_RATE // 1000]
        for begin, end in pairwise(cuts_ms)
    ]
    model = load(directory, compute_type="float32")
    ours = [text_of(result) for result in model.transcribe(windows, HINDI, never)]
    model.close()
    assert ours == library_texts(directory, windows, without_timestamps=without_timestamps)
