"""Names, formats and traits of models: no model is loaded."""

import json
import sys
from pathlib import Path
from subprocess import run

import pytest
from pydantic import ValidationError

from voxroute_asr_whisperx import ENGINE
from voxroute_asr_whisperx.align import HUB_ALIGNERS, TORCHAUDIO_FILES
from voxroute_asr_whisperx.engine import WhisperXEngine
from voxroute_asr_whisperx.models import format_of, traits_of
from voxroute_asr_whisperx.settings import WhisperXSettings
from voxroute_serving.asr.engine import Feature
from voxroute_serving.asr.whisper.family import ALIASES, bcp47, whisper_code
from voxroute_serving.errors import ModelNotFoundError, ModelUnavailableError


def engine_of(cache: Path, **fields: object) -> WhisperXEngine:
    """An engine on the CPU without network."""
    defaults = {"offline": True, "device": "cpu", "model_cache_dir": cache}
    return WhisperXEngine(WhisperXSettings.model_validate({**defaults, **fields}))


@pytest.fixture
def ctranslate2_model(tmp_path: Path) -> Path:
    """The files of a multilingual CTranslate2 model that the names are read from."""
    directory = tmp_path / "mine"
    directory.mkdir()
    tokens = ["endoftext", "startoftranscript", "en", "hi", "jw", "translate", "transcribe"]
    added = [{"id": 50257 + i, "content": f"<|{token}|>"} for i, token in enumerate(tokens)]
    (directory / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (directory / "config.json").write_text(json.dumps({"lang_ids": [50259, 50261]}))
    (directory / "model.bin").write_bytes(b"")
    return directory


def test_building_the_engine_imports_no_ml_library() -> None:
    """The port answers at once; torch, which takes seconds, comes with the model."""
    program = (
        "import sys; from voxroute_asr_whisperx.engine import WhisperXEngine;"
        "from voxroute_asr_whisperx.settings import WhisperXSettings;"
        "WhisperXEngine(WhisperXSettings(device='cpu')).describe();"
        "print(sorted({'torch', 'whisperx', 'transformers'} & set(sys.modules)))"
    )
    done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_of_names_is_that_of_faster_whisper() -> None:
    """A name means the same weights as in the library."""
    from faster_whisper.utils import _MODELS  # noqa: PLC0415 - takes seconds

    names = {**ENGINE.hub_ids, **{alias: ENGINE.hub_ids[name] for alias, name in ALIASES.items()}}
    assert names == _MODELS


def test_the_tables_of_alignment_models_are_those_of_whisperx() -> None:
    """A language takes the aligner that whisperx itself would take."""
    import torchaudio  # noqa: PLC0415 - takes seconds
    from whisperx import alignment  # noqa: PLC0415 - takes seconds

    pipelines = {
        language: vars(torchaudio.pipelines)[name]._path
        for language, name in alignment.DEFAULT_ALIGN_MODELS_TORCH.items()
    }
    assert pipelines == TORCHAUDIO_FILES
    assert alignment.DEFAULT_ALIGN_MODELS_HF == HUB_ALIGNERS


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("tiny", "tiny"),
        ("turbo", "large-v3-turbo"),
        ("large", "large-v3"),
        (" small.en ", "small.en"),
        ("openai/whisper-small", "openai/whisper-small"),
        ("", "small"),
    ],
)
def test_a_name_has_one_canonical_id(tmp_path: Path, name: str, id_: str) -> None:
    """Two names of one model are one model in memory."""
    assert engine_of(tmp_path).resolve(name) == id_


def test_a_directory_is_named_by_its_last_part(tmp_path: Path, ctranslate2_model: Path) -> None:
    """What a client sees and says is a name, not a path of the server's disk."""
    engine = engine_of(tmp_path, model=str(ctranslate2_model))
    assert engine.resolve("") == engine.resolve("mine") == "mine"
    assert engine.resolve(str(ctranslate2_model)) == "mine"


def test_a_client_cannot_name_other_directories(tmp_path: Path, ctranslate2_model: Path) -> None:
    """Only what the operator named is served; a path of somebody else's choice is no model."""
    with pytest.raises(ModelNotFoundError, match="for the operator to name"):
        engine_of(tmp_path).resolve(str(ctranslate2_model))
    assert engine_of(tmp_path, model_dirs=str(ctranslate2_model)).resolve("mine") == "mine"


def test_a_missing_default_directory_is_told_with_its_flag(tmp_path: Path) -> None:
    """A mistyped --model is not looked for on a hub."""
    engine = engine_of(tmp_path, model=str(tmp_path / "nothing"))
    with pytest.raises(ModelNotFoundError, match="of --model does not exist"):
        engine.resolve("")


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    """A typing error costs one round trip, not a search."""
    with pytest.raises(ModelNotFoundError, match="did you mean 'large-v3'"):
        engine_of(tmp_path).resolve("lage-v3")


