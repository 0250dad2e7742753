"""The client of TranslateService: a call that breaks is made again with what has no answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
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
from voxroute_orchestrator.client.failures import broken_stream, of_rpc_error
from voxroute_orchestrator.client.items import ItemHolder, ItemPool, TranslateItem
from voxroute_orchestrator.client.retry import RESUMED, Retry
from voxroute_orchestrator.client.stream import Watchdog, close_writing, read_all, write
from voxroute_orchestrator.errors import RefusedError, VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm, to_messages
from voxroute_orchestrator.transcript import (
    Device,
    IgnoredOption,
    Model,
    Note,
    TranslatedSegment,
    TranslationStats,
    same_language,
)


class TranslateEvents(Protocol):
    """What happens to a translation, in order."""

    async def accepted(
        self,
        request_id: str,
        model: Model,
        device: Device,
        options: dict[str, Any],
        ignored: list[IgnoredOption],
    ) -> None:
        """A call was admitted; once for each call."""
        ...

    async def result(self, item: TranslatedSegment) -> None:
        """The next item's translation."""
        ...

    async def note(self, note: Note) -> None:
        """A warning."""
        ...

    async def done(self, stats: TranslationStats) -> None:
        """A call was completed."""
        ...


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


class TranslateClient:
    """A translation service."""

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel, policy: CallPolicy) -> None:
        self.endpoint = endpoint
        self._stub = translate_pb2_grpc.TranslateServiceStub(channel)
        self._policy = policy

    async def capabilities(self) -> translate_pb2.GetCapabilitiesResponse:
        """What the service is and can do. Raises VoxrouteError."""
        reply: translate_pb2.GetCapabilitiesResponse = await unary(
            self.endpoint, self._stub.GetCapabilities, translate_pb2.GetCapabilitiesRequest()
        )
        return reply

    async def pairs(self) -> list[tuple[str, str]]:
        """The (source, target) pairs that the service offers, also of one that is just restarted.

        Raises VoxrouteError.
        """
        pairs: list[tuple[str, str]] = []

        async def attempt() -> None:
            pairs[:] = await self._pairs()

        await Retry(self.endpoint, self._policy).run(attempt)
        return pairs

    async def _pairs(self) -> list[tuple[str, str]]:
        """As pairs, asked once. Raises CallFailedError."""
        reply: translate_pb2.ListLanguagePairsResponse = await call_unary(
            self.endpoint, self._stub.ListLanguagePairs, translate_pb2.ListLanguagePairsRequest()
        )
        return [(pair.source_language, pair.target_language) for pair in reply.pairs]

    async def translate(self, request: TranslateRequest, events: TranslateEvents) -> None:
        """Translates items of the pool until all are answered, by this service or by others.

        What has no answer when it fails goes back into the pool. Raises VoxrouteError, RefusedError
        where no model is named and the service's own has not the languages.
        """
        retry = Retry(self.endpoint, self._policy)
        calls = 0

        async def attempt() -> None:
            nonlocal calls
            if request.items.finished:
                return  # only `done` was missing
            if not request.model and not calls:
                source, target = request.source_language, request.target_language
                check_pair(await self._pairs(), source, target, self.endpoint, same_language)
            if calls:
                await events.note(
                    Note(
                        source="orchestrator",
                        code=RESUMED,
                        message=f"the connection to {self.endpoint} was lost; translation to"
                        f" {request.target_language} went on",
                    )
                )
            calls += 1
            with request.items.holder() as items:
                call = _TranslationCall(self._stub, self.endpoint, self._policy, request, events)
                await call.run(items, retry)

        await retry.run(attempt)


