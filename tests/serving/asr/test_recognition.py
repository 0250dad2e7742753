"""The way of a window to its text: the ladder of temperatures, the rest, and what is kept."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest

from tests.serving.asr.test_asr import config, messages, segments, serving
from tests.serving.recordings import s16le, silence, speech, tone
from voxroute.asr.v1 import asr_pb2
from voxroute_serving.asr.engine import DecodingOptions, Feature, WindowResult, WindowSegment, Word
from voxroute_serving.asr.recogniser import Placed, Recognised, Recogniser, Untranscribed
from voxroute_serving.asr.text.doubt import Doubt
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import VadOptions
from voxroute_serving.audio.windows import Window
from voxroute_serving.device.batcher import Batcher, DeviceThread, Timed
from voxroute_serving.errors import EngineError
from voxroute_serving.testing.fake_engine import FakeEngine

TEMPERATURES = (0.0, 0.6, 1.0)
OPTIONS = DecodingOptions("en", temperatures=TEMPERATURES)
INVENTED = "Thanks for watching!"


def said(text: str, log_prob: float = -0.3, *, end_s: float = 2.0) -> WindowSegment:
    """A segment from the start of the window."""
    return WindowSegment(0.0, end_s, text, avg_log_prob=log_prob)


def lines_at(times: Sequence[tuple[float, float]], texts: Sequence[str]) -> WindowResult:
    """Texts, each in its time."""
    lines = zip(times, texts, strict=True)
    return WindowResult(tuple(WindowSegment(a, b, text, (), -0.1) for (a, b), text in lines))


def window(seconds: float = 3.0, voice: tuple[tuple[float, float], ...] = ()) -> Window:
    """A window full of speech, somewhere in a recording."""
    return Window(tone(seconds), 100.0, ((0.0, seconds),), voice)


@dataclass
class Script:
    """An engine that writes what the test says, and the recogniser over it."""

    writes: Callable[[float, Samples], WindowResult]
    """By temperature and samples."""
    tried: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Temperature and seconds of each decoding."""
    redecodes: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    async def transcribe(self, options: DecodingOptions, samples: Samples) -> Timed[WindowResult]:
        (temperature,) = options.temperatures
        self.tried.append((temperature, round(len(samples) / SAMPLE_RATE, 3)))
        return Timed(self.writes(temperature, samples), 0.5, 2.0 + temperature)

    async def __call__(self, one: Window | None = None, **fields: Any) -> Recognised:
        fields.setdefault("detect", None)
        recogniser = Recogniser(
            transcribe=self.transcribe,
            options_of=lambda language: replace(OPTIONS, language=language),
            vad=VadOptions(),
            on_redecode=lambda kept, seconds: self.redecodes.append((kept, seconds)),
            **fields,
        )
        return await recogniser(Placed(one or window(), "en"))


def by_temperature(*texts: WindowSegment) -> Script:
    """Writes the first text at the first temperature, and so on."""
    return Script(lambda t, _: WindowResult((texts[TEMPERATURES.index(t)],)))


def texts_of(found: Recognised) -> list[str]:
    """The texts of the segments that were kept."""
    return [segment.text for segment in found.judged.result.segments]


async def test_a_window_without_doubt_is_decoded_once() -> None:
    """At the first temperature alone, and nothing is counted."""
    script = by_temperature(said("Where is the key?"))
    found = await script()
    assert texts_of(found) == ["Where is the key?"]
    assert script.tried == [(0.0, 3.0)]
    assert script.redecodes == []
    assert found.judged.result.redecodes == 0
    assert (found.timed.queue_s, found.timed.inference_s) == (0.5, 2.0)


async def test_what_is_in_doubt_is_decoded_temperature_by_temperature_until_it_passes() -> None:
    """A loop or an invented text; the times of all decodings are told, and those of the later."""
    script = by_temperature(said("I know. " * 4), said("Where is the key?"), said("Never."))
    found = await script()
    assert texts_of(found) == ["Where is the key?"]
    assert [temperature for temperature, _ in script.tried] == [0.0, 0.6]
    assert script.redecodes == [("later", 2.6)]
    assert found.judged.result.redecodes == 1
    assert not found.judged.all
    assert (found.timed.queue_s, found.timed.inference_s) == (1.0, 4.6)


