"""What a model's files say it translates, and which model answers a pair."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from voxroute_serving.errors import InvalidInputError, ModelNotFoundError, ModelUnavailableError
from voxroute_translate import languages, registry
from voxroute_translate.registry import ModelCard, Registry


def describe(directory: Path, name: str | None = None) -> ModelCard:
    """The card of a directory, with a made-up revision."""
    return registry.describe(name or str(directory), directory, lambda _: "sha256:0")


def tags(pairs: object) -> set[tuple[str, str]]:
    """Pairs of languages as pairs of tags."""
    return {(source.tag, target.tag) for source, target in pairs}  # type: ignore[attr-defined]


def hub_like(directory: Path, model_type: str, **files: object) -> Path:
    """A directory with a config and JSON files, without weights."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


@pytest.fixture
def nllb(tmp_path: Path) -> Path:
    """The files of an NLLB model that say what it translates."""
    tokens = ["eng_Latn", "hin_Deva", "sin_Sinh", "zho_Hans", "zho_Hant", "por_Latn", "srp_Cyrl"]
    return hub_like(
        tmp_path / "nllb", "m2m_100", special_tokens_map={"additional_special_tokens": tokens}
    )


@pytest.fixture
def indictrans2(tmp_path: Path) -> Callable[[str], Path]:
    """The files of an IndicTrans2 model of a direction."""

    def make(direction: str) -> Path:
        codes = {code: number for number, code in enumerate(languages.INDICTRANS2_CODES, 4)}
        return hub_like(
            tmp_path / f"indictrans2-{direction}-dist", "IndicTrans", **{"dict.SRC": codes}
        )

    return make


def test_nllb_translates_between_all_its_languages(nllb: Path) -> None:
    """NLLB's languages are the codes of its tokenizer; every two are a pair, both ways."""
    card = describe(nllb, "facebook/nllb-200-distilled-600M")
    assert card.format == "nllb"
    assert card.license == "CC-BY-NC-4.0"
    pairs = tags(card.pairs())
    assert ("hi", "zh-Hant") in pairs
    assert ("zh", "zh-Hant") in pairs
    assert ("si", "en") in pairs
    assert len(pairs) == 7 * 6


def test_indictrans2_translates_in_its_direction_only(
    indictrans2: Callable[[str], Path],
) -> None:
    """The direction is in the name; Sinhala is in none of them."""
    name = "ai4bharat/indictrans2-{}-dist-200M"
    to_english = describe(indictrans2("indic-en"), name.format("indic-en"))
    from_english = describe(indictrans2("en-indic"), name.format("en-indic"))
    among = describe(indictrans2("indic-indic"), name.format("indic-indic"))
    assert to_english.license == "MIT"
    assert len(tags(to_english.pairs())) == 25
    assert ("kok", "en") in tags(to_english.pairs())
    assert ("en", "kok") not in tags(to_english.pairs())
    assert ("en", "brx") in tags(from_english.pairs())
    assert ("hi", "ta") in tags(among.pairs())
    assert ("ks", "ks-Deva") in tags(among.pairs())
    assert not any("en" in pair for pair in tags(among.pairs()))
    assert languages.parse("si") not in to_english.sources
    assert to_english.sources[languages.parse("kok")] == "gom_Deva"


def test_m2m100_and_marian_name_their_languages(checkpoint: Callable[[str], Path]) -> None:
    """M2M100 knows 100 languages by heart; a Marian model is one pair."""
    m2m100 = describe(checkpoint("m2m100-tiny"))
    assert m2m100.format == "m2m100"
    assert len(m2m100.sources) == 100
    assert m2m100.sources[languages.parse("nso")] == "ns"
    marian = describe(checkpoint("opus-mt-en-hi"))
    assert tags(marian.pairs()) == {("en", "hi")}


