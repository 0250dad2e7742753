"""Several channels to one: whoever speaks on one of them is heard."""

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import pytest

from tests.serving.recordings import Source, s16le, silence, speech, tone
from voxroute_serving.audio.decoders import ContainerDecoder, ContainerFormat
from voxroute_serving.audio.pcm import PcmDecoder, PcmFormat
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.errors import InvalidAudioError

SECONDS = 24.0
RNG = np.random.default_rng(5)
VOICE = np.concatenate([silence(1.0), speech(SECONDS - 1.0, 3)])
OTHER = np.concatenate([speech(9.0, 8), silence(SECONDS - 9.0)])


def noise(level: float) -> Samples:
    """The same noise all the time."""
    return (level * RNG.normal(0, 1, len(VOICE))).astype(np.float32)


def music() -> Samples:
    """Chords that change."""
    chords = [(262, 330, 392), (294, 370, 440), (247, 311, 370), (262, 349, 440)]
    bars = [sum(tone(1.5, hz) for hz in chords[n % 4]) / 3 for n in range(int(SECONDS / 1.5))]
    return np.concatenate(bars).astype(np.float32)[: len(VOICE)]


def file(channels: Sequence[Samples], layout: str, codec: str = "pcm_s16le") -> bytes:
    """A WAV file or a Matroska of it; its layout is what the container says of the channels."""
    made = io.BytesIO()
    with av.open(made, "w", format="wav" if codec == "pcm_s16le" else "matroska") as container:
        stream = cast("Any", container).add_stream(codec, rate=SAMPLE_RATE, layout=layout)
        size = stream.codec_context.frame_size or 4096
        packed = np.stack(channels, axis=1)
        for begin in range(0, len(packed), size):
            piece = np.ascontiguousarray((packed[begin : begin + size] * 32767).astype(np.int16))
            frame = av.AudioFrame.from_ndarray(
                cast("Any", piece.reshape(1, -1)), format="s16", layout=layout
            )
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.getvalue()


def decoded(data: bytes, channel: int | None = None) -> tuple[Samples, list[str]]:
    """The samples, and what was told."""
    decoder = ContainerDecoder(ContainerFormat(0, channel), Source(data), 3600.0)
    samples = np.concatenate(list(decoder))
    return samples, [f"{one.code}: {one.message}" for one in decoder.remarks]


def likeness(samples: Samples, voice: Samples = VOICE) -> float:
    """How much of what is heard is the voice: 1 for it alone."""
    n = min(len(samples), len(voice))
    a, b = samples[:n], voice[:n]
    return abs(float(a @ b)) / (float(np.linalg.norm(a) * np.linalg.norm(b)) + 1e-9)


