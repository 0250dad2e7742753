"""Where utterances begin and end, by probabilities that a test gives."""

import itertools

import numpy as np
import pytest

from voxroute_serving.asr.live.hearing import Endpoint, EndReason, Hearing, News, Spoken
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import N_FRAME_SAMPLES, VadOptions

FRAME_S = N_FRAME_SAMPLES / SAMPLE_RATE
VAD = VadOptions(padding_s=0.3)
_PADDING = round(0.3 * SAMPLE_RATE)


class Ear:
    """A hearing whose samples count on, so that each tells its place."""

    def __init__(self, endpoint: Endpoint | None = None, vad: VadOptions = VAD) -> None:
        self.hearing = Hearing(vad, endpoint or Endpoint())
        self.news: list[News] = []
        self._n = 0

    def hears(self, *probabilities: float) -> list[News]:
        """One frame for each."""
        news: list[News] = []
        for one in probabilities:
            news += self.hearing.push(self._samples(N_FRAME_SAMPLES), np.array([one], np.float32))
        self.news += news
        return news

    def voice(self, seconds: float, probability: float = 0.9) -> list[News]:
        return self.hears(*[probability] * round(seconds / FRAME_S))

    def pause(self, seconds: float) -> list[News]:
        return self.voice(seconds, 0.0)

    def samples_only(self, n: int) -> None:
        """What completes no frame."""
        self.hearing.push(self._samples(n), np.zeros(0, np.float32))

    def ends(self, reason: EndReason) -> list[News]:
        news = self.hearing.end(reason)
        self.news += news
        return news

    @property
    def ended(self) -> list[Spoken]:
        return [one.spoken for one in self.news if one.ended]

    def _samples(self, n: int) -> Samples:
        self._n += n
        return np.arange(self._n - n, self._n, dtype=np.float32)


def test_one_frame_is_a_click_and_two_are_a_voice() -> None:
    """An utterance begins with the first of two frames, padding in front."""
    ear = Ear()
    ear.pause(1.0)
    assert not ear.hears(0.9, 0.1, 0.9, 0.1, 0.0)
    begin = ear.hearing.tape.end
    (news,) = ear.hears(0.9, 0.9)
    assert not news.ended
    assert news.spoken.start == begin - _PADDING
    assert news.spoken.number == 1
    assert news.spoken.speech == 2 * N_FRAME_SAMPLES


def test_padding_begins_neither_before_the_stream_nor_in_the_last_utterance() -> None:
    """What one utterance has, the next has not."""
    ear = Ear(Endpoint(silence_s=0.1))
    (first,) = ear.voice(0.5)
    assert first.spoken.start == 0
    ear.pause(0.2)
    (ended,) = ear.ended
    assert ended.end is not None
    (second,) = ear.voice(0.5)
    assert second.spoken.start == ended.end


@pytest.mark.parametrize("silence_s", [0.1, 0.6, 2.0])
def test_a_pause_ends_an_utterance(silence_s: float) -> None:
    """After so long, to the frame, which is its end; a shorter one does not."""
    ear = Ear(Endpoint(silence_s=silence_s))
    ear.voice(1.0)
    n_frames = int(np.ceil(silence_s * SAMPLE_RATE / N_FRAME_SAMPLES))
    assert not ear.hears(*[0.0] * (n_frames - 1))
    ear.voice(0.2)
    voice_end = ear.hearing.tape.end
    assert not ear.hears(*[0.0] * (n_frames - 1))
    (news,) = ear.hears(0.0)
    assert news.ended
    assert news.spoken.reason is EndReason.SILENCE
    assert news.spoken.voice_end == voice_end
    assert news.spoken.end == ear.hearing.tape.end
    assert ear.hearing.current is None


def test_a_voice_goes_on_a_little_below_the_threshold() -> None:
    """Silero's hysteresis: 0.4 begins nothing and ends nothing."""
    ear = Ear()
    assert not ear.voice(2.0, 0.4)
    ear.voice(0.1)
    assert not ear.voice(5.0, 0.4)
    assert ear.hearing.current is not None


def test_a_short_pause_is_quiet_until_the_voice_is_back() -> None:
    """From 200 ms on it is worth looking what was said."""
    ear = Ear()
    (news,) = ear.voice(1.0)
    ear.hears(*[0.0] * 6)  # 192 ms
    assert not news.spoken.is_quiet
    ear.hears(0.0)
    assert news.spoken.is_quiet
    ear.hears(0.9)
    assert not news.spoken.is_quiet
    assert news.spoken.end is None


