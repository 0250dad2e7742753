# pyright: basic
"""Workers as `voxroute worker` has them, several in one process, each with a service of its own.

    python -m benchmarks.fleet_workers URL COUNT WINDOW_S OUT

The services are real, their engine is the fake one, which takes WINDOW_S for a window. Where URL is
"", nobody works for them, and each prints its address, to be called. At SIGTERM OUT is written: the
spans, with what the queue has cost each of them, and the windows of all.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path

from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.jetstream.access import Access
from voxroute_orchestrator.jetstream.beside import Beside
from voxroute_orchestrator.jetstream.link import Link, Ticket
from voxroute_orchestrator.jetstream.worker import Worker
from voxroute_orchestrator.jetstream.worker_metrics import WorkerMetrics
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.served import serving_engine


@dataclass
class Span:
    """What a ticket has led to; times are seconds since 1970."""

    job: str
    began_s: float
    ended_s: float = 0.0
    queued_s: float = 0.0
    """For asking whose span it is; the ticket is taken out of the queue beside its work."""
    given: bool = False


@dataclass
class Done:
    """What a process has done."""

    spans: list[Span] = field(default_factory=list)
    windows: int = 0


_span: ContextVar[Span] = ContextVar("span")


class _Timed(Link):
    """A link that knows how long it takes until a span is there."""

    async def ask(self, subject: str, data: bytes, within_s: float = 2.0) -> bytes | None:
        began = time.monotonic()
        answer = await super().ask(subject, data, within_s)
        if "worker" in json.loads(data.partition(b"\n")[0]):  # else it asks about a span it has
            _span.get().queued_s += time.monotonic() - began
            _span.get().given = bool(answer and json.loads(answer))
        return answer


class _TimedWorker(Worker):
    """One that writes down its spans."""

    spans: list[Span]
    link: _Timed

    async def _take_up(self, ticket: Ticket) -> None:
        span = Span(ticket.subject.split(".")[3], time.time())
        _span.set(span)  # the task is the span's alone
        await super()._take_up(ticket)
        span.ended_s = time.time()
        if span.given:
            self.spans.append(span)


async def _work(url: str, window_s: float, done: Done, stop: asyncio.Event) -> None:
    engine = FakeEngine(delay_s=window_s, poll_s=window_s / 50, max_batch=1)
    policy = CallPolicy()
    async with serving_engine(engine) as served:
        warmed = len(engine.batches)
        endpoint = Endpoint("speech service", served.address)
        if not url:
            print(served.address, flush=True)
            await stop.wait()
            return
        async with connect(endpoint, policy) as channel:
            link = await _Timed.open(Access([url]))
            beside = Beside(AsrClient(endpoint, channel, policy), channel)
            worker = _TimedWorker(link, beside, "worker", WorkerMetrics("0"))
            worker.spans, worker.link = done.spans, link
            running = asyncio.ensure_future(worker.run())
            await stop.wait()
            worker.stop()
            await running
            await link.close()
    done.windows += sum(len(batch.n_samples) for batch in engine.batches[warmed:])


async def _main(url: str, count: int, window_s: float) -> Done:
    done, stop = Done(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*(_work(url, window_s, done, stop) for _ in range(count)))
    return done


if __name__ == "__main__":
    _url, _count, _window_s, _out = sys.argv[1:]
    _done = asyncio.run(_main(_url, int(_count), float(_window_s)))
    Path(_out).write_text(json.dumps(asdict(_done)))
