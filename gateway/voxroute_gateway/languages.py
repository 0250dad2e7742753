"""Languages as clients write them, and as they want to read them."""

import langcodes

from voxroute_gateway.errors import bad_field
from voxroute_orchestrator.transcript import standard_tag

_NOT_GIVEN = frozenset({"", "auto", "null", "none", "undefined"})
_OF_CLIENTS = {"pb": "pt-BR", "zt": "zh-Hant", "iw": "he", "zh-cn": "zh", "zh-tw": "zh-Hant"}
"""What programs for subtitles and LibreTranslate's clients write instead of the standard's tags."""
_TABLE = """\
af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian,
bg bulgarian, bn bengali, bo tibetan, br breton, bs bosnian, ca catalan, cs czech, cy welsh,
da danish, de german, el greek, en english, es spanish, et estonian, eu basque, fa persian, fi
finnish, fil tagalog, fo faroese, fr french, gl galician, gu gujarati, ha hausa, haw hawaiian,
he hebrew, hi hindi, hr croatian, ht haitian creole, hu hungarian, hy armenian, id indonesian,
is icelandic, it italian, ja japanese, jv javanese, ka georgian, kk kazakh, km khmer, kn
kannada, ko korean, la latin, lb luxembourgish, ln lingala, lo lao, lt lithuanian, lv latvian,
mg malagasy, mi maori, mk macedonian, ml malayalam, mn mongolian, mr marathi, ms malay, mt
maltese, my myanmar, nb norwegian, ne nepali, nl dutch, nn nynorsk, no norwegian, oc occitan,
pa punjabi, pl polish, ps pashto, pt portuguese, ro romanian, ru russian, sa sanskrit, sd
sindhi, si sinhala, sk slovak, sl slovenian, sn shona, so somali, sq albanian, sr serbian, su
sundanese, sv swedish, sw swahili, ta tamil, te telugu, tg tajik, th thai, tk turkmen, tl
tagalog, tr turkish, tt tatar, uk ukrainian, ur urdu, uz uzbek, vi vietnamese, yi yiddish, yo
yoruba, yue cantonese, zh chinese
"""
_NAMES = {tag: name for tag, _, name in (one.strip().partition(" ") for one in _TABLE.split(","))}
"""Whisper's own names, which programs look languages up by. Unicode's take 300 MB and a second."""
_TAGS = {name: tag for tag, name in _NAMES.items()}


def tags() -> list[str]:
    """The languages that Whisper knows."""
    return list(_NAMES)


def tag_of(text: str, field: str = "language") -> str:
    """The tag of a code, a BCP-47 tag or an English name; "" where none is meant.

    Raises RequestError.
    """
    said = text.strip()
    if said.lower() in _NOT_GIVEN:
        return ""
    known = _OF_CLIENTS.get(said.lower()) or _TAGS.get(said.lower())
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
    primary = tag.partition("-")[0].lower()
    return _NAMES.get(primary) or langcodes.Language.get(tag or "und").language_name("en").lower()


def title_of(tag: str) -> str:
    """The English name as lists of languages show it."""
    known = _NAMES.get(tag)
    return known.title() if known else langcodes.Language.get(tag).display_name("en")