def test_a_manual_utterance_ends_by_the_client_alone() -> None:
    """No pause ends it."""
    ear = Ear(Endpoint(manual=True))
    ear.voice(1.0)
    assert not ear.pause(20.0)
    (news,) = ear.ends(EndReason.CLIENT)
    assert news.spoken.reason is EndReason.CLIENT
    assert news.spoken.end == ear.hearing.tape.end
    assert not ear.ends(EndReason.FINISH)


def test_a_manual_utterance_is_cut_at_its_longest() -> None:
    """Else the window of a model would overflow; silence after it begins no other."""
    ear = Ear(Endpoint(manual=True))
    ear.voice(2.0)
    (news,) = ear.pause(40.0)
    assert news.spoken.reason is EndReason.LENGTH
    assert ear.hearing.current is None


def test_a_long_utterance_is_cut_at_its_least_likely_frame() -> None:
    """In its second half; the speech goes on in the next one, no sample lost or doubled."""
    ear = Ear(Endpoint(max_utterance_s=10.0))
    ear.voice(3.0)
    ear.hears(0.36)  # as likely, but in the first half
    ear.voice(4.0)
    dip = ear.hearing.tape.end
    ear.hears(0.36)
    ear.voice(1.0)
    ear.hears(0.4)
    news = ear.voice(3.0)
    assert [one.ended for one in news] == [True, False]
    first, second = news[0].spoken, news[1].spoken
    assert first.reason is EndReason.LENGTH
    assert first.end == second.start == dip + N_FRAME_SAMPLES // 2
    assert second.number == 2
    ear.pause(1.0)
    assert second.end is not None
    both = [ear.hearing.tape.take(one.start, one.end or 0) for one in (first, second)]
    assert np.array_equal(np.concatenate(both), np.arange(second.end, dtype=np.float32))


