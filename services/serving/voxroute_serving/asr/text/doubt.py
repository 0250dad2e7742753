"""Which text may be doubted, and which of two decodings of a window is the better one. Pure.

What a window's text is judged by is the window alone, so a call that goes on where another ended
judges it alike. Nothing here drops text: doubtful text is sent with its flags.

The default thresholds are openai-whisper's; `invented_texts` says where its lists come from.
"""

import re
import statistics
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum

from voxroute_serving.asr.engine import DecodingOptions, WindowResult, WindowSegment
from voxroute_serving.asr.text.invented_texts import CREDITS, INVENTED
from voxroute_serving.scripts import n_letters, script_share, scripts_of

# Whisper's own values; they decide where neither request nor engine names another.
DEFAULT_COMPRESSION_RATIO_THRESHOLD = 2.4
DEFAULT_LOG_PROB_THRESHOLD = -1.0
DEFAULT_NO_SPEECH_THRESHOLD = 0.6

# A text that models invent is doubted from half a threshold on: invented "Thank you"s come with
# figures that alone are not bad enough.
_SUPPORT = 0.5
_MIN_VOICED = 0.5  # of a segment's time; below it a voice hardly said all of the segment

_MIN_LOOP = 3  # times in a row; a speaker says things twice
_MIN_SHORT_LOOP = 8  # the same for a single word: "no, no, no, no" is said
_MAX_PERIOD = 24  # words, or characters where words are not spaced
_SHORT_CHARACTERS = 3  # without spaces a phrase up to this long counts as a single word

# Of 200 segments of Hindi that Whisper base writes, all have either none or all of their letters in
# Devanagari; people mix, but hardly ever write two letters of three in another script.
_MIN_SCRIPT_SHARE = 0.3
_BORROWED_LETTERS = 20  # Latin letters; names and loan words alone are hardly more

_SWITCH_PROBABILITY = 0.8  # of another language; below it detection is often wrong on 30 s
_SPARSE = 0.4  # of the letters that other segments have for each second of voice
_MIN_SPARSE_S = 1.0  # s of voice; a single word may be drawn out so long
_MIN_RATE_S = 0.4  # s of voice; shorter segments tell no rate
_MIN_OTHERS = 3  # segments that tell a window's rate
_LEAST_RATE = 2.5  # letters a second; the slowest speech of the recordings has four
_NUMERAL_LETTERS = 4  # that a digit stands for: "5" is said as long as "five"
_IDEOGRAPH_LETTERS = 2  # that a character of a script without spaces stands for

# Mean probability of a segment's own words: of 315 segments of English none had less, and what
# whisper-base makes of music has.
_LEAST_CONFIDENCE = 0.5
_SURE_OF_SPEECH = 0.8  # the same, where the model hears no speech

_ALIKE = 0.5  # of the characters, beyond which two decodings say the same

_LEFT_S = 2.0  # s of voice that a text without a loop may leave out beside one with it
_MIN_SWITCH_SPEECH_S = 1.0  # s; less speech tells no language


class Doubt(Enum):
    """Why text may be doubted; the values are those of voxroute.asr.v1.SegmentFlag."""

    REPETITION = 1
    LOW_CONFIDENCE = 2
    NO_SPEECH = 3
    HALLUCINATION = 4
    LANGUAGE_SWITCH = 5
    WRONG_SCRIPT = 6
    INCOMPLETE = 7


Doubts = frozenset[Doubt]
Stretches = Sequence[tuple[float, float]]
"""Stretches of voice, seconds from the start of the window, in order, not overlapping."""

_MENDED = frozenset({Doubt.REPETITION, Doubt.HALLUCINATION})
_RETRIED = _MENDED | {Doubt.LOW_CONFIDENCE}
_LISTENED = _RETRIED | {Doubt.WRONG_SCRIPT}


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits beyond which text is doubted."""

    compression_ratio: float = DEFAULT_COMPRESSION_RATIO_THRESHOLD
    log_prob: float = DEFAULT_LOG_PROB_THRESHOLD
    no_speech: float = DEFAULT_NO_SPEECH_THRESHOLD

    @classmethod
    def of(cls, options: DecodingOptions) -> "Thresholds":
        """Those of a request; Whisper's own where it names none."""

        def given(value: float | None, default: float) -> float:
            return default if value is None else value

        return cls(
            given(options.compression_ratio_threshold, cls().compression_ratio),
            given(options.log_prob_threshold, cls().log_prob),
            given(options.no_speech_threshold, cls().no_speech),
        )


