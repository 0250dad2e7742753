"""What the calls of a service share: their messages in order, their answers as they are made."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Generic, NoReturn, TypeVar, cast

import grpc.aio

from voxroute_serving.calls.feed import Feed, FeedClosedError
from voxroute_serving.errors import AbandonedStreamError, InvalidInputError

T = TypeVar("T")
Reply = TypeVar("Reply")
Send = Callable[[Reply], Awaitable[None]]
Context = grpc.aio.ServicerContext[Any, Any]

_REPLIES_WAITING = 32  # replies that may wait for a client that does not read


class Requests(Generic[T]):
    """The messages of a stream in their order: one config, what comes between, `parts`, finish."""

    def __init__(self, stream: AsyncIterator[Any], parts: str = "audio") -> None:
        self._stream = aiter(stream)
        self._parts = parts

    async def config(self) -> T:
        """The config, which is the first message. Raises InvalidInputError."""
        kind, content = await self.next()
        if kind != "config":
            raise InvalidInputError.of_field(
                kind, "came before `config`; send one config first, then the rest"
            )
        return cast("T", content)

    async def next(self) -> tuple[str, Any]:
        """The kind and the content of the next message. Raises AbandonedStreamError at the end."""
        try:
            request = await anext(self._stream)
        except StopAsyncIteration:
            raise AbandonedStreamError(
                "the stream ended without `finish`, so it may not be whole; send a config,"
                f" {self._parts}, and `finish` after the last"
            ) from None
        kind = request.WhichOneof("request")
        if kind is None:
            raise InvalidInputError.of_field(
                "request", f"is not set; each message holds a config, {self._parts} or finish"
            )
        return kind, getattr(request, kind)

    async def rest(self, first: tuple[str, Any] | None = None) -> AsyncGenerator[Any]:
        """The parts up to `finish`, behind which nothing is read: who sends may wait for an answer.

        Raises InvalidInputError, AbandonedStreamError.
        """
        kind, content = first or await self.next()
        while kind != "finish":
            if kind == "config":
                raise InvalidInputError.of_field("config", "was sent twice; send it once, first")
            if kind != self._parts:
                raise InvalidInputError.of_field(
                    kind,
                    f"came after {self._parts}; send all of them before the first {self._parts}",
                )
            yield content
            kind, content = await self.next()

    async def feed(self, feed: Feed, first: tuple[str, Any] | None = None) -> None:
        """Hands the audio to the decoder."""
        with contextlib.suppress(FeedClosedError):  # the decoder failed, and says why itself
            async with contextlib.aclosing(self.rest(first)) as parts:
                async for content in parts:
                    await feed.write(content)
            feed.finish()


async def relayed(
    work: Callable[[Send[Reply]], Awaitable[None]], context: Context
) -> AsyncGenerator[Reply]:
    """What `work` sends, as it is sent.

    The work is a task of its own, so that it can use task groups, and ends with the call however
    the call ends.
    """
    replies: asyncio.Queue[Reply] = asyncio.Queue(_REPLIES_WAITING)
    task = asyncio.ensure_future(work(replies.put))

    def end(context: object) -> None:
        del context
        task.cancel()

    context.add_done_callback(cast("Any", end))
    try:
        while not (task.done() and replies.empty()):
            reply = asyncio.ensure_future(replies.get())
            try:
                await asyncio.wait({reply, task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reply.cancel()  # nothing where it has come
            if reply.done():
                yield reply.result()
        await task
    finally:
        task.cancel()
        await asyncio.wait({task})


@contextlib.asynccontextmanager
async def open_group() -> AsyncGenerator[asyncio.TaskGroup]:
    """A task group that raises the first failure of its tasks as it was raised."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        _raise_first(failures)


def _raise_first(failures: BaseExceptionGroup[Any]) -> NoReturn:
    leaf: BaseException = failures
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast("BaseException", leaf.exceptions[0])
    raise leaf


Outcome = TypeVar("Outcome")
Item = TypeVar("Item")


async def in_order(
    group: asyncio.TaskGroup,
    items: AsyncIterator[Item],
    work: Callable[[Item], Awaitable[Outcome]],
    limit: int,
) -> AsyncGenerator[tuple[Item, Outcome]]:
    """Each item with its outcome, in the order of the items, at most `limit` at work.

    Raises what the items raise after the outcomes of those before.
    """
    places = asyncio.Semaphore(limit)
    begun: asyncio.Queue[tuple[Item, asyncio.Task[Outcome]] | Exception | None] = asyncio.Queue()

    async def do(item: Item) -> Outcome:
        return await work(item)

    async def begin() -> None:
        try:
            async for item in items:
                await places.acquire()
                begun.put_nowait((item, group.create_task(do(item))))
        except Exception as error:  # noqa: BLE001 - raised below
            begun.put_nowait(error)
        else:
            begun.put_nowait(None)

    group.create_task(begin())
    while (entry := await begun.get()) is not None:
        if isinstance(entry, Exception):
            raise entry
        yield entry[0], await entry[1]
        places.release()
