"""Voice activity and windows: speech is found as faster-whisper finds it, and packed up to 30 s."""

import math
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from faster_whisper import vad
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.recordings import silence, speech, tone
from voxroute_serving.audio.samples import N_WINDOW_SAMPLES, SAMPLE_RATE, Samples
from voxroute_serving.audio.vad import N_FRAME_SAMPLES, SpeechProbabilities, SpeechSpans, VadOptions
from voxroute_serving.audio.windows import Window, WindowStream, voiced_stretches


def blocks(samples: Samples, size: int = 8_000) -> Iterator[Samples]:
    """The samples in blocks."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


DEFAULTS = VadOptions()
FRAME_S = N_FRAME_SAMPLES / SAMPLE_RATE


def cut(samples: Samples, options: VadOptions = DEFAULTS, size: int = 8_000) -> list[Window]:
    """The windows of a recording."""
    return list(WindowStream(blocks(samples, size), options, lambda: 0.0))


def talk(*seconds: float) -> Samples:
    """Speech and silence in turn, beginning with speech."""
    parts = [
        speech(length, seed=index) if index % 2 == 0 else silence(length)
        for index, length in enumerate(seconds)
    ]
    return np.concatenate(parts)


def spans(probabilities: Sequence[float], options: VadOptions, n_samples: int) -> list[Any]:
    """The stretches of speech, as faster-whisper writes them."""
    finder = SpeechSpans(options)
    found = [span for p in probabilities if (span := finder.push(p)) is not None]
    found += finder.finish(n_samples)
    return [{"start": span.start, "end": span.end} for span in found]


def theirs(samples: Samples, options: VadOptions) -> list[dict[str, int]]:
    """What faster-whisper finds in the whole recording."""
    return vad.get_speech_timestamps(
        samples,
        vad.VadOptions(
            threshold=options.threshold,
            min_silence_duration_ms=round(options.min_silence_s * 1000),
            speech_pad_ms=round(options.padding_s * 1000),
        ),
    )


@pytest.mark.parametrize("size", [160, 7_777, 8_000, 1_000_000])
def test_probabilities_of_blocks_are_those_of_the_whole(size: int) -> None:
    """Silero's state goes from block to block."""
    samples = talk(3.0, 1.0, 2.3)
    finder = SpeechProbabilities()
    ours = np.concatenate(
        [*(finder.push(block) for block in blocks(samples, size)), finder.finish()]
    )
    padding = N_FRAME_SAMPLES - len(samples) % N_FRAME_SAMPLES
    whole = vad.get_vad_model()(np.pad(samples, (0, padding))).reshape(-1)
    assert ours.shape == whole.shape
    assert np.abs(ours - whole).max() < 1e-4