@pytest.mark.parametrize(
    ("last", "kept", "which"),
    [
        (said("Subtitles by Amara.org", -0.9), "Subtitles by Amara.org", "later"),
        (said(INVENTED, -2.0), INVENTED, "first"),
        (said("", -0.1), INVENTED, "first"),
    ],
)
async def test_where_no_temperature_helps_the_best_text_is_kept_with_its_doubts(
    last: WindowSegment, kept: str, which: str
) -> None:
    """Fewest doubts, then likeliest; text before none. Every temperature was tried once."""
    script = by_temperature(said(INVENTED, -0.95), said("I know. " * 4, -1.5), last)
    found = await script()
    assert texts_of(found) == [kept]
    assert [temperature for temperature, _ in script.tried] == list(TEMPERATURES)
    assert script.redecodes == [(which, pytest.approx(2.6 + 3.0))]
    assert found.judged.result.redecodes == 2
    assert Doubt.HALLUCINATION in found.judged.all


async def test_unlikely_text_is_decoded_again_only_where_the_request_names_the_threshold() -> None:
    """Drawing at random makes nothing likelier; who sets log_prob_threshold wants it tried."""
    texts = (said("Give it.", -1.4), said("Give it to me.", -0.4))
    script = by_temperature(*texts)
    assert (await script()).judged.all == {Doubt.LOW_CONFIDENCE}
    assert len(script.tried) == 1
    script = by_temperature(*texts)
    assert texts_of(await script(unsure_again=True)) == ["Give it to me."]
    assert len(script.tried) == 2


async def test_an_engine_that_ignores_temperatures_decodes_once() -> None:
    """What it would do at a higher one is what it has done already."""
    script = by_temperature(said(INVENTED, -0.9))
    found = await script(retries=False)
    assert Doubt.HALLUCINATION in found.judged.all
    assert len(script.tried) == 1


async def test_what_the_device_raises_ends_the_window() -> None:
    """A failure is no empty text, at whatever temperature."""

    def writes(temperature: float, _: Samples) -> WindowResult:
        if temperature:
            raise EngineError("the recogniser failed")
        return WindowResult((said(INVENTED, -0.9),))

    with pytest.raises(EngineError, match="the recogniser failed"):
        await Script(writes)()


async def test_windows_of_several_calls_that_fail_share_a_batch() -> None:
    """At each temperature those that failed before it, whosever they are; no other waits along."""
    device = DeviceThread()
    batches: list[tuple[float, int]] = []

    def run(
        key: Hashable, windows: Sequence[Samples], _: Callable[[], bool]
    ) -> Sequence[WindowResult]:
        (temperature,) = cast("DecodingOptions", key).temperatures
        batches.append((temperature, len(windows)))
        fine = [temperature or len(one) == SAMPLE_RATE for one in windows]
        return [WindowResult((said("Fine." if one else INVENTED, -0.9),)) for one in fine]

    # an idle device waits for what is missing, which always comes
    sizes = {0.0: 3, 0.6: 2}
    batcher: Batcher[Samples, WindowResult] = Batcher(
        device,
        run,
        lambda key: sizes[cast("DecodingOptions", key).temperatures[0]],
        linger_s=lambda _: 60.0,
    )

    async def call(number: int, seconds: float) -> list[str]:
        recogniser = Recogniser(
            transcribe=lambda options, samples: batcher.submit(options, samples, caller=number),
            detect=None,
            options_of=lambda language: replace(OPTIONS, language=language),
            vad=VadOptions(),
        )
        return texts_of(await recogniser(Placed(window(seconds), "en")))

    calls = [call(number, seconds) for number, seconds in enumerate((3.0, 1.0, 2.0))]
    assert await asyncio.wait_for(asyncio.gather(*calls), 30) == [["Fine."]] * 3
    assert batches == [(0.0, 3), (0.6, 2)]
    assert await device.close(5)


