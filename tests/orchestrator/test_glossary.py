"""terms.csv, and what became of its terms."""

from pathlib import Path

import pytest

from tests.orchestrator.stand_in import Translation, serving
from voxroute.translate.v1 import translate_pb2
from voxroute_orchestrator import glossary
from voxroute_orchestrator.client import messages as convert
from voxroute_orchestrator.client.connection import CallPolicy, Endpoint, connect
from voxroute_orchestrator.client.items import ItemPool, TranslateItem
from voxroute_orchestrator.client.translate import TranslateClient, TranslateRequest
from voxroute_orchestrator.errors import UsageError, VoxrouteError
from voxroute_orchestrator.glossary import GlossaryTerm
from voxroute_orchestrator.transcript import (
    GlossaryUse,
    Note,
    TranslatedSegment,
)

RAM = GlossaryTerm("राम", "Ram")


def written(path: Path, text: str | bytes) -> Path:
    """The file with this content."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read_with_and_without_a_byte_order_mark(
    mark: bytes, end: str, tmp_path: Path
) -> None:
    """Spreadsheets write a mark, CRLF, blank lines and empty columns; none of it matters."""
    lines = ["Source,target,", "राम,Ram,", ",,", '"नई दिल्ली","New Delhi, India"', ""]
    path = written(tmp_path / "terms.csv", mark + end.join(lines).encode())
    assert glossary.read(path) == (RAM, GlossaryTerm("नई दिल्ली", "New Delhi, India"))


def test_the_optional_columns_stand_in_any_order(tmp_path: Path) -> None:
    """case_sensitive and do_not_translate take yes and no; what is left out is no."""
    path = written(
        tmp_path / "terms.csv",
        "do_not_translate,source,case_sensitive,target\nyes,iPhone\n,Will,TRUE,विल\nno,a  b ,0,c",
    )
    assert glossary.read(path) == (
        GlossaryTerm("iPhone", do_not_translate=True),
        GlossaryTerm("Will", "विल", case_sensitive=True),
        GlossaryTerm("a b", "c"),
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1 must name the columns"),
        ("राम,Ram\n", "line 1 must name the columns"),
        ("source;target\nराम;Ram\n", "with commas"),
        ("source,target,note\n", "line 1"),
        ("source,source,target\n", "line 1"),
        ("source,target\n\n", "has no terms"),
        ("source,target\nराम,Ram\nसीता,\n", 'line 3: "सीता" has no target'),
        ("source,target\n,Ram\n", "line 2 has no source"),
        ("source,target\nराम,Ram,Raam\n", "line 2 has 3 cells"),
        ("source,target\nराम,Ram\nसीता,Sita\nराम,Raam\n", 'line 4: "राम" stands in line 2'),
        ("source,target\nRam,x\nRAM,y\n", "line 3"),
        ("source,target,case_sensitive\nराम,Ram,perhaps\n", "line 2: case_sensitive is 'perhaps'"),
        ("source,target,do_not_translate\nराम,Ram,yes\n", "line 2"),
        (f"source,target\n{'a' * 201},b\n", "line 2: the source has 201"),
        ('source,target\n"राम,Ram\n', "check the quotes"),
        ("source,target\nराम,Ram\n".encode() + b"\xff\n", "line 3 is not UTF-8"),
        ("source,target\n" + "".join(f"t{n},x\n" for n in range(1001)), "1001 terms"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_by_its_line(
    content: str | bytes, words: str, tmp_path: Path
) -> None:
    """Every mistake is a UsageError with the file, the line and what to do."""
    path = written(tmp_path / "terms.csv", content)
    with pytest.raises(UsageError) as failed:
        glossary.read(path)
    assert words in str(failed.value)
    assert str(path) in str(failed.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A path that is wrong, or a folder, is a UsageError."""
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(UsageError):
            glossary.read(path)


def test_terms_go_to_both_services() -> None:
    """The translation service gets messages, the recogniser the words that are spoken."""
    terms = (RAM, GlossaryTerm("iPhone", do_not_translate=True), GlossaryTerm("राम", "R", True))
    assert glossary.to_messages(terms)[:2] == [
        translate_pb2.GlossaryTerm(source="राम", target="Ram"),
        translate_pb2.GlossaryTerm(source="iPhone", do_not_translate=True),
    ]
    assert glossary.hotwords(terms) == ("राम", "iPhone")


def test_a_result_names_its_terms() -> None:
    """Uses come back as terms of the glossary; a term that was never sent is a defect."""
    use = translate_pb2.GlossaryUse(term=1, applied=True)
    result = translate_pb2.TranslateResult(id="7", text="x", glossary=[use])
    segment = convert.translated(result, (RAM, GlossaryTerm("सीता", "Sita")))
    assert segment.glossary == (GlossaryUse(term="सीता", applied=True),)
    with pytest.raises(VoxrouteError, match="defect"):
        convert.translated(result, (RAM,))


def test_the_summary_names_what_was_missed_and_where() -> None:
    """How often terms were applied and missed, and each missed one with its segments."""

    def segment(number: int, **uses: bool) -> TranslatedSegment:
        used = tuple(GlossaryUse(term=term, applied=applied) for term, applied in uses.items())
        return TranslatedSegment(segment_id=number, text="x", status="OK", glossary=used)

    counted = glossary.tally([segment(0, a=True, b=False), segment(1), segment(4, a=True, b=False)])
    assert (counted.applied, counted.missed) == (2, {"b": (0, 4)})
    assert counted.lines("en", first_id=1) == [
        "  en: glossary terms applied 2 times, missed 2 times",
        '    missed "b" in 1, 5',
    ]
    assert glossary.tally([segment(1)]).lines("en") == []


@pytest.mark.parametrize("knows", [True, False])
async def test_terms_travel_with_the_call_and_an_old_service_is_told(knows: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A service that knows glossaries tells what it did; of one that does not, a note warns."""
    translation = Translation()
    translation.knows_glossaries = knows
    items = ItemPool()
    for entry in (
        TranslateItem(0, "राम Ram"),
        TranslateItem(1, "राम"),
        TranslateItem(2, "x"),
    ):
        items.put(entry)
    items.end()
    async with serving(translation=translation) as address:
        endpoint, policy = Endpoint("test service", address), CallPolicy()
        async with connect(endpoint, policy) as channel:
            request = TranslateRequest("hi", "en", items, glossary=(RAM,))
            client = TranslateClient(endpoint, channel, policy)
            told = [event async for event in client.translate(request)]
    results = [event for event in told if isinstance(event, TranslatedSegment)]
    notes = [event.code for event in told if isinstance(event, Note)]
    uses = [[(use.term, use.applied) for use in result.glossary] for result in results]
    if knows:
        assert uses == [[("राम", True)], [("राम", False)], []]
        assert not notes
    else:
        assert uses == [[], [], []]
        assert notes == ["GLOSSARY_IGNORED"]