@pytest.mark.parametrize("size", [7_777, 1_000_000])
@pytest.mark.parametrize("peak", [0, 1, 3])
def test_a_muted_microphone_makes_nobody_unheard(size: int, peak: int) -> None:
    """Speech behind a minute of zeros, or of dither, is heard from its first syllables on."""
    said = speech(2.0, seed=1)
    muted = np.random.default_rng(0).integers(-peak, peak + 1, 60 * SAMPLE_RATE) / 32768
    samples = np.concatenate([said, muted.astype(np.float32), said])
    finder = SpeechProbabilities()
    found = np.concatenate([finder.push(block) for block in blocks(samples, size)])
    n_frames = len(said) // N_FRAME_SAMPLES
    begin = len(said) + len(muted)
    behind = found[-(-begin // N_FRAME_SAMPLES) :][:n_frames] >= DEFAULTS.threshold
    assert behind.mean() > 0.8


@pytest.mark.parametrize(
    "options",
    [
        VadOptions(),
        VadOptions(threshold=0.8, min_silence_s=0.1, padding_s=0.0),
        VadOptions(min_silence_s=2.0, padding_s=0.4),
        VadOptions(min_silence_s=0.3, padding_s=1.0),
    ],
)
def test_speech_is_where_faster_whisper_finds_it(options: VadOptions) -> None:
    """The same stretches as get_speech_timestamps on the whole recording, to a frame."""
    samples = np.concatenate(
        [silence(1.1), talk(2.0, 0.7, 1.5, 3.0, 0.4, 0.2, 2.0, 6.0, 1.0), silence(0.3)]
    )
    finder = SpeechProbabilities()
    probabilities = np.concatenate([finder.push(samples), finder.finish()])
    ours, expected = spans(list(probabilities), options, len(samples)), theirs(samples, options)
    assert len(expected) >= 2
    assert len(ours) == len(expected)
    for our, their in zip(ours, expected, strict=True):
        assert abs(our["start"] - their["start"]) <= N_FRAME_SAMPLES
        assert abs(our["end"] - their["end"]) <= N_FRAME_SAMPLES


@settings(deadline=None, max_examples=200)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 0.4, 0.5, 1.0]), st.integers(1, 40)), min_size=1
    ),
    min_silence_s=st.sampled_from([0.0, 0.1, 0.5]),
    padding_s=st.sampled_from([0.0, 0.03, 0.2, 0.7]),
)
def test_any_probabilities_give_the_stretches_of_faster_whisper(
    runs: list[tuple[float, int]], min_silence_s: float, padding_s: float
) -> None:
    """The rule itself is Silero's, for whatever a model says."""
    probabilities = [p for value, n in runs for p in [value] * n]
    options = VadOptions(min_silence_s=min_silence_s, padding_s=padding_s)
    # one sample short of a frame: faster-whisper fills the last one up
    n_samples = len(probabilities) * N_FRAME_SAMPLES - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vad, "get_vad_model", lambda: lambda _: np.array(probabilities, np.float32))
        expected = theirs(np.zeros(n_samples, np.float32), options)
    expected = [span for span in expected if span["start"] < span["end"]]
    assert spans(probabilities, options, n_samples) == expected


def _scripted(patch: pytest.MonkeyPatch, probabilities: Sequence[float]) -> None:
    """Lets the detector say what the test says, in order."""
    script = iter(probabilities)

    def run(_: object, samples: Samples) -> Any:
        n_frames = len(samples) // N_FRAME_SAMPLES
        return np.array([next(script, 0.0) for _ in range(n_frames)], np.float32)

    patch.setattr(SpeechProbabilities, "_run", run)


@settings(deadline=None, max_examples=150)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), st.integers(1, 1500)),
        min_size=1,
        max_size=12,
    ),
    padding_s=st.sampled_from([0.0, 0.2, 1.0]),
    min_silence_s=st.sampled_from([0.0, 0.5, 2.0]),
    max_pause_s=st.sampled_from([3.0, math.inf]),
)
def test_windows_hold_all_speech_and_never_more_than_30_s(
    runs: list[tuple[float, int]], padding_s: float, min_silence_s: float, max_pause_s: float
) -> None:
    """For any speech: windows in order, apart, at most 30 s, and every speech frame in one."""
    probabilities = [p for value, n in runs for p in [value] * n]
    n_samples = len(probabilities) * N_FRAME_SAMPLES
    samples = np.arange(n_samples, dtype=np.float32)  # each sample tells where it was
    options = VadOptions(padding_s=padding_s, min_silence_s=min_silence_s, max_pause_s=max_pause_s)
    with pytest.MonkeyPatch.context() as patch:
        _scripted(patch, probabilities)
        found = cut(samples, options)
    position = 0
    covered = np.zeros(n_samples, bool)
    voiced: set[int] = set()
    for window in found:
        assert 0 < len(window.samples) <= N_WINDOW_SAMPLES
        places = window.samples.astype(int)
        assert places[0] >= position
        assert np.all(np.diff(places) >= 1)
        position = int(places[-1]) + 1
        covered[places] = True
        steps = [0, *(np.flatnonzero(np.diff(places) > 1) + 1), len(places)]
        assert [round(at_s * SAMPLE_RATE) for at_s, _ in window.skips] == steps[1:-1]
        for first, last in pairwise(steps):
            assert window.at(first / SAMPLE_RATE) == pytest.approx(places[first] / SAMPLE_RATE)
            ends_at = (places[last - 1] + 1) / SAMPLE_RATE
            assert window.until(last / SAMPLE_RATE) == pytest.approx(ends_at)
        ends = [0.0, *(time for stretch in window.speech for time in stretch)]
        assert ends == sorted(ends)
        assert ends[-1] <= window.duration_s + 1e-9
        voice = [time for stretch in window.voice for time in stretch]
        assert voice == sorted(voice)
        assert min(voice, default=0.0) >= 0
        assert max(voice, default=0.0) <= window.duration_s + 1e-9
        voiced |= {
            round(window.at(time + 1e-6) / FRAME_S)
            for start, end in window.voice
            for time in np.arange(start, end - FRAME_S / 2, FRAME_S)
        }
    for index, probability in enumerate(probabilities):
        if probability >= options.threshold:
            frame = covered[index * N_FRAME_SAMPLES : (index + 1) * N_FRAME_SAMPLES]
            assert frame.all(), f"frame {index} is in no window"
            assert voiced & {index - 1, index, index + 1}, f"frame {index} is in no voice"


