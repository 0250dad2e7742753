"""Scripts of languages and of texts: Devanagari, Latin, ... Named as BCP-47 names them ("Deva").

Unicode tells the script of a letter (the `regex` package reads it), CLDR's likely subtags that of a
language (`langcodes`).
"""

import functools
from collections.abc import Collection
from typing import Any

# Scripts of BCP-47 that are several of Unicode's, or of which Unicode knows no letters.
_UNICODE_SCRIPTS = {
    "Hans": ("Hani",),
    "Hant": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Zyyy": (),
}

# Languages that are written in more than the likely script, by people and by models.
_MORE_SCRIPTS = {
    "az": ("Cyrl", "Arab"),
    "bs": ("Cyrl",),
    "ha": ("Arab",),
    "jv": ("Java",),
    "kk": ("Latn", "Arab"),
    "kok": ("Latn",),
    "ks": ("Deva",),
    "ku": ("Arab",),
    "ky": ("Latn", "Arab"),
    "mn": ("Mong",),
    "mni": ("Mtei",),
    "ms": ("Arab",),
    "pa": ("Arab",),
    "sa": ("Latn",),
    "sat": ("Deva", "Latn"),
    "sd": ("Deva",),
    "so": ("Arab",),
    "sr": ("Latn",),
    "su": ("Sund",),
    "tg": ("Latn", "Arab"),
    "tk": ("Cyrl", "Arab"),
    "tt": ("Latn",),
    "ug": ("Cyrl", "Latn"),
    "uz": ("Cyrl", "Arab"),
    "yi": ("Latn",),
}


@functools.lru_cache(maxsize=1024)
def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts in which a language (BCP-47) is written; the tag's own where it names one.

    None for what is no tag.
    """
    import langcodes  # noqa: PLC0415 - a tenth of a second

    try:
        tag = langcodes.Language.get(language)
    except ValueError:  # langcodes' LanguageTagError
        return ()
    if tag.script:
        return (tag.script,)
    likely = tag.maximize().script
    return (likely, *_MORE_SCRIPTS.get(tag.language or "", ())) if likely else ()


def n_letters(text: str, scripts: Collection[str] = ()) -> int:
    """How many letters a text has: of these scripts, or of any.

    Marks, digits and what all scripts share are none.
    """
    found: list[str] = _letters(tuple(scripts)).findall(text)
    return len(found)


def has_letters(text: str) -> bool:
    """Whether there is a letter of any script."""
    return n_letters(text) > 0


def script_share(text: str, *scripts: str) -> float:
    """Which part of the letters is of the scripts, 0 to 1; 1 without letters.

    And 1 where one of the scripts is not known here.
    """
    letters = n_letters(text)
    if not letters or not all(map(_names, scripts)):
        return 1.0
    return n_letters(text, scripts) / letters


def share_letters(one: str, other: str) -> bool:
    """Whether texts of the two scripts can be told apart only by their words."""
    names, others = _names(one), _names(other)
    return not names or not others or bool(set(names) & set(others))


@functools.lru_cache(maxsize=256)
def _names(script: str) -> tuple[str, ...]:
    """Unicode's scripts that a script of BCP-47 is; none where it is not known."""
    import regex  # noqa: PLC0415 - with the first text

    names = _UNICODE_SCRIPTS.get(script, (script,))
    try:
        for name in names:
            regex.compile(rf"\p{{Script={name}}}")
    except regex.error:
        return ()
    return names


@functools.lru_cache(maxsize=256)
def _letters(scripts: tuple[str, ...]) -> Any:  # a pattern; the package has no types
    import regex  # noqa: PLC0415 - with the first text

    names = [name for script in scripts for name in _names(script)]
    own = "".join(rf"\p{{Script={name}}}" for name in names)
    others = r"--[\p{Script=Common}\p{Script=Inherited}]"
    return regex.compile(rf"[\p{{L}}{others}{f'&&[{own}]' if names else ''}]", regex.VERSION1)
