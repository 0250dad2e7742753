"""Text as it stands on the screen: characters that a person counts, where lines may break, lines.

Only what Unicode's tables in Python tell is used. Of UAX #29 the clusters of base and marks, of
Hangul letters and of joined emoji are kept together; of UAX #14 the rules that matter in subtitles:
breaks at blanks and around ideographs, none before closing or after opening punctuation. Thai,
Lao, Khmer and Burmese, which put no blanks between words, break at their phrases' blanks, and
within a phrase only where it is longer than a line.
"""

import functools
import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from voxroute_orchestrator.subtitles.rules import DEFAULT_RULES, CueRules

_BLANKS = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"[.?!।॥。．？！…؟۔።][\"'”’»」』)\]）]*$")  # noqa: RUF001 - full-width signs are meant
_CLAUSE_END = re.compile(r"[,;:،؛、，；：—–-][\"'”’»」』)\]）]*$")  # noqa: RUF001 - as above
_EDGES = "\"'“”‘’«»()[]{}¿¡.,;:!?…"  # noqa: RUF001 - typographic quotes are meant
_ZERO_WIDTH_JOINER = "\u200d"
_NO_LINE_START = set("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶー々〻ゝゞヽヾ")

# Breaks stand before conjunctions and prepositions, never between these and what they lead in.
_LEADS_IN = frozenset(
    word
    for line in (
        "a an the of to in on at by for from with into about as and but or nor so yet because",
        "that which who whose when where while if than then my your his her its our their this",
        "these those is are was were be been am do does did have has had will would can could",
        "shall should may might must not very",  # English
        "और लेकिन मगर कि क्योंकि या जो जब अगर तो जैसे एक यह वह इस उस मेरा मेरी मेरे",  # Hindi
        "el la los las un una de del en con por para y o pero que si",  # Spanish
        "le les des du et ou mais dans avec pour sur qui",  # French
        "der die das den dem ein eine und oder aber von zu mit im am für",  # German
    )
    for word in line.split()
)
# Hindi postpositions and auxiliaries belong to the word before them.
_FOLLOWS = frozenset(
    word
    for line in (
        "में से को का की के ने पर तक भी ही",
        "है हैं था थी थे हो रहा रही रहे गया गयी गई गए",
    )
    for word in line.split()
)
_HANGUL = (
    range(0x1100, 0x1200),
    range(0x3130, 0x3190),
    range(0xA960, 0xA980),
    range(0xAC00, 0xD800),
)
_HANGUL_WITHIN = (range(0x1160, 0x1200), range(0xD7B0, 0xD800))  # vowels and finals of a syllable
_KANA = (range(0x3041, 0x3100), range(0xFF66, 0xFF9E))
_HALF_WIDTH_CJK = range(0xFF65, 0xFFDD)
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def flat(text: str) -> str:
    """The text on one line."""
    return _BLANKS.sub(" ", text).strip()


@functools.lru_cache(maxsize=8192)
def _continues(character: str) -> bool:
    """Whether the character belongs to the one before it."""
    code = ord(character)
    return (
        unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"}
        or code in _SKIN_TONES
        or any(code in part for part in _HANGUL_WITHIN)
    )


@functools.lru_cache(maxsize=8192)  # words come again and again
def graphemes(text: str) -> tuple[str, ...]:
    """The characters of the text as a person counts them."""
    if text.isascii():
        return tuple(text)
    found: list[str] = []
    for character in text:
        joined = bool(found) and (
            found[-1].endswith(_ZERO_WIDTH_JOINER) and unicodedata.category(character) == "So"
        )
        if found and (joined or _continues(character)):
            found[-1] += character
        else:
            found.append(character)
    return tuple(found)


@functools.lru_cache(maxsize=8192)
def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in {"W", "F"}


@functools.lru_cache(maxsize=8192)
def _is_cjk(character: str) -> bool:
    """Whether the character is Chinese, Japanese or Korean, its punctuation included."""
    return unicodedata.category(character) not in {"So", "Sk"} and (
        _is_wide(character) or ord(character) in _HALF_WIDTH_CJK
    )


@functools.lru_cache(maxsize=8192)
def _is_hangul(character: str) -> bool:
    return any(ord(character) in part for part in _HANGUL)


