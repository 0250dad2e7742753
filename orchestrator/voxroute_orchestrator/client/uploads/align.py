"""Word times for a transcript that is there already, from any service that can align.

The transcript of an engine that cannot time words can so be given them by one that can.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.uploads.upload import Recording, Tell, Upload, answered
from voxroute_orchestrator.transcript import Note, Segment, Word

MAX_SEGMENT_S = 30.0  # s; the contract's limit
ALIGNMENT_FAILED = "ALIGNMENT_FAILED"
_NAMED_SEGMENTS = 5


@dataclass(slots=True)
class _Answers:
    """What one attempt was answered, by the place of the segment in the request."""

    words: dict[int, tuple[Word, ...]] = field(default_factory=dict[int, tuple[Word, ...]])
    notes: list[Note] = field(default_factory=list[Note])

    def take(self, reply: asr_pb2.AlignResponse) -> None:
        match reply.WhichOneof("event"):
            case "segment":
                words = convert.segment(reply.segment, reply.segment.id).words
                self.words[reply.segment.id] = words
            case "warning" if reply.warning.code != ALIGNMENT_FAILED:  # told once, for all of them
                self.notes.append(convert.warning("asr", reply.warning))
            case _:
                pass  # `accepted`, `done`, or an event of a newer contract


async def align(
    service: AsrClient,
    recording: Recording,
    segments: Sequence[Segment],
    language: str,
    tell: Tell,
) -> list[Segment]:
    """The same segments with their words; nothing else of them changes.

    One that cannot be aligned (longer than 30 s, or its words are not found in the audio) has no
    words, and a note says so. `language` is that of the transcript, BCP-47. Tries again as the
    service's policy says. Raises VoxrouteError: RefusedError where it has no such aligner.
    """
    answers = _Answers()
    wanted = [place for place, segment in enumerate(segments) if _alignable(segment)]
    if wanted:
        upload = Upload(
            service.stub.Align,
            opening=lambda audio: _opening(audio, segments, wanted, language),
            audio=lambda chunk: asr_pb2.AlignRequest(audio=chunk),
            finish=asr_pb2.AlignRequest(finish=common_pb2.Finish()),
        )
        answers = await answered(service, recording, upload, _Answers, tell)
    aligned = [
        segment.model_copy(update={"words": answers.words.get(place, ())})
        for place, segment in enumerate(segments)
    ]
    without = [segment for segment in aligned if segment.text.strip() and not segment.words]
    if without:
        await tell(_failed(without, len(segments)))
    return aligned


def _alignable(segment: Segment) -> bool:
    length_s = segment.end_s - segment.start_s
    return bool(segment.text.strip()) and 0 < length_s <= MAX_SEGMENT_S and segment.start_s >= 0


def _opening(
    audio: asr_pb2.AudioFormat, segments: Sequence[Segment], wanted: Sequence[int], language: str
) -> Iterator[Message]:
    """The config, and the segments in the order of their start times, numbered by their place."""
    yield asr_pb2.AlignRequest(config=asr_pb2.AlignConfig(audio=audio, language=language))
    for place in sorted(wanted, key=lambda place: segments[place].start_s):
        segment = segments[place]
        yield asr_pb2.AlignRequest(
            segment=asr_pb2.AlignSegment(
                id=place,
                start=convert.duration(segment.start_s),
                end=convert.duration(segment.end_s),
                text=segment.text,
            )
        )


def _failed(without: Sequence[Segment], count: int) -> Note:
    named = ", ".join(str(segment.id) for segment in without[:_NAMED_SEGMENTS])
    more = ", ..." if len(without) > _NAMED_SEGMENTS else ""
    return Note(
        source="asr",
        code=ALIGNMENT_FAILED,
        message=f"{len(without)} of {count} segments have no word times, because their words are"
        f" not found in the audio or they are longer than {MAX_SEGMENT_S:.0f} s: {named}{more}",
    )