def full(
    covered_s: float, loops_in: float = 0.0, more: str = ""
) -> Callable[[float, Samples], WindowResult]:
    """An engine whose text is full after so many seconds; the first text of a length may loop."""

    def writes(temperature: float, samples: Samples) -> WindowResult:
        length_s = len(samples) / SAMPLE_RATE
        text = f"{length_s:g} s left{more}"
        if length_s == loops_in and not temperature:
            text = "I know. " * 4
        if length_s <= covered_s:
            return WindowResult((said(text, end_s=length_s),))
        return WindowResult((said(text, end_s=covered_s),), rest_from_s=covered_s)

    return writes


async def test_the_rest_of_a_window_is_a_window_of_its_own() -> None:
    """As often as its text is full; times are those of the whole window."""
    script = Script(full(10.0))
    found = await script(window(25.0))
    assert texts_of(found) == ["25 s left", "15 s left", "5 s left"]
    times = [(one.start_s, one.end_s) for one in found.judged.result.segments]
    assert times == [(0.0, 10.0), (10.0, 20.0), (20.0, 25.0)]
    assert script.tried == [(0.0, 25.0), (0.0, 15.0), (0.0, 5.0)]
    assert len(found.judged.doubts) == 3
    assert found.timed.inference_s == 6.0
    assert found.timed.result is found.judged.result


async def test_a_rest_in_doubt_is_decoded_again_alone() -> None:
    """What was fine before it is not; the window counts the decodings of all its parts."""
    script = Script(full(10.0, loops_in=15.0))
    found = await script(window(25.0))
    assert texts_of(found) == ["25 s left", "15 s left", "5 s left"]
    assert script.tried == [(0.0, 25.0), (0.0, 15.0), (0.6, 15.0), (0.0, 5.0)]
    assert script.redecodes == [("later", 2.6)]
    assert found.judged.result.redecodes == 1


async def test_text_that_stays_a_loop_has_no_rest() -> None:
    """It is full because it loops, and where it stops means nothing."""
    looped = WindowResult((said("I know. " * 4, end_s=10.0),), rest_from_s=10.0)
    script = Script(lambda _, __: looped)
    found = await script(window(25.0))
    assert [temperature for temperature, _ in script.tried] == list(TEMPERATURES)
    assert found.judged.repeats


async def test_text_that_is_full_at_once_has_no_rest() -> None:
    """Nobody says 224 tokens in two seconds; a window must come to its end."""
    script = Script(full(2.0))
    assert texts_of(await script(window(25.0))) == ["25 s left"]


async def test_times_are_held_against_the_voice_in_the_rest_too() -> None:
    """Segments on both sides of where the text was full do not overlap."""
    script = Script(full(10.0, more=" of all that the two of them say"))
    found = await script(window(25.0, voice=((0.3, 10.2), (12.0, 24.0))))
    times = [(one.start_s, one.end_s) for one in found.judged.result.segments]
    assert times[0] == (0.3, pytest.approx(10.0))
    assert times[-1][1] == pytest.approx(24.0)
    for (_, end_s), (start_s, _) in pairwise(times):
        assert end_s <= start_s + 1e-9


# --- in a service --------------------------------------------------------------------------------


def _by_temperature(engine: FakeEngine) -> None:
    """Lets an engine write a caption at temperature 0, and hear the tone above it."""

    def invented(samples: Samples) -> tuple[WindowSegment, ...]:
        (temperature,) = engine.batches[-1].options.temperatures
        text = "tone 440" if temperature else INVENTED
        return (said(text, -0.8, end_s=len(samples) / SAMPLE_RATE),)

    engine.segments = invented


def _ask(**fields: Any) -> asr_pb2.TranscribeConfig:
    return config(decoding=asr_pb2.DecodingOptions(temperatures=TEMPERATURES, **fields))


def _temperatures(engine: FakeEngine) -> list[float]:
    """Of each batch of the engine."""
    return [round(one, 1) for batch in engine.batches for one in batch.options.temperatures]


async def test_an_invented_text_is_decoded_once_more_and_counted() -> None:
    """The better text is sent; how often it was the later one, and what it cost, is measured."""
    engine = FakeEngine(delay_s=0.05)
    _by_temperature(engine)
    async with serving(engine) as service:
        replies = await service.transcribe(messages(s16le(tone(3.0)), _ask()))

        def value(name: str, **labels: str) -> float:
            return service.metrics.registry.get_sample_value(name, labels) or 0.0

        assert value("voxroute_redecodes_total", kept="later") == 1
        assert value("voxroute_redecodes_total", kept="first") == 0
        spent_s = value("voxroute_asr_redecode_seconds_total")
        assert 0.05 <= spent_s < value("voxroute_asr_inference_seconds_total")
    (segment,) = segments(replies)
    assert (segment.text, list(segment.flags)) == ("tone 440", [])
    assert _temperatures(engine) == [0.0, 0.6]


