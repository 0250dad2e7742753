"""The service over a real gRPC server, with a tiny model that knows a dozen sentences."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from voxroute.common.v1 import common_pb2
from voxroute.models.v1 import models_pb2, models_pb2_grpc
from voxroute.translate.v1 import translate_pb2, translate_pb2_grpc
from voxroute_serving.errors import ModelNotFoundError, ModelUnavailableError, ServingError
from voxroute_serving.metrics import Metrics
from voxroute_serving.testing import served
from voxroute_translate.servicer import TranslateApp
from voxroute_translate.settings import TranslateSettings

OK = translate_pb2.ITEM_STATUS_OK
PASSTHROUGH = translate_pb2.ITEM_STATUS_PASSTHROUGH
TRUNCATED = translate_pb2.ITEM_STATUS_TRUNCATED
SUSPECT = translate_pb2.ITEM_STATUS_SUSPECT
FAILED = translate_pb2.ITEM_STATUS_FAILED

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the ML libraries' own
    pytest.mark.timeout(300),  # the first one trains the model
]

Request = translate_pb2.TranslateRequest
Response = translate_pb2.TranslateResponse


@dataclass
class Service:
    """A running service and a channel to it."""

    app: TranslateApp
    metrics: Metrics
    target: str
    channel: grpc.aio.Channel

    @property
    def stub(self) -> "translate_pb2_grpc.TranslateServiceAsyncStub":
        return translate_pb2_grpc.TranslateServiceStub(self.channel)  # type: ignore[return-value]

    @property
    def models(self) -> "models_pb2_grpc.ModelServiceAsyncStub":
        return models_pb2_grpc.ModelServiceStub(self.channel)  # type: ignore[return-value]

    async def ask(self, requests: Iterable[Request]) -> list[Response]:
        """Every answer to the requests.

        By the synchronous client: the asyncio one of grpc 1.85 tells INTERNAL instead of the
        service's own status where a write meets the end of the call.
        """

        def ask() -> list[Response]:
            with grpc.insecure_channel(self.target) as channel:
                stub = translate_pb2_grpc.TranslateServiceStub(channel)
                return list(stub.Translate(iter(requests), timeout=60))

        return await asyncio.to_thread(ask)

    async def translate(
        self, texts: Iterable[str], source: str = "hi", target: str = "en", **config: object
    ) -> list[translate_pb2.TranslateResult]:
        """The result of each text."""
        responses = await self.ask(
            [configured(source, target, **config), *map(item, map(str, range(99)), texts), finish()]
        )
        assert responses[0].WhichOneof("event") == "accepted"
        assert responses[-1].WhichOneof("event") == "done"
        return [response.result for response in responses[1:-1]]


def configured(source: str = "hi", target: str = "en", **options: object) -> Request:
    """The first message."""
    config = translate_pb2.TranslateConfig(
        source_language=source,
        target_language=target,
        **options,  # type: ignore[arg-type]
    )
    return Request(config=config)


def item(item_id: str, text: str, context: Iterable[str] = ()) -> Request:
    """A text."""
    return Request(item=translate_pb2.TranslateItem(id=item_id, text=text, context=context))


def finish() -> Request:
    """The last message."""
    return Request(finish=common_pb2.Finish())


@contextlib.asynccontextmanager
async def serving(
    tmp_path: Path, models: Iterable[Path], **options: object
) -> AsyncGenerator[Service]:
    """A service of these models on a unix socket."""
    socket = tmp_path / "s"
    settings = TranslateSettings(  # pyright: ignore[reportCallIssue]
        listen=[f"unix:{socket}"],
        models=[str(model) for model in models],
        model_cache_dir=tmp_path / "cache",
        offline=True,
        **{"device": "cpu", "compute_type": "float32", **options},  # type: ignore[arg-type]
    )
    async with (
        served.serving(TranslateApp, settings) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        yield Service(running.app, running.metrics, running.address, channel)


@pytest_asyncio.fixture
async def service(checkpoint: Callable[[str], Path], tmp_path: Path) -> AsyncGenerator[Service]:
    """A service with the model that knows its sentences."""
    async with serving(tmp_path, [checkpoint("learned")]) as running:
        yield running


async def test_cues_come_back_translated_in_order(service: Service) -> None:
    """Sentences, turns, tags and line breaks of a cue come back in place, in the target's words."""
    results = await service.translate(
        [
            "तुम कहाँ जा रहे हो?",
            "तुम्हारा नाम\nक्या है? फिर से बारिश हो रही है।",
            "- दरवाज़ा खोलो!\n- पैसे मत भूलना।",
            "<i>आज पानी ठंडा है।</i>",
            "♪ हम कल फिर मिलेंगे। ♪",
        ]
    )
    assert [result.text for result in results] == [
        "Where are you going?",
        "What is your name? It is raining again.",
        "- Open the door! - Do not forget the money.",
        "<i>The water is cold today.</i>",
        "♪ We will meet again tomorrow. ♪",
    ]
    assert [result.status for result in results] == [OK] * 5
    assert [result.id for result in results] == ["0", "1", "2", "3", "4"]
    assert {result.model.id for result in results} == {"learned"}
    assert not any(result.detail for result in results)


