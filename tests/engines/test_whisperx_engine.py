"""WhisperX on a Whisper checkpoint with random weights: everything but the text it hears."""

# pyright: basic

import gc
import json
import logging
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pysubs2
import pytest

from tests.engines.conftest import settings_of
from tests.quiet import never
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.engine import AlignmentRequest, AsrModel, DecodingOptions, WindowResult
from voxroute_serving.audio.samples import SAMPLE_RATE
from voxroute_serving.errors import EngineError, ModelUnavailableError

EXAMPLE = Path(__file__).parents[2] / "examples" / "lost-key.mp4"
HINDI = DecodingOptions(language="hi", temperatures=(0.0,))


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


@pytest.fixture(scope="module")
def plain(model: AsrModel, noise: list[np.ndarray]) -> WindowResult:
    """What it writes for 3 s without further options."""
    (result,) = model.transcribe([noise[0]], HINDI, never)
    return result


@pytest.fixture(scope="session")
def bilingual(
    random_checkpoint: Path, load: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AsrModel]:
    """The random model, declared as one of two languages."""
    directory = tmp_path_factory.mktemp("models") / "bilingual"
    shutil.copytree(random_checkpoint, directory)
    (directory / "voxroute.json").write_text('{"languages": ["hi", "jv"]}')
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


@pytest.mark.parametrize(
    "options",
    [
        {"initial_prompt": "कल"},
        # the library decodes all windows once more for each
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"beam_size": 1}, marks=pytest.mark.slow),
    ],
)
def test_text_is_that_of_whisperx(
    model: AsrModel, converted: Path, noise: list[np.ndarray], options: dict[str, Any]
) -> None:
    """The same weights and audio give the same text as whisperx.load_model(...).transcribe.

    Random weights write until there is no room left, so the last word, which may be half of one,
    is left to the rest of the window.
    """
    windows = noise[:3]
    ours = model.transcribe(windows, replace(HINDI, **options), never)
    for our, their in zip(ours, library_texts(converted, windows, **options), strict=True):
        text = text_of(our)
        assert their.startswith(text)
        assert len(their[len(text) :].split()) <= 1


@pytest.mark.slow  # decodes every window twice
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


def test_segments_lie_within_their_window(model: AsrModel, noise: list[np.ndarray]) -> None:
    """Whatever random weights write: inside, in order, apart, with text, none too long to read."""
    for window, result in zip(noise, model.transcribe(noise, HINDI, never), strict=True):
        floor_s = 0.0
        for segment in result.segments:
            assert floor_s <= segment.start_s < segment.end_s <= len(window) / SAMPLE_RATE + 1e-6
            assert segment.end_s - segment.start_s <= 12.01
            assert segment.text == segment.text.strip() != ""
            floor_s = segment.end_s
        if result.rest_from_s is not None:
            assert floor_s <= result.rest_from_s < len(window) / SAMPLE_RATE


def test_every_segment_tells_how_sure_the_model_was(plain: WindowResult) -> None:
    """The figures that whisperx leaves out are there: whoever reads the text can judge it."""
    assert plain.segments
    for segment in plain.segments:
        assert segment.avg_log_prob is not None
        assert segment.avg_log_prob < 0
        assert segment.no_speech_prob is not None
        assert 0 <= segment.no_speech_prob <= 1
        assert segment.compression_ratio is not None
        assert segment.compression_ratio > 0
        assert segment.temperature == 0.0