async def test_a_text_that_stays_doubtful_is_sent_with_its_flags() -> None:
    """After every temperature; the client decides what to do with it."""
    engine = FakeEngine(segments=lambda one: (said("Thanks!", -0.8, end_s=len(one) / SAMPLE_RATE),))
    async with serving(engine) as service:
        replies = await service.transcribe(messages(s16le(tone(3.0)), _ask()))
    (segment,) = segments(replies)
    assert list(segment.flags) == [asr_pb2.SEGMENT_FLAG_HALLUCINATION]
    assert _temperatures(engine) == [0.0, 0.6, 1.0]


async def test_a_threshold_in_the_request_lets_unlikely_text_be_decoded_again() -> None:
    """And one that the engine has of itself does not."""
    engine = FakeEngine(
        segments=lambda one: (said("Give it.", -1.4, end_s=len(one) / SAMPLE_RATE),)
    )
    async with serving(engine) as service:
        await service.transcribe(messages(s16le(tone(3.0)), _ask()))
        assert _temperatures(engine) == [0.0]
        engine.batches.clear()
        await service.transcribe(messages(s16le(tone(3.0)), _ask(log_prob_threshold=-1.0)))
        assert _temperatures(engine) == [0.0, 0.6, 1.0]


async def test_a_service_whose_engine_ignores_temperatures_decodes_once() -> None:
    """Its capabilities lack FEATURE_TEMPERATURE_FALLBACK."""
    engine = FakeEngine(features=frozenset(Feature) - {Feature.TEMPERATURE_FALLBACK})
    _by_temperature(engine)
    async with serving(engine) as service:
        (segment,) = segments(await service.transcribe(messages(s16le(tone(3.0)), _ask())))
    assert list(segment.flags) == [asr_pb2.SEGMENT_FLAG_HALLUCINATION]
    assert len(engine.batches) == 1


async def test_doubtful_windows_keep_their_place_among_the_others() -> None:
    """Segments leave in the order of the recording, however often one was decoded."""

    def some_invented(samples: Samples) -> tuple[WindowSegment, ...]:
        length_s = len(samples) / SAMPLE_RATE
        text = INVENTED if round(length_s) % 2 else f"{length_s:.0f} s"
        return (said(text, -0.8, end_s=length_s),)

    engine = FakeEngine(workers=3, segments=some_invented)
    parts = [part for _ in range(6) for part in (tone(27.0), silence(1.0))]
    async with serving(engine) as service:
        found = segments(await service.transcribe(messages(s16le(np.concatenate(parts)), _ask())))
    starts = [segment.start.ToMicroseconds() for segment in found]
    assert starts == sorted(starts)
    assert [segment.id for segment in found] == list(range(1, len(found) + 1))
    assert len(found) >= 5
    assert {0.0, 0.6, 1.0} == set(_temperatures(engine))


def _left_out(writes_again: WindowSegment | None) -> Script:
    """Writes the first two seconds of a long window, and what it is asked for of the rest."""

    def writes(_: float, samples: Samples) -> WindowResult:
        if len(samples) > 7 * SAMPLE_RATE:
            return WindowResult((said("Where is the key?"), replace(said("Here."), start_s=6.0)))
        return WindowResult((writes_again,) if writes_again else ())

    return Script(writes)


async def test_what_is_said_where_no_text_stands_is_decoded_on_its_own() -> None:
    """Its text comes in its place; all such stretches of a window are decoded at once."""
    script = _left_out(said("On the table."))
    found = await script(window(9.0, voice=((0.0, 2.0), (3.0, 5.0), (6.0, 9.0))))
    assert texts_of(found)[:2] == ["Where is the key?", "On the table."]
    assert found.judged.result.segments[1].start_s == pytest.approx(3.0, abs=0.01)
    assert {temperature for temperature, _ in script.tried} == {0.0}
    assert script.tried[0] == (0.0, 9.0)
    assert 2.4 < script.tried[1][1] < 7
    assert found.timed.inference_s == 2.0 * len(script.tried)


