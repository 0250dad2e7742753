"""How often text is renewed, and who is admitted."""

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


def measured(
    pace: Pace, batch_s: float, size: int = 1, *, waited_s: float = 0.0, overlap_s: float = 0.0
) -> None:
    """A batch that took so long, which began so long before the last one's end."""
    global _now  # noqa: PLW0603 - the clock
    _now += batch_s - overlap_s
    pace.observe(BatchRecord(size, waited_s, batch_s))


def passed(seconds: float) -> None:
    """Time in which nobody speaks."""
    global _now  # noqa: PLW0603 - the clock
    _now += seconds


def pace_of(max_streams: int = 64) -> Pace:
    """One that has measured nothing."""
    passed(100.0)
    return Pace(max_streams)


def test_the_interval_is_what_was_asked_for_or_what_the_device_can() -> None:
    """An update takes its wait and its batch; there is room for a late one."""
    pace = pace_of()
    assert pace.interval_s(1.0) == 1.0
    measured(pace, 0.2)
    assert pace.interval_s(0.5) == 0.5
    for _ in range(100):
        measured(pace, 0.8, 32, waited_s=0.4)
    assert pace.interval_s(0.5) == pytest.approx(1.25 * 1.2, rel=0.01)
    assert pace.interval_s(10.0) == 10.0


def test_beams_go_before_the_interval_grows_and_come_back_where_there_is_room() -> None:
    """They cost 1.6 times as much; a stream that asks for updates more rarely keeps them."""
    pace = pace_of()
    assert pace.has_beams(0.1)
    for _ in range(100):
        measured(pace, 0.9)
    assert pace.has_beams(1.2)
    assert not pace.has_beams(1.0)
    assert pace.has_beams(2.0)
    assert not pace.has_beams(1.0)
    for _ in range(100):
        measured(pace, 0.6)  # without them: 0.75 s are needed, 1.2 would be with them
    assert not pace.has_beams(1.0)
    for _ in range(100):
        measured(pace, 0.4)
    assert pace.has_beams(1.0)


def test_what_was_measured_long_ago_tells_nothing() -> None:
    """Nobody has spoken since; the next batch counts alone."""
    pace = pace_of()
    measured(pace, 2.4)
    assert pace.interval_s(1.0) == 3.0
    passed(11.0)
    assert pace.interval_s(1.0) == 1.0
    measured(pace, 0.4)
    assert pace.interval_s(0.2) == pytest.approx(0.5)


def test_batches_side_by_side_take_their_time_once() -> None:
    """Two that ran at once took no longer than one."""
    pace = pace_of()
    for _ in range(100):
        measured(pace, 0.4)
        measured(pace, 0.4, overlap_s=0.4)
    assert pace.window_s == pytest.approx(0.2, rel=0.1)


def test_the_time_of_a_window_is_that_of_the_last_batches() -> None:
    """The first is taken as it is, one slow batch does not decide, and many do."""
    pace = pace_of()
    assert pace.window_s is None
    measured(pace, 0.1)
    assert pace.window_s == pytest.approx(0.1)
    measured(pace, 1.1)
    assert pace.window_s == pytest.approx(0.2)
    for _ in range(100):
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
    measured(pace, 1.0)
    with pace.stream(), pace.stream():
        for _ in range(100):
            measured(pace, 1.0, waited_s=1.0)
        with (
            pytest.raises(QueueFullError, match=r"2 live streams .* every 3\.7 s"),
            pace.stream(),
        ):
            pass
        assert pace.streams == 2
    measured(pace, 50.0)
    with pace.stream():
        assert pace.streams == 1


def test_a_place_is_free_after_an_error() -> None:
    """Whatever it was."""
    pace = pace_of(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="oh"), pace.stream():
            raise ValueError("oh")
    assert pace.streams == 0
