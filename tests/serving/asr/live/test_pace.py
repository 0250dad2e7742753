"""How often text is renewed, and who is admitted."""

import contextlib

import pytest

from voxroute_serving.asr.live.pace import Pace
from voxroute_serving.device.batcher import BatchRecord
from voxroute_serving.errors import QueueFullError


def measured(pace: Pace, window_s: float, size: int = 1) -> None:
    """A batch in which each window took so long."""
    pace.observe(BatchRecord(size, 0.0, window_s * size))


def test_the_interval_grows_with_the_streams_that_speak() -> None:
    """It is what was asked for as long as the device has the time, then what the device needs."""
    pace = Pace(64)
    assert pace.interval_s(1.0) == 1.0
    measured(pace, 0.1, size=4)
    with contextlib.ExitStack() as speaking:
        intervals: list[float] = []
        for _ in range(32):
            speaking.enter_context(pace.speaking())
            intervals.append(pace.interval_s(1.0))
        assert intervals[:8] == [1.0] * 8
        assert intervals[15] == pytest.approx(1.25 * 16 * 0.1)
        assert intervals[31] == pytest.approx(1.25 * 32 * 0.1)
        assert intervals == sorted(intervals)
        assert pace.interval_s(10.0) == 10.0
    assert pace.interval_s(1.0) == 1.0


def test_a_stream_that_is_silent_takes_no_time() -> None:
    """Only those who speak count for the interval."""
    pace = Pace(64)
    measured(pace, 0.5)
    with pace.stream(), pace.stream():
        assert pace.interval_s(1.0) == 1.0
        with pace.speaking(), pace.speaking():
            assert pace.interval_s(1.0) == 1.25


def test_the_time_of_a_window_is_that_of_the_last_batches() -> None:
    """The first is taken as it is, one slow batch does not decide, and many do."""
    pace = Pace(64)
    assert pace.window_s is None
    measured(pace, 0.1)
    assert pace.window_s == pytest.approx(0.1)
    measured(pace, 1.1)
    assert pace.window_s == pytest.approx(0.3)
    for _ in range(40):
        measured(pace, 1.1)
    assert pace.window_s == pytest.approx(1.1, abs=0.01)


def test_a_place_too_many_is_refused() -> None:
    """By their number."""
    pace = Pace(2)
    with pace.stream(), pace.stream():
        with pytest.raises(QueueFullError, match="all 2 places") as caught, pace.stream():
            pass
        assert caught.value.retry_after_s == 5.0
        assert pace.streams == 2
    assert pace.streams == 0


def test_a_stream_that_the_device_could_not_follow_is_refused() -> None:
    """By the seconds that it takes; the first is always admitted."""
    pace = Pace(64)
    measured(pace, 1.0)
    with pace.stream(), pace.stream():
        with pytest.raises(QueueFullError, match=r"2 live streams .* every 3\.8 s"), pace.stream():
            pass
        assert pace.streams == 2
    measured(pace, 50.0)
    with pace.stream():
        assert pace.streams == 1


def test_a_place_is_free_after_an_error() -> None:
    """Both kinds of places."""
    pace = Pace(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="oh"), pace.stream(), pace.speaking():
            raise ValueError("oh")
    assert pace.streams == 0
    measured(pace, 9.0)
    assert pace.interval_s(1.0) == 1.0
