"""Scripts of languages and of texts, and text in another script than its language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.asr.test_asr import config, messages, segments, serving
from tests.serving.recordings import s16le, speech
from voxroute.asr.v1 import asr_pb2
from voxroute_serving.asr.engine import DecodingOptions, WindowSegment
from voxroute_serving.asr.text.doubt import Doubt, Thresholds, doubts
from voxroute_serving.audio.samples import Samples
from voxroute_serving.scripts import has_letters, script_share, scripts_of, share_letters
from voxroute_serving.testing.fake_engine import FakeEngine

LIMITS = Thresholds.of(DecodingOptions("hi"))
TALK = ((0.0, 2.0),)
SPOKEN = {
    "hi": "मीरा की चाबी मेज़ पर पड़ी है और दरवाज़ा खुला है",
    "ur": "میرا کی چابی میز پر پڑی ہے اور دروازہ کھلا ہے",
    "ru": "Ключ от двери лежит на столе у окна",  # noqa: RUF001 - Cyrillic is meant
    "el": "Το κλειδί είναι πάνω στο τραπέζι",  # noqa: RUF001 - Greek is meant
    "en": "The key is on the table near the window",
    "zh": "钥匙在窗户旁边的桌子上",
    "ja": "鍵は窓の近くのテーブルの上にあります",
    "ko": "열쇠는 창문 옆 탁자 위에 있습니다",
}


def doubted(language: str, *texts: str) -> list[bool]:
    """Which of the texts of a window are of another script than the language's."""
    found = doubts([WindowSegment(0.0, 2.0, text) for text in texts], TALK, LIMITS, language)
    return [Doubt.WRONG_SCRIPT in one for one in found]


def test_letters_are_told_by_their_script() -> None:
    """The share of a script counts letters only: no digits, marks or blanks."""
    assert script_share("नमस्ते, 12!", "Deva") == 1.0
    assert script_share("Hello", "Deva") == 0.0
    assert script_share("12 !?", "Deva") == 1.0
    assert script_share("你好", "Hans") == 1.0
    assert script_share("コーヒー", "Jpan") == 1.0
    assert script_share("ᱡᱚᱦᱟᱨ", "Olck") == 1.0
    assert script_share("ꯍꯥꯏ", "Mtei") == 1.0
    assert script_share("Hello", "Zyyy") == 1.0
    assert script_share("Да, yes", "Cyrl", "Latn") == 1.0
    assert has_letters("1. é")
    assert not has_letters("12 ♪ -!")
    assert share_letters("Hans", "Jpan")
    assert not share_letters("Deva", "Arab")


@pytest.mark.parametrize(
    ("language", "scripts"),
    [
        ("hi", {"Deva"}),
        ("ur", {"Arab"}),
        ("en-GB", {"Latn"}),
        ("sr", {"Cyrl", "Latn"}),
        ("sr-Latn", {"Latn"}),
        ("kk", {"Cyrl", "Latn", "Arab"}),
        ("uz", {"Latn", "Cyrl", "Arab"}),
        ("az", {"Latn", "Cyrl", "Arab"}),
        ("pa", {"Guru", "Arab"}),
        ("yue", {"Hant"}),
        ("not a tag", set[str]()),
    ],
)
def test_a_language_has_its_scripts(language: str, scripts: set[str]) -> None:
    """The likely one, those that it is written in besides, or the one that its tag names."""
    assert set(scripts_of(language)) == scripts


@pytest.mark.parametrize("language", SPOKEN)
@pytest.mark.parametrize("written", SPOKEN)
def test_a_sentence_in_letters_of_another_language_is_doubted(language: str, written: str) -> None:
    """Whatever the two are; those that share letters are told apart by nobody."""
    shared = {language, written} <= {"zh", "ja", "ko"} and written == "zh"
    assert doubted(language, SPOKEN[written]) == [language != written and not shared]


@pytest.mark.parametrize(
    ("language", "texts", "expected"),
    [
        ("hi", ["COVID-19"], [False]),
        ("hi", ["Facebook.", SPOKEN["hi"]], [False, False]),
        ("hi", ["Rajni,", "Sachiv Prof.", "baatchit me bataya ki sansthano se kaha"], [True] * 3),
        ("hi", ["उसने अपना iPhone 15 Pro Max NASA को बेच दिया।"], [False]),
        ("hi", ["", "...", "10, 20, 30", "♪ ♪"], [False] * 4),
        ("hi", ["نہیں۔", SPOKEN["hi"]], [True, False]),  # noqa: RUF001 - an Urdu full stop
        ("sr", ["Ključ je na stolu pored prozora", "Кључ је на столу поред прозора"], [False] * 2),  # noqa: RUF001 - likewise
        ("pa", ["میز تے چابی پئی اے تے بوہا کھلا اے"], [False]),
        ("ja", ["コーヒー", "OK"], [False, False]),
        ("en", ["ключ"], [True]),
        ("", [SPOKEN["ru"]], [False]),
    ],
)
def test_loan_words_names_and_digits_are_not_doubted(
    language: str, texts: list[str], expected: list[bool]
) -> None:
    """A text with no more than those goes with its window; a language may have several scripts."""
    assert doubted(language, *texts) == expected


@settings(deadline=None)  # the first one imports
@given(
    language=st.sampled_from(sorted(SPOKEN)),
    words=st.lists(st.sampled_from(["OK", "TV", "5G", "...", "2026", "♪"]), max_size=2),
    parts=st.integers(1, 4),
)
def test_a_word_or_two_of_latin_never_doubt_a_sentence(
    language: str, words: list[str], parts: int
) -> None:
    """Wherever they stand, and however its window is cut into segments."""
    spoken = SPOKEN[language].split()
    step = max(1, len(spoken) // parts)
    pieces = [" ".join(spoken[at : at + step]) for at in range(0, len(spoken), step)]
    assert not any(doubted(language, *words, *pieces, *words))


@pytest.mark.parametrize(
    ("task", "flagged"), [(asr_pb2.TASK_TRANSCRIBE, True), (asr_pb2.TASK_TRANSLATE, False)]
)
async def test_a_service_flags_text_in_another_script(
    task: asr_pb2.Task.ValueType,
    flagged: bool,  # noqa: FBT001 - a table
) -> None:
    """Hindi in Latin letters is sent with its flag and counted; a translation is in English."""

    def latin(_: Samples) -> tuple[WindowSegment, ...]:
        text = "Meera ki chaabi mez par padi hai aur darwaza khula hai"
        return (WindowSegment(0.0, 4.0, text, avg_log_prob=-0.1),)

    async with serving(FakeEngine(segments=latin)) as service:
        asked = config(language="hi", task=task, vad=asr_pb2.VadOptions())
        (found,) = segments(await service.transcribe(messages(s16le(speech(4.0)), asked)))
        counted = service.metrics.registry.get_sample_value(
            "voxroute_asr_flagged_segments_total", {"flag": "wrong_script"}
        )
    assert (asr_pb2.SEGMENT_FLAG_WRONG_SCRIPT in found.flags) is flagged
    assert counted == flagged
