"""What a service tells about live speech, as the events that OpenAI's clients read."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client.messages import seconds

Event = dict[str, Any]
_BUFFER = "input_audio_buffer"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
_SPEAKER_STOPS = frozenset(
    {asr_pb2.END_REASON_SILENCE, asr_pb2.END_REASON_LENGTH, asr_pb2.END_REASON_FINISH}
)


def new_id(kind: str) -> str:
    """An id of an event, an item, a session."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


@dataclass(slots=True)
class _Item:
    """What one item of the conversation has so far."""

    id: str = field(default_factory=lambda: new_id("item"))
    text: str = ""
    deltas: str = ""
    seconds: float = 0.0
    languages: list[str] = field(default_factory=list[str])
    started: bool = False
    stopped: bool = False
    committed: bool = False

    def add(self, utterance: asr_pb2.Utterance) -> None:
        texts = [self.text, *(segment.text for segment in utterance.segments)]
        self.text = " ".join(text.strip() for text in texts if text.strip())
        self.seconds += max(0.0, seconds(utterance.end) - seconds(utterance.start))
        if utterance.language and utterance.language not in self.languages:
            self.languages.append(utterance.language)


@dataclass(slots=True)
class Items:
    """The items of one session: one for each utterance.

    Where the client ends utterances itself there is one for each of its commits, and no word of
    when somebody speaks.
    """

    manual: bool = False
    older: bool = False
    """Whether the client knows the events of the beta alone."""
    _items: dict[int, _Item] = field(default_factory=dict[int, _Item])
    _last_id: str | None = None

    def events(self, reply: asr_pb2.TranscribeLiveResponse) -> Iterator[Event]:
        """What a message of the service is for the client."""
        match reply.WhichOneof("event"):
            case "speech_started":
                yield from self._started(reply.speech_started)
            case "committed":
                yield from self._delta(reply.committed)
            case "tentative":
                item = self._item(reply.tentative.utterance)
                yield {
                    "type": "voxroute.tentative",
                    "item_id": item.id,
                    "content_index": 0,
                    "text": reply.tentative.text,
                }
            case "speech_stopped":
                item = self._item(reply.speech_stopped.utterance)
                if not self.manual:
                    yield from self._stopped(item, seconds(reply.speech_stopped.at))
                    yield from self._commit(item)
            case "utterance":
                yield from self._utterance(reply.utterance)
            case _:
                pass

    def ended(self) -> Iterator[Event]:
        """Closes what an ended call has left open."""
        for number in tuple(self._items):
            yield from self._complete(self._items.pop(number))

    def _item(self, utterance: int) -> _Item:
        return self._items.setdefault(0 if self.manual else utterance, _Item())

    def _started(self, told: asr_pb2.SpeechStarted) -> Iterator[Event]:
        item = self._item(told.utterance)
        if not self.manual:
            item.started = True
            yield {
                "type": f"{_BUFFER}.speech_started",
                "audio_start_ms": _ms(seconds(told.at)),
                "item_id": item.id,
            }

    def _delta(self, told: asr_pb2.Committed) -> Iterator[Event]:
        item = self._item(told.utterance)
        delta = told.text if item.deltas else told.text.lstrip()
        item.deltas += delta
        if delta:
            yield {
                "type": f"{_TRANSCRIPTION}.delta",
                "item_id": item.id,
                "content_index": 0,
                "delta": delta,
            }

    def _utterance(self, told: asr_pb2.Utterance) -> Iterator[Event]:
        item = self._item(told.utterance)
        item.add(told)
        if told.reason == asr_pb2.END_REASON_LENGTH and self.manual:
            return  # the client's own utterance goes on
        del self._items[0 if self.manual else told.utterance]
        if told.reason == asr_pb2.END_REASON_DROPPED and not (item.text or item.committed):
            return
        if item.started and told.reason in _SPEAKER_STOPS:
            yield from self._stopped(item, seconds(told.end))
        yield from self._complete(item)

    def _stopped(self, item: _Item, at_s: float) -> Iterator[Event]:
        if not item.stopped:
            item.stopped = True
            yield {
                "type": f"{_BUFFER}.speech_stopped",
                "audio_end_ms": _ms(at_s),
                "item_id": item.id,
            }

    def _commit(self, item: _Item) -> Iterator[Event]:
        if item.committed:
            return
        item.committed = True
        before, self._last_id = self._last_id, item.id
        yield {"type": f"{_BUFFER}.committed", "item_id": item.id, "previous_item_id": before}
        content = {"type": "input_audio", "transcript": None}
        message = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [content],
        }
        for name in ("created",) if self.older else ("added", "done"):
            kind = f"conversation.item.{name}"
            yield {"type": kind, "previous_item_id": before, "item": message}

    def _complete(self, item: _Item) -> Iterator[Event]:
        yield from self._commit(item)
        yield {
            "type": f"{_TRANSCRIPTION}.completed",
            "item_id": item.id,
            "content_index": 0,
            "transcript": item.deltas.strip() or item.text,
            "usage": {"type": "duration", "seconds": round(item.seconds, 3)},
            **({"languages": [{"code": one} for one in item.languages]} if item.languages else {}),
        }


def _ms(time_s: float) -> int:
    return max(0, round(time_s * 1000))
