"""Glossary terms in translations: the bundled model behind a real server, on both runtimes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.translate.test_service import Service, configured, finish, item, serving
from voxroute.translate.v1 import translate_pb2
from voxroute_translate import languages, registry
from voxroute_translate.enforcement import Enforcement
from voxroute_translate.glossary import Glossary, Term
from voxroute_translate.runtimes import codecs

BUNDLED = Path(__file__).parents[2] / "models" / "translate-tiny-hi-en"
HINDI, ENGLISH = languages.parse("hi"), languages.parse("en")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the ML libraries' own
    pytest.mark.timeout(120),
]


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncGenerator[Service]:
    """A service with the bundled model."""
    async with serving(tmp_path, [BUNDLED]) as running:
        yield running


def terms(*entries: Any) -> list[translate_pb2.GlossaryTerm]:
    """Terms: (source, target) for each, (source,) for one that is not to be translated."""
    return [
        translate_pb2.GlossaryTerm(source=entry[0], target=entry[1])
        if len(entry) > 1
        else translate_pb2.GlossaryTerm(source=entry[0], do_not_translate=True)
        for entry in entries
    ]


async def outcome(
    service: Service, texts: list[str], glossary: list[Any], source: str = "hi", target: str = "en"
) -> list[tuple[str, list[tuple[int, bool]]]]:
    """Each text's translation, and what became of its terms."""
    results = await service.translate(texts, source, target, glossary=terms(*glossary))
    assert {result.status for result in results} <= {translate_pb2.ITEM_STATUS_OK}
    return [
        (result.text, [(use.term, use.applied) for use in result.glossary]) for result in results
    ]


async def test_names_come_out_as_they_are_settled(service: Service) -> None:
    """Known names in another spelling, unknown ones, several and repeated ones, and none."""
    glossary = [("राहुल", "Raahul"), ("मनोज", "Manojkumar"), ("ज़ुबिन", "Zubin"), ("राम", "Ram")]
    assert await outcome(
        service,
        [
            "राहुल शाम छह बजे मनोज को पहचान रहा था।",
            "ज़ुबिन डॉक्टर है।",
            "राहुल, राहुल कहाँ है?",
            "मेरे भाई का नाम राम है।",
            "क्या हम आज़ाद हैं?",
        ],
        glossary,
    ) == [
        (
            "Raahul was recognizing Manojkumar at six in the evening.",
            [(0, True), (1, True)],
        ),
        ("Zubin is a doctor.", [(2, True)]),
        ("Raahul, where is Raahul?", [(0, True)]),
        ("The name of my brother is Ram.", [(3, True)]),
        ("Are we free?", []),
    ]


async def test_the_other_direction_works_too(service: Service) -> None:
    """English names into Hindi, and one that stays as it is."""
    assert await outcome(
        service,
        ["Zubin is a doctor.", "Where is Vijay?"],
        [("Zubin", "ज़ुबिन"), ("vijay",)],
        "en",
        "hi",
    ) == [("ज़ुबिन डॉक्टर है।", [(0, True)]), ("Vijay कहाँ है?", [(1, True)])]


async def test_words_keep_their_sentence_or_are_told_as_missed(service: Service) -> None:
    """A word's own rendition is exchanged where it can be told; else the model's words stay."""
    results = await outcome(
        service,
        ["चाबी मेज़ पर है।", "हम कौनसा आम खा रहे हैं?"],
        [("चाबी", "latchkey"), ("आम", "alphonso")],
    )
    assert results == [
        ("The latchkey is on the table.", [(0, True)]),
        ("Which mango are we eating?", [(1, False)]),
    ]


async def test_a_cue_of_terms_alone_needs_no_model(service: Service) -> None:
    """A sentence that is nothing but terms is their translation, with the target's end mark."""
    responses = await service.ask(
        [
            configured(glossary=terms(("ज़ुबिन", "Zubin"), ("डैनी", "Danny"))),
            item("a", "<i>ज़ुबिन!\nडैनी, ज़ुबिन।</i>"),
            finish(),
        ]
    )
    assert responses[1].result.text == "<i>Zubin! Danny, Zubin.</i>"
    assert [use.applied for use in responses[1].result.glossary] == [True, True]
    assert responses[-1].done.stats.sentences == 0


async def test_only_sentences_with_missing_terms_cost_more(service: Service) -> None:
    """A sentence takes one run; a term that the model words otherwise takes one more, once."""
    glossary = terms(("राहुल", "Raahul"), ("मनोज", "Manoj"))
    texts = ["क्या हम आज़ाद हैं?", "मनोज कहाँ है?", "राहुल कहाँ है?", "क्या राहुल तैयार है?"]
    messages = [item(str(number), text) for number, text in enumerate(texts)]
    responses = await service.ask([configured(glossary=glossary), *messages, finish()])
    assert responses[-1].done.stats.sentences == len(texts) + 1
    assert responses[0].accepted.config.glossary == glossary
    registry = service.metrics.registry
    name = "voxroute_translate_glossary_terms_total"
    assert registry.get_sample_value(name, {"applied": "true"}) == 3