async def test_the_other_way_works_too(service: Service) -> None:
    """English to Hindi through the same model."""
    results = await service.translate(["What is your name?", "Open the door!"], "en", "hi")
    assert [result.text for result in results] == ["तुम्हारा नाम क्या है?", "दरवाज़ा खोलो!"]


async def test_what_needs_no_translation_passes(service: Service) -> None:
    """Numbers, symbols, notes, blanks and text in the target's script pass through, and say so."""
    results = await service.translate(["12:30", "...", "♪ ♪", "", " \n ", "OK", "A - B"])
    assert {result.status for result in results} == {PASSTHROUGH}
    assert [result.text for result in results] == [
        "12:30",
        "...",
        "♪ ♪",
        "",
        "",
        "OK",
        "A - B",
    ]
    assert all(result.detail and not result.HasField("model") for result in results)


async def test_nonsense_is_suspect_and_too_long_fails_alone(service: Service) -> None:
    """A doubtful or an over-long item has a status of its own; the others are not touched."""
    results = await service.translate(["क" * 5001, "खगघ ङचछ जझञ", "तुम कहाँ जा रहे हो?"])
    assert results[0].status == FAILED
    assert results[0].text == ""
    assert "5000" in results[0].detail
    assert results[1].status != PASSTHROUGH
    assert results[1].text != "खगघ ङचछ जझञ"
    assert results[2].status == OK


async def test_accepted_says_what_is_in_effect(service: Service) -> None:
    """Accepted names model, device and every option with defaults; context is ignored."""
    responses = await service.ask([configured("hi-IN", "en-GB"), finish()])
    accepted = responses[0].accepted
    assert (accepted.config.source_language, accepted.config.target_language) == ("hi", "en")
    assert accepted.config.beam_size == 4
    assert accepted.config.model == "learned"
    assert accepted.model.engine == "ctranslate2"
    assert accepted.model.revision.startswith("sha256:")
    assert accepted.device.kind == common_pb2.DEVICE_KIND_CPU
    assert accepted.device.compute_type == "float32"
    assert accepted.request_id
    assert [option.field for option in accepted.ignored] == ["item.context"]
    assert responses[-1].done.stats.items == 0


async def test_a_beam_of_one_is_honoured(service: Service) -> None:
    """beam_size is a request's own option."""
    responses = await service.ask(
        [configured(beam_size=1), item("a", "तुम कहाँ जा रहे हो?"), finish()]
    )
    assert responses[0].accepted.config.beam_size == 1
    assert responses[1].result.text == "Where are you going?"
    stats = responses[-1].done.stats
    assert (stats.items, stats.sentences) == (1, 1)
    assert stats.inference_time.ToNanoseconds() > 0


async def test_results_come_before_finish(service: Service) -> None:
    """A result is sent as soon as it is there; the client need not finish first."""
    call = service.stub.Translate()
    await call.write(configured())
    assert (await call.read()).WhichOneof("event") == "accepted"
    await call.write(item("a", "तुम कहाँ जा रहे हो?"))
    assert (await call.read()).result.text == "Where are you going?"
    await call.write(item("b", "दरवाज़ा खोलो!"))
    assert (await call.read()).result.text == "Open the door!"
    await call.write(finish())
    assert (await call.read()).WhichOneof("event") == "done"


async def test_many_calls_at_once_keep_their_items(service: Service) -> None:
    """Items of concurrent calls share batches and go back to their own call, in order."""
    texts = ["तुम कहाँ जा रहे हो?", "दरवाज़ा खोलो!", "आज पानी ठंडा है।"] * 12
    expected = ["Where are you going?", "Open the door!", "The water is cold today."] * 12
    answers = await asyncio.gather(*(service.translate(texts) for _ in range(4)))
    assert [[result.text for result in answer] for answer in answers] == [expected] * 4
    registry = service.metrics.registry
    assert registry.get_sample_value("voxroute_translate_items_total", {"status": "OK"}) == 144
    assert registry.get_sample_value("voxroute_translate_sentences_total") == 144
    batches = registry.get_sample_value("voxroute_batch_size_count")
    assert batches is not None
    assert batches < 144


