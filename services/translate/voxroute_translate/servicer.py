"""The translation service: the contract on one side, models and the device on the other."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import grpc.aio

from voxroute.common.v1 import common_pb2
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_serving import messages
from voxroute_serving.bounds import quoted
from voxroute_serving.calls.interceptor import request_id
from voxroute_serving.calls.requests import (
    Context,
    Requests,
    Send,
    in_order,
    open_group,
    relayed,
)
from voxroute_serving.device.batcher import Admission, Batcher
from voxroute_serving.device.pool import ModelPool, PoolLimits
from voxroute_serving.domain import Activity, DeviceInfo, ModelRef
from voxroute_serving.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
)
from voxroute_serving.models import hub
from voxroute_serving.models.service import SERVICE_NAME as MODEL_SERVICE_NAME
from voxroute_serving.models.service import ModelServicer
from voxroute_serving.process.main import Runtime
from voxroute_serving.telemetry.logs import get_logger
from voxroute_translate import engine, languages, registry
from voxroute_translate.engine import Decoding, EngineOptions, Output, TranslationModel
from voxroute_translate.glossary import Glossary, Term
from voxroute_translate.metrics import TranslateMetrics
from voxroute_translate.quality import doubt
from voxroute_translate.registry import ModelCard, Registry
from voxroute_translate.settings import TranslateSettings
from voxroute_translate.texts import TextThread
from voxroute_translate.translation import CallStats, ItemResult, Status, Translation

SERVICE_NAME = translate_pb2.DESCRIPTOR.services_by_name["TranslateService"].full_name
MAX_BEAM_SIZE = 20
MAX_ID_CHARACTERS = 64

# What a model must be able to translate before the service says that it serves.
SELF_TEST_SENTENCES = {
    "en": "Where are you going?",
    "hi": "तुम कहाँ जा रहे हो?",
    "es": "¿Adónde vas?",
    "fr": "Où vas-tu ?",
    "de": "Wohin gehst du?",
    "ta": "நீ எங்கே போகிறாய்?",
    "bn": "তুমি কোথায় যাচ্ছ?",
    "ru": "Куда ты идёшь?",
    "zh": "你要去哪里？",  # noqa: RUF001 - Chinese
    "ar": "إلى أين أنت ذاهب؟",
}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
_NON_COMMERCIAL = re.compile(r"-NC(-|$)")
_FILES = ("*.json", "*.txt", "*.safetensors", "*.model", "*.spm", "model.SRC", "model.TGT",
          "README.md")  # fmt: skip
_PICKLED_FILES = ("pytorch_model*.bin",)  # NLLB and M2M100 have no other on the hub

_log = get_logger(__name__)


class TranslateApp:
    """The models, the queue before the device, and the servicers. An App."""

    def __init__(self, settings: TranslateSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._options: EngineOptions | None = None
        self._device: DeviceInfo | None = None
        self.registry = Registry([])
        self.texts = TextThread()
        self.pool: ModelPool[TranslationModel] = ModelPool(
            runtime.device,
            self._resolve,
            self._load,
            PoolLimits(
                settings.max_loaded_models, settings.max_model_bytes, settings.model_idle_ttl_s
            ),
            fetch=self._expected_bytes,
            observer=runtime.metrics,
        )
        self.batcher: Batcher[str, Output] = Batcher(
            device=runtime.device,
            run_batch=engine.run_batch,
            max_batch=lambda key: getattr(key, "model").max_batch,  # noqa: B009 - keys are BatchKeys
            on_batch=runtime.metrics.observe_batch,
            task="translate",
            model_of=lambda key: getattr(key, "model").ref.id,  # noqa: B009 - as above
        )
        runtime.metrics.observe_queue(lambda: self.batcher.queued)
        runtime.metrics.observe_models(self.pool.states)
        runtime.metrics.observe_device(lambda: self.device)
        self.metrics = TranslateMetrics(runtime.metrics.registry)
        runtime.admission.observe_queue(lambda: self.batcher.queued)
        self._translate = TranslateServicer(self, settings, runtime.admission)
        self._models = ModelServicer(self.pool, self._available)
        self.service_names: Sequence[str] = (SERVICE_NAME, MODEL_SERVICE_NAME)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicers to a server that has not started."""
        translate_pb2_grpc.add_TranslateServiceServicer_to_server(self._translate, server)
        self._models.register(server)

    async def start(self) -> None:
        """Fetches every model, loads as many as there is room for, and lets each translate.

        Raises ServingError where a model cannot be had or fails its test.
        """
        device = await asyncio.to_thread(engine.find_device, self._settings.device)
        self._options = EngineOptions(
            device=device,
            runtime=self._settings.runtime,
            compute_type=self._settings.compute_type,
            max_batch=self._settings.max_batch,
            cache_dir=self._settings.model_cache_dir,
        )
        for name in self._settings.models:
            card = await asyncio.to_thread(self._describe, name)
            if self.registry.known(card.name) is not None and self.registry.cards:
                raise ModelUnavailableError(
                    f"--models names {card.name} twice; give two local directories different names"
                )
            self.registry.add(card)
        # the most preferred last: where there is no room for all, it stays
        for card in reversed(self.registry.cards[: self._settings.max_loaded_models]):
            async with self.pool.lease(card.name) as model:
                if self._settings.self_test:
                    await self._test(model)

    async def close(self) -> None:
        """Ends the work on texts, and frees the models on their thread."""
        await self.texts.close()
        await self.pool.close()

    @property
    def service_version(self) -> str:
        """The version of the service."""
        return self._runtime.service_version

    @property
    def engine_name(self) -> str:
        """The library that runs the models; before the device is known, the most likely one."""
        if self._options is not None:
            return self._options.engine
        return self._settings.runtime if self._settings.runtime != "auto" else "ctranslate2"

    @property
    def device(self) -> DeviceInfo:
        """The hardware that runs the models, as precisely as it is known now."""
        if self._device is not None:
            return self._device
        kind = self._options.device if self._options is not None else "cpu"
        return DeviceInfo(
            kind=kind,
            name=kind,
            compute_type=self._settings.compute_type,
        )

    def ref(self, card: ModelCard) -> ModelRef:
        """The model's name as answers give it."""
        return ModelRef(self.engine_name, card.name, card.revision)

    async def find(self, name: str) -> ModelCard | None:
        """The model that a request names; None where it names none. Fetches an unknown hub id.

        Raises ModelNotFoundError, ModelUnavailableError.
        """
        if not name:
            return None
        card = self.registry.known(name)
        if card is None:
            card = await asyncio.to_thread(self._describe_for_request, name)
            if self.registry.known(card.name) is None:
                self.registry.add(card)
        return card

    def _available(self) -> Sequence[ModelRef]:
        return [self.ref(card) for card in self.registry.cards]

    def _describe(self, name: str) -> ModelCard:
        model, revision = registry.split_name(name)
        is_indictrans2 = "indictrans2" in model.lower()
        directory = hub.local_directory(
            model,
            offline=self._settings.offline,
            token=self._settings.hub_token,
            allow_patterns=_FILES if is_indictrans2 else (*_FILES, *_PICKLED_FILES),
            revision=revision,
        )
        return registry.describe(model, directory, hub.revision_of)

    def _describe_for_request(self, name: str) -> ModelCard:
        """A request may name a hub id, but no path: what lies on this host is not its business."""
        if not _HUB_ID.fullmatch(name) or Path(name).exists():
            known = ", ".join(card.name for card in self.registry.cards)
            raise ModelNotFoundError(
                f"there is no model {quoted(name)} here; use one of {known}, or a hub id"
                " (owner/name)"
            )
        return self._describe(name)

    def _resolve(self, name: str) -> str:
        card = self.registry.known(name)
        if card is None:
            card = self._describe_for_request(name)
            self.registry.add(card)
        return card.name

    def _load(self, name: str, activity: Activity) -> TranslationModel:
        card = self.registry.known(name)
        if card is None or self._options is None:
            raise ModelNotFoundError(f"there is no model {name!r} here")
        if _NON_COMMERCIAL.search(card.license):
            _log.warning(
                "model with a non-commercial licence",
                model=card.name,
                license=card.license,
                instead=f"{registry.PERMISSIVE_MODEL} (MIT) may be used commercially",
            )
        model = engine.load(card, self._options, activity)
        self._runtime.device.grow(model.workers)
        self._device = model.device
        return model

    def _expected_bytes(self, name: str, activity: Activity) -> int:
        """What a model will take of the device's memory; its files are here since it is known."""
        del activity
        card = self.registry.known(name)
        if card is None or self._options is None:
            return 0
        return engine.expected_bytes(card, self._options)

    async def _test(self, model: TranslationModel) -> None:
        """Lets the model translate a known sentence. Raises ModelUnavailableError."""
        card = model.card
        pair = next(
            (
                (source, target)
                for tag in SELF_TEST_SENTENCES
                for source, target in card.pairs()
                if source.tag == tag
            ),
            None,
        )
        if pair is None:
            _log.warning("no sentence to test the model with", model=card.name)
            return
        source, target = pair
        sentence = SELF_TEST_SENTENCES[source.tag]
        decoding = Decoding(self._settings.beam_size)
        codes = card.sources[source], card.targets[target]
        [output] = await self._runtime.device.run(
            lambda: model.translate([sentence], *codes, decoding)
        )
        problem = doubt(sentence, output.text, source, target)
        if problem:
            raise ModelUnavailableError(
                f"{card.name} failed its test: {sentence!r} from {source.tag} to {target.tag} gave"
                f" {output.text!r} ({problem.reason}); check the model's files, or turn the"
                " test off with --no-self-test"
            )
        _log.info("model translates", model=card.name, pair=f"{source.tag}-{target.tag}")