@pytest.mark.parametrize("probability", [0.3, 0.6])
def test_no_cut_comes_before_what_is_settled(probability: float) -> None:
    """At a pause after it, or else at its end, whatever pause there was in it."""
    ear = Ear(Endpoint(max_utterance_s=10.0))
    (begun,) = ear.voice(6.0)
    ear.hears(0.36)
    ear.voice(2.0)
    begun.spoken.settled = ear.hearing.tape.end
    ear.voice(0.5)
    dip = ear.hearing.tape.end
    ear.hears(probability)
    news = ear.voice(2.0)
    at_pause = probability < ear.hearing.negative
    assert news[0].spoken.end == (dip + N_FRAME_SAMPLES // 2 if at_pause else begun.spoken.settled)
    assert news[1].spoken.start == news[0].spoken.end


def test_a_cut_with_all_settled_is_at_the_end() -> None:
    """There is no frame left to choose from."""
    ear = Ear(Endpoint(max_utterance_s=5.0))
    (begun,) = ear.voice(4.9)
    begun.spoken.settled = ear.hearing.tape.end + 5 * N_FRAME_SAMPLES
    (news,) = ear.hears(*[0.9] * 4)
    assert news.ended
    assert news.spoken.end == news.spoken.voice_end >= 5.0 * SAMPLE_RATE


def test_what_goes_on_after_a_cut_knows_its_voice() -> None:
    """The speech since the cut is its own, and so is the pause that has begun."""
    ear = Ear(Endpoint(max_utterance_s=10.0))
    ear.voice(6.0)
    ear.hears(0.0)
    ear.voice(3.5)
    voice_end = ear.hearing.tape.end
    news = ear.voice(0.55, 0.1)
    assert [one.ended for one in news] == [True, False]
    first, second = news[0].spoken, news[1].spoken
    assert second.voice_end == voice_end
    assert second.speech == pytest.approx(3.5 * SAMPLE_RATE, abs=2 * N_FRAME_SAMPLES)
    assert first.speech + second.speech == pytest.approx(voice_end, abs=N_FRAME_SAMPLES)
    (ended,) = ear.voice(0.1, 0.1)
    assert ended.spoken is second
    assert ended.spoken.reason is EndReason.SILENCE


def test_utterances_of_endless_speech_follow_each_other_without_a_gap() -> None:
    """Minute after minute; none is longer than asked, and a voice is known in all of it."""
    rng = np.random.default_rng(1)
    ear = Ear(Endpoint(max_utterance_s=7.0))
    ear.hears(*rng.uniform(0.4, 1.0, 4000).tolist())
    ear.ends(EndReason.FINISH)
    spans = [(one.start, one.end or 0) for one in ear.ended]
    assert len(spans) > 15
    assert spans[0][0] <= 3 * N_FRAME_SAMPLES
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    assert all(end - start <= 7.1 * SAMPLE_RATE for start, end in spans)
    assert [one.number for one in ear.ended] == list(range(1, len(spans) + 1))
    speech = sum(one.speech for one in ear.ended)
    assert speech == pytest.approx(spans[-1][1] - spans[0][0], rel=0.01)


def test_ending_where_nobody_speaks_is_an_empty_utterance() -> None:
    """One answer for each time that the client asks; no other end makes one."""
    ear = Ear()
    ear.pause(1.0)
    for reason in (EndReason.FINISH, EndReason.DROPPED):
        assert not ear.ends(reason)
    for number in (1, 2):
        (news,) = ear.ends(EndReason.CLIENT)
        assert news.ended
        spoken = news.spoken
        assert spoken.number == number
        assert spoken.start == spoken.end == ear.hearing.tape.end
        assert spoken.reason is EndReason.CLIENT
        assert not spoken.voice


def test_what_is_dropped_is_in_no_later_utterance() -> None:
    """Neither as speech nor as padding, also amid a frame."""
    ear = Ear()
    ear.voice(1.0)
    ear.samples_only(100)
    (news,) = ear.ends(EndReason.DROPPED)
    assert news.spoken.reason is EndReason.DROPPED
    assert news.spoken.end == ear.hearing.tape.end
    (next_one,) = ear.voice(1.0)
    assert next_one.spoken.start == news.spoken.end
    assert next_one.spoken.number == 2


def test_dropping_before_a_voice_takes_the_padding() -> None:
    """What was heard since the last utterance is not wanted, though nobody spoke."""
    ear = Ear()
    ear.pause(2.0)
    assert not ear.ends(EndReason.DROPPED)
    here = ear.hearing.tape.end
    (news,) = ear.voice(0.5)
    assert news.spoken.start == here


def test_the_voice_of_an_utterance_is_told() -> None:
    """Stretches from its start on, pauses from 200 ms on left out."""
    ear = Ear()
    ear.pause(1.0)
    begin = ear.hearing.tape.end
    ear.voice(1.0)
    ear.pause(0.4)
    ear.voice(0.5)
    end = ear.hearing.tape.end
    ear.pause(1.0)
    (spoken,) = ear.ended
    (one, other) = spoken.voice
    assert one[0] == pytest.approx((begin - spoken.start) / SAMPLE_RATE)
    assert other[1] == pytest.approx((end - spoken.start) / SAMPLE_RATE)
    assert other[0] - one[1] == pytest.approx(0.4, abs=FRAME_S)


@pytest.mark.parametrize("hours", [1, 30])
def test_places_hold_after_hours(hours: int) -> None:
    """Utterances of a stream that has run for long are as exact as the first."""
    ear = Ear(Endpoint(max_utterance_s=10.0))
    n_frames = hours * 3600 * SAMPLE_RATE // N_FRAME_SAMPLES
    for _ in range(20):  # in large pieces, which are not kept
        n = n_frames // 20
        ear.hearing.push(np.zeros(n * N_FRAME_SAMPLES, np.float32), np.zeros(n, np.float32))
        ear.hearing.tape.drop_before(ear.hearing.tape.end)
    begin = ear.hearing.tape.end
    assert begin > 3500 * hours * SAMPLE_RATE
    ear.voice(7.0)
    dip = ear.hearing.tape.end
    ear.hears(0.36)
    ear.voice(4.0)
    ear.pause(1.0)
    first, second = ear.ended
    assert first.start == begin - _PADDING
    assert first.end == second.start == dip + N_FRAME_SAMPLES // 2
    assert first.voice[0][0] == pytest.approx(0.3)
    assert second.voice[-1][1] == pytest.approx((second.voice_end - second.start) / SAMPLE_RATE)
    assert len(ear.hearing.tape.take(second.start, second.end or 0)) == (
        (second.end or 0) - second.start
    )