BAD_CALLS: dict[str, tuple[list[Request], grpc.StatusCode, str]] = {
    "no message": ([], grpc.StatusCode.INVALID_ARGUMENT, "config"),
    "item before config": ([item("a", "x")], grpc.StatusCode.INVALID_ARGUMENT, "config first"),
    "finish before config": ([finish()], grpc.StatusCode.INVALID_ARGUMENT, "config first"),
    "empty message": ([Request()], grpc.StatusCode.INVALID_ARGUMENT, "is not set"),
    "config twice": (
        [configured(), configured(), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "sent twice",
    ),
    "no finish": ([configured(), item("a", "x")], grpc.StatusCode.INVALID_ARGUMENT, "finish"),
    "empty message later": (
        [configured(), Request(), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "is not set",
    ),
    "id twice": (
        [configured(), item("a", "x"), item("a", "y"), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "twice",
    ),
    "empty id": (
        [configured(), item("", "x"), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "empty",
    ),
    "long id": (
        [configured(), item("a" * 65, "x"), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "64",
    ),
    "no language": ([configured("", "en"), finish()], grpc.StatusCode.INVALID_ARGUMENT, "en, hi"),
    "unknown language": (
        [configured("klingonese", "en"), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "en, hi",
    ),
    "unsupported pair": (
        [configured("hi", "fr"), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "hi goes to en",
    ),
    "same language": (
        [configured("en-GB", "en"), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "source language too",
    ),
    "beam too wide": (
        [configured(beam_size=21), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "1 to 20",
    ),
    "beam of none": ([configured(beam_size=0), finish()], grpc.StatusCode.INVALID_ARGUMENT, "1 to"),
    "strict context": (
        [configured(strict_options=True), item("a", "x", ["before"]), finish()],
        grpc.StatusCode.INVALID_ARGUMENT,
        "context",
    ),
    "unknown model": ([configured(model="big"), finish()], grpc.StatusCode.NOT_FOUND, "learned"),
    "a path as model": (
        [configured(model="/etc"), finish()],
        grpc.StatusCode.NOT_FOUND,
        "learned",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
async def test_bad_input_has_its_status_and_a_sentence(name: str, service: Service) -> None:
    """Each mistake ends the call with its status, ErrorInfo and what to do; the service goes on."""
    requests, code, words = BAD_CALLS[name]
    with pytest.raises(grpc.RpcError) as failed:
        await service.ask(requests)
    assert failed.value.code() == code
    assert words in (failed.value.details() or "")
    status = rpc_status.from_call(failed.value)  # type: ignore[arg-type]
    assert status is not None
    assert any(detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for detail in status.details)
    [result] = await service.translate(["दरवाज़ा खोलो!"])
    assert result.text == "Open the door!"


async def test_a_client_that_leaves_frees_its_place(service: Service) -> None:
    """A cancelled call gives its permit back and leaves no sentence queued."""
    call = service.stub.Translate()
    await call.write(configured())
    await call.read()
    for number in range(40):
        await call.write(item(str(number), "तुम कहाँ जा रहे हो? दरवाज़ा खोलो!"))
    call.cancel()

    async def status() -> common_pb2.QueueStatus:
        return (await service.stub.GetCapabilities(translate_pb2.GetCapabilitiesRequest())).queue

    queue = await status()
    for _ in range(100):
        if not queue.calls_in_flight and not queue.work_queued:
            break
        await asyncio.sleep(0.05)
        queue = await status()
    assert queue.calls_in_flight == 0
    assert queue.work_queued == 0
    [result] = await service.translate(["दरवाज़ा खोलो!"])
    assert result.status == OK


async def test_capabilities_tell_what_is_true(service: Service) -> None:
    """Models with their licence and state, limits, version and queue."""
    answer = await service.stub.GetCapabilities(translate_pb2.GetCapabilitiesRequest())
    [model] = answer.models
    assert (model.model.id, model.loaded, model.license) == ("learned", True, "Apache-2.0")
    assert answer.service_version == "1.2.3"
    assert answer.limits.max_item_characters == 5000
    assert answer.queue.calls_capacity == 16
    assert answer.device.compute_type == "float32"


async def test_language_pairs_are_true_and_can_be_narrowed(service: Service) -> None:
    """The pairs are those of voxroute.json; a filter by tag works on the language meant."""

    async def pairs(**narrow: str) -> list[tuple[str, str, str]]:
        answer = await service.stub.ListLanguagePairs(
            translate_pb2.ListLanguagePairsRequest(**narrow)
        )
        return [(p.source_language, p.target_language, p.model.id) for p in answer.pairs]

    assert await pairs() == [("en", "hi", "learned"), ("hi", "en", "learned")]
    assert await pairs(source_language="hi-IN") == [("hi", "en", "learned")]
    assert await pairs(target_language="ta") == []
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await pairs(source_language="nonsense")
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_models_are_unloaded_and_loaded_again(service: Service) -> None:
    """ModelService frees the model; the next call loads it again."""
    [model] = (await service.models.ListModels(models_pb2.ListModelsRequest())).models
    assert model.state == models_pb2.MODEL_STATE_LOADED
    await service.models.UnloadModel(models_pb2.UnloadModelRequest(model="learned"))
    [model] = (await service.models.ListModels(models_pb2.ListModelsRequest())).models
    assert model.state == models_pb2.MODEL_STATE_AVAILABLE
    [result] = await service.translate(["दरवाज़ा खोलो!"])
    assert result.text == "Open the door!"
    [model] = (await service.models.ListModels(models_pb2.ListModelsRequest())).models
    assert model.state == models_pb2.MODEL_STATE_LOADED


async def test_the_preferred_model_answers_and_a_named_one_too(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The first model that knows a pair answers it; a request may name another."""
    models = [checkpoint("learned"), checkpoint("opus-mt-en-hi"), checkpoint("en-indic-tiny")]
    async with serving(tmp_path, models, self_test=False, max_loaded_models=2) as service:
        answer = await service.ask([configured("en", "hi"), finish()])
        assert answer[0].accepted.model.id == "learned"
        answer = await service.ask([configured("en", "hi", model="opus-mt-en-hi"), finish()])
        assert answer[0].accepted.model.id == "opus-mt-en-hi"
        results = await service.translate(["Where?"], "en", "ta")
        assert results[0].model.id == "en-indic-tiny"
        pairs = await service.stub.ListLanguagePairs(translate_pb2.ListLanguagePairsRequest())
        answered = {(p.source_language, p.target_language): p.model.id for p in pairs.pairs}
        assert answered == {
            ("en", "hi"): "learned",
            ("hi", "en"): "learned",
            ("en", "ta"): "en-indic-tiny",
            ("en", "kok"): "en-indic-tiny",
        }
        with pytest.raises(grpc.RpcError) as failed:
            await service.translate(["x"], "hi", "en", model="opus-mt-en-hi")
        assert "hi comes" not in (failed.value.details() or "")
        assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_long_and_looping_texts_are_told(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Loops of an untrained model are SUSPECT; words beyond the limit never end a call."""
    async with serving(tmp_path, [checkpoint("opus-mt-en-hi")], self_test=False) as service:
        results = await service.translate(
            ["Where are you going?", "water " * 100, "w" * 300], "en", "hi"
        )
        assert {result.status for result in results} <= {SUSPECT, TRUNCATED}
        assert all(result.detail for result in results)
        assert all(result.text not in ("Where are you going?", "w" * 300) for result in results)


async def test_torch_answers_the_same(
    checkpoint: Callable[[str], Path], tmp_path: Path, service: Service
) -> None:
    """The other runtime behind the same service gives the same text."""
    texts = ["तुम कहाँ जा रहे हो?", "वह नदी के पास पुराने घर में रहती है।", "पैसे मत भूलना।"]
    expected = [result.text for result in await service.translate(texts)]
    (tmp_path / "torch").mkdir()
    async with serving(tmp_path / "torch", [checkpoint("learned")], runtime="torch") as torch:
        results = await torch.translate(texts)
        assert [result.text for result in results] == expected
        assert {result.model.engine for result in results} == {"torch"}


async def start_failure(tmp_path: Path, models: list[Path], **options: object) -> ServingError:
    """The error with which a service of these models does not start."""
    with pytest.raises(ServingError) as failed:
        async with serving(tmp_path, models, **options):
            pass
    return failed.value


async def test_a_model_that_cannot_translate_stops_the_start(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The start-up test refuses a model whose output is no translation, and shows it."""
    error = await start_failure(tmp_path, [checkpoint("opus-mt-en-hi")])
    assert isinstance(error, ModelUnavailableError)
    assert "failed its test" in error.message


async def test_a_missing_model_stops_the_start(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """A directory that is not there, or one named twice, is an error before serving."""
    error = await start_failure(tmp_path, [tmp_path / "nowhere"])
    assert isinstance(error, ModelNotFoundError | ModelUnavailableError)
    learned = checkpoint("learned")
    (tmp_path / "two").mkdir()
    assert "twice" in (await start_failure(tmp_path / "two", [learned, learned])).message