def test_neighbouring_speech_shares_a_window_with_its_short_pauses() -> None:
    """Short utterances are packed; of a longer pause what is beside the speech is kept."""
    samples = talk(2.0, 0.6, 2.0, 2.0, 2.0)
    (window,) = cut(samples)
    assert len(window.speech) == 3
    ((skip_s, length_s),) = window.skips
    assert window.until(skip_s) == pytest.approx(4.6 + DEFAULTS.padding_s, abs=0.1)
    assert length_s == pytest.approx(2.0 - 2 * DEFAULTS.padding_s, abs=0.15)
    assert window.end_s == pytest.approx(window.start_s + window.duration_s + length_s)
    start, skip, skipped = (
        round(at_s * SAMPLE_RATE) for at_s in (window.start_s, skip_s, length_s)
    )
    assert np.array_equal(window.samples[:skip], samples[start : start + skip])
    rest = samples[start + skip + skipped :][: len(window.samples) - skip]
    assert np.array_equal(window.samples[skip:], rest)


def test_a_recording_fills_its_windows_across_any_pause() -> None:
    """Each window costs the encoder the same, however little is said in it."""
    samples = talk(4.0, 20.0, 4.0, 50.0, 4.0)
    (window,) = cut(samples, VadOptions(max_pause_s=math.inf))
    assert window.duration_s == pytest.approx(12.0, abs=1.2)
    onsets = [window.at(start) for start, _ in window.voice]
    assert onsets[0] == pytest.approx(0.0, abs=0.15)
    assert min(abs(one - 24.0) for one in onsets) < 0.15
    assert min(abs(one - 78.0) for one in onsets) < 0.5  # Silero is slow after so long a silence


def test_pauses_are_as_they_were_for_a_model_that_was_trained_so() -> None:
    """Up to three seconds; a longer one ends the window."""
    samples = talk(2.0, 0.6, 2.0, 2.0, 2.0, 6.0, 2.0)
    first, second = cut(samples, VadOptions(max_pause_s=math.inf, keeps_pauses=True))
    assert not first.skips
    assert first.duration_s == pytest.approx(8.6, abs=0.7)
    assert second.start_s == pytest.approx(14.6, abs=0.5)


def test_windows_are_cut_in_pauses() -> None:
    """Speech that does not fit any more begins the next window."""
    found = cut(talk(14.0, 1.0, 14.0, 1.0, 14.0))
    assert [len(window.speech) for window in found] == [2, 1]
    assert found[1].start_s == pytest.approx(30.0, abs=0.5)


def test_endless_speech_is_cut_where_it_is_least_likely() -> None:
    """Speech longer than 30 s is cut at its faintest moment, not at 30 s sharp."""
    with pytest.MonkeyPatch.context() as patch:
        probabilities = [1.0] * 2000
        probabilities[780:786] = [0.4] * 6  # 25 s
        _scripted(patch, probabilities)
        found = cut(silence(2000 * N_FRAME_SAMPLES / SAMPLE_RATE))
    assert found[0].duration_s == pytest.approx(783 * 0.032, abs=0.1)
    assert found[1].start_s == pytest.approx(found[0].duration_s)


def test_a_long_pause_closes_a_window_at_once() -> None:
    """Text of live speech is held back for `max_pause_s` at most, not until 30 s are full."""
    taken = Taken(talk(2.0, 10.0, 2.0))
    next(iter(WindowStream(taken, VadOptions(), lambda: 0.0)))
    assert taken.seconds < 2.0 + VadOptions().max_pause_s + 1.0


