"""The thread for work on texts: sentences, glossaries, tokens.

An item of 5000 characters with 1000 terms takes a second of it. On the event loop of the calls
nobody's health would be answered meanwhile; beside it Python lets both go on in turns.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class TextThread:
    """An event loop on a thread of its own. One thread: several would keep each other waiting."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="texts", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises, done on the thread in the caller's context.

        Cancelling it cancels the work.
        """
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def close(self) -> None:
        """Ends the thread, and what runs on it."""
        if self._loop.is_closed():
            return
        await self.run(_end_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def at_once(work: Callable[[str], Awaitable[T]], texts: Sequence[str]) -> list[T]:
    """What `work` makes of each text, all at once; the first failure cancels the rest."""
    if len(texts) == 1:
        return [await work(texts[0])]

    async def one(text: str) -> T:
        return await work(text)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(text)) for text in texts]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
