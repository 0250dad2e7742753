"""Which words are settled, whatever decodings follow each other."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxroute_serving.asr.engine import WindowSegment, Word
from voxroute_serving.asr.live.agreement import Agreement, text_of, without_echoes, words_of

_NEAR_S = 0.1


def words(text: str, from_s: float = 0.0, step_s: float = 0.5) -> list[Word]:
    """Words of equal length, one after the other; an underscore is one that was not written."""
    return [
        Word(f" {one}", from_s + i * step_s, from_s + (i + 1) * step_s)
        for i, one in enumerate(text.split())
        if one != "_"
    ]


def told(found: Sequence[Word]) -> str:
    """The text of words."""
    return text_of(found).strip()


def ended(agreement: Agreement, last: Sequence[Word]) -> list[Word]:
    """What the end settles after a last decoding that itself settles nothing."""
    assert not agreement.heard(last, 0.0)
    return agreement.ended(math.inf)


def settled_to(text: str) -> Agreement:
    """An utterance with so many settled words."""
    agreement = Agreement()
    agreement.heard(words(text), 99.0)
    assert told(agreement.heard(words(text), 99.0)) == text
    return agreement


def test_two_decodings_settle_what_they_have_in_common() -> None:
    """One alone settles nothing; the rest is tentative."""
    agreement = Agreement()
    assert agreement.heard(words("one two tree"), 9.0) == []
    assert told(agreement.tentative) == "one two tree"
    assert told(agreement.heard(words("one two three four"), 9.0)) == "one two"
    assert told(agreement.tentative) == "three four"
    assert told(agreement.heard(words("one two three five"), 9.0)) == "three"
    assert told(ended(agreement, words("one two three five six"))) == "five six"
    assert agreement.settled_until_s == 2.5
    assert not agreement.tentative


def test_case_and_marks_do_not_keep_words_from_being_settled() -> None:
    """The newer ones are written down."""
    agreement = Agreement()
    agreement.heard(words("well, yes."), 9.0)
    assert told(agreement.heard(words("Well yes"), 9.0)) == "Well yes"


@pytest.mark.parametrize(("until_s", "n_settled"), [(1.5, 2), (1.59, 2), (1.6, 3), (9.0, 3)])
def test_words_at_the_edge_are_not_settled(until_s: float, n_settled: int) -> None:
    """What ends within a tenth of a second of the sound's end may be half a word."""
    agreement = Agreement()
    agreement.heard(words("one two three"), 1.5)
    assert len(agreement.heard(words("one two three"), until_s)) == n_settled


def test_a_decoding_in_doubt_agrees_with_none() -> None:
    """Neither with the one before nor with the one after."""
    agreement = Agreement()
    agreement.heard(words("one two"), 9.0)
    agreement.doubted()
    assert agreement.heard(words("one two"), 9.0) == []
    assert told(agreement.heard(words("one two"), 9.0)) == "one two"


@pytest.mark.parametrize(
    ("last", "rest"),
    [
        ("one two three four five", "four five"),
        ("one too three four five", "four five"),  # a word revised
        ("one two tree four five", "four five"),  # the last one
        ("_ two three four five", "four five"),  # not heard any more
        ("one two _ four five", "four five"),
        ("_ _ _ four five", "four five"),
        ("won too free four five", "four five"),
        ("one two three three five", "three five"),  # said twice
        ("one two three", ""),
        ("one two", ""),
        ("", ""),
    ],
)
def test_settled_words_are_found_again(last: str, rest: str) -> None:
    """Whatever becomes of them, they stay, and what follows is all there."""
    agreement = settled_to("one two three")
    assert told(ended(agreement, words(last))) == rest


def test_words_that_are_inserted_before_are_not_taken_for_new_ones() -> None:
    """Two more words in the same time."""
    agreement = settled_to("one two three")
    more = [
        Word(" one", 0.0, 0.4), Word(" or", 0.4, 0.5), Word(" two", 0.5, 0.9),
        Word(" or", 0.9, 1.0), Word(" three", 1.0, 1.5), Word(" four", 1.5, 2.0),
    ]  # fmt: skip
    assert told(ended(agreement, more)) == "four"


def test_a_short_word_after_one_that_is_not_heard_any_more_is_kept() -> None:
    """It stands after the settled ones, so it is not one of them."""
    agreement = settled_to("one two three")
    assert told(ended(agreement, [*words("one two"), Word(" no", 1.55, 1.65)])) == "no"


