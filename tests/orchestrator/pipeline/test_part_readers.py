"""A long recording is decoded by parts, and nothing that is heard of it, or told, is another."""

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.orchestrator.test_one_reader import differences
from tests.serving.beeps import KINDS, Beep, heard, recording
from voxroute_orchestrator.errors import MediaError
from voxroute_orchestrator.media import CHUNK_BYTES, PcmReader, probe
from voxroute_orchestrator.pipeline import part_readers, read_ahead
from voxroute_orchestrator.pipeline.read_ahead import EarlyReader
from voxroute_orchestrator.transcript import Note

if TYPE_CHECKING:
    import subprocess

PART_BYTES = 3 * CHUNK_BYTES
PART_S = PART_BYTES / 32_000
LENGTH_S = 65.0
OFF_S = 0.011  # a frame of what hears them
# one at each end of a part, and others between
BEEPS = sorted(
    [Beep(1.83 * n + 0.4, n) for n in range(33)]
    + [Beep(n * PART_S - 0.06, 32 + n) for n in (1, 2, 3)]
)


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 12 s, of recordings of half a minute and more; three processes on any host."""
    for module in (part_readers, read_ahead):
        monkeypatch.setattr(module, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(part_readers, "LEAST_S", 30.0)
    monkeypatch.setattr(part_readers, "usable_processors", lambda: 6)


def read(reader: PcmReader) -> tuple[list[Beep], int, list[Note]]:
    """The beeps, the number of samples, and what is told."""
    with contextlib.closing(reader):
        if isinstance(reader, EarlyReader):
            reader.check()
        sound = np.frombuffer(b"".join(iter(reader.read, b"")), "<i2")
    return heard(sound, reader.first_s), len(sound), reader.notes


def by_parts(path: Path, **wanted: float) -> tuple[list[Beep], int, list[Note], bool]:
    """The same by parts, and whether they were used to the end."""
    reader = EarlyReader(probe(path), **wanted)
    found = read(reader)
    return *found, reader._parts is not None


def write(path: Path, kind: str, **how: object) -> Path:
    """A recording of the beeps."""
    path.write_bytes(recording(KINDS[kind], LENGTH_S, BEEPS, **how))  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    "name",
    [
        "mp4",
        "mkv",
        # the same formats, as others write them
        pytest.param("mov", marks=pytest.mark.slow),
        pytest.param("webm", marks=pytest.mark.slow),
    ],
)
def test_parts_are_what_one_reader_hears(name: str, tmp_path: Path) -> None:
    """Every beep once and in its time, over the ends of parts too, and as many samples."""
    path = write(tmp_path / f"film{KINDS[name].suffix}", name, video=name in {"mp4", "mkv"})
    wanted, n_samples, notes = read(PcmReader(probe(path)))
    found, n_found, told, used = by_parts(path)
    assert used
    assert not differences(found, wanted, OFF_S)
    assert len(found) == len(BEEPS)
    assert abs(n_found - n_samples) <= 16  # a millisecond, which is what Matroska counts in
    assert told == notes == []


def test_a_part_of_a_recording_has_parts(tmp_path: Path) -> None:
    """From a start to an end, on the recording's own clock."""
    path = write(tmp_path / "film.mp4", "mp4")
    reader = PcmReader(probe(path), start_s=5.0, end_s=61.0)
    wanted, n_samples, _ = read(reader)
    found, n_found, told, used = by_parts(path, start_s=5.0, end_s=61.0)
    assert used
    assert not differences(found, wanted, OFF_S)
    assert (n_found, told) == (n_samples, [])


@pytest.mark.slow  # reads each recording twice, by processes
def test_what_only_a_whole_reading_knows_is_told_as_by_one(tmp_path: Path) -> None:
    """A hole, damage, a file that is cut off: the sound and the words are those of one reading."""
    whole = write(tmp_path / "whole.mkv", "mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 3 // 4])
    at = len(whole) * 2 // 3
    (tmp_path / "damaged.mkv").write_bytes(whole[:at] + bytes(4000) + whole[at + 4000 :])
    write(tmp_path / "hole.mkv", "mkv", holes=[(40.0, 43.0)])
    write(tmp_path / "early.mkv", "mkv", holes=[(5.0, 8.0)])
    for name in ("cut", "damaged", "hole", "early"):
        path = tmp_path / f"{name}.mkv"
        wanted, n_samples, notes = read(PcmReader(probe(path)))
        found, n_found, told, used = by_parts(path)
        assert not differences(found, wanted, OFF_S), name
        assert (name, n_found, told) == (name, n_samples, notes)
        assert notes
        assert not used


def test_processes_that_die_are_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, or on the way: the recording is read to its end."""
    path = write(tmp_path / "film.mov", "mov")
    wanted = read(PcmReader(probe(path)))
    start = part_readers._start

    def dying(*given: object) -> "subprocess.Popen[bytes]":
        process = start(*given)  # type: ignore[arg-type]
        process.kill()
        return process

    monkeypatch.setattr(part_readers, "_start", dying)
    *found, used = by_parts(path)
    assert tuple(found) == wanted
    assert not used


def test_a_close_ends_the_processes(tmp_path: Path) -> None:
    """While they are waited for, from another thread; nothing is read any more."""
    path = write(tmp_path / "film.mov", "mov")
    reader = EarlyReader(probe(path))
    reader.check()
    for _ in range(3):
        reader.read()
    assert reader._parts is not None
    processes = reader._parts._readers
    closing = threading.Timer(0.05, reader.close)
    closing.start()
    while reader.read():
        time.sleep(0.03)
    closing.join()
    assert len(processes) == 3
    assert all(process.returncode is not None for process in processes)
    assert reader.read() == b""


@pytest.mark.slow  # reads by several processes
def test_a_limit_holds_over_parts(tmp_path: Path) -> None:
    """More sound than may be taken is refused, wherever the end of what may be is."""
    path = write(tmp_path / "film.mp4", "mp4")
    with pytest.raises(MediaError, match="more than the 40 s"):
        by_parts(path, max_s=40.0)


@pytest.mark.slow  # reads by several processes
def test_short_recordings_and_those_that_cannot_be_opened_anywhere_have_none(
    tmp_path: Path,
) -> None:
    """They are read as ever."""
    for kind, wanted in (("mp3", False), ("ts-aac", False), ("flac", False), ("mov", True)):
        media = probe(write(tmp_path / f"film{KINDS[kind].suffix}", kind))
        assert part_readers.has_parts(media, 0.0, None) == wanted
        assert not part_readers.has_parts(media, 0.0, 25.0)
        assert not part_readers.has_parts(media, 40.0, None)
