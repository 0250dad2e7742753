"""Captions as lines: each utterance once it is whole, its translations once they are."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import typer

from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.cli.terminal.progress import LineReporter
from voxroute_orchestrator.names import shown


@dataclass(slots=True)
class Said:
    """An utterance, and its sentences in other languages."""

    committed: str = ""
    tentative: str = ""
    closed: bool = False
    sentences: list[int] = field(default_factory=list[int])
    translations: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    _told: set[str] = field(default_factory=set[str])

    def translation(self, language: str) -> str:
        """As much of it as there is in another language."""
        there = self.translations.get(language, {})
        return " ".join(there[number] for number in self.sentences if number in there)

    def due(self, targets: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """What is whole and was not given before: language, "" for that spoken, and text."""
        if not self.closed:
            return
        for language in ("", *targets):
            there = self.translations.get(language, {})
            whole = not language or all(number in there for number in self.sentences)
            if whole and language not in self._told:
                self._told.add(language)
                text = self.translation(language) if language else self.committed
                if text:
                    yield language, text

    def has_told(self, language: str) -> bool:
        """Whether it was given in this language."""
        return language in self._told

    def is_told(self, targets: tuple[str, ...]) -> bool:
        """Whether all of it was given."""
        return len(self._told) > len(targets)


class LineCaptions:
    """What is shown of a stream on standard output; what is said beside it goes to `told`."""

    rewrites = False
    """Whether it shows text that may change."""

    def __init__(self, targets: tuple[str, ...], told: LineReporter) -> None:
        self.targets = targets
        self.said: dict[int, Said] = {}
        """What is not shown to its end, by utterance."""
        self._utterance_of: dict[int, int] = {}  # by sentence
        self._told = told

    def say(self, text: str) -> None:
        """Tells something."""
        self._told.say(text)

    def warn(self, text: str) -> None:
        """Tells something that a person should look at."""
        self._told.warn(text)

    def line(self, language: str, text: str) -> None:
        """Shows what does not change any more; `language` is "" for what was said itself."""
        typer.echo(f"{language}: {text}" if language else text)

    def take(self, event: live_pb2.CaptionResponse) -> None:
        """Shows a message of the stream."""
        match event.WhichOneof("event"):
            case "speech":
                self._take_speech(event.speech)
            case "sentence":
                sentence = event.sentence
                self._said(sentence.utterance).sentences.append(sentence.sentence)
                if self.targets:
                    self._utterance_of[sentence.sentence] = sentence.utterance
            case "translated":
                self._take_translated(event.translated)
            case "warning":
                self.warn(event.warning.message)
            case _:
                pass
        for number, said in sorted(self.said.items()):
            for language, text in said.due(self.targets):
                self.line(language, text)
            if said.is_told(self.targets):
                del self.said[number]
                for sentence in said.sentences:
                    self._utterance_of.pop(sentence, None)

    def _said(self, utterance: int) -> Said:
        return self.said.setdefault(utterance, Said())

    def _take_speech(self, reply: asr_pb2.TranscribeLiveResponse) -> None:
        match reply.WhichOneof("event"):
            case "committed":
                said = self._said(reply.committed.utterance)
                said.committed = (said.committed + shown(reply.committed.text)).lstrip()
                said.tentative = ""
            case "tentative":
                self._said(reply.tentative.utterance).tentative = shown(reply.tentative.text)
            case "utterance":
                said = self._said(reply.utterance.utterance)
                texts = [segment.text.strip() for segment in reply.utterance.segments]
                said.committed, said.tentative = shown(" ".join(texts)), ""
                said.closed = True
            case "warning":
                self.warn(reply.warning.message)
            case _:
                pass

    def _take_translated(self, translated: live_pb2.Translated) -> None:
        said = self.said.get(self._utterance_of.get(translated.sentence, 0))
        if said is None:
            return
        text = shown(translated.text)
        if translated.status == translate_pb2.ITEM_STATUS_FAILED:
            text = f"[not translated: {shown(translated.detail)}]"
        said.translations.setdefault(translated.target_language, {})[translated.sentence] = text
