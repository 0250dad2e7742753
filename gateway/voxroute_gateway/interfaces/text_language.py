"""The language of a text by its letters, as far as those tell it."""

from collections.abc import Sequence

from voxroute_gateway.errors import RequestError
from voxroute_serving.scripts import n_letters, script_share, scripts_of

_MOST = 0.5  # of the letters


def detect(text: str, languages: Sequence[str]) -> tuple[str, float]:
    """Which of the languages it is in, and how much of it, percent.

    Raises RequestError where the letters are those of none of them, or of several.
    """
    shares = {
        language: script_share(text, *scripts)
        for language in languages
        if (scripts := scripts_of(language))
    }
    found = [language for language, share in shares.items() if share >= _MOST]
    if len(found) != 1 or not n_letters(text):
        raise RequestError(
            400,
            "source: the letters do not tell the language of the text; name it",
            "language_unknown",
            "source",
        )
    return found[0], round(100 * shares[found[0]], 1)
