"""Doubtful text, mixed languages and calls that go on: every engine behind a real server."""

# pyright: basic

import contextlib
import importlib.util
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import jiwer
import numpy as np
import pysubs2
import pytest

from tests.engines.test_conformance import ENGINES, EXAMPLES, HINDI, never, plain
from tests.serving.recordings import chunks, s16le, silence
from voxroute.asr.v1 import asr_pb2, asr_pb2_grpc
from voxroute.common.v1 import common_pb2
from voxroute_serving.asr.engine import AsrEngine
from voxroute_serving.audio.samples import SAMPLE_RATE, Samples
from voxroute_serving.testing.served import serving_engine

N_HINDI_CUES = 2  # of the Hindi example
MARGIN_S = 0.3  # s kept after the last of them
BREAK_S = 4.0  # s of silence; a window ends before it
REPETITION = asr_pb2.SEGMENT_FLAG_REPETITION

Replies = list[asr_pb2.TranscribeResponse]


# MLX's CPU encoder takes some ten times as long as CTranslate2's for the same windows
@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow if name == "mlx" else ()) for name in ENGINES
    ],
)
def engine(request: pytest.FixtureRequest, bundled_asr: Path, cache: Path) -> AsrEngine:
    """An engine on the bundled model."""
    package, make = ENGINES[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return make(model=str(bundled_asr), model_cache_dir=cache, offline=True)


def samples_of(media: str) -> Samples:
    """An example's samples."""
    from faster_whisper import decode_audio  # noqa: PLC0415 - takes seconds

    return np.asarray(decode_audio(str(EXAMPLES / media), sampling_rate=SAMPLE_RATE))


@pytest.fixture(scope="module")
def hindi() -> Samples:
    """The first sentences of the Hindi example."""
    last = pysubs2.load(str(EXAMPLES / "lost-key.hi.srt"))[N_HINDI_CUES - 1]
    return samples_of("lost-key.mp4")[: int((last.end / 1000 + MARGIN_S) * SAMPLE_RATE)]


@pytest.fixture(scope="module")
def noisy(hindi: Samples) -> Samples:
    """The same under noise, so that a sample drawn at a high temperature is not the likeliest."""
    noise = np.random.default_rng(1).standard_normal(len(hindi)) * 0.12
    return (hindi + noise).astype(np.float32)


@pytest.fixture(scope="module")
def mixed(hindi: Samples) -> Samples:
    """Hindi, English, Hindi again, each a window of its own."""
    pause = silence(BREAK_S)
    return np.concatenate([hindi, pause, samples_of("evening.wav"), pause, hindi])


def reference(subtitles: str, n_cues: int | None = None) -> str:
    """The words of an example's first cues."""
    cues = list(pysubs2.load(str(EXAMPLES / subtitles)))
    return plain(" ".join(cue.plaintext for cue in cues[:n_cues]))


@contextlib.asynccontextmanager
async def serving(engine: AsrEngine) -> AsyncIterator[Callable[..., Any]]:
    """What a service of the engine on a free port answers to a recording and a config."""
    async with (
        serving_engine(engine) as served,
        grpc.aio.insecure_channel(served.address) as channel,
    ):
        stub: Any = asr_pb2_grpc.AsrServiceStub(channel)  # type: ignore[arg-type] - aio's

        async def transcribe(samples: Samples, **fields: Any) -> Replies:
            call = stub.Transcribe(requests(samples, **fields), timeout=600)
            return [reply async for reply in call]

        yield transcribe


def requests(samples: Samples, **fields: Any) -> Iterator[asr_pb2.TranscribeRequest]:
    """A whole recording as a client sends it."""
    pcm = asr_pb2.AudioFormat(pcm=asr_pb2.PcmFormat(sample_rate_hz=SAMPLE_RATE))
    yield asr_pb2.TranscribeRequest(config=asr_pb2.TranscribeConfig(audio=pcm, **fields))
    for chunk in chunks(s16le(samples), 256_000):
        yield asr_pb2.TranscribeRequest(audio=chunk)
    yield asr_pb2.TranscribeRequest(finish=common_pb2.Finish())


def segments(replies: Replies) -> list[asr_pb2.Segment]:
    """The segments among the answers, without their ids, which count anew in each call."""
    found = [asr_pb2.Segment.FromString(r.segment.SerializeToString()) for r in replies
             if r.HasField("segment")]  # fmt: skip
    for segment in found:
        segment.ClearField("id")
    return found


def rounded(segment: asr_pb2.Segment) -> asr_pb2.Segment:
    """With its figures to five decimals: companions in a batch change the order of sums."""
    copy = asr_pb2.Segment()
    copy.CopyFrom(segment)
    copy.avg_log_prob = round(segment.avg_log_prob, 5)
    copy.no_speech_prob = round(segment.no_speech_prob, 5)
    return copy


async def test_each_window_is_written_in_its_own_language_and_a_call_goes_on_in_it(
    engine: AsrEngine, mixed: Samples
) -> None:
    """Right languages and words; after any window, a later call sends the very same segments."""
    async with serving(engine) as transcribe:
        replies = await transcribe(mixed, allowed_languages=["hi", "en"])
        whole = segments(replies)
        reached = [
            reply.progress.resume_from
            for reply in replies
            if reply.HasField("progress") and reply.progress.HasField("resume_from")
        ]
        for after in reached:
            rest = segments(
                await transcribe(mixed, allowed_languages=["hi", "en"], resume_from=after)
            )
            begin_us = after.ToMicroseconds()
            later = [s for s in whole if s.start.ToMicroseconds() >= begin_us]
            assert [*map(rounded, rest)] == [*map(rounded, later)]
    assert len(reached) == 3
    spoken = "".join(segment.language[0] for segment in whole)
    assert re.fullmatch("h+e+h+", spoken)
    texts = {
        language: plain(" ".join(s.text for s in whole if s.language == language))
        for language in ("hi", "en")
    }
    assert jiwer.wer(reference("evening.en.srt"), texts["en"]) <= 0.1
    once = reference("lost-key.hi.srt", N_HINDI_CUES)
    assert jiwer.wer(f"{once} {once}", texts["hi"]) <= 0.1


async def test_what_is_said_over_and_over_is_sent_and_flagged(
    engine: AsrEngine, hindi: Samples
) -> None:
    """It is no loop of the model's: decoded again at every temperature, and its text stays."""
    cue = pysubs2.load(str(EXAMPLES / "lost-key.hi.srt"))[0]
    sentence = hindi[cue.start * SAMPLE_RATE // 1000 : (cue.end + 150) * SAMPLE_RATE // 1000]
    async with serving(engine) as transcribe:
        found = segments(await transcribe(np.tile(sentence, 5), language="hi"))
    words = plain(" ".join(segment.text for segment in found))
    assert words.count(plain(cue.plaintext)) >= 3
    assert any(REPETITION in segment.flags for segment in found)


async def test_neither_silence_nor_music_becomes_text_without_a_doubt(engine: AsrEngine) -> None:
    """With voice activity nothing; without it, at most text that carries a flag."""
    t = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    chords = [sum(np.sin(2 * np.pi * hz * step * t) for hz in (220, 277, 330)) for step in (1, 1.5)]
    music = np.concatenate(chords).astype(np.float32) * 0.1
    async with serving(engine) as transcribe:
        for sound in (silence(8.0), music):
            assert segments(await transcribe(sound, language="hi")) == []
        everything = asr_pb2.VadOptions(disabled=True)
        assert segments(await transcribe(silence(8.0), language="hi", vad=everything)) == []


def test_a_prompt_and_hot_words_reach_the_decoder(engine: AsrEngine, noisy: Samples) -> None:
    """Each changes how likely the same words are, and together they are neither alone."""
    model = engine.load(engine.resolve(""), lambda _: None)

    def log_prob(**fields: Any) -> float:
        (result,) = model.transcribe([noisy], replace(HINDI, temperatures=(0.0,), **fields), never)
        return result.segments[0].avg_log_prob or 0.0

    prompt, words = "मीरा की चाबी खो गई।", ("चाबी", "मेज़")
    found = [
        log_prob(),
        log_prob(initial_prompt=prompt),
        log_prob(hotwords=words),
        log_prob(initial_prompt=prompt, hotwords=words),
    ]
    assert len(set(found)) == 4
    model.close()
