"""What is found out about a recording beside its text: the times of the words, and who speaks."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.uploads import align as alignment
from voxroute_orchestrator.client.uploads import diarize as diarization
from voxroute_orchestrator.client.uploads.upload import Recording, Tell
from voxroute_orchestrator.fleet.second_services import FindAligner
from voxroute_orchestrator.pipeline import speakers
from voxroute_orchestrator.pipeline.journal import Journal
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.transcript import Note, Segment, Turn, Word

ALIGNING = "aligning words"
DIARIZING = "diarizing"

NO_ALIGNER = "NO_ALIGNER"

# facts of the journal
_WORDS = "words"
_TURNS = "turns"


async def add_words(
    segments: Sequence[Segment],
    recording: Recording,
    find: FindAligner,
    journal: Journal,
    *,
    told: Reporter,
    tell: Tell,
) -> list[Segment]:
    """The segments with their words; for each language the service that can align it.

    Segments that have words already keep them. A language that no service can align is told.
    Words that an earlier run has found are in the journal. Raises VoxrouteError.
    """
    kept = _kept_words(journal)
    if kept is None:
        told.stage(ALIGNING, None)
        kept = dict[int, tuple[Word, ...]]()
        for language in dict.fromkeys(segment.language for segment in segments):
            lacking = [s for s in segments if s.language == language and not s.words]
            if not any(segment.text.strip() for segment in lacking):
                continue
            service = await find(language)
            if service is None:
                await tell(_no_aligner(language))
                continue
            told.say(f"words in {language} are aligned by {service.endpoint}")
            aligned = await alignment.align(service, recording, lacking, language, tell)
            kept |= {segment.id: segment.words for segment in aligned}
        dumped = {str(number): [asdict(word) for word in words] for number, words in kept.items()}
        await journal.keep_fact(_WORDS, dumped)
        told.finish(ALIGNING)
    return [
        segment.model_copy(update={"words": kept.get(segment.id, segment.words)})
        for segment in segments
    ]


def _kept_words(journal: Journal) -> dict[int, tuple[Word, ...]] | None:
    fact: dict[str, list[Any]] | None = journal.fact(_WORDS)
    if fact is None:
        return None
    return {int(number): tuple(Word(**word) for word in words) for number, words in fact.items()}


def _no_aligner(language: str) -> Note:
    return Note(
        source="orchestrator",
        code=NO_ALIGNER,
        message=f"no speech service that answers has an aligner for {language}, so its words have"
        " no times; name one that has it with --asr-endpoint HOST:PORT",
    )


@dataclass(slots=True, eq=False)
class Diarization:
    """Who speaks when, found out while the recording is transcribed, or after.

    Turns that an earlier run has found are in the journal.
    """

    service: AsrClient
    recording: Recording
    journal: Journal
    told: Reporter
    min_speakers: int
    max_speakers: int
    _notes: list[Note] = field(default_factory=list[Note], init=False)
    _task: "asyncio.Task[list[Turn]] | None" = field(default=None, init=False)

    @contextlib.asynccontextmanager
    async def running(self, *, beside: Sequence[str]) -> "AsyncGenerator[None]":
        """Begins, and ends with the block what is not done by then.

        A service at one of the addresses `beside` has its device busy with the transcript, so it
        is asked only when the result is.
        """
        if self.service.endpoint.target not in beside:
            self._begin()
        try:
            yield
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def assigned(self, segments: Sequence[Segment], tell: Tell) -> list[Segment]:
        """The segments with their speakers, split where these change. Raises VoxrouteError."""
        turns = await self._begin()
        for note in self._notes:
            await tell(note)
        return speakers.renumbered(speakers.assign(segments, turns))

    def _begin(self) -> "asyncio.Task[list[Turn]]":
        if self._task is None:
            self._task = asyncio.create_task(self._turns())
        return self._task

    async def _turns(self) -> list[Turn]:
        fact = self.journal.fact(_TURNS)
        if fact is not None:
            return [Turn(*turn) for turn in fact]
        self.told.stage(DIARIZING, None)
        turns = await diarization.diarize(
            self.service,
            self.recording,
            self._note,
            min_speakers=self.min_speakers,
            max_speakers=self.max_speakers,
        )
        dumped = [[turn.start_s, turn.end_s, turn.speaker] for turn in turns]
        await self.journal.keep_fact(_TURNS, dumped)
        count = len({turn.speaker for turn in turns})
        self.told.finish(DIARIZING)
        self.told.say(f"{count} speakers, told apart by {self.service.endpoint}")
        return turns

    async def _note(self, note: Note) -> None:
        self._notes.append(note)
