"""Live streams in other formats than raw 16 kHz samples, and in several languages."""

import itertools
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from scipy.signal import resample_poly

from tests.serving.asr.live.streams import (
    Replies,
    Said,
    check_utterances,
    check_whole,
    committed,
    config,
    kinds,
    messages,
    of,
    pcm,
    said,
    seconds,
    serving,
)
from tests.serving.recordings import law_bytes, s16le, silence, speech
from voxroute.asr.v1 import asr_pb2
from voxroute_serving.asr.engine import Feature
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.testing.fake_engine import FakeEngine, FakeModel
from voxroute_serving.testing.marked_speech import heard

SOUND = np.concatenate([silence(1.0), speech(3.0), silence(1.5), speech(2.0, 1), silence(1.0)])


def at_rate(rate: int) -> Samples:
    """The sound, resampled."""
    return resample_poly(SOUND, rate, SAMPLE_RATE).astype(np.float32).clip(-1, 1)


def interleaved(*channels: Samples) -> bytes:
    """Several channels' samples."""
    return s16le(np.stack(channels, axis=1).reshape(-1))


def g711(law: "asr_pb2.G711Law") -> asr_pb2.AudioFormat:
    """A telephone's samples."""
    return asr_pb2.AudioFormat(g711=asr_pb2.G711Format(law=law))


