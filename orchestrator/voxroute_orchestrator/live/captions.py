"""One stream of captions: speech to sentences, each to every language, told as they come."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from voxroute.asr.v1 import asr_pb2
from voxroute.live.v1 import live_pb2
from voxroute_orchestrator.client import live
from voxroute_orchestrator.client.asr import AsrClient
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.translate import TranslateClient
from voxroute_orchestrator.errors import RefusedError, VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.live.sentences import SentenceCutter
from voxroute_orchestrator.live.translating import Target
from voxroute_orchestrator.transcript import same_language
from voxroute_serving.calls.requests import open_group

Send = Callable[[live_pb2.CaptionResponse], Awaitable[None]]
Messages = AsyncIterator[asr_pb2.TranscribeLiveRequest]


@dataclass(slots=True, eq=False)
class Captions:
    """What is asked for, of services that are found.

    `send` takes each message of the answer, one at a time; while it waits, the speech waits too.
    """

    speech: Sequence[AsrClient]
    """The best first; one that does not take the stream is followed by the next."""
    translators: Sequence[TranslateClient]
    config: asr_pb2.LiveConfig
    """Its model is the clients' own."""
    targets: Sequence[str]
    send: Send
    glossary: tuple[GlossaryTerm, ...] = ()
    observe_lag: Callable[[float], None] = lambda lag_s: None  # noqa: ARG005 - tells nobody
    stopped: bool = False
    """Whether `stop` has ended the stream, which then has no `done`."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Ends the stream as `finish` would; all is told that was said before."""
        self._stopping.set()

    async def run(self, messages: Messages) -> None:
        """Returns once all is told. `messages` are what follows the config, `finish` last.

        What was committed is translated also where the speech service fails. Raises
        CallFailedError where it does, RefusedError for a pair of languages that nobody offers, and
        what `messages` raises.
        """
        await self._check_pairs()
        # in turns: the targets send too
        turn = asyncio.Lock()

        async def send(response: live_pb2.CaptionResponse) -> None:
            async with turn:
                await self.send(response)

        targets = [
            Target(language, self.translators, send, self.glossary, self.observe_lag)
            for language in self.targets
        ]
        stream = _Stream(SentenceCutter(self.config.language), targets, send)
        async with contextlib.AsyncExitStack() as stack:
            call, replies = await self._open(stack, stream)
            async with open_group() as group:
                translating = [group.create_task(target.run()) for target in targets]
                sending = group.create_task(self._forward(call, messages))
                failure = await stream.relay(replies)
                sending.cancel()
                await asyncio.gather(*translating)
            if failure is not None:
                raise failure
            if stream.done is not None and not self.stopped:
                await send(live_pb2.CaptionResponse(speech=stream.done))

    async def _check_pairs(self) -> None:
        """Raises RefusedError for a pair that no service has a model for.

        Where none answers, the translations will say so.
        """
        spoken = [self.config.language] if self.config.language else self.config.allowed_languages
        wanted = [
            (source, target)
            for source in spoken
            for target in self.targets
            if not same_language(source, target)
        ]
        if not wanted or not self.translators or any(one.model for one in self.translators):
            return
        offered: list[tuple[str, str]] = []
        for translator in self.translators:
            try:
                offered += await translator.pairs()
            except VoxrouteError:
                return
        for source, target in wanted:
            if not any(same_language(source, s) and same_language(target, t) for s, t in offered):
                said = ", ".join(f"{s}-{t}" for s, t in offered[:20]) or "none"
                raise RefusedError(
                    f"no translation service has a model for {source} to {target}; there is {said}"
                )

    async def _open(
        self, stack: contextlib.AsyncExitStack, stream: "_Stream"
    ) -> tuple[live.LiveCall, AsyncGenerator[asr_pb2.TranscribeLiveResponse]]:
        """A call that is accepted. Raises CallFailedError, of the last service that was asked."""
        for place, speech in enumerate(self.speech, 1):
            attempt = contextlib.AsyncExitStack()
            call = await attempt.enter_async_context(live.call(speech, self.config))
            replies = call.replies()
            attempt.push_async_callback(replies.aclose)
            try:
                async for reply in replies:
                    await stream.tell(reply)
                    if reply.HasField("accepted"):
                        break
            except CallFailedError:
                await attempt.aclose()
                if place == len(self.speech):
                    raise
            except BaseException:
                await attempt.aclose()
                raise
            else:
                stack.push_async_exit(attempt)
                return call, replies
        raise RefusedError("no speech service is there for live speech")

    async def _forward(self, call: live.LiveCall, messages: Messages) -> None:
        """Sends the messages, or `finish` in place of those that are left after `stop`."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(messages))
                try:
                    await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    following.cancel()
                self.stopped = stopping.done()
                if self.stopped or (request := following.result()).HasField("finish"):
                    await call.finish()
                    return
                if not await call.send(request):
                    return
        finally:
            stopping.cancel()


@dataclass(slots=True)
class _Stream:
    """What the speech service says, on its way to the client and to the languages."""

    cutter: SentenceCutter
    targets: Sequence[Target]
    send: Send
    done: asr_pb2.TranscribeLiveResponse | None = None
    """The last message, which is told after all translations."""

    async def relay(
        self, replies: AsyncGenerator[asr_pb2.TranscribeLiveResponse]
    ) -> CallFailedError | None:
        """Returns once no sentence follows; why, where the call has failed."""
        failure: CallFailedError | None = None
        try:
            async for reply in replies:
                await self.tell(reply)
        except CallFailedError as error:
            failure = error
        await self._tell_sentences(self.cutter.rest())
        for target in self.targets:
            await target.end()
        return failure

    async def tell(self, reply: asr_pb2.TranscribeLiveResponse) -> None:
        """Tells a message, and the sentences that are whole with it."""
        if reply.HasField("done"):
            self.done = reply
            return
        whole = list(self.cutter.take(reply))
        closes = reply.HasField("utterance")
        if closes:  # its last sentence is part of it
            await self._tell_sentences(whole)
        await self.send(live_pb2.CaptionResponse(speech=reply))
        if not closes:
            await self._tell_sentences(whole)

    async def _tell_sentences(self, whole: Iterable[live_pb2.Sentence]) -> None:
        for sentence in whole:
            await self.send(live_pb2.CaptionResponse(sentence=sentence))
            for target in self.targets:
                await target.put(sentence)
