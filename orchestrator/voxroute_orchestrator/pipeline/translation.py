"""The segments of a run into one language, over any number of translation services and workers.

A worker is given one turn each time that it asks: a call that ends after some texts, or when none
has come for a while, so that jobs and languages share the workers.
"""

import asyncio
import bisect
import contextlib
import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import Protocol

from voxroute_orchestrator.client.items import ItemPool, TranslateItem
from voxroute_orchestrator.client.messages import Accepted, TranslateEvent
from voxroute_orchestrator.client.translate import TranslateClient, TranslateRequest
from voxroute_orchestrator.errors import DeviceMemoryError, VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.pipeline.journal import Journal, keep_accepted, restore_accepted
from voxroute_orchestrator.pipeline.workers import HandingOut, Workers
from voxroute_orchestrator.reporter import Reporter
from voxroute_orchestrator.transcript import (
    Note,
    Recognition,
    Segment,
    TranslatedSegment,
    Translation,
    TranslationStats,
    same_language,
)

_TURN_ITEMS = 64  # a few batches: the next turn's begin while the last of these are translated
_TURN_IDLE_S = 1.0  # without another text, after which a worker may go elsewhere
_OFFERED_ITEMS = 16  # that wait for each worker that is asked to come,
_MOST_OFFERED = 4  # of which so many at most, as there are other languages and jobs


class TranslationEvents(Protocol):
    """What translations tell to the run that they belong to."""

    reporter: Reporter

    def end_of(self, segment_id: int) -> float:
        """When a segment ends on the timeline."""
        ...

    def stage_ended(self, name: str, outcome: str) -> None:
        """A stage is complete or has failed."""
        ...

    async def note(self, note: Note) -> None:
        """A warning."""
        ...

    async def replace_translator(
        self, given_up: TranslateClient, error: DeviceMemoryError
    ) -> TranslateClient | None:
        """The service that goes on where one has given up; None where none is left."""
        ...


