"""Raw samples as they come: chunks, laws of telephones, rates, channels."""

import io
import random
from collections.abc import Sequence

import numpy as np
import pytest

from tests.serving.recordings import chunks, law_bytes, s16le, silence, speech, tone
from voxroute_serving.audio.pcm import Law, LiveSamples, PcmDecoder, PcmFormat, expanded
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.testing.fake_engine import tone_hz


def pushed(pcm: PcmFormat, pieces: Sequence[bytes]) -> Samples:
    """All samples of a stream."""
    live = LiveSamples(pcm)
    return np.concatenate([live.push(piece) for piece in pieces])


def decoded(pcm: PcmFormat, data: bytes) -> Samples:
    """The same bytes as a recording."""
    return np.concatenate(list(PcmDecoder(pcm, io.BytesIO(data), 999.0)))


def interleaved(*channels: Samples) -> bytes:
    """Several channels' samples."""
    return s16le(np.stack(channels, axis=1).reshape(-1))


def cut_anywhere(data: bytes, seed: int = 0) -> list[bytes]:
    """Pieces of any size, odd ones and empty ones too."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    pieces: list[bytes] = []
    while data:
        n = rng.choice([0, 1, 2, 3, 5, 160, 321, 4_001])
        pieces.append(data[:n])
        data = data[n:]
    return pieces


# Of ITU-T G.711: the largest levels, the smallest, and silence
LEVELS: dict[Law, dict[int, int]] = {
    "mulaw": {0x00: -32124, 0x80: 32124, 0xFF: 0, 0x7F: 0, 0xFE: 8, 0x7E: -8},
    "alaw": {0x2A: -32256, 0xAA: 32256, 0xD5: 8, 0x55: -8, 0xD4: 24},
}


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_a_law_is_that_of_telephones(law: Law) -> None:
    """Known bytes have known samples; each byte has its own, but for the two zeros of the one."""
    levels = np.frombuffer(expanded(bytes(range(256)), law), "<i2")
    for byte, level in LEVELS[law].items():
        assert levels[byte] == level
    assert len(set(levels.tolist())) == (255 if law == "mulaw" else 256)
    assert np.array_equal(np.sort(levels), np.sort(-levels))


def test_samples_without_a_law_stay_as_they_are() -> None:
    """Not even copied."""
    data = s16le(tone(0.1))
    assert expanded(data, None) is data


@pytest.mark.parametrize("size", [1, 3, 640, 6_400])
def test_raw_samples_come_out_as_they_went_in(size: int) -> None:
    """At once: what a chunk completes is not held back, and nothing is changed."""
    data = s16le(speech(0.5))
    live = LiveSamples(PcmFormat())
    n_in = n_out = 0
    for piece in chunks(data, size):
        n_in += len(piece)
        n_out += len(live.push(piece))
        assert n_out == n_in // 2
    found = pushed(PcmFormat(), list(chunks(data, size)))
    assert np.array_equal(np.rint(found * 32768).astype("<i2"), np.frombuffer(data, "<i2"))


@pytest.mark.parametrize(
    ("rate", "channels", "law"),
    [
        (16_000, 1, None), (16_000, 2, None), (24_000, 1, None), (48_000, 2, None),
        (44_100, 1, None), (8_000, 1, None), (8_000, 1, "mulaw"), (8_000, 1, "alaw"),
    ],
)  # fmt: skip
def test_chunks_may_be_cut_anywhere(rate: int, channels: int, law: Law | None) -> None:
    """The samples are those of larger chunks, to the rounding of a resampler."""
    sound = tone(1.0, 700.0, rate)
    data = law_bytes(sound, law) if law else interleaved(*[sound] * channels)
    pcm = PcmFormat(rate, channels, law=law)
    whole, cut = pushed(pcm, [data]), pushed(pcm, cut_anywhere(data))
    n = min(len(whole), len(cut))
    assert n >= 0.98 * SAMPLE_RATE
    assert abs(len(whole) - len(cut)) <= 32
    assert np.abs(whole[:n] - cut[:n]).max() < 2e-3


@pytest.mark.parametrize(
    ("rate", "law"),
    [(8_000, "mulaw"), (8_000, "alaw"), (8_000, None), (24_000, None), (48_000, None)],
)
def test_a_tone_keeps_its_height_and_its_place(rate: int, law: Law | None) -> None:
    """A resampler keeps but a few milliseconds, and moves nothing."""
    sound = np.concatenate([tone(0.5, 500.0, rate), silence(0.5, rate), tone(0.5, 900.0, rate)])
    data = law_bytes(sound, law) if law else s16le(sound)
    pcm = PcmFormat(rate, law=law)
    live = LiveSamples(pcm)
    found: list[Samples] = []
    for i, piece in enumerate(chunks(data, rate // 50 * (1 if law else 2)), start=1):
        found.append(live.push(piece))
        late_s = i * 0.02 - sum(map(len, found)) / SAMPLE_RATE
        assert late_s <= 0.01
    samples = np.concatenate(found)
    assert tone_hz(samples[: SAMPLE_RATE // 2]) == 500
    assert tone_hz(samples[SAMPLE_RATE:]) == 900
    loud = np.flatnonzero(np.abs(samples[SAMPLE_RATE // 2 + 160 :]) > 0.05)
    assert (SAMPLE_RATE // 2 + 160 + loud[0]) / SAMPLE_RATE == pytest.approx(1.0, abs=0.005)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_a_telephones_recording_is_the_stream(law: Law) -> None:
    """The same bytes as a recording: the same sound."""
    data = law_bytes(tone(2.0, 440.0, 8_000), law)
    pcm = PcmFormat(8_000, law=law)
    recording, live = decoded(pcm, data), pushed(pcm, list(chunks(data, 160)))
    assert len(recording) == 2 * SAMPLE_RATE
    n = min(len(recording), len(live)) - 100
    assert n > 1.9 * SAMPLE_RATE
    assert np.abs(recording[:n] - live[:n]).max() < 0.02


def test_two_channels_are_their_mean() -> None:
    """A voice that is in both, or in one."""
    sound, quiet = tone(0.5), np.zeros(SAMPLE_RATE // 2, np.float32)
    stereo = PcmFormat(16_000, 2)
    assert np.allclose(pushed(stereo, [interleaved(sound, sound)]), sound, atol=1e-3)
    assert np.allclose(pushed(stereo, [interleaved(quiet, sound)]), sound / 2, atol=1e-3)


def test_opposite_phase_does_not_silence_a_voice() -> None:
    """Their mean is nothing; the louder channel is taken."""
    sound = speech(1.0)
    pieces = list(chunks(interleaved(sound, -0.9 * sound), 1_280))
    found = pushed(PcmFormat(16_000, 2), pieces)
    assert np.allclose(found, sound, atol=1e-3)


def test_the_channel_that_is_asked_for_is_taken() -> None:
    """Alone."""
    one, other = tone(0.5, 300.0), tone(0.5, 900.0)
    data = interleaved(one, other)
    for channel, hz in ((0, 300), (1, 900)):
        found = pushed(PcmFormat(16_000, 2, channel=channel), cut_anywhere(data))
        assert tone_hz(found) == hz


def test_an_offset_is_taken_off() -> None:
    """Samples that stand around half of full scale."""
    found = pushed(PcmFormat(), list(chunks(s16le(tone(3.0) + 0.5), 6_400)))
    assert abs(float(found[2 * SAMPLE_RATE :].mean())) < 0.02
    assert np.abs(found[2 * SAMPLE_RATE :]).max() < 0.4


def test_a_chunk_that_completes_no_sample_gives_none() -> None:
    """Neither an empty one nor half a frame."""
    live = LiveSamples(PcmFormat(16_000, 2))
    assert [len(live.push(piece)) for piece in (b"", b"a", b"bc", b"d", b"")] == [0, 0, 0, 1, 0]
