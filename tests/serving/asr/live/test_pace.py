"""How often text is renewed, and who is admitted."""

import contextlib
import time

import pytest

from voxroute_serving.asr.live.pace import Pace
from voxroute_serving.device.batcher import BatchRecord
from voxroute_serving.errors import QueueFullError

_now = 0.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still between batches."""
    monkeypatch.setattr(time, "monotonic", lambda: _now)


def measured(pace: Pace, batch_s: float, size: int = 1, overlap_s: float = 0.0) -> None:
    """A batch that took so long, which began so long before the last one's end."""
    global _now  # noqa: PLW0603 - the clock
    _now += batch_s - overlap_s
    pace.observe(BatchRecord(size, 0.0, batch_s))


def pace_of(max_streams: int = 64) -> Pace:
    """One whose batches have at most eight windows."""
    global _now  # noqa: PLW0603 - the clock
    _now += 100.0
    return Pace(max_streams, most_windows=8)


def intervals(pace: Pace, n_streams: int, wanted_s: float) -> list[float]:
    """The interval with 1, 2, ... streams in which somebody speaks."""
    found: list[float] = []
    with contextlib.ExitStack() as speaking:
        for _ in range(n_streams):
            speaking.enter_context(pace.speaking())
            found.append(pace.interval_s(wanted_s))
    return found


def test_the_interval_grows_with_the_streams_that_speak() -> None:
    """It is what was asked for as long as the device has the time, then what the device needs."""
    pace = pace_of()
    assert pace.interval_s(1.0) == 1.0
    for size in (4, 8) * 200:
        measured(pace, 0.2 + 0.05 * size, size)
    found = intervals(pace, 32, 1.0)
    assert found[:8] == [1.0] * 8
    assert found[15] == pytest.approx(1.25 * 2 * 0.6, rel=0.05)
    assert found[31] == pytest.approx(1.25 * 4 * 0.6, rel=0.05)
    assert found == sorted(found)
    assert pace.interval_s(10.0) == 10.0
    assert pace.interval_s(1.0) == 1.0


def test_small_batches_do_not_make_the_interval_longer() -> None:
    """Of batches of one window nobody knows what larger ones take: they are let come."""
    pace = pace_of()
    for _ in range(50):
        measured(pace, 0.2)
    assert intervals(pace, 8, 0.5)[-1] == 0.5
    assert intervals(pace, 32, 0.5)[-1] == pytest.approx(1.25 * 4 * 0.2)


def test_batches_side_by_side_take_their_time_once() -> None:
    """Two that ran at once took no longer than one."""
    pace = pace_of()
    for _ in range(100):
        measured(pace, 0.4)
        measured(pace, 0.4, overlap_s=0.4)
    assert pace.window_s == pytest.approx(0.2, rel=0.1)


def test_a_stream_that_is_silent_takes_no_time() -> None:
    """Only those who speak count for the interval."""
    pace = pace_of()
    measured(pace, 2.0)
    with pace.stream(), pace.stream():
        assert pace.interval_s(1.0) == 1.0
        assert intervals(pace, 1, 1.0) == [2.5]


def test_the_time_of_a_window_is_that_of_the_last_batches() -> None:
    """The first is taken as it is, one slow batch does not decide, and many do."""
    pace = pace_of()
    assert pace.window_s is None
    measured(pace, 0.1)
    assert pace.window_s == pytest.approx(0.1)
    measured(pace, 1.1)
    assert pace.window_s == pytest.approx(0.15)
    for _ in range(200):
        measured(pace, 1.1)
    assert pace.window_s == pytest.approx(1.1, abs=0.01)


def test_a_place_too_many_is_refused() -> None:
    """By their number."""
    pace = pace_of(2)
    with pace.stream(), pace.stream():
        with pytest.raises(QueueFullError, match="all 2 places") as caught, pace.stream():
            pass
        assert caught.value.retry_after_s == 5.0
        assert pace.streams == 2
    assert pace.streams == 0


def test_a_stream_that_the_device_could_not_follow_is_refused() -> None:
    """By the seconds that it takes; the first is always admitted."""
    pace = pace_of()
    for size in (1, 2) * 200:
        measured(pace, 1.0 * size, size)
    with pace.stream(), pace.stream():
        with (
            pytest.raises(QueueFullError, match=r"2 live streams .* every 3\.[78] s"),
            pace.stream(),
        ):
            pass
        assert pace.streams == 2
    measured(pace, 50.0)
    with pace.stream():
        assert pace.streams == 1


def test_a_place_is_free_after_an_error() -> None:
    """Both kinds of places."""
    pace = pace_of(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="oh"), pace.stream(), pace.speaking():
            raise ValueError("oh")
    assert pace.streams == 0
    measured(pace, 9.0)
    assert pace.interval_s(1.0) == 1.0
