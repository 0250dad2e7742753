"""Live streams of tests: marked speech, a service over a real socket, what a client is told."""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.serving.recordings import chunks, silence, speech
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr.app import AsrApp
from voxroute_serving.audio.pcm import as_floats
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.device.batcher import Admission, run_apart
from voxroute_serving.metrics import Metrics
from voxroute_serving.testing import marked_speech
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.marked_speech import SaidWord
from voxroute_serving.testing.served import serving_engine

Request = asr_pb2.TranscribeLiveRequest
Replies = list[asr_pb2.TranscribeLiveResponse]

CHUNK_BYTES = 6_400  # 200 ms
END = Request(end_utterance=asr_pb2.EndUtterance())
DROP = Request(drop_utterance=asr_pb2.DropUtterance())
FINISH = Request(finish=common_pb2.Finish())

_WORD_S, _STEP_S = 0.30, 0.36
_SENTENCE = 8  # words, after which a speaker takes a breath
_BREATH_S = 0.2
_CLEAR_S = 0.1  # s around a breath without a word: a cut at the least likely frame may be late


@dataclass(frozen=True)
class Said:
    """Marked speech and its words."""

    samples: npt.NDArray[np.int16]
    words: tuple[SaidWord, ...]

    @property
    def data(self) -> bytes:
        return self.samples.tobytes()

    @property
    def sound(self) -> Samples:
        return as_floats(self.samples)

    @property
    def texts(self) -> list[str]:
        return [word.text for word in self.words]

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def said(*parts: float, first: int = 1, seed: int = 0, ends: bool = True) -> Said:
    """Speech of so many seconds each; pauses are negative. Breaths stand between sentences.

    Without `ends` no word ends a sentence.
    """
    sounds: list[Any] = []
    words: list[SaidWord] = []
    at_s, number = 0.0, first
    for index, part in enumerate(parts):
        if part < 0:
            sounds.append(silence(-part))
            at_s += -part
            continue
        sound = speech(part, seed + index)
        word_s, in_sentence = at_s + _CLEAR_S, 0
        while word_s + _WORD_S <= at_s + part + 1e-9:
            number += not ends and number % 8 == 0
            words.append(SaidWord(number, round(word_s, 2), round(word_s + _WORD_S, 2)))
            number, in_sentence = number + 1, in_sentence + 1
            word_s += _STEP_S
            if in_sentence == _SENTENCE:
                breath = round((word_s - at_s + _CLEAR_S) * SAMPLE_RATE)
                sound[breath : breath + round(_BREATH_S * SAMPLE_RATE)] = 0
                word_s, in_sentence = word_s + _BREATH_S + 2 * _CLEAR_S, 0
        sounds.append(sound)
        at_s += part
    return Said(marked_speech.marked(np.concatenate(sounds), words), tuple(words))


