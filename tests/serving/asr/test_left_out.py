"""What a model leaves out beside the text that it writes: each stretch of voice is looked at."""

import pytest

from tests.serving.asr.test_recognition import Script, lines_at, said, texts_of, window
from voxroute_serving.asr.engine import WindowResult
from voxroute_serving.asr.recogniser import Untranscribed
from voxroute_serving.asr.text.doubt import Doubt
from voxroute_serving.asr.text.segment_times import beside
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples

FIVE = tuple((2.0 * number, 2.0 * number + 1.0) for number in range(5))


async def test_what_is_said_more_often_than_it_is_written_is_decoded_alone() -> None:
    """Three times in a row looks like a loop; where it ends before the voice, the rest is said."""

    def writes(_: float, samples: Samples) -> WindowResult:
        if len(samples) < 2 * SAMPLE_RATE:
            return WindowResult((said("Hello world.", end_s=1.0),))
        return lines_at(FIVE[:3], ["Hello world."] * 3)

    found = await Script(writes)(window(10.0, voice=FIVE))
    assert texts_of(found) == ["Hello world."] * 5
    starts = [segment.start_s for segment in found.judged.result.segments]
    assert starts == pytest.approx([start for start, _ in FIVE], abs=0.25)
    flagged = [Doubt.REPETITION in doubts for doubts in found.judged.doubts]
    assert flagged == [True, True, True, False, False]
    assert found.untranscribed == ()


async def test_a_loop_that_fills_the_context_is_told_and_no_more() -> None:
    """Its times are chance: what it does not cover may be anywhere."""
    script = Script(
        lambda *_: WindowResult(
            lines_at(FIVE[:3], ["Hello world."] * 3).segments, rest_from_s=5.0, cut_off=True
        )
    )
    found = await script(window(10.0, voice=FIVE))
    assert {seconds for _, seconds in script.tried} == {10.0}
    assert found.untranscribed == tuple((*one, Untranscribed.NO_TEXT) for one in FIVE[3:])


async def test_what_stays_without_text_beside_what_is_found_is_decoded_alone() -> None:
    """Of four stretches that are decoded together three get text, as most do; so does the last."""

    def writes(_: float, samples: Samples) -> WindowResult:
        length_s = len(samples) / SAMPLE_RATE
        if length_s > 9:
            return lines_at(FIVE[:1], ["Where is it?"])
        if length_s < 2:
            return WindowResult((said("Under the bed.", end_s=1.0),))
        times = [(0.2 + 1.4 * number, 1.2 + 1.4 * number) for number in range(3)]
        return lines_at(times, ["In the house.", "By the window.", "On a table."])

    script = Script(writes)
    found = await script(window(10.0, voice=FIVE))
    lines = ["Where is it?", "In the house.", "By the window.", "On a table.", "Under the bed."]
    assert texts_of(found) == lines
    assert len(script.tried) == 3
    assert found.untranscribed == ()


@pytest.mark.parametrize(
    ("alone", "kept"),
    [
        ("El veloz zorro salta por la noche.", ["Hello.", "El veloz zorro salta por la noche."]),
        ("Uno.", ["Hello.", "One, two,"]),
        ("", ["Hello.", "One, two,"]),
    ],
    ids=["another line", "less", "nothing"],
)
@pytest.mark.parametrize("at_s", [3.0, 5.0], ids=["before", "after"])
async def test_text_that_ends_amid_a_voice_is_decoded_with_all_of_it(
    at_s: float, alone: str, kept: list[str]
) -> None:
    """The words of the next line may lie there, however sure the model is of them."""
    voice = ((0.0, 2.0), (3.0, 6.0))

    def writes(_: float, samples: Samples) -> WindowResult:
        length_s = len(samples) / SAMPLE_RATE
        if length_s > 6:
            return lines_at(((0.0, 2.0), (at_s, at_s + 1)), ["Hello.", "One, two,"])
        if length_s == pytest.approx(3.4):  # all of the voice, and what is around it
            return WindowResult((said(alone, end_s=3.4),) if alone else ())
        return WindowResult(())

    found = await Script(writes)(window(7.0, voice=voice))
    assert texts_of(found) == kept
    told = sum(end_s - start_s for start_s, end_s, _ in found.untranscribed)
    assert told == pytest.approx(0.0 if kept[1] == alone else 1.8, abs=0.01)


async def test_a_voice_between_two_words_of_a_sentence_is_decoded_with_both() -> None:
    """Text at both ends of a voice and none amid it: all of it is one line."""

    def writes(_: float, samples: Samples) -> WindowResult:
        length_s = len(samples) / SAMPLE_RATE
        if length_s > 6:
            return lines_at(((0.0, 0.5), (3.0, 3.5), (5.0, 6.5)), ["Hello.", "One,", "two."])
        if length_s == pytest.approx(3.9):
            return WindowResult((said("El veloz zorro salta.", end_s=3.9),))
        return WindowResult(())

    found = await Script(writes)(window(7.0, voice=((0.0, 0.5), (3.0, 6.5))))
    assert texts_of(found) == ["Hello.", "El veloz zorro salta."]
    assert found.untranscribed == ()


def test_a_segment_is_beside_voice_that_goes_on_where_it_ends_or_before_it_begins() -> None:
    """Not across a pause."""
    segments = lines_at(((0.0, 1.0), (3.0, 4.0), (4.6, 5.0)), ["a", "b", "c"]).segments
    assert beside(segments, (1.2, 2.8)) == [0, 1]
    assert beside(segments, (1.4, 2.8)) == [1]
    assert beside(segments, (5.2, 7.0)) == [2]
    assert beside(segments, (5.5, 7.0)) == []
