"""Language tags as people write them, and those that a model takes."""

import re
from collections.abc import Sequence

from voxroute_serving.bounds import quoted
from voxroute_serving.errors import InvalidInputError

# Tags that are not what models call the language: withdrawn codes of ISO 639 and the parts of
# macrolanguages that stand for the whole.
_ALIASES = {
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "cmn": "zh",
    "fil": "tl",
    "nb": "no",
}


def match_language(tag: str, languages: Sequence[str]) -> str | None:
    """Which of a model's languages a BCP-47 tag asks for: "hi-IN" is "hi"; None for none.

    The longest part of the tag that the model knows wins, so "zh-Hant-TW" is "zh-Hant" where
    there is such a language and "zh" otherwise (RFC 4647, lookup).
    """
    known = {language.lower(): language for language in languages}
    parts = tag.strip().replace("_", "-").lower().split("-")
    if not re.fullmatch(r"[a-z]{2,8}", parts[0]):
        return None
    for primary in dict.fromkeys((parts[0], _ALIASES.get(parts[0], parts[0]))):
        subtags = [primary, *parts[1:]]
        for n in range(len(subtags), 0, -1):
            found = known.get("-".join(subtags[:n]))
            if found is not None:
                return found
    # the other way round: a model that lists "no" and not "nb" was found above; one that lists
    # "nb" is found here
    for alias, target in _ALIASES.items():
        if target == parts[0] and alias in known:
            return known[alias]
    return None


def unknown_language(
    tag: str, languages: Sequence[str], model: str, *, field: str = "language"
) -> InvalidInputError:
    """The error for a language that a model does not have."""
    return InvalidInputError.of_field(
        field,
        f"the model {quoted(model)} has no {quoted(tag)}; it has {', '.join(languages)}; leave"
        " the field empty to detect the language",
    )