class Taken:
    """Blocks of a recording, and how much of them has been taken."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Samples]:
        for block in blocks(self._samples):
            self.seconds += len(block) / SAMPLE_RATE
            yield block


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.0] * 9, []),
        ([0.0, 0.4, 0.6, 0.4, 0.3], [(2, 4)]),
        ([0.4] * 9, []),
        ([0.6] + [0.0] * 5 + [0.6], [(0, 7)]),
        ([0.6] + [0.0] * 6 + [0.4, 0.6], [(0, 1), (8, 9)]),
    ],
)
def test_a_voice_begins_where_it_is_sure_and_fades_out(
    probabilities: list[float], expected: list[tuple[int, int]]
) -> None:
    """Pauses of 0.2 s part it, which is shorter than what parts stretches of speech."""
    found = voiced_stretches(np.array(probabilities, np.float32), 0.5)
    assert found == tuple((a * FRAME_S, b * FRAME_S) for a, b in expected)


def test_a_window_knows_where_a_voice_sounds_in_it() -> None:
    """Without the padding of its stretches of speech, down to pauses of 0.2 s."""
    first, second = cut(np.concatenate([silence(3.3), talk(2.0, 0.35, 2.0, 5.0, 3.0, 1.0)]))
    assert len(first.speech) == 1
    heard = np.ravel(first.voice) + first.start_s
    assert heard[[0, -1]] == pytest.approx([3.3, 7.65], abs=0.15)
    assert not any(start + first.start_s < 5.5 < end + first.start_s for start, end in first.voice)
    assert np.ravel(second.voice) + second.start_s == pytest.approx([12.65, 15.65], abs=0.15)
    assert first.speech[0][0] < first.voice[0][0]
    (deaf,) = cut(talk(2.0), VadOptions(disabled=True))
    assert deaf.voice == ()


def test_the_rest_of_a_window_keeps_the_recordings_clock() -> None:
    """Its samples, and what is left of speech and voice, from its own start on."""
    samples = np.arange(4 * SAMPLE_RATE, dtype=np.float32)
    window = Window(samples, 10.0, ((0.0, 1.0), (1.5, 4.0)), ((0.2, 0.9), (1.5, 2.5), (3.0, 3.9)))
    rest = window.part(2.0)
    assert np.array_equal(rest.samples, samples[2 * SAMPLE_RATE :])
    assert (rest.start_s, rest.end_s) == (12.0, window.end_s)
    assert rest.speech == ((0.0, 2.0),)
    assert np.ravel(rest.voice) == pytest.approx([0.0, 0.5, 1.0, 1.9])


def test_silence_has_no_windows() -> None:
    """Nor has a recording without a sample."""
    assert cut(silence(40.0)) == []
    assert cut(silence(0.0)) == []


def test_without_voice_activity_every_sample_is_in_a_window() -> None:
    """Contiguous windows, cut at the quietest moment of the last 5 s."""
    samples = np.concatenate([tone(27.0), silence(0.3), tone(40.0)])
    found = cut(samples, VadOptions(disabled=True))
    assert np.array_equal(np.concatenate([window.samples for window in found]), samples)
    assert found[0].duration_s == pytest.approx(27.15, abs=0.2)
    assert max(len(window.samples) for window in found) <= N_WINDOW_SAMPLES
    starts = np.cumsum([0, *(len(window.samples) for window in found[:-1])]) / SAMPLE_RATE
    assert [window.start_s for window in found] == pytest.approx(list(starts))


def test_the_media_time_of_the_audio_is_added() -> None:
    """A window's start is media time."""
    (window,) = WindowStream(blocks(talk(2.0)), VadOptions(), lambda: 100.0)
    assert window.start_s == pytest.approx(100.0, abs=0.3)


@pytest.mark.parametrize("disabled", [False, True])
def test_memory_does_not_grow_with_the_recording(disabled: bool) -> None:  # noqa: FBT001 - pytest's
    """Samples are dropped once no window needs them, in speech, in pauses and in silence."""
    minute = talk(25.0, 0.8, 20.0, 14.2)

    def peak(minutes: int) -> int:
        parts = (block for _ in range(minutes) for block in blocks(minute))
        tracemalloc.start()
        for _ in WindowStream(parts, VadOptions(disabled=disabled), lambda: 0.0):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    short = peak(2)
    assert peak(8) < short * 1.3 + 1_000_000
