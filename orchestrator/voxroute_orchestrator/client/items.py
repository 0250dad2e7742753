"""The texts that wait for a translation, handed out to as many services as ask for them."""

import asyncio
import bisect
import contextlib
from collections.abc import Generator
from dataclasses import dataclass

_SHARED_ITEMS = 32  # unanswered at one of several services: two batches, so that none hoards


@dataclass(frozen=True, slots=True)
class TranslateItem:
    """A segment's text, and what was said before it, the nearest last."""

    segment_id: int
    text: str
    context: tuple[str, ...] = ()


Held = dict[int, TranslateItem]
"""The items that one service has taken and not answered, by segment."""


class ItemPool:
    """Items in the order of their segments; each is answered once, whoever takes it."""

    def __init__(self, *, others_may_come: bool = False) -> None:
        """`others_may_come`: whether one who is alone shall leave some to those."""
        self._others_may_come = others_may_come
        self._waiting: list[TranslateItem] = []
        self._holders: list[Held] = []
        self._ended = False
        self._hungry = 0
        self._changed = asyncio.Event()

    def put(self, item: TranslateItem) -> None:
        """Adds an item."""
        bisect.insort(self._waiting, item, key=lambda one: one.segment_id)
        self.tell()

    def end(self) -> None:
        """Tells that no further item follows."""
        self._ended = True
        self.tell()

    @property
    def finished(self) -> bool:
        """Whether every item is answered and none follows."""
        return self._ended and not self._waiting and not any(self._holders)

    @property
    def n_unclaimed(self) -> int:
        """How many wait that nobody is about to take."""
        return max(0, len(self._waiting) - self._hungry)

    async def change(self) -> None:
        """Returns once something has changed."""
        await self._changed.wait()

    @contextlib.contextmanager
    def holder(self) -> Generator[Held]:
        """For one who takes items: what is not answered at the end of the block goes back."""
        held: Held = {}
        self._holders.append(held)
        try:
            yield held
        finally:
            self._holders = [other for other in self._holders if other is not held]
            for item in held.values():
                self.put(item)
            self.tell()

    async def take(self, held: Held, patience_s: float | None = None) -> TranslateItem | None:
        """The next item for a holder; None once none is left, with other holders neither.

        Where there are others, or may be, it waits while this one holds many: a slow service shall
        not hoard what a fast one could do. None also where it has waited for `patience_s`.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                return await self._taken(held)
        return None

    async def _taken(self, held: Held) -> TranslateItem | None:
        while True:
            shared = self._others_may_come or len(self._holders) > 1
            many = shared and len(held) >= _SHARED_ITEMS
            if self._waiting and not many:
                item = self._waiting.pop(0)
                held[item.segment_id] = item
                return item
            elsewhere = any(other for other in self._holders if other is not held)
            if self._ended and not self._waiting and not elsewhere:
                return None
            self._hungry += not many
            try:
                await self._changed.wait()
            finally:
                self._hungry -= not many

    def answered(self, held: Held, segment_id: int) -> bool:
        """Takes an item off what a holder holds; false where it does not hold it."""
        there = held.pop(segment_id, None) is not None
        self.tell()
        return there

    def tell(self) -> None:
        """Wakes all who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
