"""The journal of a job of a fleet: one subject of a stream, in which each message follows the last.

An attempt at the job begins with a message of its own. Whoever writes on behind that is refused
from then on, since his messages follow another one; so an attempt that another has followed keeps
nothing more. What is to be kept while a message is under way goes into the next one together.
"""

import asyncio
import contextlib
import itertools
import json
import math
import secrets
from collections.abc import Sequence
from typing import Any, Self

from voxroute_orchestrator.errors import OutputError, TakenError
from voxroute_orchestrator.jetstream.link import (
    AwayError,
    ConflictError,
    FullError,
    Link,
    LinkError,
)
from voxroute_orchestrator.jetstream.setup import JOURNAL
from voxroute_orchestrator.pipeline.journal import KeptSpan
from voxroute_orchestrator.transcript import AsrStats, Segment, TranslatedSegment, Untranscribed
from voxroute_serving.telemetry.logs import get_logger

_PART_BYTES = 512 * 1024  # of a message; servers take a megabyte
_AGAIN_S = 0.5
_LEAVE_S = 2.0  # for what is under way when the job stops

_log = get_logger(__name__)

_Record = dict[str, Any]


class JetStreamJournal:
    """Journal: of one attempt at a job. `open` makes it."""

    def __init__(self, link: Link, subject: str, attempt: int) -> None:
        self._link = link
        self._subject = subject
        self._attempt = attempt
        self._name = secrets.token_hex(8)
        self._count = itertools.count()
        self._last = 0  # number of the last message
        self._records: list[_Record] = []
        self._rest = b""  # the first parts of a message that has several
        self._waiting: list[tuple[_Record, asyncio.Future[None]]] = []
        self._writer: asyncio.Future[None] | None = None
        self._over: OutputError | None = None

    @classmethod
    async def open(cls, link: Link, job_id: str, generation: int, attempt: int) -> Self:
        """The journal with what earlier attempts have kept, none of which keeps anything more.

        `generation` counts how often the job was begun anew, `attempt` how often it was claimed.
        Waits for the server. Raises TakenError where a later attempt has it, OutputError.
        """
        journal = cls(link, _subject(job_id, generation), attempt)
        while True:
            try:
                await journal._read_on()
                await journal._append([{"attempt": attempt}])
            except AwayError as error:
                _log.warning("a journal waits for the NATS server", job=job_id, error=str(error))
                await asyncio.sleep(_AGAIN_S)
            except ConflictError:
                pass  # an earlier attempt is not over yet
            except LinkError as error:
                raise _failed(error) from error
            else:
                return journal

    async def _read_on(self) -> None:
        """Raises TakenError, LinkError."""
        messages = self._link.read(JOURNAL, self._subject, self._last + 1)
        async with contextlib.aclosing(messages):
            async for message in messages:
                self._last = message.sequence
                head, _, body = message.data.partition(b"\n")
                part: dict[str, Any] = json.loads(head)
                # the parts of one that was never completed are left behind
                self._rest = body if not part["part"] else self._rest + body
                if part["more"]:
                    continue
                records: list[_Record] = json.loads(self._rest)
                self._rest = b""
                if any(one.get("attempt", 0) > self._attempt for one in records):
                    raise _taken()
                self._records += records

    async def close(self) -> None:
        """As Journal. What the server has not taken by then is not kept."""
        if self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer], timeout=_LEAVE_S)
            self._writer.cancel()
        self._over = self._over or OutputError("the journal is closed")

    async def discard(self) -> None:
        """As Journal; on the server it goes with the end of the job, which has to be kept first."""
        await self.close()
        self._records.clear()

    # --- what is kept

    def fact(self, name: str) -> Any:
        """As Journal."""
        found = [one["value"] for one in self._records if one.get("fact") == name]
        return found[-1] if found else None

    async def keep_fact(self, name: str, value: Any) -> None:
        """As Journal."""
        await self._keep({"fact": name, "value": value})

    def spans(self) -> dict[int, KeptSpan]:
        """As Journal."""
        kept: dict[int, KeptSpan] = {}
        for one in self._records:
            if "span" not in one:
                continue
            start_s, end_s = one["bounds"]
            span = kept.setdefault(one["span"], KeptSpan(start_s, end_s, start_s))
            if "stats" in one:
                span.stats = AsrStats.model_validate(one["stats"])
                continue
            span.done_s = one["resume_from_s"]
            span.segments += map(Segment.model_validate, one["segments"])
            span.untranscribed += map(Untranscribed.model_validate, one["untranscribed"])
        return kept

    async def keep_window(
        self,
        span: int,
        bounds: tuple[float, float],
        segments: Sequence[Segment],
        untranscribed: Sequence[Untranscribed],
        resume_from_s: float,
    ) -> None:
        """As Journal."""
        window: _Record = {"span": span, "bounds": bounds, "resume_from_s": resume_from_s}
        window["segments"] = [one.model_dump(mode="json") for one in segments]
        window["untranscribed"] = [one.model_dump(mode="json") for one in untranscribed]
        await self._keep(window)

    async def keep_span(self, span: int, bounds: tuple[float, float], stats: AsrStats) -> None:
        """As Journal."""
        await self._keep({"span": span, "bounds": bounds, "stats": stats.model_dump(mode="json")})

    def translations(self, target: str) -> list[TranslatedSegment]:
        """As Journal."""
        items = [
            TranslatedSegment.model_validate(one["item"])
            for one in self._records
            if one.get("target") == target
        ]
        last = {item.segment_id: item for item in items}
        return [last[segment] for segment in sorted(last)]

    async def keep_translation(self, target: str, item: TranslatedSegment) -> None:
        """As Journal."""
        await self._keep({"target": target, "item": item.model_dump(mode="json")})

    # --- how it gets to the server

    async def _keep(self, record: _Record) -> None:
        """Returns once the record is kept; waits for a server that is away."""
        if self._over is not None:
            raise self._over
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, kept))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.ensure_future(self._write())
        await kept

    async def _write(self) -> None:
        """Keeps what waits, until nothing does."""
        waiting: list[tuple[_Record, asyncio.Future[None]]] = []
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                _answer(waiting, await self._written([record for record, _ in waiting]))
        finally:  # where this is cancelled
            _answer([*waiting, *self._waiting], OutputError("the journal is closed"))

    async def _written(self, records: list[_Record]) -> OutputError | None:
        """What has gone wrong, if anything."""
        try:
            await self._append(records)
        except ConflictError:
            self._over = _taken()
            return self._over
        except LinkError as error:
            _log.error("a journal cannot be written", subject=self._subject, error=str(error))
            return _failed(error)
        return None

    async def _append(self, records: list[_Record]) -> None:
        """Raises ConflictError, FullError, RefusedError; never AwayError."""
        body = json.dumps(records, ensure_ascii=False).encode(errors="surrogatepass")
        starts = range(0, len(body), _PART_BYTES)
        for part, start in enumerate(starts):
            head = {"by": f"{self._name}.{next(self._count)}", "attempt": self._attempt}
            head |= {"part": part, "more": part + 1 < len(starts)}
            data = json.dumps(head).encode() + b"\n" + body[start : start + _PART_BYTES]
            self._last = await self._link.append(JOURNAL, self._subject, data, self._last, math.inf)
        self._records += records


async def remove(link: Link, job_id: str, generation: int | None = None) -> None:
    """Removes a journal of a job that has ended; None for all of the job's. Raises LinkError."""
    await link.purge(JOURNAL, _subject(job_id, "*" if generation is None else generation))


def _subject(job_id: str, generation: int | str) -> str:
    return f"vr.journal.{job_id}.{generation}"


def _answer(
    waiting: list[tuple[_Record, "asyncio.Future[None]"]], failure: OutputError | None
) -> None:
    for _, kept in waiting:
        if kept.done():
            continue  # whoever has waited is gone
        if failure is None:
            kept.set_result(None)
        else:
            kept.set_exception(failure)


def _taken() -> TakenError:
    return TakenError("another service does the job by now")


def _failed(error: LinkError) -> OutputError:
    """What the owner of the job is told; the server's own sentence is for the log."""
    if isinstance(error, FullError):
        return OutputError(
            "the server that keeps the journal is full; delete jobs or have its limits raised, and"
            " resume the job. What the journal holds already is kept"
        )
    return OutputError("the server that keeps the journal refuses; the service's log says why")
