"""One recording over any number of speech services: spans handed out, windows put in order.

    PcmReader -> spans -> board -> lanes of each service -> windows -> segments in order

Each service takes the next span when it is done with the last, so each does as much as it can. A
service that dies gives its span back, whose finished windows stay; one that holds up the end is
helped by an idle one. Every finished window is in the journal before anybody hears of it.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from voxroute.asr.v1 import asr_pb2
from voxroute_orchestrator.client.asr import AsrClient, AsrRequest, NextService, PcmAudio
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.messages import Accepted, Detected, FinishedWindow, Loading
from voxroute_orchestrator.client.retry import RESUMED, Retry
from voxroute_orchestrator.errors import DeviceMemoryError, NoAudioError, UsageError, VoxrouteError
from voxroute_orchestrator.media import PcmReader
from voxroute_orchestrator.pipeline.journal import Journal, KeptSpan
from voxroute_orchestrator.pipeline.parts import N_SPANS, Span, spans, target_s
from voxroute_orchestrator.pipeline.workers import Crew, HandingOut
from voxroute_orchestrator.reading import reading
from voxroute_orchestrator.reporter import clock
from voxroute_orchestrator.transcript import (
    AsrStats,
    LanguageProbability,
    Model,
    Note,
    Segment,
    Untranscribed,
)

if TYPE_CHECKING:
    from voxroute_orchestrator.pipeline.run import Run

_MIN_LANES = 2  # calls at once to a service: one span's windows fill the batches of the other
_SPANS_AHEAD = 2  # spans in memory that nobody has taken yet
_SLOW = 2.0  # times the usual time for a span, after which an idle service takes it too
_SLOW_S = 5.0  # and this long at least
_LOOK_EVERY_S = 0.5  # for spans that have become slow
_ROUNDING_S = 0.001  # times of messages are rounded

# what differs from span to span in the options that a service fills in
_PER_CALL = ("audio", "expected_duration", "resume_from", "strict_options")


@dataclass(slots=True, eq=False)
class _Part:
    """A span, how far it is, and who is at it."""

    index: int
    start_s: float
    end_s: float
    pcm: bytes
    done_s: float
    segments: list[Segment] = field(default_factory=list[Segment])
    untranscribed: list[Untranscribed] = field(default_factory=list[Untranscribed])
    told: int = 0  # segments that were told
    complete: bool = False
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while something of it is put into the journal, which may take a while."""
    runs: "dict[asyncio.Task[None], tuple[AsrClient, float]]" = field(
        default_factory=dict["asyncio.Task[None]", tuple[AsrClient, float]]
    )

    @property
    def bounds(self) -> tuple[float, float]:
        return self.start_s, self.end_s

    @property
    def done(self) -> float:
        """As workers.Part."""
        return self.done_s

    @property
    def cannot(self) -> str:
        """As workers.Part."""
        span = f"{clock(self.start_s)} to {clock(self.end_s)}"
        return f"the recording cannot be transcribed at {clock(self.done_s)} (of {span})"


class _Board:
    """The spans that are to be done, in order, and those that somebody is at."""

    def __init__(self, *, one_at_a_time: bool) -> None:
        self.parts: dict[int, _Part] = {}  # not told to the end yet, by index
        self.one_at_a_time = one_at_a_time  # while the language is not known
        self.ended = False
        self.capacity = _SPANS_AHEAD
        self._waiting: list[_Part] = []
        self._changed = asyncio.Event()

    @property
    def finished(self) -> bool:
        """Whether every span is complete and none follows."""
        return self.ended and all(part.complete for part in self.parts.values())

    @property
    def n_waiting(self) -> int:
        """How many spans could be begun now."""
        busy = any(part.runs for part in self.parts.values())
        return 0 if self.one_at_a_time and busy else len(self._waiting)

    def take_now(self) -> _Part | None:
        """The next span that waits; None where none does, or may be begun."""
        return self._waiting.pop(0) if self.n_waiting else None

    async def change(self, timeout_s: float) -> None:
        """Returns once something has changed, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def room(self) -> None:
        """Returns when there is memory for another span."""
        while sum(bool(part.pcm) for part in self.parts.values()) >= self.capacity:
            await self._changed.wait()

    def add_room(self, n_spans: int) -> None:
        """Lets so many more spans be in memory at once, or fewer."""
        self.capacity += n_spans
        self.tell()

    def add(self, part: _Part) -> None:
        """Adds the next span."""
        self.parts[part.index] = part
        if not part.complete:
            self._waiting.append(part)
        self.tell()

    def give_back(self, part: _Part) -> None:
        """Puts a span that was not completed among those that wait, unless others are at it."""
        if not part.complete and not part.runs and part not in self._waiting:
            self._waiting.append(part)
            self._waiting.sort(key=lambda one: one.index)
        self.tell()

    async def take(self, speech: AsrClient, usual_s: float | None) -> _Part | None:
        """The next span for a service, or one that holds up the end; None where all is done.

        `usual_s` is how long a span takes this service, seconds; None where it has done none.
        """
        while not self.finished:
            part = self.take_now()
            if part is not None:
                return part
            if not self._waiting and self.ended and usual_s is not None:
                slow = self._slow(speech, usual_s)
                if slow is not None:
                    return slow
            await self.change(_LOOK_EVERY_S)
        return None

    def _slow(self, speech: AsrClient, usual_s: float) -> _Part | None:
        """A span that another service alone has been at for much longer than usual."""
        limit_s = max(_SLOW_S, _SLOW * usual_s)
        now = time.monotonic()
        for part in self.parts.values():
            runs = list(part.runs.values())
            if len(runs) == 1 and runs[0][0] is not speech and now - runs[0][1] > limit_s:
                return part
        return None

    def tell(self) -> None:
        """Wakes all who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