class TranslateServicer(translate_pb2_grpc.TranslateServiceServicer):
    """voxroute.translate.v1.TranslateService."""

    def __init__(
        self, app: TranslateApp, settings: TranslateSettings, admission: Admission
    ) -> None:
        self._app = app
        self._settings = settings
        self._admission = admission

    async def GetCapabilities(  # noqa: N802 - the method's name in the contract
        self, request: translate_pb2.GetCapabilitiesRequest, context: Any
    ) -> translate_pb2.GetCapabilitiesResponse:
        """What this service is and can do, and how busy it is."""
        del request, context
        return translate_pb2.GetCapabilitiesResponse(
            service_version=self._app.service_version,
            device=messages.device(self._app.device),
            models=[
                translate_pb2.AvailableModel(
                    model=messages.model_ref(self._app.ref(card)),
                    loaded=self._app.pool.loaded(card.name) is not None,
                    license=card.license,
                )
                for card in self._app.registry.cards
            ],
            limits=translate_pb2.Limits(
                max_item_characters=self._settings.max_item_characters,
                max_message_bytes=self._settings.max_message_bytes,
                max_concurrent_calls=self._settings.max_concurrent_calls,
            ),
            queue=common_pb2.QueueStatus(
                calls_in_flight=self._admission.in_flight,
                calls_capacity=self._admission.capacity,
                work_queued=self._app.batcher.queued,
            ),
        )

    async def ListLanguagePairs(  # noqa: N802 - the method's name in the contract
        self, request: translate_pb2.ListLanguagePairsRequest, context: Any
    ) -> translate_pb2.ListLanguagePairsResponse:
        """The pairs with the model that answers each."""
        del context
        known = self._app.registry.languages
        source = request.source_language and languages.parse_field(
            request.source_language, "source_language", known
        )
        target = request.target_language and languages.parse_field(
            request.target_language, "target_language", known
        )
        return translate_pb2.ListLanguagePairsResponse(
            pairs=[
                translate_pb2.LanguagePair(
                    source_language=pair_source.tag,
                    target_language=pair_target.tag,
                    model=messages.model_ref(self._app.ref(card)),
                )
                for pair_source, pair_target, card in self._app.registry.table()
                if source in ("", pair_source) and target in ("", pair_target)
            ]
        )

    def Translate(  # noqa: N802 - the method's name in the contract
        self,
        request_iterator: AsyncIterator[translate_pb2.TranslateRequest],
        context: Context,
    ) -> AsyncGenerator[translate_pb2.TranslateResponse]:
        """Translates items, each on its own, and answers in their order."""
        requests = Requests[translate_pb2.TranslateConfig](request_iterator, "item")

        async def work(send: Send[translate_pb2.TranslateResponse]) -> None:
            async with self._admission.permit():
                config = await requests.config()
                glossary = await self._app.texts.run(_glossary(config))
                decoding = Decoding(self._beam_size(config))
                source, target, card = await self._route(config)
                async with self._app.pool.lease(card.name) as model:
                    translation = Translation(
                        model=model,
                        source=source,
                        target=target,
                        decoding=decoding,
                        batcher=self._app.batcher,
                        max_item_characters=self._settings.max_item_characters,
                        glossary=glossary,
                    )
                    await send(_accepted(config, translation))
                    await self._translated(requests, translation, config.strict_options, send)

        return relayed(work, context)

    async def _translated(
        self,
        requests: Requests[translate_pb2.TranslateConfig],
        translation: Translation,
        strict: bool,  # noqa: FBT001 - passed on
        send: Send[translate_pb2.TranslateResponse],
    ) -> None:
        def translated(item: translate_pb2.TranslateItem) -> Awaitable[ItemResult]:
            return self._app.texts.run(translation.item(item.text))

        items = _checked(requests, translation.model.card.context_unused if strict else "")
        async with open_group() as group, contextlib.aclosing(items):
            limit = self._settings.max_items_in_flight
            async for item, result in in_order(group, items, translated, limit):
                self._app.metrics.observe_item(result)
                status = result.status.name
                _log.debug(
                    "item", id=item.id, status=status, text=item.text, translation=result.text
                )
                await send(_result(item.id, result, translation.model.ref))
        self._app.metrics.observe_call(translation.stats)
        done = translate_pb2.Done(stats=_stats(translation.stats))
        await send(translate_pb2.TranslateResponse(done=done))

    async def _route(
        self, config: translate_pb2.TranslateConfig
    ) -> tuple[languages.Language, languages.Language, ModelCard]:
        """The pair and the model that answers it. Raises InvalidInputError and the like."""
        named = await self._app.find(config.model)
        known = self._app.registry.languages
        source = languages.parse_field(config.source_language, "config.source_language", known)
        target = languages.parse_field(config.target_language, "config.target_language", known)
        return source, target, self._app.registry.choose(source, target, named)

    def _beam_size(self, config: translate_pb2.TranslateConfig) -> int:
        if not config.HasField("beam_size"):
            return self._settings.beam_size
        if not 1 <= config.beam_size <= MAX_BEAM_SIZE:
            raise InvalidInputError.of_field(
                "config.beam_size", f"is {config.beam_size}; send 1 to {MAX_BEAM_SIZE}"
            )
        return config.beam_size