async def test_what_the_engine_says_of_such_a_stretch_is_told() -> None:
    """A warning of its own decoding stands beside those of the window."""

    def writes(_: float, samples: Samples) -> WindowResult:
        whole = len(samples) > 5 * SAMPLE_RATE
        text = said("Where is the key?") if whole else said("On the table.")
        return WindowResult((text,), (("WHOLE" if whole else "PART", "of the words"),))

    found = await Script(writes)(window(9.0, voice=((0.0, 2.0), (3.0, 5.0))))
    assert [code for code, _ in found.judged.result.warnings] == ["WHOLE", "PART"]


@pytest.mark.parametrize("again", [None, said(INVENTED, -0.95), said("Hm.", -3.0)])
async def test_text_in_doubt_does_not_fill_a_gap(again: WindowSegment | None) -> None:
    """What made the model leave it out is no reason to invent something."""
    found = await _left_out(again)(window(9.0, voice=((0.0, 2.0), (3.0, 5.0), (6.0, 9.0))))
    assert texts_of(found) == ["Where is the key?", "Here."]


async def test_stretches_that_stay_without_text_together_are_tried_alone() -> None:
    """What is said over and over is written once for all of it, and each time for each of it."""
    said_once = Script(lambda *_: WindowResult((said("Hello.", end_s=1.0),)))
    voice = tuple((2.0 * number, 2.0 * number + 1.0) for number in range(5))
    found = await said_once(window(10.0, voice=voice))
    starts = [segment.start_s for segment in found.judged.result.segments]
    assert starts == pytest.approx([start for start, _ in voice], abs=0.25)
    assert found.untranscribed == ()


async def test_what_has_no_text_is_tried_in_the_language_that_it_sounds_like() -> None:
    """Flagged where one language was asked for; in the likeliest where several are allowed."""

    async def detect(samples: Samples) -> dict[str, float]:
        spanish = len(samples) < 8 * SAMPLE_RATE
        return {"en": 0.02, "es": 0.98} if spanish else {"en": 0.9, "es": 0.1}

    class InTwo(Script):
        async def transcribe(
            self, options: DecodingOptions, samples: Samples
        ) -> Timed[WindowResult]:
            whole = len(samples) > 8 * SAMPLE_RATE
            text = (
                "The fox." if whole else {"en": "", "es": "El veloz zorro salta."}[options.language]
            )
            end_s = 2.0 if whole else len(samples) / SAMPLE_RATE
            return Timed(WindowResult((said(text, end_s=end_s),) if text else ()), 0.0, 0.0)

    voice = ((0.0, 2.0), (3.0, 9.0))
    for allowed, doubts in (((), {Doubt.LANGUAGE_SWITCH}), (("en", "es"), set[Doubt]())):
        script = InTwo(lambda *_: WindowResult(()))
        found = await script(window(10.0, voice=voice), detect=detect, allowed=allowed)
        english, spanish = found.judged.result.segments
        assert (english.text, english.language) == ("The fox.", "")
        assert (spanish.text, spanish.language) == ("El veloz zorro salta.", "es")
        assert found.judged.doubts[1] == doubts


async def test_a_sentence_left_out_for_one_that_begins_alike_is_decoded_alone() -> None:
    """Its few words lay spread over both; so is the next, whose beginning they were."""
    times = ((0.0, 2.5), (3.0, 5.5), (6.0, 8.5), (9.0, 11.5), (12.0, 14.5))
    whole = ["I have it here in the bag that I carry.", "Where did you look for it before?",
             "The child", "almost hurt the small dog.", "And where was that again?"]  # fmt: skip

    def writes(_: float, samples: Samples) -> WindowResult:
        if len(samples) > 5 * SAMPLE_RATE:
            lines = zip(times, whole, strict=True)
            return WindowResult(
                tuple(WindowSegment(a, b, text, (), -0.1) for (a, b), text in lines)
            )
        alone.append(len(samples) / SAMPLE_RATE)
        text = ("Sunday is the best part of the week.", "The child almost hurt the small dog.")
        return WindowResult((said(text[len(alone) - 1], end_s=2.7),))

    alone: list[float] = []
    found = await Script(writes)(window(15.0, voice=times))
    assert alone == pytest.approx([2.9, 2.9])
    assert texts_of(found) == [*whole[:2], "Sunday is the best part of the week.",
                               "The child almost hurt the small dog.", whole[4]]  # fmt: skip
    assert not found.judged.all
    assert found.untranscribed == ()


