"""The method Align: the words of a known transcript, found in its audio."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_serving import messages as common_messages
from voxroute_serving.asr import messages
from voxroute_serving.asr.answers import Warnings
from voxroute_serving.asr.engine import AlignmentRequest, Word
from voxroute_serving.asr.fallbacks import FallbackModel
from voxroute_serving.asr.messages import KnownSegment
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.queues import DeviceQueues
from voxroute_serving.audio import decoders as audio
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import Span
from voxroute_serving.audio.windows import SampleBuffer, Window
from voxroute_serving.calls.feed import Feed, Threaded
from voxroute_serving.calls.requests import Requests, Send, in_order, open_group
from voxroute_serving.errors import InvalidInputError, LimitExceededError

_PIECES_WAITING = 8  # the same for the audio of segments to be aligned
_MIN_ALIGNED_SAMPLES = SAMPLE_RATE // 25  # 40 ms; no word is shorter
_MAX_ALIGNED_SEGMENTS = 50_000  # a day of speech
_MAX_ALIGNED_CHARACTERS = 8_000_000


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A known segment and its audio, which may begin later than the segment does."""

    segment: KnownSegment
    start_s: float
    samples: Samples


def _pieces(
    decoder: audio.Decoder, blocks: Iterable[Samples], segments: Sequence[KnownSegment]
) -> Iterator[_Piece]:
    """Each segment with its audio, as soon as that is complete; one buffer, cut as it goes."""
    left = deque(segments)
    buffer = SampleBuffer()

    def at(time_s: float) -> int:
        return max(0, round((time_s - decoder.start_s) * SAMPLE_RATE))

    def piece() -> _Piece:
        segment = left.popleft()
        samples = buffer.take(Span(at(segment.start_s), at(segment.end_s)))
        return _Piece(segment, max(segment.start_s, decoder.start_s), samples)

    for block in blocks:
        buffer.append(block)
        while left and at(left[0].end_s) <= buffer.end:
            yield piece()
        buffer.drop_before(at(left[0].start_s) if left else buffer.end)
    while left:  # the audio ends before the transcript
        yield piece()


async def _transcript(
    requests: Requests[asr_pb2.AlignConfig],
) -> tuple[list[KnownSegment], tuple[str, Any]]:
    """The segments, and the message that ends them. Raises InvalidInputError."""
    segments: list[KnownSegment] = []
    n_characters = 0
    while True:
        kind, content = await requests.next()
        if kind != "segment":
            break
        segments.append(messages.known_segment(content, segments[-1].start_s if segments else 0.0))
        n_characters += len(segments[-1].text)
        if len(segments) > _MAX_ALIGNED_SEGMENTS or n_characters > _MAX_ALIGNED_CHARACTERS:
            raise LimitExceededError(
                f"a transcript may have {_MAX_ALIGNED_SEGMENTS} segments and"
                f" {_MAX_ALIGNED_CHARACTERS} characters; align it in parts"
            )
    if not segments and kind != "config":
        raise InvalidInputError.of_field(
            "segment", "there is none; send the transcript before the audio"
        )
    return segments, (kind, content)


def _aligned(piece: _Piece, words: tuple[Word, ...], language: str) -> asr_pb2.AlignResponse:
    segment = piece.segment
    return asr_pb2.AlignResponse(
        segment=asr_pb2.Segment(
            id=segment.id,
            start=common_messages.duration(segment.start_s),
            end=common_messages.duration(segment.end_s),
            text=segment.text,
            language=language,
            words=messages.words_message(words, Window(piece.samples, piece.start_s, ())),
        )
    )


def _unaligned(piece: _Piece) -> asr_pb2.AlignResponse:
    reason = (
        "its words could not be found in the audio"
        if len(piece.samples) >= _MIN_ALIGNED_SAMPLES
        else "the recording has no audio there"
    )
    message = f"segment {piece.segment.id} has no words: {reason}"
    return asr_pb2.AlignResponse(
        warning=common_pb2.Warning(code="ALIGNMENT_FAILED", message=message)
    )


class Alignment:
    """What Align does once a call is admitted."""

    def __init__(self, queues: DeviceQueues, metrics: AsrMetrics, max_audio_s: float) -> None:
        self._queues = queues
        self._metrics = metrics
        self._max_audio_s = max_audio_s

    async def align(
        self,
        requests: Requests[asr_pb2.AlignConfig],
        audio_format: audio.AudioFormat,
        language: str,
        model: FallbackModel,
        send: Send[asr_pb2.AlignResponse],
    ) -> None:
        """One admitted alignment: the transcript, then the audio, cut along it as it comes."""
        segments, first = await _transcript(requests)
        feed = Feed()
        decoder = audio.decoder(audio_format, feed, self._max_audio_s)
        warnings = Warnings(model)
        aligned = failed = 0

        async def align(piece: _Piece) -> tuple[Word, ...]:
            if len(piece.samples) < _MIN_ALIGNED_SAMPLES:
                return ()
            request = AlignmentRequest(piece.samples, piece.segment.text, language)
            return await self._queues.align(model, request)

        async with (
            Threaded(
                lambda: _pieces(decoder, self._metrics.heard(decoder, "Align"), segments),
                _PIECES_WAITING,
                feed,
            ) as source,
            open_group() as group,
        ):
            group.create_task(requests.feed(feed, first))
            async for piece, words in in_order(group, source, align, self._queues.in_flight(model)):
                aligned, failed = aligned + bool(words), failed + (not words)
                for warning in warnings.news():
                    await send(asr_pb2.AlignResponse(warning=warning))
                await send(_aligned(piece, words, language))
                if not words:
                    await send(_unaligned(piece))
        done = asr_pb2.AlignDone(aligned=aligned, failed=failed)
        await send(asr_pb2.AlignResponse(done=done))
