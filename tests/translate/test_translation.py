"""Items and doubtful sentences, with a model whose every answer is known."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from voxroute_serving.device.batcher import Batcher, DeviceThread
from voxroute_serving.domain import DeviceInfo
from voxroute_translate import engine, languages
from voxroute_translate.engine import Decoding, Encoded, TranslationModel
from voxroute_translate.registry import ModelCard
from voxroute_translate.translation import Status, Translation

HINDI, ENGLISH = languages.parse("hi"), languages.parse("en")
QUESTION, LOOP = "तुम कहाँ जा रहे हो?", "where " * 12


class WholeTexts:
    """A codec whose every token is a whole text."""

    max_input_tokens = 512
    target_eos = "</s>"

    def count(self, sentence: str, source: str, target: str) -> int:
        """The text and its end mark."""
        del sentence, source, target
        return 2

    def encode(self, sentences: Sequence[str], source: str, target: str) -> Encoded:
        """Each text with its end mark."""
        del source, target
        return Encoded([[sentence, "</s>"] for sentence in sentences])

    def prefix(self, target: str) -> list[str]:
        """None."""
        del target
        return []

    def decode(self, tokens: Sequence[Sequence[str]], target: str, state: object) -> list[str]:
        """The texts."""
        del target, state
        return ["".join(each) for each in tokens]

    def source_ids(self, tokens: Sequence[str]) -> list[int]:
        """Not used by the runtime here."""
        return [0 for _ in tokens]

    target_ids = source_ids

    def target_tokens(self, ids: Sequence[int]) -> list[str]:
        """Not used by the runtime here."""
        return ["" for _ in ids]


class KnownAnswers:
    """A runtime with two answers for each text: of the first try and of the second."""

    engine = "known"
    workers = 1
    memory_bytes = 0
    device = DeviceInfo(kind="cpu", name="cpu", compute_type="float32")

    def __init__(self, answers: Mapping[str, tuple[str, str]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Decoding]] = []

    def generate(
        self, sources: Sequence[Sequence[str]], prefix: Sequence[str], decoding: Decoding
    ) -> list[tuple[list[str], bool]]:
        """The answer for the try that the decoding tells."""
        del prefix
        self.asked += [(source[0], decoding) for source in sources]
        again = int(decoding.no_repeat_ngram_size > 0)
        return [([self.answers[source[0]][again]], True) for source in sources]

    def close(self) -> None:
        """Nothing to free."""


@pytest_asyncio.fixture
async def device() -> AsyncGenerator[DeviceThread]:
    """A device thread."""
    thread = DeviceThread()
    yield thread
    assert await thread.close()


async def translated(
    device: DeviceThread, directory: Path, text: str, first: str, second: str
) -> tuple[str, Status, str, list[Decoding]]:
    """The result's text, status and detail, and how the model was asked."""
    card = ModelCard(
        "known", directory, "nllb", "sha256:0", "", {HINDI: "hin_Deva"}, {ENGLISH: "eng_Latn"}
    )
    runtime = KnownAnswers({text: (first, second)})
    model = TranslationModel(card, WholeTexts(), runtime, 4)
    batcher = Batcher(device=device, run_batch=engine.run_batch, max_batch=lambda _: 4)
    translation = Translation(model, HINDI, ENGLISH, Decoding(4), batcher, 5000)
    result = await asyncio.wait_for(translation.item(text), 60)
    return result.text, result.status, result.detail, [decoding for _, decoding in runtime.asked]


@pytest.mark.parametrize(
    ("first", "second", "kept", "status", "detail"),
    [
        ("Where are you going?", "never asked", "first", Status.OK, ""),
        (LOOP, "Where are you going?", "second", Status.OK, ""),
        (QUESTION, LOOP, "second", Status.SUSPECT, "repeats itself; of two tries the second"),
        (LOOP, QUESTION, "first", Status.SUSPECT, "repeats itself; of two tries the first"),
        (LOOP, "why " * 12, "first", Status.SUSPECT, "of two tries the first is kept"),
        ("", "Where?", "second", Status.OK, ""),
        ("", "", "first", Status.FAILED, "no text, twice"),
    ],
)
async def test_a_doubtful_sentence_is_tried_once_more_and_the_better_one_kept(  # noqa: PLR0917 - what goes in and what comes out
    first: str,
    second: str,
    kept: str,
    status: Status,
    detail: str,
    device: DeviceThread,
    tmp_path: Path,
) -> None:
    """The status is that of the one that is kept; the detail says why, and that there were two."""
    text, became, why, asked = await translated(device, tmp_path, QUESTION, first, second)
    assert text == (second if kept == "second" else first).strip()
    assert became is status
    assert detail in why
    assert bool(why) == bool(detail)
    if first == "Where are you going?":
        assert len(asked) == 1
    else:
        assert [decoding.no_repeat_ngram_size for decoding in asked] == [0, 3]
        assert asked[1].beam_size > asked[0].beam_size


async def test_words_of_the_source_are_never_silently_left(
    device: DeviceThread, tmp_path: Path
) -> None:
    """A text of another script that came through untranslated is SUSPECT, even a single word."""
    half = "Open the दरवाज़ा for my brother."
    source = "मेरे भाई के लिए दरवाज़ा खोलो।"
    text, became, why, _ = await translated(device, tmp_path, source, half, half)
    assert (text, became) == (half, Status.SUSPECT)
    assert "दरवाज़ा" in why
