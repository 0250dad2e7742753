"""The hand-over between the event loop of a call and the thread that decodes its audio.

Bytes go in through a `Feed`, results come out of a `Threaded` iterator. Both are bounded, so a
fast client waits for a slow device, and both end at once when the call is over.
"""

import asyncio
import contextlib
import contextvars
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from voxroute_serving.telemetry import tracing

Item = TypeVar("Item")

FEED_BYTES = 1 << 20  # what may wait for the decoder; a client is told to send at most 1 MiB
_NICE = 10  # of the threads that decode, so that those that feed a device never wait for them


def _give_way() -> None:
    """Lets the other threads of the process have the processors first; on Linux alone."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class FeedClosedError(Exception):
    """The call is over: nobody reads or writes this feed any more."""


def _notify(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(event.set)


class Feed:
    """A pipe of bytes from the event loop to a thread, at most about FEED_BYTES long."""

    def __init__(self, capacity_bytes: int = FEED_BYTES) -> None:
        self._capacity_bytes = capacity_bytes
        self._loop = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._room = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._finished = False
        self._closed = False

    async def write(self, chunk: bytes) -> None:
        """Adds bytes once there is room. Raises FeedClosedError when the reader has gone."""
        while True:
            with self._condition:
                if self._closed:
                    raise FeedClosedError
                if self._waiting_bytes < self._capacity_bytes:
                    if chunk:
                        self._chunks.append(chunk)
                        self._waiting_bytes += len(chunk)
                        self._condition.notify()
                    return
                self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """Marks the end of the bytes."""
        with self._condition:
            self._finished = True
            self._condition.notify()

    def close(self) -> None:
        """Ends reading and writing at once; callable from any thread, any number of times."""
        with self._condition:
            self._closed = True
            self._chunks.clear()
            self._waiting_bytes = 0
            self._condition.notify()
        _notify(self._loop, self._room)

    def read(self, n: int = -1) -> bytes:
        """At most `n` bytes, waiting for the first; empty after the end.

        For the thread. Raises FeedClosedError when the call is over.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._chunks or self._finished or self._closed)
            if self._closed:
                raise FeedClosedError
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
            if 0 <= n < len(chunk):
                self._chunks.appendleft(chunk[n:])
                chunk = chunk[:n]
            self._waiting_bytes -= len(chunk)
        _notify(self._loop, self._room)
        return chunk


@dataclass(eq=False)
class Threaded(Generic[Item]):
    """An asynchronous iterator over a synchronous one that runs on a thread of its own.

    At most `capacity` items wait; the thread then stops until one is taken. What the iterator
    raises is raised here, after the items before it. Leaving the block closes `feed`, which the
    iterator reads, and lets the thread end at its next item. The thread has the context of the
    block and a span, which lasts as long as the thread; an attribute tells how much of that was
    work.
    """

    iterate: Callable[[], Iterator[Item]]
    capacity: int
    feed: Feed

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._condition = threading.Condition()
        self._arrived = asyncio.Event()
        self._items: deque[Item] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False

    async def __aenter__(self) -> Self:
        context = contextvars.copy_context()
        run = self._traced
        threading.Thread(target=context.run, args=(run,), name="decode", daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._condition:
            self._closed = True
            self._items.clear()
            self._condition.notify()
        self.feed.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while True:
            with self._condition:
                if self._items:
                    item = self._items.popleft()
                    self._condition.notify()
                    return item
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    raise StopAsyncIteration
                self._arrived.clear()
            await self._arrived.wait()

    def _traced(self) -> None:
        _give_way()
        with tracing.span("decode") as span:
            self._run()
            span.set_attribute("voxroute.cpu_s", time.thread_time())

    def _run(self) -> None:
        error: BaseException | None = None
        iterator = self.iterate()
        try:
            for item in iterator:
                if not self._put(item):
                    break
        except BaseException as raised:  # noqa: BLE001 - goes to whoever iterates
            error = raised
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:  # a generator frees its files now, not when it is collected
                close()
        with self._condition:
            self._ended = True
            self._error = error
        # The writer must not wait for a reader that has ended.
        self.feed.close()
        _notify(self._loop, self._arrived)

    def _put(self, item: Item) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: len(self._items) < self.capacity or self._closed)
            if self._closed:
                return False
            self._items.append(item)
        _notify(self._loop, self._arrived)
        return True
