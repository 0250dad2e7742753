"""The text of one utterance: doubts, cuts, what is lost. Decodings are given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from tests.serving.asr.live.streams import Said, said
from voxroute_serving.asr.engine import DecodingOptions, WindowResult, WindowSegment, Word
from voxroute_serving.asr.live.agreement import text_of
from voxroute_serving.asr.live.hearing import EndReason, Spoken, Tape
from voxroute_serving.asr.live.utterance import Arrivals, Update, UtteranceText
from voxroute_serving.asr.metrics import AsrMetrics
from voxroute_serving.asr.recogniser import Untranscribed
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.device.batcher import Timed
from voxroute_serving.testing.marked_speech import heard

OPTIONS = DecodingOptions("en", beam_size=1, temperatures=(0.0, 0.2, 0.4, 0.6))


class Bench:
    """An utterance whose sound comes step by step, and the decodings that were asked for."""

    def __init__(
        self, decoded: Callable[[Samples, float], WindowResult] | None = None, start: int = 0
    ) -> None:
        self.tape = Tape()
        self.tape._samples.end = self.tape._samples._start = start  # what was before is dropped
        self.spoken = Spoken(1, start, start, settled=start)
        self.asked: list[tuple[float, float, float]] = []  # from, to, temperature
        self.metrics = AsrMetrics(CollectorRegistry())
        self.text = UtteranceText(
            self.spoken, self.tape, self._decode, self.metrics, Arrivals(), language="en"
        )
        self.told: list[Word] = []
        self._decoded = decoded or (lambda window, _: WindowResult(heard(window)))

    async def _decode(self, options: DecodingOptions, update: Update) -> Timed[WindowResult]:
        window = update.take()
        (temperature,) = options.temperatures
        places = update.origin / SAMPLE_RATE, update.end / SAMPLE_RATE
        self.asked.append((*places, temperature))
        return Timed(self._decoded(window, temperature), 0.0, 0.1)

    def hears(self, samples: Samples) -> None:
        self.tape.append(samples)
        self.spoken.voice_end = self.tape.end

    def ends(self, reason: EndReason = EndReason.SILENCE, at: int | None = None) -> None:
        spoken = self.spoken
        spoken.end, spoken.reason = at or self.tape.end, reason
        spoken.voice_end = min(spoken.voice_end, spoken.end)
        spoken.voice = ((0.0, (spoken.voice_end - spoken.start) / SAMPLE_RATE),)

    async def renews(self) -> list[Word]:
        new = await self.text.renew(OPTIONS)
        self.told += new
        return new

    def closes(self) -> list[str]:
        self.told += self.text.close()
        return text_of(self.told).split()


async def follow(bench: Bench, spoken: Said, step_s: float = 1.0) -> list[str]:
    """What is told of marked speech that is looked at again and again."""
    sound = spoken.sound
    step = round(step_s * SAMPLE_RATE)
    for begin in range(0, len(sound), step):
        bench.hears(sound[begin : begin + step])
        await bench.renews()
    bench.ends()
    return bench.closes()


@pytest.mark.parametrize("step_s", [0.3, 1.0, 3.7])
async def test_half_a_minute_is_whole(step_s: float) -> None:
    """27 s with sentences: nothing is lost, nothing comes twice, and no decoding is long."""
    spoken = said(27.0)
    bench = Bench()
    assert await follow(bench, spoken, step_s) == spoken.texts
    assert max(to_s - from_s for from_s, to_s, _ in bench.asked) < 16.0 + step_s
    cuts = {from_s for from_s, _, _ in bench.asked}
    assert len(cuts) >= 2
    # what a decoding cannot hold any more is not looked for
    assert len(bench.text._agreement.settled) < len(spoken.words) - 20
    ends_s = [word.end_s for word in spoken.words if word.text.endswith(".")]
    for cut_s in cuts - {0.0}:
        assert any(0 <= cut_s - end_s <= 0.5 for end_s in ends_s)


@pytest.mark.parametrize("step_s", [0.3, 1.0, 3.7])
async def test_half_a_minute_without_sentences_is_cut_between_words(step_s: float) -> None:
    """The same; each cut is between two words."""
    spoken = said(27.0, ends=False)
    assert not any(text.endswith(".") for text in spoken.texts)
    bench = Bench()
    assert await follow(bench, spoken, step_s) == spoken.texts
    cuts = {from_s for from_s, _, _ in bench.asked} - {0.0}
    assert cuts
    for cut_s in cuts:
        assert not any(word.start_s + 0.01 < cut_s < word.end_s - 0.01 for word in spoken.words)


async def test_the_end_settles_no_word_again_after_a_cut() -> None:
    """Where the last decoding was the one that led to a cut."""
    spoken = said(16.0)
    bench = Bench()
    sound = spoken.sound
    bench.hears(sound[: 14 * SAMPLE_RATE])
    await bench.renews()
    bench.hears(sound[14 * SAMPLE_RATE :])
    await bench.renews()
    bench.ends()
    assert bench.text.covers_all
    assert bench.closes() == spoken.texts


async def test_words_after_a_cut_of_the_utterance_are_of_the_next() -> None:
    """It was cut before what had been decoded: those words will be told there."""
    spoken = said(8.0)
    bench = Bench()
    bench.hears(spoken.sound)
    await bench.renews()
    n = 1 + sum(word.end_s <= bench.text.spoken.settled / SAMPLE_RATE for word in spoken.words)
    cut_s = (spoken.words[n - 1].end_s + spoken.words[n].start_s) / 2
    bench.ends(EndReason.LENGTH, round(cut_s * SAMPLE_RATE))
    assert bench.text.covers_all
    assert bench.closes() == spoken.texts[:n]


LOOP = " ".join(["and so on"] * 12)


def result(text: str, window: Samples, **figures: Any) -> WindowResult:
    """One segment with evenly spread words."""
    return WindowResult((WindowSegment(0.0, len(window) / SAMPLE_RATE, text, **figures),))


INVENTED = {"no_speech_prob": 0.9, "avg_log_prob": -0.9}


@pytest.mark.parametrize(("text", "figures"), [(LOOP, {}), (" Thank you for watching!", INVENTED)])
async def test_what_is_in_doubt_settles_nothing(text: str, figures: dict[str, float]) -> None:
    """It is decoded once more, warmer; and the agreement begins anew after it."""
    script = iter([" one two", text, " one two three", " one two three four"])
    now = ""

    def decoded(window: Samples, temperature: float) -> WindowResult:
        nonlocal now
        now = next(script) if temperature == 0.0 else now
        return result(now, window, **(figures if now == text else {}))

    bench = Bench(decoded)
    bench.hears(np.zeros(4 * SAMPLE_RATE, np.float32))
    assert await bench.renews() == []
    assert text_of(bench.text.tentative) == " one two"
    assert await bench.renews() == []
    assert [temperature for _, _, temperature in bench.asked] == [0.0, 0.0, 0.4]
    assert bench.text.is_doubtful
    assert not bench.text.tentative
    assert await bench.renews() == []  # none to agree with
    assert text_of(await bench.renews()) == " one two three"


async def test_a_loop_that_ends_when_decoded_warmer_is_text() -> None:
    """The second try counts as any decoding."""

    def decoded(window: Samples, temperature: float) -> WindowResult:
        return result(LOOP if temperature == 0.0 else " and so on", window)

    bench = Bench(decoded)
    bench.hears(np.zeros(4 * SAMPLE_RATE, np.float32))
    await bench.renews()
    assert not bench.text.is_doubtful
    bench.ends()
    assert bench.closes() == ["and", "so", "on"]


async def test_a_voice_without_text_is_told() -> None:
    """As doubtful where the last decoding was, else as without text; not of what was dropped."""
    for text, reason in ((LOOP, Untranscribed.DOUBTFUL), ("", Untranscribed.NO_TEXT)):
        bench = Bench(lambda window, _, text=text: result(text, window))
        bench.hears(np.zeros(4 * SAMPLE_RATE, np.float32))
        await bench.renews()
        bench.ends()
        assert bench.closes() == []
        _, lines, missing = bench.text.segments(OPTIONS)
        assert not lines
        assert missing == [(0.0, 4.0, reason)]
        bench.spoken.reason = EndReason.DROPPED
        assert not bench.text.segments(OPTIONS)[2]


async def test_a_voice_beside_text_is_told() -> None:
    """Two seconds after the last word."""
    spoken = said(2.0, first=9)
    bench = Bench()
    sound = spoken.sound
    bench.hears(np.concatenate([sound, np.zeros(2 * SAMPLE_RATE, np.float32)]))
    await bench.renews()
    bench.ends()
    assert bench.closes() == spoken.texts
    _, lines, ((from_s, to_s, reason),) = bench.text.segments(OPTIONS)
    assert " ".join(segment.text.strip() for segment, _ in lines).split() == spoken.texts
    assert from_s == pytest.approx(spoken.words[-1].end_s, abs=0.3)
    assert to_s == 4.0
    assert reason is Untranscribed.NO_TEXT


async def test_nothing_is_settled_after_a_drop() -> None:
    """Not even by a decoding that was under way."""
    spoken = said(4.0)
    bench = Bench()
    bench.hears(spoken.sound)
    told = await bench.renews()
    bench.ends(EndReason.DROPPED)
    assert await bench.renews() == []
    assert bench.closes() == text_of(told).split()


async def test_text_that_stops_for_want_of_room_goes_on() -> None:
    """A decoder writes so many tokens at most; what follows is decoded as a window of its own."""
    spoken = said(20.0)

    def decoded(window: Samples, temperature: float) -> WindowResult:
        del temperature
        segments = heard(window)
        if len(segments) < 3:
            return WindowResult(segments)
        return WindowResult(segments[:2], rest_from_s=segments[1].end_s + 0.05)

    bench = Bench(decoded)
    bench.hears(spoken.sound)
    bench.ends()
    await bench.renews()
    assert bench.closes() == spoken.texts
    assert len(bench.asked) == 3


async def test_times_count_on_from_the_start_of_the_stream() -> None:
    """Hours after it began."""
    spoken = said(20.0)
    bench = Bench(start=30 * 3600 * SAMPLE_RATE)
    assert await follow(bench, spoken) == spoken.texts
    for word, true in zip(bench.told, spoken.words, strict=True):
        assert word.start_s - 30 * 3600 == pytest.approx(true.start_s, abs=0.03)
    window, lines, _ = bench.text.segments(OPTIONS)
    assert window.start_s == 30 * 3600
    assert lines[0][0].start_s == pytest.approx(0.0, abs=0.2)


def test_arrivals_tell_how_long_sound_has_been_here() -> None:
    """None for what has not come."""
    arrivals = Arrivals()
    for end in range(0, 5 * SAMPLE_RATE, SAMPLE_RATE):
        arrivals.add(end)
    since = arrivals.since_s(3.5)
    assert since is not None
    assert 0 <= since < 1
    assert arrivals.since_s(4.5) is None
