"""Terms: what a request may hold, and where they stand in a text."""

import time

import pytest

from voxroute_serving.errors import InvalidInputError
from voxroute_translate.glossary import Glossary, Term, WantedTexts, normal


def found(text: str, *terms: Term) -> list[str]:
    """What stands in the text for terms, in the order of the text."""
    mentions = Glossary(terms).mentions(normal(text))
    places = sorted((place.start, place.end) for each in mentions for place in each.places)
    return [normal(text)[start:end] for start, end in places]


def term(source: str, *, cased: bool = False) -> Term:
    """A term whose translation does not matter."""
    return Term(source, "x", case_sensitive=cased)


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("राम, रामू और राम।", "राम", ["राम", "राम"]),
        ("यह किताबें हैं, वह किताब है।", "किताब", ["किताब"]),
        ("लड़के ने लड़का देखा॥", "लड़का", ["लड़का"]),
        ("«दिल्ली»-मुंबई", "दिल्ली", ["दिल्ली"]),
        ("न्यूयॉर्क की\nसड़क", "न्यूयॉर्क  की सड़क", ["न्यूयॉर्क की सड़क"]),
        ("Will will go; WILL!", "will", ["Will", "will", "WILL"]),
        ("Ramdas and Ram's, Ram\u2019s, (Ram)", "Ram", ["Ram", "Ram", "Ram"]),
        ("don't, don", "don", ["don"]),
        ("C++ is no C", "C", ["C", "C"]),
        ("room 12, not 120", "12", ["12"]),
        ("STRASSE Straße", "straße", ["Straße"]),
        ("私は東京に行く", "東京", ["東京"]),
    ],
)
def test_terms_stand_where_their_words_stand_whole(
    text: str, source: str, expected: list[str]
) -> None:
    """A vowel sign, a letter or a digit at an end makes another word; marks and blanks do not."""
    assert found(text, term(source)) == expected


def test_the_ways_to_write_a_letter_are_one() -> None:
    """A nukta apart or in one, and joiners that only shape a letter, make no difference."""
    assert found("ज़रा \u0915\u094d\u200d\u092f\u093e", term("ज\u093cरा"), term("क्या")) == [
        "ज\u093cरा",
        "क्या",
    ]


def test_a_case_sensitive_term_is_not_its_other_case() -> None:
    """The name Will is not the verb; where both are terms, the name takes its own places."""
    assert found("Will he? He will, Will.", term("Will", cased=True)) == ["Will", "Will"]
    mentions = Glossary([Term("will", "करेगा"), Term("Will", "विल", case_sensitive=True)]).mentions(
        "Will will go"
    )
    assert [(each.term, each.places[0].start) for each in mentions] == [(0, 5), (1, 0)]


def test_of_terms_that_overlap_the_longest_stands() -> None:
    """The longest term takes its place, also from one that begins before it."""
    terms = [term("Delhi"), term("New Delhi"), term("Delhi Police Chief")]
    assert found("Old Delhi, New Delhi", *terms) == ["Delhi", "New Delhi"]
    assert found("the New Delhi Police Chief", *terms) == ["Delhi Police Chief"]


def test_applied_means_as_often_as_in_the_source() -> None:
    """A use is applied if the wanted words stand whole, as often as the term, in their spelling."""
    glossary = Glossary([Term("राम", "Raam"), Term("चाबी", "latchkey"), Term("सीता", "Sita")])
    assert glossary.uses("राम ने राम को चाबी दी।", "Raam gave Raam the latchkeys.") == [
        (0, True),
        (1, False),
    ]
    assert glossary.uses("चाबी और राम", "Latchkey and Ram") == [(0, False), (1, True)]
    assert glossary.uses("राम और राम", "Raam and he") == [(0, False)]
    assert glossary.uses("कुछ नहीं", "Raam") == []


def test_terms_that_want_the_same_words_are_counted_together() -> None:
    """One word of the translation does not serve two terms, nor a part of a longer one."""
    glossary = Glossary([Term("किताब", "book"), Term("पुस्तक", "book"), Term("दिल्ली", "Delhi"),
                         Term("नई दिल्ली", "New Delhi")])  # fmt: skip
    assert glossary.uses("किताब, पुस्तक", "a book") == [(0, False), (1, False)]
    assert glossary.uses("किताब, पुस्तक", "a book and a book") == [(0, True), (1, True)]
    assert glossary.uses("दिल्ली से नई दिल्ली", "to New Delhi") == [(2, False), (3, True)]


def test_a_term_that_is_not_translated_stays_as_it_is_written() -> None:
    """What is wanted is the source's own spelling, place by place."""
    glossary = Glossary([Term("nasa", do_not_translate=True)])
    assert glossary.uses("NASA and Nasa", "NASA और Nasa") == [(0, True)]
    assert glossary.uses("NASA and Nasa", "NASA और NASA") == [(0, False)]


def test_wanted_words_may_begin_a_sentence() -> None:
    """A capital in front does not make another word; one within does."""
    assert WantedTexts(["the Gate"]).count("The Gate, the Gate, The gate")["the Gate"] == 2


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ([Term("", "x")], "g[0].source"),
        ([Term("...", "x")], "g[0].source"),
        ([Term("a" * 201, "x")], "g[0].source"),
        ([Term("ok", "x"), Term("राम")], "g[1].target"),
        ([Term("a", "b" * 201)], "g[0].target"),
        ([Term("a", "b", do_not_translate=True)], "g[0].target"),
        ([Term("राम", "x"), Term("सीता", "y"), Term(" राम ", "z")], "g[2].source"),
        ([Term("Ram", "x"), Term("RAM", "x")], "g[1].source"),
        ([Term(f"t{number}", "x") for number in range(1001)], "g"),
    ],
)
def test_a_bad_term_is_named_by_its_path(terms: list[Term], field: str) -> None:
    """Limits, missing targets, contradictions and duplicates name the field that is wrong."""
    with pytest.raises(InvalidInputError) as failed:
        Glossary.checked(terms, "g")
    assert [violation.field for violation in failed.value.violations] == [field]


def test_two_rules_for_one_word_are_no_duplicates() -> None:
    """Will as a name, and every other case of it, may be two terms."""
    assert Glossary.checked([Term("Will", "विल", case_sensitive=True), Term("will", "करेगा")], "g")


def test_runs_of_equal_letters_take_no_time() -> None:
    """Terms are looked for where a word may begin; these were looked for in a million places."""
    glossary = Glossary([Term("a" * n, "x") for n in range(1, 201)])
    began = time.perf_counter()
    assert not glossary.mentions("a" * 5000)
    assert [len(each.places) for each in glossary.mentions("aa aaa aa")] == [2, 1]
    assert time.perf_counter() - began < 1.0  # 2.8 s before, on an idle machine; 2 ms now