def doubts(
    segments: Sequence[WindowSegment], voice: Stretches, thresholds: Thresholds, language: str = ""
) -> tuple[Doubts, ...]:
    """The doubts about each segment of one window, but for LANGUAGE_SWITCH and INCOMPLETE.

    `language` is that of the text, BCP-47; "" where any script will do.
    """
    texts = [segment.text for segment in segments]
    looping, foreign = _looping(texts), _in_another_script(texts, language)

    def of(index: int, segment: WindowSegment) -> Doubts:
        found = _of_figures(segment, thresholds)
        if index in looping:
            found.add(Doubt.REPETITION)
        if index in foreign:
            found.add(Doubt.WRONG_SCRIPT)
        if is_often_invented(segment.text) and _is_unsupported(segment, voice, thresholds):
            found.add(Doubt.HALLUCINATION)
        return frozenset(found)

    return tuple(of(index, segment) for index, segment in enumerate(segments))


def _of_figures(segment: WindowSegment, thresholds: Thresholds) -> set[Doubt]:
    found: set[Doubt] = set()
    unsure = segment.avg_log_prob is not None and segment.avg_log_prob < thresholds.log_prob
    ratio, no_speech = segment.compression_ratio, segment.no_speech_prob
    if ratio is not None and ratio > thresholds.compression_ratio:
        found.add(Doubt.REPETITION)
    if unsure:
        found.add(Doubt.LOW_CONFIDENCE)
    silent = no_speech is not None and no_speech > thresholds.no_speech
    if silent and (unsure or segment.avg_log_prob is None):
        found.add(Doubt.NO_SPEECH)
    return found


def doubts_of_words(segment: WindowSegment, thresholds: Thresholds) -> Doubts:
    """What a segment's own words say, where the figures of a window speak for all of it.

    They decide about no decoding: beside a loop, unlikely words are the better text.
    """
    confidence, no_speech = segment.confidence, segment.no_speech_prob
    found: set[Doubt] = set()
    if confidence is not None and confidence < _LEAST_CONFIDENCE:
        found.add(Doubt.LOW_CONFIDENCE)
    silent = no_speech is not None and no_speech > thresholds.no_speech
    if silent and confidence is not None and confidence < _SURE_OF_SPEECH:
        found.add(Doubt.NO_SPEECH)
    return frozenset(found)


# --- loops ---------------------------------------------------------------------------------------


def _looping(texts: Sequence[str]) -> set[int]:
    """The indices of texts that take part in a phrase said over and over, within or across them."""
    words = [(word, index) for index, text in enumerate(texts) for word in normalised(text).split()]
    characters = [(c, index) for word, index in words for c in word if is_unspaced(c)]
    return _loops(words, short=1) | _loops(characters, short=_SHORT_CHARACTERS)