async def test_torch_gives_the_same(service: Service, tmp_path: Path) -> None:
    """The ladder stands on text alone, so both runtimes come to the same results."""
    texts = ["ज़ुबिन डॉक्टर है।", "चाबी मेज़ पर है।", "राहुल कहाँ है?"]
    glossary = [("ज़ुबिन", "Zubin"), ("चाबी", "latchkey"), ("राहुल", "Raahul")]
    expected = await outcome(service, texts, glossary)
    (tmp_path / "torch").mkdir()
    async with serving(tmp_path / "torch", [BUNDLED], runtime="torch") as torch:
        assert await outcome(torch, texts, glossary) == expected


async def test_a_bad_term_ends_the_call_with_its_path(service: Service) -> None:
    """INVALID_ARGUMENT, and BadRequest names the entry and its field."""
    with pytest.raises(grpc.RpcError) as failed:
        await service.translate(["x"], glossary=terms(("राम", "Ram"), ("सीता", "")))
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(failed.value)  # type: ignore[arg-type]
    assert status is not None
    fields: list[str] = []
    for detail in status.details:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            fields += [violation.field for violation in request.field_violations]
    assert fields == ["config.glossary[1].target"]


def enforcement(
    translations: dict[str, str], *glossary: Term, placeholder: str = ""
) -> Enforcement:
    """Hindi to English with a model that knows these sentences and no other."""

    async def run(text: str) -> str:
        await asyncio.sleep(0)
        return translations.get(text, "I do not know.")

    return Enforcement(Glossary(glossary), HINDI, ENGLISH, placeholder, run)


async def test_a_placeholder_that_comes_through_once_is_filled() -> None:
    """Where the model copies placeholders, each stands for one term and gives way to its words."""
    ours = enforcement(
        {"#t1 ने #t2 देखा।": "#t1 saw the #t2."},
        Term("शेरू", "Sheru"),
        Term("अनारकली", "Anarkali"),
        placeholder="#t{number}",
    )
    assert await ours.apply("शेरू ने अनारकली देखा।", "He saw a pomegranate bud.") == (
        "Sheru saw the Anarkali."
    )


async def test_what_comes_through_twice_is_not_believed() -> None:
    """A stand-in that the model repeats or drops changes nothing: the first translation stays."""
    for written in ("#t1 #t1 saw it.", "He saw it.", "#t1 saw it " + "again " * 30):
        ours = enforcement({"#t1 ने देखा।": written}, Term("शेरू", "Sheru"), placeholder="#t{number}")
        assert await ours.apply("शेरू ने देखा।", "The lion saw it.") == "The lion saw it."


async def test_a_rendition_that_stands_too_often_is_left_alone() -> None:
    """Which of two equal words is the term's cannot be told, so neither is exchanged."""
    ours = enforcement({"मुन्ना": "Boy."}, Term("मुन्ना", "munna"))
    assert await ours.apply("मुन्ना लड़का है।", "The boy is a boy.") == "The boy is a boy."
    assert await ours.apply("मुन्ना आया।", "The boy came.") == "The munna came."


async def test_a_name_does_not_take_the_place_of_a_word() -> None:
    """The rendition of a name is told from a word by its capital."""
    ours = enforcement({"विल": "Will."}, Term("विल", "Wil"))
    assert await ours.apply("विल जाएगा।", "Will will go.") == "Wil will go."
    assert await ours.apply("विल जाएगा।", "He will go.") == "He will go."


@pytest.mark.parametrize(
    ("text", "translation", "pair"),
    [
        ("{} is here.", "{} यहाँ है ।", ("eng_Latn", "hin_Deva")),
        ("{} यहाँ है।", "{} is here .", ("hin_Deva", "eng_Latn")),
        ("{} यहाँ है।", "{} இங்கே உள்ளது .", ("hin_Deva", "tam_Taml")),
    ],
)
def test_indictrans2_keeps_the_placeholder_by_its_own_means(
    text: str, translation: str, pair: tuple[str, str], checkpoint: Callable[[str], Path]
) -> None:
    """Its processor puts ID1 in brackets before the model, and the placeholder back after it."""
    directory = checkpoint("en-indic-tiny")
    card = registry.describe(str(directory), directory, lambda _: "sha256:0")
    text = text.format(card.placeholder.format(number=1))
    processor: Any = codecs.IndicTrans2Codec(card).encode([], *pair).state
    [processed] = processor.preprocess_batch([text], src_lang=pair[0], tgt_lang=pair[1])
    assert "ID1" in processed
    assert "#" not in processed
    [restored] = processor.postprocess_batch([translation.format("<ID1>")], lang=pair[1])
    assert restored.startswith("#t1 ")
