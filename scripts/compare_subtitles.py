"""How well produced subtitles match a reference: `python -m scripts.compare_subtitles OUT REF`.

A cue of the reference matches where the produced cues that overlap it in time say the same words;
case, punctuation and line breaks do not count. Where produced cues reach into neighbours of the
reference cue, its words have to stand in them in one piece.
"""

import argparse
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer

from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.subtitles.cues import Cue
from voxroute_orchestrator.subtitles.formats import read
from voxroute_orchestrator.subtitles.linebreaks import flat

_MIN_SHARE = 0.3  # of the shorter cue; less is a cue that lingers


@dataclass(frozen=True, slots=True)
class CueResult:
    """A cue of the reference, what was produced for it, and whether it matches."""

    reference: Cue
    produced: str
    matches: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every cue of the reference with its outcome, and the word error rate of the whole."""

    results: tuple[CueResult, ...]
    word_error_rate: float

    @property
    def matched(self) -> int:
        """Cues that match."""
        return sum(result.matches for result in self.results)

    @property
    def share(self) -> float:
        """Share of the reference's cues that match, 0 to 1."""
        return self.matched / len(self.results) if self.results else 1.0


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    kept = "".join(
        " " if unicodedata.category(c)[0] in "PSZC" and c not in "\u200c\u200d" else c
        for c in unicodedata.normalize("NFKC", text).casefold()
    )
    return kept.replace("\u200c", "").replace("\u200d", "").split()


def compare(produced: Sequence[Cue], reference: Sequence[Cue]) -> Comparison:
    """The comparison of two sets of cues on one timeline."""
    results: list[CueResult] = []
    for wanted in reference:
        over = [cue for cue in produced if _together(cue, wanted)]
        said = [word for cue in over for word in words(cue.text)]
        shared = any(
            _together(cue, other) for cue in over for other in reference if other != wanted
        )
        expected = words(wanted.text)
        matches = _contains(said, expected) if shared else said == expected
        results.append(CueResult(wanted, flat(" ".join(cue.text for cue in over)), matches))
    expected, said = (
        " ".join(word for cue in cues for word in words(cue.text)) for cues in (reference, produced)
    )
    rate = float(jiwer.wer(expected, said)) if expected else float(bool(said))
    return Comparison(tuple(results), rate)


def _together(one: Cue, other: Cue) -> bool:
    overlap = min(one.end_ms, other.end_ms) - max(one.start_ms, other.start_ms)
    shorter = min(one.end_ms - one.start_ms, other.end_ms - other.start_ms)
    return overlap > _MIN_SHARE * shorter


def _contains(words_: Sequence[str], part: Sequence[str]) -> bool:
    return any(
        list(words_[start : start + len(part)]) == list(part)
        for start in range(len(words_) - len(part) + 1)
    )


def report(comparison: Comparison) -> str:
    """The comparison for people: what differs, then the figures."""
    lines = [
        f"{result.reference.start_ms / 1000:8.2f} s  expected: {flat(result.reference.text)}\n"
        f"            produced: {result.produced or '(nothing)'}"
        for result in comparison.results
        if not result.matches
    ]
    lines.append(
        f"{comparison.matched} of {len(comparison.results)} cues match"
        f" ({comparison.share:.1%}); word error rate {comparison.word_error_rate:.1%}"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where fewer cues match than --min-share asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.compare_subtitles",
        description="Compare produced subtitles with a reference.",
    )
    parser.add_argument("produced", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--min-share", type=float, default=0.0, help="of matching cues, 0 to 1")
    options = parser.parse_args(arguments)
    try:
        comparison = compare(read(options.produced), read(options.reference))
    except VoxrouteError as error:
        sys.stderr.write(f"{error}\n")
        return error.code
    sys.stdout.write(report(comparison) + "\n")
    return 0 if comparison.share >= options.min_share else 1


if __name__ == "__main__":
    sys.exit(main())