def _loops(units: Sequence[tuple[str, int]], *, short: int) -> set[int]:
    """The indices that belong to a loop; a phrase of up to `short` units is a short one."""
    found: set[int] = set()
    for period in range(1, min(_MAX_PERIOD, len(units) // _MIN_LOOP) + 1):
        needed = period * (_MIN_SHORT_LOOP if period <= short else _MIN_LOOP)
        begin = 0
        for at in range(period, len(units) + 1):
            if at < len(units) and units[at][0] == units[at - period][0]:
                continue
            stretch = units[begin:at]
            # a single word said often is a loop of every period: the shortest one counts
            if len(stretch) >= needed and len({unit for unit, _ in stretch}) >= min(period, 2):
                found |= {index for _, index in stretch}
            begin = at - period + 1
    return found


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script without spaces between words."""
    return any(
        low <= character <= high
        for low, high in (
            ("\u0e00", "\u0eff"),  # Thai, Lao
            ("\u1000", "\u109f"),  # Burmese
            ("\u1780", "\u17ff"),  # Khmer
            ("\u3040", "\u30ff"),  # kana
            ("\u3400", "\u9fff"),  # Han
        )
    )


# --- text that is short for its voice ------------------------------------------------------------


def sparse(segments: Sequence[WindowSegment], voice: Stretches) -> set[int]:
    """The indices of segments with far fewer letters than are said in the voice of their time.

    Whisper leaves out a sentence that begins like the next one, and then its words lie spread over
    both. In four hundred lines of English by seven speakers such segments had 0.14 to 0.30 of the
    letters a second of the window's others, and all that were whole had more than 0.5.
    """
    spoken_s = [_within(segment, voice) for segment in segments]
    letters = [n_spoken(segment.text) for segment in segments]

    def rate(index: int) -> float:
        return letters[index] / spoken_s[index]

    timed = [i for i, seconds in enumerate(spoken_s) if seconds >= _MIN_RATE_S]

    def is_sparse(index: int) -> bool:
        others = [rate(other) for other in timed if other != index]
        usual = statistics.median(others) if len(others) >= _MIN_OTHERS else 0.0
        return rate(index) < max(_LEAST_RATE, _SPARSE * usual)

    return {i for i in timed if spoken_s[i] >= _MIN_SPARSE_S and is_sparse(i)}


def n_spoken(text: str) -> int:
    """About as many letters as a text takes to be said."""

    def letters(character: str) -> int:
        if unicodedata.category(character)[0] == "N":
            return _NUMERAL_LETTERS
        if unicodedata.category(character)[0] not in "LM":
            return 0
        return _IDEOGRAPH_LETTERS if is_unspaced(character) else 1

    return sum(map(letters, text))


# --- scripts -------------------------------------------------------------------------------------


def _in_another_script(texts: Sequence[str], language: str) -> set[int]:
    """The indices of texts with less than _MIN_SCRIPT_SHARE of their letters in the language's own.

    Every script borrows Latin names and words: a text of no more than those goes with its window.
    """
    scripts = scripts_of(language) if language else ()
    if not scripts:
        return set()

    def is_foreign(text: str) -> bool:
        return script_share(text, *scripts) < _MIN_SCRIPT_SHARE

    def may_borrow(text: str) -> bool:
        return n_letters(text) < _BORROWED_LETTERS and script_share(text, *scripts, "Latn") == 1

    window = " ".join(texts)
    all_of_it = is_foreign(window) and not may_borrow(window)
    return {
        index
        for index, text in enumerate(texts)
        if is_foreign(text) and (all_of_it or not may_borrow(text))
    }


# --- invented texts ------------------------------------------------------------------------------

_MAX_CREDIT_WORDS = 12  # a longer text is a sentence that begins like a credit
_SENTENCE_END = re.compile(r"[.!?…।॥۔؟。！？]+")  # noqa: RUF001 - full-width marks


def normalised(text: str) -> str:
    """Lower case, letters with their marks and digits only, single blanks."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain)
    return " ".join(kept.split())


def is_punctuation(text: str) -> bool:
    """Whether a text is marks alone: no letter, digit or symbol, as a note of music is one."""
    return all(unicodedata.category(c)[0] in "PZC" for c in text)


def alike(one: str, other: str) -> bool:
    """Whether two texts are mostly the same."""
    matcher = SequenceMatcher(None, normalised(one), normalised(other), autojunk=False)
    return matcher.ratio() >= _ALIKE


_KNOWN = frozenset(normalised(text) for texts in INVENTED.values() for text in texts)
_OPENINGS = tuple(normalised(opening) for opening in CREDITS)


def is_often_invented(text: str) -> bool:
    """Whether the whole text is of the kind that models write where nobody speaks."""
    whole = normalised(text)
    if not whole:
        return False
    if whole in _KNOWN:
        return True
    if whole.startswith(_OPENINGS) and len(whole.split()) <= _MAX_CREDIT_WORDS:
        return True
    sentences = [normalised(sentence) for sentence in _SENTENCE_END.split(text)]
    return all(sentence in _KNOWN for sentence in sentences if sentence)


def _is_unsupported(segment: WindowSegment, voice: Stretches, thresholds: Thresholds) -> bool:
    """Whether the audio speaks against the text: no voice, probable silence, or unlikely words."""
    no_speech, log_prob = segment.no_speech_prob, segment.avg_log_prob
    return (
        voiced(segment, voice) < _MIN_VOICED
        or (no_speech is not None and no_speech > _SUPPORT * thresholds.no_speech)
        or (log_prob is not None and log_prob < _SUPPORT * thresholds.log_prob)
    )


def voiced(segment: WindowSegment, voice: Stretches) -> float:
    """The share of a segment's time in which there is a voice, 0 to 1."""
    length_s = segment.end_s - segment.start_s
    return min(1.0, _within(segment, voice) / length_s) if length_s > 0 else 0.0


def _within(segment: WindowSegment, voice: Stretches) -> float:
    """The voice in a segment's time, seconds."""
    return sum(
        max(0.0, min(end_s, segment.end_s) - max(start_s, segment.start_s))
        for start_s, end_s in voice
    )


# --- decoding again ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """A decoding of a window, and the doubts about each of its segments."""

    result: WindowResult
    doubts: tuple[Doubts, ...]
    missing_s: float = 0.0
    """Voice in stretches that no segment covers, seconds."""

    @property
    def all(self) -> Doubts:
        """The doubts about any of its segments."""
        return frozenset[Doubt]().union(*self.doubts)

    @property
    def repeats(self) -> bool:
        """Whether any of its segments takes part in a loop."""
        return Doubt.REPETITION in self.all

    @property
    def has_text(self) -> bool:
        """Whether anything was written down."""
        return any(segment.text.strip() for segment in self.result.segments)

    @property
    def log_prob(self) -> float:
        """The mean log probability over its segments; 0 where the engine tells none."""
        known = [s.avg_log_prob for s in self.result.segments if s.avg_log_prob is not None]
        return sum(known) / len(known) if known else 0.0


def warrants_another(judged: Judged, *, unsure: bool) -> bool:
    """Whether the window is worth being decoded at another temperature.

    That ends loops and takes back inventions. Text that is merely unlikely is not made likelier by
    drawing at random, so it is decoded again only with `unsure`.
    """
    return bool(judged.all & (_RETRIED if unsure else _MENDED))


def better(first: Judged, second: Judged) -> Judged:
    """The decoding with fewer kinds of doubt, then the likelier one; text before none.

    The wrong script is no reason to prefer a loop: it is what was said, if not as it should be.
    What people say over and over looks like a loop, but fits: then the likelier one is what was
    said, and one that leaves out what they say is not. A loop goes on until there is no room.
    """
    if first.has_text != second.has_text:
        return first if first.has_text else second
    fits = first.repeats and not first.result.cut_off
    if fits and (second.log_prob < first.log_prob or second.missing_s > first.missing_s + _LEFT_S):
        return first

    def merit(judged: Judged) -> tuple[float, ...]:
        worse = judged.all - {Doubt.WRONG_SCRIPT}
        return -len(worse), -len(judged.all), judged.log_prob

    return max(first, second, key=merit)


# --- languages -----------------------------------------------------------------------------------


def warrants_listening(judged: Judged, thresholds: Thresholds, speech_s: float) -> bool:
    """Whether a window is worth the encoder pass that tells its language.

    That is where its text is in doubt, or its mean log probability is halfway to being so.
    """
    if not judged.has_text or speech_s < _MIN_SWITCH_SPEECH_S:
        return False
    return bool(judged.all & _LISTENED) or judged.log_prob < _SUPPORT * thresholds.log_prob


def sounds_like_another(heard: Mapping[str, float], language: str) -> bool:
    """Whether the probabilities of a window's languages speak clearly for another one."""
    if not heard:
        return False
    likeliest = max(heard, key=lambda one: heard[one])
    return likeliest != language and heard[likeliest] >= _SWITCH_PROBABILITY


def among(heard: "dict[str, float]", allowed: Collection[str]) -> dict[str, float]:
    """The probabilities of the allowed languages alone, summing to 1."""
    own = {language: heard.get(language, 0.0) for language in allowed}
    total = sum(own.values())
    if total <= 0:
        return dict.fromkeys(own, 1 / len(own))
    return {language: probability / total for language, probability in own.items()}
