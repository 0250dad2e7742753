"""Which words of a growing utterance are settled: those on which two decodings agree. Pure.

The method is LocalAgreement-2 (Machacek, Dabre and Bojar, "Turning Whisper into Real-Time
Transcription System", 2023), with five differences: settled words are found again in a new
decoding by their letters and times, a sure word amid others needs no second decoding, nothing that
was said before is a prompt, a decoding in doubt agrees with none, and what a decoder says again
where nobody speaks is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile, zip_longest

from voxroute_serving.asr.engine import WindowSegment, Word
from voxroute_serving.asr.text.doubt import is_unspaced, normalised
from voxroute_serving.asr.text.segment_times import evenly

_N_OVERLAP = 5  # settled words that are kept in front of a cut, to find what is heard twice
# A word with so much sound behind it, of which the model is so sure, needs no second decoding: one
# that the first got wrong would wait for two more.
_OLD_S = 0.8
_SURE = 0.9  # of 1
_NEAR_S = 0.1  # s before the end of what was heard; a word that ends there may be half a word
_APART_S = 2.0  # s between two times that are as bad as another word
_KNOWN = 1.0  # other words that a word with the letters and the time of a settled one outweighs
_NO_TIME_S = 0.02  # a step of the decoder's clock
_LONGEST_ECHO = 24  # words
_MAX_WORDS = 500  # of one decoding, twice what a decoder has room for; more is a loop


def words_of(segments: Sequence[WindowSegment], from_s: float) -> list[Word]:
    """The words of a decoding, with their blanks, by the clock of the stream.

    Their confidence is the decoder's.
    """
    words: list[Word] = []
    for segment in segments:
        for index, word in enumerate(segment.attended or evenly(segment)):
            first = word.text[:1]
            joined = bool(index) or first.isspace() or is_unspaced(first)
            start_s = max(from_s + word.start_s, words[-1].end_s if words else 0.0)
            end_s = max(from_s + word.end_s, start_s)
            text = word.text if joined else f" {word.text}"
            words.append(Word(text, start_s, end_s, word.confidence))
    return words


def text_of(words: Sequence[Word]) -> str:
    """The text of words that carry their blanks."""
    return "".join(word.text for word in words)


def before(words: Sequence[Word], end_s: float) -> list[Word]:
    """The words of which no more than half is after a time: the rest belongs to what follows."""
    return [word for word in words if (word.start_s + word.end_s) / 2 < end_s]


def without_echoes(words: Sequence[Word], voice_end_s: float) -> list[Word]:
    """Without words that say what stands before them again, where nobody said anything.

    Behind the end of a voice a model may say its last word or sentence again: in the silence, or
    all of it at one time. What it says three times is a loop, which is in doubt.
    """
    kept: list[Word] = []
    while words:
        n = _n_unheard(words, voice_end_s)
        if not n or not _is_echo(words[:n], kept):
            kept += words[: n or 1]
        words = words[n or 1 :]
    return kept


def _n_unheard(words: Sequence[Word], voice_end_s: float) -> int:
    """How many of the words have no sound: those behind the voice's end, or several at one time."""
    first, *_ = words
    if first.start_s + first.end_s > 2 * voice_end_s:
        return len(words)
    n = sum(1 for _ in takewhile(lambda one: one.end_s <= first.start_s + _NO_TIME_S, words))
    return n if n > 1 else 0


def _is_echo(words: Sequence[Word], before: Sequence[Word]) -> bool:
    """Whether the last words before are said again, as often as may be, at last perhaps in part."""
    said = [normalised(word.text) for word in words]
    earlier = [normalised(word.text) for word in before[-_LONGEST_ECHO:]]
    return any(
        all(one == earlier[i % n - n] for i, one in enumerate(said))
        for n in range(1, len(earlier) + 1)
    )


def _overlap(one: Word, other: Word) -> bool:
    return one.start_s < other.end_s and other.start_s < one.end_s


@dataclass(slots=True, eq=False)
class Agreement:
    """The words of one utterance."""

    settled: list[Word] = field(default_factory=list[Word])
    """The settled words that a decoding may hold again, and a few before them."""
    tentative: list[Word] = field(default_factory=list[Word])
    """What follows them by the last decoding."""
    _from_s: float = 0.0  # where decodings begin

    @property
    def settled_until_s(self) -> float:
        """The end of the last settled word, seconds; 0 before the first."""
        return self.settled[-1].end_s if self.settled else 0.0

    def heard(self, words: Sequence[Word], until_s: float) -> list[Word]:
        """The words that a decoding of the sound up to a time settles."""
        after = self.after_settled(words)
        n_settled = 0
        for one, other in zip_longest(after, self.tentative[: len(after)]):
            agrees = other is not None and normalised(one.text) == normalised(other.text)
            is_sure = (one.confidence or 0.0) >= _SURE and one.end_s <= until_s - _OLD_S
            if one.end_s > until_s - _NEAR_S or not (agrees or is_sure):
                break
            n_settled += 1
        return self._settle(after, n_settled)

    def ended(self, end_s: float) -> list[Word]:
        """The words that the end of the utterance settles: all that are left before it."""
        left = before(self.tentative, end_s)
        return self._settle(left, len(left))

    def doubted(self) -> None:
        """A decoding is in doubt, so the next one has none to agree with."""
        self.tentative = []

    def cut(self, at_s: float) -> None:
        """Decodings begin at a time from now on."""
        self._from_s = at_s
        n_before = sum(word.end_s <= at_s for word in self.settled)
        del self.settled[: max(0, n_before - _N_OVERLAP)]

    def after_settled(self, words: Sequence[Word]) -> list[Word]:
        """The words of a decoding that come after the settled ones.

        Where those end is where their letters fit best, and of equal places where the times do: a
        word whose middle is before their end is one of them.
        """
        words = words[:_MAX_WORDS]
        if not self.settled:
            return list(words)
        settled = [normalised(word.text) for word in self.settled]
        found = [normalised(word.text) for word in words]
        # costs[j]: the fewest changes that make settled[:i] of found[:j]; what lies before the cut
        # need not be heard again
        n_before = sum(word.end_s <= self._from_s + _NEAR_S for word in self.settled)
        if not n_before and found[: len(settled)] == settled:
            return list(words[len(settled) :])
        costs = [float(j) for j in range(len(found) + 1)]
        for i, (word, one) in enumerate(zip(self.settled, settled, strict=True)):
            diagonal = costs[0]
            costs[0] = 0.0 if i < n_before else costs[0] + 1
            for j, other in enumerate(found):
                known = one == other and _overlap(word, words[j])
                change = -_KNOWN if known else float(one != other)
                cost = min(diagonal + change, costs[j] + 1, costs[j + 1] + 1)
                diagonal, costs[j + 1] = costs[j + 1], cost
        middles_s = [(word.start_s + word.end_s) / 2 for word in words]
        end_s = self.settled_until_s

        def fits(j: int) -> float:
            before_s = middles_s[j - 1] if j else end_s
            after_s = middles_s[j] if j < len(words) else end_s
            return costs[j] + min(max(before_s - end_s, end_s - after_s, 0.0) / _APART_S, 1.0)

        return list(words[min(range(len(found) + 1), key=fits) :])

    def _settle(self, after: Sequence[Word], n: int) -> list[Word]:
        new = list(after[:n])
        floor_s = self.settled_until_s
        new = [
            replace(w, start_s=max(w.start_s, floor_s), end_s=max(w.end_s, floor_s)) for w in new
        ]
        self.settled += new
        self.tentative = list(after[n:])
        return new