def test_a_window_is_decoded_at_the_first_temperature_alone(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """What fails is decoded again by the service, with windows of other calls."""
    for temperatures in ((0.0, 1.0), (1.0, 0.0)):
        options = replace(HINDI, temperatures=temperatures, log_prob_threshold=-100.0)
        (result,) = model.transcribe([noise[0]], options, never)
        assert {segment.temperature for segment in result.segments} == {temperatures[0]}


@pytest.mark.slow
def test_threads_give_what_one_thread_gives(model: AsrModel, noise: list[np.ndarray]) -> None:
    """Several batches at once on the same weights, each with the text of its own windows."""
    expected = [model.transcribe([one], HINDI, never) for one in noise]
    with ThreadPoolExecutor(3) as pool:
        found = pool.map(lambda one: model.transcribe([one], HINDI, never), noise * 2)
        assert list(found) == expected * 2


def test_a_silent_window_has_no_text(model: AsrModel, noise: list[np.ndarray]) -> None:
    """Text that the model itself doubts, where it hears nobody, is invented and not shown."""
    options = replace(HINDI, no_speech_threshold=0.0, log_prob_threshold=-0.1)
    (result,) = model.transcribe([noise[0]], options, never)
    assert result.segments == ()


def test_nobody_waiting_ends_the_work_before_it_is_decoded(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """A call that is cancelled early costs no turn of the device."""
    assert model.transcribe(noise[:2], HINDI, lambda: True) == [WindowResult(())] * 2


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
    model: AsrModel, noise: list[np.ndarray], plain: WindowResult, options: dict[str, Any]
) -> None:
    """Honoured means that it reaches the decoder."""
    wanted = replace(HINDI, **options)
    effective, ignored = model.effective_options(wanted)
    assert ignored == ()
    assert all(getattr(effective, name) == value for name, value in options.items())
    (changed,) = model.transcribe([noise[0]], wanted, never)
    assert plain.segments[0].avg_log_prob != changed.segments[0].avg_log_prob


def test_a_long_prompt_and_many_hotwords_leave_room_for_the_answer(
    model: AsrModel, noise: list[np.ndarray]
) -> None:
    """Both share half of the model's context; faster-whisper would let them fill it."""
    options = replace(HINDI, initial_prompt="नमस्ते " * 500, hotwords=("श्याम",) * 500)
    (result,) = model.transcribe([noise[0]], options, never)
    assert result.segments


def test_defaults_are_told(model: AsrModel) -> None:
    """A request that leaves all open is told what it gets: whisperx's, but fewer temperatures."""
    effective, ignored = model.effective_options(DecodingOptions(language="hi"))
    assert effective == DecodingOptions(
        language="hi",
        beam_size=5,
        temperatures=(0.0, 0.2),
        compression_ratio_threshold=2.4,
        log_prob_threshold=-1.0,
        no_speech_threshold=0.6,
    )
    assert ignored == ()


def test_a_warm_up_encodes_no_whole_window_on_a_processor(
    model: Any, noise: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to be compiled there; all of a transcription is run, and its errors show."""
    encode, lengths = model._any.encode, []
    monkeypatch.setattr(
        model._any,
        "encode",
        lambda windows, n_samples: lengths.append(n_samples) or encode(windows, n_samples),
    )
    model.warm_up(noise[0])
    assert lengths == [20 * 160]
    monkeypatch.setattr(model, "_attended", lambda *_: 1 / 0)
    with pytest.raises(EngineError, match="the recogniser failed"):
        model.warm_up(noise[0])


@pytest.mark.parametrize("quick", [True, False])
def test_features_are_those_of_the_library(noise: list[np.ndarray], *, quick: bool) -> None:
    """In less time, and filled up with silence: equal to the fifth decimal."""
    from faster_whisper.feature_extractor import FeatureExtractor  # noqa: PLC0415 - takes seconds

    from voxroute_asr_whisperx.features import LogMel  # noqa: PLC0415 - takes seconds

    for n_mels in (80, 128):
        extract = FeatureExtractor(feature_size=n_mels)
        ours = LogMel(extract, quick=quick)(noise)
        assert ours.shape == (len(noise), n_mels, 3000)
        for window, features in zip(noise, ours, strict=True):
            filled = np.pad(window, (0, 30 * SAMPLE_RATE - len(window)))
            assert np.abs(extract(filled, padding=0) - features).max() < 1e-4


def test_options_that_cannot_be_honoured_are_listed_with_a_reason(bilingual: AsrModel) -> None:
    """Word times need an aligner of the language."""
    effective, ignored = bilingual.effective_options(replace(HINDI, word_timestamps=True))
    assert not effective.word_timestamps
    assert [(one.field, "'hi'" in one.reason) for one in ignored] == [("word_timestamps", True)]


def test_language_probabilities_are_of_the_models_languages_and_sum_to_one(
    bilingual: AsrModel, model: AsrModel, noise: list[np.ndarray]
) -> None:
    """Whisper's jw is told as jv; a model of two languages knows two."""
    assert bilingual.languages == ("hi", "jv")
    assert model.languages == ("en", "hi", "jv")
    for one in (bilingual, model):
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


@pytest.mark.slow
def test_the_example_gets_the_text_that_whisperx_gives_it(
    bundled_asr: Path, load: Callable[..., Any], tmp_path: Path
) -> None:
    """The bundled model hears in the example what whisperx itself hears with it.

    Windows of two cues are short enough for the 224 tokens beyond which whisperx drops text.
    """
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    from voxroute_asr_whisperx.convert import convert  # noqa: PLC0415 - takes seconds

    directory = tmp_path / "bundled"
    directory.mkdir()
    convert(bundled_asr, directory)
    (directory / "voxroute.json").write_text('{"languages": ["hi", "en"]}')
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
    assert ours == library_texts(directory, windows)


@pytest.mark.slow  # decodes every window twice
def test_text_that_fills_the_context_tells_where_the_rest_begins(
    bundled_asr: Path, load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole words up to there, and the rest as a window of its own has the others."""
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    from voxroute_asr_whisperx import whisper  # noqa: PLC0415 - takes seconds

    samples = np.asarray(decode_audio(str(EXAMPLE), sampling_rate=SAMPLE_RATE))
    cues = pysubs2.load(str(EXAMPLE.with_suffix(".hi.srt")))[:2]
    window = samples[: int((cues[1].end / 1000 + 0.3) * SAMPLE_RATE)]
    model = load(bundled_asr, compute_type="float32")
    (whole,) = model.transcribe([window], HINDI, never)
    assert whole.rest_from_s is None
    tokens = model._any.hf_tokenizer.encode(text_of(whole), add_special_tokens=False).ids
    # CTranslate2 writes half as many
    monkeypatch.setattr(whisper, "MAX_LENGTH", 2 * (2 * len(tokens) // 3))
    (begun,) = model.transcribe([window], HINDI, never)
    assert begun.rest_from_s is not None
    assert begun.segments[-1].end_s <= begun.rest_from_s < len(window) / SAMPLE_RATE
    (rest,) = model.transcribe([window[round(begun.rest_from_s * SAMPLE_RATE) :]], HINDI, never)
    model.close()
    assert text_of(whole).startswith(text_of(begun))
    missing = text_of(whole)[len(text_of(begun)) :].split()
    assert missing[-2:] == text_of(rest).split()[-2:]


IMPORTS = """
import json, sys
import numpy as np
from tests.engines.conftest import settings_of
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.engine import AlignmentRequest, DecodingOptions

HEAVY = ("torch", "transformers", "whisperx", "pyannote")

def imported():
    print(json.dumps([name for name in HEAVY if name in sys.modules]))

settings = json.loads(sys.argv[1])
engine = WhisperXEngine(WhisperXSettings.model_validate(settings))
engine.describe()
model = engine.load(engine.resolve(""), lambda _: None)
sound = np.sin(np.arange(48_000) / 20).astype(np.float32)
model.detect_language([sound])
model.transcribe([sound], DecodingOptions("hi", temperatures=(0.0,)), lambda: False)
imported()
model.align([AlignmentRequest(sound, "नमस्ते", "hi")])
imported()
model.close()
"""


@pytest.mark.slow
def test_transcribing_imports_none_of_the_libraries_that_take_seconds(
    converted: Path, bundled_aligner: Path, tmp_path: Path
) -> None:
    """A service is ready, and its memory is small, before anybody asks for words."""
    settings = {
        "model": str(converted),
        "device": "cpu",
        "offline": True,
        "model_cache_dir": str(tmp_path),
        "align_models": f"hi={bundled_aligner}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS, json.dumps(settings)],
        check=True,
        capture_output=True,
        text=True,
    )
    before, after = map(json.loads, done.stdout.splitlines())
    assert before == []
    assert {"torch", "whisperx"} <= {*after}


@pytest.mark.parametrize("log_text", [False, True])
def test_the_library_quotes_texts_only_where_they_may_be_logged(
    bundled_asr: Path, cache: Path, *, log_text: bool
) -> None:
    """It warns of segments that it cannot align, with what they say."""
    logger = logging.getLogger("whisperx.alignment")
    logger.setLevel(logging.NOTSET)
    WhisperXEngine(settings_of(cache, model=str(bundled_asr), log_text=log_text))
    assert logger.isEnabledFor(logging.WARNING) == log_text
    logger.setLevel(logging.NOTSET)
