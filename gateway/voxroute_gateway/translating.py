"""Texts through the translation service, in their order, each with those before it."""

import contextlib
from collections.abc import Sequence

from voxroute_gateway.errors import RequestError
from voxroute_gateway.recognition import call_failure
from voxroute_gateway.upstream import Upstream, Visit
from voxroute_orchestrator.client.failures import CallFailedError
from voxroute_orchestrator.client.items import ItemPool, TranslateItem
from voxroute_orchestrator.client.translate import TranslateRequest
from voxroute_orchestrator.errors import VoxrouteError
from voxroute_orchestrator.transcript import (
    Segment,
    TranslatedSegment,
    Translation,
    same_language,
)

_CONTEXT = 2  # texts before one that its translation may look at


async def pairs(upstream: Upstream) -> list[tuple[str, str]]:
    """The (source, target) pairs there are. Raises VoxrouteError."""
    async with upstream.translator() as translator:
        return await translator.pairs()


async def translated(
    upstream: Upstream, texts: Sequence[str], source: str, target: str, *, in_order: bool
) -> list[TranslatedSegment]:
    """The translation of each text; `in_order` is whether each goes on with those before it.

    Raises RequestError, VoxrouteError or CallFailedError.
    """
    items = ItemPool()
    found: dict[int, TranslatedSegment] = {}
    for number, text in enumerate(texts):
        if not text.strip() or same_language(source, target):
            found[number] = TranslatedSegment(segment_id=number, text=text, status="PASSTHROUGH")
            continue
        before = tuple(texts[max(0, number - _CONTEXT) : number]) if in_order else ()
        items.put(TranslateItem(number, text, before))
    items.end()
    with upstream.translation_visit() as visit:
        while not items.finished:
            try:
                await _call(upstream, visit, items, (source, target), found)
            except (CallFailedError, VoxrouteError) as error:
                await visit.wait(call_failure(error))
            finally:
                visit.ended()
    return [found[number] for number in range(len(texts))]


async def _call(
    upstream: Upstream,
    visit: Visit,
    items: ItemPool,
    pair: tuple[str, str],
    found: dict[int, TranslatedSegment],
) -> None:
    source, target = pair
    async with upstream.translator() as translator:
        offered = await translator.pairs()
        if not any(same_language(source, s) and same_language(target, t) for s, t in offered):
            raise RequestError(
                400, f"{source} to {target} is not a pair that can be translated", "language_pair"
            )
        request = TranslateRequest(source, target, items, translator.model)
        async with contextlib.aclosing(translator.translate(request)) as events:
            async for event in events:
                visit.served()
                if isinstance(event, TranslatedSegment):
                    found[event.segment_id] = event


async def translation_of(
    upstream: Upstream, segments: Sequence[Segment], target: str
) -> Translation:
    """The segments' translation; those that are spoken in the language already stay as they are.

    Raises as `translated`.
    """
    by_language: dict[str, list[Segment]] = {}
    for segment in segments:
        by_language.setdefault(segment.language, []).append(segment)
    items: list[TranslatedSegment] = []
    for language, spoken in by_language.items():
        texts = [segment.text for segment in spoken]
        results = await translated(upstream, texts, language, target, in_order=True)
        items += [
            result.model_copy(update={"segment_id": segment.id})
            for segment, result in zip(spoken, results, strict=True)
        ]
    return Translation(items=sorted(items, key=lambda item: item.segment_id))
