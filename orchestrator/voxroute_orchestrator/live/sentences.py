"""Committed text as sentences: each told once it is whole, and its language known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2
from voxroute_orchestrator.client.messages import duration, seconds
from voxroute_serving.asr.text.segments import ends_sentence, sentences


@dataclass(slots=True)
class _Words:
    """Words in a row; their texts carry their own blanks."""

    text: str = ""
    times: list[tuple[int, float, float]] = field(default_factory=list[tuple[int, float, float]])
    """Of each word, where it ends in the text, and from when to when it is said."""

    def add(self, text: str, start_s: float, end_s: float) -> None:
        self.text += text
        self.times.append((len(self.text), start_s, end_s))

    def take(self, length: int) -> "_Words":
        """The first characters with their times; only what follows stays."""
        taken = _Words(self.text[:length], [one for one in self.times if one[0] <= length])
        taken.times = taken.times or self.times[:1]  # a word that two sentences share
        self.text = self.text[length:]
        self.times = [(end - length, a, b) for end, a, b in self.times if end > length]
        return taken


@dataclass(slots=True)
class SentenceCutter:
    """The sentences of one stream, counted from 1.

    A sentence never crosses utterances. Where the language is detected, it is the utterance's, and
    sentences wait until it is known.
    """

    language: str = ""
    """The one that is spoken, BCP-47; "" where it is detected."""
    _utterance: int = 0
    _open: _Words = field(default_factory=_Words)
    _told: bool = False
    """Whether something of the utterance was committed."""
    _unnamed: list[live_pb2.Sentence] = field(default_factory=list[live_pb2.Sentence])
    """Those whose language is not known yet."""
    _count: int = 0
    _now_s: float = 0.0

    def take(self, reply: asr_pb2.TranscribeLiveResponse) -> Iterator[live_pb2.Sentence]:
        """The sentences that are whole with a message."""
        match reply.WhichOneof("event"):
            case "language_detected" if reply.language_detected.languages:
                self.language = reply.language_detected.languages[0].language
                yield from self._named(self.language)
            case "committed":
                yield from self._begin(reply.committed.utterance)
                yield from self._add(reply.committed.text, reply.committed.words)
            case "utterance":
                yield from self._close(reply.utterance)
            case _:
                pass

    def rest(self) -> Iterator[live_pb2.Sentence]:
        """What is left where the stream has ended without closing its utterance."""
        yield from self._flush()
        yield from self._named(self.language)

    def _begin(self, utterance: int) -> Iterator[live_pb2.Sentence]:
        """Ends the text of the utterance before; that one may still be decoded once more."""
        if utterance > self._utterance:
            yield from self._flush()
            self._utterance, self._told = utterance, False

    def _close(self, closed: asr_pb2.Utterance) -> Iterator[live_pb2.Sentence]:
        yield from self._begin(closed.utterance)
        if closed.utterance == self._utterance:
            if not self._told:  # only decoding it once more has found its text
                for segment in closed.segments:
                    blank = " " if self._open.text and not segment.text[:1].isspace() else ""
                    yield from self._add(blank + segment.text, segment.words, segment)
            yield from self._flush()
        yield from self._named(closed.language or self.language)

    def _add(
        self,
        text: str,
        words: Sequence[asr_pb2.Word],
        segment: asr_pb2.Segment | None = None,
    ) -> Iterator[live_pb2.Sentence]:
        """Takes text in; what of it is whole. Without words its times are those of the segment."""
        self._told = self._told or bool(text.strip())
        if segment is not None and not words:
            self._open.add(text, seconds(segment.start), seconds(segment.end))
            text = ""
        for word in words:  # a blank before it may be its own, or only the text's
            end = text.find(word.text) + len(word.text)
            if end >= len(word.text):
                self._open.add(text[:end], seconds(word.start), seconds(word.end))
                text = text[end:]
        if text:
            self._open.add(text, self._now_s, self._now_s)
        for found in sentences(self._open.text):
            if len(found) < len(self._open.text) or ends_sentence(found):
                yield from self._whole(self._open.take(len(found)))

    def _flush(self) -> Iterator[live_pb2.Sentence]:
        left, self._open = self._open, _Words()
        yield from self._whole(left)

    def _whole(self, words: _Words) -> Iterator[live_pb2.Sentence]:
        text = words.text.strip()
        if not text:
            return
        self._count += 1
        start_s = max(self._now_s, words.times[0][1])
        self._now_s = max(start_s, words.times[-1][2])
        self._unnamed.append(
            live_pb2.Sentence(
                utterance=self._utterance,
                sentence=self._count,
                text=text,
                start=duration(start_s),
                end=duration(self._now_s),
                language=self.language,
            )
        )
        if self.language:
            yield from self._named(self.language)

    def _named(self, language: str) -> Iterator[live_pb2.Sentence]:
        """Those that have waited for their language."""
        unnamed, self._unnamed = self._unnamed, []
        for sentence in unnamed:
            sentence.language = sentence.language or language
            yield sentence