def test_languages_are_those_of_the_converted_model(ctranslate2_model: Path) -> None:
    """A fine-tune that knows two of the tokenizer's languages says two; jw is jv in BCP-47."""
    traits = traits_of(ctranslate2_model, ctranslate2_model, "mine")
    assert traits.languages == ("en", "jv")
    assert traits.tasks == ("transcribe", "translate")


@pytest.mark.parametrize(("start", "languages"), [(50_257, ("en",)), (50_258, ("en", "hi", "jv"))])
def test_an_english_vocabulary_has_one_language(
    tmp_path: Path, start: int, languages: tuple[str, ...]
) -> None:
    """It names languages all the same, and so do conversions: its first token tells it apart."""
    tokens = ["startoftranscript", "en", "hi", "jw", "translate", "transcribe"]
    added = [{"id": start + i, "content": f"<|{token}|>"} for i, token in enumerate(tokens)]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (tmp_path / "config.json").write_text(json.dumps({"lang_ids": [50259, 50260, 50261]}))
    traits = traits_of(tmp_path, tmp_path, "mine")
    assert traits.languages == languages
    assert traits.tasks == (("transcribe",) if len(languages) == 1 else ("transcribe", "translate"))


def test_an_own_file_decides_about_languages_and_tasks(ctranslate2_model: Path) -> None:
    """What a model's maker knows goes before what its tokenizer could say."""
    own = {"languages": ["hi"], "tasks": ["transcribe"]}
    (ctranslate2_model / "voxroute.json").write_text(json.dumps(own))
    traits = traits_of(ctranslate2_model, ctranslate2_model, "mine")
    assert (traits.languages, traits.tasks) == (("hi",), ("transcribe",))


@pytest.mark.parametrize("name", ["large-v3-turbo", "distil-large-v3"])
def test_models_trained_to_transcribe_only_do_not_translate(
    ctranslate2_model: Path, name: str
) -> None:
    """Asked to translate they would answer in the language spoken."""
    assert traits_of(ctranslate2_model, ctranslate2_model, name).tasks == ("transcribe",)


def test_a_model_without_tokenizer_says_what_to_copy(ctranslate2_model: Path) -> None:
    """faster-whisper would ask a hub for another model's tokenizer."""
    (ctranslate2_model / "tokenizer.json").unlink()
    with pytest.raises(ModelUnavailableError, match=r"has no tokenizer\.json; copy"):
        traits_of(ctranslate2_model, ctranslate2_model, "mine")


@pytest.mark.parametrize(
    "config", [None, "{", '{"model_type": "bert"}', '{"model_type": "whisper"}']
)
def test_a_directory_without_a_whisper_model_is_refused(tmp_path: Path, config: str | None) -> None:
    """The message says what the directory should hold."""
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelUnavailableError, match=r"config\.json"):
        format_of(tmp_path)


def test_language_codes_translate_both_ways() -> None:
    """Whisper's jw is BCP-47's jv; script and region play no part in recognition."""
    assert bcp47("<|jw|>") == "jv"
    assert whisper_code("jv") == "jw"
    assert whisper_code("pt-BR") == "pt"


def test_without_an_aligner_there_is_neither_alignment_nor_word_times(tmp_path: Path) -> None:
    """A capability is what this machine can do now, not what the library could download."""
    described = engine_of(tmp_path).describe()
    assert described.alignable_languages == ()
    assert not {Feature.ALIGNMENT, Feature.WORD_TIMESTAMPS} & described.features


def test_alignable_languages_are_those_with_a_model_here(tmp_path: Path) -> None:
    """A directory that is there counts, one that is not does not; WhisperX's own when present."""
    (tmp_path / "hi").mkdir()
    (tmp_path / "alignment").mkdir()
    (tmp_path / "alignment" / TORCHAUDIO_FILES["fr"]).write_bytes(b"")
    engine = engine_of(tmp_path, align_models=f"hi={tmp_path}/hi,ta={tmp_path}/ta")
    assert engine.describe().alignable_languages == ("fr", "hi")


def test_an_alignment_model_needs_its_language() -> None:
    """`--align-models DIR` would leave the language to a guess."""
    with pytest.raises(ValidationError, match="LANGUAGE=DIR"):
        WhisperXSettings.model_validate({"align_models": "/models/hi"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "mps"}, "use the MLX service"),
        ({"device": "cuda"}, "finds no CUDA device"),
        ({"compute_type": "int3"}, "'int3' is no compute type"),
    ],
)
def test_a_device_that_is_not_there_is_told_at_once(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    """The service ends with a sentence instead of running elsewhere in silence."""
    import ctranslate2  # noqa: PLC0415 - as the engine does

    if fields.get("device") == "cuda" and ctranslate2.get_cuda_device_count():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ModelUnavailableError, match=message):
        engine_of(tmp_path, **fields)


def test_the_processor_and_its_memory_are_described(tmp_path: Path) -> None:
    """An operator sees what answers: the processor's name and its memory."""
    device = engine_of(tmp_path).describe().device
    assert (device.kind, device.compute_type) == ("cpu", "int8")
    assert device.name
    assert device.memory_total_bytes is not None
    assert device.memory_total_bytes > 10**8
