"""The client of TranslateService: a call that breaks is made again with what has no answer."""

import contextlib
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio

from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.connection import (
    CallPolicy,
    Endpoint,
    call_unary,
    new_request_id,
    unary,
)
from voxroute_orchestrator.client.items import Held, ItemPool, TranslateItem
from voxroute_orchestrator.client.messages import TranslateEvent
from voxroute_orchestrator.client.retry import RESUMED, Retry
from voxroute_orchestrator.client.stream import Exchange
from voxroute_orchestrator.errors import RefusedError, VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm, to_messages
from voxroute_orchestrator.transcript import Note, TranslatedSegment, same_language


@dataclass(slots=True)
class TranslateRequest:
    """What is to be translated, and how."""

    source_language: str
    target_language: str
    items: ItemPool
    model: str = ""
    media_s: float | None = None
    """How long items may keep coming, for the deadline."""
    strict_options: bool = False
    glossary: tuple[GlossaryTerm, ...] = ()
    most_items: float = math.inf
    """After how many a call ends that is to be followed by others."""
    patience_s: float | None = None
    """How long it waits for the next one before it ends; None for until none is left."""


class TranslateClient:
    """A translation service; `model` is what requests to it are to name, "" for its own."""

    def __init__(
        self, endpoint: Endpoint, channel: grpc.aio.Channel, policy: CallPolicy, model: str = ""
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.stub: Any = translate_pb2_grpc.TranslateServiceStub(channel)
        self._policy = policy

    async def capabilities(self) -> translate_pb2.GetCapabilitiesResponse:
        """What the service is and can do. Raises VoxrouteError."""
        return await unary(
            self.endpoint, self.stub.GetCapabilities, translate_pb2.GetCapabilitiesRequest()
        )

    async def pairs(self) -> list[tuple[str, str]]:
        """The (source, target) pairs that the service offers, also of one that is just restarted.

        Raises VoxrouteError.
        """
        return await Retry(self.endpoint, self._policy).run(self._pairs)

    async def _pairs(self) -> list[tuple[str, str]]:
        """As pairs, asked once. Raises CallFailedError."""
        reply: translate_pb2.ListLanguagePairsResponse = await call_unary(
            self.endpoint, self.stub.ListLanguagePairs, translate_pb2.ListLanguagePairsRequest()
        )
        return [(pair.source_language, pair.target_language) for pair in reply.pairs]

    async def translate(self, request: TranslateRequest) -> AsyncGenerator[TranslateEvent]:
        """Translates items of the pool until all are answered, by this service or by others.

        What has no answer when it fails goes back into the pool. Raises VoxrouteError, RefusedError
        where no model is named and the service's own has not the languages.
        """
        retry = Retry(self.endpoint, self._policy)
        called = False
        async for attempt in retry.attempts():
            with attempt:
                if request.items.finished:
                    continue  # only `done` was missing
                if not request.model and not called:
                    source, target = request.source_language, request.target_language
                    check_pair(await self._pairs(), source, target, self.endpoint)
                if called:
                    yield Note(
                        source="orchestrator",
                        code=RESUMED,
                        message=f"the connection to {self.endpoint} was lost; translation to"
                        f" {request.target_language} is tried again where it ended",
                    )
                called = True
                with request.items.holder() as held:
                    async with contextlib.aclosing(self._call(request, held)) as events:
                        async for event in events:
                            if isinstance(event, TranslatedSegment):
                                retry.progress()
                            yield event

    async def _call(self, request: TranslateRequest, held: Held) -> AsyncGenerator[TranslateEvent]:
        """One call. Raises CallFailedError where it did not end well."""
        call = TranslationCall(request, held, self.endpoint, new_request_id())
        exchange = Exchange(
            self.stub.Translate,
            call.messages(),
            call.is_last,
            service=str(self.endpoint),
            policy=self._policy,
            length_s=request.media_s,
            request_id=call.request_id,
            waits=lambda: bool(held) or call.finishing,
        )
        async with contextlib.aclosing(exchange.replies()) as replies:
            async for reply in replies:
                for event in call.events(reply):
                    yield event


class TranslationCall:
    """One call of Translate."""

    def __init__(
        self, request: TranslateRequest, held: Held, endpoint: Endpoint, request_id: str
    ) -> None:
        self.request_id = request_id
        self.finishing = False
        self._request = request
        self._held = held
        self._endpoint = endpoint
        self._source = f"translate {request.target_language}"

    async def messages(self) -> AsyncGenerator[translate_pb2.TranslateRequest]:
        """What is sent, as it comes."""
        config = translate_pb2.TranslateConfig(
            source_language=self._request.source_language,
            target_language=self._request.target_language,
            model=self._request.model,
            strict_options=self._request.strict_options,
            glossary=to_messages(self._request.glossary),
        )
        yield translate_pb2.TranslateRequest(config=config)
        request, n_items = self._request, 0
        while n_items < request.most_items:
            item = await request.items.take(self._held, request.patience_s)
            if item is None:
                break
            n_items += 1
            yield _item(item)
        self.finishing = True
        yield translate_pb2.TranslateRequest(finish=common_pb2.Finish())

    def is_last(self, reply: translate_pb2.TranslateResponse) -> bool:
        """Whether an answer says that all is done."""
        return reply.HasField("done") and not self._held

    def events(self, reply: translate_pb2.TranslateResponse) -> Iterator[TranslateEvent]:
        """What an answer tells. Raises VoxrouteError for one that nobody asked for."""
        match reply.WhichOneof("event"):
            case "accepted":
                accepted = reply.accepted
                yield convert.accepted(accepted, accepted.config, accepted.ignored, self.request_id)
                if self._request.glossary and not accepted.config.glossary:
                    yield Note(
                        source=self._source,
                        code="GLOSSARY_IGNORED",
                        message=f"{self._endpoint} is too old to know glossaries; its translations"
                        " are the model's own",
                    )
            case "result":
                self._check_asked(reply.result.id)
                yield convert.translated(reply.result, self._request.glossary)
            case "warning":
                yield convert.warning(self._source, reply.warning)
            case "done":
                yield convert.translation_stats(reply.done)
            case _:
                pass  # an event of a newer contract

    def _check_asked(self, item_id: str) -> None:
        """Takes a result's item off what is held. Raises VoxrouteError for one nobody asked."""
        items = self._request.items
        if not item_id.isdecimal() or not items.answered(self._held, int(item_id)):
            raise VoxrouteError(
                f'{self._endpoint} answered "{item_id}", which was not asked; this is a defect of'
                " it"
            )


def _item(item: TranslateItem) -> translate_pb2.TranslateRequest:
    return translate_pb2.TranslateRequest(
        item=translate_pb2.TranslateItem(
            id=str(item.segment_id), text=item.text, context=item.context
        )
    )


def offers(pairs: Sequence[tuple[str, str]], source: str, target: str) -> bool:
    """Whether a pair is among those of a service."""
    return any(same_language(source, s) and same_language(target, t) for s, t in pairs)


def check_pair(pairs: list[tuple[str, str]], source: str, target: str, endpoint: Endpoint) -> None:
    """Raises RefusedError where the service does not offer the pair."""
    if offers(pairs, source, target):
        return
    offered = ", ".join(f"{s}-{t}" for s, t in pairs[:20]) or "none"
    more = f" and {len(pairs) - 20} more" if len(pairs) > 20 else ""  # noqa: PLR2004 - as cut above
    raise RefusedError(
        f"{endpoint} has no model for {source} to {target}; it offers {offered}{more}. Name a"
        " model with --translate-model, or another service with --translate-endpoint"
    )


NextTranslator = Callable[[], Awaitable[TranslateClient | None]]
"""What finds another translation service where one has given up; None where none is left."""