@pytest.mark.parametrize(
    ("alone", "kept"),
    [
        (
            {1.0: "Hola mundo.", 3.0: "One, two, three, four."},
            ["Hola mundo.", "One, two, three, four."],
        ),
        ({1.0: "", 3.0: "One, two, three, four."}, ["One, two, three, four."]),
        ({1.0: "One, two", 3.0: "three, four."}, ["One, two,", "three, four."]),
        ({1.0: "Hola.", 3.0: "four."}, ["One, two,", "three, four."]),
        ({1.0: "", 3.0: "three, four."}, ["One, two,", "three, four."]),
    ],
    ids=["another line", "a noise", "a pause in a sentence", "less", "nothing"],
)
async def test_words_that_a_long_pause_tears_from_their_sentence_are_decoded_alone(
    alone: dict[float, str], kept: list[str]
) -> None:
    """A model that skips a line spreads the next one over its time; people pause in one, too."""

    def writes(_: float, samples: Samples) -> WindowResult:
        length_s = len(samples) / SAMPLE_RATE
        if length_s > 4:
            return lines_at(((0.0, 1.0), (1.4, 4.4)), ("One, two,", "three, four."))
        text = alone[min(alone, key=lambda seconds: abs(seconds - length_s))]
        return WindowResult((said(text, end_s=length_s),) if text else ())

    torn = Window(tone(4.6), 100.0, ((0.0, 4.6),), ((0.0, 1.0), (1.4, 4.4)), ((1.2, 4.0),))
    found = await Script(writes)(torn)
    assert texts_of(found) == kept
    unheard = kept[0] == "One, two," and "two" not in alone[1.0]
    assert found.judged.all == ({Doubt.LOW_CONFIDENCE} if unheard else set())
    near = replace(torn, skips=((1.2, 0.3),))
    assert texts_of(await Script(writes)(near)) == ["One, two,", "three, four."]


@pytest.mark.parametrize(
    ("attended", "confidence", "decodings"),
    [
        (("One,", " two,"), 0.79, 3),
        (("One,", " two,"), 0.8, 1),
        (("One,", " two,"), None, 3),
        (("One, two,",), 0.9, 3),
    ],
)
async def test_likely_words_stay_where_a_long_pause_tears_them_from_their_sentence(
    attended: tuple[str, ...], confidence: float | None, decodings: int
) -> None:
    """What the model is sure of was said there, and people pause; an engine may not know.

    A first word alone may stand in the music before its sentence, however likely it is.
    """
    lengths: list[float] = []

    def writes(_: float, samples: Samples) -> WindowResult:
        lengths.append(len(samples) / SAMPLE_RATE)
        if lengths[-1] < 4:
            return WindowResult((said("four.", end_s=lengths[-1]),))
        lines = lines_at(((0.0, 1.0), (1.4, 4.4)), ("One, two,", "three, four."))
        words = tuple(Word(text, 0.0, 0.5, confidence) for text in attended)
        return replace(
            lines, segments=(replace(lines.segments[0], attended=words), *lines.segments[1:])
        )

    torn = Window(tone(4.6), 100.0, ((0.0, 4.6),), ((0.0, 1.0), (1.4, 4.4)), ((1.2, 4.0),))
    found = await Script(writes)(torn)
    assert texts_of(found) == ["One, two,", "three, four."]
    assert len(lengths) == decodings


async def test_text_that_stays_too_short_for_its_voice_is_kept_and_flagged() -> None:
    """Decoded alone it is no longer; a person may have drawn it out."""
    times = ((0.0, 2.5), (3.0, 5.5), (6.0, 8.5), (9.0, 14.0))
    lines = ("I have it in my bag here.", "Where did you look for it?", "And where was that?",
             "Alleluia.")  # fmt: skip

    def writes(_: float, samples: Samples) -> WindowResult:
        if len(samples) > 6 * SAMPLE_RATE:
            return lines_at(times, lines)
        return WindowResult((said("Alleluia.", end_s=5.2),))

    found = await Script(writes)(window(15.0, voice=times))
    assert texts_of(found) == [*lines]
    assert found.judged.doubts == (*[frozenset[Doubt]()] * 3, frozenset({Doubt.INCOMPLETE}))