async def _checked(
    requests: Requests[translate_pb2.TranslateConfig], no_context: str
) -> AsyncGenerator[translate_pb2.TranslateItem]:
    """The items of a call; `no_context` is why none of them may have context, if none may."""
    seen: set[str] = set()
    async with contextlib.aclosing(requests.rest()) as items:
        async for item in items:
            _check_id(item.id, seen)
            seen.add(item.id)
            if item.context and no_context:
                raise InvalidInputError.of_field("item.context", f"{no_context}; leave it out")
            yield item


def _check_id(item_id: str, seen: set[str]) -> None:
    if not item_id:
        raise InvalidInputError.of_field("item.id", "is empty; give each item a name of its own")
    if len(item_id) > MAX_ID_CHARACTERS:
        raise InvalidInputError.of_field(
            "item.id", f"has {len(item_id)} characters; send at most {MAX_ID_CHARACTERS}"
        )
    if item_id in seen:
        raise InvalidInputError.of_field("item.id", f"{item_id!r} came twice in one call")


def _accepted(
    config: translate_pb2.TranslateConfig, translation: Translation
) -> translate_pb2.TranslateResponse:
    model = translation.model
    unused = common_pb2.IgnoredOption(field="item.context", reason=model.card.context_unused)
    return translate_pb2.TranslateResponse(
        accepted=translate_pb2.Accepted(
            request_id=request_id(),
            model=messages.model_ref(model.ref),
            device=messages.device(model.device),
            config=translate_pb2.TranslateConfig(
                source_language=translation.source.tag,
                target_language=translation.target.tag,
                model=model.card.name,
                beam_size=translation.decoding.beam_size,
                strict_options=config.strict_options,
                glossary=config.glossary,
            ),
            ignored=[unused],
        )
    )