class Recognition:
    """One recording; `run` tells its segments to `events`, in their order.

    `options` are for every service, but for the model, which each has under its own name. The
    languages in `options` may both be empty: the first span with speech then tells the language.
    `length_s` is where the recording ends on its timeline, `model` what an earlier run was done by.
    """

    def __init__(
        self,
        reader: PcmReader,
        options: asr_pb2.TranscribeConfig,
        events: "Run",
        journal: Journal,
        *,
        length_s: float | None,
        model: Model | None = None,
        workers: Crew[AsrClient] | None = None,
    ) -> None:
        self._reader = reader
        self._options = options
        self._events = events
        self._journal = journal
        self._length_s = length_s
        self._kept: dict[int, KeptSpan] = journal.spans()
        self._board = _Board(one_at_a_time=not options.language and not options.allowed_languages)
        self._next = 0  # index of the span whose segments are told next
        self._n_segments = 0
        self._finished_s = 0.0  # of spans that are told to the end
        self._telling = asyncio.Lock()
        self._model = model
        self._told: set[tuple[str, str]] = set()
        self._workers: dict[asyncio.Task[None], AsrClient] = {}
        self._coming = workers

    async def run(self, services: Sequence[AsrClient], next_service: NextService) -> None:
        """Returns when the whole recording is transcribed. Raises VoxrouteError."""
        others = [asyncio.create_task(self._feed())]
        if self._coming is not None:
            handing = HandingOut(
                self._coming,
                self._board,
                self._by_worker,
                self._events.note,
                "no worker takes a part of the recording",
                alone=lambda: not services,
            )
            others.append(asyncio.create_task(handing.run()))
        try:
            for speech in services:
                self._hire(speech)
            await self._work(others, next_service)
        finally:
            tasks = [*others, *self._workers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._reader.close()
        for note in self._reader.notes:
            await self._events.note(note)
        if self._length_s is not None:
            await self._events.progress(self._length_s)

    def _hire(self, speech: AsrClient) -> None:
        self._workers[asyncio.create_task(self._serve(speech))] = speech

    async def _work(
        self, others: "Sequence[asyncio.Task[None]]", next_service: NextService
    ) -> None:
        """Waits for the services, and finds others where the last one has given up.

        `others` are what goes on beside them: the reading, and the workers that come.
        """
        while waiting := {*self._workers, *(one for one in others if not one.done())}:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                speech = self._workers.pop(task, None)
                if speech is None:
                    task.result()
                    continue
                error = task.exception()
                if isinstance(error, VoxrouteError):
                    await self._gave_up(speech, error, next_service)
                elif error is not None:
                    raise error
        if not self._board.finished:  # pragma: no cover - the last worker leaves when it is
            raise VoxrouteError("the recognition ended before its end; this is a defect")

    async def _gave_up(
        self, speech: AsrClient, error: VoxrouteError, next_service: NextService
    ) -> None:
        """Goes on without a service. Raises its error where it was the last one."""
        if self._board.finished:
            return
        if isinstance(error, DeviceMemoryError) and not self._workers:
            replacement = await next_service()
            if replacement is not None:
                self._hire(replacement)
        if not self._workers and self._coming is None:
            raise error
        if isinstance(error, DeviceMemoryError) and self._workers:
            await self._events.replaced(error, list(self._workers.values())[-1])
        else:
            await self._events.lost(speech, error)

    # --- the recording

    async def _feed(self) -> None:
        """Puts every span on the board, as far as there is memory. Raises VoxrouteError."""
        source = spans(self._reader, self._length_s)
        while True:
            await self._board.room()
            span = await reading(self._reader.watch, lambda: next(source, None))
            if span is None:
                break
            if not span.pcm:
                raise NoAudioError("the file holds no audio that can be decoded")
            self._board.add(self._part(span))
            await self._tell_segments()
        self._board.ended = True
        self._board.tell()

    def _part(self, span: Span) -> _Part:
        """The span with what an earlier run has finished of it. Raises UsageError."""
        part = _Part(span.index, span.start_s, span.end_s, span.pcm, span.start_s)
        kept = self._kept.pop(span.index, None)
        if kept is None:
            return part
        if max(abs(kept.start_s - part.start_s), abs(kept.end_s - part.end_s)) > _ROUNDING_S:
            raise UsageError(
                "the media file is not the one that the job was begun with: its audio is cut"
                " elsewhere; run without --resume to start anew"
            )
        part.done_s, part.segments = kept.done_s, kept.segments
        part.untranscribed = kept.untranscribed
        if kept.stats is not None:
            part.complete, part.pcm = True, b""
        return part

    # --- the services

    async def _serve(self, speech: AsrClient) -> None:
        """Lets a service work until nothing is left. Raises VoxrouteError where it gives up."""
        n_lanes = await self._n_lanes(speech)
        self._board.add_room(n_lanes)
        lanes = [
            asyncio.create_task(_Lane(self, self._board, speech).work()) for _ in range(n_lanes)
        ]
        try:
            await asyncio.gather(*lanes)
        finally:
            self._board.add_room(-n_lanes)
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _n_lanes(self, speech: AsrClient) -> int:
        """Calls at once to a service: enough spans for its device, and some left for the others."""
        try:
            limits = (await speech.capabilities()).limits
        except VoxrouteError:
            return _MIN_LANES  # the first call will tell what is wrong
        in_flight_s = limits.audio_in_flight.ToTimedelta().total_seconds()
        span_s = target_s(self._length_s)
        wanted = math.ceil(in_flight_s / span_s)
        lanes = min(wanted, limits.max_concurrent_calls // 2)
        if len(self._workers) > 1:
            n_spans = math.ceil((self._length_s or 0.0) / span_s) or N_SPANS
            lanes = min(lanes, n_spans // len(self._workers))
        return max(_MIN_LANES, lanes)

    async def _by_worker(self, speech: AsrClient, part: _Part) -> None:
        """One call of a worker. Raises CallFailedError."""
        self._board.add_room(1)
        try:
            await self.transcribe(speech, part, Retry(speech.endpoint, speech.policy))
        finally:
            self._board.add_room(-1)

    async def transcribe(self, speech: AsrClient, part: _Part, retry: Retry) -> None:
        """One call for a span; another service may complete it first. Raises CallFailedError."""
        run = asyncio.create_task(self._call(speech, part, retry))
        part.runs[run] = (speech, time.monotonic())
        try:
            await asyncio.wait([run])
        finally:
            run.cancel()
            await asyncio.wait([run])
            part.runs.pop(run, None)
            self._board.give_back(part)
        if not part.complete:
            run.result()

    async def _call(self, speech: AsrClient, part: _Part, retry: Retry) -> None:
        options = asr_pb2.TranscribeConfig(model=speech.model)
        options.MergeFrom(self._options)
        request = AsrRequest(PcmAudio(part.pcm, part.start_s), part.done_s, options)
        async with contextlib.aclosing(speech.transcribe(request)) as events:
            async for event in events:
                match event:
                    case Accepted():
                        await self._accepted(speech, event)
                    case Loading():
                        await self._events.loading()
                    case Detected():
                        await self._detected(event.languages)
                    case FinishedWindow():
                        retry.progress()  # patience with the service begins afresh
                        await self._window(part, event)
                    case Note():
                        await self.note(event)
                    case AsrStats():
                        await self._completed(part, event)

    # --- what the calls tell

    async def _accepted(self, speech: AsrClient, accepted: Accepted) -> None:
        """Tells who answers, and notes another model than that of the first call."""
        options = accepted.options.items()
        common = {name: value for name, value in options if name not in _PER_CALL}
        await self._events.accepted(speech, replace(accepted, options=common))
        model = accepted.model
        if self._model is None:
            self._model = model
        elif model != self._model:
            before = self._model
            message = (
                f"{model.id} ({model.engine}, {model.revision}) transcribes a part, {before.id}"
                f" ({before.engine}, {before.revision}) another; the wording may differ"
            )
            await self.note(Note(source="orchestrator", code="MODEL_CHANGED", message=message))

    async def _detected(self, languages: list[LanguageProbability]) -> None:
        """Settles the language of what follows."""
        if self._options.language or not self._board.one_at_a_time:
            return
        self._options.language = languages[0].language
        self._board.one_at_a_time = False
        self._board.tell()
        await self._events.language(languages)

    async def _window(self, part: _Part, window: FinishedWindow) -> None:
        """Keeps a finished window, unless another service was faster."""
        # a call that is cancelled meanwhile must not leave in the journal what its part has not
        keeping = asyncio.ensure_future(self._keep_window(part, window))
        keeping.add_done_callback(lambda kept: kept.cancelled() or kept.exception())
        if await asyncio.shield(keeping):
            await self._tell_segments()
        else:
            await self._events.repeated()

    async def _keep_window(self, part: _Part, window: FinishedWindow) -> bool:
        """Whether the window was a new one."""
        async with part.keeping:
            resume_from_s = window.resume_from_s
            if resume_from_s <= part.done_s or part.complete:
                return False
            done_s = part.done_s - _ROUNDING_S
            fresh = [one for one in window.segments if one.start_s >= done_s]
            gaps = [one for one in window.untranscribed if one.start_s >= done_s]
            await self._journal.keep_window(part.index, part.bounds, fresh, gaps, resume_from_s)
            part.done_s = resume_from_s
            part.segments += fresh
            part.untranscribed += gaps
            return True

    async def _completed(self, part: _Part, stats: AsrStats) -> None:
        """Keeps that a span is complete, unless another service was faster."""
        async with part.keeping:
            if part.complete:
                return
            await self._journal.keep_span(part.index, part.bounds, stats)
            part.complete, part.pcm = True, b""
        for run in part.runs:
            if run is not asyncio.current_task():
                run.cancel()
        self._board.tell()
        await self._events.done(stats)
        await self._tell_segments()

    async def note(self, note: Note) -> None:
        """Tells a warning, each once; of a span without speech nobody wants to hear."""
        if note.code == "NO_SPEECH" or (note.code, note.message) in self._told:
            return
        self._told.add((note.code, note.message))
        await self._events.note(note)

    async def _tell_segments(self) -> None:
        """Tells the segments up to the first window that is not finished, in order."""
        async with self._telling:
            while (part := self._board.parts.get(self._next)) is not None:
                while part.told < len(part.segments):
                    segment = part.segments[part.told]
                    part.told += 1
                    self._n_segments += 1
                    await self._events.segment(segment.model_copy(update={"id": self._n_segments}))
                while part.untranscribed:
                    await self._events.untranscribed(part.untranscribed.pop(0))
                if not part.complete:
                    break
                self._finished_s = part.end_s
                self._next += 1
                del self._board.parts[part.index]
            # spans beyond the first that is not told add to what is done
            parts = self._board.parts.values()
            done_s = sum(
                (one.end_s if one.complete else min(one.done_s, one.end_s)) - one.start_s
                for one in parts
            )
            begin_s = min((one.start_s for one in parts), default=self._finished_s)
            await self._events.progress(begin_s + done_s)


class _Lane:
    """One call at a time to a service, again and again."""

    def __init__(self, recognition: Recognition, board: _Board, speech: AsrClient) -> None:
        self._recognition = recognition
        self._board = board
        self._speech = speech
        self._retry = Retry(speech.endpoint, speech.policy)
        self._times_s: list[float] = []

    async def work(self) -> None:
        """Returns when no span is left. Raises VoxrouteError where the service is given up."""
        await self._retry.run(self._attempt)

    async def _attempt(self) -> None:
        """Takes spans until none is left. Raises CallFailedError; the span is given back."""
        while True:
            times = self._times_s
            usual_s = sum(times) / len(times) if times else None
            part = await self._board.take(self._speech, usual_s)
            if part is None:
                return
            began = time.monotonic()
            try:
                await self._recognition.transcribe(self._speech, part, self._retry)
            except CallFailedError as failure:
                if failure.retryable:
                    await self._interrupted(part)
                raise
            self._retry.progress()
            times.append(time.monotonic() - began)

    async def _interrupted(self, part: _Part) -> None:
        message = (
            f"the connection to {self._speech.endpoint} was lost; transcription goes on"
            f" from {part.done_s:.1f} s"
        )
        await self._recognition.note(Note(source="orchestrator", code=RESUMED, message=message))