def test_a_marian_model_of_many_targets_lists_them(tmp_path: Path) -> None:
    """Targets of a group model are the >>xyz<< tokens of its vocabulary."""
    directory = hub_like(
        tmp_path / "opus-mt-en-inc", "marian", vocab={">>hin<<": 1, ">>ben<<": 2, "▁a": 3},
        tokenizer_config={"source_lang": "en", "target_lang": "inc"},
    )  # fmt: skip
    card = describe(directory)
    assert tags(card.pairs()) == {("en", "hi"), ("en", "bn")}
    assert card.targets[languages.parse("bn")] == "ben"


def test_voxroute_json_limits_the_pairs(nllb: Path) -> None:
    """A model that was tuned for some pairs says so, with its licence, in voxroute.json."""
    (nllb / "voxroute.json").write_text(
        json.dumps({"language_pairs": [["hi", "en"]], "license": "Apache-2.0"})
    )
    card = describe(nllb)
    assert tags(card.pairs()) == {("hi", "en")}
    assert card.license == "Apache-2.0"
    assert card.name == "nllb"  # the directory's name, not its path


def test_the_model_cards_licence_counts(nllb: Path) -> None:
    """The licence in the front matter of README.md is read as an SPDX identifier."""
    (nllb / "README.md").write_text("---\nlanguage: hi\nlicense: cc-by-4.0\n---\n# A model\n")
    assert describe(nllb).license == "CC-BY-4.0"


def test_what_is_no_translation_model_is_refused(tmp_path: Path, nllb: Path) -> None:
    """No config, another architecture, broken JSON, or no languages: each with what to do."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="no config"):
        describe(tmp_path / "empty")
    with pytest.raises(ModelNotFoundError, match="whisper"):
        describe(hub_like(tmp_path / "speech", "whisper"))
    with pytest.raises(ModelUnavailableError, match="language_pairs"):
        describe(hub_like(tmp_path / "unnamed", "marian"))
    (nllb / "special_tokens_map.json").write_text("{")
    with pytest.raises(ModelUnavailableError, match="special_tokens_map"):
        describe(nllb)


def test_the_first_model_that_can_answers(nllb: Path, indictrans2: Callable[[str], Path]) -> None:
    """IndicTrans2 where the pair allows it, NLLB for the rest; a request's choice comes first."""
    fallback = describe(nllb, "facebook/nllb")
    indic = describe(indictrans2("indic-en"), "ai4bharat/indictrans2-indic-en")
    models = Registry([indic, fallback])
    hindi, english, sinhala = map(languages.parse, ("hi", "en", "si"))
    assert models.choose(hindi, english) is indic
    assert models.choose(english, hindi) is fallback
    assert models.choose(sinhala, english) is fallback
    assert models.choose(hindi, english, fallback) is fallback
    table = {(source.tag, target.tag): card for source, target, card in models.table()}
    assert table["hi", "en"] is indic
    assert table["en", "hi"] is fallback
    assert table["ta", "en"] is indic
    assert list(table) == sorted(table)


def test_a_pair_that_nobody_translates_names_alternatives(
    indictrans2: Callable[[str], Path],
) -> None:
    """The error says where the source goes, or where the target comes from."""
    card = describe(indictrans2("indic-en"), "ai4bharat/indictrans2-indic-en")
    models = Registry([card])
    hindi, english, french, german = map(languages.parse, ("hi", "en", "fr", "de"))
    with pytest.raises(InvalidInputError, match="hi goes to en") as refused:
        models.choose(hindi, french)
    assert refused.value.violations[0].field == "config.target_language"
    with pytest.raises(InvalidInputError, match="en comes from as, bn"):
        models.choose(french, english)
    with pytest.raises(InvalidInputError, match="the languages here are"):
        models.choose(french, german, card)
    with pytest.raises(InvalidInputError, match="source language too"):
        models.choose(hindi, hindi)


def test_a_revision_stands_behind_the_name(tmp_path: Path) -> None:
    """org/model@revision pins a hub model; a directory's name may hold an @."""
    assert registry.split_name("org/model@0a1b2c") == ("org/model", "0a1b2c")
    assert registry.split_name("org/model") == ("org/model", None)
    odd = tmp_path / "model@home"
    odd.mkdir()
    assert registry.split_name(str(odd)) == (str(odd), None)
    shutil.rmtree(odd)
