"""Who speaks when in a recording, from any service that can tell."""

from dataclasses import dataclass, field

from voxroute.asr.v1 import asr_pb2
from voxroute.common.v1 import common_pb2
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.uploads.upload import Recording, Tell, Upload, answered
from voxroute_orchestrator.transcript import Note, Turn


@dataclass(slots=True)
class _Answers:
    """What one attempt was answered."""

    turns: list[Turn] = field(default_factory=list[Turn])
    notes: list[Note] = field(default_factory=list[Note])

    def take(self, reply: asr_pb2.DiarizeResponse) -> None:
        match reply.WhichOneof("event"):
            case "turn":
                turn = reply.turn
                self.turns.append(
                    Turn(convert.seconds(turn.start), convert.seconds(turn.end), turn.speaker)
                )
            case "warning":
                self.notes.append(convert.warning("diarization", reply.warning))
            case _:
                pass  # `accepted`, `done`, or an event of a newer contract


async def diarize(
    service: AsrClient,
    recording: Recording,
    tell: Tell,
    *,
    min_speakers: int = 0,
    max_speakers: int = 0,
) -> list[Turn]:
    """The turns of the speakers, in the order of their start times; none where nobody speaks.

    0 for a number of speakers that is not known. The service is silent until it has heard all of
    the recording; the deadline of its policy bounds that. Tries again as that says. Raises
    VoxrouteError: RefusedError where the service tells no speakers apart.
    """

    def opening(audio: asr_pb2.AudioFormat) -> list[asr_pb2.DiarizeRequest]:
        config = asr_pb2.DiarizeConfig(
            audio=audio, min_speakers=min_speakers, max_speakers=max_speakers
        )
        return [asr_pb2.DiarizeRequest(config=config)]

    upload = Upload(
        service.stub.Diarize,
        opening=opening,
        audio=lambda chunk: asr_pb2.DiarizeRequest(audio=chunk),
        finish=asr_pb2.DiarizeRequest(finish=common_pb2.Finish()),
        answers_at_the_end=True,
    )
    return (await answered(service, recording, upload, _Answers, tell)).turns
