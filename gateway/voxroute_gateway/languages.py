"""Languages as clients write them, and as they want to read them."""

import langcodes

from voxroute_gateway.errors import bad_field
from voxroute_orchestrator.transcript import standard_tag

_NOT_GIVEN = frozenset({"", "auto", "null", "none", "undefined"})
_OF_CLIENTS = {"pb": "pt-BR", "zt": "zh-Hant", "iw": "he", "zh-cn": "zh", "zh-tw": "zh-Hant"}
"""What programs for subtitles and LibreTranslate's clients write instead of the standard's tags."""
_OF_WHISPER = {
    "bn": "bengali", "fil": "tagalog", "mi": "maori", "my": "myanmar", "nn": "nynorsk",
    "tl": "tagalog",
}  # fmt: skip
"""Whisper's names where they are others than Unicode's; programs look languages up by them."""


def tag_of(text: str, field: str = "language") -> str:
    """The tag of a code, a BCP-47 tag or an English name; "" where none is meant.

    Raises RequestError.
    """
    said = text.strip()
    if said.lower() in _NOT_GIVEN:
        return ""
    known = _OF_CLIENTS.get(said.lower())
    if known is not None:
        return known
    try:
        return standard_tag(said)
    except ValueError:
        pass
    try:
        return langcodes.find(said).to_tag()
    except LookupError:
        raise bad_field(field, "write a code such as hi, or an English name") from None


def name_of(tag: str) -> str:
    """The English name in lower case, as Whisper's own tools write it."""
    language = langcodes.Language.get(tag or "und")
    return _OF_WHISPER.get(language.language or "") or language.language_name("en").lower()


def title_of(tag: str) -> str:
    """The English name as lists of languages show it."""
    return langcodes.Language.get(tag).display_name("en")