class _TranslationCall:
    """One call of Translate."""

    def __init__(
        self,
        stub: translate_pb2_grpc.TranslateServiceStub,
        endpoint: Endpoint,
        policy: CallPolicy,
        request: TranslateRequest,
        events: TranslateEvents,
    ) -> None:
        self._stub = stub
        self._endpoint = endpoint
        self._policy = policy
        self._request = request
        self._events = events
        self._request_id = new_request_id()
        self._finishing = False
        self._done = False

    async def run(self, items: ItemHolder, retry: Retry) -> None:
        """Raises CallFailedError where the call did not end well."""
        translate: Any = self._stub.Translate  # as for Transcribe
        call = translate(
            timeout=self._policy.deadline_s(self._request.media_s),
            metadata=(("x-request-id", self._request_id),),
        )
        watchdog = Watchdog(
            call, self._policy.stall_timeout_s, lambda: items.n_held > 0 or self._finishing
        )

        async def receive(reply: translate_pb2.TranslateResponse) -> None:
            await self._receive(reply, items, retry)

        try:
            await read_all(call, lambda: self._send(call, items), receive, watchdog)
        except grpc.aio.AioRpcError as error:
            if watchdog.fired:
                silent = f"has sent nothing for {self._policy.stall_timeout_s:.0f} s"
                raise broken_stream(str(self._endpoint), silent) from error
            raise of_rpc_error(error, str(self._endpoint), self._request_id) from error
        if not self._done or items.n_held:
            raise broken_stream(str(self._endpoint), "ended the call before it was done")

    async def _send(self, call: Any, items: ItemHolder) -> None:
        config = translate_pb2.TranslateConfig(
            source_language=self._request.source_language,
            target_language=self._request.target_language,
            model=self._request.model,
            strict_options=self._request.strict_options,
            glossary=to_messages(self._request.glossary),
        )
        if not await write(call, translate_pb2.TranslateRequest(config=config)):
            return
        while (item := await items.take()) is not None:
            if not await write(call, _item(item)):
                return
        self._finishing = True
        if await write(call, translate_pb2.TranslateRequest(finish=common_pb2.Finish())):
            await close_writing(call)

    async def _receive(
        self, reply: translate_pb2.TranslateResponse, items: ItemHolder, retry: Retry
    ) -> None:
        events = self._events
        match reply.WhichOneof("event"):
            case "accepted":
                await events.accepted(
                    reply.accepted.request_id,
                    convert.model(reply.accepted.model),
                    convert.device(reply.accepted.device),
                    convert.options(reply.accepted.config),
                    [convert.ignored(option) for option in reply.accepted.ignored],
                )
                if self._request.glossary and not reply.accepted.config.glossary:
                    await events.note(
                        Note(
                            source=f"translate {self._request.target_language}",
                            code="GLOSSARY_IGNORED",
                            message=f"{self._endpoint} is too old to know glossaries; its"
                            " translations are the model's own",
                        )
                    )
            case "result":
                self._check_asked(reply.result.id, items)
                retry.progress()
                await events.result(convert.translated(reply.result, self._request.glossary))
            case "warning":
                source = f"translate {self._request.target_language}"
                warning = reply.warning
                await events.note(Note(source=source, code=warning.code, message=warning.message))
            case "done":
                self._done = True
                await events.done(convert.translation_stats(reply.done))
            case _:
                pass  # an event of a newer contract

    def _check_asked(self, item_id: str, items: ItemHolder) -> None:
        """Takes a result's item off what is held. Raises VoxrouteError for one nobody asked."""
        if not item_id.isdecimal() or not items.answered(int(item_id)):
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


def check_pair(
    pairs: list[tuple[str, str]], source: str, target: str, endpoint: Endpoint, same: Any
) -> None:
    """Raises RefusedError where the service does not offer the pair; `same` compares tags."""
    if any(same(source, s) and same(target, t) for s, t in pairs):
        return
    offered = ", ".join(f"{s}-{t}" for s, t in pairs[:20]) or "none"
    more = f" and {len(pairs) - 20} more" if len(pairs) > 20 else ""  # noqa: PLR2004 - as cut above
    raise RefusedError(
        f"{endpoint} has no model for {source} to {target}; it offers {offered}{more}. Name a"
        " model with --translate-model, or another service with --translate-endpoint"
    )


@dataclass(frozen=True, slots=True)
class Translator:
    """A translation service, and what requests to it are to name as the model."""

    client: TranslateClient
    model: str = ""


NextTranslator = Callable[[], Awaitable[Translator | None]]
"""What finds another translation service where one has given up; None where none is left."""