def test_words_of_the_next_utterance_are_not_settled() -> None:
    """An utterance may be cut before words that are tentative: those with their half behind it."""
    agreement = settled_to("one two")
    agreement.heard(words("one two three four five"), 0.0)
    assert told(agreement.ended(1.8)) == "three four"
    assert not agreement.tentative


@pytest.mark.parametrize("heard_again", [0, 1, 2, 4])
def test_after_a_cut_words_may_be_heard_again(heard_again: int) -> None:
    """Or not; nothing is said twice."""
    texts = [f"w{i}" for i in range(20)]
    agreement = settled_to(" ".join(texts[:16]))
    agreement.cut(6.0)  # after w11
    first = 12 - heard_again
    again = words(" ".join(texts[first:]), first * 0.5)
    assert told(ended(agreement, again)) == " ".join(texts[16:])


def test_a_word_said_over_and_over_is_counted_by_its_times() -> None:
    """Letters alone do not tell which of them is meant."""
    agreement = settled_to("no no no")
    assert told(ended(agreement, words("no no no no no"))) == "no no"
    agreement = settled_to("no no no")
    agreement.cut(1.5)
    assert told(ended(agreement, words("no no", 1.5))) == "no no"


def test_a_long_text_is_whole() -> None:
    """Half a minute of a quick speaker, all of it at the end."""
    text = " ".join(f"w{i}" for i in range(200))
    assert told(ended(Agreement(), words(text, step_s=0.14))) == text


def segment(text: str, start_s: float, end_s: float, *attended: Word) -> WindowSegment:
    """A segment with the words that the decoder attends to."""
    return WindowSegment(start_s, end_s, text, attended=attended)