STEREO = pcm(16_000, 2)
RIGHT = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=16_000, channels=2), channel=1)
FORMATS: dict[str, tuple[asr_pb2.AudioFormat, bytes, int]] = {
    "mu law": (g711(asr_pb2.G711_LAW_MU), law_bytes(at_rate(8_000), "mulaw"), 8_000),
    "A law": (g711(asr_pb2.G711_LAW_A), law_bytes(at_rate(8_000), "alaw"), 8_000),
    "8 kHz": (pcm(8_000), s16le(at_rate(8_000)), 16_000),
    "24 kHz": (pcm(24_000), s16le(at_rate(24_000)), 48_000),
    "48 kHz": (pcm(48_000), s16le(at_rate(48_000)), 96_000),
    "two channels": (STEREO, interleaved(SOUND, SOUND), 64_000),
    "opposite phase": (STEREO, interleaved(SOUND, -0.95 * SOUND), 64_000),
    "one of two": (RIGHT, interleaved(np.zeros_like(SOUND), SOUND), 64_000),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_speech_is_heard_in_any_format(name: str) -> None:
    """Two utterances in their times, whatever the samples are."""
    audio, data, bytes_a_second = FORMATS[name]
    async with serving(FakeEngine()) as service:
        replies = await service.live(messages(data, config(audio=audio), size=bytes_a_second // 25))
    assert kinds(replies)[0] == "accepted"
    assert of(replies, "accepted")[0].config.audio.WhichOneof("encoding") == audio.WhichOneof(
        "encoding"
    )
    starts = [seconds(one.at) for one in of(replies, "speech_started")]
    stops = [seconds(one.at) for one in of(replies, "speech_stopped")]
    assert starts == pytest.approx([0.7, 5.2], abs=0.32)
    assert stops == pytest.approx([4.0, 7.5], abs=0.35)
    assert set(committed(replies)) >= {"tone"}
    assert all(one.segments for one in of(replies, "utterance"))
    (done,) = of(replies, "done")
    assert seconds(done.stats.audio_duration) == pytest.approx(8.5, abs=0.01)
    check_utterances(replies)


@pytest.mark.parametrize("name", ["mu law", "A law"])
async def test_a_telephones_recording_is_transcribed(name: str) -> None:
    """As the same sound in raw samples is."""
    formats = [FORMATS[name], FORMATS["8 kHz"]]
    async with serving(FakeEngine()) as service:
        texts: list[list[tuple[str, float]]] = []
        for audio, data, _ in formats:
            recording = asr_pb2.TranscribeConfig(language="hi", audio=audio)
            replies = await service.transcribed(recording, data)
            segments = [reply.segment for reply in replies if reply.HasField("segment")]
            texts.append([(s.text, seconds(s.start)) for s in segments])
            assert seconds(replies[-1].done.stats.audio_duration) == pytest.approx(8.5)
    one, other = texts
    assert len(one) == len(other) >= 2
    for (_, at_s), (_, other_s) in zip(one, other, strict=True):
        assert at_s == pytest.approx(other_s, abs=0.3)


@pytest.fixture
def english_from_1000(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words from the thousandth on are English, those before are Hindi."""

    def language(_self: FakeModel, window: Samples) -> str:
        numbers = [
            int(word.text.strip(" .").removeprefix("word"))
            for segment in heard(window)
            for word in segment.attended
            if word.text.startswith(" word")
        ]
        return "en" if numbers and numbers[0] >= 1000 else "hi"

    monkeypatch.setattr(FakeModel, "_language", language)


def together(*parts: Said) -> Said:
    """One after the other."""
    samples = np.concatenate([part.samples for part in parts])
    words: list[Any] = []
    at_s = 0.0
    for part in parts:
        words += (
            type(word)(word.number, word.start_s + at_s, word.end_s + at_s) for word in part.words
        )
        at_s += part.duration_s
    return Said(samples, tuple(words))


MIXED = together(
    said(3.0, -1.0), said(3.0, -1.0, first=1001, seed=5), said(4.0, -1.0, first=11, seed=9)
)


def languages(replies: Replies) -> list[str]:
    """Those of the utterances."""
    return [one.language for one in of(replies, "utterance")]


def detected(replies: Replies) -> list[str]:
    """The likeliest of each detection that is told."""
    return [one.languages[0].language for one in of(replies, "language_detected")]


@pytest.mark.usefixtures("english_from_1000")
async def test_each_utterance_is_in_the_likeliest_language() -> None:
    """Of those that may be spoken; each change is told before its text."""
    conf = config("", allowed_languages=["hi", "en"])
    async with serving() as service:
        replies = await service.live(messages(MIXED.data, conf, pace=15))
        asked = [batch.options.language for batch in service.engine.batches]
    check_whole(replies, MIXED)
    assert languages(replies) == ["hi", "en", "hi"]
    assert detected(replies) == ["hi", "en", "hi"]
    assert [language for language, _ in itertools.groupby(asked)] == ["hi", "en", "hi"]
    assert all(s.language == u.language for u in of(replies, "utterance") for s in u.segments)
    told = kinds(replies)
    assert told.index("language_detected") < told.index("committed")


@pytest.mark.usefixtures("english_from_1000")
async def test_a_language_that_is_not_named_is_detected_once() -> None:
    """By the first second and a half of speech; it holds for the rest."""
    async with serving() as service:
        replies = await service.live(messages(MIXED.data, config(""), pace=15))
    check_whole(replies, MIXED)
    assert detected(replies) == ["hi"]
    assert languages(replies) == ["hi"] * 3


@pytest.mark.usefixtures("english_from_1000")
async def test_a_word_alone_decides_no_language() -> None:
    """It is written in the one that it sounds like; the next utterance is listened to again."""
    spoken = together(
        said(0.8, -1.0, first=1001), said(4.0, -1.0, seed=2), said(0.8, -1.0, first=2001)
    )
    async with serving() as service:
        replies = await service.live(messages(spoken.data, config(""), pace=15))
    assert committed(replies) == spoken.texts
    assert detected(replies) == ["en", "hi"]
    assert languages(replies) == ["en", "hi", "hi"]


async def test_a_named_language_is_not_listened_to() -> None:
    """Nor told; a region is that of its language."""
    async with serving() as service:
        replies = await service.live(messages(MIXED.data, config("en-GB")))
        assert {batch.options.language for batch in service.engine.batches} == {"en"}
    check_whole(replies, MIXED)
    assert not detected(replies)
    assert languages(replies) == ["en"] * 3


async def test_one_allowed_language_is_as_good_as_named() -> None:
    """Nothing is detected."""
    async with serving() as service:
        replies = await service.live(messages(MIXED.data, config("", allowed_languages=["en"])))
    assert languages(replies) == ["en"] * 3
    assert not detected(replies)


async def test_an_engine_that_detects_no_language_must_be_told() -> None:
    """The field is named."""
    features = frozenset(Feature) - {Feature.LANGUAGE_DETECTION}
    async with serving(FakeEngine(segments=heard, features=features)) as service:
        error, _ = await service.fails(messages(MIXED.data, config("")))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        check_whole(await service.live(messages(MIXED.data, config("hi"))), MIXED)


@pytest.mark.usefixtures("english_from_1000")
async def test_languages_are_refined_too() -> None:
    """Each utterance in its own."""
    conf = config("", allowed_languages=["hi", "en"], refine=True)
    async with serving() as service:
        replies = await service.live(messages(MIXED.data, conf, pace=15))
    assert languages(replies) == ["hi", "en", "hi"]
    assert all(one.refined for one in of(replies, "utterance"))
    check_utterances(replies)


async def test_silence_before_an_utterance_is_not_decoded() -> None:
    """A minute of it costs nothing."""
    spoken = said(-60.0, 2.0, -1.0)
    async with serving() as service:
        conf = config(update_interval=Duration(seconds=1))
        replies = await service.live(messages(spoken.data, conf))
        lengths = [n for b in service.engine.batches for n in b.n_samples]
    check_whole(replies, spoken)
    assert max(lengths) < 3.2 * SAMPLE_RATE