@functools.lru_cache(maxsize=8192)
def _is_kana(character: str) -> bool:
    return any(ord(character) in part for part in _KANA)


def _is_ideograph(cluster: str) -> bool:
    return _is_cjk(cluster[0]) and not _is_hangul(cluster[0])


@dataclass(frozen=True, slots=True)
class Piece:
    """What a line break never divides: a word, or a character of a script without blanks."""

    text: str
    blank: bool
    """Whether a blank stands before it."""


def joined(pieces: Iterable[Piece]) -> str:
    """The pieces as a text on one line."""
    return "".join(" " + p.text if p.blank else p.text for p in pieces).removeprefix(" ")


def pieces_of(text: str, rules: CueRules = DEFAULT_RULES) -> list[Piece]:
    """The text in pieces; one that is longer than a line is cut."""
    return [piece for word in flat(text).split(" ") for piece in _pieces_of_word(word, rules)]


@functools.lru_cache(maxsize=8192)
def _pieces_of_word(word: str, rules: CueRules) -> tuple[Piece, ...]:
    texts = [cut for part in _breakable(word) for cut in _cut(part, rules)]
    return tuple(Piece(text, blank=number == 0) for number, text in enumerate(texts))


def _breakable(word: str) -> list[str]:
    """The word, cut around its ideographs as far as punctuation allows it."""
    parts: list[str] = []
    before = ""
    for cluster in graphemes(word):
        if before and not _may_break(before, cluster):
            parts[-1] += cluster
        else:
            parts.append(cluster)
        before = cluster
    return parts


def _may_break(before: str, after: str) -> bool:
    return (
        (_is_ideograph(before) or _is_ideograph(after))
        and unicodedata.category(before[0]) not in {"Ps", "Pi"}
        and unicodedata.category(after[0]) not in {"Pe", "Pf", "Po", "Pd"}
        and after[0] not in _NO_LINE_START
    )


def _cut(part: str, rules: CueRules) -> list[str]:
    if fits_line(part, rules):
        return [part]
    cuts: list[str] = []
    for cluster in graphemes(part):
        if cuts and fits_line(cuts[-1] + cluster, rules):
            cuts[-1] += cluster
        else:
            cuts.append(cluster)
    return cuts


def fits_line(text: str, rules: CueRules = DEFAULT_RULES) -> bool:
    """Whether the text is no longer than a line may be."""
    clusters = graphemes(text)
    if any(_is_cjk(cluster[0]) for cluster in clusters):
        return sum(map(_columns, clusters)) <= 2 * rules.cjk_line_characters
    return len(clusters) <= rules.line_characters


def _columns(cluster: str) -> int:
    return 2 if _is_wide(cluster[0]) else 1


@functools.lru_cache(maxsize=8192)
def reading_ms(text: str, rules: CueRules = DEFAULT_RULES) -> int:
    """How long a person needs to read the text; blanks and line feeds count as characters.

    Each character takes the time of its script's guide; Chinese characters that stand with kana
    are Japanese.
    """
    clusters = graphemes(text)
    korean = sum(_is_hangul(c[0]) for c in clusters)
    ideographs = sum(_is_ideograph(c) for c in clusters)
    japanese = any(_is_kana(c[0]) for c in clusters)
    speed = rules.japanese_characters_per_s if japanese else rules.chinese_characters_per_s
    return math.ceil(
        1000
        * (
            korean / rules.korean_characters_per_s
            + ideographs / speed
            + (len(clusters) - korean - ideographs) / rules.characters_per_s
        )
    )


def ends_sentence(text: str) -> bool:
    """Whether a sentence ends with the text."""
    return _SENTENCE_END.search(text) is not None


SENTENCE, CLAUSE, PHRASE, WORD, BOUND, INSIDE = range(6)
"""What a break separates, the best first; BOUND tears apart what belongs together."""