@dataclass
class Service:
    """A running service and what a test looks at."""

    engine: FakeEngine
    app: AsrApp
    admission: Admission
    metrics: Metrics
    address: str

    async def live(
        self,
        messages: Iterable[Request],
        on_reply: Callable[[Any], None] | None = None,
        timeout_s: float = 30,
    ) -> Replies:
        """All answers to the messages of one stream."""

        def call() -> Replies:
            replies: Replies = []
            with grpc.insecure_channel(self.address) as channel:
                stub = asr_pb2_grpc.AsrServiceStub(channel)
                for reply in stub.TranscribeLive(iter(messages), timeout=timeout_s):
                    replies.append(reply)
                    if on_reply is not None:
                        on_reply(reply)
            return replies

        return await run_apart(call)

    async def fails(self, messages: Iterable[Request]) -> tuple[Any, Replies]:
        """The error that ends a stream, and the answers before it."""
        replies: Replies = []
        try:
            await self.live(messages, replies.append)
        except grpc.RpcError as error:
            return error, replies
        raise AssertionError("the stream ended well")

    async def transcribed(self, conf: asr_pb2.TranscribeConfig, data: bytes) -> list[Any]:
        """All answers for a recording."""

        def sent() -> Iterator[asr_pb2.TranscribeRequest]:
            yield asr_pb2.TranscribeRequest(config=conf)
            for chunk in chunks(data, 10_001):
                yield asr_pb2.TranscribeRequest(audio=chunk)
            yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())

        def call() -> list[Any]:
            with grpc.insecure_channel(self.address) as channel:
                return list(asr_pb2_grpc.AsrServiceStub(channel).Transcribe(sent(), timeout=30))

        return await run_apart(call)

    async def capabilities(self) -> asr_pb2.GetCapabilitiesResponse:
        """What the service says of itself."""

        def call() -> Any:
            with grpc.insecure_channel(self.address) as channel:
                stub = asr_pb2_grpc.AsrServiceStub(channel)
                return stub.GetCapabilities(asr_pb2.GetCapabilitiesRequest(), timeout=30)

        return await run_apart(call)

    @property
    def streams(self) -> int:
        """Places of live streams that are taken."""
        return self.app.servicer._queues.pace.streams

    @property
    def heard_s(self) -> float:
        """Sound of live streams that has been read, seconds."""
        return round(self.metric("audio_seconds_total", grpc_method="TranscribeLive"), 6)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value."""
        value = self.metrics.registry.get_sample_value(f"voxroute_asr_{name}", labels)
        assert value is not None, name
        return value


@contextlib.asynccontextmanager
async def serving(engine: FakeEngine | None = None, **settings: Any) -> AsyncGenerator[Service]:
    """A service on a free port whose engine understands marked speech."""
    engine = engine or FakeEngine(segments=marked_speech.heard)
    async with serving_engine(engine, **settings) as served:
        engine.batches.clear()
        yield Service(engine, served.app, served.runtime.admission, served.metrics, served.address)


def config(language: str = "hi", **fields: Any) -> asr_pb2.LiveConfig:
    """Raw 16 kHz samples."""
    fields.setdefault("audio", pcm())
    return asr_pb2.LiveConfig(language=language, **fields)


def pcm(rate: int = SAMPLE_RATE, channels: int = 0, start_s: int = 0) -> asr_pb2.AudioFormat:
    """Raw samples whose first is at a time."""
    return asr_pb2.AudioFormat(
        pcm=asr_pb2.PcmFormat(sample_rate_hz=rate, channels=channels),
        start_offset=Duration(seconds=start_s),
    )


def messages(
    data: bytes,
    conf: asr_pb2.LiveConfig | None = None,
    *,
    size: int = CHUNK_BYTES,
    pace: float = 0.0,
    finish: bool = True,
    between: Mapping[int, Sequence[Request]] | None = None,
) -> Iterator[Request]:
    """A stream as a client sends it: `pace` times as fast as it is spoken, or as fast as may be.

    `between` are other messages, by the number of the chunk before which they come.
    """
    yield Request(config=conf or config())
    begun = time.monotonic()
    for index, chunk in enumerate(chunks(data, size)):
        yield from (between or {}).get(index, ())
        yield Request(audio=chunk)
        if pace:
            sent_s = (index + 1) * size / 2 / SAMPLE_RATE / pace
            time.sleep(max(0.0, begun + sent_s - time.monotonic()))
    if finish:
        yield FINISH


def of(replies: Replies, kind: str) -> list[Any]:
    """The contents of the answers of a kind, in their order."""
    return [getattr(reply, kind) for reply in replies if reply.WhichOneof("event") == kind]


def kinds(replies: Replies) -> list[str]:
    """The kinds of the answers, but for progress."""
    found = [str(reply.WhichOneof("event")) for reply in replies]
    return [kind for kind in found if kind != "progress"]


def committed(replies: Replies) -> list[str]:
    """The words of all committed texts, as they came."""
    text = "".join(str(one.text) for one in of(replies, "committed"))
    return text.split()


def committed_words(replies: Replies) -> list[asr_pb2.Word]:
    """The same, with their times."""
    return [word for one in of(replies, "committed") for word in one.words]


def seconds(message: Duration) -> float:
    """A duration in seconds."""
    return message.seconds + message.nanos / 1e9


def check_whole(replies: Replies, spoken: Said, *, start_s: float = 0.0) -> None:
    """What holds of every stream that ends well and whose words are all told."""
    told = kinds(replies)
    assert told[0] == "accepted"
    assert told[-1] == "done"
    assert told.count("accepted") == told.count("done") == 1
    found = committed(replies)
    assert found == spoken.texts, differences(found, spoken.texts)
    words = committed_words(replies)
    assert [word.text for word in words] == spoken.texts
    for word, true in zip(words, spoken.words, strict=True):
        assert abs(seconds(word.start) - start_s - true.start_s) <= 0.1, word
        assert abs(seconds(word.end) - start_s - true.end_s) <= 0.1, word
    check_utterances(replies)


def differences(found: Sequence[str], texts: Sequence[str]) -> list[tuple[str, list[str]]]:
    """What is written down otherwise than it was said."""
    codes = SequenceMatcher(None, texts, found, autojunk=False).get_opcodes()
    return [(" ".join(texts[a:b]), list(found[c:d])) for tag, a, b, c, d in codes if tag != "equal"]


def check_utterances(replies: Replies) -> None:
    """Each utterance is told in order, once, with the text that was committed for it."""
    utterances = of(replies, "utterance")
    numbers = [one.utterance for one in utterances]
    assert numbers == list(range(1, len(numbers) + 1))
    assert of(replies, "done")[-1].utterances == len(numbers)
    ids = [segment.id for one in utterances for segment in one.segments]
    assert ids == list(range(1, len(ids) + 1))
    floor_s = -1.0
    for one in utterances:
        if not one.refined:
            text = "".join(c.text for c in of(replies, "committed") if c.utterance == one.utterance)
            assert " ".join(segment.text for segment in one.segments) == text.strip()
        for segment in one.segments:
            assert floor_s <= seconds(segment.start) < seconds(segment.end)
            floor_s = seconds(segment.end)
    check_order(replies)


def check_order(replies: Replies) -> None:
    """An utterance starts before its texts and ends after them; times never step back."""
    state: dict[int, str] = {}
    started_s = stopped_s = word_s = -1.0
    for reply in replies:
        kind = reply.WhichOneof("event")
        match kind:
            case "speech_started":
                assert state.setdefault(reply.speech_started.utterance, "started") == "started"
                assert seconds(reply.speech_started.at) >= started_s
                started_s = seconds(reply.speech_started.at)
            case "committed" | "tentative":
                content = getattr(reply, str(kind))
                assert state[content.utterance] in ("started", "stopped")
                if kind == "committed":
                    for word in content.words:
                        assert seconds(word.end) >= seconds(word.start) >= word_s - 1e-6
                        word_s = seconds(word.end)
            case "speech_stopped":
                assert state[reply.speech_stopped.utterance] == "started"
                state[reply.speech_stopped.utterance] = "stopped"
                assert seconds(reply.speech_stopped.at) >= stopped_s
                stopped_s = seconds(reply.speech_stopped.at)
            case "utterance":
                state[reply.utterance.utterance] = "closed"
            case _:
                pass
    assert set(state.values()) <= {"closed"}


def fields_of(error: Any) -> list[str]:
    """The fields that an error names."""
    return [
        violation.field
        for found in _details(error, error_details_pb2.BadRequest)
        for violation in found.field_violations
    ]


def retry_s(error: Any) -> list[float]:
    """After how many seconds an error says that it is worth trying again."""
    return [seconds(found.retry_delay) for found in _details(error, error_details_pb2.RetryInfo)]


def _details(error: Any, kind: type[Any]) -> list[Any]:
    status = cast("Any", rpc_status).from_call(error)
    found: list[Any] = []
    for detail in status.details if status is not None else ():
        one = kind()
        if detail.Unpack(one):
            found.append(one)
    return found