class TargetTranslation:
    """One target language of a run: what is spoken in it already is taken as it is.

    Segments of several languages go to a stream for each. `translation` holds what is finished,
    in the order of the segments. `workers` come for a part of them by themselves.
    """

    def __init__(
        self,
        target: str,
        translation: Translation,
        services: Sequence[TranslateClient],
        events: TranslationEvents,
        journal: Journal | None,
        *,
        media_s: float | None,
        glossary: tuple[GlossaryTerm, ...] = (),
        workers: Workers | None = None,
    ) -> None:
        self.target = target
        self.workers = workers
        self.error: VoxrouteError | None = None
        self._translation = translation
        self._services = services
        self._events = events
        self._journal = journal
        self._media_s = media_s
        self._glossary = glossary
        self._answered = {item.segment_id for item in translation.items}
        self._streams: dict[str, _Stream] = {}
        self._stage = f"translating to {target}"
        if journal is not None:  # what an earlier run was told: there may be nothing left to ask
            restore_accepted(journal, self._fact, translation)

    @property
    def _fact(self) -> str:
        """The name in the journal of who translates, with which options."""
        return f"accepted {self.target}"

    async def put(self, segment: Segment, context: tuple[str, ...]) -> None:
        """Adds the next segment, unless it is translated already."""
        if segment.id in self._answered:
            return
        if same_language(segment.language, self.target):
            same = TranslatedSegment(segment_id=segment.id, text=segment.text, status="PASSTHROUGH")
            await self.keep(same)
            return
        stream = self._streams.get(segment.language)
        if stream is None:
            self._events.reporter.stage(self._stage, self._media_s)
            stream = self._streams[segment.language] = _Stream(self, segment.language)
            stream.start()
        stream.pool.put(TranslateItem(segment.id, segment.text, context))

    def end(self) -> None:
        """Tells that no segment follows."""
        for stream in self._streams.values():
            stream.pool.end()

    async def wait(self) -> None:
        """Returns when all is translated, or has failed; `error` says why."""
        await asyncio.gather(*(stream.wait() for stream in self._streams.values()))
        if self.error is None:
            self._events.reporter.finish(self._stage)
            self._events.stage_ended(f"translation {self.target}", "COMPLETED")

    async def abandon(self) -> None:
        """Ends what is still running."""
        for stream in self._streams.values():
            if await stream.cancel():
                self._translation.error = self._translation.error or "not finished"

    # --- for the streams

    @property
    def items(self) -> Sequence[TranslatedSegment]:
        """What is translated, in the order of the segments."""
        return self._translation.items

    @property
    def services(self) -> Sequence[TranslateClient]:
        """Who translates."""
        return self._services

    def request(self, source: str, pool: ItemPool, model: str) -> TranslateRequest:
        """What is asked of a service."""
        return TranslateRequest(
            source, self.target, pool, model=model, media_s=self._media_s, glossary=self._glossary
        )

    async def keep(self, item: TranslatedSegment) -> None:
        """Keeps a translation, in the journal first."""
        if self._journal is not None:
            await self._journal.keep_translation(self.target, item)
        self._answered.add(item.segment_id)
        bisect.insort(self._translation.items, item, key=lambda one: one.segment_id)

    def failed(self, error: VoxrouteError) -> None:
        """Notes why the language is not complete."""
        if self.error is not None:
            return
        self.error = error
        self._translation.error = str(error)
        self._events.reporter.warn(f"no complete translation to {self.target}: {error}")
        self._events.stage_ended(f"translation {self.target}", "FAILED")

    def lost(self, error: VoxrouteError, instead: str) -> None:
        """Tells that one of several has failed, and who does its work."""
        self._events.reporter.warn(f"{error}; {instead}")

    async def note(self, note: Note) -> None:
        """As TranslationEvents."""
        await self._events.note(note)

    async def replace(
        self, given_up: TranslateClient, error: DeviceMemoryError
    ) -> TranslateClient | None:
        """As TranslationEvents.replace_translator."""
        return await self._events.replace_translator(given_up, error)

    async def tell(self, event: TranslateEvent) -> None:
        """Takes what a call tells."""
        match event:
            case Accepted():
                await self._accepted(event)
            case TranslatedSegment():
                await self.keep(event)
                self._events.reporter.advance(self._stage, self._events.end_of(event.segment_id))
            case Note():
                await self._events.note(event)
            case TranslationStats():
                run = self._translation.run
                run.stats = run.stats.plus(event)

    async def _accepted(self, accepted: Accepted) -> None:
        """Notes who answers."""
        translation = self._translation
        translation.run.request_ids.append(accepted.request_id)
        translation.run.add_device(accepted.device)
        if translation.model is not None:
            return
        source = accepted.options.get("source_language", "")
        self._events.reporter.say(in_use(f"{source} to {self.target}", accepted))
        taken_over(translation, accepted, self._events.reporter)
        if self._journal is not None:
            await keep_accepted(self._journal, self._fact, translation)