@functools.lru_cache(maxsize=8192)
def break_kind(before: Piece, after: Piece) -> int:
    """What a break between the two pieces separates."""
    if ends_sentence(before.text):
        return SENTENCE
    if _CLAUSE_END.search(before.text):
        return CLAUSE
    ideographic = _is_ideograph(before.text[-1]) or _is_ideograph(after.text[0])
    if not after.blank and not ideographic:
        return INSIDE
    last, first = before.text.strip(_EDGES).casefold(), after.text.strip(_EDGES).casefold()
    if last in _LEADS_IN or first in _FOLLOWS:
        return BOUND
    return PHRASE if first in _LEADS_IN else WORD


_BREAK_COLUMNS = (0, 2, 8, 12, 20, 30)
"""How many columns of imbalance between lines a break of each kind is worth."""


@functools.lru_cache(16_384)  # words come again, and each is measured for its cue and its line
def _size(text: str) -> tuple[int, int, int]:
    """Characters as people count them, columns, and how many are Chinese, Japanese or Korean."""
    clusters = graphemes(text)
    return len(clusters), sum(map(_columns, clusters)), sum(_is_cjk(c[0]) for c in clusters)


class Ruler:
    """Lengths of lines made of some pieces, each question answered in constant time."""

    def __init__(self, pieces: Sequence[Piece], rules: CueRules) -> None:
        self._pieces = pieces
        self._rules = rules
        self._characters, self._columns, self._cjk = [0], [0], [0]
        for piece in pieces:
            characters, columns, cjk = _size(piece.text)
            self._characters.append(self._characters[-1] + characters + piece.blank)
            self._columns.append(self._columns[-1] + columns + piece.blank)
            self._cjk.append(self._cjk[-1] + cjk)

    def columns(self, first: int, end: int) -> int:
        """The columns of a line of the pieces from first up to end; wide characters take two."""
        return self._columns[end] - self._columns[first] - self._pieces[first].blank

    def fits(self, first: int, end: int) -> bool:
        """Whether the pieces from first up to end are no longer than a line may be."""
        if self._cjk[end] > self._cjk[first]:
            return self.columns(first, end) <= 2 * self._rules.cjk_line_characters
        characters = self._characters[end] - self._characters[first] - self._pieces[first].blank
        return characters <= self._rules.line_characters

    def line_ends(self) -> list[int]:
        """For each piece, the end of the longest line that begins with it."""
        ends: list[int] = []
        end = 0
        for first in range(len(self._pieces)):
            end = max(end, first + 1)
            while end < len(self._pieces) and self.fits(first, end + 1):
                end += 1
            ends.append(end)
        return ends


def lines_of(pieces: Sequence[Piece], rules: CueRules = DEFAULT_RULES) -> list[str]:
    """The pieces on as few lines as hold them.

    Of the breaks that fit, none leaves a single piece on the last line where another does not;
    then the one counts whose lines are of the most equal length, a better kind of break being
    worth some columns. More lines than a cue may have are filled as they come.
    """
    ruler = Ruler(pieces, rules)
    ends = ruler.line_ends()
    bounds = [0]
    while bounds[-1] < len(pieces):
        bounds.append(ends[bounds[-1]])
    count = len(bounds) - 1
    if 1 < count <= rules.lines:
        bounds = _balanced(pieces, ruler, count)
    return [joined(pieces[first:end]) for first, end in itertools.pairwise(bounds)]


def _balanced(pieces: Sequence[Piece], ruler: Ruler, count: int) -> list[int]:
    best: tuple[tuple[bool, int], list[int]] | None = None
    for breaks in itertools.combinations(range(1, len(pieces)), count - 1):
        bounds = [0, *breaks, len(pieces)]
        lines = list(itertools.pairwise(bounds))
        if not all(ruler.fits(first, end) for first, end in lines):
            continue
        columns = [ruler.columns(first, end) for first, end in lines]
        worth = sum(_BREAK_COLUMNS[break_kind(pieces[at - 1], pieces[at])] for at in breaks)
        cost = (len(pieces) - breaks[-1] == 1, max(columns) - min(columns) + worth)
        if best is None or cost < best[0]:
            best = (cost, bounds)
    assert best is not None  # noqa: S101 - the lines that were filled as they come fit
    return best[1]


def wrap(text: str, rules: CueRules = DEFAULT_RULES) -> str:
    """The text with line feeds where its lines break; see `lines_of`."""
    return "\n".join(lines_of(pieces_of(text, rules), rules))
