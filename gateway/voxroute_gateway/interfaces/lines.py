"""Texts of several lines: which parts are translated, and how the lines are made again."""

from collections.abc import Sequence
from dataclasses import replace

from voxroute_orchestrator.subtitles.linebreaks import flat, wrap
from voxroute_orchestrator.subtitles.rules import CueRules
from voxroute_orchestrator.subtitles.turns import turns_of


class Paragraphs:
    """A text whose lines are translated one by one and stay lines, as LibreTranslate has it."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._spoken = [n for n, line in enumerate(self._lines) if line.strip()]

    @property
    def texts(self) -> list[str]:
        """The lines that are not empty."""
        return [self._lines[n].strip() for n in self._spoken]

    def with_texts(self, texts: Sequence[str]) -> str:
        """The same with other texts, as many as there are."""
        lines = list(self._lines)
        for n, text in zip(self._spoken, texts, strict=True):
            lines[n] = text
        return "\n".join(lines)


class CueText:
    """The text of a cue: what its speakers say in turn; lines are those of `voxroute translate`."""

    def __init__(self, text: str, rules: CueRules, feed: str = "\n") -> None:
        self._turns = turns_of(text.replace(feed, "\n"))
        self._rules = rules
        self._feed = feed

    @property
    def texts(self) -> list[str]:
        """What each speaker says."""
        return [flat(turn.text) for turn in self._turns]

    def with_texts(self, texts: Sequence[str]) -> str:
        """The same with other texts, as many as there are."""
        said = zip(self._turns, texts, strict=True)
        lines = [wrap(str(replace(turn, text=flat(text))), self._rules) for turn, text in said]
        return "\n".join(lines).replace("\n", self._feed)