def test_first_words_of_segments_get_their_blank() -> None:
    """Texts of segments come without one; words within a segment carry their own."""
    found = words_of(
        [
            segment("Good morn", 0.0, 1.0, Word("Good", 0.0, 0.5), Word(" morn", 0.5, 1.0)),
            segment("ing. Yes", 1.0, 2.0, Word(" Yes", 1.0, 1.5), Word("terday", 1.5, 2.0)),
            segment("you came", 2.0, 3.0),
        ],
        10.0,
    )
    assert text_of(found) == " Good morn Yesterday you came"
    assert found[0].start_s == 10.0
    assert found[-1].end_s == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("at_once", "kept"),
    [
        ("And so, my friends.", ""),  # as tiny.en does behind the end of a voice
        ("and so", ""),
        ("My friends. My", ""),
        ("and then", "and then"),  # what may be said when more of the sound has come
        ("friends", "friends"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("length_s", [0.0, 0.5])
def test_what_is_said_again_in_no_time_is_no_word(at_once: str, kept: str, length_s: float) -> None:
    """With a time of its own it is."""
    again = [
        Word(f" {one}", 2.0 + i * length_s, 2.0 + (i + 1) * length_s)
        for i, one in enumerate(at_once.split())
    ]
    found = without_echoes([*words("and so my friends"), *again], 9.0)
    assert told(found[4:]) == (at_once if length_s else kept)


@pytest.mark.parametrize(
    ("behind", "kept"),
    [
        ("Friends...", ""),  # as tiny.en does of the silence behind a word
        ("my friends", ""),
        ("friends, friends", ""),
        ("too", "too"),
        ("friends too", "friends too"),
    ],
)
@pytest.mark.parametrize("is_voice", [True, False])
def test_what_is_said_again_behind_a_voice_is_no_word(
    behind: str,
    kept: str,
    is_voice: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Where a voice sounds it is: "no, no" is said."""
    said = [*words("and so my friends"), *words(behind, 2.0, 0.7)]
    found = without_echoes(said, 9.0 if is_voice else 2.2)
    assert told(found[4:]) == (behind if is_voice else kept)


@pytest.mark.parametrize("texts", [("今日は", "いい天気"), ("สวัสดี", "ครับ"), ("今天", "很好")])
def test_languages_without_blanks_get_none(texts: tuple[str, str]) -> None:
    """Neither at the start nor between segments."""
    one, other = texts
    found = words_of([segment(one, 0.0, 1.0), segment(other, 1.0, 2.0)], 0.0)
    assert text_of(found) == one + other


def test_times_within_a_decoding_never_step_back() -> None:
    """An engine's may."""
    odd = [Word("a", 0.0, 0.9), Word(" b", 0.5, 0.4), Word(" c", 0.2, 1.5)]
    found = words_of([segment("a b c", 0.0, 1.0, *odd), segment("d", 1.2, 1.4)], 0.0)
    assert [(w.start_s, w.end_s) for w in found] == [(0, 0.9), (0.9, 0.9), (0.9, 1.5), (1.5, 1.5)]


class Speaker:
    """Words that are said, and decodings of them that are wrong here and there."""

    def __init__(self, seed: int, errors: float) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - no secret
        self.errors = errors
        self.said: list[Word] = []
        self._n_wrong = 0
        at_s = 0.0
        for number in range(1, self.rng.randint(5, 60)):
            start_s = at_s + self.rng.choice([0.0, 0.02, 0.1, 0.4])
            at_s = start_s + self.rng.choice([0.12, 0.2, 0.3, 0.5])
            self.said.append(Word(f" w{number}", start_s, at_s))

    def decoding(
        self, from_s: float, until_s: float, cut_s: float, wrong_until_s: float
    ) -> list[Word]:
        """The words between two times, wrong ones among those after a cut up to a fourth."""
        found: list[Word] = []
        for word in self.said:
            if word.end_s > until_s or word.start_s < from_s:
                continue
            kind = "right"
            if (
                cut_s <= word.start_s
                and word.end_s <= wrong_until_s
                and self.rng.random() < self.errors
            ):
                kind = self.rng.choice(["other", "missing", "more"])
            if kind == "more":
                middle_s = (word.start_s + word.end_s) / 2
                found += [self._wrong(word.start_s, middle_s), self._at(word, middle_s)]
            elif kind == "other":
                found.append(self._wrong(word.start_s, word.end_s))
            elif kind == "right":
                found.append(word)
        if self.rng.random() < 0.5:  # half a word
            found.append(self._wrong(max(from_s, until_s - 0.08), until_s))
        return found

    def _wrong(self, start_s: float, end_s: float) -> Word:
        self._n_wrong += 1
        return Word(f" x{self._n_wrong}", start_s, end_s)

    @staticmethod
    def _at(word: Word, start_s: float) -> Word:
        return Word(word.text, start_s, word.end_s)


def number(word: Word) -> int:
    """Which of the said words it is; 0 for a wrong one."""
    return int(word.text[2:]) if word.text.startswith(" w") else 0


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.05, 0.1]))
def test_settled_words_stay_and_none_is_lost_or_told_twice(seed: int, errors: float) -> None:
    """Whatever is revised, inserted, missing or heard again after a cut."""
    speaker = Speaker(seed, errors)
    rng = speaker.rng
    end_s = speaker.said[-1].end_s + 0.5
    agreement, out = Agreement(), list[Word]()
    from_s = cut_s = until_s = 0.0
    while until_s < end_s:
        until_s = min(end_s, until_s + rng.choice([0.3, 1.0, 2.0]))
        before = list(out)
        new = agreement.heard(speaker.decoding(from_s, until_s, cut_s, end_s), until_s)
        assert all(word.end_s <= until_s - _NEAR_S + 1e-9 for word in new)
        out += new
        assert out[: len(before)] == before
        if rng.random() < 0.1:
            agreement.doubted()
        if out and rng.random() < 0.3:
            at = rng.randrange(max(0, len(out) - 3), len(out))
            if out[at].end_s > cut_s:
                cut_s = out[at].end_s
                agreement.cut(cut_s)
                from_s = cut_s - rng.choice([0.0, 0.0, 0.3, 0.6])
    settled_s = agreement.settled_until_s
    last = speaker.decoding(from_s, end_s, cut_s, settled_s)
    rest = ended(agreement, last)
    left = [word.text for word in last if word.start_s >= settled_s - 1e-9]
    found = [word.text for word in rest]
    assert found[len(found) - len(left) :] == left
    # errors side by side may hide where the settled words end: a wrong one comes again as another
    more = found[: len(found) - len(left)]
    assert not more or (errors and all(text.startswith(" x") for text in more))
    out += rest
    numbers = [number(word) for word in out if number(word)]
    assert numbers == sorted(set(numbers))
    for one, other in pairwise(out):
        assert one.start_s <= one.end_s <= other.start_s <= other.end_s
