"""From the text of a cue to sentences that a model can take, and back.

What is no speech of the cue stays as it is and where it is: tags around it, speakers' dashes, notes
and brackets. What is between goes to the model sentence by sentence, because the models were
trained on single sentences and drop what follows the first.

No library did this job: pysbd had its last release in 2021 and knows two languages of India, and
the splitter of indic-nlp-library breaks "?!" in two, knows no ellipsis and no closing quotes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from voxroute_serving.scripts import has_letters

# Tags of SubRip and WebVTT ("<i>", "</c.yellow>") and override blocks of ASS ("{\\an8}").
_TAG = r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}"
_TAGS = re.compile(_TAG)
_LINE_BREAK_TAG = re.compile(r"<[bB][rR]\s*/?>|\\N")
_NOTES = "♪♫♬♩🎵🎶"
_DASH = r"[-–—‐‑]{1,2}"  # noqa: RUF001 - the dashes that subtitles use
# A dash opens a speaker's turn unless it is a minus.
_OPENING = re.compile(rf"(?:{_TAG}|[{_NOTES}]|{_DASH}(?![\d\-–—])|\s)+")  # noqa: RUF001
_CLOSING = re.compile(rf"(?:{_TAG}|[{_NOTES}]|\s)+$")
_TURN = re.compile(rf"^(?:{_TAG}|\s)*{_DASH}\s*(?![\d\-–—])\S")  # noqa: RUF001
_BRACKETED = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|（[^（）]*）|【[^【】]*】")  # noqa: RUF001

_CLOSERS = "\"'”’»›)]）」』】"  # noqa: RUF001 - quotes as texts have them
_SURE_ENDS = "!?।॥؟۔՞።။៕᱾᱿꯫"  # noqa: RUF001 - the marks of many scripts
_WIDE_ENDS = "。！？｡"  # noqa: RUF001 - no blank follows them
_END = re.compile(
    rf"(?P<mark>[{_SURE_ENDS}.…]+|[{_WIDE_ENDS}]+)(?P<closers>[{re.escape(_CLOSERS)}]*)"
)

_ENGLISH = """
mr mrs ms dr prof st sr jr rev gen col lt sgt capt cpl hon gov sen rep pres vs etc e.g i.e vol fig
approx dept est inc ltd co corp jan feb mar apr jun jul aug sep sept oct nov dec
"""
_OTHER_LATIN = "sra srta dña ud uds mme mlle bzw usw z.b nr"
_INDIC = "डॉ डा श्री श्रीमती प्रो पं मो कु ডা ডঃ মোঃ திரு"
_ABBREVIATIONS = frozenset(f"{_ENGLISH} {_OTHER_LATIN} {_INDIC}".split())

_SOFT_BREAKS = ("; ", ": ", " — ", " – ", ", ", "، ", "，", "、")  # noqa: RUF001


@dataclass(slots=True)
class Piece:
    """A part of a cue: fixed text, or a sentence to be translated.

    `glue` is what stands between it and the piece before.
    """

    text: str
    translatable: bool
    glue: str = ""


@dataclass(slots=True)
class Cue:
    """A cue in pieces, in order."""

    pieces: list[Piece] = field(default_factory=list[Piece])

    @property
    def sentences(self) -> list[str]:
        """What is to be translated, in order."""
        return [piece.text for piece in self.pieces if piece.translatable]

    def join(self, translations: list[str], *, between: str = " ") -> str:
        """The cue with its sentences replaced; one line.

        `between` stands between two translated sentences: nothing in scripts without blanks.
        """
        following = iter(translations)
        text, after_sentence = "", False
        for piece in self.pieces:
            glue = between if after_sentence and piece.translatable and piece.glue else piece.glue
            text += glue + (next(following).strip() if piece.translatable else piece.text)
            after_sentence = piece.translatable
        return re.sub(r"\s+", " ", text).strip()


def one_line(text: str) -> str:
    """The text with line breaks and runs of blanks as one blank each."""
    return re.sub(r"\s+", " ", _LINE_BREAK_TAG.sub(" ", text)).strip()


def without_tags(text: str) -> str:
    """The text on one line without its tags, as sentences go to the model."""
    return one_line(_TAGS.sub("", text))


def parse_cue(text: str) -> Cue:
    """The cue in pieces. Line breaks are blanks; a dash at the start of a line opens a turn."""
    cue = Cue()
    for turn in _turns(text):
        _add_turn(cue, turn)
    return cue


def _turns(text: str) -> Iterator[str]:
    """What each speaker says: lines joined by blanks up to the next line that opens a turn."""
    lines = [one_line(line) for line in _LINE_BREAK_TAG.sub("\n", text).splitlines()]
    turn = ""
    for line in filter(None, lines):
        if turn and _TURN.match(line):
            yield turn
            turn = line
        else:
            turn = f"{turn} {line}" if turn else line
    if turn:
        yield turn


def _add_turn(cue: Cue, turn: str) -> None:
    glue = " " if cue.pieces else ""
    opening = _OPENING.match(turn)
    if opening is not None:
        cue.pieces.append(Piece(opening.group(), translatable=False, glue=glue))
        turn, glue = turn[opening.end() :], ""
    closing = _CLOSING.search(turn)
    if closing is not None:
        turn = turn[: closing.start()]
    # Tags inside a sentence would be torn from their words: no model keeps track of them.
    _add_spoken(cue, one_line(_TAGS.sub("", turn)), glue)
    if closing is not None:
        cue.pieces.append(Piece(closing.group(), translatable=False))


def _add_spoken(cue: Cue, text: str, glue: str) -> None:
    """Sentences, and descriptions of sounds in their brackets where they stand on their own."""
    start = 0
    for bracketed in _BRACKETED.finditer(text):
        before, after = text[start : bracketed.start()].rstrip(), text[bracketed.end() :].lstrip()
        own = (not before or _END.search(before[-2:]) or before[-1] == ":") and (
            not after or not (after[0].islower() or after[0] in ".,;:!?।…")
        )
        if bracketed.group()[0] in "[【":
            own = True  # square brackets are never part of what is said
        if not own:
            continue
        glue = _add_sentences(cue, before, glue)
        inner = bracketed.group()[1:-1].strip()
        cue.pieces.append(Piece(bracketed.group()[0], translatable=False, glue=glue))
        _add_sentences(cue, inner, "")
        cue.pieces.append(Piece(bracketed.group()[-1], translatable=False))
        start, glue = bracketed.end(), " "
        if after[:1] in (":", ",", "."):
            glue = ""
    _add_sentences(cue, text[start:], glue)


def _add_sentences(cue: Cue, text: str, glue: str) -> str:
    """Adds the sentences of the text; returns the glue for what follows."""
    for sentence in split_sentences(text):
        cue.pieces.append(Piece(sentence, has_letters(sentence), glue))
        glue = " "
    return glue


def split_sentences(text: str) -> list[str]:
    """The sentences of one line of text, each with its end mark and closing quotes.

    A danda or a question mark ends a sentence. A full stop does not after an abbreviation or an
    initial, nor before a small letter; an ellipsis only before a capital letter.
    """
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(text):
        if _ends_sentence(text, start, end):
            sentences.append(text[start : end.end()].strip())
            start = end.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(text: str, start: int, end: re.Match[str]) -> bool:
    mark, after = end.group("mark"), text[end.end() :]
    following = after.lstrip(" \"'“‘«¿¡([")[:1]  # noqa: RUF001 - quotes as texts have them
    if mark[-1] in _WIDE_ENDS or not following:
        return True
    if following.islower():  # "Stop!" he said.
        return False
    if mark[0] in "।॥":  # often written without the blank
        return True
    if not after[:1].isspace():
        return False
    if mark == "…" or (len(mark) > 1 and set(mark) == {"."}):
        return following.isupper()
    return mark != "." or not _abbreviated(text[start : end.start()])


def _abbreviated(before: str) -> bool:
    """Whether the full stop after this text belongs to its last word: an initial, "Dr"."""
    words = before.rsplit(None, 1)
    word = words[-1].lstrip(_CLOSERS + "(“‘«") if words else ""  # noqa: RUF001
    return (len(word) == 1 and word.isalpha()) or word.casefold() in _ABBREVIATIONS


def split_to_fit(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """The sentence in as few parts as `fits` allows, cut at clauses, else between words.

    A single word that does not fit comes back as it is.
    """
    if fits(sentence):
        return [sentence]
    cut = _best_cut(sentence)
    if cut is None:
        return [sentence]
    left, right = sentence[:cut].strip(), sentence[cut:].strip()
    return [*split_to_fit(left, fits), *split_to_fit(right, fits)]


def _best_cut(sentence: str) -> int | None:
    """Where to cut in two: after the clause, else at the blank, that is nearest to the middle."""
    middle = len(sentence) / 2
    for marks in (_SOFT_BREAKS, (" ",)):
        cuts = [
            match.end()
            for mark in marks
            for match in re.finditer(re.escape(mark), sentence)
            # a cut that leaves crumbs helps nobody
            if len(sentence) * 0.1 < match.end() < len(sentence) * 0.9
        ]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - middle))
    return None
