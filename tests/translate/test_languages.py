"""Languages: BCP-47 outside, a model family's codes inside."""

import pytest

from voxroute_serving.errors import InvalidInputError
from voxroute_translate import languages
from voxroute_translate.languages import Language


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("hi", "hin_Deva"),
        ("hi-IN", "hin_Deva"),
        ("kok", "gom_Deva"),
        ("gom", "gom_Deva"),
        ("brx", "brx_Deva"),
        ("ks", "kas_Arab"),
        ("ks-Deva", "kas_Deva"),
        ("sd", "snd_Arab"),
        ("sd-Deva", "snd_Deva"),
        ("mni", "mni_Beng"),
        ("mni-Mtei", "mni_Mtei"),
        ("sat", "sat_Olck"),
        ("or", "ory_Orya"),
        ("ne", "npi_Deva"),
        ("zh", "zho_Hans"),
        ("zh-CN", "zho_Hans"),
        ("zh-Hant", "zho_Hant"),
        ("zh-TW", "zho_Hant"),
        ("pt-BR", "por_Latn"),
        ("sr", "srp_Cyrl"),
        ("no", "nob_Latn"),
        ("nb", "nob_Latn"),
        ("ar", "arb_Arab"),
        ("fa", "pes_Arab"),
        ("sw", "swh_Latn"),
        ("iw", "heb_Hebr"),
    ],
)
def test_a_tag_and_a_models_code_are_one_language(tag: str, code: str) -> None:
    """A BCP-47 tag and the FLORES code of the same language and script parse to the same."""
    assert languages.parse(tag) == languages.parse(code)


@pytest.mark.parametrize(
    ("one", "other"),
    [("zh-Hans", "zh-Hant"), ("sr", "sr-Latn"), ("ks", "ks-Deva"), ("mni", "mni-Mtei"),
     ("ar", "arz"), ("hi", "ur")],
)  # fmt: skip
def test_another_script_is_another_language(one: str, other: str) -> None:
    """Variants that a reader of one cannot read are never the same to a model."""
    assert languages.parse(one) != languages.parse(other)


@pytest.mark.parametrize("code", languages.INDICTRANS2_CODES)
def test_tags_name_the_language_again(code: str) -> None:
    """The tag that goes out parses back to the language it came from."""
    language = languages.parse(code)
    assert languages.parse(language.tag) == language


def test_the_script_is_named_only_where_it_matters() -> None:
    """A tag leaves out the script that goes without saying, and keeps the others."""
    assert languages.parse("hin_Deva").tag == "hi"
    assert languages.parse("zho_Hant").tag == "zh-Hant"
    assert languages.parse("mni_Mtei").tag == "mni-Mtei"


@pytest.mark.parametrize("tag", ["", "english", "xx", "und", "h", "hi-", "hi_IN_x_", "हिन्दी", "1"])
def test_what_is_no_language_is_refused_with_alternatives(tag: str) -> None:
    """An unknown tag is INVALID_ARGUMENT and names tags that would do."""
    known = [Language("hi", "Deva"), Language("en", "Latn")]
    with pytest.raises(InvalidInputError, match="en, hi") as refused:
        languages.parse_field(tag, "config.source_language", known)
    assert refused.value.violations[0].field == "config.source_language"