async def test_a_row_of_full_stops_is_no_text() -> None:
    """A model that is stuck writes them over a voice, which then is decoded alone."""

    def writes(_: float, samples: Samples) -> WindowResult:
        if len(samples) > 8 * SAMPLE_RATE:
            stops = tuple(WindowSegment(3.0 + at, 4.0 + at, "।") for at in range(6))
            return WindowResult((said("Where is the key?"), *stops))
        return WindowResult((said("It is in my bag, as it always was.", end_s=6.0),))

    found = await Script(writes)(window(9.0, voice=((0.0, 2.0), (3.0, 9.0))))
    assert texts_of(found) == ["Where is the key?", "It is in my bag, as it always was."]
    assert found.untranscribed == ()


async def test_text_heard_alone_in_another_script_fills_a_gap_with_its_flag() -> None:
    """It is heard, if not written as it should be."""
    russian = "Ключ лежит на столе у самого окна"  # noqa: RUF001 - Cyrillic is meant
    found = await _left_out(said(russian))(window(9.0, voice=((0.0, 2.0), (3.0, 5.0), (6.0, 9.0))))
    at = texts_of(found).index(russian)
    assert found.judged.doubts[at] == {Doubt.WRONG_SCRIPT}


async def test_voice_that_stays_without_text_is_told_with_its_place_and_why() -> None:
    """The model wrote nothing for it, or something that is left out."""
    voice = ((0.0, 2.0), (3.0, 5.0), (6.0, 9.0))
    told = {
        again: (await _left_out(again)(window(9.0, voice=voice))).untranscribed
        for again in (None, said("Hm.", -3.0))
    }
    assert told[None][0] == (3.0, 5.0, Untranscribed.NO_TEXT)
    assert [(a, b) for a, b, _ in told[None]] == [(a, b) for a, b, _ in told[said("Hm.", -3.0)]]
    assert {why for _, _, why in told[said("Hm.", -3.0)]} == {Untranscribed.DOUBTFUL}
    found = await Script(lambda *_: WindowResult(()))(window(9.0, voice=((1.0, 1.3), (4.0, 8.0))))
    assert found.untranscribed == ((4.0, 8.0, Untranscribed.NO_TEXT),)


async def test_a_service_tells_speech_without_text_to_clients_and_operators() -> None:
    """In the stream after the segments of its window, in Done and as a metric."""
    engine = FakeEngine(segments=lambda _: ())
    async with serving(engine) as service:
        replies = await service.transcribe(
            messages(s16le(speech(6.0)), config(vad=asr_pb2.VadOptions()))
        )
        counted = service.metrics.registry.get_sample_value(
            "voxroute_asr_untranscribed_seconds_total"
        )
    found = [one.untranscribed for one in replies if one.HasField("untranscribed")]
    length_s = sum(one.end.ToNanoseconds() - one.start.ToNanoseconds() for one in found) / 1e9
    assert length_s > 4
    assert {one.reason for one in found} == {asr_pb2.UNTRANSCRIBED_REASON_NO_TEXT}
    stats = next(one.done.stats for one in replies if one.HasField("done"))
    assert stats.untranscribed_duration.ToNanoseconds() / 1e9 == pytest.approx(length_s)
    assert counted == pytest.approx(length_s)


async def test_what_people_say_over_and_over_stays() -> None:
    """It looks like a loop; the likelier text is kept where there was room for all of it."""
    chant = said("We want the key. " * 5, -0.05)
    script = by_temperature(chant, said("We want the quay. Weary.", -0.6), said("No.", -0.9))
    assert texts_of(await script()) == [chant.text]
    cut = Script(
        lambda t, _: WindowResult(
            (chant if t == 0 else said("We want it."),), cut_off=t == 0, rest_from_s=None
        )
    )
    assert texts_of(await cut()) == ["We want it."]
