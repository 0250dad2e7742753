"""Sentences to one more language: in their order, however slow or often away the service is.

A call is opened by a sentence, takes those that follow, and ends once none has come for LINGER_S:
no call stands open in silence, where the service would make it give way to others, and while
somebody speaks there is one for all. What has waited for a slow service goes out together.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from voxroute.common.v1 import common_pb2
from voxroute.live.v1 import live_pb2
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator.client.items import ItemPool, TranslateItem
from voxroute_orchestrator.client.messages import STATUSES
from voxroute_orchestrator.client.translate import TranslateClient, TranslateRequest
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.transcript import Note, TranslatedSegment, same_language

LINGER_S = 5.0
"""How long a call waits for the next sentence; half of what one pays for a place."""
MOST_WAITING = 1000
"""Sentences that may wait for one language, an hour of speech; after that the speech waits too."""
_CONTEXT = 2  # sentences before one that go along with it

_NUMBERS = {status: number for number, status in STATUSES.items()}

Send = Callable[[live_pb2.CaptionResponse], Awaitable[None]]


@dataclass(slots=True)
class Target:
    """One language that is wanted, and who translates to it."""

    language: str
    translators: Sequence[TranslateClient]
    send: Send
    glossary: tuple[GlossaryTerm, ...] = ()
    observe_lag: Callable[[float], None] = lambda lag_s: None  # noqa: ARG005 - tells nobody
    _waiting: asyncio.Queue[live_pb2.Sentence | None] = field(
        default_factory=asyncio.Queue[live_pb2.Sentence | None]
    )
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_WAITING))
    _begun: dict[int, float] = field(default_factory=dict[int, float])
    """Sentences without an answer, and when they came."""
    _asked: list[int] = field(default_factory=list[int])
    """Those of them that have gone to a service, or are about to."""
    _before: deque[str] = field(default_factory=lambda: deque(maxlen=_CONTEXT))
    _ahead: live_pb2.Sentence | None = None
    """One that was taken from those that wait, and has no call yet."""
    _told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    _ended: bool = False

    async def put(self, sentence: live_pb2.Sentence) -> None:
        """Adds a sentence; waits where too many do."""
        await self._room.acquire()
        self._begun[sentence.sentence] = time.monotonic()
        await self._waiting.put(sentence)

    async def end(self) -> None:
        """Tells that no sentence follows."""
        await self._waiting.put(None)

    async def run(self) -> None:
        """Returns once each sentence has its answer, and none follows."""
        while (sentence := await self._next()) is not None:
            if not sentence.language:
                said = "its language is not known: too little was said to tell it"
                await self._answer(sentence.sentence, translate_pb2.ITEM_STATUS_FAILED, "", said)
                self._before.append(sentence.text)
            elif same_language(sentence.language, self.language):
                said = f"it is in {self.language} already"
                passed = translate_pb2.ITEM_STATUS_PASSTHROUGH
                await self._answer(sentence.sentence, passed, sentence.text, said)
                self._before.append(sentence.text)
            else:
                await self._translate(sentence)

    async def _next(self) -> live_pb2.Sentence | None:
        sentence, self._ahead = self._ahead, None
        if sentence is None and not self._ended:
            sentence = await self._waiting.get()
            self._ended = sentence is None
        return sentence

    async def _translate(self, first: live_pb2.Sentence) -> None:
        """One call, or one for each service that fails; what none of them has answered failed."""
        pool = ItemPool()
        request = TranslateRequest(first.language, self.language, pool, glossary=self.glossary)
        feeding = asyncio.ensure_future(self._feed(pool, first))
        failure: VoxrouteError | None = None
        try:
            for translator in self.translators:
                request.model = translator.model
                try:
                    await self._call(translator, request)
                except VoxrouteError as error:
                    failure = error
                else:
                    return
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        said = str(failure) if failure is not None else "there is no translation service"
        for number in tuple(self._asked):
            await self._answer(number, translate_pb2.ITEM_STATUS_FAILED, "", said)

    async def _feed(self, pool: ItemPool, sentence: live_pb2.Sentence) -> None:
        """Puts sentences into a call's pool until another language, the end, or silence comes."""
        language = sentence.language
        with contextlib.suppress(TimeoutError):
            while True:
                context = tuple(self._before)
                self._asked.append(sentence.sentence)
                pool.put(TranslateItem(sentence.sentence, sentence.text, context))
                self._before.append(sentence.text)
                async with asyncio.timeout(LINGER_S):
                    following = await self._next()
                if following is None or following.language != language:
                    self._ahead = following
                    break
                sentence = following
        pool.end()

    async def _call(self, translator: TranslateClient, request: TranslateRequest) -> None:
        """Raises VoxrouteError where some are left without an answer."""
        async with contextlib.aclosing(translator.translate(request)) as events:
            async for event in events:
                if isinstance(event, TranslatedSegment):
                    status = _NUMBERS[event.status]
                    await self._answer(event.segment_id, status, event.text, event.detail)
                elif isinstance(event, Note) and (event.code, event.message) not in self._told:
                    self._told.add((event.code, event.message))
                    warning = common_pb2.Warning(code=event.code, message=event.message)
                    await self.send(live_pb2.CaptionResponse(warning=warning))

    async def _answer(
        self, number: int, status: translate_pb2.ItemStatus, text: str, detail: str
    ) -> None:
        self.observe_lag(time.monotonic() - self._begun.pop(number))
        if number in self._asked:
            self._asked.remove(number)
        self._room.release()
        translated = live_pb2.Translated(
            sentence=number,
            target_language=self.language,
            text=text,
            status=status,
            detail=detail,
        )
        await self.send(live_pb2.CaptionResponse(translated=translated))
