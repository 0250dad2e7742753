"""TranscribeLive over a real server: every word once, in order, in its utterance, in its time."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.serving.asr.live.streams import (
    CHUNK_BYTES,
    DROP,
    END,
    FINISH,
    Request,
    Said,
    check_order,
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
from voxroute.asr.v1 import asr_pb2
from voxroute_serving.testing.fake_engine import FakeEngine
from voxroute_serving.testing.marked_speech import heard
from voxroute_serving.testing.served import until

TALK = said(4.0, -1.0, 2.5, -1.5, 6.0, -0.3, 3.0, -1.0)
FOREVER = said(70.0, -1.0)


async def test_every_word_is_told_once_in_its_time() -> None:
    """Accepted first, done last; several pauses; the offset of the stream is added."""
    async with serving() as service:
        replies = await service.live(messages(TALK.data, config(audio=pcm(start_s=100)), pace=15))
    check_whole(replies, TALK, start_s=100.0)
    assert [one.reason for one in of(replies, "utterance")] == [asr_pb2.END_REASON_SILENCE] * 3
    assert [one.utterance for one in of(replies, "speech_started")] == [1, 2, 3]
    starts = [seconds(one.at) - 100 for one in of(replies, "speech_started")]
    assert starts == pytest.approx([0.0, 4.7, 8.7], abs=0.25)
    stops = [seconds(one.at) - 100 for one in of(replies, "speech_stopped")]
    assert stops == pytest.approx([4.0, 7.5, 18.3], abs=0.35)
    assert not of(replies, "tentative")
    assert not of(replies, "warning")
    (done,) = of(replies, "done")
    assert seconds(done.stats.audio_duration) == pytest.approx(TALK.duration_s)
    assert seconds(done.stats.speech_duration) == pytest.approx(15.5, abs=1.0)
    assert done.updates >= 10
    assert done.stats.windows == done.updates
    assert not any(one.untranscribed for one in of(replies, "utterance"))
    # text comes while it is spoken
    told = kinds(replies)
    assert told.index("committed") < told.index("speech_stopped")


async def test_long_speech_without_pauses_is_whole() -> None:
    """Cut at its longest, where it is least likely a word; nothing is lost between two."""
    async with serving() as service:
        replies = await service.live(messages(FOREVER.data, pace=25))
    check_whole(replies, FOREVER)
    utterances = of(replies, "utterance")
    reasons = [one.reason for one in utterances]
    assert reasons[:2] == [asr_pb2.END_REASON_LENGTH] * 2
    assert all(seconds(one.end) - seconds(one.start) <= 28.1 for one in utterances)
    for one, other in pairwise(utterances):
        assert one.end == other.start


@pytest.mark.parametrize("limit_s", [8, 12])  # each second half has a breath
async def test_the_longest_utterance_is_the_clients_choice(limit_s: int) -> None:
    """As fast as may be, so that cuts and decodings cross."""
    spoken = said(31.0, -1.0, seed=limit_s)
    endpoint = asr_pb2.EndpointOptions(max_utterance=Duration(seconds=limit_s))
    async with serving() as service:
        replies = await service.live(messages(spoken.data, config(endpoint=endpoint)))
    check_whole(replies, spoken)
    lengths = [seconds(one.end) - seconds(one.start) for one in of(replies, "utterance")]
    assert max(lengths) <= limit_s + 0.1
    assert len(lengths) >= 31 / limit_s


async def test_tentative_text_goes_before_committed_text() -> None:
    """Only where it is asked for; all that is committed is behind what was before, and stays."""
    async with serving() as service:
        replies = await service.live(messages(TALK.data, config(tentative=True), pace=20))
    check_whole(replies, TALK)
    tentative = of(replies, "tentative")
    assert len(tentative) > 5
    for one in tentative:
        assert " ".join(word.text for word in one.words) == one.text.strip()
    assert "word1" in tentative[0].text
    for one, other in pairwise(tentative):
        assert one.text != other.text or one.utterance != other.utterance


async def test_the_client_ends_utterances() -> None:
    """Each time one is answered, an empty one where nobody has spoken; a pause ends none."""
    spoken = said(2.0, -1.5, 2.0, -0.5, 1.5)
    endpoint = asr_pb2.EndpointOptions(manual=True)
    at = {2: [END], 30: [END], 31: [END, END]}  # before, amid 200 ms steps: 6.0 s
    async with serving() as service:
        stream = messages(spoken.data, config(endpoint=endpoint), pace=20, between=at)
        replies = await service.live(stream)
    check_whole_but_cut(replies, spoken)
    utterances = of(replies, "utterance")
    client, finish = asr_pb2.END_REASON_CLIENT, asr_pb2.END_REASON_FINISH
    assert [one.reason for one in utterances] == [client, client, client, client, finish]
    assert seconds(utterances[1].end) == pytest.approx(6.0, abs=0.01)
    assert not utterances[3].segments
    assert utterances[3].start == utterances[3].end


def check_whole_but_cut(replies: list[asr_pb2.TranscribeLiveResponse], spoken: Said) -> None:
    """Every word that no end cuts in two is told once and in order."""
    ends = [seconds(one.end) for one in of(replies, "utterance")]
    whole = [
        word.text
        for word in spoken.words
        if not any(word.start_s < end_s < word.end_s for end_s in ends)
    ]
    found = [text for text in committed(replies) if text.startswith("word")]
    assert [text for text in found if text in whole] == whole
    assert len(found) == len(set(found))
    check_utterances(replies)


async def test_what_the_client_drops_is_not_told() -> None:
    """The utterance is closed with what of it was committed; the next begins anew."""
    spoken = said(6.0, -1.0, 2.0, -1.0)
    async with serving() as service:
        stream = messages(spoken.data, pace=10, between={25: [DROP, DROP]})
        replies = await service.live(stream)
    first, *rest = of(replies, "utterance")
    assert first.reason == asr_pb2.END_REASON_DROPPED
    assert seconds(first.end) == pytest.approx(5.0, abs=0.01)
    assert not first.untranscribed
    assert not any(one.reason == asr_pb2.END_REASON_DROPPED for one in rest)
    before = [w.text for w in spoken.words if w.end_s < 5.0]
    after = [w.text for w in spoken.words if w.start_s > 5.3]
    texts = committed(replies)
    n_before = len([text for text in texts if text in before])
    assert texts[:n_before] == before[:n_before]
    assert 0 < n_before < len(before)
    assert [text for text in texts if text in after] == after
    check_utterances(replies)


async def test_dropping_where_nobody_speaks_tells_nothing() -> None:
    """No utterance answers it."""
    spoken = said(-2.0, 2.0, -1.0)
    async with serving() as service:
        replies = await service.live(messages(spoken.data, between={0: [DROP], 5: [DROP]}))
    check_whole(replies, spoken)
    assert len(of(replies, "utterance")) == 1


async def test_a_stream_may_end_in_a_word() -> None:
    """What was heard of it is told; the words before are whole."""
    spoken = said(4.0)
    end_s = spoken.words[7].start_s + 0.1
    async with serving() as service:
        replies = await service.live(messages(spoken.data[: 2 * round(end_s * 16_000)], pace=20))
    assert kinds(replies)[-1] == "done"
    texts = committed(replies)
    assert texts[:7] == spoken.texts[:7]
    assert len(texts) <= 8
    (utterance,) = of(replies, "utterance")
    assert utterance.reason == asr_pb2.END_REASON_FINISH
    assert seconds(utterance.end) == pytest.approx(end_s, abs=0.001)
    check_utterances(replies)


async def test_a_stream_of_nothing_is_no_error() -> None:
    """Without a sample, and without a voice."""
    async with serving() as service:
        for data in (b"", bytes(64_000)):
            replies = await service.live(messages(data))
            assert kinds(replies) == ["accepted", "done"]
            (done,) = of(replies, "done")
            assert not done.utterances
            assert seconds(done.stats.audio_duration) == len(data) / 32_000


async def test_chunks_may_be_cut_anywhere() -> None:
    """Amid a sample too, and empty ones."""
    rng = random.Random(3)  # noqa: S311 - no secret

    def cut() -> Iterator[Request]:
        yield Request(config=config())
        at = 0
        while at < len(TALK.data):
            n = rng.choice([0, 1, 3, 333, 640, 2001, 6401, 40_001])
            yield Request(audio=TALK.data[at : at + n])
            at += n
        yield FINISH

    async with serving() as service:
        replies = await service.live(cut())
    check_whole(replies, TALK)


async def test_a_minute_may_come_in_one_message() -> None:
    """It is read as fast as the device is."""
    spoken = said(20.0, -1.0, 15.0, -2.0, 21.0, -1.0)
    async with serving() as service:
        replies = await service.live(messages(spoken.data, size=len(spoken.data)))
    check_whole(replies, spoken)
    assert len(of(replies, "utterance")) == 3


async def test_without_updates_text_comes_at_the_ends_of_utterances() -> None:
    """One decoding each, none for a short pause."""
    conf = config(tentative=True, update_interval=Duration())
    async with serving() as service:
        replies = await service.live(messages(TALK.data, conf, pace=20))
        n_windows = sum(len(batch.n_samples) for batch in service.engine.batches)
    check_whole(replies, TALK)
    assert not of(replies, "tentative")
    assert n_windows == of(replies, "done")[0].updates == 3
    open_ones = set[int]()
    for reply in replies:
        match reply.WhichOneof("event"):
            case "speech_started":
                open_ones.add(reply.speech_started.utterance)
            case "speech_stopped":
                open_ones.remove(reply.speech_stopped.utterance)
            case "committed":
                assert reply.committed.utterance not in open_ones
            case _:
                pass


async def test_progress_tells_how_far_it_is() -> None:
    """About every second: what has come, and up to where it is told what was said."""
    spoken = said(3.0, -1.0, 3.0, -1.0)
    async with serving() as service:
        replies = await service.live(messages(spoken.data, config(audio=pcm(start_s=7)), pace=3))
    progress = of(replies, "progress")
    assert 2 <= len(progress) <= 5
    heard_s = [seconds(one.heard) for one in progress]
    settled_s = [seconds(one.settled) for one in progress]
    assert heard_s == sorted(heard_s)
    assert settled_s == sorted(settled_s)
    assert all(7 <= one <= other for one, other in zip(settled_s, heard_s, strict=True))
    assert all(one.stage == asr_pb2.STAGE_TRANSCRIBING for one in progress)
    assert all(seconds(one.update_interval) >= 1.0 for one in progress)


async def test_eight_streams_get_their_own_words() -> None:
    """They share batches of the device, and nothing else."""
    spoken = [said(5.0, -1.0, 3.0, -1.0, first=1 + 1000 * i, seed=i) for i in range(8)]
    async with serving() as service:
        streams = [service.live(messages(one.data, pace=4)) for one in spoken]
        for replies, one in zip(await asyncio.gather(*streams), spoken, strict=True):
            check_whole(replies, one)
        assert any(len(batch.n_samples) > 1 for batch in service.engine.batches)


async def test_a_slow_device_makes_the_sender_wait() -> None:
    """No more sound waits in memory than a little, and nothing is lost."""
    spoken = said(*[3.0, -1.0] * 40)
    asked = messages(spoken.data, config(update_interval=Duration()))
    async with serving() as service:
        service.engine.released = threading.Event()
        stream = asyncio.ensure_future(service.live(asked))
        assert await until(lambda: service.heard_s > 45)
        await asyncio.sleep(1.0)
        # the rest waits in the buffers of gRPC, and then at the client
        assert service.heard_s < 46
        service.engine.released.set()
        check_whole(await stream, spoken)


async def test_a_slow_device_keeps_up_by_fewer_updates() -> None:
    """Long for each decoding: text comes more seldom, and all of it."""
    spoken = said(9.0, -1.0, 3.0, -1.0)
    async with serving(FakeEngine(segments=heard, delay_s=0.3)) as service:
        begun = time.monotonic()
        replies = await service.live(messages(spoken.data, pace=7))
        assert time.monotonic() - begun < 5
    check_whole(replies, spoken)
    assert of(replies, "done")[0].updates <= 12


@pytest.mark.parametrize(("delay_s", "beams"), [(0.0, [5]), (0.3, [5, 1])])
async def test_a_slow_device_keeps_up_without_beams(delay_s: float, beams: list[int]) -> None:
    """Where it renews a text as often as was asked for, it looks for the likeliest one."""
    asked = config(
        decoding=asr_pb2.DecodingOptions(beam_size=5), update_interval=Duration(nanos=250_000_000)
    )
    async with serving(FakeEngine(segments=heard, delay_s=delay_s)) as service:
        await service.live(messages(said(4.0, -1.0).data, asked, pace=2))
        found = [batch.options.beam_size for batch in service.engine.batches]
    assert list(dict.fromkeys(found)) == beams
    assert found[1:] == [beams[-1]] * (len(found) - 1)


async def test_an_utterance_is_refined() -> None:
    """As a recording would be written down; utterances are told in their order."""
    async with serving() as service:
        replies = await service.live(messages(TALK.data, config(refine=True), pace=20))
        assert service.engine.batches[-1].options.temperatures == (0.0,)
        recording = asr_pb2.TranscribeConfig(language="hi", audio=pcm())
        answers = await service.transcribed(recording, TALK.data)
    whole = [answer.segment for answer in answers if answer.HasField("segment")]
    check_whole(replies, TALK)
    utterances = of(replies, "utterance")
    assert [one.refined for one in utterances] == [True] * 3
    found = [segment for one in utterances for segment in one.segments]
    assert [one.text for one in found] == [one.text for one in whole]
    for one, other in zip(found, whole, strict=True):
        assert seconds(one.start) == pytest.approx(seconds(other.start), abs=0.1)
        assert seconds(one.end) == pytest.approx(seconds(other.end), abs=0.1)
    texts = [" ".join(segment.text for segment in one.segments) for one in utterances]
    assert " ".join(texts).split() == TALK.texts


async def test_more_to_refine_than_the_device_can_is_told() -> None:
    """What is left out has its committed text; the order holds."""
    spoken = said(*[1.5, -0.8] * 9)
    async with serving(FakeEngine(segments=heard, delay_s=0.1, max_batch=1)) as service:
        replies = await service.live(messages(spoken.data, config(refine=True)))
    assert committed(replies) == spoken.texts
    check_utterances(replies)
    check_order(replies)
    refined = [one.refined for one in of(replies, "utterance")]
    told = [one.code for one in of(replies, "warning")]
    assert told == ([] if all(refined) else ["REFINE_BEHIND"])


async def test_amid_a_word_of_200_ms_steps_nothing_is_lost() -> None:
    """Streams that begin and end at odd places, one after the other at one service."""
    async with serving() as service:
        for seed in range(6):
            spoken = said(2.0 + 0.37 * seed, -0.65 - 0.1 * seed, 3.0, -0.9, seed=100 + seed)
            replies = await service.live(messages(spoken.data, size=CHUNK_BYTES // 10))
            check_whole(replies, spoken)
