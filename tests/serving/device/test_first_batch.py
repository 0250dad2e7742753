"""The windows of a recording that begins are decoded together."""

import pytest

from tests.serving.asr.test_asr import config, messages, segments, serving, warnings
from tests.serving.recordings import s16le, tone
from voxroute_serving.messages import duration

pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine '_MessageReceiver._async_message_receiver' was never awaited:RuntimeWarning"
)


async def test_the_windows_of_a_recording_share_their_first_batch() -> None:
    """Where its length is told; what may be spoken just now is decoded as it comes."""
    data = s16le(tone(70.0))
    async with serving() as service:
        expected = config(expected_duration=duration(70.0))
        replies = await service.transcribe(messages(data, expected))
        together = [len(batch.n_samples) for batch in service.engine.batches]
    assert together == [3]
    assert len(segments(replies)) == 3


async def test_a_recording_of_one_window_waits_for_no_other() -> None:
    """It has ended."""
    async with serving() as service:
        expected = config(expected_duration=duration(4.0))
        replies = await service.transcribe(messages(s16le(tone(4.0)), expected))
        assert [len(batch.n_samples) for batch in service.engine.batches] == [1]
    assert len(segments(replies)) == 1
    assert not warnings(replies)