QUIET = noise(0.0005)
MIXED = {
    "both channels": ([VOICE, VOICE], "stereo"),
    "the left one": ([VOICE, QUIET], "stereo"),
    "a person on each": ([VOICE / 2, OTHER / 2], "stereo"),
    "a wide mix": ([VOICE + 0.1 * noise(0.05), VOICE - 0.1 * noise(0.05)], "stereo"),
    "the middle of 5.1": ([0.2 * music(), 0.2 * music(), VOICE, QUIET, QUIET, QUIET], "5.1"),
    "one of ten": ([QUIET] * 6 + [VOICE] + [QUIET] * 3, "10C"),
    "silence": ([silence(SECONDS)] * 2, "stereo"),
    "music": ([music(), np.roll(music(), 37)], "stereo"),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_the_mix_keeps_is_mixed(name: str) -> None:
    """Nothing is chosen, and nothing said, where the mix has the voice."""
    channels, layout = MIXED[name]
    samples, told = decoded(file(channels, layout))
    assert not told
    assert len(samples) == len(VOICE)
    if name not in {"silence", "music", "a person on each"}:
        assert likeness(samples) > 0.8
    if name == "a person on each":
        assert likeness(samples, VOICE + OTHER) > 0.95


LOST = {
    "opposite phase": ([VOICE, -VOICE], "stereo"),
    "opposite phase, not quite": ([VOICE, -0.97 * VOICE + QUIET], "stereo"),
    "opposite phase under music": ([VOICE + 0.5 * music(), 0.5 * music() - VOICE], "stereo"),
    "opposite phase in noise": ([VOICE + noise(0.01), -VOICE + noise(0.01)], "stereo"),
    "the bass of 5.1": ([QUIET, QUIET, QUIET, VOICE, QUIET, QUIET], "5.1"),
    "one of six among loud noise": ([noise(0.2)] * 4 + [VOICE, noise(0.2)], "6C"),
    "one of ten among loud noise": ([noise(0.1) for _ in range(9)] + [VOICE], "10C"),
    "one of ten beside a time code": (
        [tone(SECONDS, 1900.0) for _ in range(8)] + [VOICE] * 2,
        "10C",
    ),
    "opposite pairs of six": ([VOICE, -VOICE, QUIET, QUIET, QUIET, QUIET], "6C"),
}


@pytest.mark.parametrize("begin_s", [12.0, 5.5, 21.0])
def test_a_sentence_of_opposite_phase_among_others_is_heard(begin_s: float) -> None:
    """Three seconds, less than a third of what is decided on at once, and across its border."""
    begin, end = (round(at_s * SAMPLE_RATE) for at_s in (begin_s, begin_s + 3.0))
    right = VOICE.copy()
    right[begin:end] *= -1
    samples, told = decoded(file([VOICE, right], "stereo"))
    assert len(samples) == len(VOICE)
    assert likeness(samples[begin:end], VOICE[begin:end]) > 0.95
    assert likeness(samples[:begin], VOICE[:begin]) > 0.95
    [sentence] = told
    # the last block of the recording is four seconds, and most of it is lost
    lost = "the mix of the channels loses the voice for"
    assert sentence.startswith((f"CHANNEL_CHOSEN: {lost} 3 s", f"CHANNEL_CHOSEN: {lost} 4 s"))


@pytest.mark.parametrize("name", LOST)
def test_where_the_mix_loses_the_voice_a_channel_is_taken(name: str) -> None:
    """The one with the most voice, or the difference of two; and it is said which."""
    samples, told = decoded(file(*LOST[name]))
    assert len(samples) == len(VOICE)
    assert likeness(samples) > 0.85
    assert [one for one in told if one.startswith("CHANNEL_CHOSEN") and "--channel" in one]


def test_a_voice_that_drowns_in_swelling_tones_is_found() -> None:
    """Five channels of what is no voice, and comes and goes a little as voices do."""
    swell = 0.3 * (1 + 0.3 * tone(SECONDS, 0.7))
    tones: list[Samples] = [
        (swell * tone(SECONDS, hz)).astype(np.float32) for hz in (300, 370, 440, 520, 620)
    ]
    voice: Samples = (0.2 * VOICE + QUIET).astype(np.float32)
    samples, told = decoded(file([*tones, voice], "5.1"))
    assert likeness(samples) > 0.5
    assert "channel 5 of 6" in told[0]


@pytest.mark.parametrize("codec", ["aac", "ac3", "libopus", "mp2"])
def test_lossy_codecs_keep_opposite_phases_apart(codec: str) -> None:
    """What is left of the voice in their mix is no voice."""
    channels = [np.repeat(one, 3) for one in (VOICE, -VOICE)]  # 48 kHz, as such codecs want
    made = io.BytesIO()
    with av.open(made, "w", format="matroska") as container:
        stream = cast("Any", container).add_stream(codec, rate=48_000, layout="stereo")
        size = 1024
        for begin in range(0, len(channels[0]) - size, size):
            planes = np.stack([one[begin : begin + size] for one in channels])
            frame = av.AudioFrame.from_ndarray(
                cast("Any", np.ascontiguousarray(planes)), format="fltp", layout="stereo"
            )
            frame.sample_rate, frame.pts, frame.time_base = 48_000, begin, Fraction(1, 48_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples, told = decoded(made.getvalue())
    assert float(np.abs(samples).max()) > 0.1
    assert any(one.startswith("CHANNEL_CHOSEN") for one in told)


def test_a_channel_that_changes_its_phase_is_followed() -> None:
    """What is taken is decided again every ten seconds, and told once, with how long."""
    half, before, after = len(VOICE) // 2, 9 * SAMPLE_RATE, 13 * SAMPLE_RATE
    right = np.concatenate([VOICE[:half], -VOICE[half:]])
    samples, told = decoded(file([VOICE, right], "stereo"))
    assert likeness(samples[:before], VOICE[:before]) > 0.95
    assert likeness(samples[after:], VOICE[after:]) > 0.9
    assert len(told) == 1


@pytest.mark.parametrize("by_db", [20, 30, 40])
def test_who_speaks_in_turn_and_much_fainter_is_told(by_db: int) -> None:
    """The mix has both, but a voice that is so much weaker than the other is easily not found."""
    half = len(VOICE) // 2
    loud, faint = VOICE.copy(), VOICE * np.float32(10 ** (-by_db / 20))
    loud[half:] = faint[:half] = 0
    noises: Samples = (QUIET / 10).astype(np.float32)
    _, [sentence] = decoded(file([loud + noises, faint + noises], "stereo"))
    assert sentence.startswith("CHANNEL_FAINT: channel 1 of 2 speaks alone for ")
    assert "--channel 1" in sentence


@pytest.mark.parametrize("level", [0.0, 0.01, 0.1])
def test_a_fainter_copy_of_the_same_voice_is_not_told(level: float) -> None:
    """Nothing is lost of what the other channel has, nor where one is silent."""
    assert not decoded(file([VOICE, level * VOICE + QUIET], "stereo"))[1]


def test_the_channel_that_is_asked_for_is_taken() -> None:
    """Counted from 0; one that is not there is refused with their number."""
    data = file([OTHER, VOICE], "stereo")
    assert likeness(decoded(data, 1)[0]) > 0.99
    assert likeness(decoded(data, 0)[0], OTHER) > 0.99
    with pytest.raises(InvalidAudioError, match="2 channels, counted from 0; there is no 2"):
        decoded(data, 2)


def test_raw_samples_are_mixed_as_those_of_files() -> None:
    """The same channels as raw samples give the same voice, and the same word about it."""
    stereo = s16le(np.stack([VOICE, -VOICE], axis=1).reshape(-1))
    decoder = PcmDecoder(PcmFormat(SAMPLE_RATE, 2), Source(stereo), 3600.0)
    samples = np.concatenate(list(decoder))
    assert likeness(samples) > 0.99
    assert [one.code for one in decoder.remarks] == ["CHANNEL_CHOSEN"]
    wanted = PcmDecoder(PcmFormat(SAMPLE_RATE, 2, channel=0), Source(stereo), 3600.0)
    assert likeness(np.concatenate(list(wanted))) > 0.99
    assert not wanted.remarks