class _Stream:
    """The segments of one source language, shared by all services."""

    def __init__(self, whole: TargetTranslation, source: str) -> None:
        self.pool = ItemPool(others_may_come=whole.workers is not None)
        self._whole = whole
        self._source = source
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to translate what is put."""
        self._task = asyncio.create_task(self._work())

    async def wait(self) -> None:
        """Returns when all is translated, or has failed."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task.result()

    async def cancel(self) -> bool:
        """Ends what is still running; whether anything was."""
        if self._task is None or self._task.done():
            return False
        self._task.cancel()
        await asyncio.wait([self._task])
        return True

    async def _work(self) -> None:
        """Every service takes what it can; one that fails leaves its items to the others."""
        called = [asyncio.create_task(self._serve(service)) for service in self._whole.services]
        failures: list[VoxrouteError] = []
        workers = self._whole.workers
        handing = asyncio.create_task(self._hand_out(workers, called)) if workers else None
        working = [*called, *([handing] if handing else [])]
        try:
            for finished in asyncio.as_completed(working):
                try:
                    await finished
                except VoxrouteError as error:
                    if handing is not None and not handing.done():
                        self._whole.lost(error, "workers go on")
                    else:
                        failures.append(error)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
        if not self.pool.finished:
            self._whole.failed(failures[0])
            return
        for error in failures:
            self._whole.lost(error, "the other translation services did its work")

    async def _hand_out(self, workers: Workers, called: "Sequence[asyncio.Task[None]]") -> None:
        """Has workers translate, beside services. Raises VoxrouteError where they cannot."""
        pair = f"{self._source} to {self._whole.target}"
        turns = _Turns(self.pool, f"{pair} cannot be translated")

        async def do(service: TranslateClient, _: _Turns) -> None:
            request = dataclasses.replace(
                self._whole.request(self._source, self.pool, service.model),
                most_items=_TURN_ITEMS,
                patience_s=_TURN_IDLE_S,
            )
            with turns.one():
                async with contextlib.aclosing(service.translate(request)) as events:
                    async for event in events:
                        await self._whole.tell(event)
                        turns.done += isinstance(event, TranslatedSegment)

        await HandingOut(
            workers.translators(self._source, self._whole.target),
            turns,
            do,
            self._whole.note,
            f"no worker translates {pair}",
            alone=lambda: all(task.done() for task in called),
        ).run()

    async def _serve(self, service: TranslateClient) -> None:
        """Translates until nothing is left. Raises VoxrouteError."""
        whole: TargetTranslation = self._whole
        while True:
            try:
                request = whole.request(self._source, self.pool, service.model)
                async with contextlib.aclosing(service.translate(request)) as events:
                    async for event in events:
                        await whole.tell(event)
            except DeviceMemoryError as error:
                replacement = await whole.replace(service, error)
                if replacement is None:
                    raise
                service = replacement
            else:
                return


class _Turns:
    """Work: the texts of a stream, for workers; and the Part that each of them is given."""

    index = 0

    def __init__(self, pool: ItemPool, cannot: str) -> None:
        self.cannot = cannot
        self.done = 0.0
        self._pool = pool
        self._begun = self._ended = 0
        self._seen = self._state

    @property
    def _state(self) -> tuple[int, int, int, bool]:
        """What decides whether workers are to be asked to come."""
        return self.n_waiting, self._begun, self._ended, self.finished

    @property
    def finished(self) -> bool:
        """As Work."""
        return self._pool.finished and self._begun == self._ended

    @property
    def n_waiting(self) -> int:
        """As Work."""
        return min(_MOST_OFFERED, math.ceil(self._pool.n_unclaimed / _OFFERED_ITEMS))

    def take_now(self) -> "_Turns | None":
        """As Work."""
        return self if self._pool.n_unclaimed else None

    async def change(self, timeout_s: float) -> None:
        """As Work."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._seen == self._state:
                    await self._pool.change()
        self._seen = self._state

    @contextlib.contextmanager
    def one(self) -> Generator[None]:
        """For a turn."""
        self._begun += 1
        self._pool.tell()
        try:
            yield
        finally:
            self._ended += 1
            self._pool.tell()


def in_use(what: str, accepted: Accepted) -> str:
    """Which model does something, and where, as a sentence for a person."""
    model, device = accepted.model, accepted.device
    where = device.name or device.kind or "an unknown device"
    return f"{what}: {model.id} ({model.engine}, {device.compute_type or 'default'}) on {where}"


def taken_over(work: Recognition | Translation, accepted: Accepted, told: Reporter) -> None:
    """Notes with which model and options a piece of work is done, and tells what is ignored."""
    work.model, work.options = accepted.model, accepted.options
    work.ignored_options = accepted.ignored
    tell_ignored(accepted, told)


def tell_ignored(accepted: Accepted, told: Reporter) -> None:
    """Tells which options that a person has asked for a service does not honour."""
    for option in accepted.ignored:
        if option.was_asked_for:
            told.warn(f"{option.field} is ignored: {option.reason}")