async def _glossary(config: translate_pb2.TranslateConfig) -> Glossary:
    return Glossary.checked([_term(each) for each in config.glossary], "config.glossary")


def _term(message: translate_pb2.GlossaryTerm) -> Term:
    return Term(message.source, message.target, message.case_sensitive, message.do_not_translate)


_STATUSES = {
    Status.OK: translate_pb2.ITEM_STATUS_OK,
    Status.PASSTHROUGH: translate_pb2.ITEM_STATUS_PASSTHROUGH,
    Status.TRUNCATED: translate_pb2.ITEM_STATUS_TRUNCATED,
    Status.SUSPECT: translate_pb2.ITEM_STATUS_SUSPECT,
    Status.FAILED: translate_pb2.ITEM_STATUS_FAILED,
}


def _result(item_id: str, result: ItemResult, ref: ModelRef) -> translate_pb2.TranslateResponse:
    by_model = result.status not in (Status.PASSTHROUGH, Status.FAILED)
    return translate_pb2.TranslateResponse(
        result=translate_pb2.TranslateResult(
            id=item_id,
            text=result.text,
            status=_STATUSES[result.status],
            model=messages.model_ref(ref) if by_model else None,
            detail=result.detail,
            glossary=[
                translate_pb2.GlossaryUse(term=use.term, applied=use.applied) for use in result.uses
            ],
        )
    )


def _stats(stats: CallStats) -> translate_pb2.TranslateStats:
    return translate_pb2.TranslateStats(
        items=stats.items,
        sentences=stats.sentences,
        queue_time=messages.duration(stats.queue_s),
        inference_time=messages.duration(stats.inference_s),
    )
