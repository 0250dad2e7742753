"""Languages as the contract names them (BCP-47) and as model families name them.

A language is known here by its subtag and its script, because that is what decides which model
can read or write it: "zh-TW" is Chinese in Hant, "sr-Latn" is not what a model of Cyrillic Serbian
writes. Regions do not choose a model: "pt-BR" is Portuguese in Latn. Model families name languages
by FLORES-200 codes ("hin_Deva": NLLB, IndicTrans2), by ISO 639 subtags ("hi": M2M100, Marian).
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import langcodes

from voxroute_serving.bounds import quoted
from voxroute_serving.errors import InvalidInputError

# What CLDR keeps apart and model families do not: Norwegian is Bokmål, Konkani is Goan Konkani.
_SAME_LANGUAGE = {"no": "nb", "gom": "kok", "hbs": "sr", "pbt": "ps", "quy": "qu", "fuv": "ff"}

# Where models and CLDR disagree about the script that a bare tag means.
_DEFAULT_SCRIPT = {"unr": "Deva"}

INDICTRANS2_CODES = (
    "asm_Beng", "ben_Beng", "brx_Deva", "doi_Deva", "eng_Latn", "gom_Deva", "guj_Gujr", "hin_Deva",
    "kan_Knda", "kas_Arab", "kas_Deva", "mai_Deva", "mal_Mlym", "mar_Deva", "mni_Beng", "mni_Mtei",
    "npi_Deva", "ory_Orya", "pan_Guru", "san_Deva", "sat_Olck", "snd_Arab", "snd_Deva", "tam_Taml",
    "tel_Telu", "urd_Arab",
)  # fmt: skip
"""FLORES-200 codes of IndicTrans2 (https://arxiv.org/abs/2305.16307, table 1): English and the 22
scheduled languages of India, three of them in two scripts. Sinhala is not among them."""


class Language(NamedTuple):
    """A language subtag with the script in which it is written: ("hi", "Deva")."""

    subtag: str
    script: str

    @property
    def tag(self) -> str:
        """The shortest BCP-47 tag, its script left out where it goes without saying."""
        if self.script == _likely_script(self.subtag):
            return self.subtag
        return f"{self.subtag}-{self.script}"


@functools.lru_cache(maxsize=1024)
def _likely_script(subtag: str) -> str:
    if subtag in _DEFAULT_SCRIPT:
        return _DEFAULT_SCRIPT[subtag]
    return langcodes.Language.get(subtag).maximize().script or "Zyyy"


@functools.lru_cache(maxsize=1024)
def parse(tag: str) -> Language:
    """The language of a BCP-47 tag, or of a model family's code. Raises ValueError."""
    try:
        # Models also write "hin_Deva" and "zh_CN"; BCP-47 separates with hyphens.
        language = langcodes.Language.get(tag.strip(), normalize=True)
        valid = language.is_valid()
    except ValueError as error:  # langcodes' LanguageTagError
        raise ValueError(f"{quoted(tag)} is not a BCP-47 language tag") from error
    if not valid or language.language in (None, "und", "mul", "zxx"):
        raise ValueError(f"{quoted(tag)} names no language")
    subtag = language.prefer_macrolanguage().language or ""
    subtag = _SAME_LANGUAGE.get(subtag, subtag)
    if language.script:
        return Language(subtag, language.script)
    if language.territory:  # a region can imply the script: zh-TW is Hant
        script = langcodes.Language.make(subtag, territory=language.territory).maximize().script
        return Language(subtag, script or _likely_script(subtag))
    return Language(subtag, _likely_script(subtag))


def parse_field(tag: str, field: str, known: Iterable[Language]) -> Language:
    """The language of a request's field. Raises InvalidInputError that names alternatives."""
    try:
        return parse(tag)
    except ValueError as error:
        tags = listed({language.tag for language in known})
        problem = "a BCP-47 language tag is needed" if not tag.strip() else str(error)
        raise InvalidInputError.of_field(field, f"{problem}; this service knows {tags}") from None


def listed(names: Iterable[str], most: int = 30) -> str:
    """Names in order, for a sentence; beyond `most` the rest is counted."""
    ordered = sorted(names)
    if not ordered:
        return "none"
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def writes_without_blanks(script: str) -> bool:
    """Whether sentences of the script follow each other without a blank."""
    return script in ("Hans", "Hant", "Jpan")
